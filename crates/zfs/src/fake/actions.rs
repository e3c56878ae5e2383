//! The short operations, each done at once under the lock.

use std::sync::Arc;

use model::view::DatasetKind;
use model::{DatasetName, HoldTag, UnixTime, VersionName, VersionRef};

use super::state::{Host, Node, Snap, Source, failed};
use crate::error::ErrorKind;
use crate::listing::{Hold, Listing, Scope};
use crate::ops::Snapshot;

/// Native properties that may be set; the others without a colon are refused as ZFS does.
const NATIVE: [&str; 9] =
    ["atime", "canmount", "compression", "encryption", "mountpoint", "quota", "readonly", "recordsize", "snapdir"];

impl Host {
    pub(super) fn list(&self, scope: &Scope) -> Listing {
        let mut listing = Listing::default();
        match scope {
            Scope::Everything => {
                let all = self.datasets.iter().filter(|(name, _)| self.is_imported(name.pool()));
                listing.datasets.extend(all.map(|(name, node)| self.dataset(name, node)));
            }
            Scope::Trees(roots) => {
                for root in roots {
                    if self.node(root).is_err() {
                        listing.missing.push(root.clone());
                    }
                    listing.datasets.extend(self.tree(root).map(|(name, node)| self.dataset(name, node)));
                }
            }
            Scope::Only(names) => {
                for name in names {
                    match self.node(name) {
                        Ok(node) => listing.datasets.push(self.dataset(name, node)),
                        Err(_) => listing.missing.push(name.clone()),
                    }
                }
                listing.datasets.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        listing
    }

    pub(super) fn holds(&self, snapshots: &[Snapshot]) -> Vec<Hold> {
        let found = snapshots.iter().filter_map(|snapshot| {
            let snap = self.node(&snapshot.dataset).ok()?.snap(&snapshot.name)?;
            Some((snapshot, snap))
        });
        found
            .flat_map(|(snapshot, snap)| {
                snap.holds.iter().map(|tag| Hold {
                    dataset: snapshot.dataset.clone(),
                    snapshot: snapshot.name.clone(),
                    tag: tag.clone(),
                })
            })
            .collect()
    }

    /// A new empty dataset below an existing one, encrypted like it unless told otherwise.
    pub(super) fn create(
        &mut self,
        name: &DatasetName,
        kind: DatasetKind,
        properties: &[(&str, &str)],
    ) -> Result<(), ErrorKind> {
        if !self.is_imported(name.pool()) {
            return Err(ErrorKind::PoolMissing { pool: name.pool().to_owned() });
        }
        let parent = name.parent().ok_or(ErrorKind::Exists)?;
        if self.datasets.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        self.node(&parent)?;
        self.writable(name.pool())?;
        let mut node = Node::new(kind);
        if !properties.contains(&("encryption", "off")) {
            node.encryption_root = self.inherited_key(&parent)?;
        }
        for (property, value) in properties {
            set(&mut node, property, value, Source::Local)?;
        }
        node.modified = self.next_txg(name.pool());
        self.datasets.insert(name.clone(), node);
        Ok(())
    }

    /// The encryption root below which a new plain dataset comes to be.
    pub(super) fn inherited_key(&self, parent: &DatasetName) -> Result<Option<DatasetName>, ErrorKind> {
        match self.datasets.get(parent).and_then(|node| node.encryption_root.clone()) {
            Some(root) if !self.key_loaded(&root) => Err(ErrorKind::KeyNotLoaded),
            root => Ok(root),
        }
    }

    pub(super) fn set_property(&mut self, name: &DatasetName, property: &str, value: &str) -> Result<(), ErrorKind> {
        let node = self.node_mut(name)?;
        set(node, property, value, Source::Local)?;
        self.next_txg(name.pool());
        Ok(())
    }

    /// Why a snapshot cannot be taken.
    fn check_snapshot(&self, snapshot: &Snapshot) -> Result<(), ErrorKind> {
        let node = self.node(&snapshot.dataset)?;
        self.writable(snapshot.dataset.pool())?;
        Host::check_snapshot_name(&snapshot.dataset, &snapshot.name)?;
        if node.snap(&snapshot.name).is_some() {
            return Err(ErrorKind::Exists);
        }
        if node.incomplete { Err(ErrorKind::Busy) } else { Ok(()) }
    }

    /// Takes snapshots of one pool in one transaction group.
    pub(super) fn take_snapshots(&mut self, snapshots: &[&Snapshot], now: UnixTime) -> Vec<Result<(), ErrorKind>> {
        let Some(first) = snapshots.first() else { return Vec::new() };
        let txg = self.next_txg(first.dataset.pool());
        snapshots
            .iter()
            .map(|snapshot| {
                self.check_snapshot(snapshot)?;
                let guid = self.next_guid();
                let node = self.node_mut(&snapshot.dataset)?;
                node.had_snapshots = true;
                node.snapshots.push(Snap {
                    name: snapshot.name.clone(),
                    guid,
                    txg,
                    creation: now,
                    content: node.head.clone(),
                    holds: Default::default(),
                    sends: 0,
                });
                Ok(())
            })
            .collect()
    }

    pub(super) fn bookmark(
        &mut self,
        dataset: &DatasetName,
        source: &VersionRef,
        bookmark: &VersionName,
    ) -> Result<(), ErrorKind> {
        let node = self.node(dataset)?;
        let mark = node.mark(source).ok_or(ErrorKind::NotFound)?;
        Host::check_snapshot_name(dataset, bookmark)?;
        if let Some(existing) = node.bookmarks.get(bookmark) {
            return if existing.guid == source.guid { Ok(()) } else { Err(ErrorKind::Exists) };
        }
        self.node_mut(dataset)?.bookmarks.insert(bookmark.clone(), mark);
        self.next_txg(dataset.pool());
        Ok(())
    }

    pub(super) fn hold(&mut self, tag: &HoldTag, snapshot: &Snapshot) -> Result<(), ErrorKind> {
        self.node(&snapshot.dataset)?.snap(&snapshot.name).ok_or(ErrorKind::NotFound)?;
        let node = self.node_mut(&snapshot.dataset)?;
        node.snap_mut(&snapshot.name).ok_or(ErrorKind::NotFound)?.holds.insert(tag.clone());
        self.next_txg(snapshot.dataset.pool());
        Ok(())
    }

    pub(super) fn release(&mut self, tag: &HoldTag, snapshot: &Snapshot) -> Result<(), ErrorKind> {
        let held = |node: &Node| node.snap(&snapshot.name).is_some_and(|snap| snap.holds.contains(tag));
        if !self.node(&snapshot.dataset).is_ok_and(held) {
            return Ok(());
        }
        if let Some(snap) = self.node_mut(&snapshot.dataset)?.snap_mut(&snapshot.name) {
            snap.holds.remove(tag);
        }
        self.next_txg(snapshot.dataset.pool());
        Ok(())
    }

    pub(super) fn destroy_snapshot(&mut self, dataset: &DatasetName, name: &VersionName) -> Result<(), ErrorKind> {
        let Ok(node) = self.node(dataset) else { return Ok(()) };
        let Some(snap) = node.snap(name) else { return Ok(()) };
        let reason = self.undestroyable(dataset, node, snap);
        self.writable(dataset.pool())?;
        if let Some(reason) = reason {
            return Err(reason);
        }
        self.node_mut(dataset)?.snapshots.retain(|snap| snap.name != *name);
        self.next_txg(dataset.pool());
        Ok(())
    }

    /// All or none; the error names the one that is in the way, if it is one.
    pub(super) fn destroy_together(
        &mut self,
        dataset: &DatasetName,
        names: &[VersionName],
    ) -> Result<(), (Option<VersionName>, ErrorKind)> {
        let Ok(node) = self.node(dataset) else { return Ok(()) };
        self.writable(dataset.pool()).map_err(|kind| (None, kind))?;
        for name in names {
            let reason = node.snap(name).and_then(|snap| self.undestroyable(dataset, node, snap));
            if let Some(reason) = reason {
                return Err((Some(name.clone()), reason));
            }
        }
        let node = self.node_mut(dataset).map_err(|kind| (None, kind))?;
        node.snapshots.retain(|snap| !names.contains(&snap.name));
        self.next_txg(dataset.pool());
        Ok(())
    }

    /// `zfs rollback` without `-r`.
    pub(super) fn rollback_to_newest(&mut self, snapshot: &Snapshot) -> Result<(), ErrorKind> {
        let node = self.node(&snapshot.dataset)?;
        let txg = node.snap(&snapshot.name).ok_or(ErrorKind::NotFound)?.txg;
        let newer =
            node.snapshots.iter().any(|snap| snap.txg > txg) || node.bookmarks.values().any(|mark| mark.txg > txg);
        if newer {
            return Err(ErrorKind::NewerVersions);
        }
        self.rollback(snapshot)
    }

    /// `zfs rollback -r`.
    pub(super) fn rollback(&mut self, snapshot: &Snapshot) -> Result<(), ErrorKind> {
        let node = self.node(&snapshot.dataset)?;
        let target = node.snap(&snapshot.name).ok_or(ErrorKind::NotFound)?;
        let (txg, content) = (target.txg, Arc::clone(&target.content));
        let newer = node.snapshots.iter().filter(|snap| snap.txg > txg);
        if let Some(reason) = newer.filter_map(|snap| self.undestroyable(&snapshot.dataset, node, snap)).next() {
            return Err(reason);
        }
        self.writable(snapshot.dataset.pool())?;
        let now = self.next_txg(snapshot.dataset.pool());
        let node = self.node_mut(&snapshot.dataset)?;
        node.snapshots.retain(|snap| snap.txg <= txg);
        node.bookmarks.retain(|_, mark| mark.txg <= txg);
        node.head = content;
        // A head that is exactly a snapshot does not count as modified since.
        node.modified = if node.modified > txg { txg } else { node.modified.min(now) };
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &DatasetName, to: &DatasetName) -> Result<(), ErrorKind> {
        self.node(from)?;
        if from.parent().is_none() || from.pool() != to.pool() || to.is_below(from) {
            return Err(failed("rename", format!("cannot rename '{from}' to '{to}'")));
        }
        if self.datasets.contains_key(to) {
            return Err(ErrorKind::Exists);
        }
        self.node(&to.parent().ok_or(ErrorKind::Exists)?)?;
        let receiving = |node: &Node| node.partial.as_ref().is_some_and(|partial| partial.receiving);
        if self.tree(from).any(|(_, node)| receiving(node)) {
            return Err(ErrorKind::Busy);
        }
        let mut renamed = Vec::new();
        for (name, node) in self.tree(from) {
            let new = renamed_below(name, from, to)?;
            for snap in &node.snapshots {
                Host::check_snapshot_name(&new, &snap.name)?;
            }
            renamed.push((name.clone(), new));
        }
        self.writable(from.pool())?;
        for (old, new) in renamed {
            if let Some(node) = self.datasets.remove(&old) {
                self.datasets.insert(new, node);
            }
        }
        let follow = |name: &mut DatasetName| {
            if let (true, Ok(new)) = (name.is_within(from), renamed_below(name, from, to)) {
                *name = new;
            }
        };
        for node in self.datasets.values_mut() {
            node.origin.iter_mut().for_each(|(name, _)| follow(name));
            node.encryption_root.iter_mut().for_each(follow);
        }
        self.next_txg(from.pool());
        Ok(())
    }

    pub(super) fn destroy_bookmark(&mut self, dataset: &DatasetName, name: &VersionName) -> Result<(), ErrorKind> {
        let there = self.node(dataset).is_ok_and(|node| node.bookmarks.contains_key(name));
        if there {
            self.node_mut(dataset)?.bookmarks.remove(name);
            self.next_txg(dataset.pool());
        }
        Ok(())
    }

    pub(super) fn destroy_dataset(&mut self, name: &DatasetName) -> Result<(), ErrorKind> {
        let Ok(node) = self.node(name) else { return Ok(()) };
        if name.parent().is_none() {
            return Err(failed("destroy", format!("cannot destroy '{name}': operation does not apply to pools")));
        }
        // The state of an interrupted receive goes with its dataset.
        if !node.snapshots.is_empty() || self.has_children(name) {
            return Err(ErrorKind::HasChildren);
        }
        if node.partial.as_ref().is_some_and(|partial| partial.receiving) {
            return Err(ErrorKind::Busy);
        }
        self.writable(name.pool())?;
        self.datasets.remove(name);
        self.next_txg(name.pool());
        Ok(())
    }

    pub(super) fn abort_receive(&mut self, name: &DatasetName) -> Result<(), ErrorKind> {
        let Ok(node) = self.node(name) else { return Ok(()) };
        let Some(partial) = &node.partial else { return Ok(()) };
        if partial.receiving {
            return Err(ErrorKind::Busy);
        }
        if node.incomplete && self.has_children(name) {
            return Err(ErrorKind::Exists);
        }
        self.discard_partial(name)
    }

    /// Removes the state of a receive, and with it a dataset that is nothing else.
    pub(super) fn discard_partial(&mut self, name: &DatasetName) -> Result<(), ErrorKind> {
        let node = self.node_mut(name)?;
        if node.incomplete {
            self.datasets.remove(name);
        } else {
            node.partial = None;
        }
        self.next_txg(name.pool());
        Ok(())
    }
}

/// The name of what is `from` or below it once that is called `to`.
fn renamed_below(name: &DatasetName, from: &DatasetName, to: &DatasetName) -> Result<DatasetName, ErrorKind> {
    match name.strip_root(from) {
        None => Ok(to.clone()),
        Some(below) => Ok(to.join(&below)?),
    }
}

pub(super) fn set(node: &mut Node, property: &str, value: &str, source: Source) -> Result<(), ErrorKind> {
    if !property.contains(':') && !NATIVE.contains(&property) {
        return Err(failed("set", format!("invalid property '{property}'")));
    }
    if property == "quota" {
        node.quota = value.parse().ok();
    }
    node.properties.insert(property.to_owned(), (value.to_owned(), source));
    Ok(())
}
