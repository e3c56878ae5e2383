//! From the tree to values: fields with their path, sections that know which keys exist.
//!
//! A decoder gives none after it has reported an error, and goes on with the next field, so that all
//! mistakes of a file come out at once. Sections learn the keys that exist by being asked for them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::describe::{self, Keys, Presence, Probe, Shown};
use crate::diagnostic::{Diagnostic, Severity};
use crate::files::NamedFiles;
use crate::patterns::Patterns;
use crate::place::{Place, Spot, extent, shown_key};
use crate::source::{Source, Span};
use crate::suggest::{self, did_you_mean, list, shown};
use crate::tree::{Entry, Node, Scalar, Value};

/// More than anybody reads, and few enough that a file full of them costs little.
const MAX_DIAGNOSTICS: usize = 100;

/// What was said so far, over all files.
#[derive(Default)]
pub(crate) struct Log {
    diagnostics: RefCell<Vec<Diagnostic>>,
    left_out: RefCell<usize>,
}

impl Log {
    pub(crate) fn report(&self, diagnostic: Diagnostic) {
        if self.is_full() && diagnostic.severity() == Severity::Error {
            *self.left_out.borrow_mut() += 1;
            return;
        }
        let mut diagnostics = self.diagnostics.borrow_mut();
        // What an alias stands for is decoded once per alias, but wrong only once.
        if diagnostics.iter().any(|known| known.same_as(&diagnostic)) {
            return;
        }
        let alike = diagnostics.iter().filter(|known| known.severity() == diagnostic.severity()).count();
        if alike < MAX_DIAGNOSTICS {
            diagnostics.push(diagnostic);
        } else if diagnostic.severity() == Severity::Error {
            *self.left_out.borrow_mut() += 1;
        }
    }

    /// Whether further errors are only counted.
    fn is_full(&self) -> bool {
        *self.left_out.borrow() > 0
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics.borrow().iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
    }

    /// Errors and warnings, in the order of the files and of their lines.
    pub(crate) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut diagnostics = self.diagnostics.into_inner();
        let files: Vec<Option<String>> = diagnostics.iter().map(|one| one.file().map(str::to_owned)).collect();
        diagnostics.sort_by_key(|one| (files.iter().position(|file| file.as_deref() == one.file()), one.position()));
        let diagnostics = diagnostics.into_iter();
        let (mut errors, warnings): (Vec<_>, Vec<_>) = diagnostics.partition(|one| one.severity() == Severity::Error);
        let left_out = self.left_out.into_inner();
        if left_out > 0 {
            errors.push(Diagnostic::error(format!("and {left_out} more errors")));
        }
        (errors, warnings)
    }
}

/// A file being read.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) log: &'a Log,
    pub(crate) patterns: &'a Patterns,
    pub(crate) named_files: &'a NamedFiles,
    /// Where passwords are.
    pub(crate) secrets: &'a RefCell<Vec<Place>>,
}

/// A value on its way to becoming a checked one.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) file: File<'a>,
    node: Rc<Node>,
    /// Where to point when the value has no extent of its own.
    key: Option<Span>,
    path: String,
    /// Given if there is no file, and the question is what could be in one.
    probe: Option<Probe>,
}

impl<'a> Field<'a> {
    pub(crate) fn root(file: File<'a>, node: Rc<Node>) -> Self {
        Self { file, node, key: None, path: String::new(), probe: None }
    }

    /// A field that is there whatever is asked for, and remembers what that was.
    pub(crate) fn probe(file: File<'a>, probe: &Probe) -> Self {
        Self { probe: Some(probe.clone()), ..Self::root(file, Rc::new(Node::nothing())) }
    }

    fn child(&self, entry: &Entry) -> Self {
        let path =
            if self.path.is_empty() { entry.key.clone() } else { format!("{}.{}", self.path, shown_key(&entry.key)) };
        Self { file: self.file, node: Rc::clone(&entry.value), key: Some(entry.key_span), path, probe: None }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.probe.is_none() && self.node.is_null()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.probe.is_none() && self.node.is_empty()
    }

    /// Where the value is; for a section its key, or its first key if it is an item of a list.
    pub(crate) fn place(&self) -> Place {
        let span = extent(&self.node, self.key);
        Place { source: Arc::clone(self.file.source), span, path: self.path.clone() }
    }

    /// Remembers the value for later.
    pub(crate) fn spot(&self) -> Spot {
        let (source, node) = (Arc::clone(self.file.source), Rc::clone(&self.node));
        Spot { source, node, key: self.key, path: self.path.clone() }
    }

    /// Where the key is.
    pub(crate) fn key_place(&self) -> Place {
        let place = self.place();
        Place { span: self.key.unwrap_or(place.span), ..place }
    }

    pub(crate) fn report(&self, diagnostic: Diagnostic) {
        self.file.log.report(diagnostic);
    }

    /// Reports what is wrong with the value.
    pub(crate) fn fail<T>(&self, message: impl Into<String>, hint: Option<String>) -> Option<T> {
        let error = self.place().error(message);
        self.report(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        });
        None
    }

    pub(crate) fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.report(self.place().warning(message).with_hint(hint));
    }

    /// Says more about the scalar that is asked for next than its error message does.
    pub(crate) fn describe(&self, wanted: &str) {
        if let Some(probe) = &self.probe {
            probe.scalar(wanted);
        }
    }

    pub(crate) fn scalar(&self, wanted: &str) -> Option<&Scalar> {
        if let Some(probe) = &self.probe {
            probe.scalar(wanted);
            return None;
        }
        match &self.node.value {
            Value::Scalar(scalar) if scalar.is_null() => self.fail(format!("{wanted} is missing"), None),
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) => self.fail(format!("{wanted} is needed here, not a list"), None),
            Value::Map(_) => self.fail(format!("{wanted} is needed here, not a mapping"), None),
        }
    }

    /// The items of a list; null is an empty one.
    pub(crate) fn items(&self) -> Option<Vec<Field<'a>>> {
        if let Some(probe) = &self.probe {
            return Some(vec![Field::probe(self.file, &probe.item())]);
        }
        match &self.node.value {
            Value::List(items) => Some(items.iter().enumerate().map(|(index, node)| self.item(index, node)).collect()),
            Value::Scalar(scalar) if scalar.is_null() => Some(Vec::new()),
            Value::Scalar(_) => {
                self.fail("a list is needed here", Some("write `[value]`, or `- value` lines".to_owned()))
            }
            Value::Map(_) => {
                self.fail("a list is needed here, not a mapping", Some("begin each item with `- `".to_owned()))
            }
        }
    }

    fn item(&self, index: usize, node: &Rc<Node>) -> Field<'a> {
        let key = None;
        Field { file: self.file, node: Rc::clone(node), key, path: format!("{}[{index}]", self.path), probe: None }
    }

    /// The entries of a mapping whose keys are free; null is an empty one.
    pub(crate) fn entries(&self, wanted: &str) -> Option<Vec<(String, Field<'a>)>> {
        if let Some(probe) = &self.probe {
            return Some(vec![("any".to_owned(), Field::probe(self.file, &probe.value(wanted)))]);
        }
        match &self.node.value {
            Value::Map(entries) => Some(entries.iter().map(|entry| (entry.key.clone(), self.child(entry))).collect()),
            Value::Scalar(scalar) if scalar.is_null() => Some(Vec::new()),
            Value::Scalar(_) | Value::List(_) => self.fail(format!("{wanted} is needed here"), None),
        }
    }

    /// A section whose keys are known; null is one without keys.
    pub(crate) fn section(&self) -> Option<Section<'a>> {
        if let Some(probe) = &self.probe {
            return Some(self.described(probe.section()));
        }
        let entries = self.entries("a section with `key: value` lines")?;
        Some(Section { field: self.clone(), entries, asked: Vec::new(), missing: Vec::new(), keys: None })
    }

    fn described(&self, keys: Keys) -> Section<'a> {
        let (entries, asked, missing) = (Vec::new(), Vec::new(), Vec::new());
        Section { field: self.clone(), entries, asked, missing, keys: Some(keys) }
    }

    /// A section that says by `type` what it is.
    pub(crate) fn tagged(&self, types: &[&str]) -> Option<(Section<'a>, String)> {
        if let Some(probe) = &self.probe {
            return probe.tagged(types).map(|(name, keys)| (self.described(keys), name));
        }
        let listed = || format!("`type` is one of {}", list(types));
        if self.is_null() {
            return self.fail("a section with a `type` is missing here", Some(listed()));
        }
        if let Value::Scalar(scalar) = &self.node.value
            && types.contains(&scalar.text.as_str())
        {
            return self
                .fail("a section with a `type` is needed here", Some(format!("write `{{type: {}}}`", scalar.text)));
        }
        let mut section = self.section()?;
        let Some(field) = section.take("type").filter(|field| !field.is_empty()) else {
            return self.fail("missing field `type`", Some(listed()));
        };
        // A misspelt type is an error, and what else is wrong is told as if it had been written right.
        let name = field.one_of("type", types).or_else(|| field.nearest_of(types))?;
        Some((section, name))
    }

    /// One of some words.
    pub(crate) fn one_of(&self, what: &str, words: &[&str]) -> Option<String> {
        if let Some(probe) = &self.probe {
            probe.words(words);
            return None;
        }
        let text = &self.scalar(&format!("one of {}", list(words)))?.text;
        if words.contains(&text.as_str()) {
            return Some(text.clone());
        }
        let hint = did_you_mean(text, words).unwrap_or_else(|| format!("one of {}", list(words)));
        self.fail(format!("unknown {what} `{}`", shown(text)), Some(hint))
    }

    /// The word that was probably meant.
    fn nearest_of(&self, words: &[&str]) -> Option<String> {
        let Value::Scalar(scalar) = &self.node.value else { return None };
        suggest::nearest(&scalar.text.to_lowercase(), words).map(str::to_owned)
    }

    /// Whether it is a section of this `type`.
    pub(crate) fn is_of_type(&self, name: &str) -> bool {
        let Value::Map(entries) = &self.node.value else { return false };
        let said = entries.iter().find(|entry| entry.key == "type").map(|entry| &entry.value.value);
        matches!(said, Some(Value::Scalar(scalar)) if scalar.text == name)
    }
}

/// A mapping whose keys are known.
pub(crate) struct Section<'a> {
    pub(crate) field: Field<'a>,
    entries: Vec<(String, Field<'a>)>,
    asked: Vec<&'static str>,
    missing: Vec<&'static str>,
    /// Where to remember what is asked for, if there is no file.
    keys: Option<Keys>,
}

impl<'a> Section<'a> {
    /// The value of a key as it is, if the key is there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Field<'a>> {
        if let Some(keys) = &self.keys {
            return Some(Field::probe(self.field.file, &describe::key(keys, key)));
        }
        self.asked.push(key);
        self.entries.iter().find(|(name, _)| name == key).map(|(_, field)| field.clone())
    }

    /// A field that has to be there and must not be empty.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        mut decode: impl FnMut(&Field<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some(field) = self.take(key) else {
            self.missing.push(key);
            return None;
        };
        if field.is_empty() {
            return field.fail(format!("field `{key}` must not be empty"), None);
        }
        self.presence(key, Presence::Required);
        each_type(&field, &mut decode)
    }

    /// In case that there is no file: whether the key has to be there.
    fn presence(&self, key: &str, presence: Presence) {
        if let Some(keys) = &self.keys {
            describe::presence(keys, key, presence);
        }
    }

    /// A value that need not be there. A null where a default stands means the default: somebody
    /// removed the value and left the key.
    pub(crate) fn optional<T: Shown>(
        &mut self,
        key: &'static str,
        default: T,
        decode: impl FnOnce(&Field<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            None => Some(default),
            Some(field) if field.is_null() => {
                field.warn(format!("`{key}` has no value; its default is used"), "remove the key, or write the value");
                Some(default)
            }
            Some(field) => {
                self.presence(key, Presence::Optional(default.shown()));
                decode(&field)
            }
        }
    }

    /// A section that need not be there; null is as good as absent.
    pub(crate) fn subsection<T>(
        &mut self,
        key: &'static str,
        default: T,
        decode: impl FnOnce(Section<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key).filter(|field| !field.is_null()) {
            None => Some(default),
            Some(field) => decode(field.section()?),
        }
    }

    /// A list that need not be there; absent and null are the empty one.
    pub(crate) fn list<T>(&mut self, key: &'static str, decode: impl FnMut(&Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Some(field) = self.take(key) else { return Some(Vec::new()) };
        all(field.items()?, decode)
    }

    /// Reports keys that nobody asked for, and required ones that are not there.
    pub(crate) fn finish(self) -> Option<()> {
        let mut meant = Vec::new();
        // `x-` marks what is only there to be referred to by aliases.
        let unknown = self.entries.iter().filter(|(name, _)| !name.starts_with("x-"));
        let unknown = unknown.filter(|(name, _)| !self.asked.contains(&name.as_str()));
        for (name, field) in unknown {
            let error = field.key_place().error(format!("unknown field `{}`", shown(name)));
            // Guessing is the dear part, and nobody sees it once the list of errors is full.
            let guess = match field.file.log.is_full() {
                true => None,
                false => suggest::nearest(name, &self.asked).filter(|guess| !self.given(guess)),
            };
            meant.extend(guess);
            field.report(match guess {
                Some(guess) => error.with_hint(format!("did you mean `{guess}`?")),
                None => error.with_hint(format!("known here: {}", list(&self.asked))),
            });
        }
        // A misspelt key is one mistake, not two.
        let missing: Vec<_> = self.missing.iter().filter(|key| !meant.contains(*key)).collect();
        for key in &missing {
            let mut field = self.field.clone();
            field.path = if field.path.is_empty() { (**key).to_owned() } else { format!("{}.{key}", field.path) };
            field.fail::<()>(format!("missing field `{key}`"), None);
        }
        self.missing.is_empty().then_some(())
    }

    fn given(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }
}

/// Decodes every item, so that each reports its own errors, and fails if one did.
pub(crate) fn all<'a, T>(items: Vec<Field<'a>>, mut decode: impl FnMut(&Field<'a>) -> Option<T>) -> Option<Vec<T>> {
    let decoded: Vec<Option<T>> = items.iter().map(|item| each_type(item, &mut decode)).collect();
    decoded.into_iter().collect()
}

/// Decodes; if there is no file, once for each type that the value could have.
fn each_type<'a, T>(field: &Field<'a>, decode: &mut impl FnMut(&Field<'a>) -> Option<T>) -> Option<T> {
    let decoded = decode(field);
    while field.probe.as_ref().is_some_and(Probe::has_more) {
        decode(field);
    }
    decoded
}
