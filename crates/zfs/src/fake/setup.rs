//! What a person, or another program, does on the machine: everything that [`Zfs`](crate::Zfs) does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::view::DatasetKind;
use model::{DatasetName, Guid, VersionName};

use super::FakeHost;
use super::content::{Content, ContentHash};
use super::state::{Node, Pool, PoolState, Source};
use crate::error::ErrorKind;
use crate::ops::Snapshot;

impl FakeHost {
    /// Makes a pool with an empty root filesystem. The name must be that of a pool.
    pub fn create_pool(&self, pool: &DatasetName) -> Result<(), ErrorKind> {
        let mut host = self.lock();
        if pool.parent().is_some() || host.pools.contains_key(pool.as_str()) {
            return Err(ErrorKind::Exists);
        }
        let fresh = Pool { state: PoolState::Online, capacity: None, txg: 1, can_resume: true };
        host.pools.insert(pool.to_string(), fresh);
        host.datasets.insert(pool.clone(), Node::new(DatasetKind::Filesystem));
        Ok(())
    }

    fn pool(&self, pool: &str, change: impl FnOnce(&mut Pool)) -> Result<(), ErrorKind> {
        let mut host = self.lock();
        let missing = || ErrorKind::PoolMissing { pool: pool.to_owned() };
        change(host.pools.get_mut(pool).ok_or_else(missing)?);
        Ok(())
    }

    /// Exports, imports, suspends a pool, or makes it read-only.
    pub fn set_pool_state(&self, pool: &str, state: PoolState) -> Result<(), ErrorKind> {
        self.pool(pool, |pool| pool.state = state)
    }

    /// Limits what a pool can hold, in bytes of distinct blocks.
    pub fn set_capacity(&self, pool: &str, bytes: Option<u64>) -> Result<(), ErrorKind> {
        self.pool(pool, |pool| pool.capacity = bytes)
    }

    /// Bytes of distinct blocks in a pool.
    pub fn used(&self, root: &DatasetName) -> u64 {
        self.lock().used(root)
    }

    /// Whether the pool has the feature that resumable receives need.
    pub fn set_can_resume(&self, pool: &str, can: bool) -> Result<(), ErrorKind> {
        self.pool(pool, |pool| pool.can_resume = can)
    }

    /// `zfs create`
    pub fn create_filesystem(&self, name: &DatasetName) -> Result<(), ErrorKind> {
        self.lock().create(name, DatasetKind::Filesystem, &[])
    }

    /// `zfs create -V`. The volume has no data yet.
    pub fn create_volume(&self, name: &DatasetName) -> Result<(), ErrorKind> {
        self.lock().create(name, DatasetKind::Volume, &[])
    }

    /// `zfs create -o encryption=on` with a key of its own, loaded.
    pub fn create_encrypted(&self, name: &DatasetName) -> Result<(), ErrorKind> {
        let mut host = self.lock();
        host.create(name, DatasetKind::Filesystem, &[("encryption", "off")])?;
        let node = host.node_mut(name)?;
        node.properties.remove("encryption");
        node.encryption_root = Some(name.clone());
        node.key_loaded = true;
        Ok(())
    }

    /// `zfs load-key` or `zfs unload-key` of an encryption root.
    pub fn set_key_loaded(&self, root: &DatasetName, loaded: bool) -> Result<(), ErrorKind> {
        self.lock().node_mut(root)?.key_loaded = loaded;
        Ok(())
    }

    /// `zfs clone`
    pub fn clone_snapshot(&self, snapshot: &Snapshot, clone: &DatasetName) -> Result<(), ErrorKind> {
        let mut host = self.lock();
        let snap = host.node(&snapshot.dataset)?.snap(&snapshot.name).ok_or(ErrorKind::NotFound)?;
        let (content, guid) = (Arc::clone(&snap.content), snap.guid);
        host.create(clone, DatasetKind::Filesystem, &[])?;
        let node = host.node_mut(clone)?;
        node.head = content;
        node.origin = Some((snapshot.dataset.clone(), guid));
        Ok(())
    }

    /// `zfs rollback -r`: snapshots and bookmarks newer than this one go. Fails if one is held or cloned.
    pub fn rollback(&self, snapshot: &Snapshot) -> Result<(), ErrorKind> {
        self.lock().rollback(snapshot)
    }

    fn change(&self, dataset: &DatasetName, change: impl FnOnce(&mut Content)) -> Result<(), ErrorKind> {
        let mut host = self.lock();
        if host.node(dataset)?.incomplete {
            return Err(ErrorKind::Busy);
        }
        host.node_mut(dataset)?;
        let txg = host.next_txg(dataset.pool());
        let node = host.node_mut(dataset)?;
        change(Arc::make_mut(&mut node.head));
        node.modified = txg;
        Ok(())
    }

    /// Writes a whole file. A volume's only file is called "".
    pub fn write_file(&self, dataset: &DatasetName, file: &str, bytes: &[u8]) -> Result<(), ErrorKind> {
        let old = self.lock().node(dataset)?.head.read(file).map_or(0, |old| old.len() as u64);
        if let Some(reason) = self.lock().no_room(dataset, (bytes.len() as u64).saturating_sub(old)) {
            return Err(reason);
        }
        self.change(dataset, |content| content.write(file, bytes))
    }

    /// Removes a file.
    pub fn remove_file(&self, dataset: &DatasetName, file: &str) -> Result<(), ErrorKind> {
        self.change(dataset, |content| content.remove(file))
    }

    /// Reads a file of the live dataset.
    pub fn read_file(&self, dataset: &DatasetName, file: &str) -> Option<Vec<u8>> {
        self.lock().node(dataset).ok()?.head.read(file)
    }

    /// The files of the live dataset.
    pub fn files(&self, dataset: &DatasetName) -> Result<BTreeMap<String, Vec<u8>>, ErrorKind> {
        Ok(self.lock().node(dataset)?.head.files())
    }

    /// The content of the live dataset.
    pub fn content_hash(&self, dataset: &DatasetName) -> Result<ContentHash, ErrorKind> {
        Ok(self.lock().node(dataset)?.head.hash())
    }

    /// The content of a snapshot.
    pub fn snapshot_hash(&self, snapshot: &Snapshot) -> Result<ContentHash, ErrorKind> {
        let host = self.lock();
        let snap = host.node(&snapshot.dataset)?.snap(&snapshot.name).ok_or(ErrorKind::NotFound)?;
        Ok(snap.content.hash())
    }

    /// The size of all data in the live dataset.
    pub fn content_bytes(&self, dataset: &DatasetName) -> Result<u64, ErrorKind> {
        Ok(self.lock().node(dataset)?.head.bytes())
    }

    /// The guid of a snapshot.
    pub fn snapshot_guid(&self, dataset: &DatasetName, name: &VersionName) -> Option<Guid> {
        Some(self.lock().node(dataset).ok()?.snap(name)?.guid)
    }

    /// `zfs set`
    pub fn set_property(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<(), ErrorKind> {
        self.lock().set_property(dataset, property, value)
    }

    /// A property of a dataset with its source: its own, else the nearest ancestor's (source none).
    pub fn property(&self, dataset: &DatasetName, property: &str) -> Option<(String, Option<Source>)> {
        let host = self.lock();
        let own = host.node(dataset).ok()?.properties.get(property).cloned();
        own.map(|(value, source)| (value, Some(source))).or_else(|| {
            let mut ancestors = dataset.ancestors().filter_map(|name| host.datasets.get(&name));
            ancestors.find_map(|node| node.properties.get(property)).map(|(value, _)| (value.clone(), None))
        })
    }
}
