//! What a dataset holds, and how two states of it differ.
//!
//! Contents share everything that is equal: a snapshot costs one reference, a changed file its changed
//! Some(file.bytes())s.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Bytes of a block, the default record size of ZFS.
pub(super) const BLOCK: usize = 128 * 1024;

/// The object that every filesystem has, and with which streams begin. What ZFS keeps there besides the
/// files is nothing but bytes here, as many as a real stream has.
pub(super) const MASTER: u64 = 1;
const MASTER_OF_FULL: usize = 44_016;
const MASTER_OF_INCREMENTAL: usize = 2048;

/// The files of a dataset. A volume has one, with an empty name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    files: BTreeMap<u64, Arc<File>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct File {
    name: String,
    size: u64,
    blocks: BTreeMap<u64, Arc<[u8]>>,
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        self.blocks.values().map(|block| &**block).collect::<Vec<_>>().concat()
    }
}

/// One step from a content to another, as one record of a stream carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The object's name and size; blocks beyond its end go.
    Object { object: u64, name: String, size: u64 },
    /// One block.
    Write { object: u64, offset: u64, data: Arc<[u8]> },
    /// The object goes.
    Free { object: u64 },
}

impl Change {
    /// Where in a stream it stands: by object, then by offset.
    pub(super) fn position(&self) -> (u64, u64) {
        match self {
            Change::Object { object, .. } | Change::Free { object } => (*object, 0),
            Change::Write { object, offset, .. } => (*object, *offset),
        }
    }
}

impl Content {
    /// Writes a whole file. Blocks that do not change stay shared.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) {
        let object = self.object_of(name).unwrap_or_else(|| self.next_object());
        let old = self.files.get(&object).cloned().unwrap_or_default();
        let blocks = bytes.chunks(BLOCK).zip(0..).map(|(data, index)| {
            let kept = old.blocks.get(&index).filter(|block| block[..] == *data);
            (index, kept.map_or_else(|| Arc::from(data), Arc::clone))
        });
        let file = File { name: name.to_owned(), size: bytes.len() as u64, blocks: blocks.collect() };
        self.files.insert(object, Arc::new(file));
    }

    /// Removes a file; one that is not there counts as removed.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(object) = self.object_of(name) {
            self.files.remove(&object);
        }
    }

    /// The bytes of a file.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.files.get(&self.object_of(name)?)?;
        Some(file.blocks.values().flat_map(|block| block.iter().copied()).collect())
    }

    /// All files with their bytes.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.values().map(|file| (file.name.clone(), file.bytes())).collect()
    }

    fn object_of(&self, name: &str) -> Option<u64> {
        self.files.iter().find(|(_, file)| file.name == name).map(|(object, _)| *object)
    }

    fn next_object(&self) -> u64 {
        self.files.last_key_value().map_or(MASTER + 1, |(object, _)| object + 1)
    }

    /// Applies one change.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Object { object: MASTER, .. } | Change::Write { object: MASTER, .. } => {}
            Change::Object { object, name, size } => {
                let file = Arc::make_mut(self.files.entry(object).or_default());
                file.name = name;
                file.size = size;
                let blocks = size.div_ceil(BLOCK as u64);
                file.blocks.retain(|index, _| *index < blocks);
            }
            Change::Write { object, offset, data } => {
                let file = Arc::make_mut(self.files.entry(object).or_default());
                file.blocks.insert(offset / BLOCK as u64, data);
            }
            Change::Free { object } => {
                self.files.remove(&object);
            }
        }
    }

    /// The changes that lead from `from` (nothing, for a full stream) to this content, in the order of
    /// their positions. None if nothing differs.
    pub(super) fn changes_since(&self, from: Option<&Content>) -> Vec<Change> {
        let empty = Content::default();
        let base = from.unwrap_or(&empty);
        let mut objects: Vec<u64> = self.files.keys().chain(base.files.keys()).copied().collect();
        objects.sort_unstable();
        objects.dedup();
        let changes: Vec<Change> = objects
            .into_iter()
            .flat_map(|object| object_changes(object, base.files.get(&object), self.files.get(&object)))
            .collect();
        if changes.is_empty() && from.is_some() {
            return changes;
        }
        let len = if from.is_none() { MASTER_OF_FULL } else { MASTER_OF_INCREMENTAL };
        let master = Change::Object { object: MASTER, name: String::new(), size: len as u64 };
        let data = Change::Write { object: MASTER, offset: 0, data: vec![0; len].into() };
        [master, data].into_iter().chain(changes).collect()
    }

    /// The size of all blocks, shared or not.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().flat_map(|file| file.blocks.values()).map(|block| block.len() as u64).sum()
    }

    /// The blocks with an identity that tells shared ones.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.files.values().flat_map(|file| file.blocks.values())
    }

    /// A digest of names and bytes: equal if and only if the contents are.
    pub(super) fn hash(&self) -> ContentHash {
        let mut files: Vec<&File> = self.files.values().map(|file| &**file).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut all = Sha256::new();
        for file in files {
            all.update((file.name.len() as u64).to_le_bytes());
            all.update(file.name.as_bytes());
            all.update(file.size.to_le_bytes());
            file.blocks.values().for_each(|block| all.update(block));
        }
        ContentHash(all.finalize().into())
    }
}

fn object_changes(object: u64, old: Option<&Arc<File>>, new: Option<&Arc<File>>) -> Vec<Change> {
    let Some(new) = new else { return vec![Change::Free { object }] };
    if old.is_some_and(|old| Arc::ptr_eq(old, new) || old == new) {
        return Vec::new();
    }
    let unchanged = |index: &u64, data: &Arc<[u8]>| old.is_some_and(|old| old.blocks.get(index) == Some(data));
    let writes = new.blocks.iter().filter(|(index, data)| !unchanged(index, data)).map(|(index, data)| Change::Write {
        object,
        offset: index * BLOCK as u64,
        data: Arc::clone(data),
    });
    let head = Change::Object { object, name: new.name.clone(), size: new.size };
    std::iter::once(head).chain(writes).collect()
}

/// SHA-256 over the files of a dataset.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub(super) [u8; 32]);

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
