//! One line of a log, before it is laid out.

use std::time::Duration;

use config::types::LogLevel;
use jiff::Timestamp;
use model::JobName;

/// One line of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// How important.
    pub level: LogLevel,
    /// Whose.
    pub job: Option<JobName>,
    /// Which part of the program, as zrepl calls it.
    pub subsystem: Option<&'static str>,
    /// Where in the job's work: what runs, from the outside in.
    pub span: Option<String>,
    /// What happened.
    pub message: String,
    /// Details, in order.
    pub fields: Vec<(&'static str, Value)>,
    /// Some of the details once more, under names that programs look for. Layouts for people leave them out.
    pub also: Vec<(&'static str, Value)>,
}

impl Entry {
    /// A line about the log itself, which needs a person.
    pub(super) fn of_the_log(at: Timestamp, message: String) -> Entry {
        Entry {
            at,
            level: LogLevel::Error,
            job: None,
            subsystem: Some("meta"),
            span: None,
            message,
            fields: Vec::new(),
            also: Vec::new(),
        }
    }
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A count.
    Number(u64),
    /// A time span, shown in seconds.
    Seconds(Duration),
    /// Whether something is so.
    Truth(bool),
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Value {
        Value::Seconds(duration)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Truth(truth)
    }
}

/// What a line says of its event by itself.
pub(super) struct Line {
    pub(super) subsystem: Option<&'static str>,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
    pub(super) also: Vec<(&'static str, Value)>,
}

/// A line of this part of the program.
pub(super) fn line(subsystem: &'static str, message: impl Into<String>) -> Line {
    Line { subsystem: Some(subsystem), message: message.into(), fields: Vec::new(), also: Vec::new() }
}

impl Line {
    pub(super) fn with(mut self, field: &'static str, value: impl Into<Value>) -> Line {
        self.fields.push((field, value.into()));
        self
    }

    pub(super) fn maybe(self, field: &'static str, value: Option<impl Into<Value>>) -> Line {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    /// A detail for programs.
    pub(super) fn also(mut self, field: &'static str, value: impl Into<Value>) -> Line {
        self.also.push((field, value.into()));
        self
    }

    /// A detail for programs, if there is one.
    pub(super) fn also_maybe(self, field: &'static str, value: Option<impl Into<Value>>) -> Line {
        match value {
            Some(value) => self.also(field, value),
            None => self,
        }
    }
}
