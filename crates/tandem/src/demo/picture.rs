//! The picture of a call: sound as sent and as heard, the packets of each path, the moment of the kill.

use plotters::coord::Shift;
use plotters::prelude::*;
use tandem_api::CallReport;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 230;
const TITLE_HEIGHT: u32 = 44;
const SENT: RGBColor = RGBColor(120, 144, 178);
const HEARD: RGBColor = RGBColor(214, 96, 38);
const KILL: RGBColor = RGBColor(190, 30, 45);
/// One colour a path, told apart by people who do not see red and green alike.
const PATHS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(110, 110, 110),
];
const FLOOR_DBFS: f32 = -70.0;

/// What the picture shows.
#[derive(Debug)]
pub(crate) struct CallPicture<'a> {
    pub(crate) title: String,
    pub(crate) alice: &'a CallReport,
    pub(crate) bob: &'a CallReport,
    /// What each path is called, by the relay's peer id.
    pub(crate) names: &'a [(String, String)],
    /// When the relay was killed, and what to write beside the line.
    pub(crate) kill: Option<(u64, String)>,
}

type DrawError = DrawingAreaErrorKind<std::io::Error>;
type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl CallPicture<'_> {
    /// The picture as SVG text.
    ///
    /// # Errors
    /// When a panel cannot be drawn, in words.
    pub(crate) fn svg(&self) -> Result<String, String> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|error| format!("the picture could not be drawn: {error}"))?;
        Ok(text)
    }

    fn draw(&self, text: &mut String) -> Result<(), DrawError> {
        let area =
            SVGBackend::with_string(text, (WIDTH, TITLE_HEIGHT + 4 * PANEL_HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let (head, body) = area.split_vertically(TITLE_HEIGHT);
        head.draw_text(&self.title, &("sans-serif", 20).into_text_style(&head), (16, 12))?;
        let panels = body.split_evenly((4, 1));
        self.draw_sound(&panels[0], "Alice speaks, Bob hears (dBFS)", self.alice, self.bob)?;
        self.draw_packets(&panels[1], "Packets Bob received, each path (a second)", self.bob)?;
        self.draw_sound(&panels[2], "Bob speaks, Alice hears (dBFS)", self.bob, self.alice)?;
        self.draw_packets(&panels[3], "Packets Alice received, each path (a second)", self.alice)?;
        area.present()
    }

    /// The same path has the same colour on both sides.
    fn colour_of(&self, path: &str) -> RGBColor {
        let order = self.bob.paths.iter().chain(&self.alice.paths).map(|known| known.path.as_str());
        let mut seen: Vec<&str> = Vec::new();
        for known in order {
            if !seen.contains(&known) {
                seen.push(known);
            }
        }
        let at = seen.iter().position(|known| *known == path).unwrap_or(0);
        PATHS[at % PATHS.len()]
    }

    fn name_of(&self, path: &str) -> String {
        let named = self.names.iter().find(|(id, _)| id == path);
        named.map_or_else(|| path.to_owned(), |(_, name)| format!("through {name}"))
    }

    fn begin_ms(&self) -> u64 {
        self.alice.begin_unix_ms.min(self.bob.begin_unix_ms)
    }

    fn seconds(&self, unix_ms: u64) -> f64 {
        unix_ms.saturating_sub(self.begin_ms()) as f64 / 1000.0
    }

    fn length_s(&self) -> f64 {
        let end = |report: &CallReport| {
            self.seconds(report.begin_unix_ms)
                + (report.heard_dbfs.len() as f64) * report.step_ms as f64 / 1000.0
        };
        end(self.alice).max(end(self.bob)).max(1.0)
    }

    fn draw_sound(
        &self,
        panel: &Panel<'_>,
        name: &str,
        from: &CallReport,
        to: &CallReport,
    ) -> Result<(), DrawError> {
        let mut chart = ChartBuilder::on(panel)
            .caption(name, ("sans-serif", 15))
            .margin_right(18)
            .x_label_area_size(24)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..self.length_s(), FLOOR_DBFS..0.0f32)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc("seconds").y_labels(5).draw()?;
        let sent = self.points(from, &from.sent_dbfs, |v| v.max(FLOOR_DBFS));
        chart
            .draw_series(AreaSeries::new(sent, FLOOR_DBFS, SENT.mix(0.45)))?
            .label("as sent")
            .legend(|(x, y)| Rectangle::new([(x, y - 4), (x + 18, y + 4)], SENT.mix(0.45).filled()));
        let heard = self.points(to, &to.heard_dbfs, |v| v.max(FLOOR_DBFS));
        chart
            .draw_series(LineSeries::new(heard, HEARD.stroke_width(1)))?
            .label("as heard")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], HEARD.stroke_width(2)));
        if let Some((at, label)) = &self.kill {
            let x = self.seconds(*at);
            chart.draw_series([PathElement::new([(x, FLOOR_DBFS), (x, 0.0)], KILL.stroke_width(2))])?;
            chart.draw_series([Text::new(
                label.clone(),
                (x + 0.15, -3.0),
                ("sans-serif", 13).into_font().color(&KILL),
            )])?;
        }
        chart.configure_series_labels().border_style(BLACK.mix(0.2)).background_style(WHITE.mix(0.8)).draw()
    }

    fn draw_packets(&self, panel: &Panel<'_>, name: &str, report: &CallReport) -> Result<(), DrawError> {
        let scale = 1000.0 / report.step_ms.max(1) as f32;
        let top = 1.25 * scale * peak(report).max(1) as f32;
        let mut chart = ChartBuilder::on(panel)
            .caption(name, ("sans-serif", 15))
            .margin_right(18)
            .x_label_area_size(24)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..self.length_s(), 0.0..top)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc("seconds").y_labels(4).draw()?;
        for path in &report.paths {
            let colour = self.colour_of(&path.path);
            let points = self.points(report, &path.received, |v| v as f32 * scale);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(self.name_of(&path.path))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        if let Some((at, _)) = &self.kill {
            let x = self.seconds(*at);
            chart.draw_series([PathElement::new([(x, 0.0), (x, top)], KILL.stroke_width(2))])?;
        }
        chart.configure_series_labels().border_style(BLACK.mix(0.2)).background_style(WHITE.mix(0.8)).draw()
    }

    fn points<T: Copy>(
        &self,
        report: &CallReport,
        series: &[T],
        value: impl Fn(T) -> f32,
    ) -> Vec<(f64, f32)> {
        let begin = self.seconds(report.begin_unix_ms);
        let step = report.step_ms as f64 / 1000.0;
        series.iter().enumerate().map(|(i, v)| (begin + i as f64 * step, value(*v))).collect()
    }
}

fn peak(report: &CallReport) -> u32 {
    report.paths.iter().flat_map(|path| path.received.iter().copied()).max().unwrap_or(0)
}
