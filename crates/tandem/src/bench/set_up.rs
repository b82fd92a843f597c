//! `tandem bench setup`: how long starting and calling take, and what the death of a home costs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::sys::signal::Signal;
use serde_json::json;
use tandem_api::{CallEvent, CallResult, CallStep, Redundancy, SetupTimes, Status};

use super::figures::{Report, Row, Spread, Target};
use super::{ALICE, BOB, Bench};
use crate::client::Client;
use crate::demo::{
    Ground, KillKind, Lines, Node, NodePlan, Screen, Script, current_call, service_id, start_people,
    start_supernodes,
};

/// Networks in which fresh nodes start, one at a time.
const FRESH_NETWORKS: std::ops::RangeInclusive<u8> = 13..=20;
const HOMES: usize = 3;
const CALL_WITHIN: Duration = Duration::from_secs(40);
const REPLACED_WITHIN: Duration = Duration::from_secs(70);
/// Calls before the home dies, to know what is usual.
const USUAL_CALLS: u32 = 3;
/// From one try to the next, at least: homes answer a device's look-ups faster than that only for a while.
const TRY_EVERY: Duration = Duration::from_secs(4);
/// For how long calls are tried after a home died: until it is replaced, and a little longer.
const TRY_AFTER_RESET: Duration = Duration::from_secs(8);
const TRY_AFTER_STOP: Duration = Duration::from_secs(45);

#[derive(Debug, Clone, Args)]
pub(super) struct SetupBench {
    /// Only starting and calling: kill no home
    #[arg(long)]
    no_kill: bool,
}

pub(super) fn run(bench: &Bench, options: &SetupBench) -> Result<Report> {
    let mut report = Report::default();
    let sounds =
        Sounds { alice: bench.file("alice-speaks.wav", ALICE)?, bob: bench.file("bob-speaks.wav", BOB)? };
    starts_and_calls(bench, &sounds, &mut report)?;
    if !options.no_kill {
        killed_homes(bench, &sounds, &mut report);
    }
    Ok(report)
}

#[derive(Debug)]
struct Sounds {
    alice: PathBuf,
    bob: PathBuf,
}

/// Five supernodes, Alice and Bob.
#[derive(Debug)]
struct World<'a> {
    ground: Ground,
    supernodes: Vec<Node>,
    alice: Node,
    bob: Node,
    sounds: &'a Sounds,
}

impl<'a> World<'a> {
    fn start(bench: &Bench, sounds: &'a Sounds) -> Result<Self> {
        let script = Script {
            out: bench.folder("network")?,
            alice_speech: sounds.alice.clone(),
            bob_speech: sounds.bob.clone(),
            redundancy: Redundancy::Auto,
            kill: KillKind::None,
            kill_after: Duration::ZERO,
            call_for: Duration::ZERO,
            kill_all: false,
        };
        let mut screen = Screen::new(false);
        let ground = Ground::new(&script.out)?;
        let supernodes = start_supernodes(&ground, &mut screen)?;
        let (alice, bob) = start_people(&ground, &script, &supernodes, &mut screen)?;
        Ok(Self { ground, supernodes, alice, bob, sounds })
    }

    fn begin_call(&self, length: Duration) -> Result<Lines> {
        let arguments = [
            "call".to_owned(),
            self.bob.ready.address.clone(),
            "--data".to_owned(),
            self.alice.data.display().to_string(),
            "--play".to_owned(),
            self.sounds.alice.display().to_string(),
            "--for".to_owned(),
            format!("{}ms", length.as_millis()),
            "--json".to_owned(),
        ];
        self.ground.lines("call.log", &arguments)
    }

    /// Alice calls Bob for so long.
    fn call(&self, length: Duration) -> Result<CallResult> {
        let lines = self.begin_call(length)?;
        match follow(&lines, |_| false)? {
            Some(result) => Ok(result),
            None => bail!("the call ended without a result"),
        }
    }

    /// The home to kill: one that Alice and Bob share and that does not carry the call, if there is one.
    fn dying_home(&self, relays: &[String]) -> Result<Dying<'_>> {
        let homes = [homes(&self.alice)?, homes(&self.bob)?];
        let of_whom = |home: &String| homes.each_ref().map(|own| own.contains(home));
        let home =
            homes.iter().flatten().min_by_key(|home| (relays.contains(home), of_whom(home) != [true; 2]));
        let home = home.context("neither Alice nor Bob has a home")?.clone();
        let node = self.supernodes.iter().find(|node| service_id(node) == home);
        let node = node.context("a home is no supernode of this network")?;
        Ok(Dying { node, of_whom: of_whom(&home), home })
    }

    /// Waits until those who had this home have three others; for each the seconds since the kill.
    fn replaced(&self, dying: &Dying<'_>, killed: Instant) -> Result<Vec<f64>> {
        let mut waiting = Vec::new();
        for (node, had) in [&self.alice, &self.bob].into_iter().zip(dying.of_whom) {
            if had {
                waiting.push(Client::require(&node.data)?);
            }
        }
        let mut seconds = Vec::new();
        while killed.elapsed() < REPLACED_WITHIN {
            let mut still = Vec::new();
            for client in waiting {
                let status: Status = client.get("/api/status")?;
                let homes = &status.reach.homes;
                if homes.len() >= HOMES && !homes.contains(&dying.home) {
                    seconds.push(killed.elapsed().as_secs_f64());
                } else {
                    still.push(client);
                }
            }
            if still.is_empty() {
                return Ok(seconds);
            }
            waiting = still;
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the dead home was not replaced within {} s", REPLACED_WITHIN.as_secs())
    }
}

/// A home about to die.
#[derive(Debug)]
struct Dying<'a> {
    node: &'a Node,
    /// Peer id.
    home: String,
    /// Of Alice, of Bob.
    of_whom: [bool; 2],
}

/// Reads events until `enough` says so, or until the result.
fn follow(lines: &Lines, mut enough: impl FnMut(&CallStep) -> bool) -> Result<Option<CallResult>> {
    let until = Instant::now() + CALL_WITHIN;
    loop {
        ensure!(Instant::now() < until, "the call took longer than {} s", CALL_WITHIN.as_secs());
        let Some(line) = lines.next(Duration::from_millis(100))? else { continue };
        match serde_json::from_str::<CallEvent>(&line) {
            Ok(event) if enough(&event.step) => return Ok(None),
            Ok(_) => {}
            Err(_) => {
                return serde_json::from_str(&line)
                    .map(Some)
                    .with_context(|| format!("not a result: {line}"));
            }
        }
    }
}

fn homes(node: &Node) -> Result<Vec<String>> {
    let status: Status = Client::require(&node.data)?.get("/api/status")?;
    Ok(status.reach.homes)
}

/// One network; fresh nodes and calls take turns.
fn starts_and_calls(bench: &Bench, sounds: &Sounds, report: &mut Report) -> Result<()> {
    let world = World::start(bench, sounds)?;
    let bootstrap: Vec<String> =
        world.supernodes.iter().take(2).flat_map(|node| node.ready.listen.clone()).collect();
    let (mut start, mut lookup, mut ringing, mut media) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (round, network) in (1..=bench.rounds).zip(FRESH_NETWORKS.cycle()) {
        let fresh = world.ground.start(&NodePlan {
            name: "Fresh",
            network,
            bootstrap: &bootstrap,
            volunteer: false,
            answer: None,
            more: &[],
        })?;
        start.push(fresh.ready_after.as_secs_f64() * 1_000.0);
        fresh.stop();
        let result = world.call(Duration::from_secs(2))?;
        ensure!(result.connected, "a call did not come about: {}", result.why);
        let set_up = &result.setup_ms;
        for (series, value) in
            [(&mut lookup, set_up.lookup), (&mut ringing, set_up.ringing), (&mut media, set_up.media)]
        {
            series.extend(value.map(|ms| ms as f64));
        }
        bench.say(format!(
            "round {round} of {}: reachable after {:.0} ms, lookup {:?} ms, ringing {:?} ms, media {:?} ms",
            bench.rounds,
            fresh_ms(&start),
            set_up.lookup,
            set_up.ringing,
            set_up.media
        ));
        report.runs.push(
            json!({"case": "set-up", "round": round, "start_ms": fresh_ms(&start), "setup_ms": set_up}),
        );
    }
    let case = "all well";
    let row = |figure: &str, values: Vec<f64>| Row::new(case, figure, values);
    report.rows.push(row("start to reachable, ms", start).target(Target::MedianAtMost(2_000.0)));
    report.rows.push(row("address to directory's answer, ms", lookup));
    report.rows.push(row("address to ringing, ms", ringing).target(Target::MedianAtMost(400.0)));
    report.rows.push(row("answer to first sound, ms", media).target(Target::MedianAtMost(300.0)));
    Ok(())
}

fn fresh_ms(start: &[f64]) -> f64 {
    start.last().copied().unwrap_or_default()
}

/// How a home dies, and what its clients are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Reset,
    StoppedIdle,
    StoppedInCall,
}

impl Death {
    const ALL: [Self; 3] = [Self::Reset, Self::StoppedIdle, Self::StoppedInCall];

    fn name(self) -> &'static str {
        match self {
            Self::Reset => "home reset, idle",
            Self::StoppedIdle => "home stopped, idle",
            Self::StoppedInCall => "home stopped, in call",
        }
    }

    /// Seconds in which it must be replaced.
    fn allowed_s(self) -> f64 {
        match self {
            Self::Reset => 5.0,
            Self::StoppedIdle => 40.0,
            Self::StoppedInCall => 8.0,
        }
    }

    fn signal(self) -> Signal {
        if self == Self::Reset { Signal::SIGKILL } else { Signal::SIGSTOP }
    }
}

/// Each death in a network of its own, so that none suffers from the one before.
fn killed_homes(bench: &Bench, sounds: &Sounds, report: &mut Report) {
    let mut replaced = [const { Vec::new() }; 3];
    let mut attempts = [const { Attempts::new() }; 2];
    let mut failures = Vec::new();
    for round in 1..=bench.rounds {
        for (death, seconds) in Death::ALL.into_iter().zip(&mut replaced) {
            bench.say(format!("round {round} of {}: {}", bench.rounds, death.name()));
            match replacement(bench, sounds, death) {
                Ok(values) => {
                    bench.say(format!("    replaced after {values:.1?} s"));
                    report.runs.push(json!({"case": death.name(), "round": round, "replaced_s": values}));
                    seconds.extend(values);
                }
                Err(error) => failures.push(format!("Round {round}, {}: {error:#}", death.name())),
            }
        }
        for (death, attempts) in [Death::Reset, Death::StoppedIdle].into_iter().zip(&mut attempts) {
            bench.say(format!("round {round} of {}: calls after a {}", bench.rounds, calls_name(death)));
            if let Err(error) = tried_calls(bench, sounds, death, attempts) {
                failures.push(format!("Round {round}, calls after a {}: {error:#}", calls_name(death)));
            }
        }
    }
    for (death, seconds) in Death::ALL.into_iter().zip(replaced) {
        let row = Row::new(death.name(), "until replaced, s", seconds);
        report.rows.push(row.target(Target::AllAtMost(death.allowed_s())));
    }
    for (death, attempts) in [Death::Reset, Death::StoppedIdle].into_iter().zip(attempts) {
        attempts.add_rows(calls_name(death), report);
    }
    if !failures.is_empty() {
        let row = Row::new("all", "runs that failed", vec![failures.len() as f64]);
        report.rows.push(row.target(Target::AllAtMost(0.0)));
        report.notes.append(&mut failures);
    }
}

fn calls_name(death: Death) -> &'static str {
    if death == Death::Reset { "home reset" } else { "home stopped" }
}

fn replacement(bench: &Bench, sounds: &Sounds, death: Death) -> Result<Vec<f64>> {
    let world = World::start(bench, sounds)?;
    let mut relays = Vec::new();
    let mut call = None;
    if death == Death::StoppedInCall {
        let lines = world.begin_call(REPLACED_WITHIN)?;
        follow(&lines, |step| matches!(step, CallStep::Connected { .. }))?;
        // Both sides' homes have heard of the call by then.
        std::thread::sleep(Duration::from_secs(3));
        relays = current_call(&world.alice.data)?.relays_in_use;
        call = Some(lines);
    }
    let dying = world.dying_home(&relays)?;
    let killed = Instant::now();
    dying.node.signal(death.signal())?;
    let seconds = world.replaced(&dying, killed);
    drop(call);
    seconds
}

/// Calls made while a home is dead.
#[derive(Debug)]
struct Attempts {
    usual_ms: Vec<f64>,
    later_ms: Vec<f64>,
    through: u32,
    failed: Vec<String>,
}

impl Attempts {
    const fn new() -> Self {
        Self { usual_ms: Vec::new(), later_ms: Vec::new(), through: 0, failed: Vec::new() }
    }

    /// One call, begun so many seconds after the death.
    fn add(&mut self, bench: &Bench, after: f64, result: Result<CallResult>, usual_ms: f64) {
        let why = match result {
            Ok(CallResult {
                connected: true, setup_ms: SetupTimes { ringing: Some(ringing), .. }, ..
            }) => {
                bench.say(format!("    {after:4.1} s after: ringing {ringing} ms (usual {usual_ms:.0})"));
                self.through += 1;
                self.later_ms.push(ringing as f64 - usual_ms);
                return;
            }
            Ok(result) => result.why,
            Err(error) => format!("{error:#}"),
        };
        bench.say(format!("    {after:4.1} s after: {why}"));
        self.failed.push(format!("{after:.1} s after: {why}"));
    }

    fn add_rows(self, case: &str, report: &mut Report) {
        let calls = f64::from(self.through) + self.failed.len() as f64;
        let share = if calls > 0.0 { vec![100.0 * f64::from(self.through) / calls] } else { Vec::new() };
        report.rows.push(
            Row::new(case, format!("calls that got through, % of {calls:.0}"), share)
                .target(Target::AllAtLeast(100.0)),
        );
        let usual = Spread::of(&self.usual_ms).map_or(0.0, |spread| spread.median);
        report.rows.push(
            Row::new(case, format!("ringing later than usual ({usual:.0} ms), ms"), self.later_ms)
                .beside(self.usual_ms.iter().map(|ms| ms - usual).collect())
                .target(Target::AllAtMost(400.0)),
        );
        report
            .notes
            .extend(self.failed.into_iter().map(|why| format!("A call after a {case} failed: {why}")));
    }
}

/// A few calls as usual, then one after the other from the moment the home dies.
fn tried_calls(bench: &Bench, sounds: &Sounds, death: Death, attempts: &mut Attempts) -> Result<()> {
    const LENGTH: Duration = Duration::from_secs(1);
    let world = World::start(bench, sounds)?;
    let mut usual = Vec::new();
    for _ in 0..USUAL_CALLS {
        let result = world.call(LENGTH)?;
        usual.push(result.setup_ms.ringing.context("no call before the death rang")? as f64);
    }
    let usual_ms = Spread::of(&usual).map_or(0.0, |spread| spread.median);
    attempts.usual_ms.append(&mut usual);
    let dying = world.dying_home(&[])?;
    let killed = Instant::now();
    dying.node.signal(death.signal())?;
    let window = if death == Death::Reset { TRY_AFTER_RESET } else { TRY_AFTER_STOP };
    while killed.elapsed() < window {
        let begun = Instant::now();
        attempts.add(bench, killed.elapsed().as_secs_f64(), world.call(LENGTH), usual_ms);
        std::thread::sleep(TRY_EVERY.saturating_sub(begun.elapsed()));
    }
    Ok(())
}
