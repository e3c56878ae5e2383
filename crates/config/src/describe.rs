//! What a configuration may say, learnt by running the decoders over a file that has everything.
//!
//! Every field of that file is a [`Probe`]: it claims to be there, and writes down what it is asked
//! for. The schema and the reference are made from what was written down, so that neither can say
//! anything that the decoders do not.

mod json;
mod kinds;
mod meaning;
mod reference;
mod schema;
mod sections;
mod shown;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::decode::{Field, File, Log};
use crate::document;
use crate::files::NamedFiles;
use crate::jobs::Claims;
use crate::patterns::Patterns;
use crate::source::Source;

pub use reference::reference;
pub use schema::schema;
pub(crate) use shown::Shown;

/// What may stand in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One value. The text says what is wanted, in the words of the decoder's error message.
    Scalar(String),
    /// One of these words.
    Words(Vec<String>),
    /// A list of such items.
    List(Box<Shape>),
    /// A mapping whose keys are free, of such values. The text says what is wanted.
    Map(String, Box<Shape>),
    /// A section with these keys.
    Section(Vec<Key>),
    /// A section whose `type` says which keys it has.
    Tagged(Vec<(String, Vec<Key>)>),
}

/// A key of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) presence: Presence,
    pub(crate) shape: Shape,
}

/// Whether a key has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has to, and must not be empty.
    Required,
    /// It may be left out; the default as it would be written, if there is one to write.
    Optional(Option<String>),
}

/// Everything that a file may say.
pub(crate) fn whole() -> Shape {
    let (source, log) = (Arc::new(Source::new("", "")), Log::default());
    let (patterns, named_files) = (Patterns::default(), NamedFiles::default());
    let secrets = RefCell::default();
    let file = File { source: &source, log: &log, patterns: &patterns, named_files: &named_files, secrets: &secrets };
    let probe = Probe::default();
    document::document(&Field::probe(file, &probe), &Claims::default());
    probe.shape()
}

/// A field that writes down what it is asked for.
#[derive(Clone, Default)]
pub(crate) struct Probe(Rc<RefCell<Seen>>);

/// What a probe was asked for so far.
#[derive(Default)]
enum Seen {
    #[default]
    Nothing,
    Scalar(String),
    Words(Vec<String>),
    List(Probe),
    Map(String, Probe),
    Section(Keys),
    Tagged(Vec<Variant>),
}

/// The keys that a section was asked for.
pub(crate) type Keys = Rc<RefCell<Vec<SeenKey>>>;

pub(crate) struct SeenKey {
    name: &'static str,
    presence: Presence,
    probe: Probe,
}

struct Variant {
    name: String,
    keys: Keys,
    /// Whether a decoder was shown it.
    shown: bool,
}

impl Probe {
    /// Remembers the first thing that is asked for: decoders become more general as they go down.
    fn note(&self, seen: impl FnOnce() -> Seen) {
        let mut known = self.0.borrow_mut();
        if matches!(*known, Seen::Nothing) {
            *known = seen();
        }
    }

    pub(crate) fn scalar(&self, wanted: &str) {
        self.note(|| Seen::Scalar(wanted.to_owned()));
    }

    pub(crate) fn words(&self, words: &[&str]) {
        self.note(|| Seen::Words(words.iter().map(|word| (*word).to_owned()).collect()));
    }

    /// The item that stands for all of a list.
    pub(crate) fn item(&self) -> Probe {
        self.note(|| Seen::List(Probe::default()));
        match &*self.0.borrow() {
            Seen::List(item) => item.clone(),
            _ => Probe::default(),
        }
    }

    /// The value that stands for all of a mapping with free keys.
    pub(crate) fn value(&self, wanted: &str) -> Probe {
        self.note(|| Seen::Map(wanted.to_owned(), Probe::default()));
        match &*self.0.borrow() {
            Seen::Map(_, value) => value.clone(),
            _ => Probe::default(),
        }
    }

    pub(crate) fn section(&self) -> Keys {
        self.note(|| Seen::Section(Keys::default()));
        match &*self.0.borrow() {
            Seen::Section(keys) => Rc::clone(keys),
            _ => Keys::default(),
        }
    }

    /// The next type that was not shown yet, with its keys.
    pub(crate) fn tagged(&self, types: &[&str]) -> Option<(String, Keys)> {
        self.note(|| {
            let variant = |name: &&str| Variant { name: (*name).to_owned(), keys: Keys::default(), shown: false };
            Seen::Tagged(types.iter().map(variant).collect())
        });
        let mut seen = self.0.borrow_mut();
        let Seen::Tagged(variants) = &mut *seen else { return None };
        let next = variants.iter_mut().find(|variant| !variant.shown)?;
        next.shown = true;
        Some((next.name.clone(), Rc::clone(&next.keys)))
    }

    /// Whether a decoder has to look again, at another type.
    pub(crate) fn has_more(&self) -> bool {
        match &*self.0.borrow() {
            Seen::Tagged(variants) => variants.iter().any(|variant| !variant.shown),
            _ => false,
        }
    }

    fn shape(&self) -> Shape {
        match &*self.0.borrow() {
            // No kind of value is called so, which a test notices.
            Seen::Nothing => Shape::Scalar(String::new()),
            Seen::Scalar(wanted) => Shape::Scalar(wanted.clone()),
            Seen::Words(words) => Shape::Words(words.clone()),
            Seen::List(item) => Shape::List(Box::new(item.shape())),
            Seen::Map(wanted, value) => Shape::Map(wanted.clone(), Box::new(value.shape())),
            Seen::Section(keys) => Shape::Section(keys_of(keys)),
            Seen::Tagged(variants) => {
                Shape::Tagged(variants.iter().map(|variant| (variant.name.clone(), keys_of(&variant.keys))).collect())
            }
        }
    }
}

fn keys_of(keys: &Keys) -> Vec<Key> {
    let keys = keys.borrow();
    let key = |key: &SeenKey| Key { name: key.name, presence: key.presence.clone(), shape: key.probe.shape() };
    keys.iter().map(key).collect()
}

/// The probe of a key; a new one if the key was not asked for before.
pub(crate) fn key(keys: &Keys, name: &'static str) -> Probe {
    let mut keys = keys.borrow_mut();
    if let Some(known) = keys.iter().find(|key| key.name == name) {
        return known.probe.clone();
    }
    let probe = Probe::default();
    keys.push(SeenKey { name, presence: Presence::Optional(None), probe: probe.clone() });
    probe
}

/// Says whether a key that was asked for has to be there.
pub(crate) fn presence(keys: &Keys, name: &str, presence: Presence) {
    if let Some(key) = keys.borrow_mut().iter_mut().find(|key| key.name == name) {
        key.presence = presence;
    }
}
