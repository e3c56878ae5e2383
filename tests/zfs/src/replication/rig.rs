//! Two endpoints, the engine between them, and what a case asks of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use daemon::act::{Invocation, replicate_and_prune};
use daemon::bandwidth::Bandwidth;
use daemon::clock::Clock;
use daemon::endpoint::{ConfiguredJobs, ReceiverConfig, SendPolicy, Sender, SenderConfig, Sink};
use daemon::events::{Events, Reader};
use futures::future::LocalBoxFuture;
use model::event::{Event, InvocationSummary, Pruning, Replication, What};
use model::filter::Pattern;
use model::plan::prune::{KeepRule, PrunePlan, PruneSide};
use model::plan::replication::{Discard, FilesystemAction, InitialReplication, ReplicationPlan, ReplicationPolicy};
use model::plan::resolve::ConflictPolicy;
use model::protection::{
    ProtectionKind, ProtectionPolicy, ProtectionStrategy, cursor_name, last_received_tag, parse_cursor_name,
    step_hold_tag, tentative_cursor_name,
};
use model::{ClientIdentity, DatasetName, FilesystemFilter, Guid, JobName, PropertyName, VersionKind, VersionRef};
use tokio_util::sync::CancellationToken;
use wire::{CallError, Endpoint, SameProcess, Service};
use zfs::{PlaceholderEncryption, Snapshot, Zfs};

use super::faults::{Fault, Faulty, Side};
use crate::backend::{FakeWorld, RealWorld, World};
use crate::case::Case;
use crate::conformance::{Ground, block_on};
use crate::lab::{Bench, command};

/// The body of a case.
pub(crate) type Body = for<'a> fn(&'a Stage<'a>) -> LocalBoxFuture<'a, Result<()>>;

/// Cases by name.
pub(crate) type Table = [(&'static str, Body)];

/// The cases of these tables, for both backends.
pub(crate) fn cases(area: &str, tables: &[&Table]) -> Vec<Case> {
    tables.iter().flat_map(|table| table.iter()).flat_map(|(name, body)| both(area, name, *body)).collect()
}

/// One case, for both backends.
pub(crate) fn both(area: &str, name: &str, body: Body) -> [Case; 2] {
    let name = format!("{area}::{name}");
    let fake = Case::fake(name.clone(), move || on_fake(body));
    [fake, Case::real(name, move |bench| on_real(bench, body))]
}

/// Runs a body on the model of ZFS.
pub(crate) fn on_fake(body: Body) -> Result<()> {
    let world = FakeWorld::new(1)?;
    let on = On::Fake(&world);
    block_on(async {
        // Waits cost nothing there.
        tokio::time::pause();
        body(&Stage::new(&world, on)).await
    })?
}

/// Runs a body on real ZFS.
pub(crate) fn on_real(bench: &Bench, body: Body) -> Result<()> {
    let world = RealWorld::new(bench)?;
    block_on(async { body(&Stage::new(&world, On::Real(bench))).await })?
}

/// What the pools are, for what only one of the two can do.
pub(crate) enum On<'a> {
    Fake(&'a FakeWorld),
    Real(&'a Bench),
}

/// A machine with two pools on which jobs replicate from the first to the second.
pub(crate) struct Stage<'a> {
    ground: Ground<'a>,
    pub(crate) on: On<'a>,
    /// Short names of snapshots by guid, also of those that are gone by now.
    names: RefCell<BTreeMap<Guid, String>>,
}

impl<'a> Deref for Stage<'a> {
    type Target = Ground<'a>;

    fn deref(&self) -> &Ground<'a> {
        &self.ground
    }
}

/// The name of the sending job, unless a case says otherwise.
pub(crate) const JOB: &str = "push job";
/// The name of the receiving job.
pub(crate) const SINK: &str = "sink job";

/// What the two jobs are configured to do.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) filesystems: FilesystemFilter,
    pub(crate) send: SendPolicy,
    pub(crate) initial: InitialReplication,
    pub(crate) protection: ProtectionPolicy,
    pub(crate) conflicts: ConflictPolicy,
    pub(crate) root: DatasetName,
    pub(crate) client: Option<String>,
    pub(crate) placeholders: Option<PlaceholderEncryption>,
    pub(crate) inherit: Vec<PropertyName>,
    pub(crate) set: Vec<(PropertyName, String)>,
    pub(crate) send_limit: Bandwidth,
    pub(crate) receive_limit: Bandwidth,
    pub(crate) concurrency: usize,
    pub(crate) attempts: u32,
    pub(crate) keep_sender: Vec<KeepRule>,
    pub(crate) keep_receiver: Vec<KeepRule>,
}

/// The same protection for both kinds of steps.
pub(crate) fn protection(strategy: ProtectionStrategy) -> ProtectionPolicy {
    ProtectionPolicy { initial: strategy, incremental: strategy }
}

/// A filter: `!` before a pattern excludes.
pub(crate) fn filter<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<FilesystemFilter> {
    let mut parsed = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let (text, selected) = entry.strip_prefix('!').map_or((entry, true), |text| (text, false));
        parsed.push((Pattern::parse(text)?, selected));
    }
    Ok(FilesystemFilter::new(parsed))
}

impl<'a> Stage<'a> {
    fn new(world: &'a dyn World, on: On<'a>) -> Self {
        Self { ground: Ground { world }, on, names: RefCell::default() }
    }

    pub(crate) fn is_fake(&self) -> bool {
        matches!(self.on, On::Fake(_))
    }

    /// The defaults: everything below the first pool is sent, with an existing way to it below
    /// `receiver root`, so that placeholders are needed only where a case wants them.
    pub(crate) fn job(&self) -> Result<Job> {
        let [source, _] = self.world.pools();
        Ok(Job {
            name: JOB.to_owned(),
            filesystems: filter([format!("{source}<"), format!("!{source}")])?,
            send: SendPolicy::default(),
            initial: InitialReplication::MostRecent,
            protection: ProtectionPolicy::default(),
            conflicts: ConflictPolicy::default(),
            root: self.dst("receiver root")?,
            client: None,
            placeholders: None,
            inherit: Vec::new(),
            set: Vec::new(),
            send_limit: Bandwidth::unlimited(),
            receive_limit: Bandwidth::unlimited(),
            concurrency: 1,
            attempts: 1,
            keep_sender: Vec::new(),
            keep_receiver: Vec::new(),
        })
    }

    /// A default job with its root, and what is above the filesystems that it receives.
    pub(crate) fn push(&self) -> Result<Rig<'_>> {
        self.push_with(|_| {})
    }

    /// The same with changes.
    pub(crate) fn push_with(&self, change: impl FnOnce(&mut Job)) -> Result<Rig<'_>> {
        let mut job = self.job()?;
        change(&mut job);
        self.world.create_filesystem(&job.root)?;
        let [source, _] = self.world.pools();
        self.world.create_filesystem(&job.root.join(&source)?)?;
        self.rig(job)
    }

    /// Endpoints that remember nothing.
    pub(crate) fn rig(&self, job: Job) -> Result<Rig<'_>> {
        self.rig_on(job, self.zfs(), self.zfs())
    }

    /// The same with a handle on ZFS for each side.
    pub(crate) fn rig_on(&self, job: Job, sends: Arc<dyn Zfs>, receives: Arc<dyn Zfs>) -> Result<Rig<'_>> {
        let recorder = Arc::new(Recorder::default());
        let events = Events::new(Clock::system(), vec![Arc::clone(&recorder) as Arc<dyn Reader>]);
        let sender = Sender::new(
            sends,
            events.clone(),
            SenderConfig {
                job: JobName::parse(&job.name)?,
                filesystems: job.filesystems.clone(),
                send: job.send,
                bandwidth: job.send_limit.clone(),
            },
        );
        let config = ReceiverConfig {
            job: JobName::parse(SINK)?,
            root: job.root.clone(),
            client: None,
            placeholders: job.placeholders,
            inherit: job.inherit.clone(),
            set: job.set.clone(),
            bandwidth: job.receive_limit.clone(),
        };
        let sink = Sink::new(receives.clone(), events.clone(), config.clone());
        let receiver: Arc<dyn Endpoint> = match &job.client {
            None => daemon::endpoint::Receiver::new(receives, events.clone(), config),
            Some(client) => sink.endpoint_for(&ClientIdentity::parse(client)?)?,
        };
        Ok(Rig { stage: self, job, sender, sink, receiver, recorder, events })
    }

    /// A new filesystem of the first pool with a small snapshot of each name.
    pub(crate) async fn fs_with(&self, path: &str, snapshots: &[&str]) -> Result<DatasetName> {
        let name = self.fs(path)?;
        for snapshot in snapshots {
            self.snap(&name, 1000, snapshot).await?;
        }
        Ok(name)
    }

    /// Writes a file of some length and takes a snapshot.
    pub(crate) async fn snap(&self, name: &DatasetName, len: usize, snapshot: &str) -> Result<VersionRef> {
        let version = self.write_take(name, len, snapshot).await?;
        self.names.borrow_mut().insert(version.guid, snapshot.to_owned());
        Ok(version)
    }

    /// Snapshots and bookmarks of a dataset, oldest first: `@2 step`, `cursor 2`, `#mark`; what belongs
    /// to other jobs says so, and other holds are given by their tags.
    pub(crate) async fn state(&self, name: &DatasetName) -> Result<Vec<String>> {
        self.state_of(name, JOB).await
    }

    pub(crate) async fn state_of(&self, name: &DatasetName, job: &str) -> Result<Vec<String>> {
        let zfs = self.zfs();
        let dataset = match zfs.dataset(name).await {
            Err(error) if error.is_not_found() => return Ok(vec!["missing".to_owned()]),
            found => found?,
        };
        let held: Vec<Snapshot> = dataset
            .versions
            .iter()
            .filter(|version| version.userrefs > 0)
            .map(|version| Snapshot { dataset: name.clone(), name: version.name.clone() })
            .collect();
        let holds = if held.is_empty() { Vec::new() } else { zfs.holds(&held).await? };
        let mut lines = Vec::new();
        for version in dataset.versions.iter() {
            let mut line = match version.kind {
                VersionKind::Snapshot => version.to_string(),
                VersionKind::Bookmark => self.bookmark_text(version, job),
            };
            let mut tags: Vec<String> = holds
                .iter()
                .filter(|hold| version.is_snapshot() && hold.snapshot == version.name)
                .map(|hold| tag_text(hold.tag.as_str(), job))
                .collect();
            tags.sort();
            for tag in tags {
                line = format!("{line} {tag}");
            }
            if version.is_snapshot() {
                self.names.borrow_mut().insert(version.guid, version.name.to_string());
            }
            lines.push((version.order(), line));
        }
        lines.sort();
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    fn bookmark_text(&self, version: &model::Version, job: &str) -> String {
        let names = self.names.borrow();
        let of = names.get(&version.guid).map_or("unknown", String::as_str);
        match parse_cursor_name(version.name.as_str()) {
            Some((kind, guid, owner)) if guid == version.guid => {
                let kind = if kind == ProtectionKind::Cursor { "cursor" } else { "tentative" };
                let other = if owner == job { String::new() } else { format!(" of {owner}") };
                format!("{kind} {of}{other}")
            }
            _ => version.to_string(),
        }
    }

    /// Fails unless a dataset has exactly this state.
    #[track_caller]
    pub(crate) fn is<'s>(
        &'s self,
        name: &'s DatasetName,
        expected: &'s [&'s str],
    ) -> impl Future<Output = Result<()>> + 's {
        let here = std::panic::Location::caller();
        async move {
            let found = self.state(name).await?;
            ensure!(found == expected, "{here}: {name} has {found:?}, not {expected:?}");
            Ok(())
        }
    }

    /// A cursor of a job.
    pub(crate) async fn make_cursor(&self, name: &DatasetName, version: &VersionRef, job: &str) -> Result<()> {
        Ok(self.zfs().bookmark(name, version, &cursor_name(version.guid, &JobName::parse(job)?)?).await?)
    }

    /// A tentative cursor of a job.
    pub(crate) async fn make_tentative(&self, name: &DatasetName, version: &VersionRef, job: &str) -> Result<()> {
        Ok(self.zfs().bookmark(name, version, &tentative_cursor_name(version.guid, &JobName::parse(job)?)?).await?)
    }

    /// A step hold of a job.
    pub(crate) async fn make_step_hold(&self, name: &DatasetName, version: &VersionRef, job: &str) -> Result<()> {
        self.hold(step_hold_tag(&JobName::parse(job)?)?.as_str(), name, version.name.as_str()).await
    }

    /// A last-received hold of a job.
    pub(crate) async fn make_last_received(&self, name: &DatasetName, version: &VersionRef, job: &str) -> Result<()> {
        self.hold(last_received_tag(&JobName::parse(job)?)?.as_str(), name, version.name.as_str()).await
    }

    /// Releases a step hold, as a person would.
    pub(crate) async fn drop_step_hold(&self, name: &DatasetName, snapshot: &str) -> Result<()> {
        let snapshot = Snapshot { dataset: name.clone(), name: crate::conformance::version(snapshot)? };
        let tag = step_hold_tag(&JobName::parse(JOB)?)?;
        Ok(self.zfs().release(&tag, &[snapshot]).await.pop().context("one result")??)
    }

    /// Releases a last-received hold, as a person would.
    pub(crate) async fn drop_last_received(&self, name: &DatasetName, snapshot: &str) -> Result<()> {
        let snapshot = Snapshot { dataset: name.clone(), name: crate::conformance::version(snapshot)? };
        let tag = last_received_tag(&JobName::parse(SINK)?)?;
        Ok(self.zfs().release(&tag, &[snapshot]).await.pop().context("one result")??)
    }

    /// Compares files, where need be after mounting what is below a placeholder.
    pub(crate) fn same_files_mounted(&self, a: &DatasetName, b: &DatasetName) -> Result<()> {
        let On::Real(bench) = self.on else { return self.same_files(a, b) };
        let mut mounted = Vec::new();
        for name in [a, b].map(DatasetName::as_str) {
            if command("zfs", &["get", "-Ho", "value", "mounted", name])?.trim() != "yes" {
                let path = bench.mountpoint(name);
                command("zfs", &["set", &format!("mountpoint={}", path.display()), name])?;
                mounted.push(name);
            }
        }
        let same = self.same_files(a, b);
        for name in mounted {
            command("zfs", &["inherit", "mountpoint", name])?;
        }
        same
    }

    /// How many bytes a stream has.
    pub(crate) async fn stream_len(&self, args: &zfs::SendArgs) -> Result<u64> {
        let mut stream = self.send(args).await?;
        Ok(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?)
    }
}

fn tag_text(tag: &str, job: &str) -> String {
    match (tag.strip_prefix("zrepl_STEP_J_"), tag.strip_prefix("zrepl_last_received_J_")) {
        (Some(owner), _) if owner == job => "step".to_owned(),
        (_, Some(SINK)) => "last".to_owned(),
        (Some(owner), _) => format!("step of {owner}"),
        (_, Some(owner)) => format!("last of {owner}"),
        _ => tag.to_owned(),
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<What>>);

impl Reader for Recorder {
    fn read(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.what.clone());
    }
}

/// Both endpoints of a job.
pub(crate) struct Rig<'a> {
    stage: &'a Stage<'a>,
    pub(crate) job: Job,
    pub(crate) sender: Arc<Sender>,
    sink: Arc<Sink>,
    pub(crate) receiver: Arc<dyn Endpoint>,
    pub(crate) events: Events,
    recorder: Arc<Recorder>,
}

impl<'a> Rig<'a> {
    /// The same job in a daemon that was started again, with changes.
    pub(crate) fn again(&self, change: impl FnOnce(&mut Job)) -> Result<Rig<'a>> {
        let mut job = self.job.clone();
        change(&mut job);
        self.stage.rig(job)
    }

    /// Removes what no step needs any longer, as a daemon does when it starts; how many on either side.
    pub(crate) async fn clean(&self) -> Result<[usize; 2]> {
        let jobs = ConfiguredJobs::default();
        Ok([self.sender.clean_and_warn(&jobs).await?, self.sink.clean_and_warn(&jobs).await?])
    }

    /// Where a filesystem is received.
    pub(crate) fn received(&self, filesystem: &DatasetName) -> Result<DatasetName> {
        let root = match &self.job.client {
            None => self.job.root.clone(),
            Some(client) => self.job.root.join(&ClientIdentity::parse(client)?.component())?,
        };
        Ok(root.join(filesystem)?)
    }

    /// An invocation that nothing disturbs.
    pub(crate) async fn run(&self) -> Report {
        self.run_with(Fault::None).await
    }

    /// An invocation with a fault between the endpoints.
    pub(crate) async fn run_with(&self, fault: Fault) -> Report {
        self.run_until(fault, CancellationToken::new()).await
    }

    /// The same, until it is cancelled.
    pub(crate) async fn run_until(&self, fault: Fault, cancel: CancellationToken) -> Report {
        let fault = Arc::new(fault);
        let faulty = |inner, side| Arc::new(Faulty { inner, side, fault: Arc::clone(&fault) });
        let job = &self.job;
        let invocation = Invocation {
            number: 1,
            events: self.events.clone(),
            sender: Arc::new(SameProcess(faulty(Arc::clone(&self.sender) as Arc<dyn Endpoint>, Side::Sender))),
            receiver: Arc::new(SameProcess(faulty(Arc::clone(&self.receiver), Side::Receiver))),
            policy: ReplicationPolicy { initial: job.initial, protection: job.protection, conflicts: job.conflicts },
            step_concurrency: NonZeroUsize::new(job.concurrency).unwrap_or(NonZeroUsize::MIN),
            keep_sender: job.keep_sender.clone(),
            keep_receiver: job.keep_receiver.clone(),
            attempts: NonZeroU32::new(job.attempts).unwrap_or(NonZeroU32::MIN),
            reconnect_window: Duration::from_secs(10),
            patience: daemon::act::Patience::default(),
            drain: daemon::Drain::default(),
            cancel,
        };
        self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let summary = replicate_and_prune(invocation).await;
        let events = self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report { summary, events }
    }

    /// An invocation that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self) -> impl Future<Output = Result<Report>> {
        let here = std::panic::Location::caller();
        async move {
            let report = self.run().await;
            ensure!(report.summary.errors == 0, "{here}: {:?}", report.failures());
            Ok(report)
        }
    }

    /// Fails unless the newest snapshots of a filesystem on both sides are one, with equal files, and
    /// nothing of an interrupted receive is left.
    pub(crate) async fn same(&self, filesystem: &DatasetName) -> Result<()> {
        let received = self.received(filesystem)?;
        let (here, there) = (self.stage.dataset(filesystem).await?, self.stage.dataset(&received).await?);
        let newest = |dataset: &zfs::Dataset| dataset.versions.iter().rfind(|v| v.is_snapshot()).map(|v| v.guid);
        ensure!(newest(&here).is_some() && newest(&here) == newest(&there), "{received} is not up to date");
        ensure!(there.resume_token.is_none(), "{received} has a token");
        self.stage.same_files_mounted(filesystem, &received)
    }
}

/// What an invocation told.
pub(crate) struct Report {
    pub(crate) summary: InvocationSummary,
    pub(crate) events: Vec<What>,
}

impl Report {
    /// What failed, as a person reads it.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failure = |what: &What| match what {
            What::Error { message, .. } => Some(message.clone()),
            What::Replication(Replication::PlanFailed { error }) => Some(format!("plan: {error}")),
            What::Replication(Replication::StepFailed { filesystem, error, .. }) => {
                Some(format!("{filesystem}: {error}"))
            }
            What::Replication(Replication::Conflicted { filesystem, conflict }) => {
                Some(format!("{filesystem}: {conflict}"))
            }
            What::Pruning { side, what: Pruning::PlanFailed { error } } => Some(format!("prune {side}: {error}")),
            What::Pruning { what: Pruning::Filesystem { filesystem, failed, .. }, .. } => {
                failed.first().map(|(snapshot, why)| format!("{filesystem}@{snapshot}: {why}"))
            }
            What::Protection { object, outcome: model::event::ProtectionOutcome::Failed(why) } => {
                Some(format!("{object}: {why}"))
            }
            _ => None,
        };
        self.events.iter().filter_map(failure).collect()
    }

    /// What was told before it was done.
    pub(crate) fn notes<'a>(&'a self) -> Vec<&'a str> {
        let note = |what: &'a What| if let What::Note { message, .. } = what { Some(message.as_str()) } else { None };
        self.events.iter().filter_map(note).collect()
    }

    /// The one failure; fails if there is none, or another one.
    #[track_caller]
    pub(crate) fn failure(&self) -> Result<String> {
        let here = std::panic::Location::caller();
        let mut failures = self.failures();
        ensure!(failures.len() == 1, "{here}: one failure was expected: {failures:?}");
        failures.pop().context("one")
    }

    /// Fails unless there is one failure, with all these texts in it.
    #[track_caller]
    pub(crate) fn fails(&self, texts: &[&str]) -> Result<()> {
        let here = std::panic::Location::caller();
        let failure = self.failure()?;
        for text in texts {
            ensure!(failure.contains(text), "{here}: {failure:?} does not say {text:?}");
        }
        Ok(())
    }

    /// The last plan.
    pub(crate) fn plan(&self) -> Option<Arc<ReplicationPlan>> {
        self.events.iter().rev().find_map(|what| match what {
            What::Replication(Replication::Planned { plan }) => Some(Arc::clone(plan)),
            _ => None,
        })
    }

    /// What was planned for a filesystem, as a person reads it.
    pub(crate) fn action(&self, filesystem: &DatasetName) -> Result<String> {
        let plan = self.plan().context("no plan")?;
        let found = plan.filesystems.iter().find(|plan| plan.name == *filesystem);
        Ok(found.with_context(|| format!("{filesystem} is not in the plan"))?.action.to_string())
    }

    /// How many steps were planned.
    pub(crate) fn planned_steps(&self) -> usize {
        let steps = |action: &FilesystemAction| match action {
            FilesystemAction::Steps { steps, .. } => steps.len(),
            _ => 0,
        };
        self.plan().map_or(0, |plan| plan.filesystems.iter().map(|plan| steps(&plan.action)).sum())
    }

    /// The partial states that were discarded.
    pub(crate) fn discards(&self) -> Vec<Discard> {
        let discard = |what: &What| match what {
            What::Replication(Replication::Discarding { reason, .. }) => Some(reason.clone()),
            _ => None,
        };
        self.events.iter().filter_map(discard).collect()
    }

    /// The steps that were completed, in order.
    pub(crate) fn finished(&self) -> Vec<String> {
        let finished = |what: &What| match what {
            What::Replication(Replication::StepFinished { filesystem, .. }) => Some(filesystem.to_string()),
            _ => None,
        };
        self.events.iter().filter_map(finished).collect()
    }

    /// What pruning of a side decided.
    pub(crate) fn pruned(&self, side: PruneSide) -> Result<Arc<PrunePlan>> {
        let plan = self.events.iter().find_map(|what| match what {
            What::Pruning { side: of, what: Pruning::Planned { plan } } if *of == side => Some(Arc::clone(plan)),
            _ => None,
        });
        plan.with_context(|| format!("{side} was not pruned"))
    }
}

/// Fails unless a call was refused with all these texts.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, CallError>, texts: &[&str]) -> Result<CallError> {
    let here = std::panic::Location::caller();
    let Err(error) = result else { bail!("{here}: it was not refused") };
    for text in texts {
        ensure!(error.to_string().contains(text), "{here}: {error:?} does not say {text:?}");
    }
    Ok(error)
}
