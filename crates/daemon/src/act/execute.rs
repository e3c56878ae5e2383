//! Executes a plan: a few steps at a time, parents before children, the oldest snapshot first.
//!
//! A failure ends only its own filesystem, and those that wait for its first full send.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, StreamExt};
use model::event::{BlockedOn, Replication, What};
use model::plan::replication::{Discard, FilesystemAction, FilesystemPlan, Repair, ReplicationPlan, Step};
use model::plan::resolve::ConflictPolicy;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{DatasetName, Guid, RetryClass, UnixTime, VersionRef};
use tokio::time::Instant;
use wire::{CallError, Endpoint, ReceiveRequest, SendRequest};

use super::resolve::{Resolver, Resolving};
use super::step::StepRun;
use super::tally::Tally;
use crate::events::Events;
use crate::limits::CONFIRMATIONS;

/// What it takes to execute a plan.
pub(super) struct Execution<'a> {
    pub(super) sender: &'a dyn Endpoint,
    pub(super) receiver: &'a dyn Endpoint,
    pub(super) sender_view: &'a View,
    pub(super) receiver_view: &'a View,
    pub(super) events: &'a Events,
    pub(super) tally: &'a Tally,
    pub(super) protection: ProtectionPolicy,
    pub(super) conflicts: ConflictPolicy,
    pub(super) step_concurrency: NonZeroUsize,
    /// Whether what fails and may work later is tried again.
    pub(super) last_attempt: bool,
    pub(super) plan: &'a ReplicationPlan,
}

/// A filesystem that was not brought up to date.
pub(super) struct Failure {
    pub(super) filesystem: DatasetName,
    pub(super) class: RetryClass,
    /// The peer has to be reached again first.
    pub(super) connection: bool,
}

impl Failure {
    fn new(filesystem: &DatasetName, error: &CallError) -> Self {
        let connection = matches!(error, CallError::Connection(_));
        Self { filesystem: filesystem.clone(), class: error.class(), connection }
    }
}

/// A filesystem with steps to do.
struct Work<'a> {
    filesystem: &'a DatasetName,
    steps: &'a [Step],
    discard: Option<&'a Discard>,
    /// What comes before the first step.
    resolving: Option<Resolving<'a>>,
    /// When the snapshots that the steps bring were taken.
    dates: HashMap<Guid, UnixTime>,
    /// Index of the step that is next or runs.
    next: usize,
}

impl Work<'_> {
    fn date(&self) -> UnixTime {
        let to = self.steps.get(self.next).map(|step| step.to.guid);
        to.and_then(|guid| self.dates.get(&guid).copied()).unwrap_or(UnixTime(i64::MIN))
    }
}

/// The end of a step: of which work, its bytes, and how it went.
type Ended = (usize, u64, Result<(), CallError>);

impl<'a> Execution<'a> {
    /// Executes the plan; all filesystems that failed.
    pub(super) async fn run(&self) -> Vec<Failure> {
        let mut failures = self.tell_conflicts();
        let (steps, confirmations) = tokio::join!(self.run_steps(), self.confirm_all());
        failures.extend(steps);
        failures.extend(confirmations);
        failures
    }

    /// Whether executing the plan changes anything.
    pub(super) fn has_work(plan: &ReplicationPlan) -> bool {
        let works = |plan: &FilesystemPlan| {
            matches!(plan.action, FilesystemAction::Steps { .. } | FilesystemAction::Confirm { .. })
        };
        plan.filesystems.iter().any(works)
    }

    fn tell_conflicts(&self) -> Vec<Failure> {
        let mut failures = Vec::new();
        for plan in &self.plan.filesystems {
            let FilesystemAction::Conflict(conflict) = &plan.action else { continue };
            let filesystem = plan.name.clone();
            self.tally.failed(&filesystem);
            self.tell(Replication::Conflicted { filesystem: filesystem.clone(), conflict: conflict.clone() });
            failures.push(Failure { filesystem, class: RetryClass::NeedsPerson, connection: false });
        }
        failures
    }

    async fn run_steps(&self) -> Vec<Failure> {
        let mut queue = Queue::new(self);
        let mut running: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
        loop {
            while running.len() < self.step_concurrency.get() {
                let Some(index) = queue.pop() else { break };
                let Some(start) = queue.work.get(index).and_then(|work| self.start(index, work)) else { continue };
                running.push(start);
            }
            let Some((index, bytes, result)) = running.next().await else { return queue.failures };
            queue.ended(index, bytes, result);
        }
    }

    fn start(&self, index: usize, work: &Work<'a>) -> Option<BoxFuture<'a, Ended>> {
        let resolving = work.resolving.filter(|_| work.next == 0);
        let resolver = self.resolver(work.filesystem);
        if work.steps.is_empty() {
            let resolving = resolving?;
            return Some(Box::pin(async move { (index, 0, resolver.resolve_only(&resolving).await) }));
        }
        let bytes = Arc::new(AtomicU64::new(0));
        let run = StepRun {
            sender: self.sender,
            receiver: self.receiver,
            events: self.events,
            protection: self.protection,
            filesystem: work.filesystem,
            index: work.next,
            step: work.steps.get(work.next)?,
            bytes: Arc::clone(&bytes),
            total: Arc::clone(&self.tally.bytes),
        };
        if let Some(reason) = work.discard.filter(|_| work.next == 0) {
            self.tell(Replication::Discarding { filesystem: work.filesystem.clone(), reason: reason.clone() });
        }
        self.tell(Replication::StepStarted { filesystem: work.filesystem.clone(), step: work.next });
        let (events, tally) = (self.events, self.tally);
        let base = run.step.from.as_ref().map(|from| self.as_received(work.filesystem, from));
        Some(Box::pin(async move {
            let started = Instant::now();
            let result = async {
                if let Some(resolving) = &resolving {
                    resolver.resolve(resolving).await?;
                }
                resolver.step(&run, base).await
            };
            let result = result.await;
            let bytes = bytes.load(Ordering::Relaxed);
            if result.is_ok() {
                tally.step_done();
                let (filesystem, step, took) = (run.filesystem.clone(), run.index, started.elapsed());
                events.tell(What::Replication(Replication::StepFinished { filesystem, step, bytes, took }));
            }
            (index, bytes, result)
        }))
    }

    fn resolver(&self, filesystem: &'a DatasetName) -> Resolver<'a> {
        Resolver {
            sender: self.sender,
            receiver: self.receiver,
            events: self.events,
            tally: self.tally,
            protection: self.protection,
            conflicts: self.conflicts,
            filesystem,
        }
    }

    async fn confirm_all(&self) -> Vec<Failure> {
        let mut confirmations = Vec::new();
        for plan in &self.plan.filesystems {
            if let FilesystemAction::Confirm { version, repairs } = &plan.action {
                confirmations.push(self.confirm(&plan.name, version, repairs));
            }
        }
        let results: Vec<Option<Failure>> = stream::iter(confirmations).buffer_unordered(CONFIRMATIONS).collect().await;
        results.into_iter().flatten().collect()
    }

    async fn confirm(&self, filesystem: &DatasetName, version: &VersionRef, repairs: &[Repair]) -> Option<Failure> {
        match self.try_confirm(filesystem, version, repairs).await {
            Ok(()) => {
                self.tell(Replication::Confirmed { filesystem: filesystem.clone() });
                None
            }
            Err(error) => Some(self.fail(filesystem, 0, 0, &error)),
        }
    }

    /// The receiver first: its hold keeps the base that the cursor will stand for.
    async fn try_confirm(
        &self,
        filesystem: &DatasetName,
        version: &VersionRef,
        repairs: &[Repair],
    ) -> Result<(), CallError> {
        let wants = |these: [Repair; 2]| repairs.iter().any(|repair| these.contains(repair));
        if wants([Repair::HoldLastReceived, Repair::ReleaseOlderReceived]) {
            let to = self.as_received(filesystem, version);
            let request = ReceiveRequest {
                filesystem: filesystem.clone(),
                from: Some(to.clone()),
                to,
                clear_resume_token: false,
                protection: self.protection,
            };
            self.receiver.confirm_received(&request).await?;
        }
        if wants([Repair::MoveCursor, Repair::RemoveStepProtection]) {
            let request = SendRequest {
                filesystem: filesystem.clone(),
                from: Some(version.clone()),
                to: version.clone(),
                resume_token: None,
                protection: self.protection,
            };
            self.sender.send_completed(&request).await?;
        }
        Ok(())
    }

    /// A version by the name that it has on the receiver.
    fn as_received(&self, filesystem: &DatasetName, version: &VersionRef) -> VersionRef {
        let view = self.receiver_view.filesystems.get(filesystem);
        let there = view.and_then(|view| view.snapshots().find(|snapshot| snapshot.guid == version.guid));
        there.map_or_else(|| version.clone(), model::Version::to_ref)
    }

    fn fail(&self, filesystem: &DatasetName, step: usize, bytes: u64, error: &CallError) -> Failure {
        let failure = Failure::new(filesystem, error);
        self.tell_failed(&failure, step, bytes, error.to_string());
        failure
    }

    fn tell_failed(&self, failure: &Failure, step: usize, bytes: u64, error: String) {
        self.tally.failed(&failure.filesystem);
        let will_retry = failure.class == RetryClass::Transient && !self.last_attempt;
        let filesystem = failure.filesystem.clone();
        self.tell(Replication::StepFailed { filesystem, step, bytes, error, will_retry });
    }

    fn tell(&self, what: Replication) {
        self.events.tell(What::Replication(what));
    }
}

/// What runs next.
struct Queue<'a, 'e> {
    execution: &'e Execution<'a>,
    work: Vec<Work<'a>>,
    ready: BinaryHeap<Reverse<(UnixTime, usize)>>,
    /// Work that waits for another's first step.
    children: HashMap<usize, Vec<usize>>,
    failures: Vec<Failure>,
}

impl<'a, 'e> Queue<'a, 'e> {
    fn new(execution: &'e Execution<'a>) -> Self {
        let mut queue = Self {
            execution,
            work: Vec::new(),
            ready: BinaryHeap::new(),
            children: HashMap::new(),
            failures: Vec::new(),
        };
        let mut indices: HashMap<&DatasetName, usize> = HashMap::new();
        let mut waiting = Vec::new();
        for plan in &execution.plan.filesystems {
            let FilesystemAction::Steps { steps, discard, .. } = &plan.action else { continue };
            let resolving = Resolving::of(&plan.action);
            let index = queue.work.len();
            let dates = dates(execution.sender_view, &plan.name, steps);
            queue.work.push(Work {
                filesystem: &plan.name,
                steps,
                discard: discard.as_ref(),
                resolving,
                dates,
                next: 0,
            });
            indices.insert(&plan.name, index);
            match &plan.after {
                None => queue.push(index),
                Some(parent) => waiting.push((index, parent)),
            }
        }
        for (index, parent) in waiting {
            match indices.get(parent) {
                Some(parent) => {
                    queue.children.entry(*parent).or_default().push(index);
                    queue.tell_blocked(index, BlockedOn::Parent);
                }
                // It failed in an earlier attempt, for good.
                None => queue.fail_child(index, parent, RetryClass::NeedsPerson, false),
            }
        }
        queue
    }

    fn push(&mut self, index: usize) {
        if let Some(work) = self.work.get(index) {
            self.ready.push(Reverse((work.date(), index)));
            self.tell_blocked(index, BlockedOn::Queue);
        }
    }

    fn pop(&mut self) -> Option<usize> {
        self.ready.pop().map(|Reverse((_, index))| index)
    }

    fn ended(&mut self, index: usize, bytes: u64, result: Result<(), CallError>) {
        let Some(work) = self.work.get_mut(index) else { return };
        match result {
            Ok(()) => {
                work.next += 1;
                if work.next < work.steps.len() {
                    self.push(index);
                }
                for child in self.children.remove(&index).unwrap_or_default() {
                    self.push(child);
                }
            }
            Err(error) => {
                let failure = self.execution.fail(work.filesystem, work.next, bytes, &error);
                let parent = work.filesystem;
                let (class, connection) = (failure.class, failure.connection);
                self.failures.push(failure);
                // Empty if its first step is done.
                for child in self.children.remove(&index).unwrap_or_default() {
                    self.fail_child(child, parent, class, connection);
                }
            }
        }
    }

    fn fail_child(&mut self, index: usize, parent: &DatasetName, class: RetryClass, connection: bool) {
        let Some(work) = self.work.get(index) else { return };
        let filesystem = work.filesystem;
        let failure = Failure { filesystem: filesystem.clone(), class, connection };
        let error = format!("parent(s) failed during initial replication: [{parent}]");
        self.execution.tell_failed(&failure, 0, 0, error);
        self.failures.push(failure);
        for child in self.children.remove(&index).unwrap_or_default() {
            self.fail_child(child, filesystem, class, connection);
        }
    }

    fn tell_blocked(&self, index: usize, on: BlockedOn) {
        if let Some(work) = self.work.get(index) {
            self.execution.tell(Replication::Blocked { filesystem: work.filesystem.clone(), on });
        }
    }
}

/// When the snapshots that `steps` bring were taken.
fn dates(sender: &View, filesystem: &DatasetName, steps: &[Step]) -> HashMap<Guid, UnixTime> {
    let mut dates: HashMap<Guid, UnixTime> = steps.iter().map(|step| (step.to.guid, UnixTime(i64::MIN))).collect();
    for version in sender.filesystems.get(filesystem).iter().flat_map(|view| view.versions.iter()) {
        if let Some(date) = dates.get_mut(&version.guid) {
            *date = version.creation;
        }
    }
    dates
}
