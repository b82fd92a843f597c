//! One call, held against what its pair must do.

use std::path::Path;

use serde::Serialize;
use tandem_api::{CallPath, CallReport, CallResult};

use super::Pair;
use crate::call::CallOutcome;
use crate::sound::{Likeness, compare};

/// Loudness over time that correlates less is not what was said. The same words give 0.9 and more when nothing is lost.
const ALIKE: f64 = 0.75;
/// A recording may be softer or louder than what was played by so much, in dB.
const LEVEL_DB: f64 = 12.0;
/// Of sound made up, of all that was played: more than this is not a call that one would go on with.
const CONCEALED_SHARE: f64 = 0.2;
/// The name of a path without a relay, in reports.
const DIRECT: &str = "direct";

/// What the two are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    Strangers,
    Contacts,
}

/// What one side heard.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Heard {
    pub correlation: f64,
    pub level_db: f64,
    pub seconds: f64,
    pub received: u64,
    pub lost: u64,
    pub concealed_ms: u64,
    /// Every path that brought sound, by its relay's peer id or `direct`.
    pub paths: Vec<String>,
    pub last_path: Option<CallPath>,
}

/// What the second call of a pair took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Again {
    pub call_to_ringing_ms: Option<u64>,
    pub answer_to_sound_ms: Option<u64>,
}

/// What became of one call.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub pair: String,
    #[serde(skip)]
    pub of: Pair,
    pub relation: Relation,
    pub expected: CallPath,
    pub reason: String,
    /// The way the sound took at the end; `None` without sound.
    pub path: Option<CallPath>,
    pub caller: Option<Heard>,
    pub callee: Option<Heard>,
    pub call_to_ringing_ms: Option<u64>,
    pub answer_to_sound_ms: Option<u64>,
    /// The same of a second call soon after, over the line that the first one left open; not in every run.
    pub again: Option<Again>,
    /// What does not hold; empty when all is as expected.
    pub wrong: Vec<String>,
}

impl Outcome {
    pub fn held(&self) -> bool {
        self.wrong.is_empty()
    }

    /// A call that did not come about at all.
    pub(super) fn failed(pair: Pair, relation: Relation, expected: (CallPath, &str), why: String) -> Self {
        Self {
            pair: pair.to_string(),
            of: pair,
            relation,
            expected: expected.0,
            reason: expected.1.to_owned(),
            path: None,
            caller: None,
            callee: None,
            call_to_ringing_ms: None,
            answer_to_sound_ms: None,
            again: None,
            wrong: vec![why],
        }
    }

    /// Holds a call against its row. `played` is what the caller and the callee played, `heard` the caller's recording.
    pub(super) fn judge(
        pair: Pair,
        relation: Relation,
        expected: (CallPath, &str),
        call: &CallOutcome,
        played: [&Path; 2],
        heard: &Path,
    ) -> Self {
        let CallResult { setup_ms, .. } = &call.result;
        let mut outcome = Self::failed(pair, relation, expected, String::new());
        outcome.call_to_ringing_ms = setup_ms.ringing;
        outcome.answer_to_sound_ms = setup_ms.media;
        outcome.wrong.clear();
        if !call.result.connected {
            outcome.wrong.push(format!("no sound: {}", call.result.why));
            return outcome;
        }
        outcome.path = call.result.path;
        let theirs = call.callee.as_ref().and_then(|report| report.recording.clone());
        let sides = [
            ("the caller", &call.caller, Some(heard), played[1]),
            ("the callee", &call.callee, theirs.as_deref().map(Path::new), played[0]),
        ];
        let mut heard =
            sides.map(|(who, report, recording, said)| outcome.side(who, report.as_ref(), recording, said));
        outcome.callee = heard[1].take();
        outcome.caller = heard[0].take();
        outcome
    }

    /// Takes the second call of the pair: only its times, and that it brought sound.
    pub(super) fn take_again(&mut self, call: &CallOutcome) {
        let CallResult { connected, why, setup_ms, .. } = &call.result;
        if !connected {
            self.wrong.push(format!("no sound when called again: {why}"));
        }
        self.again = Some(Again { call_to_ringing_ms: setup_ms.ringing, answer_to_sound_ms: setup_ms.media });
    }

    fn side(
        &mut self,
        who: &str,
        report: Option<&CallReport>,
        recording: Option<&Path>,
        said: &Path,
    ) -> Option<Heard> {
        let (Some(report), Some(recording)) = (report, recording) else {
            self.wrong.push(format!("{who} left no report"));
            return None;
        };
        let likeness = match compare(said, recording) {
            Ok(likeness) => likeness,
            Err(error) => {
                self.wrong.push(format!("{who} heard nothing: {error:#}"));
                return None;
            }
        };
        let heard = heard(report, likeness);
        self.hold_sound(who, &heard, report.sound.as_ref().map_or(0, |sound| sound.played_ms));
        self.hold_path(who, &heard);
        Some(heard)
    }

    fn hold_sound(&mut self, who: &str, heard: &Heard, played_ms: u64) {
        if heard.correlation < ALIKE {
            self.wrong.push(format!("{who} heard something else (correlation {:.2})", heard.correlation));
        }
        if heard.level_db.abs() > LEVEL_DB {
            self.wrong.push(format!("{who} heard it {:+.0} dB off", heard.level_db));
        }
        if heard.concealed_ms as f64 > played_ms as f64 * CONCEALED_SHARE {
            self.wrong.push(format!("{who} heard {} ms of {played_ms} made up", heard.concealed_ms));
        }
    }

    fn hold_path(&mut self, who: &str, heard: &Heard) {
        if heard.last_path != Some(self.expected) {
            let was = heard.last_path.map_or("nothing", words);
            self.wrong.push(format!("{who}'s path is {was}, not {}", words(self.expected)));
        }
        if self.relation == Relation::Strangers && heard.paths.iter().any(|path| path == DIRECT) {
            self.wrong.push(format!("{who} got sound from a stranger directly"));
        }
    }
}

fn heard(report: &CallReport, likeness: Likeness) -> Heard {
    let result = &report.call.result;
    let carried = report.paths.iter().filter(|path| path.received.iter().any(|count| *count > 0));
    Heard {
        correlation: likeness.correlation,
        level_db: likeness.level_db,
        seconds: likeness.seconds,
        received: result.packets.received,
        lost: result.packets.lost,
        concealed_ms: report.sound.as_ref().map_or(0, |sound| sound.concealed_ms),
        paths: carried.map(|path| path.path.clone()).collect(),
        last_path: result.path,
    }
}

pub(super) fn words(path: CallPath) -> &'static str {
    match path {
        CallPath::Direct => "direct",
        CallPath::Relayed => "relayed",
    }
}
