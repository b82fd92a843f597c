//! What came out, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tandem_api::CallPath;

use super::judge::words;
use super::{Kind, Outcome, Pair, Relation, Report};
use crate::figures::Spread;

const COLUMN: usize = 15;

/// The table of the eight kinds where there is one, then each pair by itself, then figures, then what is wrong.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    put(&mut text, report).expect("invariant: writing to a string does not fail");
    text
}

fn put(text: &mut String, report: &Report) -> std::fmt::Result {
    for relation in [Relation::Strangers, Relation::Contacts] {
        let of: Vec<&Outcome> = report.outcomes.iter().filter(|o| o.relation == relation).collect();
        if of.is_empty() {
            continue;
        }
        let held = of.iter().filter(|outcome| outcome.held()).count();
        let sound = of.iter().filter(|outcome| has_sound(outcome)).count();
        writeln!(
            text,
            "\n{}: {held} of {} as the table says, {sound} with sound both ways",
            heading(relation),
            of.len()
        )?;
        if of.len() == Pair::all().len() {
            square(text, &of)?;
        } else {
            for outcome in &of {
                writeln!(text, "  {:<36} {}", outcome.pair, cell(outcome))?;
            }
        }
    }
    for figure in figures(report) {
        let Some(spread) = figure.spread else { continue };
        let verdict = match (figure.target_ms, figure.met()) {
            (Some(ms), Some(met)) => {
                format!("   p50 at most {ms:.0} ms: {}", if met { "met" } else { "missed" })
            }
            _ => String::new(),
        };
        writeln!(
            text,
            "{:<42} p50 {:>6.0} ms   p95 {:>6.0} ms   of {:>3}{verdict}",
            figure.name, spread.p50, spread.p95, spread.count
        )?;
    }
    for outcome in report.outcomes.iter().filter(|outcome| !outcome.held()) {
        writeln!(text, "\n{} as {}:", outcome.pair, heading(outcome.relation).to_lowercase())?;
        for wrong in &outcome.wrong {
            writeln!(text, "  {wrong}")?;
        }
        writeln!(text, "  expected {}: {}", words(outcome.expected), outcome.reason)?;
    }
    writeln!(text, "\n{:.0} s in all", report.seconds)
}

fn square(text: &mut String, of: &[&Outcome]) -> std::fmt::Result {
    write!(text, "{:<COLUMN$}", "calls →")?;
    for callee in Kind::TABLE {
        write!(text, "{:<COLUMN$}", callee.words())?;
    }
    writeln!(text)?;
    for caller in Kind::TABLE {
        write!(text, "{:<COLUMN$}", caller.words())?;
        for callee in Kind::TABLE {
            let found = of.iter().find(|outcome| outcome.of == Pair::Kinds(caller, callee));
            write!(text, "{:<COLUMN$}", found.map_or_else(String::new, |outcome| cell(outcome)))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// `direct`, `relayed`, or what it was instead.
fn cell(outcome: &Outcome) -> String {
    let was = outcome.path.map_or("no sound", words);
    if outcome.held() { was.to_owned() } else { format!("{was} ✗") }
}

pub(super) fn has_sound(outcome: &Outcome) -> bool {
    outcome.path.is_some() && outcome.caller.is_some() && outcome.callee.is_some()
}

pub(super) fn heading(relation: Relation) -> &'static str {
    match relation {
        Relation::Strangers => "Strangers",
        Relation::Contacts => "Contacts",
    }
}

/// One thing that was timed.
struct Figure {
    name: &'static str,
    spread: Option<Spread>,
    /// The median to reach on legs of 50 ms round trip; none in a run without delays.
    target_ms: Option<f64>,
}

impl Figure {
    /// `None`: nothing to reach, or nothing timed.
    fn met(&self) -> Option<bool> {
        Some(self.spread?.p50 <= self.target_ms?)
    }
}

fn figures(report: &Report) -> Vec<Figure> {
    let of = |relation: Option<Relation>, values: fn(&Outcome) -> [Option<u64>; 2]| {
        let outcomes = report.outcomes.iter().filter(|o| relation.is_none_or(|wanted| o.relation == wanted));
        Spread::of(outcomes.flat_map(values).flatten().map(|ms| ms as f64).collect())
    };
    let cold = |relation| of(Some(relation), |o| [o.call_to_ringing_ms, None]);
    let warm = of(None, |o| [o.again.and_then(|again| again.call_to_ringing_ms), None]);
    let sound = of(None, |o| [o.answer_to_sound_ms, o.again.and_then(|again| again.answer_to_sound_ms)]);
    let figure = |name, spread, target_ms: f64| {
        let target_ms = report.delayed.then_some(target_ms);
        Figure { name, spread, target_ms }
    };
    vec![
        figure("start to reachable", Spread::of(report.starts_ms.clone()), 2_000.0),
        figure("call to ringing, a stranger (cold)", cold(Relation::Strangers), 400.0),
        figure("call to ringing, a contact (cold)", cold(Relation::Contacts), 400.0),
        figure("call to ringing, a connected contact", warm, 200.0),
        figure("answer to first sound", sound, 300.0),
    ]
}

/// The same for programs.
pub fn json(report: &Report) -> Value {
    let figures: serde_json::Map<String, Value> = figures(report)
        .into_iter()
        .map(|figure| {
            let value = json!({"ms": figure.spread, "target_p50_ms": figure.target_ms, "met": figure.met()});
            (figure.name.to_owned(), value)
        })
        .collect();
    json!({
        "held": report.held(),
        "pairs": report.outcomes.len(),
        "with_sound": report.outcomes.iter().filter(|outcome| has_sound(outcome)).count(),
        "as_expected": report.outcomes.iter().filter(|outcome| outcome.held()).count(),
        "direct": report.outcomes.iter().filter(|outcome| outcome.path == Some(CallPath::Direct)).count(),
        "figures": figures,
        "outcomes": report.outcomes,
        "seconds": report.seconds,
    })
}
