//! As much of PromQL as the shipped dashboard and rules use, read as Prometheus does, to know which labels the
//! result of a query has. What is not known here is an error: a query that needs more makes this longer.

use std::collections::{BTreeMap, BTreeSet};

/// Metrics with their labels.
pub(super) type Exposed = BTreeMap<String, Vec<String>>;

type Labels = BTreeSet<String>;

/// What an expression is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Scalar,
    /// Samples with these labels.
    Vector(Labels),
    /// Samples over a time.
    Range(Labels),
}

/// Reads a query over these metrics; what it is, or what is wrong with it.
pub(super) fn read(query: &str, exposed: &Exposed) -> Result<Value, String> {
    let mut reader = Reader { words: words(query)?, exposed };
    let value = reader.expression(0)?;
    match reader.peek() {
        None => Ok(value),
        Some(word) => Err(format!("{word:?} is left over")),
    }
}

/// Words, the first one last.
fn words(query: &str) -> Result<Vec<String>, String> {
    let form = regex::Regex::new(
        r#"^(?:"(?:[^"\\]|\\.)*"|[0-9]+(?:\.[0-9]+)?(?:[smhdwy])?|[A-Za-z_:][A-Za-z0-9_:]*|=~|!~|==|!=|<=|>=|[-+*/%^=<>(){}\[\],])"#,
    );
    let (form, mut rest, mut words) = (form.unwrap(), query.trim_start(), Vec::new());
    while !rest.is_empty() {
        let word = form.find(rest).ok_or_else(|| format!("no word of PromQL: {rest}"))?;
        words.push(word.as_str().to_owned());
        rest = rest[word.end()..].trim_start();
    }
    words.reverse();
    Ok(words)
}

const FUNCTIONS_OF_RANGES: [&str; 9] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "changes",
    "max_over_time",
    "min_over_time",
    "avg_over_time",
    "sum_over_time",
];
const FUNCTIONS_OF_VECTORS: [&str; 6] = ["sgn", "abs", "ceil", "floor", "round", "sort_desc"];
const AGGREGATIONS: [&str; 6] = ["sum", "min", "max", "avg", "count", "group"];
const LIMITED_AGGREGATIONS: [&str; 2] = ["topk", "bottomk"];

/// How strong an operator binds.
fn strength(operator: &str) -> Option<u8> {
    Some(match operator {
        "or" => 1,
        "and" | "unless" => 2,
        "==" | "!=" | "<=" | "<" | ">=" | ">" => 3,
        "+" | "-" => 4,
        "*" | "/" | "%" => 5,
        _ => return None,
    })
}

struct Reader<'a> {
    words: Vec<String>,
    exposed: &'a Exposed,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.last().map(String::as_str)
    }

    fn take(&mut self) -> Result<String, String> {
        self.words.pop().ok_or_else(|| "it ends early".to_owned())
    }

    fn took(&mut self, word: &str) -> bool {
        let is_there = self.peek() == Some(word);
        if is_there {
            self.words.pop();
        }
        is_there
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.took(word) { Ok(()) } else { Err(format!("{word:?} is missing before {:?}", self.peek())) }
    }

    /// Operators that bind stronger than `weakest`, which are all left-associative.
    fn expression(&mut self, weakest: u8) -> Result<Value, String> {
        let mut left = self.operand()?;
        while let Some(strong) = self.peek().and_then(strength).filter(|strong| *strong > weakest) {
            let operator = self.take()?;
            let on = if self.took("on") { Some(self.names()?) } else { None };
            let right = self.expression(strong)?;
            left = binary(&operator, left, right, on)?;
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Value, String> {
        let word = self.take()?;
        if word == "(" {
            let inner = self.expression(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if word == "Inf" || word.parse::<f64>().is_ok() {
            return Ok(Value::Scalar);
        }
        if AGGREGATIONS.contains(&word.as_str()) || LIMITED_AGGREGATIONS.contains(&word.as_str()) {
            return self.aggregation(&word);
        }
        match self.peek() {
            Some("(") => self.function(&word),
            _ => self.selector(&word),
        }
    }

    /// `(a, b)`
    fn names(&mut self) -> Result<Labels, String> {
        self.expect("(")?;
        let mut names = Labels::new();
        while !self.took(")") {
            names.insert(self.take()?);
            if self.peek() != Some(")") {
                self.expect(",")?;
            }
        }
        Ok(names)
    }

    fn aggregation(&mut self, name: &str) -> Result<Value, String> {
        let by = if self.took("by") { Some(self.names()?) } else { None };
        self.expect("(")?;
        let limited = LIMITED_AGGREGATIONS.contains(&name);
        if limited && self.expression(0)? != Value::Scalar {
            return Err(format!("{name} needs a number first"));
        }
        if limited {
            self.expect(",")?;
        }
        let of = self.vector(name)?;
        self.expect(")")?;
        match by {
            Some(by) if by.is_subset(&of) => Ok(Value::Vector(if limited { of } else { by })),
            Some(by) => Err(format!("{name} by {by:?} of what has {of:?}")),
            None => Ok(Value::Vector(if limited { of } else { Labels::new() })),
        }
    }

    fn function(&mut self, name: &str) -> Result<Value, String> {
        self.expect("(")?;
        let value = if name == "time" {
            Value::Scalar
        } else if FUNCTIONS_OF_VECTORS.contains(&name) {
            Value::Vector(self.vector(name)?)
        } else if FUNCTIONS_OF_RANGES.contains(&name) {
            match self.expression(0)? {
                Value::Range(labels) => Value::Vector(labels),
                other => return Err(format!("{name} of {other:?}, which is no range")),
            }
        } else {
            return Err(format!("no function {name:?} is known here"));
        };
        self.expect(")")?;
        Ok(value)
    }

    fn vector(&mut self, whose: &str) -> Result<Labels, String> {
        match self.expression(0)? {
            Value::Vector(labels) => Ok(labels),
            other => Err(format!("{whose} of {other:?}, which is no vector")),
        }
    }

    fn selector(&mut self, metric: &str) -> Result<Value, String> {
        let known = self.exposed.get(metric).ok_or_else(|| format!("{metric} does not exist"))?;
        // Prometheus adds these.
        let labels: Labels = known.iter().map(String::as_str).chain(["job", "instance"]).map(str::to_owned).collect();
        if self.took("{") {
            while !self.took("}") {
                self.matcher(metric, &labels)?;
            }
        }
        if !self.took("[") {
            return Ok(Value::Vector(labels));
        }
        let length = self.take()?;
        if !length.ends_with(|unit: char| unit.is_ascii_alphabetic())
            || !length.starts_with(|one: char| one.is_ascii_digit())
        {
            return Err(format!("{length:?} is no length of time"));
        }
        self.expect("]")?;
        Ok(Value::Range(labels))
    }

    fn matcher(&mut self, metric: &str, labels: &Labels) -> Result<(), String> {
        let label = self.take()?;
        if !labels.contains(&label) {
            return Err(format!("{metric} has no label {label:?}, but {labels:?}"));
        }
        let (operator, text) = (self.take()?, self.take()?);
        if !["=", "!=", "=~", "!~"].contains(&operator.as_str()) || !text.starts_with('"') {
            return Err(format!("{label} {operator} {text} is no matcher"));
        }
        if self.peek() != Some("}") {
            self.expect(",")?;
        }
        Ok(())
    }
}

fn binary(operator: &str, left: Value, right: Value, on: Option<Labels>) -> Result<Value, String> {
    let is_set = matches!(operator, "and" | "or" | "unless");
    match (left, right) {
        (Value::Scalar, Value::Scalar) if !is_set => Ok(Value::Scalar),
        (Value::Vector(labels), Value::Scalar) | (Value::Scalar, Value::Vector(labels)) if !is_set => {
            Ok(Value::Vector(labels))
        }
        (Value::Vector(left), Value::Vector(right)) => {
            let Some(on) = on else {
                // Samples are matched by all labels.
                let same = left == right;
                return if same { Ok(Value::Vector(left)) } else { Err(format!("{left:?} {operator} {right:?}")) };
            };
            if !on.is_subset(&left) || !on.is_subset(&right) {
                return Err(format!("{operator} on {on:?} of {left:?} and {right:?}"));
            }
            Ok(Value::Vector(if is_set { left } else { on }))
        }
        (left, right) => Err(format!("{left:?} {operator} {right:?}")),
    }
}

#[test]
fn what_is_wrong_with_a_query_is_noticed() {
    let exposed: Exposed = [("a", vec!["x", "y"]), ("b", vec!["x"])]
        .into_iter()
        .map(|(name, labels)| (name.to_owned(), labels.into_iter().map(str::to_owned).collect()))
        .collect();
    let labels = |query: &str| match read(query, &exposed) {
        Ok(Value::Vector(labels)) => Ok(labels.into_iter().collect::<Vec<_>>().join(" ")),
        other => Err(format!("{other:?}")),
    };
    for (query, expected) in [
        ("a", "instance job x y"),
        (r#"a{x="1", y=~"2|}"} > 3"#, "instance job x y"),
        ("sum by (x) (rate(a[5m])) / sum by (x) (b)", "x"),
        ("sum(a) + 1", ""),
        ("time() - (a > 0) and a", "instance job x y"),
        ("a unless on (x) b > 0", "instance job x y"),
        ("topk(3, b)", "instance job x"),
        ("a > 5 < Inf", "instance job x y"),
    ] {
        assert_eq!(labels(query).as_deref(), Ok(expected), "{query}");
    }
    for query in [
        "",
        "c",
        "a b",
        "a >",
        "(a",
        "a)",
        r#"a{z="1"}"#,
        r#"a{x="1""#,
        "a{x=1}",
        "a{x}",
        "rate(a)",
        "rate(a[5m]",
        "a[5m",
        "a[5]",
        "sum by (z) (a)",
        "sum by (y) (b)",
        "sum by x (a)",
        "a + b",
        "a and on (y) b",
        "frobnicate(a)",
        "a and 1",
        "time(",
        "a ? b",
        "rate(a[5m]) > b[5m]",
    ] {
        assert!(labels(query).is_err(), "{query}: {:?}", labels(query));
    }
}
