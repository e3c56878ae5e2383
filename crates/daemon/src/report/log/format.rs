//! zrepl's three layouts of a log line.

use std::fmt::Write;

use config::types::{LogFormat, LogLevel};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Map, Value as Json};

use super::entry::{Entry, Value};
use crate::limits::LOG_LINE_BYTES;

/// What a line says besides the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Begin with the time.
    pub time: bool,
    /// Say the level.
    pub level: bool,
    /// Colour it for a terminal.
    pub color: bool,
}

/// How lines look.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The layout.
    pub format: LogFormat,
    /// What is shown.
    pub metadata: Metadata,
    /// Whose time is shown.
    pub zone: TimeZone,
}

impl Layout {
    /// An entry as one line, line feed included. Of an entry that is too long the longest texts are
    /// cut before they are laid out, so that what reads lines still can.
    pub fn line(&self, entry: &Entry) -> String {
        let mut line = self.laid_out(entry);
        if line.len() > LOG_LINE_BYTES {
            let mut entry = entry.clone();
            while line.len() > LOG_LINE_BYTES && shorten(&mut entry, line.len() - LOG_LINE_BYTES) {
                line = self.laid_out(&entry);
            }
        }
        line.push('\n');
        line
    }

    fn laid_out(&self, entry: &Entry) -> String {
        match self.format {
            LogFormat::Human => self.human(entry),
            LogFormat::Logfmt => self.logfmt(entry),
            LogFormat::Json => self.json(entry),
        }
    }

    /// `TIME [LEVL][job][subsystem][span]: message key="value"`
    fn human(&self, entry: &Entry) -> String {
        let mut line = String::new();
        if self.metadata.time {
            line += &self.time(entry.at, Fraction::Cut);
            line += " ";
        }
        let color = color_of(entry.level);
        let level = short_name(entry.level);
        let context = [
            Some(level).filter(|_| self.metadata.level),
            entry.job.as_ref().map(|job| job.as_str()),
            entry.subsystem,
            entry.span.as_deref(),
        ];
        for part in context.into_iter().flatten() {
            line += "[";
            self.paint(&mut line, color, part);
            line += "]";
        }
        if !line.is_empty() {
            line += ": ";
        }
        line += &one_line(&entry.message);
        for (name, value) in &entry.fields {
            line += " ";
            self.paint(&mut line, color, name);
            line += "=";
            line += &quoted(&plain(name, value));
        }
        line
    }

    /// `time=… level=… job=… subsystem=… span=… msg="…" key=value`
    fn logfmt(&self, entry: &Entry) -> String {
        let time = self.metadata.time.then(|| self.time(entry.at, Fraction::Kept));
        let head = [
            ("time", time),
            ("level", self.metadata.level.then(|| name(entry.level).to_owned())),
            ("job", entry.job.as_ref().map(ToString::to_string)),
            ("subsystem", entry.subsystem.map(str::to_owned)),
            ("span", entry.span.clone()),
            ("msg", Some(entry.message.clone())),
        ];
        let head = head.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let all = head.chain(entry.fields.iter().chain(&entry.also).map(|(key, value)| (*key, plain(key, value))));
        let pairs: Vec<String> = all.map(|(key, value)| format!("{key}={}", quoted_if_needed(&value))).collect();
        pairs.join(" ")
    }

    /// One object. It has time and level whatever the outlet says, as in zrepl.
    fn json(&self, entry: &Entry) -> String {
        let mut object = Map::new();
        for (key, value) in entry.fields.iter().chain(&entry.also) {
            object.insert((*key).to_owned(), json_value(value));
        }
        let mut set = |key: &str, text: String| object.insert(key.to_owned(), Json::String(text));
        set("time", self.time(entry.at, Fraction::Cut));
        set("level", name(entry.level).to_owned());
        set("msg", entry.message.clone());
        if let Some(job) = &entry.job {
            set("job", job.to_string());
        }
        if let Some(subsystem) = entry.subsystem {
            set("subsystem", subsystem.to_owned());
        }
        if let Some(span) = &entry.span {
            set("span", span.clone());
        }
        Json::Object(object).to_string()
    }

    fn paint(&self, line: &mut String, color: u8, text: &str) {
        // Writing to a string does not fail.
        let _ = match self.metadata.color {
            true => write!(line, "\x1b[{color}m{text}\x1b[0m"),
            false => write!(line, "{text}"),
        };
    }

    /// RFC 3339 with the zone's offset.
    fn time(&self, at: Timestamp, fraction: Fraction) -> String {
        let at = match fraction {
            Fraction::Kept => at,
            Fraction::Cut => Timestamp::from_second(at.as_second()).unwrap_or(at),
        };
        match self.zone.to_offset(at) {
            Offset::UTC => at.to_string(),
            offset => at.display_with_offset(offset).to_string(),
        }
    }
}

/// Cuts `excess` bytes off the longest text of an entry, at most about half of it, since layouts make
/// some characters longer than they are; whether there was something to cut.
fn shorten(entry: &mut Entry, excess: usize) -> bool {
    const MARK: &str = "…";
    let fields = entry.fields.iter_mut().chain(&mut entry.also).filter_map(|(_, value)| match value {
        Value::Text(text) => Some(text),
        Value::Number(_) | Value::Seconds(_) | Value::Truth(_) => None,
    });
    let longest = std::iter::once(&mut entry.message).chain(fields).max_by_key(|text| text.len());
    let Some(text) = longest.filter(|text| text.len() > MARK.len()) else { return false };
    let end = text.len().saturating_sub(excess + MARK.len()).max(text.len() / 2).min(text.len() - MARK.len() - 1);
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text.push_str(MARK);
    true
}

#[derive(Clone, Copy)]
enum Fraction {
    Kept,
    Cut,
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn short_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "DEBG",
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERRO",
    }
}

/// Bright blue, green, yellow, red.
fn color_of(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 94,
        LogLevel::Info => 92,
        LogLevel::Warn => 93,
        LogLevel::Error => 91,
    }
}

pub(super) fn plain(name: &str, value: &Value) -> String {
    match value {
        // The name says the unit: zrepl's tools read a number.
        Value::Seconds(duration) if name.ends_with("_s") => format!("{:.6}", duration.as_secs_f64()),
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
        Value::Seconds(duration) => format!("{:.3}s", duration.as_secs_f64()),
    }
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Text(text) => Json::String(text.clone()),
        Value::Number(number) => Json::from(*number),
        Value::Truth(truth) => Json::from(*truth),
        Value::Seconds(duration) => Json::from(duration.as_secs_f64()),
    }
}

/// A message may carry a peer's words: nothing in it begins a line of its own or moves a cursor.
pub(super) fn one_line(text: &str) -> String {
    match text.contains(char::is_control) {
        false => text.to_owned(),
        true => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        }
    }
}

fn quoted(text: &str) -> String {
    Json::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}

fn quoted_if_needed(text: &str) -> String {
    let needed = text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"=\\".contains(c));
    if needed { quoted(text) } else { text.to_owned() }
}
