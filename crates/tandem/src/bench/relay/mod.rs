//! `tandem bench relay`: what the relay costs for each packet, beside a bare forwarder and other people's relays
//! (docs/RELAY.md says how it is measured, and has figures).

mod peers;
mod picture;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::Bench;
use super::figures::{Report, Row, Spread, Target};
use peers::{Peer, SECRET};

/// A relay run and measured; ends with it.
pub(super) const ROUNDS: u32 = 10;
pub(super) const ROUNDS_QUICK: u32 = 2;
/// Allocations that are held to see what one takes.
const MANY: u32 = 10_000;
/// Idle allocations beside calls that are carried.
const CROWD: u32 = 5_000;

/// CPU for each packet, as a share of the floor's.
const OF_FLOOR: f64 = 1.15;
const OF_COTURN: f64 = 1.0 / 3.0;
const OF_TURN_SERVER: f64 = 0.5;
const DELAY_IDLE_US: f64 = 50.0;
const DELAY_COALESCING_US: f64 = 1_200.0;
const BYTES_AN_ALLOCATION: f64 = 1_000.0;
const CPU_US_AN_ALLOCATION: f64 = 30.0;
const WITH_CROWD: f64 = 1.05;
const TWO_THREADS: f64 = 1.15;

#[derive(Debug, Clone, Args)]
pub(super) struct RelayBench {
    /// Two short rounds, for trying out
    #[arg(long)]
    pub(super) quick: bool,
    /// Also write the figures as a picture (SVG) here
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// The program that makes the load (an example of tandem-relay)
    #[arg(long, value_name = "PROGRAM", hide = true)]
    load: Option<PathBuf>,
    /// Measure this program's `relay` instead of this one's
    #[arg(long, value_name = "PROGRAM", hide = true)]
    relay: Option<PathBuf>,
    /// turn-server from the crate registry
    #[arg(long, value_name = "PROGRAM", default_value = "turn-server", hide = true)]
    turn_server: PathBuf,
}

pub(super) fn run(bench: &Bench, options: &RelayBench) -> Result<Report> {
    let stand = Stand::new(bench, options)?;
    let mut runs = Vec::new();
    for round in 1..=bench.rounds {
        bench.say(format!("round {round} of {}", bench.rounds));
        // Another order each time: what warms up or slows down the machine falls on all alike.
        let mut peers = stand.peers.clone();
        let turn = round as usize % peers.len();
        peers.rotate_left(turn);
        for peer in &peers {
            stand.measure_peer(*peer, round, &mut runs)?;
        }
        stand.measure_own(round, &mut runs)?;
    }
    if !stand.peers.contains(&Peer::TurnServer) {
        bench.say("turn-server is not installed and is left out");
    }
    let report = report(runs);
    let picture = picture::draw(&report);
    bench.file("relay.svg", picture.as_bytes())?;
    if let Some(path) = &options.picture {
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

/// What is measured, and with what.
#[derive(Debug)]
struct Stand<'a> {
    bench: &'a Bench,
    load: PathBuf,
    relay: PathBuf,
    turn_server: PathBuf,
    peers: Vec<Peer>,
    length_ms: u32,
}

/// One run of the load.
#[derive(Debug, Clone)]
struct Run {
    peer: &'static str,
    load: &'static str,
    round: u32,
    found: Value,
}

impl<'a> Stand<'a> {
    fn new(bench: &'a Bench, options: &RelayBench) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let beside = own.with_file_name("examples").join("relay_load");
        let load = options.load.clone().unwrap_or(beside);
        ensure!(load.exists(), "{} is missing: `./x bench relay` builds it", load.display());
        let mut peers = vec![Peer::Floor, Peer::FloorCoalescing, Peer::Tandem, Peer::Coturn];
        if Command::new(&options.turn_server).arg("--help").output().is_ok() {
            peers.push(Peer::TurnServer);
        }
        let relay = options.relay.clone().unwrap_or(own);
        let length_ms = if options.quick { 1_000 } else { 3_000 };
        Ok(Self { bench, load, relay, turn_server: options.turn_server.clone(), peers, length_ms })
    }

    fn measure_peer(&self, peer: Peer, round: u32, runs: &mut Vec<Run>) -> Result<()> {
        let length = self.length_ms.to_string();
        runs.push(self.drive(peer, round, "paced", &["--mode", "paced", "--length-ms", &length])?);
        let half = (self.length_ms / 2).to_string();
        runs.push(self.drive(peer, round, "saturated", &["--mode", "saturated", "--length-ms", &half])?);
        if round == 1 && matches!(peer, Peer::Coturn | Peer::TurnServer) {
            let many = MANY.to_string();
            runs.push(self.drive(peer, round, "allocations", &["--mode", "none", "--idle", &many])?);
        }
        Ok(())
    }

    /// What is asked of Tandem's relay alone.
    fn measure_own(&self, round: u32, runs: &mut Vec<Run>) -> Result<()> {
        let length = self.length_ms.to_string();
        let (many, crowd) = (MANY.to_string(), CROWD.to_string());
        for peer in [Peer::Floor, Peer::Tandem] {
            let one = ["--mode", "paced", "--calls", "1", "--length-ms", &length];
            runs.push(self.drive(peer, round, "one call", &one)?);
        }
        runs.push(self.drive(Peer::Tandem, round, "allocations", &["--mode", "none", "--idle", &many])?);
        // Right after each other, the later one first in every other round.
        let alone = ("alone", vec!["--mode", "paced", "--length-ms", &length]);
        let crowded = ("crowd", [&alone.1[..], &["--idle", &crowd]].concat());
        let mut pair = [alone, crowded];
        pair.rotate_left(round as usize % 2);
        for (load, options) in pair {
            runs.push(self.drive(Peer::Tandem, round, load, &options)?);
        }
        for peer in [Peer::Tandem, Peer::TandemTwoThreads] {
            let load = if peer == Peer::Tandem { "one thread" } else { "two threads" };
            let most = ["--mode", "saturated", "--length-ms", &length, "--window", "1024"];
            runs.push(self.drive(peer, round, load, &most)?);
        }
        Ok(())
    }

    /// Starts the server, loads it, and stops it.
    fn drive(&self, peer: Peer, round: u32, load: &'static str, options: &[&str]) -> Result<Run> {
        let server = peers::Server::start(self, peer)?;
        let mut command = Command::new(&self.load);
        command.args(["drive", "--server", &server.address(), "--pid", &server.pid().to_string()]);
        command.args(["--secret", SECRET, "--protocol", peer.protocol()]).args(options);
        let output = command.output().with_context(|| format!("cannot start {}", self.load.display()))?;
        ensure!(
            output.status.success(),
            "{} under load '{load}': {}",
            peer.name(),
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default()
        );
        let found: Value = serde_json::from_slice(&output.stdout)?;
        let text = found["cpu_us_per_packet"].as_f64().map_or_else(
            || format!("{:.0} bytes each", number(&found["idle"], "bytes_each").unwrap_or_default()),
            |cpu| format!("{cpu:.2} µs a packet, {} lost", found["lost"]),
        );
        self.bench.say(format!("    {:22} {load:12} {text}", peer.name()));
        Ok(Run { peer: peer.name(), load, round, found })
    }
}

fn number(value: &Value, name: &str) -> Option<f64> {
    value[name].as_f64()
}

/// All values of one figure, one a round.
fn values(runs: &[Run], peer: Peer, load: &str, name: &str) -> Vec<f64> {
    let of = runs.iter().filter(|run| run.peer == peer.name() && run.load == load);
    of.filter_map(|run| number(&run.found, name).or_else(|| number(&run.found["idle"], name))).collect()
}

/// Round by round, so that a busy moment of the machine falls on both.
fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).filter(|(_, below)| **below > 0.0).map(|(above, below)| above / below).collect()
}

const CPU: &str = "cpu_us_per_packet";

fn report(runs: Vec<Run>) -> Report {
    let mut report = Report::default();
    for load in ["paced", "saturated"] {
        for peer in Peer::ALL {
            let cpu = values(&runs, peer, load, CPU);
            if !cpu.is_empty() {
                report.rows.push(Row::new(format!("{load}: {}", peer.name()), "CPU a packet, µs", cpu));
            }
        }
    }
    add_ratios(&mut report, &runs);
    add_delays(&mut report, &runs);
    add_allocations(&mut report, &runs);
    report.notes.push(
        "Paced: 200 calls × 50 packets/s × 160 bytes, both ways. CPU is the server process's, in user space and in \
         the kernel. On loopback what the receiver's end costs in the kernel is charged to the server, alike for all."
            .to_owned(),
    );
    report.runs = runs
        .into_iter()
        .map(|run| json!({ "peer": run.peer, "load": run.load, "round": run.round, "found": run.found }))
        .collect();
    report
}

fn add_ratios(report: &mut Report, runs: &[Run]) {
    let own = |load| values(runs, Peer::Tandem, load, CPU);
    let compared = [
        ("paced", Peer::Floor, OF_FLOOR),
        ("paced", Peer::FloorCoalescing, OF_FLOOR),
        ("saturated", Peer::Floor, OF_FLOOR),
        ("paced", Peer::Coturn, OF_COTURN),
        ("paced", Peer::TurnServer, OF_TURN_SERVER),
    ];
    for (load, peer, limit) in compared {
        let shares = ratios(&own(load), &values(runs, peer, load, CPU));
        if !shares.is_empty() {
            let row = Row::new(format!("{load}: tandem relay"), format!("share of {}", peer.name()), shares);
            report.rows.push(row.target(Target::MedianAtMost(limit)));
        }
    }
    let crowd = ratios(&own("crowd"), &own("alone"));
    report.rows.push(
        Row::new("paced: tandem relay", "with 5,000 idle allocations, share", crowd)
            .target(Target::MedianAtMost(WITH_CROWD)),
    );
    let two = values(runs, Peer::TandemTwoThreads, "two threads", CPU);
    let two = ratios(&two, &values(runs, Peer::Tandem, "one thread", CPU));
    report.rows.push(
        Row::new("saturated: tandem relay", "two threads, share of one", two)
            .target(Target::MedianAtMost(TWO_THREADS)),
    );
}

fn add_delays(report: &mut Report, runs: &[Run]) {
    for peer in Peer::ALL {
        let lost = values(runs, peer, "paced", "lost");
        if lost.is_empty() {
            continue;
        }
        let row = |name: &str, values| Row::new(format!("paced: {}", peer.name()), name, values);
        let lost = row("packets lost", lost);
        let is_own = peer == Peer::Tandem;
        report.rows.push(if is_own { lost.target(Target::AllAtMost(0.0)) } else { lost });
        let half = row("delay p50, µs", values(runs, peer, "paced", "delay_p50_us"));
        report.rows.push(if is_own { half.target(Target::MedianAtMost(DELAY_COALESCING_US)) } else { half });
        report.rows.push(row("delay p99, µs", values(runs, peer, "paced", "delay_p99_us")));
    }
    let row = |name: &str, figure| {
        Row::new("one call: tandem relay, floor beside", name, values(runs, Peer::Tandem, "one call", figure))
            .beside(values(runs, Peer::Floor, "one call", figure))
    };
    report.rows.push(row("delay p50, µs", "delay_p50_us").target(Target::MedianAtMost(DELAY_IDLE_US)));
    report.rows.push(row("delay p99, µs", "delay_p99_us"));
}

fn add_allocations(report: &mut Report, runs: &[Run]) {
    for peer in [Peer::Tandem, Peer::Coturn, Peer::TurnServer] {
        let row = |name: &str, figure| {
            Row::new(
                format!("10,000 allocations: {}", peer.name()),
                name,
                values(runs, peer, "allocations", figure),
            )
        };
        let (bytes, cpu) = (row("bytes each", "bytes_each"), row("CPU each, µs", "cpu_us_each"));
        if bytes.values().is_empty() {
            continue;
        }
        if peer == Peer::Tandem {
            report.rows.push(bytes.target(Target::MedianAtMost(BYTES_AN_ALLOCATION)));
            report.rows.push(cpu.target(Target::MedianAtMost(CPU_US_AN_ALLOCATION)));
        } else {
            report.rows.extend([bytes, cpu]);
        }
    }
}

/// For the picture: a peer's name and its medians under both loads.
fn bars(report: &Report) -> Vec<(&'static str, f64, f64)> {
    let median = |load: &str, peer: Peer| {
        let title = format!("{load}: {}: CPU a packet, µs", peer.name());
        let row = report.rows.iter().find(|row| row.title() == title)?;
        Spread::of(row.values()).map(|spread| spread.median)
    };
    let of = |peer: &Peer| Some((peer.name(), median("paced", *peer)?, median("saturated", *peer)?));
    Peer::ALL.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(cpu: f64, floor: f64) -> Vec<Run> {
        let found = |cpu: f64| json!({ CPU: cpu, "lost": 0, "delay_p50_us": 40.0, "delay_p99_us": 90.0 });
        let run = |peer: Peer, load, cpu| Run { peer: peer.name(), load, round: 1, found: found(cpu) };
        let idle = json!({ "idle": { "bytes_each": 700.0, "cpu_us_each": 20.0 } });
        vec![
            run(Peer::Floor, "paced", floor),
            run(Peer::Floor, "saturated", floor),
            run(Peer::Tandem, "paced", cpu),
            run(Peer::Tandem, "saturated", cpu),
            run(Peer::Tandem, "one call", cpu),
            run(Peer::Tandem, "alone", cpu),
            run(Peer::Tandem, "crowd", cpu),
            run(Peer::Tandem, "one thread", cpu),
            run(Peer::TandemTwoThreads, "two threads", cpu),
            Run { peer: Peer::Tandem.name(), load: "allocations", round: 1, found: idle },
        ]
    }

    #[test]
    fn a_relay_near_the_floor_holds_and_one_far_above_it_does_not() {
        assert!(report(runs(1.1, 1.0)).held());
        assert!(!report(runs(1.2, 1.0)).held());
    }

    #[test]
    fn the_picture_has_a_bar_for_each_peer_that_was_measured() {
        let report = report(runs(1.1, 1.0));
        assert_eq!(bars(&report), [("floor", 1.0, 1.0), ("tandem relay", 1.1, 1.1)]);
        let picture = picture::draw(&report);
        assert_eq!(picture.matches("class=\"bar").count(), 4);
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    }
}
