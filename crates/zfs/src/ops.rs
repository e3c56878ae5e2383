//! Arguments and results of operations.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::{DatasetName, PropertyName, VersionName, VersionRef};
use pump::ByteStream;

use crate::error::Error;
use crate::stream::BeginRecord;

/// A snapshot by full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snapshot {
    /// The dataset.
    pub dataset: DatasetName,
    /// The short name.
    pub name: VersionName,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.name)
    }
}

/// What became of one item of a bulk operation.
pub type ItemResult = Result<(), Error>;

/// Flags of `zfs send`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one per option of zfs send")]
pub struct SendFlags {
    /// `-w`
    pub raw: bool,
    /// `-p`
    pub properties: bool,
    /// `-b`
    pub backup_properties: bool,
    /// `-L`
    pub large_blocks: bool,
    /// `-c`
    pub compressed: bool,
    /// `-e`
    pub embedded: bool,
}

/// A send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendArgs {
    /// The dataset.
    pub dataset: DatasetName,
    /// What is sent.
    pub source: SendSource,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendSource {
    /// A snapshot, in full or from an earlier version.
    Snapshot {
        /// Where the receiver is; none for a full stream. Snapshot or bookmark.
        from: Option<VersionRef>,
        /// The snapshot.
        to: VersionRef,
        /// Options of the stream.
        flags: SendFlags,
    },
    /// The rest of an interrupted stream; the token carries the options.
    Resume {
        /// The receiver's token.
        token: String,
    },
}

/// A running send.
pub struct SendStream {
    /// What the stream carries, read from its own head (the bytes still contain it).
    pub begin: BeginRecord,
    /// The bytes.
    pub bytes: ByteStream,
    /// What the stream will transfer, known shortly after the start if ZFS tells.
    pub expected: ExpectedSize,
}

/// A size that becomes known while a send runs.
#[derive(Debug, Clone, Default)]
pub struct ExpectedSize(Arc<OnceLock<u64>>);

impl ExpectedSize {
    /// The size in bytes, once it is known.
    pub fn get(&self) -> Option<u64> {
        self.0.get().copied()
    }

    /// The cell itself, for a reader that knows nothing of ZFS.
    pub fn shared(&self) -> Arc<OnceLock<u64>> {
        Arc::clone(&self.0)
    }

    /// Tells the size; a second time has no effect.
    pub fn set(&self, bytes: u64) {
        let _ = self.0.set(bytes);
    }
}

/// A receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveArgs {
    /// The dataset to receive into.
    pub dataset: DatasetName,
    /// The name that the received snapshot gets.
    pub snapshot: VersionName,
    /// What may be at the target.
    pub target: ReceiveTarget,
    /// Keep the state of an interrupted receive (`-s`).
    pub resumable: bool,
    /// Properties to set (`-o`), in order.
    pub set: Vec<(PropertyName, String)>,
    /// Properties not to take from the stream (`-x`), in order.
    pub inherit: Vec<PropertyName>,
    /// Give up when no byte moved for so long.
    pub stall_limit: Duration,
}

/// What may be at the target of a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveTarget {
    /// Nothing, or the dataset that an incremental or resumed stream continues.
    Continue,
    /// A dataset without data worth keeping, which the stream replaces (`-F`).
    Replace,
}

/// How a new placeholder is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceholderEncryption {
    /// Like its parent: no property given.
    Inherit,
    /// `encryption=off`
    Off,
}
