//! What happens to a call in the middle of it: a change of network, a NAT that forgets, thirty seconds without any
//! network, a direct path that dies, supernodes that vanish one after another.
//!
//! Each [`Scenario`] is one call between two contacts in a lab of its own, one disturbance, and what both sides
//! reported: how long no sound came, and how long after the network was there again it came back.

mod disturb;
mod stage;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tandem_api::CallReport;

use crate::call::CallOutcome;
pub use disturb::SCENARIOS;

/// Shorter than this, sound cannot be said to have stopped: the jitter buffer bridges it.
const SOUND_STOPPED_MS: f64 = 60.0;
/// What begins so long after the network was there again has another cause.
const LATE_MS: f64 = 1_000.0;

/// How the scenarios are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// Folder with alice.wav and bob.wav.
    pub speech: PathBuf,
    /// Folder for data, logs and recordings.
    pub out: PathBuf,
    /// What the nodes log.
    pub log: String,
    pub rounds: u32,
}

/// One kind of disturbance.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// In a sentence.
    pub what: &'static str,
    pub(crate) networks: [Seat; 2],
    pub(crate) redundancy: &'static str,
    /// From the first sound to the disturbance.
    pub(crate) after: Duration,
    /// From the first sound to the end.
    pub(crate) length: Duration,
    pub(crate) target: Target,
    pub(crate) disturb: fn(&mut stage::Stage) -> Result<Disturbed>,
}

/// The kind of NAT a side sits behind.
pub(crate) type Seat = crate::plan::Nat;

/// What must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Sound is back on both sides this many ms after [`Disturbed::over`], at most.
    BackWithin(f64),
    /// No packet is lost on either side.
    NothingLost,
    /// No gap on either side is longer than this many ms.
    GapWithin(f64),
}

/// When it happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disturbed {
    pub(crate) began: SystemTime,
    /// From when on the network could carry the call again.
    pub(crate) over: SystemTime,
}

impl Disturbed {
    /// Something that takes no time.
    pub(crate) fn now() -> Self {
        let now = SystemTime::now();
        Self { began: now, over: now }
    }
}

/// One run of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub scenario: &'static str,
    pub round: u32,
    /// Whether the target was met.
    pub held: bool,
    pub target: String,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub caller: Option<Side>,
    pub callee: Option<Side>,
}

/// What one side heard of the other.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    pub received: u64,
    pub lost: u64,
    pub concealed_ms: u64,
    pub longest_gap_ms: f64,
    /// From the moment at which the network was there again to the end of the gap that this made; 0 without one.
    pub back_ms: f64,
    /// Paths that carried sound, in the order of first use.
    pub paths: Vec<String>,
}

/// Runs these scenarios, each in a lab of its own.
///
/// # Errors
/// When a lab cannot be built; a call that fails is an [`Outcome`].
pub fn run(scenarios: &[Scenario], options: &Options, say: &dyn Fn(String)) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for round in 1..=options.rounds {
        for scenario in scenarios {
            say(format!("{} (round {round} of {}): {}", scenario.name, options.rounds, scenario.what));
            let outcome = match one(scenario, options) {
                Ok((disturbed, call)) => judge(scenario, round, disturbed, &call),
                Err(error) => Outcome {
                    scenario: scenario.name,
                    round,
                    held: false,
                    target: scenario.target.words(),
                    failed: Some(format!("{error:#}")),
                    caller: None,
                    callee: None,
                },
            };
            say(outcome.line());
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

fn one(scenario: &Scenario, options: &Options) -> Result<(Disturbed, CallOutcome)> {
    let mut stage = stage::Stage::build(scenario, options)?;
    stage.call(scenario)?;
    stage.let_pass(scenario.after)?;
    let disturbed = (scenario.disturb)(&mut stage).context("the disturbance")?;
    Ok((disturbed, stage.finish()?))
}

fn judge(scenario: &Scenario, round: u32, disturbed: Disturbed, call: &CallOutcome) -> Outcome {
    let side = |report: &Option<CallReport>| report.as_ref().map(|report| Side::of(report, disturbed));
    let (caller, callee) = (side(&call.caller), side(&call.callee));
    let failed = match (&caller, &callee) {
        (Some(_), Some(_)) => None,
        _ => Some(format!("no report of both sides; the call ended: {}", call.result.why)),
    };
    let sides = [&caller, &callee];
    let held =
        failed.is_none() && sides.iter().all(|side| side.as_ref().is_some_and(|s| scenario.target.held(s)));
    Outcome { scenario: scenario.name, round, held, target: scenario.target.words(), failed, caller, callee }
}

impl Side {
    fn of(report: &CallReport, disturbed: Disturbed) -> Self {
        let packets = &report.call.result.packets;
        let gap_began = report.longest_gap_at_unix_ms as f64;
        let gap_end = gap_began + report.longest_gap_ms;
        // A gap long before or after it is of another cause, and judged by its own length.
        let of_it = gap_end >= unix_ms(disturbed.began) && gap_began <= unix_ms(disturbed.over) + LATE_MS;
        let stopped = of_it && report.longest_gap_ms > SOUND_STOPPED_MS;
        let mut paths: Vec<(usize, String)> = report
            .paths
            .iter()
            .filter_map(|path| Some((path.received.iter().position(|count| *count > 0)?, path.path.clone())))
            .collect();
        paths.sort();
        Self {
            received: packets.received,
            lost: packets.lost,
            concealed_ms: report.sound.concealed_ms,
            longest_gap_ms: report.longest_gap_ms,
            back_ms: if stopped { (gap_end - unix_ms(disturbed.over)).max(0.0) } else { 0.0 },
            paths: paths.into_iter().map(|(_, path)| path).collect(),
        }
    }
}

impl Target {
    fn held(self, side: &Side) -> bool {
        match self {
            Self::BackWithin(ms) if side.back_ms > 0.0 => side.back_ms <= ms,
            Self::BackWithin(ms) => side.longest_gap_ms <= ms,
            Self::NothingLost => side.lost == 0,
            Self::GapWithin(ms) => side.longest_gap_ms <= ms,
        }
    }

    fn words(self) -> String {
        match self {
            Self::BackWithin(ms) => format!("sound back within {ms:.0} ms"),
            Self::NothingLost => "0 lost".to_owned(),
            Self::GapWithin(ms) => format!("no gap above {ms:.0} ms"),
        }
    }
}

impl Outcome {
    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let side = |name: &str, side: &Option<Side>| match side {
            Some(s) => format!(
                "{name} heard: {} lost of {}, longest gap {:.0} ms, back after {:.0} ms, {} ms made up",
                s.lost,
                s.lost + s.received,
                s.longest_gap_ms,
                s.back_ms,
                s.concealed_ms
            ),
            None => format!("{name}: no report"),
        };
        let verdict = if self.held { "held" } else { "NOT HELD" };
        let failed = self.failed.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!(
            "  {verdict} [{}]{failed}\n    {}\n    {}",
            self.target,
            side("caller", &self.caller),
            side("callee", &self.callee)
        )
    }
}

/// A line for each scenario, over its rounds.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<20} {:<28} {:>6} {:>9} {:>9} {:>6}\n",
        "change", "target", "held", "gap ms", "back ms", "lost"
    );
    let mut names: Vec<&str> = outcomes.iter().map(|outcome| outcome.scenario).collect();
    names.dedup();
    names.sort_by_key(|name| SCENARIOS.iter().position(|scenario| scenario.name == *name));
    names.dedup();
    for name in names {
        let rounds: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.scenario == name).collect();
        let sides = || rounds.iter().flat_map(|outcome| outcome.caller.iter().chain(&outcome.callee));
        let held = rounds.iter().filter(|outcome| outcome.held).count();
        // The worst of both sides and all rounds.
        let gap = sides().map(|side| side.longest_gap_ms).fold(0.0, f64::max);
        let back = sides().map(|side| side.back_ms).fold(0.0, f64::max);
        let lost = sides().map(|side| side.lost).max().unwrap_or(0);
        let held = format!("{held}/{}", rounds.len());
        let target = &rounds[0].target;
        // Writing to a String cannot fail.
        writeln!(text, "{name:<20} {target:<28} {held:>6} {gap:>9.0} {back:>9.0} {lost:>6}").ok();
    }
    text
}

fn unix_ms(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1_000.0
}

/// The scenarios of these names; all if there are none.
///
/// # Errors
/// When there is no such scenario; the message lists them.
pub fn named(names: &[String]) -> Result<Vec<Scenario>> {
    let known = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    for name in names {
        ensure!(
            SCENARIOS.iter().any(|s| s.name == name),
            "there is no change '{name}'; there are: {}",
            known()
        );
    }
    let wanted = |s: &&Scenario| names.is_empty() || names.iter().any(|name| name == s.name);
    Ok(SCENARIOS.iter().filter(wanted).copied().collect())
}
