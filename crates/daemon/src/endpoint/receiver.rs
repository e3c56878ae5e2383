//! The receiving half: maps a client's names below its root, makes the way to a target, receives, and
//! holds what was received.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::event::{Receiving, What};
use model::plan::protection::after_receive;
use model::protection::Protection;
use model::view::{Placeholder, View};
use model::{ClientIdentity, DatasetName, Guid, JobName, NameError, PropertyName, UnixTime, VersionKind, VersionName};
use wire::{
    ByteStream, CallError, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RenameAsideRequest,
    RollBackRequest, SendReply, SendRequest,
};
use zfs::{ErrorKind, PlaceholderEncryption, ReceiveArgs, ReceiveTarget, Scope, Zfs};

use super::abandoned::ConfiguredJobs;
use super::head::Head;
use super::locks::Locks;
use super::passing::Passing;
use super::protect::Made;
use super::replace::Claim;
use super::resolve::{receive_refused, refuse_aside};
use super::table::{Facts, Known};
use super::view::{Beside, PartialState, Scanned, Seen, Side};
use super::{needs_person, refused};
use crate::bandwidth::Bandwidth;
use crate::events::Events;
use crate::limits::STALL;

/// What a receiver is for.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// The job that owns it; its name is in the last-received holds.
    pub job: JobName,
    /// Below which everything is received; must exist.
    pub root: DatasetName,
    /// The client, whose filesystems are all below `root/client`; none for a job that pulls.
    pub client: Option<ClientIdentity>,
    /// How placeholders are encrypted; none if the job does not say, which forbids them except for the
    /// client's own.
    pub placeholders: Option<PlaceholderEncryption>,
    /// Properties not to take from streams.
    pub inherit: Vec<PropertyName>,
    /// Properties to set on what is received.
    pub set: Vec<(PropertyName, String)>,
    /// How fast all streams together, those of all clients of a sink.
    pub bandwidth: Bandwidth,
}

/// The receiving half of a replication.
pub struct Receiver {
    side: Side,
    config: ReceiverConfig,
    /// Ancestors are made by one request at a time in each tree right below the client's root.
    trees: Locks<String>,
    /// A pool's answer is remembered if it is yes: no upgrade takes that back.
    resumable: tokio::sync::OnceCell<()>,
}

/// How a stream will be received.
struct Plan {
    /// What is at the target is replaced, and why it may be.
    replaces: Option<Claim>,
    /// The mark at the target becomes `off`.
    unmarks: bool,
    /// What an interrupted receive left goes first.
    discard: bool,
}

impl Receiver {
    /// A receiver on this machine's pools.
    pub fn new(zfs: Arc<dyn Zfs>, events: Events, config: ReceiverConfig) -> Arc<Self> {
        Self::with_stall(zfs, events, config, STALL)
    }

    /// The same; a stream that stands still for longer than `stall` is given up.
    pub fn with_stall(zfs: Arc<dyn Zfs>, events: Events, config: ReceiverConfig, stall: Duration) -> Arc<Self> {
        let side = Side::new(zfs, &events, config.job.clone(), stall);
        Arc::new(Self { side, config, trees: Locks::default(), resumable: tokio::sync::OnceCell::new() })
    }

    /// Where the client's filesystems are.
    fn client_root(&self) -> Result<DatasetName, NameError> {
        match &self.config.client {
            None => Ok(self.config.root.clone()),
            Some(client) => self.config.root.join(&client.component()),
        }
    }

    fn map(&self, filesystem: &DatasetName) -> Result<DatasetName, CallError> {
        refuse_aside(filesystem)?;
        self.client_root().and_then(|root| root.join(filesystem)).map_err(CallError::permanent)
    }

    async fn scan(&self) -> Result<(DatasetName, Vec<Seen>), CallError> {
        let (root, Scanned { seen, .. }) = self.scan_and(Beside::Nothing).await?;
        Ok((root, seen))
    }

    async fn scan_and(&self, beside: Beside) -> Result<(DatasetName, Scanned), CallError> {
        let root = self.client_root().map_err(CallError::permanent)?;
        let Scanned { mut seen, missing, unlisted, warnings, abstractions } =
            self.side.scan(&Scope::Trees(vec![root.clone()]), |_| true, beside).await?;
        if !missing.is_empty() {
            self.check_root().await?;
        }
        self.side.warn_once(warnings);
        seen.retain(|seen| seen.dataset.name.is_below(&root));
        Ok((root, Scanned { seen, missing, unlisted, warnings: Vec::new(), abstractions }))
    }

    /// Removes protections of the job that no step needs any longer; how many. Warns of what nobody looks after,
    /// from the same listing.
    ///
    /// # Errors
    /// The listing failed.
    pub async fn clean_and_warn(&self, jobs: &ConfiguredJobs) -> Result<usize, CallError> {
        let mut seen = self.look_and_warn(jobs).await?;
        seen.iter_mut().for_each(spare_base_of_partial);
        Ok(self.side.clean_stale(&seen).await)
    }

    /// Tells what has been received, and warns of what nobody looks after.
    ///
    /// # Errors
    /// The listing failed.
    pub(super) async fn look_and_warn(&self, jobs: &ConfiguredJobs) -> Result<Vec<Seen>, CallError> {
        let (root, Scanned { seen, abstractions, .. }) = self.scan_and(Beside::Abstractions).await?;
        self.tell_stored(&root, &seen);
        self.side.warn_of_abandoned(jobs, &abstractions, |_| true);
        Ok(seen)
    }

    /// Tells what is below a dataset, from a listing of all of it.
    fn tell_stored(&self, below: &DatasetName, seen: &[Seen]) {
        let newest = |seen: &Seen| {
            let snapshots = seen.dataset.versions.iter().filter(|version| version.is_snapshot());
            let newest = snapshots.max_by_key(|version| version.createtxg)?;
            Some((seen.dataset.name.clone(), newest.creation))
        };
        let newest = seen.iter().filter_map(newest).collect();
        self.side.events.tell(What::Stored { below: below.clone(), newest });
    }

    /// Whether `root_fs` is there; looked at only when something below it is not.
    async fn check_root(&self) -> Result<(), CallError> {
        let root = &self.config.root;
        match self.side.zfs.dataset(root).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() || matches!(error.kind, ErrorKind::PoolMissing { .. }) => {}
            Err(error) => return Err(refused(&error)),
        }
        let pool = DatasetName::parse(root.pool()).map_err(CallError::permanent)?;
        match pool != *root && self.side.zfs.dataset(&pool).await.is_ok() {
            true => Err(needs_person(format!(
                "root_fs {0:?} does not exist (create it with `zfs create -p {0}`)",
                root.as_str()
            ))),
            false => Err(needs_person(format!(
                "pool {0:?} is not imported (import it with `zpool import {0}`)",
                root.pool()
            ))),
        }
    }

    /// Makes placeholders of the ancestors of `target` that do not exist.
    async fn make_ancestors(&self, filesystem: &DatasetName, target: &DatasetName) -> Result<(), CallError> {
        let tree = filesystem.components().next().unwrap_or_default().to_owned();
        let busy = || Passing::BeingMade(target.to_string());
        let _guard = self.trees.lock(&tree).await.ok_or_else(busy)?;
        let client_root = self.client_root().map_err(CallError::permanent)?;
        let below_root = |name: &DatasetName| name.is_below(&self.config.root);
        let mut missing = Vec::new();
        for ancestor in target.ancestors().take_while(below_root) {
            match self.side.facts(&ancestor).await? {
                Some(facts) if !facts.is_only_partial() => break,
                Some(_) if !self.discard_ancestor(&ancestor).await? => break,
                Some(_) | None => missing.push(ancestor),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        // With a client there is a level in between, whose absence says nothing of the root's.
        if missing.iter().any(|name| name.parent().as_ref() == Some(&self.config.root)) {
            self.check_root().await?;
        }
        let missing: Vec<_> = missing
            .into_iter()
            .rev()
            .map(|name| self.placeholder_encryption(&name, &client_root).map(|encryption| (name, encryption)))
            .collect::<Result<_, _>>()?;
        for (name, encryption) in missing {
            self.make_placeholder(&name, encryption).await?;
        }
        Ok(())
    }

    /// Discards the state of an interrupted receive that is all there is of an ancestor; whether the
    /// ancestor is gone with it. With something below it, ZFS would never discard it again (`dataset
    /// already exists`) nor receive anything else into it. Whoever sends below it does not resume it.
    async fn discard_ancestor(&self, ancestor: &DatasetName) -> Result<bool, CallError> {
        self.side.events.tell_of(ancestor, What::Warning {
            subsystem: "endpoint",
            message: format!(
                "discarding the interrupted receive into {:?}: a filesystem below it arrives, after which it could not be discarded any more",
                ancestor.as_str()
            ),
        });
        self.side.table.forget(ancestor);
        self.side.zfs.abort_receive(ancestor).await.map_err(|error| refused(&error))?;
        Ok(self.side.facts(ancestor).await?.is_none())
    }

    fn placeholder_encryption(
        &self,
        name: &DatasetName,
        client_root: &DatasetName,
    ) -> Result<PlaceholderEncryption, CallError> {
        match self.config.placeholders {
            Some(encryption) => Ok(encryption),
            None if name == client_root => Ok(PlaceholderEncryption::Inherit),
            None => Err(needs_person(format!(
                "cannot create placeholder filesystem {name}: placeholder filesystem encryption handling is unspecified in receiver config"
            ))),
        }
    }

    async fn make_placeholder(&self, name: &DatasetName, encryption: PlaceholderEncryption) -> Result<(), CallError> {
        match self.side.zfs.create_placeholder(name, encryption).await {
            Ok(()) => self.side.table.note(name, Known::Exists(Facts::new_placeholder())),
            // Another client of the same root, or a person, was faster.
            Err(error) if matches!(error.kind, ErrorKind::Exists) => self.side.table.forget(name),
            Err(error) => return Err(refused(&error)),
        }
        Ok(())
    }

    /// What the stream may do to what is at the target.
    fn plan(
        &self,
        target: &DatasetName,
        request: &ReceiveRequest,
        base: Option<Guid>,
        facts: Option<&Facts>,
    ) -> Result<Plan, CallError> {
        let Some(facts) = facts else {
            return Ok(Plan { replaces: None, unmarks: false, discard: false });
        };
        let discard = request.clear_resume_token && facts.partial;
        if base.is_some() {
            // A mark that was left on data would make an older daemon roll it back.
            let unmarks = facts.placeholder == Placeholder::On;
            return Ok(Plan { replaces: None, unmarks, discard });
        }
        if facts.has_snapshots {
            return Err(needs_person(format!(
                "cannot receive a full stream into {:?}: it has snapshots, which would be lost (rename or destroy it)",
                target.as_str()
            )));
        }
        let resumes = facts.partial && !request.clear_resume_token;
        let replaces = Claim::on(facts, resumes);
        Ok(Plan { replaces, unmarks: replaces.is_some_and(Claim::is_marked), discard })
    }

    /// Looks once more at what will be replaced, and tells it.
    async fn check_replaced(&self, target: &DatasetName, claim: Claim) -> Result<(), CallError> {
        let contents = self.side.zfs.contents(target).await.map_err(|error| refused(&error))?;
        claim.check(target, &contents)?;
        self.side.events.tell_of(target, What::Note { subsystem: "endpoint", message: claim.describe(target) });
        Ok(())
    }

    async fn receive_stream(
        &self,
        target: &DatasetName,
        request: &ReceiveRequest,
        plan: &Plan,
        stream: ByteStream,
    ) -> Result<(), CallError> {
        let mut set = self.config.set.clone();
        if plan.unmarks {
            // In the receive itself, so that the mark changes together with the data or not at all.
            set.push((PropertyName::PLACEHOLDER, "off".to_owned()));
        }
        let args = ReceiveArgs {
            dataset: target.clone(),
            snapshot: request.to.name.clone(),
            target: if plan.replaces.is_some() { ReceiveTarget::Replace } else { ReceiveTarget::Continue },
            resumable: self.can_resume(target).await?,
            set,
            inherit: self.config.inherit.clone(),
            stall_limit: self.side.stall,
        };
        if let Some(claim) = plan.replaces {
            self.check_replaced(target, claim).await?;
        }
        self.side.table.forget(target);
        if plan.discard {
            match self.side.zfs.abort_receive(target).await {
                Err(error) if !error.is_not_found() => return Err(refused(&error)),
                _ => {}
            }
        }
        self.side.zfs.receive(&args, self.config.bandwidth.limit(stream)).await.map_err(|error| receive_refused(&error))
    }

    /// Receives a stream whose head fits the request and says that it is incremental from `base`.
    async fn receive_checked(
        &self,
        target: &DatasetName,
        request: &ReceiveRequest,
        base: Option<Guid>,
        stream: ByteStream,
    ) -> Result<(), CallError> {
        let facts = self.side.facts(target).await?;
        let plan = self.plan(target, request, base, facts.as_ref())?;
        if facts.is_none() {
            self.make_ancestors(&request.filesystem, target).await?;
        }
        self.receive_stream(target, request, &plan, stream).await?;
        let received = Facts::received(facts, plan.unmarks);
        self.protect(target, request, base, received).await
    }

    /// Receives a stream after `check` has seen its head.
    async fn receive_if(
        &self,
        request: &ReceiveRequest,
        mut stream: ByteStream,
        check: impl FnOnce(&Head) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        if request.to.kind != VersionKind::Snapshot {
            return Err(CallError::permanent(format!(
                "cannot receive {}{}: it is not a snapshot",
                request.filesystem, request.to
            )));
        }
        let target = self.map(&request.filesystem)?;
        let _guard = self.side.lock(&target).await?;
        let head = Head::read(&mut stream, self.side.stall).await?;
        head.check(request)?;
        check(&head)?;
        let base = head.begin.from;
        let told = Told::start(self, request, &target, head.created());
        let outcome = match self.receive_checked(&target, request, base, head.followed_by(stream)).await {
            Err(refusal) => Err(self.side.or_pool_missing(&target, refusal).await),
            Ok(()) => Ok(()),
        };
        told.finish(&outcome);
        outcome
    }

    async fn can_resume(&self, target: &DatasetName) -> Result<bool, CallError> {
        if self.resumable.initialized() {
            return Ok(true);
        }
        let can = self.side.zfs.can_resume(target.pool()).await.map_err(|error| refused(&error))?;
        if can {
            // Somebody else may have been faster with the same answer.
            let _ = self.resumable.set(());
        }
        Ok(can)
    }

    /// Whether what was just held is what was asked for: holds are made by name, and nothing has been
    /// received here that would tell its guid.
    async fn check_confirmed(
        &self,
        target: &DatasetName,
        request: &ReceiveRequest,
        made: &[Protection],
    ) -> Result<(), CallError> {
        match self.side.zfs.is_still(target, &request.to).await {
            Ok(true) => return Ok(()),
            Err(error) if !error.is_not_found() => return Err(refused(&error)),
            Ok(false) | Err(_) => {}
        }
        self.side.unmake(target, made).await;
        self.side.table.forget(target);
        Err(Passing::AnotherSnapshot(format!("{target}{}", request.to)).into())
    }

    /// Notes what the target is now, and holds what it received.
    async fn protect(
        &self,
        target: &DatasetName,
        request: &ReceiveRequest,
        base: Option<Guid>,
        facts: Facts,
    ) -> Result<(), CallError> {
        let strategy = request.protection.for_step(base);
        let changes = after_receive(&request.to, strategy, &facts.protections);
        self.side.table.note(target, Known::Exists(facts));
        if changes.is_empty() {
            return Ok(());
        }
        self.side.make(target, &changes, Made::LastReceived).await?;
        self.side.remove(target, &changes).await;
        Ok(())
    }
}

/// Tells the beginning of a receipt, and its end however it comes. None if nobody but this job itself sends.
struct Told<'a> {
    events: &'a Events,
    what: Option<(ClientIdentity, DatasetName, VersionName)>,
    target: DatasetName,
    created: UnixTime,
}

impl<'a> Told<'a> {
    fn start(receiver: &'a Receiver, request: &ReceiveRequest, target: &DatasetName, created: UnixTime) -> Self {
        let of = |client: &ClientIdentity| (client.clone(), request.filesystem.clone(), request.to.name.clone());
        let what = receiver.config.client.as_ref().map(of);
        let told = Self { events: &receiver.side.events, what, target: target.clone(), created };
        told.tell(Receiving::Started);
        told
    }

    fn finish(mut self, outcome: &Result<(), CallError>) {
        self.tell(match outcome {
            Ok(()) => Receiving::Finished,
            Err(error) => Receiving::Failed(Some(error.to_string())),
        });
        self.what = None;
    }

    fn tell(&self, what: Receiving) {
        if let Some((client, filesystem, snapshot)) = self.what.clone() {
            let (target, created) = (self.target.clone(), self.created);
            self.events.tell(What::Receiving { client, filesystem, snapshot, target, created, what });
        }
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.tell(Receiving::Failed(None));
    }
}

#[async_trait]
impl Endpoint for Receiver {
    async fn list(&self) -> Result<View, CallError> {
        let (root, seen) = self.scan().await?;
        if self.config.client.is_some() {
            self.tell_stored(&root, &seen);
        }
        let views = seen.into_iter().filter_map(|seen| {
            let name = seen.dataset.name.strip_root(&root)?;
            Some((name, seen.into_view(PartialState::Decoded)))
        });
        Ok(View::new(views.collect()))
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        let root = self.client_root().map_err(CallError::permanent)?;
        let targets = filesystems.iter().map(|filesystem| self.map(filesystem));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let (seen, unlisted) = self.side.scan_some(&targets).await?;
        // What cannot be looked at must not be taken for missing, and neither must a whole pool.
        if seen.len() + unlisted.len() < targets.len() {
            self.check_root().await?;
        }
        let unlisted = unlisted.into_iter().filter_map(|(target, error)| {
            let name = target.strip_root(&root)?;
            Some((name, error.kind.to_string()))
        });
        let unlisted = unlisted.collect();
        let views = seen.into_iter().filter_map(|seen| {
            let name = seen.dataset.name.strip_root(&root)?;
            Some((name, seen.into_view(PartialState::Decoded)))
        });
        Ok(View { unlisted, ..View::new(views.collect()) })
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        Err(CallError::permanent("receiver does not implement Send()"))
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.receive_if(request, stream, |head| head.check_base(request)).await
    }

    async fn receive_announced(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.receive_if(request, stream, |_| Ok(())).await
    }

    async fn send_completed(&self, _: &SendRequest) -> Result<(), CallError> {
        Ok(())
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        let target = self.map(&request.filesystem)?;
        let _guard = self.side.lock(&target).await?;
        let missing = || CallError::permanent(format!("filesystem {:?} does not exist", target.as_str()));
        let facts = self.side.facts(&target).await?.ok_or_else(missing)?;
        let strategy = request.protection.for_step(request.from.as_ref());
        let changes = after_receive(&request.to, strategy, &facts.protections);
        let made = self.side.make(&target, &changes, Made::LastReceived).await?;
        if !made.is_empty() {
            self.check_confirmed(&target, request, &made).await?;
        }
        self.side.remove(&target, &changes).await;
        Ok(())
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let mut mapped = Vec::with_capacity(requests.len());
        for DestroyRequest { filesystem, snapshots } in requests {
            mapped.push(DestroyRequest { filesystem: self.map(filesystem)?, snapshots: snapshots.clone() });
        }
        let outcomes = self.side.destroy(&mapped).await;
        Ok(std::iter::zip(requests, outcomes)
            .map(|(request, results)| DestroyResult { filesystem: request.filesystem.clone(), results })
            .collect())
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        let target = self.map(&request.filesystem)?;
        let _guard = self.side.lock(&target).await?;
        self.side.roll_back(&target, request).await
    }

    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        let target = self.map(&request.filesystem)?;
        let _guard = self.side.lock(&target).await?;
        let below = request.below.iter().map(|below| self.map(below)).collect::<Result<BTreeSet<_>, _>>()?;
        let mut guards = Vec::with_capacity(below.len());
        for below in &below {
            guards.push(self.side.lock(below).await?);
        }
        self.side.rename_aside(&target, &request.newest, &below).await
    }
}

/// Leaves out the hold on the version that an interrupted receive continues from, of whatever age, and
/// all holds if it cannot be told which one that is.
fn spare_base_of_partial(seen: &mut Seen) {
    let Some(token) = &seen.dataset.resume_token else { return };
    match zfs::token::decode(token) {
        Ok(contents) => seen.protections.retain(|hold| Some(hold.version.guid) != contents.from),
        Err(_) => seen.protections.clear(),
    }
}
