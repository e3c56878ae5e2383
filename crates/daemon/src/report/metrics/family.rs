//! Metrics as values: families of series, and their text for Prometheus (format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What a family is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Any value.
    Gauge,
    /// Durations, counted by these upper bounds in seconds.
    Histogram(&'static [f64]),
}

/// A family without its series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    /// The metric's name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

/// The label value of everything for which a family has no room any longer.
pub(super) const OTHER: &str = "_other";

/// The series of one metric.
#[derive(Debug)]
pub(super) struct Family {
    descriptor: Descriptor,
    series: BTreeMap<Box<[Box<str>]>, Value>,
    room: usize,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Durations(Durations),
}

/// A histogram.
#[derive(Debug)]
struct Durations {
    /// Per bucket, not cumulated; the last one is for what is above all bounds.
    counts: Box<[u64]>,
    seconds: f64,
}

impl Family {
    /// A family with at most `room` series; what comes later is counted as [`OTHER`].
    pub(super) fn new(descriptor: Descriptor, room: usize) -> Family {
        Family { descriptor, series: BTreeMap::new(), room }
    }

    fn value(&mut self, labels: &[&str]) -> &mut Value {
        debug_assert_eq!(labels.len(), self.descriptor.labels.len(), "{}", self.descriptor.name);
        let mut key: Box<[Box<str>]> = labels.iter().map(|label| Box::from(*label)).collect();
        if self.series.len() >= self.room && !self.series.contains_key(&key) {
            // What names a job is kept: its values are few.
            let unnamed = self.descriptor.labels.iter().zip(&mut key).filter(|(name, _)| **name == "filesystem");
            unnamed.for_each(|(_, value)| *value = Box::from(OTHER));
        }
        let kind = self.descriptor.kind;
        self.series.entry(key).or_insert_with(|| match kind {
            Kind::Counter | Kind::Gauge => Value::Number(0.0),
            Kind::Histogram(bounds) => {
                Value::Durations(Durations { counts: vec![0; bounds.len() + 1].into(), seconds: 0.0 })
            }
        })
    }

    /// Makes a series exist, as zero if it is new.
    pub(super) fn touch(&mut self, labels: &[&str]) {
        self.value(labels);
    }

    pub(super) fn add(&mut self, labels: &[&str], more: f64) {
        if let Value::Number(number) = self.value(labels) {
            *number += more;
        }
    }

    pub(super) fn set(&mut self, labels: &[&str], to: f64) {
        if let Value::Number(number) = self.value(labels) {
            *number = to;
        }
    }

    pub(super) fn observe(&mut self, labels: &[&str], took: Duration) {
        let Kind::Histogram(bounds) = self.descriptor.kind else { return };
        let seconds = took.as_secs_f64();
        if let Value::Durations(durations) = self.value(labels) {
            let bucket = bounds.partition_point(|bound| *bound < seconds);
            durations.counts.iter_mut().skip(bucket).take(1).for_each(|count| *count += 1);
            durations.seconds += seconds;
        }
    }

    /// Forgets the series with this value of a label.
    pub(super) fn forget(&mut self, label: &str, value: &str) {
        let Some(at) = self.descriptor.labels.iter().position(|name| *name == label) else { return };
        self.series.retain(|labels, _| labels.get(at).is_none_or(|one| &**one != value));
    }

    /// Forgets the series whose labels begin with these, if all of them are zero.
    pub(super) fn forget_zeros(&mut self, first: &[&str]) {
        let are_first = |labels: &[Box<str>]| labels.iter().zip(first).all(|(label, first)| **label == **first);
        let is_zero = |value: &Value| matches!(value, Value::Number(number) if *number == 0.0);
        if self.series.iter().all(|(labels, value)| is_zero(value) || !are_first(labels)) {
            self.series.retain(|labels, _| !are_first(labels));
        }
    }

    /// Appends the family; nothing if it has no series.
    pub(super) fn write(&self, text: &mut String) {
        if self.series.is_empty() {
            return;
        }
        header(text, &self.descriptor);
        for (labels, value) in &self.series {
            let pairs: Vec<(&str, &str)> =
                self.descriptor.labels.iter().copied().zip(labels.iter().map(|value| &**value)).collect();
            match value {
                Value::Number(number) => sample(text, self.descriptor.name, "", &pairs, *number),
                Value::Durations(durations) => durations.write(text, &self.descriptor, pairs),
            }
        }
    }
}

impl Durations {
    fn write<'a>(&self, text: &mut String, descriptor: &Descriptor, labels: Vec<(&'a str, &'a str)>) {
        let Kind::Histogram(bounds) = descriptor.kind else { return };
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0_u64;
        for (bound, count) in bounds.zip(&self.counts) {
            total += count;
            let bound = number(bound);
            let mut labels = labels.clone();
            labels.push(("le", &bound));
            sample(text, descriptor.name, "_bucket", &labels, total as f64);
        }
        sample(text, descriptor.name, "_sum", &labels, self.seconds);
        sample(text, descriptor.name, "_count", &labels, total as f64);
    }
}

/// Appends a family that has one series without labels.
pub(super) fn single(text: &mut String, name: &'static str, kind: Kind, help: &'static str, value: f64) {
    header(text, &Descriptor { name, kind, help, labels: &[] });
    sample(text, name, "", &[], value);
}

/// Appends a family whose values are kept elsewhere, with the labels that the descriptor names; nothing if
/// there are none.
pub(super) fn samples<'a, const N: usize>(
    text: &mut String,
    descriptor: &Descriptor,
    values: impl Iterator<Item = ([&'a str; N], f64)>,
) {
    let mut values = values.peekable();
    if values.peek().is_some() {
        header(text, descriptor);
    }
    for (labels, value) in values {
        let pairs: Vec<(&str, &str)> = descriptor.labels.iter().copied().zip(labels).collect();
        sample(text, descriptor.name, "", &pairs, value);
    }
}

/// Appends a summary of values of which only the sum and the number are known.
pub(super) fn summary(text: &mut String, name: &str, help: &str, sum: f64, count: u64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} summary");
    sample(text, name, "_sum", &[], sum);
    sample(text, name, "_count", &[], count as f64);
}

/// Writing to a string does not fail.
fn header(text: &mut String, descriptor: &Descriptor) {
    let Descriptor { name, kind, help, .. } = descriptor;
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
    let _ = write!(text, "{name}{suffix}");
    for (index, (label, value)) in labels.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        let _ = write!(text, "{before}{label}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {}", number(value));
}

fn number(value: f64) -> String {
    match value {
        _ if value == f64::INFINITY => "+Inf".to_owned(),
        _ if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Descriptor = Descriptor {
        name: "t_seconds",
        kind: Kind::Histogram(&[0.5, 2.0]),
        help: "How long\nit \\ took.",
        labels: &["filesystem"],
    };

    #[test]
    fn a_family_is_written_as_prometheus_reads_it() {
        let mut family = Family::new(TIMES, 2);
        for seconds in [0.5, 1.0, 9.0] {
            family.observe(&["p/\"a\"\\\n"], Duration::from_secs_f64(seconds));
        }
        let mut text = String::new();
        family.write(&mut text);
        let labels = r#"filesystem="p/\"a\"\\\n""#;
        let expected = format!(
            "# HELP t_seconds How long\\nit \\\\ took.\n# TYPE t_seconds histogram\n\
             t_seconds_bucket{{{labels},le=\"0.5\"}} 1\n\
             t_seconds_bucket{{{labels},le=\"2\"}} 2\n\
             t_seconds_bucket{{{labels},le=\"+Inf\"}} 3\n\
             t_seconds_sum{{{labels}}} 10.5\n\
             t_seconds_count{{{labels}}} 3\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_has_no_room_is_counted_together() {
        let descriptor = Descriptor { kind: Kind::Counter, ..TIMES };
        let mut family = Family::new(descriptor, 2);
        for name in ["a", "b", "c", "d", "a"] {
            family.add(&[name], 1.0);
        }
        let mut text = String::new();
        family.write(&mut text);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [r#"t_seconds{filesystem="_other"} 2"#, r#"t_seconds{filesystem="a"} 2"#, r#"t_seconds{filesystem="b"} 1"#]
        );
        family.forget("filesystem", "a");
        text.clear();
        family.write(&mut text);
        assert!(!text.contains("\"a\""), "{text}");
    }
}
