//! What happens to a call in the middle of it: a change of network, a NAT that forgets, thirty seconds without any
//! network, a direct path that dies, supernodes that vanish one after another.
//!
//! Each [`Scenario`] is one call between two contacts in a lab of its own, one disturbance, and what both sides
//! reported: how long no sound came, and how long after the network was there again it came back.

mod disturb;
mod judge;
mod stage;
mod summary;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use tandem_api::CallPath;

use crate::call::CallOutcome;
pub use disturb::SCENARIOS;
pub(crate) use judge::Target;
pub use judge::{Outcome, Side};
pub use summary::{Summary, json, summarise, table};

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
    /// How long nothing at all can come through, on either side.
    pub(crate) silence: Duration,
    /// The path at the end, where there is one that it must be.
    pub(crate) ends: Option<CallPath>,
    pub(crate) target: Target,
    pub(crate) disturb: fn(&mut stage::Stage) -> Result<Disturbed>,
}

impl Scenario {
    /// The path that the call must have come to before the disturbance: the one that its NATs allow.
    pub(crate) fn before(&self) -> CallPath {
        let symmetric = self.networks.contains(&Seat::Symmetric);
        if symmetric { CallPath::Relayed } else { CallPath::Direct }
    }
}

/// The kind of NAT a side sits behind.
pub(crate) type Seat = crate::plan::Nat;

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
                Ok((disturbed, call)) => judge::judge(scenario, round, disturbed, &call),
                Err(error) => judge::failed(scenario, round, format!("{error:#}")),
            };
            say(outcome.lines());
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

fn one(scenario: &Scenario, options: &Options) -> Result<(Disturbed, CallOutcome)> {
    let mut stage = stage::Stage::build(scenario, options)?;
    stage.call(scenario)?;
    stage.let_pass(scenario.after)?;
    stage.settle(scenario.before())?;
    let disturbed = (scenario.disturb)(&mut stage).context("the disturbance")?;
    Ok((disturbed, stage.finish()?))
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
