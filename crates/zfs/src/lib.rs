//! The only crate that runs `zfs(8)` and `zpool(8)` or knows what they print.
//!
//! [`Zfs`] is what the rest of the program asks for, in terms of the model. [`cli`] answers it with
//! child processes, [`fake`] from a pool in memory; both pass the same conformance suite.

pub mod cli;
mod endian;
pub mod error;
pub mod fake;
pub mod listing;
pub mod ops;
pub mod stream;
pub mod token;

use async_trait::async_trait;
use model::{DatasetName, HoldTag, VersionName};

pub use error::{ChildFailure, Details, Error, ErrorKind};
pub use listing::{Contents, Dataset, Hold, Listing, Scope};
pub use ops::{
    ItemResult, PlaceholderEncryption, ReceiveArgs, ReceiveTarget, SendArgs, SendFlags, SendSource, SendStream,
    Snapshot,
};
pub use pump::ByteStream;
pub use stream::{BeginRecord, ParseError, Parsed, parse_begin};

/// What zrepl asks of ZFS. Every call has a deadline of the implementation's, ends early with
/// [`ErrorKind::Cancelled`] semantics when its future is dropped (children are killed and reaped),
/// and names the object it failed on.
#[async_trait]
pub trait Zfs: Send + Sync {
    /// All filesystems and volumes of a scope with all their snapshots and bookmarks, in at most two
    /// processes whatever their number. A root that does not exist is reported in
    /// [`Listing::missing`], not as an error.
    async fn list(&self, scope: &Scope) -> Result<Listing, Error>;

    /// The root datasets of all imported pools, also of those that cannot be listed.
    async fn pools(&self) -> Result<Vec<DatasetName>, Error>;

    /// One dataset without its descendants, with its versions. [`ErrorKind::NotFound`] if missing.
    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, Error>;

    /// What is in a dataset apart from its snapshots, as it is now. [`ErrorKind::NotFound`] if missing.
    async fn contents(&self, name: &DatasetName) -> Result<Contents, Error>;

    /// The holds of these snapshots, in as few processes as the argument limit allows. A snapshot
    /// that vanished meanwhile has none.
    async fn holds(&self, snapshots: &[Snapshot]) -> Result<Vec<Hold>, Error>;

    /// Creates a placeholder filesystem: `zrepl:placeholder=on`, `mountpoint=none`.
    async fn create_placeholder(&self, name: &DatasetName, encryption: PlaceholderEncryption) -> Result<(), Error>;

    /// Sets a property locally.
    async fn set_property(&self, name: &DatasetName, property: &str, value: &str) -> Result<(), Error>;

    /// Takes snapshots. Those of one pool are taken atomically, in one transaction group, as far as
    /// they fit into one command: with names of 50 bytes about 35,000 on Linux with its usual stack
    /// limit of 8 MiB (105,000 with one of 24 MiB or more) and 8,500 on FreeBSD. More are taken by
    /// several commands one after the other, each an instant of its own. One result per snapshot, in
    /// the given order.
    async fn snapshot(&self, snapshots: &[Snapshot]) -> Vec<ItemResult>;

    /// Bookmarks a snapshot, or copies a bookmark (OpenZFS 2.0 or later). Succeeds if the bookmark
    /// exists with the same guid; [`ErrorKind::Exists`] if it stands for another.
    async fn bookmark(
        &self,
        dataset: &DatasetName,
        source: &model::VersionRef,
        bookmark: &VersionName,
    ) -> Result<(), Error>;

    /// Whether the snapshot or bookmark of that name has that guid, in one process.
    /// [`ErrorKind::NotFound`] if there is none.
    async fn is_still(&self, dataset: &DatasetName, version: &model::VersionRef) -> Result<bool, Error>;

    /// Holds snapshots. A hold that is already there counts as made. One result per snapshot.
    async fn hold(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult>;

    /// Releases holds. A hold or snapshot that is gone counts as released. One result per snapshot.
    async fn release(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult>;

    /// Destroys snapshots of one dataset in as few processes as possible. A snapshot that is gone
    /// counts as destroyed. One result per name, in the given order. ZFS destroys by name: callers
    /// check guids first.
    async fn destroy_snapshots(&self, dataset: &DatasetName, names: &[VersionName]) -> Vec<ItemResult>;

    /// Destroys snapshots of one dataset in one command, all of them or, if one cannot be destroyed, none;
    /// the error names that one if ZFS tells. A snapshot that is gone counts as destroyed.
    async fn destroy_together(&self, dataset: &DatasetName, names: &[VersionName]) -> Result<(), Error>;

    /// Puts the live data of a dataset back to its newest snapshot. Destroys nothing else:
    /// [`ErrorKind::NewerVersions`] if there is a newer snapshot or bookmark.
    async fn rollback(&self, snapshot: &Snapshot) -> Result<(), Error>;

    /// Gives a dataset another name in the same pool, with all that is below it.
    /// [`ErrorKind::Exists`] if the name is taken.
    async fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), Error>;

    /// Destroys a bookmark; one that is gone counts as destroyed.
    async fn destroy_bookmark(&self, dataset: &DatasetName, name: &VersionName) -> Result<(), Error>;

    /// Destroys a filesystem or volume without children or snapshots; one that is gone counts as
    /// destroyed. Used by tests and repairs, never by pruning.
    async fn destroy_dataset(&self, name: &DatasetName) -> Result<(), Error>;

    /// Starts a send. Returns when the stream's first record has been read, so that a send that
    /// cannot start fails here with its own error.
    async fn send(&self, args: &SendArgs) -> Result<SendStream, Error>;

    /// What a send would transfer, in bytes; none if ZFS gives no estimate.
    async fn estimate_send(&self, args: &SendArgs) -> Result<Option<u64>, Error>;

    /// Receives a stream. Both ends are watched: whichever fails first ends the other, and the error
    /// that caused it is returned, not the one that followed. State of an interrupted resumable
    /// receive is kept, see [`ErrorKind::Interrupted`].
    async fn receive(&self, args: &ReceiveArgs, stream: ByteStream) -> Result<(), Error>;

    /// Discards the state of an interrupted receive; none being there counts as done. A dataset that
    /// consists only of such state vanishes with it.
    async fn abort_receive(&self, name: &DatasetName) -> Result<(), Error>;

    /// Whether resumable receives work in a pool.
    async fn can_resume(&self, pool: &str) -> Result<bool, Error>;

    /// The children that run now, for the status report.
    fn running(&self) -> Vec<RunningCommand>;
}

/// A child process that runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCommand {
    /// Path of the program.
    pub path: String,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// When it was started.
    pub started_at: std::time::SystemTime,
}
