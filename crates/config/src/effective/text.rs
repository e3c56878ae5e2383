//! A tree of values and how it is written: as YAML that means the same to readers of YAML 1.1 and
//! 1.2, and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use crate::words::Words;

/// A value of a configuration.
#[derive(Debug)]
pub(super) enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Value>),
    /// In the order of printing.
    Map(Vec<(String, Value)>),
}

/// A text.
pub(super) fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

/// Paths were read from text, so that nothing of them is lost.
pub(super) fn path(path: &Path) -> Value {
    text(path.display())
}

/// A choice; empty for what no word stands for.
pub(super) fn word(value: impl Words) -> Value {
    text(value.word().unwrap_or_default())
}

/// A section.
pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
}

/// A list.
pub(super) fn list<T>(items: impl IntoIterator<Item = T>, value: impl FnMut(T) -> Value) -> Value {
    Value::List(items.into_iter().map(value).collect())
}

impl Value {
    /// The section with one more key at its end, if there is a value for it.
    pub(super) fn with(mut self, key: &str, value: Option<Value>) -> Value {
        if let (Value::Map(entries), Some(value)) = (&mut self, value) {
            entries.push((key.to_owned(), value));
        }
        self
    }

    /// Ends with a line feed.
    pub(super) fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self {
            Value::Map(entries) if !entries.is_empty() => yaml_map(&mut out, entries, 0),
            value => yaml_value(&mut out, value, 0),
        }
        out
    }

    /// Without line feeds.
    pub(super) fn to_json(&self) -> String {
        let mut out = String::new();
        json(&mut out, self);
        out
    }
}

const STEP: usize = 2;

/// The lines of a mapping; the first begins where the cursor is.
fn yaml_map(out: &mut String, entries: &[(String, Value)], indent: usize) {
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            pad(out, indent);
        }
        out.push_str(&yaml_scalar(key));
        out.push(':');
        yaml_value(out, value, indent);
    }
}

/// What follows the colon of a key.
fn yaml_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            pad(out, indent + STEP);
            yaml_map(out, entries, indent + STEP);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            items.iter().for_each(|item| yaml_item(out, item, indent + STEP));
        }
        value => {
            out.push(' ');
            yaml_flat(out, value);
            out.push('\n');
        }
    }
}

fn yaml_item(out: &mut String, item: &Value, indent: usize) {
    pad(out, indent);
    out.push_str("- ");
    match item {
        Value::Map(entries) if !entries.is_empty() => yaml_map(out, entries, indent + STEP),
        item => {
            yaml_flat(out, item);
            out.push('\n');
        }
    }
}

/// On the same line; for texts and what is empty. A list within a list does not occur, and is no
/// less right for being written as JSON.
fn yaml_flat(out: &mut String, value: &Value) {
    match value {
        Value::Text(text) => out.push_str(&yaml_scalar(text)),
        value => json(out, value),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Plain where nobody can take it for something else than a text; quoted otherwise.
fn yaml_scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if text.contains(['\\', '"']) && !text.contains(needs_escape) {
        format!("'{}'", text.replace('\'', "''")) // regular expressions stay readable
    } else {
        quoted(text)
    }
}

/// Words that YAML 1.1 takes for a bool, a null or a number, in any case.
const WORDS: [&str; 12] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"];

fn is_plain(text: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-./ ".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "_/".contains(c));
    begins
        && !text.ends_with(' ')
        && text.chars().all(harmless)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && !looks_like_a_number(text)
}

/// Also dates, and numbers of other bases.
fn looks_like_a_number(text: &str) -> bool {
    let digits = text.trim_start_matches('_');
    let based = ["0x", "0X", "0o", "0O", "0b", "0B"].iter().any(|prefix| digits.starts_with(prefix));
    digits.starts_with(|c: char| c.is_ascii_digit())
        && (based || digits.chars().all(|c| c.is_ascii_digit() || "_-.eE".contains(c)))
}

/// In double quotes, with escapes that mean the same in JSON and YAML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Control characters, line ends of Unicode, and what YAML does not count as printable. All of them
/// have four digits.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn json(out: &mut String, value: &Value) {
    match value {
        Value::Bool(value) => drop(write!(out, "{value}")),
        Value::Number(value) => drop(write!(out, "{value}")),
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::List(items) => {
            separated(out, ['[', ']'], items, json);
        }
        Value::Map(entries) => separated(out, ['{', '}'], entries, |out, (key, value)| {
            out.push_str(&quoted(key));
            out.push_str(": ");
            json(out, value);
        }),
    }
}

fn separated<T>(out: &mut String, [open, close]: [char; 2], items: &[T], mut each: impl FnMut(&mut String, &T)) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        each(out, item);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_where_it_could_be_taken_for_something_else() {
        for plain in ["tank/a b", "zrepl_", "10m", "1h30m", "131072 B", "/run/x", "ssh+".trim_end_matches('+'), "1d"] {
            assert_eq!(yaml_scalar(plain), plain);
        }
        for quoted in [
            "",
            "yes",
            "No",
            "ON",
            "~",
            "null",
            "010",
            "1_0",
            "0x1F",
            "1.50",
            "1e3",
            "2001-01-01",
            "_1",
            "<",
            "<<",
            "*",
            "a: b",
            ":9811",
            "10:30",
            "a #b",
            "- a",
            "-1 B",
            ".inf",
            " a",
            "a ",
            "a\nb",
            "tank<",
            "[::]:1",
            "ä",
            "=",
        ] {
            let written = yaml_scalar(quoted);
            assert!(written.starts_with('"') && written.ends_with('"'), "{quoted:?} {written}");
        }
        assert_eq!(yaml_scalar(r"^a_\d+'$"), r"'^a_\d+''$'");
        assert_eq!(yaml_scalar("\\\n"), r#""\\\n""#);
        assert_eq!(yaml_scalar("\u{85}\u{0}\u{feff}"), r#""\u0085\u0000\ufeff""#);
    }

    #[test]
    fn trees_are_written_in_block_style_and_as_json() {
        let tree = map([
            ("empty", Value::List(Vec::new())),
            ("nothing", map([])),
            ("list", list([1, 2], Value::Number)),
            ("jobs", list(["a", "off"], |name| map([("name", text(name)), ("x", map([("deep", Value::Bool(true))]))]))),
        ]);
        let yaml = "empty: []\nnothing: {}\nlist:\n  - 1\n  - 2\njobs:\n  - name: a\n    x:\n      deep: true\n  \
                    - name: \"off\"\n    x:\n      deep: true\n";
        assert_eq!(tree.to_yaml(), yaml);
        let json = r#"{"empty": [], "nothing": {}, "list": [1, 2], "jobs": [{"name": "a", "x": {"deep": true}}, {"name": "off", "x": {"deep": true}}]}"#;
        assert_eq!(tree.to_json(), json);
    }
}
