//! The text that Prometheus scrapes.

use std::fmt::Write as _;

use super::{
    Family, FamilyKind,
    family::{Labels, Value},
};

/// The content type of [`text`]: Prometheus' text format 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `families` in Prometheus' text format.
///
/// Names follow OpenTelemetry's rules for Prometheus: dots become underscores, units are spelled out at
/// the end (`_seconds`, `_bytes`, `_milliseconds`), and a counter ends in `_total`.
pub fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.is_empty()) {
        write(&mut text, family);
    }
    text
}

fn write(text: &mut String, family: &Family) {
    let name = name(family);
    let kind = match family.kind {
        FamilyKind::Counter => "counter",
        FamilyKind::Gauge => "gauge",
        FamilyKind::Histogram => "histogram",
    };
    text.push_str("# HELP ");
    text.push_str(&name);
    text.push(' ');
    escape(text, family.help, false);
    text.push_str("\n# TYPE ");
    text.push_str(&name);
    text.push(' ');
    text.push_str(kind);
    text.push('\n');
    for (labels, value) in family.points() {
        match value {
            Value::Count(count) => line(text, &name, "", labels, None, &count.to_string()),
            Value::Level(level) => line(text, &name, "", labels, None, &number(*level)),
            Value::Buckets(buckets) => {
                for (bound, count) in buckets.bounds.iter().zip(&buckets.at_most) {
                    let bound = number(*bound);
                    line(
                        text,
                        &name,
                        "_bucket",
                        labels,
                        Some(&bound),
                        &count.to_string(),
                    );
                }
                let count = buckets.count.to_string();
                line(text, &name, "_bucket", labels, Some("+Inf"), &count);
                line(text, &name, "_sum", labels, None, &number(buckets.sum));
                line(text, &name, "_count", labels, None, &count);
            }
        }
    }
}

fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    bound: Option<&str>,
    value: &str,
) {
    text.push_str(name);
    text.push_str(suffix);
    let mut open = '{';
    let mut label = |text: &mut String, name: &str, value: &str| {
        text.push(open);
        open = ',';
        text.extend(name.chars().map(legal));
        text.push_str("=\"");
        escape(text, value, true);
        text.push('"');
    };
    for (name, value) in labels {
        label(text, name, value);
    }
    if let Some(bound) = bound {
        label(text, "le", bound);
    }
    if open == ',' {
        text.push('}');
    }
    text.push(' ');
    text.push_str(value);
    text.push('\n');
}

/// A family's name for Prometheus.
fn name(family: &Family) -> String {
    let mut name: String = family.name.chars().map(legal).collect();
    let unit = match family.unit {
        "s" => "_seconds",
        "ms" => "_milliseconds",
        "By" => "_bytes",
        "1" => "_ratio",
        // A note in braces is no unit.
        _ => "",
    };
    if !name.ends_with(unit) {
        name.push_str(unit);
    }
    if family.kind == FamilyKind::Counter && !name.ends_with("_total") {
        name.push_str("_total");
    }
    name
}

fn legal(letter: char) -> char {
    match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => letter,
        _ => '_',
    }
}

fn number(number: f64) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match number {
        f64::INFINITY => write!(text, "+Inf"),
        f64::NEG_INFINITY => write!(text, "-Inf"),
        number => write!(text, "{number}"),
    };
    text
}

fn escape(text: &mut String, value: &str, quoted: bool) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::{Buckets, Histogram};

    #[test]
    fn a_counter_and_a_gauge() {
        let mut calls = Family::counter("grpc.server.call.started", "{call}", "Calls\nthat began.");
        calls.count(&vec![("grpc.method", "a.B/\"C\\".into())], 3);
        let mut age = Family::gauge("mesh.config.age", "s", "How old it is.");
        age.add(Vec::new(), Value::Level(1.5));
        let empty = Family::counter("nothing", "", "Nothing.");
        assert_eq!(
            text(&[calls, empty, age]),
            "# HELP grpc_server_call_started_total Calls\\nthat began.\n\
             # TYPE grpc_server_call_started_total counter\n\
             grpc_server_call_started_total{grpc_method=\"a.B/\\\"C\\\\\"} 3\n\
             # HELP mesh_config_age_seconds How old it is.\n\
             # TYPE mesh_config_age_seconds gauge\n\
             mesh_config_age_seconds 1.5\n"
        );
    }

    #[test]
    fn a_histogram() {
        let histogram = Histogram::default();
        for millis in [3, 10, 900] {
            histogram.record(Duration::from_millis(millis));
        }
        let buckets = Buckets::of_durations(
            &histogram.snapshot(),
            &[0.005, 0.01],
            Duration::from_secs(1),
        );
        let mut family = Family::histogram("a.duration", "s", "So long.");
        family.add(vec![("x", "y".into())], Value::Buckets(buckets));
        assert_eq!(
            text(&[family]),
            "# HELP a_duration_seconds So long.\n\
             # TYPE a_duration_seconds histogram\n\
             a_duration_seconds_bucket{x=\"y\",le=\"0.005\"} 1\n\
             a_duration_seconds_bucket{x=\"y\",le=\"0.01\"} 2\n\
             a_duration_seconds_bucket{x=\"y\",le=\"+Inf\"} 3\n\
             a_duration_seconds_sum{x=\"y\"} 0.913\n\
             a_duration_seconds_count{x=\"y\"} 3\n"
        );
    }
}
