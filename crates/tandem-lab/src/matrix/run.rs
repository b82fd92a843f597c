//! The run: every pair twice, as many at once as share no host.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::judge::{Outcome, Relation};
use super::world::{World, introduce};
use super::{Pair, Seat, Table};
use crate::call::{Call, CallPlan};

/// New contacts get so long to open what they keep open to each other.
const ACQUAINTANCE: Duration = Duration::from_secs(3);

/// Between a call and the next of the same pair: longer than hanging up and its reports take.
const BETWEEN_CALLS: Duration = Duration::from_secs(3);
/// How long the second call lasts: only its beginning is measured.
const AGAIN: Duration = Duration::from_millis(1_500);

/// What is run, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// Folder with `alice.wav` and `bob.wav`.
    pub speech: PathBuf,
    /// Data folders, logs and recordings.
    pub out: PathBuf,
    /// One-way delay of every home's access line; without it lines are perfect.
    pub delay: Option<Duration>,
    /// How long each call lasts.
    pub length: Duration,
    /// Log filter of the nodes.
    pub log: String,
    pub relations: Vec<Relation>,
    /// Calls at the same time, at most. More than the machine encodes sound for would lose packets by themselves.
    pub at_once: usize,
}

/// All that came out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
    /// From the start of a person's node to its ready line.
    pub starts_ms: Vec<f64>,
    /// Access lines had a delay: set-up times mean something, and contacts were called twice.
    pub delayed: bool,
    pub seconds: f64,
}

impl Report {
    pub fn held(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(Outcome::held)
    }
}

/// Builds the world that these pairs need, and lets each call.
///
/// # Errors
/// When the lab or its supernodes cannot be started. Pairs that fail are in the report.
pub fn run(pairs: &[Pair], options: &Options, say: &dyn Fn(String)) -> Result<Report> {
    let begun = Instant::now();
    let table = Table::committed()?;
    let world = World::start(pairs, options, say)?;
    let rounds = rounds(pairs, options.at_once.max(1));
    let mut outcomes = Vec::new();
    for relation in &options.relations {
        if *relation == Relation::Contacts {
            introduce_all(&world, pairs);
        }
        for (number, round) in rounds.iter().enumerate() {
            let results = call_all(&world, &table, round, *relation, options);
            let held = results.iter().filter(|outcome| outcome.held()).count();
            say(format!(
                "{}, round {} of {}: {held} of {} as expected",
                words(*relation),
                number + 1,
                rounds.len(),
                round.len()
            ));
            outcomes.extend(results);
        }
    }
    Ok(Report {
        outcomes,
        starts_ms: world.starts_ms(),
        delayed: options.delay.is_some(),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn words(relation: Relation) -> &'static str {
    match relation {
        Relation::Strangers => "strangers",
        Relation::Contacts => "contacts",
    }
}

/// In order, each round as long as no host is needed twice.
fn rounds(pairs: &[Pair], at_once: usize) -> Vec<Vec<Pair>> {
    let mut rounds: Vec<(BTreeSet<Seat>, Vec<Pair>)> = Vec::new();
    for pair in pairs {
        let seats = pair.seats();
        let room = rounds
            .iter_mut()
            .find(|(taken, round)| round.len() < at_once && seats.iter().all(|seat| !taken.contains(seat)));
        match room {
            Some((taken, round)) => {
                taken.extend(seats);
                round.push(*pair);
            }
            None => rounds.push((seats.into(), vec![*pair])),
        }
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}

/// A pair that cannot be made contacts shows it when it calls.
fn introduce_all(world: &World, pairs: &[Pair]) {
    for pair in pairs {
        let [caller, callee] = pair.seats();
        if let (Ok(caller), Ok(callee)) = (world.person(caller), world.person(callee)) {
            introduce(caller, callee).ok();
        }
    }
    std::thread::sleep(ACQUAINTANCE);
}

fn call_all(
    world: &World,
    table: &Table,
    round: &[Pair],
    relation: Relation,
    options: &Options,
) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let calls: Vec<_> =
            round.iter().map(|pair| scope.spawn(|| call(world, table, *pair, relation, options))).collect();
        let results = calls
            .into_iter()
            .map(|call| call.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect()
    })
}

fn call(world: &World, table: &Table, pair: Pair, relation: Relation, options: &Options) -> Outcome {
    let expected = match table.path(pair, relation) {
        Ok(expected) => expected,
        Err(error) => {
            let nothing = (tandem_api::CallPath::Relayed, "");
            return Outcome::failed(pair, relation, nothing, format!("{error:#}"));
        }
    };
    try_call(world, pair, relation, expected, options)
        .unwrap_or_else(|why| Outcome::failed(pair, relation, expected, why))
}

fn try_call(
    world: &World,
    pair: Pair,
    relation: Relation,
    expected: (tandem_api::CallPath, &str),
    options: &Options,
) -> Result<Outcome, String> {
    let [caller, callee] = pair.seats();
    let (caller, callee) = (world.person(caller)?, world.person(callee)?);
    let record =
        world.folder.join(format!("{}-{}.wav", words(relation), pair.to_string().replace(',', "-to-")));
    let text = |error: anyhow::Error| format!("{error:#}");
    let plan = CallPlan {
        whom: match relation {
            Relation::Strangers => callee.invitation().map_err(text)?,
            Relation::Contacts => callee.name().to_owned(),
        },
        play: world.caller_speech().to_owned(),
        record: record.clone(),
        length: options.length,
        more: Vec::new(),
    };
    let call = Call::begin(caller, &plan).map_err(text)?.finish(caller, callee).map_err(text)?;
    let played = [world.caller_speech(), world.callee_speech()];
    let mut outcome = Outcome::judge(pair, relation, expected, &call, played, &record);
    for heard in [&mut outcome.caller, &mut outcome.callee].into_iter().flatten() {
        heard.paths.iter_mut().for_each(|path| *path = world.path_name(path));
    }
    if options.delay.is_some() && relation == Relation::Contacts && call.result.connected {
        std::thread::sleep(BETWEEN_CALLS);
        let plan = CallPlan { record: record.with_extension("again.wav"), length: AGAIN, ..plan };
        match Call::begin(caller, &plan).and_then(|call| call.finish(caller, callee)) {
            Ok(again) => outcome.take_again(&again),
            Err(error) => outcome.wrong.push(format!("called again: {error:#}")),
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latin_square_stays_eight_rounds_of_eight() {
        let rounds = rounds(&Pair::all(), 8);
        assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), [8; 8]);
    }

    #[test]
    fn nobody_is_needed_twice_in_a_round() {
        for round in rounds(&Pair::few(), 8) {
            let seats: BTreeSet<Seat> = round.iter().flat_map(|pair| pair.seats()).collect();
            assert_eq!(seats.len(), round.len() * 2);
        }
    }
}
