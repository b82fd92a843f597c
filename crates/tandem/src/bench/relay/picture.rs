//! The figures as bars: CPU for each packet, paced and saturated. SVG, written by hand: a dozen rectangles.

use std::fmt::Write;

use super::super::figures::Report;
use super::bars;

const WIDTH: u32 = 760;
const LABELS: u32 = 190;
const ROW: u32 = 46;
const TOP: u32 = 64;
/// Room for the number behind the longest bar.
const NUMBERS: u32 = 70;
const PACED: &str = "#2b6cb0";
const SATURATED: &str = "#a0c4e8";

pub(super) fn draw(report: &Report) -> String {
    let bars = bars(report);
    let most = bars.iter().flat_map(|&(_, paced, saturated)| [paced, saturated]).fold(0.1, f64::max);
    let height = TOP + ROW * u32::try_from(bars.len()).unwrap_or(0) + 16;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">CPU of the server for each packet it delivers, µs</text>\n"
    );
    legend(&mut svg, LABELS, PACED, "paced: 200 calls, 20,000 packets/s");
    legend(&mut svg, LABELS + 270, SATURATED, "saturated");
    for (at, (name, paced, saturated)) in (0_u32..).zip(bars) {
        let y = TOP + at * ROW;
        line(&mut svg, &format!("<text x=\"12\" y=\"{}\" font-size=\"13\">{name}</text>", y + 20));
        bar(&mut svg, y, PACED, paced, most);
        bar(&mut svg, y + 17, SATURATED, saturated, most);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, x: u32, colour: &str, text: &str) {
    line(svg, &format!("<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"));
    line(svg, &format!("<text x=\"{}\" y=\"48\" font-size=\"12\">{text}</text>", x + 18));
}

fn bar(svg: &mut String, y: u32, colour: &str, value: f64, most: f64) {
    let length = f64::from(WIDTH - LABELS - NUMBERS) * value / most;
    line(
        svg,
        &format!(
            "<rect class=\"bar\" x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"15\" fill=\"{colour}\"/>"
        ),
    );
    let x = f64::from(LABELS) + length + 6.0;
    line(svg, &format!("<text x=\"{x:.1}\" y=\"{}\" font-size=\"12\">{value:.2}</text>", y + 12));
}

fn line(svg: &mut String, text: &str) {
    // Writing to a string cannot fail.
    writeln!(svg, "{text}").unwrap_or_default();
}
