//! The table as a picture: one cell a pair, left half strangers, right half contacts.

use std::fmt::Write as _;

use tandem_api::CallPath;

use super::show::has_sound;
use super::{Kind, Outcome, Pair, Relation, Report};

const CELL_WIDTH: usize = 112;
const CELL_HEIGHT: usize = 52;
const LEFT: usize = 150;
const TOP: usize = 110;
const BELOW: usize = 70;
/// Told apart by people who do not see red and green alike.
const DIRECT: &str = "#0072b2";
const RELAYED: &str = "#e69f00";
const WRONG: &str = "#b31942";
const ABSENT: &str = "#e6e6e6";

/// SVG of the 64 pairs.
pub fn picture(report: &Report) -> String {
    let (width, height) = (LEFT + 8 * CELL_WIDTH + 20, TOP + 8 * CELL_HEIGHT + BELOW);
    let mut svg = String::new();
    let wrote = draw(&mut svg, report, width, height);
    wrote.expect("invariant: writing to a string does not fail");
    svg
}

fn draw(svg: &mut String, report: &Report, width: usize, height: usize) -> std::fmt::Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
    )?;
    writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>")?;
    let sound = report.outcomes.iter().filter(|outcome| has_sound(outcome)).count();
    let held = report.outcomes.iter().filter(|outcome| outcome.held()).count();
    writeln!(
        svg,
        "<text x=\"16\" y=\"30\" font-size=\"20\">Who reaches whom: {sound} of {} calls with sound, {held} as the \
         table says</text>",
        report.outcomes.len()
    )?;
    writeln!(
        svg,
        "<text x=\"16\" y=\"54\" fill=\"#555\">Rows call columns. Left half of a cell: strangers; right half: contacts.</text>"
    )?;
    for (at, kind) in Kind::TABLE.iter().enumerate() {
        let x = LEFT + at * CELL_WIDTH + CELL_WIDTH / 2;
        let y = TOP + at * CELL_HEIGHT + CELL_HEIGHT / 2 + 4;
        writeln!(svg, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>", TOP - 10, kind.words())?;
        writeln!(svg, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>", LEFT - 10, kind.words())?;
    }
    for (row, caller) in Kind::TABLE.iter().enumerate() {
        for (column, callee) in Kind::TABLE.iter().enumerate() {
            let at = (LEFT + column * CELL_WIDTH, TOP + row * CELL_HEIGHT);
            for (half, relation) in [Relation::Strangers, Relation::Contacts].into_iter().enumerate() {
                let of = |outcome: &&Outcome| {
                    outcome.of == Pair::Kinds(*caller, *callee) && outcome.relation == relation
                };
                draw_half(svg, (at.0 + half * CELL_WIDTH / 2, at.1), report.outcomes.iter().find(of))?;
            }
        }
    }
    legend(svg, TOP + 8 * CELL_HEIGHT + 28)?;
    writeln!(svg, "</svg>")
}

fn draw_half(svg: &mut String, at: (usize, usize), outcome: Option<&Outcome>) -> std::fmt::Result {
    let (x, y) = at;
    let (width, height) = (CELL_WIDTH / 2, CELL_HEIGHT);
    let (fill, word) = match outcome.map(|outcome| (outcome.path, outcome.held())) {
        None => (ABSENT, ""),
        Some((Some(CallPath::Direct), true)) => (DIRECT, "direct"),
        Some((Some(CallPath::Relayed), true)) => (RELAYED, "relay"),
        Some((Some(CallPath::Direct), false)) => (WRONG, "direct ✗"),
        Some((Some(CallPath::Relayed), false)) => (WRONG, "relay ✗"),
        Some((None, _)) => (WRONG, "silent ✗"),
    };
    writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\" stroke=\"white\" \
         stroke-width=\"2\"/>"
    )?;
    let (x, y) = (x + width / 2, y + height / 2 + 4);
    let ink = if fill == RELAYED || fill == ABSENT { "black" } else { "white" };
    writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{ink}\">{word}</text>")
}

fn legend(svg: &mut String, y: usize) -> std::fmt::Result {
    let entries = [
        (DIRECT, "direct, as expected"),
        (RELAYED, "through a relay, as expected"),
        (WRONG, "not as expected"),
    ];
    for (at, (colour, words)) in entries.into_iter().enumerate() {
        let x = LEFT + at * 240;
        writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"16\" height=\"16\" fill=\"{colour}\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"{}\">{words}</text>", x + 24, y + 13)?;
    }
    Ok(())
}
