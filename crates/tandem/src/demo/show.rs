//! The course of the demo: start the network, call, kill, hang up, gather what was measured.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tandem_api::{CallEvent, CallReport, CallResult, CallStep, CallSummary, Redundancy, Status};

use super::live::Screen;
use super::{Ground, KillKind, Node, NodePlan, Script, address};
use crate::client::Client;

const SUPERNODES: u8 = 5;
const ALICE_NETWORK: u8 = 11;
const BOB_NETWORK: u8 = 12;
const HOMES: usize = 3;
const HOMES_WITHIN: Duration = Duration::from_secs(20);
const STEP_WITHIN: Duration = Duration::from_secs(20);

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) alice: CallReport,
    pub(crate) bob: CallReport,
    pub(crate) result: CallResult,
    pub(crate) alice_recording: PathBuf,
    pub(crate) bob_recording: PathBuf,
    pub(crate) kill: Option<Kill>,
    pub(crate) start_ms: StartTimes,
    /// Peer ids of the homes of Alice and of Bob when they were ready.
    pub(crate) homes: [Vec<String>; 2],
    pub(crate) relay_names: Vec<(String, String)>,
    pub(crate) total: Duration,
}

/// Milliseconds from the start of a process to its ready line.
#[derive(Debug, Clone)]
pub(crate) struct StartTimes {
    pub(crate) supernodes: Vec<u64>,
    pub(crate) alice: u64,
    pub(crate) bob: u64,
}

/// The death of a relay.
#[derive(Debug, Clone)]
pub(crate) struct Kill {
    pub(crate) at_unix_ms: u64,
    pub(crate) kind: KillKind,
    /// Name of the (first) supernode killed.
    pub(crate) name: String,
    /// Peer ids of those killed.
    pub(crate) relays: Vec<String>,
    pub(crate) mirroring_at_kill: bool,
}

impl Kill {
    pub(crate) fn how(&self) -> &'static str {
        match self.kind {
            KillKind::None => "untouched",
            KillKind::Reset => "killed",
            KillKind::Silent => "stopped",
        }
    }
}

/// Runs the whole course.
///
/// # Errors
/// When a process does not start, the call does not connect, or a report is missing.
pub(crate) fn run_show(script: &Script, screen: &mut Screen) -> Result<Outcome> {
    let begun = Instant::now();
    let ground = Ground::new(&script.out)?;
    let supernodes = start_supernodes(&ground, screen)?;
    let (alice, bob) = start_people(&ground, script, &supernodes, screen)?;
    let call = call_and_kill(&ground, script, &alice, &bob, &supernodes, screen)?;
    let (alice_report, bob_report) = (report(&alice.data)?, report(&bob.data)?);
    let bob_recording = bob_report.recording.clone().context("Bob's node wrote no recording")?;
    let outcome = Outcome {
        result: call.result,
        alice_recording: script.out.join("alice-heard.wav"),
        bob_recording: copy_recording(&bob_recording, &script.out.join("bob-heard.wav"))?,
        kill: call.kill,
        start_ms: StartTimes {
            supernodes: supernodes.iter().map(|node| millis(node.ready_after)).collect(),
            alice: millis(alice.ready_after),
            bob: millis(bob.ready_after),
        },
        homes: [homes(&alice)?, homes(&bob)?],
        relay_names: supernodes.iter().map(|node| (service_id(node), node.name.clone())).collect(),
        alice: alice_report,
        bob: bob_report,
        total: begun.elapsed(),
    };
    let stopped = [alice, bob].map(Node::stop);
    screen.say(if stopped == [true, true] {
        "Alice and Bob have left in good order"
    } else {
        "A node had to be ended by force"
    });
    Ok(outcome)
}

pub(crate) fn redundancy_word(redundancy: Redundancy) -> &'static str {
    match redundancy {
        Redundancy::Auto => "auto",
        Redundancy::Always => "always",
        Redundancy::Off => "off",
    }
}

pub(crate) fn start_supernodes(ground: &Ground, screen: &mut Screen) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    for n in 1..=SUPERNODES {
        let bootstrap = nodes.first().map(|node| node.ready.listen.clone()).unwrap_or_default();
        let name = format!("Supernode {n}");
        let node = ground.start(&NodePlan {
            name: &name,
            network: n,
            bootstrap: &bootstrap,
            volunteer: true,
            answer: None,
            more: &[],
        })?;
        screen.say(format!("{name} is up at {} after {} ms", address(n), node.ready_after.as_millis()));
        nodes.push(node);
    }
    for node in &nodes {
        let others = usize::from(SUPERNODES) - 1;
        wait_for(&node.data, HOMES_WITHIN, |status| status.supernodes_known as usize >= others)
            .with_context(|| format!("{} did not find the other supernodes", node.name))?;
    }
    screen.say("The supernodes have found each other");
    Ok(nodes)
}

pub(crate) fn start_people(
    ground: &Ground,
    script: &Script,
    supernodes: &[Node],
    screen: &mut Screen,
) -> Result<(Node, Node)> {
    let bootstrap: Vec<String> =
        supernodes.iter().take(2).flat_map(|node| node.ready.listen.clone()).collect();
    let mut start = |name: &str, network: u8, answer: Option<String>| -> Result<Node> {
        let more = &["--redundancy".to_owned(), redundancy_word(script.redundancy).to_owned()];
        let node = ground.start(&NodePlan {
            name,
            network,
            bootstrap: &bootstrap,
            volunteer: false,
            answer,
            more,
        })?;
        let status = wait_for(&node.data, HOMES_WITHIN, |status| status.reach.homes.len() >= HOMES)
            .with_context(|| format!("{name} did not get {HOMES} homes"))?;
        let names: Vec<String> = status.reach.homes.iter().map(|home| name_of(supernodes, home)).collect();
        screen.say(format!(
            "{name} was reachable after {} ms; homes: {}",
            node.ready_after.as_millis(),
            names.join(", ")
        ));
        Ok(node)
    };
    let bob = start("Bob", BOB_NETWORK, Some(format!("wav:{}", script.bob_speech.display())))?;
    let alice = start("Alice", ALICE_NETWORK, None)?;
    Ok((alice, bob))
}

struct Called {
    result: CallResult,
    kill: Option<Kill>,
}

fn call_and_kill(
    ground: &Ground,
    script: &Script,
    alice: &Node,
    bob: &Node,
    supernodes: &[Node],
    screen: &mut Screen,
) -> Result<Called> {
    let address = &bob.ready.address;
    screen.say(format!("Alice knows only Bob's address: {address}"));
    let lines = ground.lines("call.log", &call_arguments(script, alice, address))?;
    let mut kill = None;
    let mut connected: Option<Instant> = None;
    let begun = Instant::now();
    loop {
        let due = connected.is_some_and(|at| at.elapsed() >= script.kill_after);
        if due && kill.is_none() && script.kill != KillKind::None {
            kill = Some(kill_relay(script, alice, supernodes, screen)?);
        }
        ensure!(
            connected.is_some() || begun.elapsed() < STEP_WITHIN,
            "the call did not connect within {} s; logs: {}",
            STEP_WITHIN.as_secs(),
            ground.folder.display()
        );
        ensure!(
            begun.elapsed() < script.call_for + STEP_WITHIN * 2,
            "the call did not end in time; logs: {}",
            ground.folder.display()
        );
        let Some(line) = lines.next(Duration::from_millis(20))? else { continue };
        if let Ok(event) = serde_json::from_str::<CallEvent>(&line) {
            if matches!(event.step, CallStep::Connected { .. }) {
                connected = Some(Instant::now());
            }
            narrate(&event.step, supernodes, screen);
        } else {
            let result = serde_json::from_str(&line).with_context(|| format!("not a result: {line}"))?;
            lines.wait()?;
            return Ok(Called { result, kill });
        }
    }
}

fn call_arguments(script: &Script, alice: &Node, address: &str) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let mut arguments: Vec<String> = vec!["call".into(), address.into()];
    for (flag, value) in [
        ("--data", text(&alice.data)),
        ("--play", text(&script.alice_speech)),
        ("--record", text(&script.out.join("alice-heard.wav"))),
        ("--for", format!("{}s", script.call_for.as_secs())),
        ("--redundancy", redundancy_word(script.redundancy).to_owned()),
    ] {
        arguments.push(flag.into());
        arguments.push(value);
    }
    arguments.push("--json".into());
    arguments
}

fn kill_relay(script: &Script, alice: &Node, supernodes: &[Node], screen: &mut Screen) -> Result<Kill> {
    let call = current_call(&alice.data)?;
    let mut relays = call.relays_in_use.clone();
    if !script.kill_all {
        relays.truncate(1);
    }
    let signal = match script.kill {
        KillKind::Silent => Signal::SIGSTOP,
        KillKind::Reset | KillKind::None => Signal::SIGKILL,
    };
    let at_unix_ms = unix_ms();
    let mut names = Vec::new();
    for relay in &relays {
        let node = supernodes.iter().find(|node| service_id(node) == *relay);
        let node = node.with_context(|| format!("no supernode of the demo is the relay {relay}"))?;
        node.signal(signal)?;
        names.push(node.name.clone());
    }
    let kill = Kill {
        at_unix_ms,
        kind: script.kill,
        name: names.first().cloned().context("the call uses no relay: nothing to kill")?,
        relays,
        mirroring_at_kill: call.mirroring,
    };
    screen.say(format!(
        "{}, which carries the call, is {} (mirroring: {})",
        names.join(", "),
        kill.how(),
        if kill.mirroring_at_kill { "yes" } else { "no" }
    ));
    Ok(kill)
}

fn narrate(step: &CallStep, supernodes: &[Node], screen: &mut Screen) {
    match step {
        CallStep::LookingUp { .. } => screen.say("Alice's homes look Bob up"),
        CallStep::Found { devices, after_ms } => {
            screen.say(format!("Found {devices} device after {after_ms} ms"))
        }
        CallStep::Ringing { after_ms } => screen.say(format!("Bob's device rings after {after_ms} ms")),
        CallStep::Answered { after_ms } => screen.say(format!("Bob answers after {after_ms} ms")),
        CallStep::Connected { after_ms, relays, .. } => {
            let names: Vec<String> = relays.iter().map(|relay| name_of(supernodes, relay)).collect();
            screen.say(format!("They hear each other after {after_ms} ms, through {}", names.join(" and ")));
        }
        CallStep::PathChanged(change) => screen.say(format!(
            "Alice's packets go through {} instead of {}: {}",
            name_of(supernodes, &change.to),
            name_of(supernodes, &change.from),
            change.why
        )),
        CallStep::Mirroring { on, why } => {
            screen.say(format!("Mirroring {}: {why}", if *on { "on" } else { "off" }));
        }
        CallStep::Ended { result, .. } => screen.say(format!("Hung up: {}", result.why)),
        CallStep::Incoming { .. }
        | CallStep::SoundAttached { .. }
        | CallStep::SoundDetached { .. }
        | CallStep::SoundRate { .. } => {}
    }
}

pub(crate) fn current_call(data: &Path) -> Result<CallSummary> {
    let calls: Vec<CallSummary> = client(data)?.get("/api/calls")?;
    calls.into_iter().next().context("Alice's node knows of no call")
}

fn wait_for(data: &Path, within: Duration, held: impl Fn(&Status) -> bool) -> Result<Status> {
    let client = client(data)?;
    let until = Instant::now() + within;
    loop {
        let status: Status = client.get("/api/status")?;
        if held(&status) {
            return Ok(status);
        }
        if Instant::now() > until {
            bail!("not within {} s: {}", within.as_secs(), serde_json::to_string(&status)?);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn client(data: &Path) -> Result<Client> {
    Ok(Client::require(data)?)
}

fn homes(node: &Node) -> Result<Vec<String>> {
    let status: Status = client(&node.data)?.get("/api/status")?;
    Ok(status.reach.homes)
}

/// The report of the newest call in a data folder, once the node has written it.
fn report(data: &Path) -> Result<CallReport> {
    let folder = data.join("calls");
    let until = Instant::now() + STEP_WITHIN;
    loop {
        if let Some(path) = newest_report(&folder) {
            let text = std::fs::read_to_string(&path)?;
            return serde_json::from_str(&text).with_context(|| format!("not a report: {}", path.display()));
        }
        ensure!(Instant::now() < until, "no report of the call in {}", folder.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn newest_report(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut reports: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    reports.sort();
    reports.pop().map(|(_, path)| path)
}

fn copy_recording(from: &str, to: &Path) -> Result<PathBuf> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {from}"))?;
    Ok(to.to_owned())
}

/// Peer id of a node's service swarm, from what it listens on.
pub(crate) fn service_id(node: &Node) -> String {
    node.ready.listen.first().and_then(|text| text.rsplit('/').next()).unwrap_or_default().to_owned()
}

fn name_of(supernodes: &[Node], service: &str) -> String {
    supernodes
        .iter()
        .find(|node| service_id(node) == service)
        .map_or_else(|| service.to_owned(), |n| n.name.clone())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
