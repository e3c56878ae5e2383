//! The service that a sender or receiver offers to the job that drives a replication.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{ClientIdentity, DatasetName, RetryClass, VersionName, VersionRef};
use pump::ByteStream;
use thiserror::Error;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The other side cannot be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// The other side answered with an error.
    #[error("{message}")]
    Refused {
        /// Whether trying again may help.
        class: RetryClass,
        /// What happened, naming the object.
        message: String,
    },
    /// The receiver's live data is not that of its newest snapshot, so that nothing can be received on
    /// it; what happened, naming the object.
    #[error("{0}")]
    TargetModified(String),
}

impl CallError {
    /// An answer that another attempt will not change.
    pub fn permanent(message: impl ToString) -> Self {
        CallError::Refused { class: RetryClass::Permanent, message: message.to_string() }
    }

    /// Whether trying again may help.
    pub fn class(&self) -> RetryClass {
        match self {
            CallError::Connection(_) => RetryClass::Transient,
            CallError::Refused { class, .. } => *class,
            CallError::TargetModified(_) => RetryClass::NeedsPerson,
        }
    }
}

/// One side of a replication. All names are in the sender's name space; a receiver maps them below
/// its root. A sender answers `receive` and `confirm_received` with an error, a receiver `send`; a
/// receiver has nothing to do for `send_completed` and agrees. Whoever stands between a caller and another
/// side must pass everything on: what is left out is answered as by a side that cannot do it.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// All filesystems that the caller may see, with their versions and the protections of the job
    /// that owns the endpoint: one listing, shared by planning, protection and pruning.
    async fn list(&self) -> Result<View, CallError>;

    /// The same of these filesystems alone, to plan them again by themselves. One that does not exist,
    /// or that the caller may not see, is left out.
    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        let mut view = self.list().await?;
        view.filesystems.retain(|name, _| filesystems.contains(name));
        Ok(view)
    }

    /// Says that a step will follow the one that is asked for next, so that the way for it can be made while
    /// that one runs.
    fn expect_step(&self) {}

    /// Protects and starts a step.
    async fn send(&self, _request: &SendRequest) -> Result<SendReply, CallError> {
        Err(not_asked_for("send"))
    }

    /// How large the stream of a step would be, in bytes, without what an interrupted receive has of it; none if
    /// nobody can tell. Protects nothing and changes nothing.
    async fn estimate(&self, _request: &SendRequest) -> Result<Option<u64>, CallError> {
        Ok(None)
    }

    /// Receives a step's stream. Checks the head of the stream against the request before anything
    /// changes on disk. On return the snapshot is there and protected.
    async fn receive(&self, _request: &ReceiveRequest, _stream: ByteStream) -> Result<(), CallError> {
        Err(not_asked_for("receive"))
    }

    /// As [`Endpoint::receive`], for a client of zrepl's protocol, which does not tell what its stream is
    /// incremental from: `from` is none and means nothing, the head of the stream says it.
    async fn receive_announced(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        drop(stream);
        let step = format!("{}{}", request.filesystem, request.to);
        Err(CallError::permanent(format!("cannot receive {step} without being told what it is incremental from")))
    }

    /// Tells the sender that a step has arrived: moves the cursor, then drops the step's protection.
    /// Idempotent.
    async fn send_completed(&self, _request: &SendRequest) -> Result<(), CallError> {
        Err(not_asked_for("complete a step"))
    }

    /// Tells the receiver to put its own protection of a version that it has in order. Idempotent.
    async fn confirm_received(&self, _request: &ReceiveRequest) -> Result<(), CallError> {
        Err(not_asked_for("confirm what it received"))
    }

    /// Destroys snapshots whose guid is still the one in the request.
    async fn destroy_snapshots(&self, _requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        Err(not_asked_for("destroy snapshots"))
    }

    /// Takes a receiver back to a version that the sender knows: destroys the named snapshots, which must
    /// be all that are newer, and rolls live changes back. Gives what was destroyed. If something else is
    /// newer, or one of them is held by others or has clones, nothing is destroyed.
    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        Err(cannot_roll_back(&request.filesystem))
    }

    /// Gives a receiver's filesystem another name, with all that is below it, which must be what is named.
    /// Gives the new name, as it is on the receiver's pool.
    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        Err(cannot_rename_aside(&request.filesystem))
    }
}

fn not_asked_for(what: &str) -> CallError {
    CallError::permanent(format!("this side cannot be asked to {what}"))
}

pub(crate) fn cannot_roll_back(filesystem: &DatasetName) -> CallError {
    needs_newer_peer(filesystem, "be rolled back", "`zfs rollback -r` there", "diverged: fail")
}

pub(crate) fn cannot_rename_aside(filesystem: &DatasetName) -> CallError {
    needs_newer_peer(filesystem, "be renamed", "`zfs rename` there", "no_common: fail")
}

/// Of peers that do not know a call: zrepl 0.7, and sides that do not receive.
fn needs_newer_peer(filesystem: &DatasetName, what: &str, by_hand: &str, off: &str) -> CallError {
    CallError::Refused {
        class: RetryClass::NeedsPerson,
        message: format!(
            "filesystem {:?} cannot {what} by this peer, which knows no such call (zrepl 0.7 does not): use {by_hand}, \
             or set `conflict_resolution: {{{off}}}`",
            filesystem.as_str()
        ),
    }
}

/// A filesystem to take back to a version that both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBackRequest {
    /// The filesystem, as the sender names it.
    pub filesystem: DatasetName,
    /// Where to, as the receiver names it; its guid counts.
    pub to: VersionRef,
    /// What is destroyed: all snapshots that are newer.
    pub destroy: Vec<VersionRef>,
    /// What an interrupted receive left goes as well; if false, the request is refused if it is there and
    /// there is something to destroy.
    pub discard_partial: bool,
    /// What to keep.
    pub protection: ProtectionPolicy,
}

/// A filesystem to move out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameAsideRequest {
    /// The filesystem, as the sender names it.
    pub filesystem: DatasetName,
    /// Its newest snapshot, as the receiver names it; its guid counts.
    pub newest: VersionRef,
    /// What moves along, as the sender would name it.
    pub below: Vec<DatasetName>,
}

/// A step as the sender is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The filesystem.
    pub filesystem: DatasetName,
    /// What the receiver has; none for a full send.
    pub from: Option<VersionRef>,
    /// What to send.
    pub to: VersionRef,
    /// The token of the interrupted step to complete.
    pub resume_token: Option<String>,
    /// What to keep.
    pub protection: ProtectionPolicy,
}

/// A started step.
pub struct SendReply {
    /// Whether the stream continues the interrupted one.
    pub used_resume_token: bool,
    /// The size of the stream in bytes, once the sender knows it.
    pub expected: Arc<OnceLock<u64>>,
    /// The stream.
    pub stream: ByteStream,
}

/// A step as the receiver is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveRequest {
    /// The filesystem, as the sender names it.
    pub filesystem: DatasetName,
    /// What the stream must be incremental from; none for a full one.
    pub from: Option<VersionRef>,
    /// What the stream must carry.
    pub to: VersionRef,
    /// Drop the state of an interrupted receive first. False exactly when the stream resumes it.
    pub clear_resume_token: bool,
    /// What to keep.
    pub protection: ProtectionPolicy,
}

/// Snapshots of one filesystem to destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyRequest {
    /// The filesystem, as the sender names it.
    pub filesystem: DatasetName,
    /// The snapshots.
    pub snapshots: Vec<VersionRef>,
}

/// What became of a [`DestroyRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyResult {
    /// The filesystem.
    pub filesystem: DatasetName,
    /// Per snapshot, in the request's order.
    pub results: Vec<(VersionName, DestroyOutcome)>,
}

/// What became of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestroyOutcome {
    /// It is gone.
    Destroyed,
    /// It was left alone on purpose: something protects it. Says what.
    Kept(String),
    /// It should be gone and is not. Says why.
    Failed(String),
}

/// A passive job as a listener sees it.
pub trait Service: Send + Sync {
    /// The endpoint for a client whose identity the transport vouches for.
    fn endpoint_for(&self, client: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError>;
}

/// The active side's way to the other one.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects, within the transport's time limit.
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError>;
}

/// The way to a side that is in this process: always open.
pub struct SameProcess(pub Arc<dyn Endpoint>);

#[async_trait]
impl Connector for SameProcess {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        Ok(Arc::clone(&self.0))
    }
}
