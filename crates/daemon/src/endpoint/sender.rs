//! The sending half: lists what the filter selects, protects a step, streams it, and moves the cursor
//! when it has arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use model::event::{About, What};
use model::name::MAX_NAME_LEN;
use model::plan::protection::{ProtectionChanges, after_completion, protect_before_send};
use model::protection::{Protection, ProtectionKind, ProtectionStrategy, cursor_name, tentative_cursor_name};
use model::view::{Encryption, View};
use model::{DatasetName, FilesystemFilter, Guid, JobName, RetryClass, VersionKind, VersionRef};
use wire::{CallError, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, SendReply, SendRequest};
use zfs::stream::feature;
use zfs::{BeginRecord, Scope, SendArgs, SendFlags, SendSource, SendStream, Zfs};

use super::abandoned::ConfiguredJobs;
use super::protect::Made;
use super::streams::Sending;
use super::table::Facts;
use super::view::{Beside, PartialState, Scanned, Seen, Side};
use super::{needs_person, refused};
use crate::bandwidth::Bandwidth;
use crate::events::Events;
use crate::isolate::Unlisted;
use crate::limits::STALL;

/// What a sender is for.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// The job that owns it; its name is in holds and cursors.
    pub job: JobName,
    /// What may be seen and sent.
    pub filesystems: FilesystemFilter,
    /// How.
    pub send: SendPolicy,
    /// How fast all streams together.
    pub bandwidth: Bandwidth,
}

/// How a sender sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendPolicy {
    /// Only encrypted streams of encrypted filesystems, never anything else.
    pub encrypted: bool,
    /// Options of the streams.
    pub flags: SendFlags,
}

impl SendPolicy {
    /// The options of the streams, with what the policy on encryption makes of them.
    pub(crate) fn effective_flags(self) -> SendFlags {
        SendFlags { raw: self.flags.raw || self.encrypted, ..self.flags }
    }
}

/// The sending half of a replication.
pub struct Sender {
    side: Side,
    filesystems: FilesystemFilter,
    send: SendPolicy,
    bandwidth: Bandwidth,
    /// Copying a bookmark was refused, as by every OpenZFS before 2.0.
    cannot_copy: AtomicBool,
}

impl Sender {
    /// A sender on this machine's pools.
    pub fn new(zfs: Arc<dyn Zfs>, events: Events, config: SenderConfig) -> Arc<Self> {
        Self::with_stall(zfs, events, config, STALL)
    }

    /// The same; a stream that stands still for longer than `stall` is given up.
    pub fn with_stall(zfs: Arc<dyn Zfs>, events: Events, config: SenderConfig, stall: Duration) -> Arc<Self> {
        let SenderConfig { job, filesystems, send, bandwidth } = config;
        Arc::new(Self {
            side: Side::new(zfs, &events, job, stall),
            filesystems,
            send,
            bandwidth,
            cannot_copy: AtomicBool::new(false),
        })
    }

    /// What the filter selects, and what could not be listed.
    async fn scan(&self) -> Result<(Vec<Seen>, Unlisted), CallError> {
        let Scanned { seen, unlisted, .. } = self.scan_and(Beside::Nothing).await?;
        Ok((seen, unlisted))
    }

    async fn scan_and(&self, beside: Beside) -> Result<Scanned, CallError> {
        let scope = match self.filesystems.roots() {
            None => Scope::Everything,
            Some(roots) => Scope::Trees(roots),
        };
        let Scanned { seen, mut missing, mut unlisted, mut warnings, abstractions } =
            self.side.scan(&scope, |name| self.filesystems.selects(name), beside).await?;
        unlisted.retain(|root, _| self.filesystems.reaches(root));
        self.side.events.tell(What::Unmatched { count: missing.len() });
        if !seen.is_empty() {
            unlisted.extend(self.side.take_out_of_missing_pools(&mut missing, &seen).await);
        }
        let quoted: Vec<String> = missing.iter().map(|name| format!("{:?}", name.as_str())).collect();
        if seen.is_empty() && !missing.is_empty() && unlisted.is_empty() {
            let missing = quoted.join(", ");
            return Err(needs_person(format!(
                "no filesystem of the job exists: {missing} (is the pool imported? see `zpool import`)"
            )));
        }
        let warn = |(name, quoted): (&DatasetName, String)| {
            let message = format!(
                "filesystem {quoted} in the job's filter does not exist (is the pool imported? see `zpool import`)"
            );
            (About::Filesystem(name.clone()), message)
        };
        warnings.extend(missing.iter().zip(quoted).map(warn));
        self.side.warn_once(warnings);
        Ok(Scanned { seen, missing, unlisted, warnings: Vec::new(), abstractions })
    }

    fn view(&self, seen: Vec<Seen>, unlisted: Unlisted) -> View {
        let views = seen.into_iter().map(|seen| (seen.dataset.name.clone(), seen.into_view(PartialState::Ignored)));
        View {
            sends_encrypted: Some(self.send.encrypted),
            refuses_encrypted: self.send.flags.raw && !self.send.encrypted,
            unlisted: unlisted.into_iter().map(|(root, error)| (root, error.kind.to_string())).collect(),
            ..View::new(views.collect())
        }
    }

    /// Removes protections of the job that no step needs any longer; how many. Warns of what nobody looks after,
    /// from the same listing.
    ///
    /// # Errors
    /// The listing failed.
    pub async fn clean_and_warn(&self, jobs: &ConfiguredJobs) -> Result<usize, CallError> {
        let Scanned { seen, abstractions, .. } = self.scan_and(Beside::Abstractions).await?;
        self.side.warn_of_abandoned(jobs, &abstractions, |name| self.filesystems.selects(name));
        Ok(self.side.clean_stale(&seen).await)
    }

    fn check_access(&self, filesystem: &DatasetName) -> Result<(), CallError> {
        match self.filesystems.selects(filesystem) {
            true => Ok(()),
            false => Err(CallError::permanent(format!("endpoint does not allow access to filesystem {filesystem}"))),
        }
    }

    async fn existing(&self, filesystem: &DatasetName) -> Result<Facts, CallError> {
        let facts = self.side.facts(filesystem).await?;
        facts.ok_or_else(|| CallError::permanent(format!("filesystem {:?} does not exist", filesystem.as_str())))
    }

    /// The policy on encryption, for what is not yet a stream.
    fn check_policy(&self, filesystem: &DatasetName, encryption: Encryption) -> Result<(), CallError> {
        let (name, encrypted) = (filesystem.as_str(), encryption != Encryption::None);
        if self.send.encrypted && !encrypted {
            return Err(needs_person(format!(
                "encrypted send mandated by policy, but filesystem {name:?} is not encrypted (leave it out of `filesystems`, or drop `send.encrypted`)"
            )));
        }
        if self.send.flags.raw && encrypted && !self.send.encrypted {
            return Err(needs_person(format!(
                "policy mandates raw+unencrypted sends, but filesystem {name:?} is encrypted (leave it out of `filesystems`, or set `send.encrypted`)"
            )));
        }
        Ok(())
    }

    /// Whether the bookmarks that the step needs, now and when it has arrived, can have their names: a
    /// step that cannot be completed is not worth its bytes.
    fn check_names(&self, request: &SendRequest, strategy: ProtectionStrategy) -> Result<(), CallError> {
        let longest = match strategy {
            ProtectionStrategy::Nothing => return Ok(()),
            ProtectionStrategy::Resumability => cursor_name(request.to.guid, &self.side.job),
            ProtectionStrategy::Incremental => tentative_cursor_name(request.to.guid, &self.side.job),
        };
        let filesystem = request.filesystem.as_str();
        let length = filesystem.len() + 1 + longest.map_err(CallError::permanent)?.as_str().len();
        if length > MAX_NAME_LEN {
            return Err(needs_person(format!(
                "cannot protect a step of filesystem {filesystem:?}: the name of its replication cursor would be {length} bytes long, ZFS allows {MAX_NAME_LEN} (use a shorter job name)"
            )));
        }
        Ok(())
    }

    /// Starts the step's stream: the rest of an interrupted one if there is a token that can be used.
    async fn start(&self, request: &SendRequest, encryption: Encryption) -> Result<(SendStream, bool), CallError> {
        if let Some(token) = &request.resume_token {
            match self.resume(request, token, encryption).await? {
                Ok(stream) => return Ok((stream, true)),
                Err(problem) => {
                    let message = format!(
                        "cannot resume the step to {}{}, sending it from its beginning: {problem}",
                        request.filesystem, request.to
                    );
                    self.side.events.tell_of(&request.filesystem, What::Warning { subsystem: "endpoint", message });
                }
            }
        }
        let flags = self.send.effective_flags();
        let source = SendSource::Snapshot { from: request.from.clone(), to: request.to.clone(), flags };
        let args = SendArgs { dataset: request.filesystem.clone(), source };
        let stream = self.side.zfs.send(&args).await.map_err(|error| refused(&error))?;
        Ok((stream, false))
    }

    /// The outer error refuses the request, the inner one only the token.
    async fn resume(
        &self,
        request: &SendRequest,
        token: &str,
        encryption: Encryption,
    ) -> Result<Result<SendStream, String>, CallError> {
        let contents = match zfs::token::decode(token) {
            Ok(contents) => contents,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let dataset = contents.to_name.split_once('@').map(|(dataset, _)| dataset);
        if dataset != Some(request.filesystem.as_str()) {
            return Err(CallError::permanent(format!(
                "the resume token is for {:?}, not for filesystem {:?}",
                contents.to_name,
                request.filesystem.as_str()
            )));
        }
        if contents.to != request.to.guid || contents.from != request.from.as_ref().map(|from| from.guid) {
            return Err(CallError::permanent(format!(
                "the resume token is not for the step from {} to {} of filesystem {:?}",
                request.from.as_ref().map_or_else(|| "nothing".to_owned(), VersionRef::to_string),
                request.to,
                request.filesystem.as_str()
            )));
        }
        let sends_encrypted = encryption != Encryption::None && contents.flags.raw;
        match (self.send.encrypted, sends_encrypted) {
            (true, false) => {
                return Ok(Err("resume token does not have rawok=true which would result in an unencrypted send, but policy mandates encrypted sends only".to_owned()));
            }
            (false, true) => {
                return Ok(Err("resume token has rawok=true which would result in encrypted send, but policy mandates unencrypted sends only".to_owned()));
            }
            _ => {}
        }
        let source = SendSource::Resume { token: token.to_owned() };
        match self.side.zfs.send(&SendArgs { dataset: request.filesystem.clone(), source }).await {
            Ok(stream) => Ok(Ok(stream)),
            Err(error) if matches!(error.kind, zfs::ErrorKind::BadResumeToken(_)) => Ok(Err(error.to_string())),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Whether a stream is what was asked for. Names can stand for other snapshots by now; the stream's
    /// own head cannot.
    fn check_stream(
        &self,
        request: &SendRequest,
        begin: &BeginRecord,
        encryption: Encryption,
    ) -> Result<(), CallError> {
        let filesystem = request.filesystem.as_str();
        let from = request.from.as_ref().map(|from| from.guid);
        if begin.to != request.to.guid || begin.from != from {
            return Err(CallError::permanent(format!(
                "{filesystem}{} or the version that it is sent from is not what it was when the step was planned: another snapshot has its name",
                request.to
            )));
        }
        if begin.to_name.split_once('@').is_none_or(|(dataset, _)| dataset != filesystem) {
            return Err(CallError::permanent(format!(
                "the stream for filesystem {filesystem:?} carries {:?}",
                begin.to_name
            )));
        }
        let raw = encryption != Encryption::None && begin.features & feature::RAW != 0;
        if raw != self.send.encrypted {
            let kinds = if raw { ("encrypted", "unencrypted") } else { ("unencrypted", "encrypted") };
            return Err(needs_person(format!(
                "the stream for filesystem {filesystem:?} is {}, but policy mandates {} sends",
                kinds.0, kinds.1
            )));
        }
        Ok(())
    }

    /// Puts the cursor on `to`, and makes sure that it is there: bookmarks are made by name.
    async fn move_cursor(
        &self,
        request: &SendRequest,
        before: &Facts,
        changes: &ProtectionChanges,
    ) -> Result<(), CallError> {
        if self.copy_cursor(request, before, changes).await {
            return Ok(());
        }
        let made = self.side.make(&request.filesystem, changes, Made::Cursor).await?;
        // A snapshot that this job holds since its stream was checked cannot have been replaced.
        match find(before, ProtectionKind::StepHold, request.to.guid) {
            Some(_) => Ok(()),
            None => self.check_cursor(request, &made).await,
        }
    }

    /// Copies the tentative cursor, whose guid is known since the stream was checked; whether that could
    /// be done. OpenZFS before 2.0 cannot copy bookmarks.
    async fn copy_cursor(&self, request: &SendRequest, before: &Facts, changes: &ProtectionChanges) -> bool {
        let mark = find(before, ProtectionKind::TentativeCursor, request.to.guid);
        let Some(mark) = mark.filter(|_| !self.cannot_copy.load(Ordering::Relaxed)) else { return false };
        let bookmarks = changes.bookmarks.iter().map(|(_, name)| (mark.version.clone(), name.clone())).collect();
        let copy = ProtectionChanges { bookmarks, ..ProtectionChanges::default() };
        match self.side.make(&request.filesystem, &copy, Made::Cursor).await {
            Ok(_) => true,
            Err(error) => {
                // If it was refused for another reason, later cursors are made by one process more.
                self.cannot_copy.store(error.class() == RetryClass::Permanent, Ordering::Relaxed);
                false
            }
        }
    }

    async fn check_cursor(&self, request: &SendRequest, made: &[Protection]) -> Result<(), CallError> {
        let filesystem = &request.filesystem;
        for cursor in made {
            if !self.side.zfs.is_still(filesystem, &cursor.version).await.map_err(|error| refused(&error))? {
                self.side.unmake(filesystem, made).await;
                self.side.table.forget(filesystem);
                return Err(CallError::permanent(format!(
                    "cannot move the cursor of {filesystem} to {}: another snapshot has its name by now",
                    request.to
                )));
            }
        }
        Ok(())
    }

    async fn protect_and_start(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        let filesystem = &request.filesystem;
        if request.to.kind != VersionKind::Snapshot {
            return Err(CallError::permanent(format!("cannot send {filesystem}{}: it is not a snapshot", request.to)));
        }
        let guard = self.side.lock(filesystem).await?;
        let facts = self.existing(filesystem).await?;
        self.check_policy(filesystem, facts.encryption)?;

        let strategy = request.protection.for_step(request.from.as_ref());
        self.check_names(request, strategy)?;
        let changes =
            protect_before_send(&self.side.job, request.from.as_ref(), &request.to, strategy, &facts.protections)
                .map_err(CallError::permanent)?;
        let made = self.side.make(filesystem, &changes, Made::Step).await?;
        let (stream, used_resume_token) = self.start(request, facts.encryption).await?;
        if let Err(refusal) = self.check_stream(request, &stream.begin, facts.encryption) {
            drop(stream);
            self.side.unmake(filesystem, &made).await;
            self.side.table.forget(filesystem);
            return Err(refusal);
        }
        self.side.remove(filesystem, &changes).await;
        Ok(SendReply {
            used_resume_token,
            expected: stream.expected.shared(),
            stream: self.bandwidth.limit(Box::pin(Sending::new(stream.bytes, self.side.stall, guard))),
        })
    }
}

#[async_trait]
impl Endpoint for Sender {
    async fn list(&self) -> Result<View, CallError> {
        let (seen, unlisted) = self.scan().await?;
        Ok(self.view(seen, unlisted))
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        let mut names = filesystems.to_vec();
        names.retain(|name| self.filesystems.selects(name));
        let (seen, mut unlisted) = self.side.scan_some(&names).await?;
        names.retain(|name| !unlisted.contains_key(name) && seen.iter().all(|seen| seen.dataset.name != *name));
        unlisted.extend(self.side.take_out_of_missing_pools(&mut names, &seen).await);
        Ok(self.view(seen, unlisted))
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        let filesystem = &request.filesystem;
        self.check_access(filesystem)?;
        match self.protect_and_start(request).await {
            Err(refusal) => Err(self.side.or_pool_missing(filesystem, refusal).await),
            started => started,
        }
    }

    /// By names alone: what has another guid by now is found when it is sent.
    async fn estimate(&self, request: &SendRequest) -> Result<Option<u64>, CallError> {
        let SendRequest { filesystem, from, to, .. } = request;
        self.check_access(filesystem)?;
        let source = SendSource::Snapshot { from: from.clone(), to: to.clone(), flags: self.send.effective_flags() };
        let args = SendArgs { dataset: filesystem.clone(), source };
        self.side.zfs.estimate_send(&args).await.map_err(|error| refused(&error))
    }

    async fn receive(&self, _: &ReceiveRequest, _: wire::ByteStream) -> Result<(), CallError> {
        Err(CallError::permanent("sender does not implement Receive()"))
    }

    async fn receive_announced(&self, request: &ReceiveRequest, stream: wire::ByteStream) -> Result<(), CallError> {
        self.receive(request, stream).await
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        let filesystem = &request.filesystem;
        self.check_access(filesystem)?;
        let _guard = self.side.lock(filesystem).await?;
        let facts = self.existing(filesystem).await?;
        let strategy = request.protection.for_step(request.from.as_ref());
        let changes = after_completion(&self.side.job, &request.to, strategy, &facts.protections)
            .map_err(CallError::permanent)?;
        if changes.creates() {
            self.move_cursor(request, &facts, &changes).await?;
        }
        self.side.remove(filesystem, &changes).await;
        Ok(())
    }

    async fn confirm_received(&self, _: &ReceiveRequest) -> Result<(), CallError> {
        Err(CallError::permanent("a sender has received nothing that it could confirm"))
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        requests.iter().try_for_each(|request| self.check_access(&request.filesystem))?;
        let outcomes = self.side.destroy(requests).await;
        Ok(std::iter::zip(requests, outcomes)
            .map(|(request, results)| DestroyResult { filesystem: request.filesystem.clone(), results })
            .collect())
    }
}

fn find(facts: &Facts, kind: ProtectionKind, guid: Guid) -> Option<&Protection> {
    facts.protections.iter().find(|protection| protection.kind == kind && protection.version.guid == guid)
}
