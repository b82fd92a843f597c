//! `tandem bench idle`: what a leaf with three homes costs while nothing happens.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use tandem_api::Status;
use tandem_node::platform::signals;

use super::Bench;
use super::figures::{Report, Row, Target};
use super::namespace::{Namespace, Traffic, server};
use crate::demo::{Node, free_api_port, spawn};

const SUPERNODES: u8 = 5;
const HOMES: usize = 3;
const PORT: u16 = 4001;
/// Where measuring begins: starting up is no part of waiting.
const SETTLED: Duration = Duration::from_secs(300);
const MEMORY_MB: f64 = 25.0;
const BYTES_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Args)]
pub(super) struct IdleBench {
    /// How long the leaf waits; the first 5 minutes (or a third, if that is less) are not counted
    #[arg(long, default_value_t = 15, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// Two minutes, for trying out
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
}

pub(super) fn run(bench: &Bench, options: &IdleBench) -> Result<Report> {
    let length = Duration::from_secs(60 * u64::from(if options.quick { 2 } else { options.minutes }));
    let world = World::start(bench)?;
    bench.say(format!("the leaf is reachable after {} ms", world.leaf.ready_after.as_millis()));
    let watched = watch(bench, &world, length)?;
    let homes = world.leaf_status()?.reach.homes.len();
    Ok(report(&watched, homes))
}

/// Supernodes here, the leaf in a namespace.
#[derive(Debug)]
struct World {
    // Dropped in this order: the processes before the namespace.
    leaf: Node,
    _supernodes: Vec<Node>,
    namespace: Namespace,
    /// A copy of this program for the leaf alone: code shared with the supernodes would count only in part (PSS).
    own_binary: PathBuf,
}

impl World {
    fn start(bench: &Bench) -> Result<Self> {
        let namespace = Namespace::make(SUPERNODES)?;
        remove_on_signal(&namespace);
        let binary = std::env::current_exe().context("cannot find this program's own file")?;
        let mut supernodes: Vec<Node> = Vec::new();
        for n in 0..SUPERNODES {
            let name = format!("supernode-{}", n + 1);
            let mut command = up(Command::new(&binary), &name, bench)?;
            command.arg("--listen").arg(format!("{}:{PORT}", server(n)));
            command.args(["--volunteer", "directory,relay", "--accept-terms", "1"]);
            add_bootstrap(&mut command, supernodes.iter().take(1));
            supernodes.push(spawn(
                &name,
                &bench.folder(&name)?,
                &bench.folder.join(format!("{name}.log")),
                command,
            )?);
        }
        bench.say("the supernodes are up");
        let own_binary = bench.folder.join("tandem-leaf");
        std::fs::copy(&binary, &own_binary).with_context(|| format!("cannot copy {}", binary.display()))?;
        let mut command = up(namespace.command(&own_binary), "leaf", bench)?;
        add_bootstrap(&mut command, supernodes.iter().take(2));
        let leaf = spawn("leaf", &bench.folder("leaf")?, &bench.folder.join("leaf.log"), command)?;
        Ok(Self { leaf, _supernodes: supernodes, namespace, own_binary })
    }

    /// The leaf's own view, asked inside its namespace.
    fn leaf_status(&self) -> Result<Status> {
        let mut command = self.namespace.command(&self.own_binary);
        let output = command.args(["status", "--json", "--data"]).arg(&self.leaf.data).output()?;
        ensure!(output.status.success(), "the leaf does not say how it is; its log is in its folder");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Proportional set size of the leaf's process, in MB (10⁶ bytes).
    fn memory_mb(&self) -> Result<f64> {
        let path = format!("/proc/{}/smaps_rollup", self.leaf.pid());
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is it gone?"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        kib.map(|kib: f64| kib * 1024.0 / 1e6).context("no line Pss in smaps_rollup")
    }
}

fn up(mut command: Command, name: &str, bench: &Bench) -> Result<Command> {
    command.args(["up", "--json", "--data"]).arg(bench.folder(name)?);
    command.arg("--api").arg(format!("127.0.0.1:{}", free_api_port()?));
    Ok(command)
}

fn add_bootstrap<'a>(command: &mut Command, supernodes: impl Iterator<Item = &'a Node>) {
    for multiaddr in supernodes.flat_map(|node| &node.ready.listen) {
        command.arg("--bootstrap").arg(multiaddr);
    }
}

/// Ctrl-C must not leave a namespace behind. The processes get the same signal from the terminal.
fn remove_on_signal(namespace: &Namespace) {
    let (name, veth) = namespace.names();
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(signals::terminate()).is_ok() {
            Namespace::remove(&name, &veth);
            std::process::exit(130);
        }
    });
}

/// One minute of waiting.
#[derive(Debug, Clone, Copy)]
struct Minute {
    traffic: Traffic,
    seconds: f64,
    memory_mb: f64,
}

impl Minute {
    fn per_second(&self, bytes: u64) -> f64 {
        bytes as f64 / self.seconds
    }
}

fn watch(bench: &Bench, world: &World, length: Duration) -> Result<Vec<Minute>> {
    let settled = SETTLED.min(length / 3);
    let begun = Instant::now();
    bench.say(format!(
        "waiting for {} s, of which the first {} do not count",
        length.as_secs(),
        settled.as_secs()
    ));
    std::thread::sleep(settled);
    let homes = world.leaf_status()?.reach.homes.len();
    ensure!(homes >= HOMES, "the leaf has {homes} homes, not {HOMES}");
    let mut minutes = Vec::new();
    while begun.elapsed() < length {
        let (from, at) = (world.namespace.traffic()?, Instant::now());
        std::thread::sleep(Duration::from_secs(60).min(length.saturating_sub(begun.elapsed())));
        let minute = Minute {
            traffic: world.namespace.traffic()?.since(from),
            seconds: at.elapsed().as_secs_f64(),
            memory_mb: world.memory_mb()?,
        };
        bench.say(format!(
            "    {:4.1} min: {:5.1} B/s sent, {:5.1} B/s received, {:4.2} packets/s, {:.1} MB",
            begun.elapsed().as_secs_f64() / 60.0,
            minute.per_second(minute.traffic.sent_bytes),
            minute.per_second(minute.traffic.received_bytes),
            minute.per_second(minute.traffic.packets),
            minute.memory_mb
        ));
        minutes.push(minute);
    }
    Ok(minutes)
}

fn report(minutes: &[Minute], homes: usize) -> Report {
    let mut report = Report::default();
    let each = |value: &dyn Fn(&Minute) -> f64| minutes.iter().map(value).collect::<Vec<f64>>();
    let sent = |minute: &Minute| minute.traffic.sent_bytes;
    let received = |minute: &Minute| minute.traffic.received_bytes;
    let seconds: f64 = minutes.iter().map(|minute| minute.seconds).sum();
    let bytes: u64 = minutes.iter().map(|minute| sent(minute) + received(minute)).sum();
    let case = "leaf, three homes";
    report.rows = vec![
        Row::new(case, "memory (PSS), MB", each(&|minute| minute.memory_mb))
            .target(Target::AllAtMost(MEMORY_MB)),
        Row::new(case, "both ways, whole time, B/s", vec![bytes as f64 / seconds.max(1.0)])
            .target(Target::AllAtMost(BYTES_PER_SECOND)),
        Row::new(case, "sent, each minute, B/s", each(&|minute| minute.per_second(sent(minute)))),
        Row::new(case, "received, each minute, B/s", each(&|minute| minute.per_second(received(minute)))),
        Row::new(
            case,
            "packets, each minute, 1/s",
            each(&|minute| minute.per_second(minute.traffic.packets)),
        ),
        Row::new(case, "homes at the end", vec![homes as f64]).target(Target::AllAtLeast(HOMES as f64)),
    ];
    report.notes.push(format!(
        "Counted over {seconds:.0} s at the leaf's only interface, with IP headers and without Ethernet's."
    ));
    report.runs = minutes
        .iter()
        .map(|minute| {
            json!({
                "seconds": minute.seconds, "sent_bytes": sent(minute), "received_bytes": received(minute),
                "packets": minute.traffic.packets, "memory_mb": minute.memory_mb,
            })
        })
        .collect();
    report
}
