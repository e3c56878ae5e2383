//! One side of a pool as an endpoint sees it: ZFS, the table, and what both halves do alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::abstraction::Abstraction;
use model::aside::is_aside;
use model::event::{About, What};
use model::protection::{Protection, bookmark_protection, hold_protection};
use model::view::{FilesystemView, PartialReceive};
use model::{DatasetName, JobName, RetryClass};
use wire::CallError;
use zfs::{Dataset, Error, ErrorKind, Hold, Listing, Scope, Snapshot, Zfs};

use super::batch::Batches;
use super::locks::{Guard, Locks};
use super::passing::Passing;
use super::table::{Facts, Known, Table};
use super::{needs_person, refused};
use crate::abstractions::{by_dataset, held_snapshots, of_dataset};
use crate::events::Events;
use crate::isolate::{self, Unlisted};

/// What a sender and a receiver have in common. Names are those of this side's pools.
pub(super) struct Side {
    pub(super) zfs: Arc<dyn Zfs>,
    pub(super) events: Events,
    pub(super) job: JobName,
    pub(super) table: Table,
    pub(super) batches: Batches,
    /// How long a stream may stand still.
    pub(super) stall: Duration,
    locks: Locks<DatasetName>,
    /// What the last listing had to warn of, so that it is told once and not at every listing.
    warned: Mutex<Vec<(About, String)>>,
}

/// The result of a listing.
pub(super) struct Scanned {
    pub(super) seen: Vec<Seen>,
    /// Roots that do not exist.
    pub(super) missing: Vec<DatasetName>,
    /// Trees that could not be listed, and why.
    pub(super) unlisted: Unlisted,
    /// What was left out, for [`Side::warn_once`].
    pub(super) warnings: Vec<(About, String)>,
    /// What zrepl keeps on everything that was listed, wanted or not; only if that was asked for.
    pub(super) abstractions: Vec<Abstraction>,
}

/// Holds by dataset.
type Holds = BTreeMap<DatasetName, Vec<Hold>>;

/// What a listing says besides what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nothing.
    Nothing,
    /// What zrepl keeps on all of it, whoever's.
    Abstractions,
}

/// A dataset with the job's protections.
pub(super) struct Seen {
    pub(super) dataset: Dataset,
    pub(super) protections: Vec<Protection>,
}

impl Side {
    pub(super) fn new(zfs: Arc<dyn Zfs>, events: &Events, job: JobName, stall: Duration) -> Self {
        Self {
            zfs,
            events: events.of_job(&job),
            job,
            table: Table::default(),
            batches: Batches::default(),
            stall,
            locks: Locks::default(),
            warned: Mutex::default(),
        }
    }

    /// Lists a scope, keeps what `wanted` selects, and fills the table with it. One listing, and at most
    /// one look at holds, however many datasets there are.
    pub(super) async fn scan(
        &self,
        scope: &Scope,
        wanted: impl Fn(&DatasetName) -> bool,
        beside: Beside,
    ) -> Result<Scanned, CallError> {
        let started = self.table.listing_started();
        let listed = isolate::list(&*self.zfs, scope).await.map_err(|error| refused(&error))?;
        let (Listing { datasets, missing, skipped }, mut unlisted) = listed;
        // What was moved out of the way is neither received into, nor sent, nor pruned.
        let wanted = |name: &DatasetName| wanted(name) && !is_aside(name);
        let (datasets, mut others): (Vec<_>, Vec<_>) = datasets.into_iter().partition(|dataset| wanted(&dataset.name));
        if beside == Beside::Nothing {
            others.clear();
        }
        let (datasets, mut holds) = self.with_holds(scope, datasets, &others, &mut unlisted).await?;
        let abstractions = match beside {
            Beside::Nothing => Vec::new(),
            Beside::Abstractions => {
                datasets.iter().chain(&others).flat_map(|dataset| all_of(dataset, &holds)).collect()
            }
        };
        let seen = self.protected(datasets, &mut holds);
        let facts = seen.iter().map(|seen| (seen.dataset.name.clone(), seen.facts()));
        self.table.replace(&started, facts, unlisted.keys().cloned().collect());
        let warnings =
            skipped.into_iter().map(|what| (About::Nothing, format!("left out of the listing: {what}"))).collect();
        Ok(Scanned { seen, missing, unlisted, warnings, abstractions })
    }

    /// The same for these datasets without their descendants, in few processes, and which of them could
    /// not be looked at. What is not there is left out.
    pub(super) async fn scan_some(&self, names: &[DatasetName]) -> Result<(Vec<Seen>, Unlisted), CallError> {
        if names.is_empty() {
            return Ok((Vec::new(), Unlisted::new()));
        }
        let scope = Scope::Only(names.to_vec());
        let started = self.table.listing_started();
        let listed = isolate::list(&*self.zfs, &scope).await.map_err(|error| refused(&error))?;
        let (Listing { datasets, .. }, mut unlisted) = listed;
        let (datasets, mut holds) = self.with_holds(&scope, datasets, &[], &mut unlisted).await?;
        let seen = self.protected(datasets, &mut holds);
        let facts: BTreeMap<&DatasetName, Facts> = seen.iter().map(|seen| (&seen.dataset.name, seen.facts())).collect();
        for name in names {
            let known = match facts.get(name) {
                Some(facts) => Known::Exists(facts.clone()),
                None if unlisted.contains_key(name) => Known::Unknown,
                None => Known::Missing,
            };
            self.table.found(&started, name, known);
        }
        Ok((seen, unlisted))
    }

    /// What is known of a dataset; looks at it if nothing is. None if it does not exist.
    pub(super) async fn facts(&self, name: &DatasetName) -> Result<Option<Facts>, CallError> {
        match self.table.look(name) {
            Known::Exists(facts) => return Ok(Some(facts)),
            Known::Missing => return Ok(None),
            Known::Unknown => {}
        }
        let started = self.table.listing_started();
        let dataset = match self.zfs.dataset(name).await {
            Ok(dataset) => dataset,
            Err(error) if error.is_not_found() => {
                self.table.found(&started, name, Known::Missing);
                return Ok(None);
            }
            Err(error) => return Err(refused(&error)),
        };
        let facts = self.with_protections(vec![dataset]).await?.first().map(Seen::facts);
        self.table.found(&started, name, facts.clone().map_or(Known::Missing, Known::Exists));
        Ok(facts)
    }

    /// Only one request at a time may change a filesystem.
    pub(super) async fn lock(&self, name: &DatasetName) -> Result<Guard, CallError> {
        self.locks.lock(name).await.ok_or_else(|| Passing::UnderWay(name.to_string()).into())
    }

    /// The refusal of a request about a dataset, or, if its pool is not there, that: a dataset of such a
    /// pool merely does not exist for ZFS.
    pub(super) async fn or_pool_missing(&self, name: &DatasetName, refusal: CallError) -> CallError {
        let Ok(pool) = DatasetName::parse(name.pool()) else { return refusal };
        if refusal.class() != RetryClass::Permanent {
            return refusal;
        }
        match self.zfs.dataset(&pool).await {
            Err(error) if error.is_not_found() || matches!(error.kind, ErrorKind::PoolMissing { .. }) => {
                let pool = pool.to_string();
                needs_person(format!("{refusal}: {}", ErrorKind::PoolMissing { pool }))
            }
            _ => refusal,
        }
    }

    /// Takes those whose pool is not there out of names that do not exist, with that as the reason: an
    /// exported pool is not one in which everything was destroyed.
    pub(super) async fn take_out_of_missing_pools(&self, names: &mut Vec<DatasetName>, seen: &[Seen]) -> Unlisted {
        let mut without = Unlisted::new();
        let is_there = |pool: &&DatasetName| seen.iter().any(|seen| seen.dataset.name.pool() == pool.as_str());
        for pool in pools_of(names.iter()).iter().filter(|pool| !is_there(pool)) {
            let error = match self.zfs.dataset(pool).await {
                Ok(_) => continue,
                Err(error) if error.is_not_found() => {
                    Error { kind: ErrorKind::PoolMissing { pool: pool.to_string() }, ..error }
                }
                Err(error) => error,
            };
            let gone = names.iter().filter(|name| name.pool() == pool.as_str());
            without.extend(gone.map(|name| (name.clone(), error.clone())));
        }
        names.retain(|name| !without.contains_key(name));
        without
    }

    async fn with_protections(&self, datasets: Vec<Dataset>) -> Result<Vec<Seen>, CallError> {
        let held: Vec<Snapshot> = datasets.iter().flat_map(held_snapshots).collect();
        let mut holds = self.holds(&held).await.map_err(|error| refused(&error))?;
        Ok(self.protected(datasets, &mut holds))
    }

    /// The holds on these datasets of a scope in one look, and on others, which are not worth a failure.
    /// Where no holds can be looked up nothing is known of the datasets either: they are `unlisted`.
    async fn with_holds(
        &self,
        scope: &Scope,
        mut datasets: Vec<Dataset>,
        others: &[Dataset],
        unlisted: &mut Unlisted,
    ) -> Result<(Vec<Dataset>, Holds), CallError> {
        let wanted: Vec<Snapshot> = datasets.iter().flat_map(held_snapshots).collect();
        let more: Vec<Snapshot> = others.iter().flat_map(held_snapshots).collect();
        let mut tried = self.holds(&[wanted.as_slice(), more.as_slice()].concat()).await;
        if tried.is_err() && !more.is_empty() {
            tried = self.holds(&wanted).await;
        }
        let error = match tried {
            Ok(holds) => return Ok((datasets, holds)),
            Err(error) => error,
        };
        let roots = match scope {
            Scope::Trees(roots) | Scope::Only(roots) => roots.clone(),
            Scope::Everything => pools_of(datasets.iter().map(|dataset| &dataset.name)),
        };
        let is_of = |name: &DatasetName, root: &DatasetName| match scope {
            Scope::Only(_) => name == root,
            Scope::Trees(_) | Scope::Everything => name.is_within(root),
        };
        let look = |roots: Vec<DatasetName>| {
            let is_wanted = |held: &&Snapshot| roots.iter().any(|root| is_of(&held.dataset, root));
            let held: Vec<Snapshot> = wanted.iter().filter(is_wanted).cloned().collect();
            async move { self.holds(&held).await }
        };
        let looked = isolate::one_by_one(roots, error, look).await.map_err(|error| refused(&error))?;
        let (holds, without) = looked;
        datasets.retain(|dataset| !without.keys().any(|root| is_of(&dataset.name, root)));
        unlisted.extend(without);
        Ok((datasets, holds.into_iter().flatten().collect()))
    }

    async fn holds(&self, held: &[Snapshot]) -> Result<Holds, zfs::Error> {
        match held.is_empty() {
            true => Ok(Holds::new()),
            false => self.zfs.holds(held).await.map(by_dataset),
        }
    }

    fn protected(&self, datasets: Vec<Dataset>, holds: &mut Holds) -> Vec<Seen> {
        let seen = datasets.into_iter().map(|dataset| {
            let holds = holds.remove(&dataset.name).unwrap_or_default();
            Seen { protections: self.protections_of(&dataset, &holds), dataset }
        });
        seen.collect()
    }

    fn protections_of(&self, dataset: &Dataset, holds: &[Hold]) -> Vec<Protection> {
        let bookmarks = dataset.versions.iter().filter_map(|version| bookmark_protection(version, &self.job));
        let holds = holds.iter().filter_map(|hold| {
            let snapshot =
                dataset.versions.iter().find(|version| version.is_snapshot() && version.name == hold.snapshot)?;
            hold_protection(&hold.tag, snapshot, &self.job)
        });
        bookmarks.chain(holds).collect()
    }

    /// Tells warnings that the last listing did not have.
    pub(super) fn warn_once(&self, warnings: Vec<(About, String)>) {
        let before =
            std::mem::replace(&mut *self.warned.lock().unwrap_or_else(PoisonError::into_inner), warnings.clone());
        for (about, message) in warnings.into_iter().filter(|warning| !before.contains(warning)) {
            self.events.tell_about(about, What::Warning { subsystem: "endpoint", message });
        }
    }
}

fn pools_of<'a>(names: impl Iterator<Item = &'a DatasetName>) -> Vec<DatasetName> {
    let pools: BTreeSet<&str> = names.map(DatasetName::pool).collect();
    pools.into_iter().filter_map(|pool| DatasetName::parse(pool).ok()).collect()
}

fn all_of(dataset: &Dataset, holds: &Holds) -> Vec<Abstraction> {
    of_dataset(dataset, holds.get(&dataset.name).map_or(&[], Vec::as_slice))
}

impl Seen {
    fn facts(&self) -> Facts {
        Facts { protections: self.protections.clone(), ..Facts::of(&self.dataset) }
    }

    /// As planning sees it, with what an interrupted receive left if `partial` is wanted.
    pub(super) fn into_view(self, partial: PartialState) -> FilesystemView {
        let Seen { dataset, protections } = self;
        FilesystemView {
            kind: dataset.kind,
            placeholder: dataset.placeholder,
            encryption: dataset.encryption,
            versions: dataset.versions,
            partial: match partial {
                PartialState::Ignored => None,
                PartialState::Decoded => dataset.resume_token.map(decode_partial),
            },
            protections,
        }
    }
}

/// Whether a view tells of interrupted receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartialState {
    /// A sender's are none of this job's business: another job receives there.
    Ignored,
    /// A receiver's are what a step continues.
    Decoded,
}

fn decode_partial(token: String) -> PartialReceive {
    PartialReceive { contents: zfs::token::decode(&token).map_err(|error| error.to_string()), token: token.into() }
}
