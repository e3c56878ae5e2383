//! The pools of a machine and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::view::{DatasetKind, Encryption, Placeholder};
use model::{CreateTxg, DatasetName, Guid, HoldTag, UnixTime, Version, VersionKind, VersionName, VersionRef};
use sha2::{Digest, Sha512_256};

use super::content::Content;
use super::receive::Partial;
use super::rng::Rng;
use crate::error::ErrorKind;
use crate::listing::{Contents, Dataset};
use crate::ops::Snapshot;

/// How a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// Imported, works.
    Online,
    /// Imported read-only.
    ReadOnly,
    /// Stopped after an I/O error: reads of cached data work, nothing else.
    Suspended,
    /// Not imported; its datasets do not exist for `zfs`.
    Exported,
}

#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) state: PoolState,
    pub(super) capacity: Option<u64>,
    pub(super) txg: u64,
    pub(super) can_resume: bool,
}

/// Where a property's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Set here.
    Local,
    /// Came with a stream.
    Received,
}

pub(super) type Properties = BTreeMap<String, (String, Source)>;

/// A filesystem or volume.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: DatasetKind,
    /// The dataset whose key encrypts this one.
    pub(super) encryption_root: Option<DatasetName>,
    /// Meaningful on an encryption root.
    pub(super) key_loaded: bool,
    pub(super) properties: Properties,
    pub(super) quota: Option<u64>,
    pub(super) head: Arc<Content>,
    /// When the head last changed.
    pub(super) modified: u64,
    /// Oldest first.
    pub(super) snapshots: Vec<Snap>,
    /// Whether there ever was one.
    pub(super) had_snapshots: bool,
    pub(super) bookmarks: BTreeMap<VersionName, Mark>,
    /// The snapshot from which this dataset was cloned.
    pub(super) origin: Option<(DatasetName, Guid)>,
    pub(super) partial: Option<Partial>,
    /// Only the state of an interrupted first receive.
    pub(super) incomplete: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Snap {
    pub(super) name: VersionName,
    pub(super) guid: Guid,
    pub(super) txg: u64,
    pub(super) creation: UnixTime,
    pub(super) content: Arc<Content>,
    pub(super) holds: BTreeSet<HoldTag>,
    /// Sends under way.
    pub(super) sends: u32,
}

/// A bookmark keeps its snapshot's content only so that a send can tell what changed since; real ones
/// know that from the birth times of blocks.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) guid: Guid,
    pub(super) txg: u64,
    pub(super) creation: UnixTime,
    pub(super) content: Arc<Content>,
}

impl Snap {
    pub(super) fn mark(&self) -> Mark {
        Mark { guid: self.guid, txg: self.txg, creation: self.creation, content: Arc::clone(&self.content) }
    }
}

impl Node {
    pub(super) fn new(kind: DatasetKind) -> Self {
        Self {
            kind,
            encryption_root: None,
            key_loaded: false,
            properties: Properties::new(),
            quota: None,
            head: Arc::default(),
            modified: 0,
            snapshots: Vec::new(),
            had_snapshots: false,
            bookmarks: BTreeMap::new(),
            origin: None,
            partial: None,
            incomplete: false,
        }
    }

    pub(super) fn snap(&self, name: &VersionName) -> Option<&Snap> {
        self.snapshots.iter().find(|snap| snap.name == *name)
    }

    pub(super) fn snap_mut(&mut self, name: &VersionName) -> Option<&mut Snap> {
        self.snapshots.iter_mut().find(|snap| snap.name == *name)
    }

    pub(super) fn snap_by_guid(&self, guid: Guid) -> Option<&Snap> {
        self.snapshots.iter().find(|snap| snap.guid == guid)
    }

    /// A snapshot or bookmark by name.
    pub(super) fn mark(&self, version: &VersionRef) -> Option<Mark> {
        match version.kind {
            VersionKind::Snapshot => self.snap(&version.name).map(Snap::mark),
            VersionKind::Bookmark => self.bookmarks.get(&version.name).cloned(),
        }
    }

    /// A snapshot or bookmark by what it stands for.
    pub(super) fn mark_by_guid(&self, guid: Guid) -> Option<Mark> {
        let bookmark = || self.bookmarks.values().find(|mark| mark.guid == guid).cloned();
        self.snap_by_guid(guid).map(Snap::mark).or_else(bookmark)
    }

    fn versions(&self) -> Arc<[Version]> {
        let snapshots = self.snapshots.iter().map(|snap| Version {
            kind: VersionKind::Snapshot,
            name: snap.name.clone(),
            guid: snap.guid,
            createtxg: CreateTxg(snap.txg),
            creation: snap.creation,
            userrefs: u32::try_from(snap.holds.len()).unwrap_or(u32::MAX),
        });
        let bookmarks = self.bookmarks.iter().map(|(name, mark)| Version {
            kind: VersionKind::Bookmark,
            name: name.clone(),
            guid: mark.guid,
            createtxg: CreateTxg(mark.txg),
            creation: mark.creation,
            userrefs: 0,
        });
        let mut versions: Vec<Version> = bookmarks.chain(snapshots).collect();
        versions.sort_by_key(Version::order);
        versions.into()
    }

    fn placeholder_text(&self) -> Option<Box<str>> {
        match self.properties.get("zrepl:placeholder") {
            Some((value, Source::Local)) => Some(value.as_str().into()),
            _ => None,
        }
    }

    fn placeholder(&self, name: &DatasetName) -> Placeholder {
        match self.properties.get("zrepl:placeholder") {
            Some((value, Source::Local)) if value == "on" || *value == legacy_placeholder(name) => Placeholder::On,
            Some((value, Source::Local)) if value == "off" => Placeholder::Off,
            _ => Placeholder::Unset,
        }
    }
}

/// What zrepl 0.0 wrote for "on".
fn legacy_placeholder(name: &DatasetName) -> String {
    Sha512_256::digest(name.as_str()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A failure that has no kind of its own: the words of ZFS.
pub(super) fn failed(command: &str, words: impl Into<String>) -> ErrorKind {
    ErrorKind::Failed { command: format!("zfs {command}"), status: "exit status 1".into(), stderr: words.into() }
}

/// A machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) rng: Rng,
    pub(super) pools: BTreeMap<String, Pool>,
    pub(super) datasets: BTreeMap<DatasetName, Node>,
}

impl Host {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), pools: BTreeMap::new(), datasets: BTreeMap::new() }
    }

    pub(super) fn is_imported(&self, pool: &str) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.state != PoolState::Exported)
    }

    pub(super) fn node(&self, name: &DatasetName) -> Result<&Node, ErrorKind> {
        self.datasets.get(name).filter(|_| self.is_imported(name.pool())).ok_or(ErrorKind::NotFound)
    }

    /// A dataset that can be changed.
    pub(super) fn node_mut(&mut self, name: &DatasetName) -> Result<&mut Node, ErrorKind> {
        self.node(name)?;
        self.writable(name.pool())?;
        self.datasets.get_mut(name).ok_or(ErrorKind::NotFound)
    }

    pub(super) fn writable(&self, pool: &str) -> Result<(), ErrorKind> {
        let missing = || ErrorKind::PoolMissing { pool: pool.to_owned() };
        match self.pools.get(pool).ok_or_else(missing)?.state {
            PoolState::Online => Ok(()),
            PoolState::ReadOnly => Err(ErrorKind::ReadOnly),
            PoolState::Suspended => Err(ErrorKind::PoolSuspended { pool: pool.to_owned() }),
            PoolState::Exported => Err(missing()),
        }
    }

    pub(super) fn next_txg(&mut self, pool: &str) -> u64 {
        match self.pools.get_mut(pool) {
            Some(pool) => {
                pool.txg += 1;
                pool.txg
            }
            None => 0,
        }
    }

    pub(super) fn next_guid(&mut self) -> Guid {
        // 0 means "none" in a stream.
        Guid(self.rng.next().max(1))
    }

    /// The dataset and everything below it, in order.
    pub(super) fn tree(&self, root: &DatasetName) -> impl Iterator<Item = (&DatasetName, &Node)> {
        self.datasets.iter().filter(move |(name, _)| name.is_within(root) && self.is_imported(name.pool()))
    }

    pub(super) fn has_children(&self, name: &DatasetName) -> bool {
        self.datasets.keys().any(|other| other.is_below(name))
    }

    pub(super) fn key_loaded(&self, root: &DatasetName) -> bool {
        self.datasets.get(root).is_some_and(|node| node.key_loaded)
    }

    pub(super) fn encryption(&self, node: &Node) -> Encryption {
        match &node.encryption_root {
            None => Encryption::None,
            Some(root) => Encryption::Encrypted { key_loaded: self.key_loaded(root) },
        }
    }

    pub(super) fn dataset(&self, name: &DatasetName, node: &Node) -> Dataset {
        Dataset {
            name: name.clone(),
            kind: node.kind,
            placeholder: node.placeholder(name),
            placeholder_text: node.placeholder_text(),
            encryption: self.encryption(node),
            resume_token: node.partial.as_ref().and_then(Partial::token),
            versions: node.versions(),
        }
    }

    pub(super) fn contents(&self, name: &DatasetName) -> Result<Contents, ErrorKind> {
        let node = self.node(name)?;
        let is_filesystem = node.kind == DatasetKind::Filesystem;
        let mountpoint = std::iter::once(name.clone())
            .chain(name.ancestors())
            .find_map(|name| self.datasets.get(&name)?.properties.get("mountpoint"));
        let without_mountpoint = is_filesystem && mountpoint.is_some_and(|(value, _)| value == "none");
        let readable = self.encryption(node) != Encryption::Encrypted { key_loaded: false };
        Ok(Contents {
            kind: node.kind,
            logical_bytes: node.head.bytes(),
            mounted: is_filesystem && !without_mountpoint && !node.incomplete && readable,
            without_mountpoint,
            had_snapshots: Some(node.had_snapshots),
        })
    }

    /// Whether a snapshot is the origin of a clone or the base of an interrupted receive, which ZFS
    /// keeps in a hidden clone.
    fn has_clones(&self, dataset: &DatasetName, node: &Node, guid: Guid) -> bool {
        let hidden = node.partial.as_ref().is_some_and(|partial| !node.incomplete && partial.from == Some(guid));
        let origin = |other: &Node| other.origin.as_ref().is_some_and(|origin| *origin == (dataset.clone(), guid));
        hidden || self.datasets.values().any(origin)
    }

    /// Why a snapshot cannot be destroyed.
    pub(super) fn undestroyable(&self, dataset: &DatasetName, node: &Node, snap: &Snap) -> Option<ErrorKind> {
        if self.has_clones(dataset, node, snap.guid) {
            Some(ErrorKind::HasClones)
        } else if snap.sends > 0 || !snap.holds.is_empty() {
            Some(ErrorKind::Held)
        } else {
            None
        }
    }

    /// Bytes of all distinct blocks below `root`.
    pub(super) fn used(&self, root: &DatasetName) -> u64 {
        let contents = self.tree(root).flat_map(|(_, node)| {
            let partial = node.partial.iter().map(|partial| &partial.content);
            node.snapshots.iter().map(|snap| &*snap.content).chain([&*node.head]).chain(partial)
        });
        let mut seen = BTreeSet::new();
        contents
            .flat_map(Content::blocks)
            .filter(|block| seen.insert(Arc::as_ptr(block).cast::<u8>() as usize))
            .map(|block| block.len() as u64)
            .sum()
    }

    /// Why so many more bytes do not fit below `name`.
    pub(super) fn no_room(&self, name: &DatasetName, bytes: u64) -> Option<ErrorKind> {
        let Ok(root) = DatasetName::parse(name.pool()) else { return Some(ErrorKind::NotFound) };
        let capacity = self.pools.get(name.pool()).and_then(|pool| pool.capacity);
        if capacity.is_some_and(|capacity| self.used(&root) + bytes > capacity) {
            return Some(ErrorKind::NoSpace);
        }
        std::iter::once(name.clone())
            .chain(name.ancestors())
            .filter_map(|name| Some((self.datasets.get(&name)?.quota?, name)))
            .any(|(quota, name)| self.used(&name) + bytes > quota)
            .then_some(ErrorKind::QuotaExceeded)
    }

    pub(super) fn check_snapshot_name(dataset: &DatasetName, name: &VersionName) -> Result<(), ErrorKind> {
        let full = Snapshot { dataset: dataset.clone(), name: name.clone() }.to_string();
        if full.len() <= model::name::MAX_NAME_LEN {
            return Ok(());
        }
        Err(ErrorKind::Name(model::NameError {
            what: "snapshot or bookmark name",
            problem: format!("is {} bytes long, ZFS allows {}", full.len(), model::name::MAX_NAME_LEN),
            name: full,
        }))
    }
}
