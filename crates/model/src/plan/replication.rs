//! Which steps bring a receiver up to date.

use crate::name::DatasetName;
use crate::protection::ProtectionPolicy;
use crate::version::VersionRef;
use crate::view::View;

/// The choices of a job that replication depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationPolicy {
    /// What to send first to a receiver that has nothing.
    pub initial: InitialReplication,
    /// What to keep while and after a step.
    pub protection: ProtectionPolicy,
}

/// What to send first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InitialReplication {
    /// Only the newest snapshot.
    #[default]
    MostRecent,
    /// The oldest, then every later one.
    All,
    /// Nothing: a person has to decide.
    Fail,
}

/// What replication will do, filesystem by filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicationPlan {
    /// In the order in which they should start: parents before children, then the one whose next
    /// snapshot is oldest.
    pub filesystems: Vec<FilesystemPlan>,
}

/// What replication will do for one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemPlan {
    /// The sender's name of it.
    pub name: DatasetName,
    /// The nearest ancestor in the plan whose first full send must succeed before this one can start.
    pub after: Option<DatasetName>,
    /// What is done.
    pub action: FilesystemAction,
}

/// What is done for one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesystemAction {
    /// Nothing, and why.
    Nothing(NothingReason),
    /// The receiver has the sender's newest snapshot, but a lost reply or a crash left protections
    /// behind: put them right.
    Confirm {
        /// The newest common version, as the sender names it.
        version: VersionRef,
        /// What is missing or left over.
        repairs: Vec<Repair>,
    },
    /// Send.
    Steps {
        /// Where it starts from.
        base: Base,
        /// Partial state on the receiver that cannot be used any longer, with the reason.
        discard: Option<Discard>,
        /// In order; never empty.
        steps: Vec<Step>,
    },
    /// Nothing can be done before a person decides.
    Conflict(Conflict),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NothingReason {
    /// The receiver has the newest snapshot and all protections are in place.
    UpToDate(VersionRef),
    /// A placeholder carries no data; the receiver makes one when something below it arrives.
    Placeholder,
}

/// What a confirm action puts right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The sender's cursor is not on the newest common version.
    MoveCursor,
    /// Step holds or tentative cursors of a finished step are left.
    RemoveStepProtection,
    /// The receiver does not hold the newest common version.
    HoldLastReceived,
    /// The receiver still holds older ones.
    ReleaseOlderReceived,
}

/// Where replication of a filesystem starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing is on the receiver.
    Initial(InitialReplication),
    /// The newest version that both sides have, as the sender names it.
    Common(VersionRef),
    /// An interrupted step on the receiver.
    Resume,
}

/// One send and receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What the receiver has; none for a full send.
    pub from: Option<VersionRef>,
    /// The snapshot to send.
    pub to: VersionRef,
    /// The token of the interrupted step that this one completes.
    pub resume_token: Option<String>,
}

/// Why partial state on the receiver is discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discard {
    /// The token cannot be read.
    Unreadable(String),
    /// The snapshot that it would complete is gone from the sender.
    ToGone {
        /// Its name when it was sent.
        to_name: String,
    },
    /// The version that it is incremental from is gone from the sender.
    FromGone,
    /// It belongs to another filesystem.
    OtherFilesystem {
        /// The name in the token.
        to_name: String,
    },
    /// Its stream is not of the kind (raw or plain) that the job's policy demands.
    OtherPolicy,
}

/// Why replication of a filesystem cannot go on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The sender has no snapshots.
    NoSnapshots,
    /// Both have versions, none in common.
    NoCommonVersion {
        /// Newest few on the sender.
        sender: Vec<String>,
        /// Newest few on the receiver.
        receiver: Vec<String>,
    },
    /// The receiver has snapshots that the sender does not know, newer than the common one.
    Diverged {
        /// The newest common version.
        common: String,
        /// What only the sender has since.
        sender_only: Vec<String>,
        /// What only the receiver has since.
        receiver_only: Vec<String>,
    },
    /// The policy forbids a first full send.
    InitialForbidden,
    /// The sender's is a placeholder, the receiver's holds data.
    PlaceholderMeetsData,
    /// The two sides have their common versions in different orders.
    OrderDiffers,
    /// What is sent does not fit the policy on encryption.
    SendPolicy(String),
}

/// Decides what brings `receiver` up to date with `sender`.
pub fn plan_replication(_sender: &View, _receiver: &View, _policy: &ReplicationPolicy) -> ReplicationPlan {
    ReplicationPlan::default()
}
