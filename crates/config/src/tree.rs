//! YAML as a tree in which everything knows where it was written.
//!
//! Aliases are shared, not copied, merge keys are resolved, duplicate keys are reported. What a
//! scalar means is left to whoever asks for it, as in YAML 1.1 that depends on the field's type.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use crate::decode::File;
use crate::diagnostic::Diagnostic;
use crate::secrets;
use crate::source::{Source, Span};
use crate::suggest::shown;

/// Deeper than any section of the grammar, and shallow enough for recursion.
const MAX_DEPTH: usize = 64;
/// How many nodes aliases may stand for, all in all. Without a limit a few lines of nested aliases
/// stand for more nodes than can be looked at.
const MAX_ALIASED_NODES: usize = 100_000;
/// How many nodes a file may have: more than its size limit allows for ordinary text. A node may be
/// written in two bytes and takes a hundred times as much.
const MAX_NODES: usize = 500_000;

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// How many nodes this one stands for, itself included and aliases followed.
    weight: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    /// In file order, keys unique, merged entries last.
    Map(Vec<Entry>),
}

/// A scalar as it was written.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor tagged as a string: it may be null, a bool or a number.
    pub(crate) plain: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Rc<Node>,
}

impl Node {
    /// A null that stands nowhere.
    pub(crate) fn nothing() -> Self {
        let scalar = Scalar { text: String::new(), plain: true };
        Node { span: Span::default(), value: Value::Scalar(scalar), weight: 1 }
    }

    /// YAML's null: `~`, `null` or nothing at all.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.is_null(),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// Null, or a text, list or mapping without anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.is_null() || scalar.text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Reads the first document; none if there is nothing in it, or if an error was reported.
pub(crate) fn read_first_document(file: &File<'_>) -> Option<Rc<Node>> {
    let mut options = granit_parser::Options::default();
    options.emit_comments = false;
    let parser = Parser::new_from_str_with_options(&file.source.text, options);
    let mut builder = Builder { file, parser, anchors: HashMap::new(), nodes: 0, aliased: 0, secrets: Vec::new() };
    let document = builder.document();
    file.source.hide(builder.secrets, document.is_ok());
    match document {
        Ok(node) => node.filter(|node| !node.is_null()),
        Err(Stop(error)) => {
            file.log.report(*error);
            None
        }
    }
}

/// What makes the rest of a file unreadable.
struct Stop(Box<Diagnostic>);

struct Builder<'a> {
    file: &'a File<'a>,
    parser: Parser<'a, StrInput<'a>>,
    /// By the parser's number; none while the anchored node is still being read.
    anchors: HashMap<usize, Option<Rc<Node>>>,
    nodes: usize,
    aliased: usize,
    /// What no excerpt may show.
    secrets: Vec<Span>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Option<Rc<Node>>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart => {}
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    self.file.log.report(
                        Diagnostic::warning("only the first document of a file is read")
                            .at(self.file.source, span)
                            .with_hint("remove the `---` and what follows it, or put it into a file of its own"),
                    );
                    return Ok(root);
                }
                Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, Span { start: byte(&span.start), end: byte(&span.end) })),
            Some(Err(error)) => Err(Stop(Box::new(self.syntax_error(&error)))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, Stop> {
        if depth > MAX_DEPTH {
            return Err(self.stop(format!("nested deeper than {MAX_DEPTH} levels"), span));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.stop(format!("more than {MAX_NODES} values in one file"), span));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                // Where nothing is written, the parser says `~` and points near by.
                let written = self.file.source.text.get(span.start..span.end);
                let nothing = style == ScalarStyle::Plain && text == "~" && written != Some("~");
                let text = if nothing { "".into() } else { text };
                let plain = style == ScalarStyle::Plain && !is_string(tag.as_deref());
                let scalar = Scalar { text: text.into_owned(), plain };
                let node = Node { span, value: Value::Scalar(scalar), weight: 1 };
                if secrets::has_password(&node) {
                    self.secrets.push(span);
                }
                Ok(self.finish(anchor, node))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.anchors.insert(anchor, None);
                let node = self.list(span, depth)?;
                Ok(self.finish(anchor, node))
            }
            Event::MappingStart(_, anchor, _) => {
                self.anchors.insert(anchor, None);
                let node = self.map(span, depth)?;
                Ok(self.finish(anchor, node))
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => Err(self.stop("unexpected structure", span)),
        }
    }

    /// The parser numbers anchors from 1; 0 stands for a node without one.
    fn finish(&mut self, anchor: usize, node: Node) -> Rc<Node> {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Some(Rc::clone(&node)));
        }
        node
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Rc<Node>, Stop> {
        let Some(Some(node)) = self.anchors.get(&anchor) else {
            return Err(self.stop("the alias stands for something that contains it", span));
        };
        self.aliased = self.aliased.saturating_add(node.weight);
        if self.aliased > MAX_ALIASED_NODES {
            return Err(self.stop(format!("aliases stand for more than {MAX_ALIASED_NODES} values"), span));
        }
        Ok(Rc::clone(node))
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, Stop> {
        let mut items = Vec::new();
        let mut weight = 1_usize;
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => {
                    let span = Span { start: start.start, end: end.end };
                    return Ok(Node { span, value: Value::List(items), weight });
                }
                (event, span) => {
                    let item = self.node(event, span, depth + 1)?;
                    weight = weight.saturating_add(item.weight);
                    items.push(item);
                }
            }
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Stop> {
        let mut entries = Entries::default();
        let mut merges = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                merges.iter().for_each(|merge| self.merge(merge, &mut entries));
                let weight = entries.list.iter().fold(1_usize, |sum, entry| sum.saturating_add(entry.value.weight));
                let span = Span { start: start.start, end: key_span.end };
                return Ok(Node { span, value: Value::Map(entries.list), weight });
            }
            let key = self.node(event, key_span, depth + 1)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if let Value::Scalar(key) = &key.value
                && secrets::is_secret(&key.text, &value)
            {
                self.secrets.push(value.span);
            }
            match &key.value {
                Value::Scalar(key) if key.plain && key.text == "<<" => merges.push(value),
                Value::Scalar(key) => self.insert(Entry { key: key.text.clone(), key_span, value }, &mut entries),
                Value::List(_) | Value::Map(_) => {
                    self.report("a key has to be text", key_span);
                }
            }
        }
    }

    fn insert(&self, entry: Entry, entries: &mut Entries) {
        let (key, span) = (entry.key.clone(), entry.key_span);
        if let Some(first) = entries.insert(entry) {
            let (line, _) = self.file.source.position(first.start);
            let error = Diagnostic::error(format!("`{}` is given twice", shown(&key))).at(self.file.source, span);
            self.file.log.report(error.with_hint(format!("the first one is in line {line}; keep one of them")));
        }
    }

    /// What is written out wins over what is merged, what is merged first over what is merged later.
    fn merge(&self, from: &Rc<Node>, entries: &mut Entries) {
        match &from.value {
            Value::Map(merged) => merged.iter().for_each(|entry| {
                entries.insert(entry.clone());
            }),
            Value::List(nodes) => nodes.iter().for_each(|node| match &node.value {
                Value::Map(_) => self.merge(node, entries),
                Value::List(_) | Value::Scalar(_) => self.cannot_merge(node.span),
            }),
            Value::Scalar(_) => self.cannot_merge(from.span),
        }
    }

    fn cannot_merge(&self, span: Span) {
        let error = Diagnostic::error("`<<` merges mappings and nothing else").at(self.file.source, span);
        self.file.log.report(error.with_hint("write `<<: *name` where `&name` marks a mapping"));
    }

    fn report(&self, message: &str, span: Span) {
        self.file.log.report(Diagnostic::error(message).at(self.file.source, span));
    }

    fn stop(&self, message: impl Into<String>, span: Span) -> Stop {
        Stop(Box::new(Diagnostic::error(message).at(self.file.source, span)))
    }

    fn syntax_error(&self, error: &ScanError) -> Diagnostic {
        let source = self.file.source;
        let start = byte(error.marker());
        let message = format!("not valid YAML: {}", error.info());
        let (line, _) = source.position(start);
        // A tab is often noticed only when it has made the line part of the one before.
        if let Some(start) = [line, line + 1].into_iter().find_map(|line| indenting_tab(source, line)) {
            let diagnostic = Diagnostic::error(message).at(source, Span { start, end: start + 1 });
            return diagnostic.with_hint("indent with blanks: YAML does not allow tabs there");
        }
        let text = source.line(line);
        let diagnostic = Diagnostic::error(message).at(source, Span { start, end: start.saturating_add(1) });
        if text.contains(": *") || text.contains("- *") {
            return diagnostic.with_hint("a text that begins with `*` has to be quoted");
        }
        match remedy(&error.info()) {
            Some(hint) => diagnostic.with_hint(hint),
            None => diagnostic,
        }
    }
}

/// What to look for, by what the parser complains about.
fn remedy(complaint: &str) -> Option<&'static str> {
    let by_words = [
        ("quoted scalar", "is a quotation mark missing before this?"),
        ("block mapping", "is this line indented like its neighbours? The keys of a section begin in one column"),
        ("block collection", "is this line indented like its neighbours? The `- ` of a list are in one column"),
        (
            "mapping values are not allowed",
            "is it indented like its neighbours, and is there a blank after every `:`? A text with `: ` needs quotes",
        ),
        ("flow mapping", "is a `}` or a `,` missing before this?"),
        ("flow sequence", "is a `]` or a `,` missing before this?"),
        ("illegal placement", "is a `]` or a quotation mark missing before this?"),
        ("unclosed bracket", "what begins here has no end"),
        ("simple key expected", "is a `:` missing after a key?"),
        ("unexpected character", "a text that begins with such a character has to be quoted"),
    ];
    by_words.into_iter().find(|(words, _)| complaint.contains(words)).map(|(_, hint)| hint)
}

/// The first tab in the indentation of a line.
fn indenting_tab(source: &Source, line: usize) -> Option<usize> {
    let text = source.line(line);
    let tab = text.find('\t')?;
    text.get(..tab)?.chars().all(|c| c == ' ').then(|| source.line_start(line) + tab)
}

/// A mapping under construction; the index keeps a long one from taking quadratic time.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    places: HashMap<String, Span>,
}

impl Entries {
    /// Adds an entry unless its key is there already, and gives back where.
    fn insert(&mut self, entry: Entry) -> Option<Span> {
        match self.places.get(&entry.key) {
            Some(first) => Some(*first),
            None => {
                self.places.insert(entry.key.clone(), entry.key_span);
                self.list.push(entry);
                None
            }
        }
    }
}

fn byte(marker: &Marker) -> usize {
    marker.byte_offset().unwrap_or_default()
}

fn is_string(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}
