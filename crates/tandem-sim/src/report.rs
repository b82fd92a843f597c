//! What a run came to: a table for people, a time series for machines.

use std::fmt::Write as _;

/// Middle, 99th percentile and most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    pub p50: u32,
    pub p99: u32,
    pub max: u32,
}

impl Spread {
    pub(crate) fn of(values: &mut [u32]) -> Self {
        values.sort_unstable();
        Self::of_sorted(values)
    }

    pub(crate) fn of_sorted(values: &[u32]) -> Self {
        let at =
            |percent: usize| values.get((values.len() * percent / 100).min(values.len().saturating_sub(1)));
        Self {
            p50: at(50).copied().unwrap_or(0),
            p99: at(99).copied().unwrap_or(0),
            max: values.last().copied().unwrap_or(0),
        }
    }
}

/// How it stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Since the measured time began.
    pub at_s: i64,
    pub online: u32,
    /// Of those, whose record names a home that lives and holds their place.
    pub reachable: u32,
    pub serving: u32,
    pub draining: u32,
    pub reserves: u32,
    /// Volunteers' machines that are up and may not serve.
    pub others: u32,
    /// Places held, in per cent of what owners allow newcomers.
    pub load: Spread,
    /// Requests at each supernode in ten seconds.
    pub requests_per_10_s: Spread,
    /// Requests at any supernode in any second since the sample before.
    pub busiest_second: u32,
    /// At all supernodes, in a second.
    pub requests_per_second: u32,
    /// Dials of all leaves for homes, in a second.
    pub attempts_per_second: u32,
    /// Requests refused so far.
    pub shed: u64,
    /// Calls that go on.
    pub calls: u32,
    pub calls_relayed: u32,
    /// So far.
    pub calls_set_up: u64,
    pub calls_failed: u64,
    pub calls_lost: u64,
}

impl Sample {
    /// Of those online.
    #[must_use]
    pub fn reachable_permille(&self) -> u32 {
        (u64::from(self.reachable) * 1_000 / u64::from(self.online.max(1))) as u32
    }
}

/// Sums of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub events: u64,
    /// Of all nodes together.
    pub online_hours: u64,
    pub requests: u64,
    pub shed: u64,
    pub attempts: u64,
    /// Supernodes that shut themselves down (old rules).
    pub shut_down: u64,
    /// Homes that were found out.
    pub distrusted: u64,
    pub calls_placed: u64,
    pub calls_set_up: u64,
    pub calls_failed: u64,
    pub calls_lost: u64,
    /// Of those, within a minute after a fault began.
    pub calls_lost_by_fault: u64,
    /// Calls that went on when the first fault came, and supernodes that served.
    pub calls_at_fault: u32,
    pub serving_at_fault: u32,
    pub least_reachable_permille: u32,
    /// From the last fault (its end, if it lasted) until 99 % of those online were reachable, and stayed so.
    pub back_after_s: Option<u32>,
    /// The most requests of any supernode in any second, before and after.
    pub peak_before: u32,
    pub peak_after: u32,
    /// Places held at the supernode in the middle, in per cent, before and at most in the first two minutes after.
    pub load_before: u32,
    pub load_after: u32,
    /// From the record to ringing.
    pub ring_ms: Spread,
    /// Silences of calls that went on.
    pub gaps_ms: Spread,
    /// Bytes held for leaves, calls and events, but for lists of policies on the heap.
    pub bytes: u64,
    /// Times that a rule which must always hold did not.
    pub broken: u64,
}

/// A bound stated before the run, and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub name: &'static str,
    pub bound: u32,
    /// `None`: it never came.
    pub value: Option<u32>,
    pub holds: bool,
}

/// A rule that must always hold did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Since the measured time began.
    pub at_ms: i64,
    pub rule: &'static str,
    pub what: String,
}

/// A run, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub name: String,
    pub seed: u64,
    pub nodes: u32,
    pub policy: String,
    pub samples: Vec<Sample>,
    pub totals: Totals,
    pub verdicts: Vec<Verdict>,
    pub violations: Vec<Violation>,
}

impl Report {
    /// Every rule held, and every bound that was stated.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.totals.broken == 0 && self.verdicts.iter().all(|verdict| verdict.holds)
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("a string takes all that is written");
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        let totals = &self.totals;
        writeln!(text, "{}: {} nodes, seed {}, rules: {}", self.name, self.nodes, self.seed, self.policy)?;
        let rows = [
            ("reachable, at least, ‰ of those online", totals.least_reachable_permille.to_string()),
            (
                "s until 99 % were reachable again",
                totals.back_after_s.map_or("never".to_owned(), |s| s.to_string()),
            ),
            ("supernodes when the first fault came", totals.serving_at_fault.to_string()),
            (
                "load in the middle before, and after (%)",
                format!("{} → {}", totals.load_before, totals.load_after),
            ),
            ("busiest second of any supernode", format!("{} → {}", totals.peak_before, totals.peak_after)),
            ("requests; refused", format!("{}; {}", totals.requests, totals.shed)),
            ("attempts of leaves to find a home", totals.attempts.to_string()),
            (
                "calls set up; failed; lost",
                format!("{}; {}; {}", totals.calls_set_up, totals.calls_failed, totals.calls_lost),
            ),
            ("calls when the first fault came", totals.calls_at_fault.to_string()),
            (
                "ms from the record to ringing (p50, p99)",
                format!("{}, {}", totals.ring_ms.p50, totals.ring_ms.p99),
            ),
            (
                "ms of silence where both relays died (p50, p99)",
                format!("{}, {}", totals.gaps_ms.p50, totals.gaps_ms.p99),
            ),
            ("supernodes shut down; homes found out", format!("{}; {}", totals.shut_down, totals.distrusted)),
            (
                "events; a node-hour",
                format!("{}; {}", totals.events, totals.events / totals.online_hours.max(1)),
            ),
            (
                "bytes a node, without policies' lists",
                (totals.bytes / u64::from(self.nodes.max(1))).to_string(),
            ),
        ];
        for (name, value) in rows {
            writeln!(text, "  {name:<50} {value}")?;
        }
        for verdict in &self.verdicts {
            let (mark, bound) = (if verdict.holds { "holds " } else { "BROKEN" }, verdict.bound);
            let value = verdict.value.map_or("never".to_owned(), |value| value.to_string());
            writeln!(text, "  {mark} {}: {value} (bound {bound})", verdict.name)?;
        }
        writeln!(text, "  rules that must always hold: broken {} times", totals.broken)?;
        for violation in &self.violations {
            writeln!(text, "    {} ms, {}: {}", violation.at_ms, violation.rule, violation.what)?;
        }
        Ok(())
    }

    /// For machines: a line a sample.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "at_s,online,reachable,serving,draining,reserves,others,load_p50,load_p99,load_max,requests_10s_p50,\
             requests_10s_p99,requests_10s_max,busiest_second,requests_per_s,attempts_per_s,shed,calls,calls_relayed,\
             calls_set_up,calls_failed,calls_lost\n",
        );
        for s in &self.samples {
            let (load, rate) = (s.load, s.requests_per_10_s);
            let line = writeln!(
                text,
                "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
                s.at_s,
                s.online,
                s.reachable,
                s.serving,
                s.draining,
                s.reserves,
                s.others,
                load.p50,
                load.p99,
                load.max,
                rate.p50,
                rate.p99,
                rate.max,
                s.busiest_second,
                s.requests_per_second,
                s.attempts_per_second,
                s.shed,
                s.calls,
                s.calls_relayed,
                s.calls_set_up,
                s.calls_failed,
                s.calls_lost
            );
            line.expect("a string takes all that is written");
        }
        text
    }
}
