//! Every text for people that names a problem, in one catalogue with stable codes.
//!
//! A text says what happened, what it means and what to do next. A code is never used again for something else.

mod catalogue;
mod choices;
mod explanations;
mod phrases;
mod volunteering;

use tandem_api::Problem;

pub use catalogue::Code;
pub(crate) use choices::{
    Choice, NEIGHBOUR_CHOSEN, RELAY_CHOSEN, SCOUT_CHOSEN, because, latency_words, next_words,
};
pub use explanations::{CallExplanation, NetworkExplanation};
pub use phrases::{
    ConnectionTexts, connection_texts, dial_waits, end_reason_text, home_over_tcp_text, over_tcp_text,
    sent_request,
};
pub use volunteering::missing_text;

/// The number of the terms a volunteer accepts; a change of meaning makes a new number.
pub const TERMS: u32 = 1;

/// The terms a volunteer accepts.
pub const TERMS_TEXT: &str = include_str!("terms-1.txt");

/// What a person must know before the first call.
pub const NO_EMERGENCY_CALLS: &str =
    "Tandem cannot place emergency calls. Keep another telephone for 112, 911 and the like.";

/// One entry of the catalogue. Texts hold places like `{path}` that [`Code::with`] fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub code: &'static str,
    pub message: &'static str,
    pub meaning: &'static str,
    pub action: &'static str,
}

impl Code {
    /// The problem as the catalogue has it; for an entry without places to fill.
    #[must_use]
    pub fn problem(self) -> Problem {
        self.with(&[])
    }

    /// The problem with its places filled: `("path", "/home/…")` fills `{path}`.
    #[must_use]
    pub fn with(self, values: &[(&str, &str)]) -> Problem {
        let entry = self.entry();
        Problem {
            code: entry.code.to_owned(),
            message: fill(entry.message, values),
            meaning: fill(entry.meaning, values),
            action: fill(entry.action, values),
        }
    }
}

/// One pass over the template, so that a value holding `{…}` is not filled again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        match values.iter().find(|(key, _)| *key == name) {
            Some((_, value)) => filled.push_str(value),
            None => {
                filled.push('{');
                filled.push_str(name);
                filled.push('}');
            }
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            let entry = code.entry();
            assert!(seen.insert(entry.code), "{} is used twice", entry.code);
            assert!(entry.code.len() == 5 && entry.code.starts_with('T'));
            for text in [entry.message, entry.meaning, entry.action] {
                assert!(text.ends_with('.') || text.ends_with('}'), "{}: {text}", entry.code);
            }
        }
    }

    #[test]
    fn a_value_is_never_taken_for_a_template() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "2")]), "{b} and 2");
        assert_eq!(fill("open { and {x}", &[]), "open { and {x}");
    }
}
