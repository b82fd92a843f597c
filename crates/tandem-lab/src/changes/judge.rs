//! One call after its disturbance: what both sides reported, and what of it does not hold.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tandem_api::{CallReport, PathSeries};

use super::{Disturbed, Scenario};
use crate::call::CallOutcome;

/// Shorter than this, sound cannot be said to have stopped: the jitter buffer bridges it.
const SOUND_STOPPED_MS: f64 = 60.0;
/// What begins so long after the network was there again has another cause.
const LATE_MS: f64 = 1_000.0;
/// Sound that is back is heard to the end: so long before it, at least half of the packets must have come.
const END: Duration = Duration::from_secs(3);
/// When one side has hung up, the other must know it within this.
const END_HEARD_MS: u64 = 2_000;
/// What a packet of sound lasts.
const PACKET_MS: u64 = 20;
/// A disturbance that takes the sound away may do so a little late.
const SILENCE_GRACE_MS: f64 = 1_000.0;

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

/// One run of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub scenario: &'static str,
    pub round: u32,
    /// Whether the target was met, and nothing else was wrong.
    pub held: bool,
    pub target: String,
    /// How long after one side the other knew that the call was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_heard_ms: Option<u64>,
    /// What does not hold, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
    pub caller: Option<Side>,
    pub callee: Option<Side>,
}

/// What one side heard of the other.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    pub received: u64,
    pub lost: u64,
    pub concealed_ms: u64,
    /// Between two packets: silence up to the end of the call is none.
    pub longest_gap_ms: f64,
    /// From the moment at which the network was there again to the end of the gap that this made; 0 without one.
    pub back_ms: f64,
    /// Packets in the last three seconds of the call.
    pub at_end: u64,
    /// Paths that carried sound, in the order of first use.
    pub paths: Vec<String>,
}

/// A call that did not come to its end.
pub(super) fn failed(scenario: &Scenario, round: u32, why: String) -> Outcome {
    Outcome {
        scenario: scenario.name,
        round,
        held: false,
        target: scenario.target.words(),
        end_heard_ms: None,
        wrong: vec![why],
        caller: None,
        callee: None,
    }
}

pub(super) fn judge(scenario: &Scenario, round: u32, disturbed: Disturbed, call: &CallOutcome) -> Outcome {
    // Both clocks are one machine's: the callee is to hear the caller until the caller hangs up.
    let until_ms = call.caller.as_ref().map_or(0, end_ms);
    let side =
        |report: &Option<CallReport>| report.as_ref().map(|report| Side::of(report, disturbed, until_ms));
    let (caller, callee) = (side(&call.caller), side(&call.callee));
    let mut wrong = Vec::new();
    for (name, side) in [("caller", &caller), ("callee", &callee)] {
        match side {
            Some(side) => {
                wrong.extend(side.wrong(scenario).into_iter().map(|what| format!("{name}: {what}")))
            }
            None => wrong.push(format!("no report of the {name}; the call ended: {}", call.result.why)),
        }
    }
    let ended = |report: &Option<CallReport>| report.as_ref()?.call.ended_unix_ms;
    let end_heard_ms = ended(&call.caller).zip(ended(&call.callee)).map(|(one, other)| one.abs_diff(other));
    if let Some(ms) = end_heard_ms.filter(|ms| *ms > END_HEARD_MS) {
        wrong.push(format!("one side knew of the end {ms} ms after the other"));
    }
    let path = call.result.path;
    if let Some(wanted) = scenario.ends
        && path != Some(wanted)
    {
        wrong.push(format!("at the end the path was {path:?} instead of {wanted:?}"));
    }
    Outcome {
        scenario: scenario.name,
        round,
        held: wrong.is_empty(),
        target: scenario.target.words(),
        end_heard_ms,
        wrong,
        caller,
        callee,
    }
}

impl Side {
    fn of(report: &CallReport, disturbed: Disturbed, until_ms: u64) -> Self {
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
            concealed_ms: report.sound.as_ref().map_or(0, |sound| sound.concealed_ms),
            longest_gap_ms: report.longest_gap_ms,
            back_ms: if stopped { (gap_end - unix_ms(disturbed.over)).max(0.0) } else { 0.0 },
            at_end: heard_at_end(&report.paths, report.begin_unix_ms, report.step_ms, until_ms),
            paths: paths.into_iter().map(|(_, path)| path).collect(),
        }
    }

    fn wrong(&self, scenario: &Scenario) -> Vec<String> {
        let mut wrong: Vec<String> = scenario.target.missed(self).into_iter().collect();
        if self.at_end < END.as_millis() as u64 / PACKET_MS / 2 {
            let seconds = END.as_secs();
            wrong.push(format!("sound did not stay: {} packets in the last {seconds} s", self.at_end));
        }
        let silence_ms = scenario.silence.as_secs_f64() * 1_000.0 - SILENCE_GRACE_MS;
        if self.longest_gap_ms < silence_ms {
            wrong.push(format!("it was never silent for {silence_ms:.0} ms: the disturbance did not happen"));
        }
        // Mirrored packets count once, made-up ones not at all.
        let due = (scenario.length.saturating_sub(scenario.silence).as_millis() as u64) / PACKET_MS;
        if (self.received + self.lost) * 10 < due * 8 {
            wrong.push(format!("only {} of about {due} packets were ever due", self.received + self.lost));
        }
        wrong
    }
}

/// Packets that came in the three seconds before `until_ms`; of mirrored paths, the better one's.
fn heard_at_end(paths: &[PathSeries], begin_ms: u64, step_ms: u64, until_ms: u64) -> u64 {
    let from_ms = until_ms.saturating_sub(END.as_millis() as u64);
    let steps = paths.iter().map(|path| path.received.len()).max().unwrap_or(0);
    let within = |step: &usize| {
        let at_ms = begin_ms + *step as u64 * step_ms;
        at_ms >= from_ms && at_ms + step_ms <= until_ms
    };
    let best =
        |step: usize| paths.iter().filter_map(|path| path.received.get(step)).max().copied().unwrap_or(0);
    (0..steps).filter(within).map(|step| u64::from(best(step))).sum()
}

/// When a call ended, by its report.
fn end_ms(report: &CallReport) -> u64 {
    let steps = report.paths.iter().map(|path| path.received.len()).max().unwrap_or(0);
    report.begin_unix_ms + steps as u64 * report.step_ms
}

impl Target {
    /// What is missed, in words.
    fn missed(self, side: &Side) -> Option<String> {
        match self {
            Self::BackWithin(ms) if side.back_ms > 0.0 => {
                (side.back_ms > ms).then(|| format!("sound was back after {:.0} ms", side.back_ms))
            }
            Self::BackWithin(ms) | Self::GapWithin(ms) => {
                (side.longest_gap_ms > ms).then(|| format!("a gap of {:.0} ms", side.longest_gap_ms))
            }
            Self::NothingLost => (side.lost > 0).then(|| format!("{} packets lost", side.lost)),
        }
    }

    pub(super) fn words(self) -> String {
        match self {
            Self::BackWithin(ms) => format!("sound back within {ms:.0} ms"),
            Self::NothingLost => "0 lost".to_owned(),
            Self::GapWithin(ms) => format!("no gap above {ms:.0} ms"),
        }
    }
}

impl Outcome {
    /// A few lines for people.
    #[must_use]
    pub fn lines(&self) -> String {
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
        let wrong: String = self.wrong.iter().map(|what| format!("    {what}\n")).collect();
        let end = self.end_heard_ms.map(|ms| format!("; both knew of the end within {ms} ms"));
        format!(
            "  {verdict} [{}]{}\n{wrong}    {}\n    {}",
            self.target,
            end.unwrap_or_default(),
            side("caller", &self.caller),
            side("callee", &self.callee)
        )
    }
}

fn unix_ms(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::SCENARIOS;

    fn side() -> Side {
        Side {
            received: 1_200,
            lost: 0,
            concealed_ms: 0,
            longest_gap_ms: 22.0,
            back_ms: 0.0,
            at_end: 150,
            paths: Vec::new(),
        }
    }

    fn scenario(name: &str) -> Scenario {
        *SCENARIOS.iter().find(|scenario| scenario.name == name).expect("a scenario of that name")
    }

    fn held(name: &str, side: &Side) -> bool {
        side.wrong(&scenario(name)).is_empty()
    }

    #[test]
    fn sound_must_be_back_in_time_and_stay() {
        assert!(held("network", &side()));
        assert!(held("network", &Side { longest_gap_ms: 1_400.0, back_ms: 990.0, ..side() }));
        assert!(!held("network", &Side { longest_gap_ms: 1_400.0, back_ms: 1_010.0, ..side() }));
        assert!(!held("network", &Side { longest_gap_ms: 1_400.0, ..side() }), "a gap of another cause");
        assert!(!held("network", &Side { at_end: 10, ..side() }), "it never came back: no gap ever ended");
        assert!(!held("network", &Side { received: 500, ..side() }));
    }

    #[test]
    fn a_disturbance_that_did_not_happen_proves_nothing() {
        assert!(!held("offline", &Side { received: 2_700, ..side() }));
        let silent = Side { longest_gap_ms: 30_400.0, back_ms: 400.0, ..side() };
        assert!(held("offline", &silent), "{:?}", silent.wrong(&scenario("offline")));
        assert!(!held("offline", &Side { back_ms: 2_100.0, ..silent }));
    }

    #[test]
    fn what_was_mirrored_is_not_lost_and_what_switches_leaves_a_short_gap() {
        assert!(held("direct-dies-always", &side()));
        assert!(!held("direct-dies-always", &Side { lost: 1, ..side() }));
        assert!(held("direct-dies", &Side { lost: 4, longest_gap_ms: 119.0, ..side() }));
        assert!(!held("direct-dies", &Side { longest_gap_ms: 121.0, ..side() }));
    }

    #[test]
    fn the_end_is_counted_on_the_better_of_two_paths() {
        let series = |received: Vec<u32>| PathSeries { path: "p".to_owned(), sent: Vec::new(), received };
        let paths = [series(vec![5; 100]), series(vec![5; 80])];
        assert_eq!(heard_at_end(&paths, 1_000, 100, 11_000), 150);
        assert_eq!(heard_at_end(&paths[1..], 1_000, 100, 11_000), 50);
        assert_eq!(heard_at_end(&paths, 1_000, 100, 30_000), 0);
        assert_eq!(heard_at_end(&[], 1_000, 100, 30_000), 0);
    }
}
