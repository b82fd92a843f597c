//! Figures, what they should be, and the table they are shown in.

use serde_json::{Value, json};

use crate::output;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    /// The median is at most this.
    MedianAtMost(f64),
    /// Not one value is above this.
    AllAtMost(f64),
    /// The median is at least this.
    MedianAtLeast(f64),
    /// Not one value is below this.
    AllAtLeast(f64),
}

impl Target {
    fn held(self, values: &[f64]) -> bool {
        let Some(spread) = Spread::of(values) else { return false };
        match self {
            Self::MedianAtMost(limit) => spread.median <= limit,
            Self::AllAtMost(limit) => spread.max <= limit,
            Self::MedianAtLeast(limit) => spread.median >= limit,
            Self::AllAtLeast(limit) => spread.min >= limit,
        }
    }

    fn words(self) -> String {
        match self {
            Self::MedianAtMost(limit) => format!("median ≤ {}", number(limit)),
            Self::AllAtMost(limit) => format!("every ≤ {}", number(limit)),
            Self::MedianAtLeast(limit) => format!("median ≥ {}", number(limit)),
            Self::AllAtLeast(limit) => format!("every ≥ {}", number(limit)),
        }
    }
}

/// Median and extremes of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Nothing for no values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }

    fn words(self) -> String {
        if self.min == self.max {
            return number(self.median);
        }
        format!("{} ({}–{})", number(self.median), number(self.min), number(self.max))
    }
}

/// One figure of one case, with one value a round.
#[derive(Debug, Clone)]
pub(super) struct Row {
    case: String,
    figure: String,
    values: Vec<f64>,
    control: Vec<f64>,
    target: Option<Target>,
}

impl Row {
    pub(super) fn new(case: impl Into<String>, figure: impl Into<String>, values: Vec<f64>) -> Self {
        Self { case: case.into(), figure: figure.into(), values, control: Vec::new(), target: None }
    }

    /// What the unharmed control of the same run had.
    pub(super) fn beside(mut self, control: Vec<f64>) -> Self {
        self.control = control;
        self
    }

    pub(super) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Case and figure.
    pub(super) fn title(&self) -> String {
        format!("{}: {}", self.case, self.figure)
    }

    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    fn held(&self) -> Option<bool> {
        self.target.map(|target| target.held(&self.values))
    }

    fn cells(&self) -> [String; 6] {
        let spread = |values: &[f64]| Spread::of(values).map_or_else(|| "–".to_owned(), Spread::words);
        [
            self.case.clone(),
            self.figure.clone(),
            spread(&self.values),
            spread(&self.control),
            self.target.map_or_else(|| "–".to_owned(), Target::words),
            match self.held() {
                None => "–",
                Some(true) => "held",
                Some(false) => "NOT HELD",
            }
            .to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let spread = Spread::of(&self.values);
        json!({
            "case": self.case,
            "figure": self.figure,
            "values": self.values,
            "median": spread.map(|spread| spread.median),
            "min": spread.map(|spread| spread.min),
            "max": spread.map(|spread| spread.max),
            "control": self.control,
            "control_median": Spread::of(&self.control).map(|spread| spread.median),
            "target": self.target.map(Target::words),
            "held": self.held(),
        })
    }
}

/// All that one bench found.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    /// What a reader of the table should know.
    pub(super) notes: Vec<String>,
    /// Every single run, for programs.
    pub(super) runs: Vec<Value>,
}

impl Report {
    /// Did every figure with a target reach it?
    pub(super) fn held(&self) -> bool {
        self.rows.iter().all(|row| row.held() != Some(false))
    }

    pub(super) fn print(&self, what: &str, as_json: bool) {
        if as_json {
            let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
            output::json(&json!({
                "bench": what, "held": self.held(), "rows": rows, "notes": self.notes, "runs": self.runs,
            }));
            return;
        }
        let rows: Vec<[String; 6]> = self.rows.iter().map(Row::cells).collect();
        let head = ["case", "figure", "median (min–max)", "control", "target", ""];
        output::line(format!("\n{}", output::table(head, &rows)));
        for note in &self.notes {
            output::line(note);
        }
    }
}

/// As many digits as help a reader.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        return format!("{value:.0}");
    }
    if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]).map(|spread| spread.median), Some(2.5));
    }

    #[test]
    fn a_target_without_a_value_is_not_held() {
        assert!(!Target::MedianAtMost(1.0).held(&[]));
        assert!(Target::MedianAtMost(2.0).held(&[1.0, 2.0, 9.0]));
        assert!(!Target::AllAtMost(2.0).held(&[1.0, 2.0, 9.0]));
        assert!(Target::MedianAtLeast(4.0).held(&[3.0, 4.0, 4.1]));
        assert!(!Target::AllAtLeast(4.0).held(&[3.0, 4.0, 4.1]));
    }

    #[test]
    fn a_row_without_a_target_is_neither_held_nor_not() {
        let mut report = Report::default();
        report.rows.push(Row::new("a", "ms", vec![1.0]));
        assert!(report.held());
        report.rows.push(Row::new("a", "lost", vec![0.0, 1.0]).target(Target::AllAtMost(0.0)));
        assert!(!report.held());
        assert_eq!(report.rows[1].cells()[2], "0.50 (0–1)");
    }
}
