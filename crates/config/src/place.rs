//! Where in a file something is said, for messages about it.

use std::rc::Rc;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span};
use crate::suggest::shown;
use crate::tree::{Node, Value};

/// Where something is said, for messages that come later.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Span,
    pub(crate) path: String,
}

impl Place {
    pub(crate) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(&self.source, self.span).field_path(self.path.as_str())
    }

    pub(crate) fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(message).at(&self.source, self.span).field_path(self.path.as_str())
    }

    /// The name of the file.
    pub(crate) fn file(&self) -> &str {
        &self.source.name
    }

    /// `zrepl.yml:12`
    pub(crate) fn line(&self) -> String {
        format!("{}:{}", self.source.name, self.source.position(self.span.start).0)
    }
}

/// A part of a file, to say something about what is in it when it has been read.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) source: Arc<Source>,
    pub(crate) node: Rc<Node>,
    /// Where to point when the value has no extent of its own.
    pub(crate) key: Option<Span>,
    pub(crate) path: String,
}

impl Spot {
    /// Where the value of a key below this one is; where this one is if there is no such key.
    pub(crate) fn place(&self, keys: &[&str]) -> Place {
        let spot = self.below(keys);
        Place { span: extent(&spot.node, spot.key), source: spot.source, path: spot.path }
    }

    /// Where a key of an item of a list is.
    pub(crate) fn item_place(&self, keys: &[&str], index: usize, key: &str) -> Place {
        let mut spot = self.below(keys);
        if let Value::List(items) = &spot.node.value
            && let Some(item) = items.get(index)
        {
            let (source, node) = (Arc::clone(&spot.source), Rc::clone(item));
            spot = Spot { source, node, key: None, path: format!("{}[{index}]", spot.path) };
        }
        spot.place(&[key])
    }

    fn below(&self, keys: &[&str]) -> Spot {
        let mut spot = self.clone();
        for key in keys {
            let Value::Map(entries) = &spot.node.value else { break };
            let Some(entry) = entries.iter().find(|entry| entry.key == *key) else { break };
            let path = format!("{}.{}", spot.path, shown_key(&entry.key));
            let (source, node) = (Arc::clone(&spot.source), Rc::clone(&entry.value));
            let key = Some(entry.key_span);
            spot = Spot { source, node, key, path };
        }
        spot
    }
}

/// Where a value is; for a section its key, or its first key if it is an item of a list.
pub(crate) fn extent(node: &Node, key: Option<Span>) -> Span {
    match (&node.value, key) {
        (Value::Map(entries), None) => entries.first().map_or(node.span, |entry| entry.key_span),
        (Value::Map(_) | Value::List(_), Some(key)) => key,
        (Value::Scalar(scalar), Some(key)) if scalar.plain && scalar.text.is_empty() => key,
        (Value::Scalar(_) | Value::List(_), _) => node.span,
    }
}

/// A key as part of a path: quoted where its own dots would mislead.
pub(crate) fn shown_key(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if plain { key.to_owned() } else { format!("{:?}", shown(key)) }
}
