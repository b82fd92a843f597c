//! What goes to standard output and standard error, and the exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use tandem_api::{Failure, Problem};
use tandem_node::messages::Code;

/// How a command ended; the numbers are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    NotRunning,
    NoSound,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::NotRunning => 3,
            Exit::NoSound => 4,
        })
    }
}

/// The exit status for a problem.
pub(crate) fn exit_of(problem: &Problem) -> Exit {
    if problem.code == Code::NotRunning.entry().code { Exit::NotRunning } else { Exit::Failed }
}

/// One line to standard output. Nobody reading any more is no failure.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::warn!(%error, "standard output cannot be written");
    }
}

/// One JSON value on one line.
pub(crate) fn json(value: &impl Serialize) {
    line(serde_json::to_string(value).expect("invariant: plain data is written as JSON"));
}

/// JSON or text, as asked.
pub(crate) fn either<T: Serialize>(as_json: bool, value: &T, text: impl FnOnce(&T) -> String) {
    if as_json {
        json(value);
    } else {
        line(text(value).trim_end());
    }
}

/// A problem: for a person on standard error, for a program as JSON on standard output.
pub(crate) fn problem(problem: &Problem, as_json: bool) {
    if as_json {
        json(&Failure { error: problem.clone() });
        return;
    }
    eprintln!("{} [{}]\n{}\n{}", problem.message, problem.code, problem.meaning, problem.action);
}

/// Rows with columns of even width; the last column is left as it is.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in std::iter::once(&head.map(str::to_owned)).chain(rows) {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                let padding = widths[column] + 2 - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

/// Widest line of texts for people.
pub(crate) const COLUMNS: usize = 80;

/// Lines longer than this are hard to read, however wide the terminal is.
const COLUMNS_MAX: usize = 120;

/// The width to fill: that of the terminal within bounds, [`COLUMNS`] where there is none.
pub(crate) fn columns() -> usize {
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    width.unwrap_or(COLUMNS).clamp(COLUMNS, COLUMNS_MAX)
}

/// A text in lines of at most [`COLUMNS`], the first begun with `first`, the others with as many spaces.
pub(crate) fn wrapped(first: &str, text: &str) -> String {
    wrapped_to(COLUMNS, first, text)
}

/// The same in lines of at most so many columns.
pub(crate) fn wrapped_to(columns: usize, first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let mut lines = first.to_owned();
    let mut column = indent;
    for (index, word) in text.split_whitespace().enumerate() {
        let letters = word.chars().count();
        if index > 0 && column + 1 + letters > columns {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += letters;
    }
    lines.push('\n');
    lines
}

/// Bytes for a person.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// How long ago, for a person.
pub(crate) fn ago(unix_ms: u64, now_unix_ms: u64) -> String {
    let seconds = now_unix_ms.saturating_sub(unix_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped() {
        assert_eq!(wrapped("  - ", "short"), "  - short\n");
        let text = "word ".repeat(40);
        for line in wrapped("  - ", &text).lines() {
            assert!(line.chars().count() <= COLUMNS && line.starts_with("  "), "{line:?}");
        }
        let long = "x".repeat(100);
        assert_eq!(wrapped("- ", &format!("a {long} b")), format!("- a\n  {long}\n  b\n"));
    }

    #[test]
    fn figures_for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(ago(0, 59_000), "59 s");
        assert_eq!(ago(5, 0), "0 s");
        assert_eq!(ago(0, 7_200_000), "2 h");
        assert_eq!(table(["a", "b"], &[["long".into(), "x".into()]]), "a     b\nlong  x\n");
    }
}
