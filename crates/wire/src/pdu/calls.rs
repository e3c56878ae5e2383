//! The messages of the calls that zrepl does not have.

use model::{DatasetName, VersionName};

use super::convert::{dataset, protection, read_ref, receive_request, within};
use super::{DestroySnapshotsReq, FilesystemVersion, Malformed, Problem, ReceiveReq, ReplicationConfig};
use crate::service::{
    DestroyOutcome, DestroyRequest, DestroyResult, ReceiveRequest, RenameAsideRequest, RollBackRequest,
};

/// Ask a receiver to put its protection of a version in order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfirmReq {
    /// The step that has arrived.
    #[prost(message, optional, tag = "1")]
    pub step: Option<ReceiveReq>,
    /// What it was incremental from.
    #[prost(message, optional, tag = "2")]
    pub from: Option<FilesystemVersion>,
}

/// It is.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ConfirmRes {}

/// Ask a receiver to go back to a version.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RollBackReq {
    /// The filesystem, as the sender names it.
    #[prost(string, tag = "1")]
    pub filesystem: String,
    /// Where to.
    #[prost(message, optional, tag = "2")]
    pub to: Option<FilesystemVersion>,
    /// All that is newer.
    #[prost(message, repeated, tag = "3")]
    pub destroy: Vec<FilesystemVersion>,
    /// Also what an interrupted receive left.
    #[prost(bool, tag = "4")]
    pub discard_partial: bool,
    /// What to keep.
    #[prost(message, optional, tag = "5")]
    pub replication_config: Option<ReplicationConfig>,
}

/// It did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RollBackRes {
    /// Names of the snapshots that are gone.
    #[prost(string, repeated, tag = "1")]
    pub destroyed: Vec<String>,
}

/// Ask a receiver to move a filesystem out of the way.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenameAsideReq {
    /// The filesystem, as the sender names it.
    #[prost(string, tag = "1")]
    pub filesystem: String,
    /// Its newest snapshot.
    #[prost(message, optional, tag = "2")]
    pub newest: Option<FilesystemVersion>,
    /// What moves along.
    #[prost(string, repeated, tag = "3")]
    pub below: Vec<String>,
}

/// It did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenameAsideRes {
    /// The new name on the receiver's pool.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Destroy snapshots of some filesystems.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DestroyReq {
    /// One for each filesystem.
    #[prost(message, repeated, tag = "1")]
    pub requests: Vec<DestroySnapshotsReq>,
}

/// What became of them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DestroyRes {
    /// In the order of the requests.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<Outcomes>,
}

/// What became of the snapshots of one filesystem.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Outcomes {
    /// In the order of the request.
    #[prost(message, repeated, tag = "1")]
    pub outcomes: Vec<Outcome>,
}

/// What became of one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Outcome {
    /// 1: it is gone, 2: it was kept on purpose, anything else: it should be gone and is not.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Why it is still there.
    #[prost(string, tag = "2")]
    pub why: String,
}

const GONE: u32 = 1;
const KEPT: u32 = 2;
const FAILED: u32 = 3;

impl From<&ReceiveRequest> for ConfirmReq {
    fn from(request: &ReceiveRequest) -> Self {
        Self { step: Some(request.into()), from: request.from.as_ref().map(FilesystemVersion::from) }
    }
}

/// The step that has arrived.
pub fn confirm_request(request: &ConfirmReq) -> Result<ReceiveRequest, Malformed> {
    let step = within("ConfirmReq", request.step.as_ref().ok_or(Problem::Missing("step")))?;
    let from = within("ConfirmReq", request.from.as_ref().map(read_ref).transpose())?;
    Ok(ReceiveRequest { from, ..receive_request(step)? })
}

impl From<&RollBackRequest> for RollBackReq {
    fn from(request: &RollBackRequest) -> Self {
        Self {
            filesystem: request.filesystem.as_str().to_owned(),
            to: Some((&request.to).into()),
            destroy: request.destroy.iter().map(FilesystemVersion::from).collect(),
            discard_partial: request.discard_partial,
            replication_config: Some(request.protection.into()),
        }
    }
}

/// Where to go back to.
pub fn roll_back_request(request: &RollBackReq) -> Result<RollBackRequest, Malformed> {
    let read = || {
        Ok(RollBackRequest {
            filesystem: dataset(&request.filesystem)?,
            to: read_ref(request.to.as_ref().ok_or(Problem::Missing("to"))?)?,
            destroy: request.destroy.iter().map(read_ref).collect::<Result<_, Problem>>()?,
            discard_partial: request.discard_partial,
            protection: protection(request.replication_config)?,
        })
    };
    within("RollBackReq", read())
}

/// The snapshots that are gone.
pub fn rolled_back(response: &RollBackRes) -> Result<Vec<VersionName>, Malformed> {
    let names = response.destroyed.iter().map(|name| VersionName::parse(name).map_err(Problem::from));
    within("RollBackRes", names.collect())
}

impl From<&RenameAsideRequest> for RenameAsideReq {
    fn from(request: &RenameAsideRequest) -> Self {
        Self {
            filesystem: request.filesystem.as_str().to_owned(),
            newest: Some((&request.newest).into()),
            below: request.below.iter().map(|name| name.as_str().to_owned()).collect(),
        }
    }
}

/// What to move out of the way.
pub fn rename_aside_request(request: &RenameAsideReq) -> Result<RenameAsideRequest, Malformed> {
    let read = || {
        Ok(RenameAsideRequest {
            filesystem: dataset(&request.filesystem)?,
            newest: read_ref(request.newest.as_ref().ok_or(Problem::Missing("newest"))?)?,
            below: request.below.iter().map(|name| dataset(name)).collect::<Result<_, Problem>>()?,
        })
    };
    within("RenameAsideReq", read())
}

/// The new name.
pub fn renamed_aside(response: &RenameAsideRes) -> Result<DatasetName, Malformed> {
    within("RenameAsideRes", dataset(&response.name))
}

/// What became of snapshots, for the client.
pub fn destroy_response(results: &[DestroyResult]) -> DestroyRes {
    let outcome = |outcome: &DestroyOutcome| match outcome {
        DestroyOutcome::Destroyed => Outcome { kind: GONE, why: String::new() },
        DestroyOutcome::Kept(why) => Outcome { kind: KEPT, why: why.clone() },
        DestroyOutcome::Failed(why) => Outcome { kind: FAILED, why: why.clone() },
    };
    let outcomes =
        |result: &DestroyResult| Outcomes { outcomes: result.results.iter().map(|it| outcome(&it.1)).collect() };
    DestroyRes { results: results.iter().map(outcomes).collect() }
}

/// What became of the snapshots of requests; one that the peer says nothing of has failed.
pub fn destroy_results(requests: &[DestroyRequest], response: DestroyRes) -> Vec<DestroyResult> {
    let mut answers = response.results.into_iter();
    let read = |request: &DestroyRequest| {
        let mut outcomes = answers.next().unwrap_or_default().outcomes.into_iter();
        let outcome = |told: Option<Outcome>| match told {
            None => DestroyOutcome::Failed("the peer did not say what became of it".to_owned()),
            Some(Outcome { kind: GONE, .. }) => DestroyOutcome::Destroyed,
            Some(Outcome { kind: KEPT, why }) => DestroyOutcome::Kept(why),
            Some(Outcome { why, .. }) => DestroyOutcome::Failed(why),
        };
        let results = request.snapshots.iter().map(|wanted| (wanted.name.clone(), outcome(outcomes.next()))).collect();
        DestroyResult { filesystem: request.filesystem.clone(), results }
    };
    requests.iter().map(read).collect()
}
