use serde::{Deserialize, Serialize};

/// A snapshot of the node's figures, rendered at `/metrics` as Prometheus text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub metrics: Vec<Metric>,
}

/// One sample. Samples of one name stand together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// With the unit last, for example `tandem_relay_bytes_total`.
    pub name: String,
    pub help: String,
    pub kind: MetricKind,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    Counter,
    Gauge,
}

impl Metrics {
    /// Adds a figure without labels.
    pub fn push(&mut self, kind: MetricKind, name: &str, help: &str, value: f64) {
        self.push_labelled(kind, name, help, &[], value);
    }

    /// Adds a figure with labels.
    pub fn push_labelled(
        &mut self,
        kind: MetricKind,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.metrics.push(Metric { name: name.to_owned(), help: help.to_owned(), kind, labels, value });
    }
}
