//! All rounds of each scenario, in figures.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Outcome, SCENARIOS, Side};
use crate::figures::Spread;

/// All rounds of one scenario. Of each round, the side that fared worse.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub scenario: &'static str,
    pub what: &'static str,
    pub target: String,
    pub rounds: usize,
    /// Rounds in which the target was met.
    pub held: usize,
    /// From the network's return to the sound's; 0 where sound did not stop.
    pub back_ms: Option<Spread>,
    pub longest_gap_ms: Option<Spread>,
    pub lost: Option<Spread>,
}

/// A summary for each scenario that was run, in their usual order.
#[must_use]
pub fn summarise(outcomes: &[Outcome]) -> Vec<Summary> {
    let of = |name: &str| outcomes.iter().filter(|outcome| outcome.scenario == name).collect::<Vec<_>>();
    let rows = SCENARIOS.iter().map(|scenario| (scenario, of(scenario.name)));
    let summary = |(scenario, rounds): (&super::Scenario, Vec<&Outcome>)| {
        let worst = |value: fn(&Side) -> f64| {
            let round = |outcome: &&Outcome| {
                let sides = outcome.caller.iter().chain(&outcome.callee).map(value);
                sides.max_by(f64::total_cmp)
            };
            Spread::of(rounds.iter().filter_map(round).collect())
        };
        Summary {
            scenario: scenario.name,
            what: scenario.what,
            target: scenario.target.words(),
            rounds: rounds.len(),
            held: rounds.iter().filter(|outcome| outcome.held).count(),
            back_ms: worst(|side| side.back_ms),
            longest_gap_ms: worst(|side| side.longest_gap_ms),
            lost: worst(|side| side.lost as f64),
        }
    };
    rows.filter(|(_, rounds)| !rounds.is_empty()).map(summary).collect()
}

/// A line for each scenario, for people: half of the rounds, 19 of 20, all.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let spread = |spread: Option<Spread>| match spread {
        Some(spread) => format!("{:.0} / {:.0} / {:.0}", spread.p50, spread.p95, spread.max),
        None => "—".to_owned(),
    };
    let mut text = format!("{:<19} {:<28} {:>6}", "change", "target", "held");
    let heads = ["back ms", "longest gap ms", "lost"];
    heads.iter().for_each(|head| text.push_str(&format!(" {head:>23}")));
    text.push('\n');
    for row in summarise(outcomes) {
        let held = format!("{}/{}", row.held, row.rounds);
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{:<19} {:<28} {held:>6} {:>23} {:>23} {:>23}",
            row.scenario,
            row.target,
            spread(row.back_ms),
            spread(row.longest_gap_ms),
            spread(row.lost)
        )
        .ok();
    }
    text.push_str("Each figure: p50 / p95 / max over the rounds, of the side that fared worse.\n");
    text
}

/// All of it, for programs.
#[must_use]
pub fn json(outcomes: &[Outcome]) -> serde_json::Value {
    serde_json::json!({
        "held": outcomes.iter().all(|outcome| outcome.held),
        "summary": summarise(outcomes),
        "outcomes": outcomes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(scenario: &'static str, round: u32, backs_ms: [f64; 2]) -> Outcome {
        let side = |back_ms| Side {
            received: 1_000,
            lost: 3,
            concealed_ms: 0,
            longest_gap_ms: 100.0,
            back_ms,
            at_end: 150,
            paths: Vec::new(),
        };
        let [caller, callee] = backs_ms.map(|back_ms| Some(side(back_ms)));
        let held = backs_ms[0] <= 1_000.0;
        Outcome {
            scenario,
            round,
            held,
            target: String::new(),
            end_heard_ms: None,
            wrong: Vec::new(),
            caller,
            callee,
        }
    }

    #[test]
    fn each_scenario_has_the_spread_of_the_worse_side() {
        let mut outcomes: Vec<Outcome> =
            (1..=20).map(|round| outcome("nat", round, [f64::from(round) * 10.0, 5.0])).collect();
        outcomes.push(outcome("network", 1, [1_500.0, 20.0]));
        let summaries = summarise(&outcomes);
        let names: Vec<&str> = summaries.iter().map(|summary| summary.scenario).collect();
        assert_eq!(names, ["network", "nat"]);
        let nat = summaries[1].back_ms.expect("figures");
        assert_eq!((nat.count, nat.p50, nat.p95, nat.max), (20, 100.0, 190.0, 200.0));
        assert_eq!((summaries[0].held, summaries[0].rounds, summaries[1].held), (0, 1, 20));
        assert_eq!(json(&outcomes)["held"], false);
        assert!(table(&outcomes).contains("100 / 190 / 200"), "{}", table(&outcomes));
    }

    #[test]
    fn a_round_without_a_report_counts_and_has_no_figures() {
        let lost = Outcome { caller: None, callee: None, held: false, ..outcome("nat", 1, [0.0; 2]) };
        let summaries = summarise(&[lost]);
        assert_eq!((summaries[0].rounds, summaries[0].held, summaries[0].back_ms), (1, 0, None));
    }
}
