//! Did it all hold? Each expectation with what was measured.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tandem_api::{CallReport, Redundancy};

use super::show::{Outcome, redundancy_word};
use super::{KillKind, Script};

/// Longest gap allowed when packets are doubled, in milliseconds.
const GAP_MS_MIRRORED: f64 = 60.0;
/// Longest gap allowed when the second path is only kept warm: detection, with nothing for the path's own delay, which
/// is under a millisecond on loopback.
const GAP_MS_WARM: f64 = 100.0;
/// What 100 ms without a path costs in packets of 20 ms.
const LOST_WARM: u64 = 5;
/// Sound again after every relay died.
const GAP_MS_ALL_DEAD: f64 = 3_000.0;

/// One expectation.
#[derive(Debug, Clone)]
struct Check {
    what: String,
    measured: String,
    held: bool,
    duration: bool,
}

/// All expectations of one run.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    checks: Vec<Check>,
    counts_only: bool,
}

impl Verdict {
    pub(crate) fn judge(script: &Script, outcome: &Outcome, counts_only: bool) -> Self {
        let mut checks = set_up_checks(outcome);
        for (name, report) in [("Alice", &outcome.alice), ("Bob", &outcome.bob)] {
            checks.extend(call_checks(script, outcome, name, report));
        }
        Self { checks, counts_only }
    }

    /// Did all that counts hold?
    pub(crate) fn held(&self) -> bool {
        self.checks.iter().all(|check| check.held || (self.counts_only && check.duration))
    }

    pub(crate) fn sentence(&self) -> String {
        let failed: Vec<&str> =
            self.checks.iter().filter(|check| !check.held).map(|check| check.what.as_str()).collect();
        if failed.is_empty() {
            return "Everything held.".into();
        }
        format!("Did not hold: {}.", failed.join("; "))
    }

    pub(crate) fn table(&self, outcome: &Outcome) -> String {
        let mut text = String::new();
        let set_up = &outcome.result.setup_ms;
        let figure = |value: Option<u64>| value.map_or_else(|| "—".to_owned(), |ms| format!("{ms} ms"));
        let rows = [
            (
                "Start to reachable",
                format!("Alice {} ms, Bob {} ms", outcome.start_ms.alice, outcome.start_ms.bob),
            ),
            ("Address to ringing", figure(set_up.ringing)),
            ("Answer to first sound", figure(set_up.media)),
            ("Relays, in order of use", relay_words(outcome)),
            ("Packets Alice → Bob", packet_words(&outcome.bob)),
            ("Packets Bob → Alice", packet_words(&outcome.alice)),
            (
                "Longest gap",
                format!(
                    "Alice {:.1} ms, Bob {:.1} ms",
                    outcome.alice.longest_gap_ms, outcome.bob.longest_gap_ms
                ),
            ),
            (
                "Concealed sound",
                format!("Alice {} ms, Bob {} ms", concealed(&outcome.alice), concealed(&outcome.bob)),
            ),
            ("Demo, in all", format!("{:.1} s", outcome.total.as_secs_f64())),
        ];
        text.push('\n');
        for (name, value) in rows {
            writeln!(text, "  {name:<24} {value}").expect("writing to a string");
        }
        text.push('\n');
        for check in &self.checks {
            let mark = if check.held { "held" } else { "NOT HELD" };
            writeln!(text, "  {mark:<9} {} ({})", check.what, check.measured).expect("writing to a string");
        }
        text
    }

    pub(crate) fn json(&self, outcome: &Outcome, picture: &Path) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| json!({"what": check.what, "measured": check.measured, "held": check.held}))
            .collect();
        json!({
            "held": self.held(),
            "checks": checks,
            "result": outcome.result,
            "mirroring_at_kill": outcome.kill.as_ref().map(|kill| kill.mirroring_at_kill),
            "killed": outcome.kill.as_ref().map(|kill| &kill.relays),
            "killed_at_unix_ms": outcome.kill.as_ref().map(|kill| kill.at_unix_ms),
            "homes": {"alice": outcome.homes[0], "bob": outcome.homes[1]},
            "start_ms": {
                "supernodes": outcome.start_ms.supernodes,
                "alice": outcome.start_ms.alice,
                "bob": outcome.start_ms.bob,
            },
            "alice": side_json(&outcome.alice),
            "bob": side_json(&outcome.bob),
            "recordings": {"alice": outcome.alice_recording, "bob": outcome.bob_recording},
            "picture": picture,
            "total_ms": u64::try_from(outcome.total.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn side_json(report: &CallReport) -> Value {
    json!({
        "packets": report.call.result.packets,
        "longest_gap_ms": report.longest_gap_ms,
        "longest_gap_at_unix_ms": report.longest_gap_at_unix_ms,
        "sound": report.sound,
        "path_changes": report.call.path_changes,
        "relays": report.call.result.relays,
    })
}

fn set_up_checks(outcome: &Outcome) -> Vec<Check> {
    let mut checks = vec![Check {
        what: "the call connected, through relays".into(),
        measured: format!("path {:?}", outcome.result.path),
        held: outcome.result.connected && outcome.result.path == Some(tandem_api::CallPath::Relayed),
        duration: false,
    }];
    for (name, homes) in [("Alice", &outcome.homes[0]), ("Bob", &outcome.homes[1])] {
        checks.push(Check {
            what: format!("{name} has homes after the call"),
            measured: homes.len().to_string(),
            held: homes.len() >= 2,
            duration: false,
        });
    }
    checks
}

fn call_checks(script: &Script, outcome: &Outcome, name: &str, report: &CallReport) -> Vec<Check> {
    let lost = report.call.result.packets.lost;
    let mut checks = vec![heard_to_the_end(name, outcome, report)];
    let (lost_allowed, gap_allowed) = allowed(script);
    if let Some(allowed) = lost_allowed {
        checks.push(Check {
            what: format!(
                "{name} lost at most {allowed} packets (redundancy {})",
                redundancy_word(script.redundancy)
            ),
            measured: lost.to_string(),
            held: lost <= allowed,
            duration: false,
        });
    }
    if let Some(allowed) = gap_allowed {
        checks.push(Check {
            what: format!("{name}'s longest gap is at most {allowed:.0} ms"),
            measured: format!("{:.1} ms", report.longest_gap_ms),
            held: report.longest_gap_ms <= allowed,
            duration: true,
        });
    }
    checks
}

/// What may be lost, and how long a gap may be; nothing is promised with redundancy off.
fn allowed(script: &Script) -> (Option<u64>, Option<f64>) {
    if script.kill == KillKind::None {
        return (Some(0), Some(GAP_MS_MIRRORED));
    }
    if script.kill_all {
        return (None, Some(GAP_MS_ALL_DEAD));
    }
    match script.redundancy {
        Redundancy::Always => (Some(0), Some(GAP_MS_MIRRORED)),
        Redundancy::Auto => (Some(LOST_WARM), Some(GAP_MS_WARM)),
        Redundancy::Off => (None, None),
    }
}

/// Packets came in the last two seconds of the call, and after the kill on another path than the dead one.
fn heard_to_the_end(name: &str, outcome: &Outcome, report: &CallReport) -> Check {
    let dead = outcome.kill.as_ref().map(|kill| kill.relays.as_slice()).unwrap_or_default();
    let steps = report.paths.iter().map(|path| path.received.len()).max().unwrap_or(0);
    let tail = usize::try_from(2_000 / report.step_ms.max(1)).unwrap_or(20);
    let received: u32 = report
        .paths
        .iter()
        .filter(|path| !dead.contains(&path.path))
        .map(|path| path.received.iter().take(steps).skip(steps.saturating_sub(tail)).sum::<u32>())
        .sum();
    Check {
        what: format!("{name} hears the other side to the end"),
        measured: format!("{received} packets in the last 2 s"),
        held: received > 50,
        duration: false,
    }
}

fn relay_words(outcome: &Outcome) -> String {
    let name = |relay: &String| {
        outcome
            .relay_names
            .iter()
            .find(|(id, _)| id == relay)
            .map_or_else(|| relay.clone(), |(_, name)| name.clone())
    };
    outcome.alice.call.result.relays.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn packet_words(report: &CallReport) -> String {
    let packets = &report.call.result.packets;
    format!("{} received, {} lost", packets.received, packets.lost)
}
/// Both of the demo's people decode what they hear.
fn concealed(report: &CallReport) -> u64 {
    report.sound.as_ref().map_or(0, |sound| sound.concealed_ms)
}
