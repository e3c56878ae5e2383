//! What a decision is made from: the state of one side as one listing showed it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::DatasetName;
use crate::protection::Protection;
use crate::version::{Guid, Version};

/// One side's filesystems, named as the sender names them (a receiver strips its root). The order of
/// the map puts parents before children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The filesystems and volumes.
    pub filesystems: BTreeMap<DatasetName, FilesystemView>,
    /// Whether [`FilesystemView::protections`] was looked up. A peer that cannot tell has empty lists
    /// that mean nothing, and is not asked to put anything right.
    pub protections_known: bool,
    /// What a sender's `send.encrypted` demands of its streams; none if it did not tell, which leaves
    /// the check to the moment of sending.
    pub sends_encrypted: Option<bool>,
    /// Whether a sender refuses encrypted filesystems: its `send.raw` would send them encrypted, and its
    /// `send.encrypted` forbids that. False also if it did not tell.
    pub refuses_encrypted: bool,
    /// Trees that could not be listed and why; nothing is known of what is in them, and nothing is done.
    pub unlisted: BTreeMap<DatasetName, String>,
}

impl Default for View {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl View {
    /// A side that tells everything.
    pub fn new(filesystems: BTreeMap<DatasetName, FilesystemView>) -> Self {
        Self {
            filesystems,
            protections_known: true,
            sends_encrypted: None,
            refuses_encrypted: false,
            unlisted: BTreeMap::new(),
        }
    }

    /// Whether this says what a filesystem has, or that it does not exist.
    pub fn tells_of(&self, name: &DatasetName) -> bool {
        self.why_unlisted(name).is_none()
    }

    /// The tree that a filesystem is in and that could not be listed, and why; none if the filesystem is
    /// listed all the same.
    pub fn why_unlisted(&self, name: &DatasetName) -> Option<(&DatasetName, &str)> {
        if self.filesystems.contains_key(name) {
            return None;
        }
        let (root, why) = self.unlisted.iter().find(|(root, _)| name.is_within(root))?;
        Some((root, why))
    }

    /// A side that cannot tell its protections: a peer older than this program.
    pub fn without_protections(filesystems: BTreeMap<DatasetName, FilesystemView>) -> Self {
        Self { protections_known: false, ..Self::new(filesystems) }
    }
}

/// What a person is told about a tree that could not be listed.
pub fn unlisted(root: &DatasetName, why: &str) -> String {
    format!("cannot list filesystem {:?} and what is below it: {why}", root.as_str())
}

/// One filesystem or volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemView {
    /// Filesystem or volume.
    pub kind: DatasetKind,
    /// Whether zrepl made it only to carry what is below.
    pub placeholder: Placeholder,
    /// Encryption, which decides what may be sent how.
    pub encryption: Encryption,
    /// Snapshots and bookmarks in [`Version::order`].
    pub versions: Arc<[Version]>,
    /// What an interrupted receive left; only on a receiver.
    pub partial: Option<PartialReceive>,
    /// The protections of the job that looks.
    pub protections: Vec<Protection>,
}

impl FilesystemView {
    /// The snapshots in order, oldest first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.iter().filter(|version| version.is_snapshot())
    }

    /// Whether it may be nothing but the state of an interrupted first receive, which whatever arrives below it
    /// would discard.
    pub fn is_only_partial(&self) -> bool {
        self.partial.is_some() && self.newest_snapshot().is_none() && self.placeholder == Placeholder::Unset
    }

    /// The newest snapshot.
    pub fn newest_snapshot(&self) -> Option<&Version> {
        self.snapshots().next_back()
    }
}

/// What kind of dataset it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetKind {
    /// A filesystem.
    Filesystem,
    /// A volume (zvol).
    Volume,
}

/// The locally set property `zrepl:placeholder`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// Not set here, or a value that zrepl does not know.
    Unset,
    /// `on`, or the form of zrepl 0.0: made by zrepl, holds no data of its own.
    On,
    /// `off`: was a placeholder, then data arrived.
    Off,
}

/// The encryption of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Not encrypted, or the property is unknown to this ZFS.
    None,
    /// Encrypted; whether its key is loaded.
    Encrypted {
        /// Without the key only raw sends are possible.
        key_loaded: bool,
    },
}

/// State of a receive that was interrupted and can be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialReceive {
    /// The opaque text for `zfs send -t`.
    pub token: Arc<str>,
    /// What it says; the error's text if it cannot be read.
    pub contents: Result<TokenContents, String>,
}

/// What a resume token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenContents {
    /// The snapshot from which the stream is incremental.
    pub from: Option<Guid>,
    /// The snapshot being sent.
    pub to: Guid,
    /// Its full name on the sender, `pool/fs@snap`; a peer's word, not to be trusted.
    pub to_name: String,
    /// Bytes of the stream that the receiver has.
    pub bytes_received: u64,
    /// Flags of the interrupted stream. Presence counts as true, as in libzfs.
    pub flags: TokenFlags,
}

/// Stream flags in a resume token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one per key of the token")]
pub struct TokenFlags {
    /// `rawok`
    pub raw: bool,
    /// `compressok`
    pub compressed: bool,
    /// `embedok`
    pub embedded: bool,
    /// `largeblockok`
    pub large_blocks: bool,
    /// `savedok`
    pub saved: bool,
}
