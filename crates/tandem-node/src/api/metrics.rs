//! The Prometheus text format (prometheus.io, "Exposition formats", text format 0.0.4).

use std::fmt::Write;

use tandem_api::{Metric, MetricKind, Metrics};

/// Renders a snapshot. Samples of one name stand together.
pub(super) fn render(metrics: &Metrics) -> String {
    let mut text = String::new();
    let mut last = "";
    for metric in &metrics.metrics {
        if metric.name != last {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
            line(&mut text, format_args!("# HELP {} {help}", metric.name));
            line(&mut text, format_args!("# TYPE {} {kind}", metric.name));
            last = &metric.name;
        }
        line(&mut text, format_args!("{}{} {}", metric.name, labels(metric), metric.value));
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("invariant: writing to a string does not fail");
}

fn labels(metric: &Metric) -> String {
    if metric.labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        metric.labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_share_their_header() {
        let mut metrics = Metrics::default();
        metrics.push_labelled(MetricKind::Gauge, "tandem_homes", "Homes.", &[("state", "a\"b\\")], 2.0);
        metrics.push_labelled(MetricKind::Gauge, "tandem_homes", "Homes.", &[("state", "lost")], 1.0);
        metrics.push(MetricKind::Counter, "tandem_calls_total", "Calls\nall.", 7.0);
        let expected = "# HELP tandem_homes Homes.\n# TYPE tandem_homes gauge\n\
            tandem_homes{state=\"a\\\"b\\\\\"} 2\ntandem_homes{state=\"lost\"} 1\n\
            # HELP tandem_calls_total Calls\\nall.\n# TYPE tandem_calls_total counter\ntandem_calls_total 7\n";
        assert_eq!(render(&metrics), expected);
    }
}
