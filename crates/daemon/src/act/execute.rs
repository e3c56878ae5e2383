//! Executes a plan: a few steps at a time, parents before children, the oldest snapshot first.
//!
//! A failure ends only the step that it happened to. Its filesystem waits a little, is listed and
//! planned again by itself while others go on, and goes on where it was; children that wait for its
//! first full send wait on. A broken connection lets nothing new start until both sides can be reached
//! again. Everything here is one task: dropping it ends whatever it waits for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use model::event::{BlockedOn, Replication, What};
use model::plan::endangered::endangered_base;
use model::plan::protection::may_be_told;
use model::plan::replication::{Discard, FilesystemAction, FilesystemPlan, ReplicationPlan, ReplicationPolicy};
use model::view::View;
use model::{DatasetName, RetryClass, UnixTime, VersionRef};
use tokio::time::{Instant, sleep};
use wire::CallError;

use super::back_off::back_off;
use super::connection::reconnect;
use super::invocation::Invocation;
use super::resolve::{Resolver, Resolving};
use super::sides::Sides;
use super::step::{ConfirmRun, StepRun};
use super::tally::Tally;
use super::work::{State, Task, Work};
use replan::passing;
use rescue::Endangered;

use crate::drain::UnderWay;
use crate::limits::CONFIRMATIONS;

mod replan;
mod rescue;

/// A plan being executed.
pub(super) struct Execution<'a> {
    invocation: &'a Invocation,
    tally: &'a Tally,
    sides: Sides,
    link: Link,
    work: Vec<Work>,
    /// Steps that may start, the oldest snapshot first.
    ready: BinaryHeap<Reverse<(UnixTime, usize)>>,
    /// Confirmations that may start.
    confirmations: VecDeque<usize>,
    /// Bases of filesystems with conflicts, to be protected.
    endangered: VecDeque<Endangered>,
    /// To be planned again now.
    due: Vec<usize>,
    /// To be planned again when both sides can be reached.
    lost: Vec<usize>,
    steps_running: usize,
    confirmations_running: usize,
    planning: bool,
    running: FuturesUnordered<BoxFuture<'a, Happened>>,
    failures: usize,
}

/// Whether the two sides can be reached.
enum Link {
    Up,
    Reconnecting,
    /// Not any more in this invocation.
    Closed(String),
}

/// What the execution waits for, when it is over.
enum Happened {
    Step {
        index: usize,
        bytes: u64,
        result: Result<(), CallError>,
    },
    Confirmation {
        index: usize,
        result: Result<(), CallError>,
    },
    /// A base was protected, or could not be.
    Rescued {
        endangered: Endangered,
        result: Result<(), CallError>,
    },
    /// The next try to protect a base.
    Endangered(Endangered),
    /// A failed filesystem has waited long enough.
    Due(usize),
    Listed {
        indices: Vec<usize>,
        views: Result<(View, View), CallError>,
    },
    Reconnected(Result<Sides, String>),
}

impl<'a> Execution<'a> {
    pub(super) fn new(
        invocation: &'a Invocation,
        tally: &'a Tally,
        sides: Sides,
        plan: &Arc<ReplicationPlan>,
        views: (&View, &View),
    ) -> Self {
        let mut execution = Self {
            invocation,
            tally,
            sides,
            link: Link::Up,
            work: Vec::new(),
            ready: BinaryHeap::new(),
            confirmations: VecDeque::new(),
            endangered: VecDeque::new(),
            due: Vec::new(),
            lost: Vec::new(),
            steps_running: 0,
            confirmations_running: 0,
            planning: false,
            running: FuturesUnordered::new(),
            failures: 0,
        };
        execution.take_over(plan, views);
        execution
    }

    /// Whether executing the plan changes anything.
    pub(super) fn has_work(
        plan: &ReplicationPlan,
        (sender, receiver): (&View, &View),
        policy: &ReplicationPolicy,
    ) -> bool {
        let works = |plan: &FilesystemPlan| match plan.action {
            FilesystemAction::Steps { .. } | FilesystemAction::Confirm { .. } => true,
            FilesystemAction::Conflict(ref conflict) => {
                conflict.may_pass() || endangered_base(&plan.name, sender, receiver, policy.protection).is_some()
            }
            FilesystemAction::Nothing(_) => false,
        };
        plan.filesystems.iter().any(works)
    }

    /// Does it; how many filesystems are not up to date at its end. One that must begin nothing more does not
    /// return.
    pub(super) async fn run(mut self) -> usize {
        loop {
            self.start_what_may();
            let Some(happened) = self.running.next().await else { break };
            match happened {
                Happened::Step { index, bytes, result } => self.step_ended(index, bytes, result),
                Happened::Confirmation { index, result } => self.confirmation_ended(index, result),
                Happened::Rescued { endangered, result } => self.rescued(endangered, result),
                Happened::Endangered(endangered) => self.endangered_again(endangered),
                Happened::Due(index) => self.due.push(index),
                Happened::Listed { indices, views } => self.listed(indices, views),
                Happened::Reconnected(sides) => self.reconnected(sides),
            }
        }
        if self.invocation.drain.has_begun() && self.has_more() {
            pending::<()>().await;
        }
        self.failures
    }

    fn take_over(&mut self, plan: &Arc<ReplicationPlan>, (sender, receiver): (&View, &View)) {
        let mut indices: HashMap<&DatasetName, usize> = HashMap::new();
        for (row, filesystem) in plan.filesystems.iter().enumerate() {
            let Some(work) = Work::of_row(plan, row, sender, receiver) else {
                if let FilesystemAction::Conflict(conflict) = &filesystem.action {
                    self.note_endangered(&filesystem.name, (sender, receiver));
                    let (filesystem, conflict) = (filesystem.name.clone(), conflict.clone());
                    self.note_failed(&filesystem);
                    self.tell(Replication::Conflicted { filesystem, conflict });
                }
                continue;
            };
            let index = self.work.len();
            self.work.push(work);
            indices.insert(&filesystem.name, index);
        }
        for filesystem in &plan.filesystems {
            let Some(index) = indices.get(&filesystem.name).copied() else { continue };
            let parent = filesystem.after.as_ref().and_then(|parent| indices.get(parent).copied());
            match parent.and_then(|parent| self.work.get_mut(parent)) {
                Some(parent) => {
                    parent.children.push(index);
                    self.tell_blocked(index, BlockedOn::Parent);
                }
                None => match &filesystem.action {
                    FilesystemAction::Conflict(conflict) => self.failed(index, 0, &passing(conflict)),
                    _ => self.queue(index),
                },
            }
        }
    }

    fn start_what_may(&mut self) {
        if !matches!(self.link, Link::Up) {
            return;
        }
        let invocation = self.invocation;
        // A stop may begin at any time.
        let stops = || invocation.drain.has_begun();
        while !stops() && self.steps_running < self.invocation.step_concurrency.get() {
            let Some(Reverse((_, index))) = self.ready.pop() else { break };
            self.start(index);
        }
        while !stops() && self.confirmations_running < CONFIRMATIONS {
            let Some(index) = self.confirmations.pop_front() else { break };
            self.start(index);
        }
        while !stops() && self.confirmations_running < CONFIRMATIONS {
            let Some(endangered) = self.endangered.pop_front() else { break };
            self.rescue(endangered);
        }
        if !stops() && !self.planning && !self.due.is_empty() {
            self.list_due();
        }
    }

    /// Whether something would start if it might.
    fn has_more(&self) -> bool {
        let steps = !self.ready.is_empty() || !self.confirmations.is_empty() || !self.endangered.is_empty();
        steps || !self.due.is_empty() || !self.lost.is_empty()
    }

    fn start(&mut self, index: usize) {
        let Some(work) = self.work.get_mut(index) else { return };
        let Some(filesystem) = work.filesystem().cloned() else { return };
        work.state = State::Running;
        let (step_index, received_as) = (work.next, work.received_as.clone());
        let follows = !self.ready.is_empty() || work.steps().len() > step_index + 1;
        let Sides { sender, receiver } = self.sides.clone();
        let invocation = self.invocation;
        let protection = invocation.policy.protection;
        let tells_protections = work.tells_protections;
        let may_be_told = |common: &VersionRef| may_be_told(common, protection.incremental, tells_protections);
        match work.task() {
            Task::Step { step, discard, resolution } => {
                let resolver = self.resolver(filesystem.clone());
                let resolving = resolution.map(|resolution| Resolving {
                    resolution,
                    discards: discard.is_some(),
                    common: step.from.clone().filter(may_be_told),
                });
                let base = step.from.as_ref().map(|from| {
                    let same = |received: &VersionRef| received.guid == from.guid;
                    received_as.filter(same).unwrap_or_else(|| from.clone())
                });
                self.tell_discarding(&filesystem, discard);
                self.tell(Replication::StepStarted { filesystem: filesystem.clone(), step: step_index });
                self.steps_running += 1;
                if follows {
                    sender.expect_step();
                    receiver.expect_step();
                }
                let (events, stall) = (&invocation.events, invocation.patience.stall);
                let (bytes, total) = (Arc::default(), Arc::clone(&self.tally.bytes));
                let run = StepRun {
                    sender,
                    receiver,
                    events,
                    protection,
                    filesystem,
                    index: step_index,
                    step,
                    bytes,
                    total,
                    stall,
                };
                let under_way = self.under_way("step", &run.filesystem);
                self.running.push(Box::pin(async move {
                    let _under_way = under_way;
                    run_step(run, index, resolver, resolving, base).await
                }));
            }
            Task::Resolve { resolution, discard, common } => {
                let resolver = self.resolver(filesystem.clone());
                let common = common.filter(may_be_told);
                let resolving = Resolving { resolution, discards: discard.is_some(), common };
                self.tell_discarding(&filesystem, discard);
                self.steps_running += 1;
                let under_way = self.under_way("conflict", &filesystem);
                self.running.push(Box::pin(async move {
                    let _under_way = under_way;
                    let result = resolver.resolve_only(&resolving).await;
                    Happened::Step { index, bytes: 0, result }
                }));
            }
            Task::Confirm { version, repairs } => {
                self.confirmations_running += 1;
                let received_as = received_as.unwrap_or_else(|| version.clone());
                let under_way = self.under_way("confirmation", &filesystem);
                let run = ConfirmRun { sender, receiver, protection, filesystem, version, received_as, repairs };
                self.running.push(Box::pin(async move {
                    let _under_way = under_way;
                    Happened::Confirmation { index, result: run.run().await }
                }));
            }
            Task::Nothing => work.state = State::Done,
        }
    }

    /// Lets work start when it is its turn.
    fn queue(&mut self, index: usize) {
        let Some(work) = self.work.get_mut(index) else { return };
        let task = work.task();
        if let (Link::Closed(why), Task::Step { .. } | Task::Resolve { .. } | Task::Confirm { .. }) =
            (&self.link, &task)
        {
            let why = why.clone();
            return self.give_up(index, why);
        }
        work.state = State::Ready;
        match task {
            Task::Step { .. } | Task::Resolve { .. } => {
                self.ready.push(Reverse((work.date(), index)));
                self.tell_blocked(index, BlockedOn::Queue);
            }
            Task::Confirm { .. } => self.confirmations.push_back(index),
            Task::Nothing => work.state = State::Done,
        }
    }

    fn step_ended(&mut self, index: usize, bytes: u64, result: Result<(), CallError>) {
        self.steps_running -= 1;
        let Some(work) = self.work.get_mut(index) else { return };
        work.looked_in_vain = false;
        if let Err(error) = result {
            return self.failed(index, bytes, &error);
        }
        work.next += 1;
        work.tries = 0;
        self.let_children_start(index);
        self.queue(index);
    }

    fn confirmation_ended(&mut self, index: usize, result: Result<(), CallError>) {
        self.confirmations_running -= 1;
        match result {
            Err(error) => self.failed(index, 0, &error),
            Ok(()) => {
                let Some(work) = self.work.get_mut(index) else { return };
                work.state = State::Done;
                let filesystem = work.filesystem().cloned();
                self.tell_of(filesystem, |filesystem| Replication::Confirmed { filesystem });
            }
        }
    }

    fn let_children_start(&mut self, index: usize) {
        let children = self.work.get_mut(index).map(|work| std::mem::take(&mut work.children));
        for child in children.unwrap_or_default() {
            self.queue(child);
        }
    }

    /// Tries it again later if that may help, and not otherwise.
    fn failed(&mut self, index: usize, bytes: u64, error: &CallError) {
        let Some(work) = self.work.get_mut(index) else { return };
        work.tries += 1;
        let tries = work.tries;
        let may_help = error.class() == RetryClass::Transient && tries < self.invocation.attempts.get();
        let will_retry = may_help && !matches!(self.link, Link::Closed(_));
        let (step, filesystem) = (work.next, work.filesystem().cloned());
        if will_retry {
            work.state = State::Retrying;
        }
        self.tell_of(filesystem.clone(), |filesystem| Replication::StepFailed {
            filesystem,
            step,
            bytes,
            error: error.to_string(),
            will_retry,
        });
        if !will_retry {
            return self.end_failed(index, filesystem);
        }
        if let Some(filesystem) = &filesystem {
            self.tally.failed(filesystem);
        }
        self.tell_blocked(index, BlockedOn::Planning);
        match error {
            CallError::Connection(cause) => {
                self.lost.push(index);
                self.reconnect(cause);
            }
            CallError::Refused { .. } | CallError::TargetModified(_) => {
                let wait = back_off(tries, self.invocation.events.clock());
                self.running.push(Box::pin(async move {
                    sleep(wait).await;
                    Happened::Due(index)
                }));
            }
        }
    }

    /// Fails work that did not even run.
    fn give_up(&mut self, index: usize, error: String) {
        let Some(work) = self.work.get_mut(index) else { return };
        let (step, filesystem) = (work.next, work.filesystem().cloned());
        self.tell_of(filesystem.clone(), |filesystem| Replication::StepFailed {
            filesystem,
            step,
            bytes: 0,
            error,
            will_retry: false,
        });
        self.end_failed(index, filesystem);
    }

    fn end_failed(&mut self, index: usize, filesystem: Option<DatasetName>) {
        let Some(work) = self.work.get_mut(index) else { return };
        work.state = State::Failed;
        // Empty if its first step is done.
        let children = std::mem::take(&mut work.children);
        let Some(filesystem) = filesystem else { return };
        self.note_failed(&filesystem);
        for child in children {
            self.give_up(child, format!("parent(s) failed during initial replication: [{filesystem}]"));
        }
    }

    /// Has a stop of the daemon wait.
    fn under_way(&self, what: &str, filesystem: &DatasetName) -> UnderWay {
        self.invocation.drain.hold(&format!("{what} of {filesystem}"))
    }

    fn resolver(&self, filesystem: DatasetName) -> Resolver<'a> {
        Resolver { sides: self.sides.clone(), invocation: self.invocation, tally: self.tally, filesystem }
    }

    /// One wait for all that lost the connection.
    fn reconnect(&mut self, cause: &str) {
        if matches!(self.link, Link::Up) {
            self.link = Link::Reconnecting;
            let (invocation, cause) = (self.invocation, cause.to_owned());
            self.running.push(Box::pin(async move { Happened::Reconnected(reconnect(invocation, cause).await) }));
        }
    }

    fn reconnected(&mut self, sides: Result<Sides, String>) {
        match sides {
            Ok(sides) => {
                self.sides = sides;
                self.link = Link::Up;
                self.due.append(&mut self.lost);
            }
            Err(why) => self.close(why),
        }
    }

    /// Whatever is not done fails; what runs may still end well.
    fn close(&mut self, why: String) {
        self.link = Link::Closed(why.clone());
        (self.ready, self.confirmations) = Default::default();
        for endangered in std::mem::take(&mut self.endangered) {
            self.tell_endangered(&endangered, &why);
        }
        (self.due, self.lost) = (Vec::new(), Vec::new());
        for index in 0..self.work.len() {
            let state = self.work.get(index).map(|work| work.state);
            if matches!(state, Some(State::Ready | State::Retrying)) {
                self.give_up(index, why.clone());
            }
        }
    }

    fn note_failed(&mut self, filesystem: &DatasetName) {
        self.failures += 1;
        self.tally.failed(filesystem);
    }

    fn tell_discarding(&self, filesystem: &DatasetName, discard: Option<Discard>) {
        if let Some(reason) = discard {
            self.tell(Replication::Discarding { filesystem: filesystem.clone(), reason });
        }
    }

    fn tell_blocked(&self, index: usize, on: BlockedOn) {
        let filesystem = self.work.get(index).and_then(Work::filesystem).cloned();
        self.tell_of(filesystem, |filesystem| Replication::Blocked { filesystem, on });
    }

    fn tell_of(&self, filesystem: Option<DatasetName>, what: impl FnOnce(DatasetName) -> Replication) {
        if let Some(filesystem) = filesystem {
            self.tell(what(filesystem));
        }
    }

    fn tell(&self, what: Replication) {
        self.invocation.events.tell(What::Replication(what));
    }
}

/// Resolves a conflict if there is one, then runs the step. `base` is what the receiver has, by its name
/// there.
async fn run_step(
    run: StepRun<'_>,
    index: usize,
    resolver: Resolver<'_>,
    resolving: Option<Resolving>,
    base: Option<VersionRef>,
) -> Happened {
    let started = Instant::now();
    let resolved = match &resolving {
        Some(resolving) => resolver.resolve(resolving).await,
        None => Ok(()),
    };
    let result = match resolved {
        Ok(()) => resolver.step(&run, base).await,
        Err(error) => Err(error),
    };
    let bytes = run.bytes.load(Ordering::Relaxed);
    if result.is_ok() {
        resolver.tally.step_done();
        let (filesystem, step, took) = (run.filesystem.clone(), run.index, started.elapsed());
        run.events.tell(What::Replication(Replication::StepFinished { filesystem, step, bytes, took }));
    }
    Happened::Step { index, bytes, result }
}
