//! What an endpoint remembers of its side between a listing and the requests that follow it, so that
//! a request does not have to ask ZFS again.
//!
//! Nothing in it is needed after a crash, and nothing is destroyed on its word alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use model::DatasetName;
use model::protection::Protection;
use model::view::{Encryption, Placeholder};
use zfs::Dataset;

use crate::limits::TABLE_EXTRAS;

/// What is known of one dataset. Versions are left out: they are large, and a request names its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The placeholder mark.
    pub(super) placeholder: Placeholder,
    /// Encryption.
    pub(super) encryption: Encryption,
    /// Whether it has snapshots.
    pub(super) has_snapshots: bool,
    /// Whether an interrupted receive left something.
    pub(super) partial: bool,
    /// The job's protections.
    pub(super) protections: Vec<Protection>,
}

impl Facts {
    /// What a listing says of a dataset, without protections.
    pub(super) fn of(dataset: &Dataset) -> Self {
        Self {
            placeholder: dataset.placeholder,
            encryption: dataset.encryption,
            has_snapshots: dataset.versions.iter().any(model::Version::is_snapshot),
            partial: dataset.resume_token.is_some(),
            protections: Vec::new(),
        }
    }

    /// Whether it may be nothing but the state of an interrupted first receive.
    pub(super) fn is_only_partial(&self) -> bool {
        self.partial && !self.has_snapshots && self.placeholder == Placeholder::Unset
    }

    /// Of a placeholder that was just made; who says that it is not encrypted does not matter to a
    /// receiver.
    pub(super) fn new_placeholder() -> Self {
        Self {
            placeholder: Placeholder::On,
            encryption: Encryption::None,
            has_snapshots: false,
            partial: false,
            protections: Vec::new(),
        }
    }

    /// Of a target that just received a snapshot.
    pub(super) fn received(before: Option<Facts>, replaced_placeholder: bool) -> Self {
        let before = before.unwrap_or(Self { placeholder: Placeholder::Unset, ..Self::new_placeholder() });
        let placeholder = if replaced_placeholder { Placeholder::Off } else { before.placeholder };
        Self { placeholder, has_snapshots: true, partial: false, ..before }
    }
}

/// What the table says about a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It has to be looked at.
    Unknown,
    /// It does not exist.
    Missing,
    /// It exists.
    Exists(Facts),
}

/// The table of one endpoint.
#[derive(Default)]
pub(super) struct Table(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Counts changes, which dates entries.
    changes: u64,
    /// What a listing has filled the table with; absence means something only where it looked.
    listed: Option<Listed>,
    /// Counts how often everything was forgotten.
    emptied: u64,
    entries: HashMap<DatasetName, Entry>,
}

/// The last listing.
struct Listed {
    entries: usize,
    /// Trees that could not be listed.
    unlisted: Vec<DatasetName>,
}

struct Entry {
    changed: u64,
    known: Known,
}

/// When a listing was started.
pub(super) struct ListingStarted {
    changes: u64,
    emptied: u64,
}

impl Table {
    /// To be called before a listing is asked for.
    pub(super) fn listing_started(&self) -> ListingStarted {
        let inner = self.inner();
        ListingStarted { changes: inner.changes, emptied: inner.emptied }
    }

    /// Takes over a listing; what changed since it was started stays. `unlisted` are trees of which it
    /// says nothing.
    pub(super) fn replace(
        &self,
        started: &ListingStarted,
        facts: impl IntoIterator<Item = (DatasetName, Facts)>,
        unlisted: Vec<DatasetName>,
    ) {
        let mut inner = self.inner();
        if inner.emptied != started.emptied {
            // What changed meanwhile is not known any longer.
            return;
        }
        let changed = started.changes;
        inner.entries.retain(|_, entry| entry.changed > changed);
        for (name, facts) in facts {
            inner.entries.entry(name).or_insert(Entry { changed, known: Known::Exists(facts) });
        }
        inner.listed = Some(Listed { entries: inner.entries.len(), unlisted });
    }

    /// What is known.
    pub(super) fn look(&self, name: &DatasetName) -> Known {
        let inner = self.inner();
        match (inner.entries.get(name), &inner.listed) {
            (Some(entry), _) => entry.known.clone(),
            (None, Some(listed)) if !listed.unlisted.iter().any(|root| name.is_within(root)) => Known::Missing,
            (None, _) => Known::Unknown,
        }
    }

    /// Notes what was found or done.
    pub(super) fn note(&self, name: &DatasetName, known: Known) {
        let mut inner = self.inner();
        inner.changes += 1;
        let changed = inner.changes;
        inner.entries.insert(name.clone(), Entry { changed, known });
        let listed = inner.listed.as_ref().map_or(0, |listed| listed.entries);
        if inner.entries.len() > listed + TABLE_EXTRAS {
            inner.emptied += 1;
            inner.listed = None;
            inner.entries = HashMap::new();
        }
    }

    /// Notes what a look at a dataset found, unless it changed since the look was started.
    pub(super) fn found(&self, started: &ListingStarted, name: &DatasetName, known: Known) {
        let inner = self.inner();
        let is_older = |entry: &Entry| entry.changed <= started.changes;
        let is_right = inner.emptied == started.emptied && inner.entries.get(name).is_none_or(is_older);
        drop(inner);
        if is_right {
            self.note(name, known);
        }
    }

    /// Changes what is noted of a dataset that exists.
    pub(super) fn change(&self, name: &DatasetName, change: impl FnOnce(&mut Facts)) {
        if let Known::Exists(mut facts) = self.look(name) {
            change(&mut facts);
            self.note(name, Known::Exists(facts));
        }
    }

    /// Notes that a dataset has to be looked at again.
    pub(super) fn forget(&self, name: &DatasetName) {
        self.note(name, Known::Unknown);
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(partial: bool) -> Facts {
        Facts {
            placeholder: Placeholder::Unset,
            encryption: Encryption::None,
            has_snapshots: false,
            partial,
            protections: Vec::new(),
        }
    }

    #[test]
    fn a_listing_does_not_undo_what_was_noted_while_it_ran() {
        let name = |text| DatasetName::parse(text).unwrap();
        let table = Table::default();
        assert_eq!(table.look(&name("p")), Known::Unknown);
        let started = table.listing_started();
        table.note(&name("p/new"), Known::Exists(facts(true)));
        table.replace(&started, [(name("p"), facts(false)), (name("p/new"), facts(false))], vec![]);
        assert_eq!(table.look(&name("p")), Known::Exists(facts(false)));
        assert_eq!(table.look(&name("p/new")), Known::Exists(facts(true)));
        assert_eq!(table.look(&name("p/none")), Known::Missing);
        table.forget(&name("p"));
        assert_eq!(table.look(&name("p")), Known::Unknown);
        table.replace(&table.listing_started(), [], vec![name("q")]);
        assert_eq!(table.look(&name("p/new")), Known::Missing);
        assert_eq!(table.look(&name("q/x")), Known::Unknown, "nobody looked there");
    }

    #[test]
    fn a_look_does_not_undo_what_was_noted_while_it_ran() {
        let name = |text| DatasetName::parse(text).unwrap();
        let table = Table::default();
        table.note(&name("p/old"), Known::Missing);
        let started = table.listing_started();
        table.note(&name("p/new"), Known::Exists(facts(true)));
        for looked in ["p/old", "p/new", "p/other"] {
            table.found(&started, &name(looked), Known::Exists(facts(false)));
        }
        assert_eq!(table.look(&name("p/old")), Known::Exists(facts(false)));
        assert_eq!(table.look(&name("p/new")), Known::Exists(facts(true)));
        assert_eq!(table.look(&name("p/other")), Known::Exists(facts(false)));
    }

    #[test]
    fn names_of_a_peer_do_not_make_it_grow() {
        let name = |number: usize| DatasetName::parse(&format!("p/{number}")).unwrap();
        let table = Table::default();
        let started = table.listing_started();
        for number in 0..5 * TABLE_EXTRAS {
            table.note(&name(number), Known::Missing);
            table.forget(&name(number));
        }
        assert!(table.inner().entries.len() <= TABLE_EXTRAS);
        assert_eq!(table.look(&name(0)), Known::Unknown);
        table.replace(&started, [(name(0), facts(false))], vec![]);
        assert_eq!(table.look(&name(0)), Known::Unknown, "what changed during the listing was forgotten");
    }
}
