//! What happened in an election, and what of it does not hold.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::{
    HOMES, HOMES_WITHIN, KILL_AFTER, KILL_AFTER_UNTIMED, LEFT, PATIENCE, PATIENCE_UNTIMED, REACHABLE_WITHIN,
    Size, millis,
};
use crate::figures::Spread;

/// One call between two leaves.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CallMade {
    pub caller: String,
    pub callee: String,
    pub rang: bool,
    pub connected: bool,
    pub ringing_ms: Option<u64>,
    pub lost: u64,
    pub took_ms: u64,
    /// So much later than the caller's node the callee's held it for ended.
    pub outlived_ms: u64,
    pub why: String,
}

/// A reserve that began to serve after a supernode had died.
#[derive(Debug, Clone, Serialize)]
pub struct TakenOver {
    pub name: String,
    pub after_ms: u64,
}

/// One supernode that was killed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Kill {
    pub name: String,
    /// Leaves that had it as a home.
    pub homes_lost: usize,
    pub taken_over: Vec<TakenOver>,
    /// When every leaf had three living homes again.
    pub homes_again_ms: Option<u64>,
    /// Leaves that never had, and how many they had.
    pub without_homes: Vec<(String, usize)>,
}

/// What a node did for others whose owner did not consent.
#[derive(Debug, Clone, Serialize)]
pub struct Guarded {
    pub name: String,
    /// On flows that others began, with IP headers.
    pub served_bytes: u64,
    /// TCP sockets beyond loopback.
    pub listening: Vec<String>,
    pub says_it_serves: bool,
}

/// All homes of one device died at once.
#[derive(Debug, Clone, Serialize)]
pub struct ThreeAtOnce {
    pub device: String,
    pub homes: Vec<String>,
    pub attempts: u32,
    /// When a call to it rang.
    pub reachable_after_ms: Option<u64>,
}

/// The whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub held: bool,
    /// Nothing is judged by how long it took.
    pub counts_only: bool,
    pub nodes: usize,
    pub public: usize,
    pub consented: usize,
    /// From the last start until a device had three homes; one a device.
    pub homes_after_ms: Vec<u64>,
    pub without_homes: Vec<String>,
    /// Who served then.
    pub elected: Vec<String>,
    pub kills: Vec<Kill>,
    pub calls: usize,
    pub ringing_ms: Option<Spread>,
    /// How much later than the caller's node the callee's held a call for ended, at most.
    pub outlived_ms: u64,
    pub calls_failed: Vec<CallMade>,
    pub three_at_once: Option<ThreeAtOnce>,
    pub guarded: Vec<Guarded>,
    /// What does not hold, in sentences.
    pub wrong: Vec<String>,
}

impl Report {
    pub(super) fn new(size: Size, counts_only: bool) -> Self {
        Self {
            held: false,
            counts_only,
            nodes: size.nodes(),
            public: size.public,
            consented: size.consented,
            homes_after_ms: Vec::new(),
            without_homes: Vec::new(),
            elected: Vec::new(),
            kills: Vec::new(),
            calls: 0,
            ringing_ms: None,
            outlived_ms: 0,
            calls_failed: Vec::new(),
            three_at_once: None,
            guarded: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// How much longer than its target something is waited for.
    pub(super) fn patience(&self) -> Duration {
        if self.counts_only { PATIENCE_UNTIMED } else { PATIENCE }
    }

    /// The next supernode dies after this at the latest.
    pub(super) fn kill_after(&self) -> Duration {
        if self.counts_only { KILL_AFTER_UNTIMED } else { KILL_AFTER }
    }

    fn in_time(&self, ms: u64, within: Duration) -> bool {
        self.counts_only || ms <= millis(within)
    }

    pub(super) fn take_calls(&mut self, made: Vec<CallMade>) {
        self.calls = made.len();
        self.outlived_ms = made.iter().map(|call| call.outlived_ms).max().unwrap_or(0);
        self.ringing_ms =
            Spread::of(made.iter().filter_map(|call| call.ringing_ms).map(|ms| ms as f64).collect());
        self.calls_failed = made.into_iter().filter(|call| !call.connected).collect();
    }

    pub(super) fn words_of_calls(&self) -> String {
        let mut text =
            format!("{} calls while supernodes died, {} failed", self.calls, self.calls_failed.len());
        for call in &self.calls_failed {
            let (caller, callee) = (&call.caller, &call.callee);
            // Writing to a String cannot fail.
            write!(text, "\n    {caller} to {callee} after {} ms: {}", call.took_ms, call.why).ok();
        }
        text
    }

    /// Holds everything against what was asked for.
    pub(super) fn judge(&mut self) {
        let mut wrong = Vec::new();
        let late = self.homes_after_ms.iter().filter(|ms| !self.in_time(**ms, HOMES_WITHIN)).count();
        let without = late + self.without_homes.len();
        if without > 0 || self.homes_after_ms.is_empty() {
            let seconds = HOMES_WITHIN.as_secs();
            wrong.push(format!("{without} devices had not {HOMES} homes {seconds} s after the last start"));
        }
        for node in &self.guarded {
            if node.served_bytes > 0 || !node.listening.is_empty() || node.says_it_serves {
                wrong.push(format!(
                    "{} serves without consent: {} bytes, listening {:?}, says so: {}",
                    node.name, node.served_bytes, node.listening, node.says_it_serves
                ));
            }
        }
        if self.guarded.is_empty() {
            wrong.push("nobody was watched".to_owned());
        }
        if self.kills.is_empty() || self.calls == 0 {
            wrong.push("nobody was killed, or nobody called meanwhile".to_owned());
        }
        for kill in self.kills.iter().filter(|kill| kill.homes_again_ms.is_none()) {
            wrong.push(format!("after the death of {} not every leaf found {HOMES} homes", kill.name));
        }
        if !self.calls_failed.is_empty() {
            wrong.push(format!("{} of {} calls failed", self.calls_failed.len(), self.calls));
        }
        match &self.three_at_once {
            Some(ThreeAtOnce { homes, reachable_after_ms: Some(ms), .. })
                if self.in_time(*ms, REACHABLE_WITHIN) && homes.len() >= HOMES => {}
            Some(three) => wrong.push(three.words()),
            None => wrong.push("no device lost its homes all at once".to_owned()),
        }
        self.held = wrong.is_empty();
        self.wrong = wrong;
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            // Writing to a String cannot fail.
            writeln!(text, "{what:<44} {value}").ok();
        };
        line(
            "plain nodes (public, of them consented)",
            format!("{} ({}, {})", self.nodes, self.public, self.consented),
        );
        line("serving after the election", self.elected.join(", "));
        let homes = Spread::of(self.homes_after_ms.iter().map(|ms| *ms as f64 / 1e3).collect());
        let homes = homes.map_or("—".to_owned(), |s| {
            format!("{:.1} / {:.1}, {} of {}", s.p50, s.max, s.count, self.nodes)
        });
        line("last start → three homes, s (median / last)", homes);
        for kill in &self.kills {
            line(&format!("killed: {}", kill.name), kill.course());
        }
        let ringing = self.ringing_ms;
        let ringing =
            ringing.map_or("—".to_owned(), |s| format!("{:.0} / {:.0} / {:.0}", s.p50, s.p95, s.max));
        line(
            &format!("calls until {LEFT} were left"),
            format!("{}, {} failed", self.calls, self.calls_failed.len()),
        );
        line("call → ringing, ms (p50 / p95 / max)", ringing);
        line("callee's end after the caller's, ms (max)", self.outlived_ms.to_string());
        if let Some(three) = &self.three_at_once {
            line("all homes of one device killed at once", three.words());
        }
        let served: u64 = self.guarded.iter().map(|node| node.served_bytes).sum();
        line("without consent: nodes, bytes they served", format!("{}, {served}", self.guarded.len()));
        for wrong in &self.wrong {
            line("NOT HELD", wrong.clone());
        }
        if self.held {
            line("held", "all of it".to_owned());
        }
        text
    }
}

impl Kill {
    fn course(&self) -> String {
        let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1e3);
        let taken =
            self.taken_over.iter().map(|one| format!("{} serves after {}", one.name, seconds(one.after_ms)));
        let taken = taken.collect::<Vec<_>>().join(", ");
        let again = self.homes_again_ms.map_or_else(|| "NEVER".to_owned(), seconds);
        let by = if taken.is_empty() { "no reserve was needed".to_owned() } else { taken };
        let without = match self.without_homes.as_slice() {
            [] => String::new(),
            without => format!("; without: {without:?}"),
        };
        format!("{} leaves lost a home; all had three again after {again}{without}; {by}", self.homes_lost)
    }

    pub(super) fn words(&self) -> String {
        format!("killed {}: {}", self.name, self.course())
    }
}

impl ThreeAtOnce {
    pub(super) fn words(&self) -> String {
        let after = self.reachable_after_ms.map_or_else(
            || "was not reachable again".to_owned(),
            |ms| format!("was reachable again after {:.1} s", ms as f64 / 1e3),
        );
        format!(
            "{} lost {} at once and {after} ({} calls)",
            self.device,
            self.homes.join(", "),
            self.attempts
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let mut report = Report::new(Size::SMALL, false);
        report.homes_after_ms = vec![1_000; 8];
        let kill = |ms| Kill { name: "s1".to_owned(), homes_lost: 3, homes_again_ms: ms, ..Kill::default() };
        report.kills = vec![kill(Some(2_000))];
        report.take_calls(vec![CallMade { rang: true, connected: true, ..CallMade::default() }]);
        report.three_at_once = Some(ThreeAtOnce {
            device: "h1-host".to_owned(),
            homes: vec!["s2".to_owned(), "s3".to_owned(), "s4".to_owned()],
            attempts: 2,
            reachable_after_ms: Some(9_000),
        });
        report.guarded = vec![Guarded {
            name: "h1-host".to_owned(),
            served_bytes: 0,
            listening: Vec::new(),
            says_it_serves: false,
        }];
        report
    }

    #[test]
    fn where_only_counts_are_judged_time_is_not() {
        let mut report = good();
        report.counts_only = true;
        report.homes_after_ms[3] = 100_000;
        report.judge();
        assert!(report.held, "{:?}", report.wrong);
        report.without_homes.push("s5".to_owned());
        report.judge();
        assert!(!report.held);
    }

    #[test]
    fn each_thing_asked_for_can_be_missed() {
        let held = |change: fn(&mut Report)| {
            let mut report = good();
            change(&mut report);
            report.judge();
            report.held
        };
        assert!(held(|_| {}));
        assert!(!held(|report| report.homes_after_ms[3] = 30_001));
        assert!(!held(|report| report.without_homes.push("s5".to_owned())));
        assert!(!held(|report| report.guarded[0].served_bytes = 1));
        assert!(!held(|report| report.guarded[0].listening.push("14000133:0FA1".to_owned())));
        assert!(!held(|report| report.guarded.clear()));
        assert!(!held(|report| report.kills[0].homes_again_ms = None));
        assert!(!held(|report| report.take_calls(vec![CallMade::default()])));
        assert!(!held(|report| report.take_calls(Vec::new())));
        assert!(!held(|report| report.three_at_once = None));
        assert!(!held(|report| {
            if let Some(three) = &mut report.three_at_once {
                three.reachable_after_ms = Some(45_001);
            }
        }));
    }
}
