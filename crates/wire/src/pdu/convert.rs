//! Between messages and checked values.

use std::collections::HashMap;

use jiff::Timestamp;
use model::protection::{ProtectionKind, ProtectionPolicy, ProtectionStrategy};
use model::view::{FilesystemView, Placeholder, View};
use model::{CreateTxg, DatasetName, Guid, NameError, UnixTime, Version, VersionKind, VersionName, VersionRef};
use thiserror::Error;

use super::{
    CursorResult, DestroySnapshotRes, DestroySnapshotsReq, DestroySnapshotsRes, Filesystem, FilesystemVersion,
    ListFilesystemRes, ListFilesystemVersionsRes, ReceiveReq, ReplicationConfig, ReplicationConfigProtection,
    ReplicationCursorRes, ReplicationGuaranteeKind, SendCompletedReq, SendReq, SendRes, VersionType,
};
use crate::service::{DestroyOutcome, DestroyRequest, DestroyResult, ReceiveRequest, SendRequest};

/// Longest resume token that is accepted, bytes. Real ones have a few hundred: a compressed list of some
/// numbers and one name.
pub const MAX_TOKEN: usize = 16 << 10;

/// A message that no peer in its right mind sends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("malformed {message}: {problem}")]
pub struct Malformed {
    /// Its name.
    pub message: &'static str,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// It is not in the encoding of protocol buffers.
    #[error("{0}")]
    Encoding(#[from] prost::DecodeError),
    /// A part is missing without which the rest means nothing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A name that cannot be one.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Not RFC 3339. At most the first 40 characters are kept.
    #[error("creation {0:?} is not a time in the form of RFC 3339")]
    Creation(String),
    /// Neither a snapshot nor a bookmark.
    #[error("version type {0} is unknown (0 is a snapshot, 1 a bookmark)")]
    VersionType(i32),
    /// No known guarantee.
    #[error("replication guarantee {0} is unknown")]
    Guarantee(i32),
    /// Longer than anything real.
    #[error("{field} has {length} bytes, at most {MAX_TOKEN} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Bytes.
        length: usize,
    },
    /// A number that stands for nothing known.
    #[error("{field} {value} is unknown")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// More than anything real.
    #[error("there are more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        most: usize,
    },
    /// Something follows the part that should be the last.
    #[error("something follows the end of the listing")]
    AfterTheEnd,
    /// A filesystem is there twice.
    #[error("filesystem {0:?} is listed twice")]
    Twice(DatasetName),
}

/// Says in which message.
pub(super) fn within<T>(message: &'static str, result: Result<T, Problem>) -> Result<T, Malformed> {
    result.map_err(|problem| Malformed { message, problem })
}

/// Reads a message of a data connection.
pub fn decode<M: prost::Message + Default>(message: &'static str, bytes: &[u8]) -> Result<M, Malformed> {
    within(message, M::decode(bytes).map_err(Problem::from))
}

/// A filesystem as a peer lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFilesystem {
    /// Its name in the sender's name space.
    pub name: DatasetName,
    /// Of an interrupted receive.
    pub resume_token: Option<String>,
    /// Made only to carry what is below.
    pub is_placeholder: bool,
}

/// The filesystem in a request about one.
pub fn filesystem(message: &'static str, path: &str) -> Result<DatasetName, Malformed> {
    within(message, dataset(path))
}

pub(super) fn dataset(path: &str) -> Result<DatasetName, Problem> {
    DatasetName::parse(path).map_err(Problem::from)
}

/// The step that a client asks for.
pub fn send_request(request: SendReq) -> Result<SendRequest, Malformed> {
    within("SendReq", read_send(request))
}

/// The step that a client says has arrived.
pub fn send_completed_request(request: SendCompletedReq) -> Result<SendRequest, Malformed> {
    let original = request.original_req.ok_or(Problem::Missing("OriginalReq"));
    within("SendCompletedReq", original.and_then(read_send))
}

fn read_send(request: SendReq) -> Result<SendRequest, Problem> {
    Ok(SendRequest {
        filesystem: dataset(&request.filesystem)?,
        from: request.from.as_ref().map(read_ref).transpose()?,
        to: read_ref(request.to.as_ref().ok_or(Problem::Missing("To"))?)?,
        resume_token: token(request.resume_token)?,
        protection: protection(request.replication_config)?,
    })
}

/// The step that a client announces. It does not tell what the stream is incremental from: `from` is
/// none and means nothing.
pub fn receive_request(request: &ReceiveReq) -> Result<ReceiveRequest, Malformed> {
    let read = || {
        Ok(ReceiveRequest {
            filesystem: dataset(&request.filesystem)?,
            from: None,
            to: read_ref(request.to.as_ref().ok_or(Problem::Missing("To"))?)?,
            clear_resume_token: request.clear_resume_token,
            protection: protection(request.replication_config)?,
        })
    };
    within("ReceiveReq", read())
}

/// The snapshots that a client wants to be rid of.
pub fn destroy_request(request: &DestroySnapshotsReq) -> Result<DestroyRequest, Malformed> {
    let read = || {
        let snapshots = request.snapshots.iter().map(read_ref).collect::<Result<_, Problem>>()?;
        Ok(DestroyRequest { filesystem: dataset(&request.filesystem)?, snapshots })
    };
    within("DestroySnapshotsReq", read())
}

/// The filesystems of a peer.
pub fn filesystems(response: ListFilesystemRes) -> Result<Vec<RemoteFilesystem>, Malformed> {
    let read = |listed: Filesystem| {
        Ok(RemoteFilesystem {
            name: dataset(&listed.path)?,
            resume_token: token(listed.resume_token)?,
            is_placeholder: listed.is_placeholder,
        })
    };
    let checked = response.filesystems.into_iter().map(read).collect::<Result<Vec<_>, Problem>>().and_then(|all| {
        let mut names: Vec<&DatasetName> = all.iter().map(|listed| &listed.name).collect();
        names.sort_unstable();
        match names.windows(2).find_map(|two| if let [a, b] = two { (a == b).then_some(*a) } else { None }) {
            Some(twice) => Err(Problem::Twice(twice.clone())),
            None => Ok(all),
        }
    });
    within("ListFilesystemRes", checked)
}

/// The versions of a peer's filesystem, in [`Version::order`] once sorted.
pub fn versions(response: &ListFilesystemVersionsRes) -> Result<Vec<Version>, Malformed> {
    within("ListFilesystemVersionsRes", response.versions.iter().map(read_version).collect())
}

/// The newest version that a peer knows its receiver to have.
pub fn cursor(response: &ReplicationCursorRes) -> Result<Option<Guid>, Malformed> {
    match response.result {
        Some(CursorResult::Guid(guid)) => Ok(Some(Guid(guid))),
        Some(CursorResult::Notexist(_)) => Ok(None),
        None => within("ReplicationCursorRes", Err(Problem::Missing("Result"))),
    }
}

/// What a peer says became of the snapshots of a request; a snapshot that it says nothing of has failed.
pub fn destroy_result(request: &DestroyRequest, response: &DestroySnapshotsRes) -> DestroyResult {
    let answers: HashMap<&str, &String> = response.results.iter().filter_map(named_answer).collect();
    let outcome = |wanted: &VersionRef| {
        let outcome = match answers.get(wanted.name.as_str()) {
            None => DestroyOutcome::Failed("the peer did not say what became of it".to_owned()),
            Some(error) if error.is_empty() => DestroyOutcome::Destroyed,
            Some(error) => DestroyOutcome::Failed((*error).clone()),
        };
        (wanted.name.clone(), outcome)
    };
    DestroyResult { filesystem: request.filesystem.clone(), results: request.snapshots.iter().map(outcome).collect() }
}

fn named_answer(answer: &DestroySnapshotRes) -> Option<(&str, &String)> {
    Some((answer.snapshot.as_ref()?.name.as_str(), &answer.error))
}

pub(super) fn token(text: String) -> Result<Option<String>, Problem> {
    match text.len() {
        0 => Ok(None),
        length if length > MAX_TOKEN => Err(Problem::TooLong { field: "ResumeToken", length }),
        _ => Ok(Some(text)),
    }
}

fn read_version(version: &FilesystemVersion) -> Result<Version, Problem> {
    let kind = match VersionType::try_from(version.r#type) {
        Ok(VersionType::Snapshot) => VersionKind::Snapshot,
        Ok(VersionType::Bookmark) => VersionKind::Bookmark,
        Err(_) => return Err(Problem::VersionType(version.r#type)),
    };
    Ok(Version {
        kind,
        name: VersionName::parse(&version.name)?,
        guid: Guid(version.guid),
        createtxg: CreateTxg(version.create_txg),
        creation: creation(&version.creation)?,
        userrefs: 0,
    })
}

pub(super) fn read_ref(version: &FilesystemVersion) -> Result<VersionRef, Problem> {
    read_version(version).map(|version| version.to_ref())
}

/// Stricter than the parser of the library, which also reads blanks for `T` and names of time zones.
fn creation(text: &str) -> Result<UnixTime, Problem> {
    let bad = || Problem::Creation(text.chars().take(40).collect());
    let plain = (20..=40).contains(&text.len())
        && text.as_bytes().get(10) == Some(&b'T')
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"TZ:.+-".contains(&byte));
    if !plain {
        return Err(bad());
    }
    let time: Timestamp = text.parse().map_err(|_| bad())?;
    Ok(UnixTime(time.as_second()))
}

pub(super) fn protection(config: Option<ReplicationConfig>) -> Result<ProtectionPolicy, Problem> {
    let config = config.ok_or(Problem::Missing("ReplicationConfig"))?;
    let protection = config.protection.ok_or(Problem::Missing("ReplicationConfig.protection"))?;
    Ok(ProtectionPolicy { initial: strategy(protection.initial)?, incremental: strategy(protection.incremental)? })
}

fn strategy(kind: i32) -> Result<ProtectionStrategy, Problem> {
    match ReplicationGuaranteeKind::try_from(kind) {
        Ok(ReplicationGuaranteeKind::Resumability) => Ok(ProtectionStrategy::Resumability),
        Ok(ReplicationGuaranteeKind::IncrementalReplication) => Ok(ProtectionStrategy::Incremental),
        Ok(ReplicationGuaranteeKind::Nothing) => Ok(ProtectionStrategy::Nothing),
        Ok(ReplicationGuaranteeKind::Invalid) | Err(_) => Err(Problem::Guarantee(kind)),
    }
}

impl From<&Version> for FilesystemVersion {
    fn from(version: &Version) -> Self {
        Self {
            r#type: version_type(version.kind).into(),
            name: version.name.as_str().to_owned(),
            guid: version.guid.0,
            create_txg: version.createtxg.0,
            // Before 1970 there is no ZFS, and in some years there is no four-digit form.
            creation: UnixTime(version.creation.0.max(0)).to_timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

/// A peer finds the version by name and guid; the time only has to be one.
impl From<&VersionRef> for FilesystemVersion {
    fn from(version: &VersionRef) -> Self {
        Self {
            r#type: version_type(version.kind).into(),
            name: version.name.as_str().to_owned(),
            guid: version.guid.0,
            create_txg: 0,
            creation: "1970-01-01T00:00:00Z".to_owned(),
        }
    }
}

fn version_type(kind: VersionKind) -> VersionType {
    match kind {
        VersionKind::Snapshot => VersionType::Snapshot,
        VersionKind::Bookmark => VersionType::Bookmark,
    }
}

impl From<ProtectionPolicy> for ReplicationConfig {
    fn from(policy: ProtectionPolicy) -> Self {
        let kind = |strategy| match strategy {
            ProtectionStrategy::Resumability => ReplicationGuaranteeKind::Resumability.into(),
            ProtectionStrategy::Incremental => ReplicationGuaranteeKind::IncrementalReplication.into(),
            ProtectionStrategy::Nothing => ReplicationGuaranteeKind::Nothing.into(),
        };
        let protection =
            ReplicationConfigProtection { initial: kind(policy.initial), incremental: kind(policy.incremental) };
        Self { protection: Some(protection) }
    }
}

impl From<&SendRequest> for SendReq {
    fn from(request: &SendRequest) -> Self {
        Self {
            filesystem: request.filesystem.as_str().to_owned(),
            from: request.from.as_ref().map(FilesystemVersion::from),
            to: Some((&request.to).into()),
            resume_token: request.resume_token.clone().unwrap_or_default(),
            replication_config: Some(request.protection.into()),
        }
    }
}

impl From<&ReceiveRequest> for ReceiveReq {
    fn from(request: &ReceiveRequest) -> Self {
        Self {
            filesystem: request.filesystem.as_str().to_owned(),
            to: Some((&request.to).into()),
            clear_resume_token: request.clear_resume_token,
            replication_config: Some(request.protection.into()),
        }
    }
}

impl From<&DestroyRequest> for DestroySnapshotsReq {
    fn from(request: &DestroyRequest) -> Self {
        Self {
            filesystem: request.filesystem.as_str().to_owned(),
            snapshots: request.snapshots.iter().map(FilesystemVersion::from).collect(),
        }
    }
}

/// The filesystems of a view. Trees that could not be listed are there too, so that nobody takes them
/// for missing; asked for their versions this side says why there are none.
pub fn list_response(view: &View) -> ListFilesystemRes {
    let listed = view.filesystems.iter().map(|(name, seen)| Filesystem {
        path: name.as_str().to_owned(),
        resume_token: seen.partial.as_ref().map(|partial| partial.token.to_string()).unwrap_or_default(),
        is_placeholder: seen.placeholder == Placeholder::On,
    });
    let unlisted = view.unlisted.keys().filter(|name| !view.filesystems.contains_key(*name));
    let unlisted = unlisted.map(|name| Filesystem { path: name.as_str().to_owned(), ..Filesystem::default() });
    ListFilesystemRes { filesystems: listed.chain(unlisted).collect() }
}

/// The versions of one filesystem.
pub fn versions_response(filesystem: &FilesystemView) -> ListFilesystemVersionsRes {
    ListFilesystemVersionsRes { versions: filesystem.versions.iter().map(FilesystemVersion::from).collect() }
}

/// The newest cursor of one filesystem.
pub fn cursor_response(filesystem: &FilesystemView) -> ReplicationCursorRes {
    let cursors = filesystem.protections.iter().filter(|protection| protection.kind == ProtectionKind::Cursor);
    let result = match cursors.max_by_key(|protection| protection.createtxg) {
        Some(newest) => CursorResult::Guid(newest.version.guid.0),
        None => CursorResult::Notexist(true),
    };
    ReplicationCursorRes { result: Some(result) }
}

/// What became of the snapshots of a request. A snapshot that was kept on purpose is still there, which
/// is what this protocol calls an error.
pub fn destroy_response(request: DestroySnapshotsReq, result: &DestroyResult) -> DestroySnapshotsRes {
    let outcomes = result.results.iter().map(|(_, outcome)| match outcome {
        DestroyOutcome::Destroyed => String::new(),
        DestroyOutcome::Kept(why) | DestroyOutcome::Failed(why) if why.is_empty() => "it is still there".to_owned(),
        DestroyOutcome::Kept(why) | DestroyOutcome::Failed(why) => why.clone(),
    });
    let unknown = std::iter::repeat_with(|| "nobody knows what became of it".to_owned());
    let answer = |(snapshot, error)| DestroySnapshotRes { snapshot: Some(snapshot), error };
    DestroySnapshotsRes { results: request.snapshots.into_iter().zip(outcomes.chain(unknown)).map(answer).collect() }
}

/// The beginning of a stream of a size that may be unknown.
pub fn send_response(used_resume_token: bool, expected_size: Option<u64>) -> SendRes {
    SendRes { used_resume_token, expected_size: expected_size.unwrap_or_default() }
}
