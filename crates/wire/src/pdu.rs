//! The messages of control service and data connection as they are on the wire, and their conversions
//! to and from what [`crate::service`] and the model speak of.
//!
//! The structs mirror zrepl's protocol field by field (proto3, no package); the numbers are the
//! interface. Nothing in them is trusted: [`convert`] turns them into checked values or says what is
//! wrong with them.

pub mod calls;
pub mod convert;
pub mod listing;

pub use convert::{Malformed, Problem, RemoteFilesystem};

/// Ask for the filesystems.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListFilesystemReq {}

/// The filesystems that the caller may see.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListFilesystemRes {
    /// In no particular order.
    #[prost(message, repeated, tag = "1")]
    pub filesystems: Vec<Filesystem>,
}

/// One filesystem.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Filesystem {
    /// As the sender names it.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Of an interrupted receive, or empty.
    #[prost(string, tag = "2")]
    pub resume_token: String,
    /// Made only to carry what is below.
    #[prost(bool, tag = "3")]
    pub is_placeholder: bool,
}

/// Ask for the versions of one filesystem.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListFilesystemVersionsReq {
    /// The filesystem.
    #[prost(string, tag = "1")]
    pub filesystem: String,
}

/// The versions of one filesystem.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListFilesystemVersionsRes {
    /// Snapshots and bookmarks.
    #[prost(message, repeated, tag = "1")]
    pub versions: Vec<FilesystemVersion>,
}

/// Snapshot or bookmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum VersionType {
    /// A snapshot.
    Snapshot = 0,
    /// A bookmark.
    Bookmark = 1,
}

/// A snapshot or bookmark.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FilesystemVersion {
    /// Which of the two.
    #[prost(enumeration = "VersionType", tag = "1")]
    pub r#type: i32,
    /// Without dataset, `@` and `#`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Identity across pools.
    #[prost(uint64, tag = "3")]
    pub guid: u64,
    /// Order within the pool.
    #[prost(uint64, tag = "4")]
    pub create_txg: u64,
    /// RFC 3339, whole seconds. zrepl dies of a text that is not.
    #[prost(string, tag = "5")]
    pub creation: String,
}

/// Ask for a step's stream, or for its size.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SendReq {
    /// The filesystem.
    #[prost(string, tag = "1")]
    pub filesystem: String,
    /// What the receiver has; absent for a full send.
    #[prost(message, optional, tag = "2")]
    pub from: Option<FilesystemVersion>,
    /// What to send.
    #[prost(message, optional, tag = "3")]
    pub to: Option<FilesystemVersion>,
    /// Of the interrupted step to complete, or empty.
    #[prost(string, tag = "4")]
    pub resume_token: String,
    /// What to keep.
    #[prost(message, optional, tag = "6")]
    pub replication_config: Option<ReplicationConfig>,
}

/// What a job wants of a replication.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplicationConfig {
    /// What to keep.
    #[prost(message, optional, tag = "1")]
    pub protection: Option<ReplicationConfigProtection>,
}

/// What to keep, by kind of step.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplicationConfigProtection {
    /// For full sends.
    #[prost(enumeration = "ReplicationGuaranteeKind", tag = "1")]
    pub initial: i32,
    /// For incremental sends.
    #[prost(enumeration = "ReplicationGuaranteeKind", tag = "2")]
    pub incremental: i32,
}

/// What must survive a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ReplicationGuaranteeKind {
    /// Not a value that a peer may send.
    Invalid = 0,
    /// The step can be resumed.
    Resumability = 1,
    /// The next incremental step is possible.
    IncrementalReplication = 2,
    /// Nothing.
    Nothing = 3,
}

/// The beginning of a stream, or its size.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SendRes {
    /// Whether the stream continues the interrupted one.
    #[prost(bool, tag = "1")]
    pub used_resume_token: bool,
    /// Bytes; 0 if unknown.
    #[prost(uint64, tag = "2")]
    pub expected_size: u64,
}

/// A step has arrived.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SendCompletedReq {
    /// The request that began it.
    #[prost(message, optional, tag = "2")]
    pub original_req: Option<SendReq>,
}

/// The sender took note.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SendCompletedRes {}

/// Announce a step's stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReceiveReq {
    /// The filesystem, as the sender names it.
    #[prost(string, tag = "1")]
    pub filesystem: String,
    /// What the stream carries.
    #[prost(message, optional, tag = "2")]
    pub to: Option<FilesystemVersion>,
    /// Drop the state of an interrupted receive first.
    #[prost(bool, tag = "3")]
    pub clear_resume_token: bool,
    /// What to keep.
    #[prost(message, optional, tag = "4")]
    pub replication_config: Option<ReplicationConfig>,
}

/// The stream was received.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReceiveRes {}

/// Destroy snapshots of one filesystem.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DestroySnapshotsReq {
    /// The filesystem.
    #[prost(string, tag = "1")]
    pub filesystem: String,
    /// The snapshots.
    #[prost(message, repeated, tag = "2")]
    pub snapshots: Vec<FilesystemVersion>,
}

/// What became of one of them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DestroySnapshotRes {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub snapshot: Option<FilesystemVersion>,
    /// Why it is still there; empty if it is gone.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// What became of them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DestroySnapshotsRes {
    /// One per snapshot.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<DestroySnapshotRes>,
}

/// Ask for the newest version that the sender knows the receiver to have.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReplicationCursorReq {
    /// The filesystem.
    #[prost(string, tag = "1")]
    pub filesystem: String,
}

/// That version.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplicationCursorRes {
    /// Absent only in a malformed message.
    #[prost(oneof = "CursorResult", tags = "1, 2")]
    pub result: Option<CursorResult>,
}

/// A cursor or none.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum CursorResult {
    /// Its identity.
    #[prost(uint64, tag = "1")]
    Guid(u64),
    /// There is none; always true.
    #[prost(bool, tag = "2")]
    Notexist(bool),
}

/// Are you there?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PingReq {
    /// Any text.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// Yes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PingRes {
    /// The text of the question.
    #[prost(string, tag = "1")]
    pub echo: String,
}

#[cfg(test)]
mod tests;
