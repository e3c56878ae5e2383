//! The one place where wake-ups, resets and the stop of a daemon are put in order.

mod outcomes;
mod rounds;

use std::collections::{BTreeMap, VecDeque};

use model::JobName;
use model::event::{InvocationSummary, What};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::drain::Drain;
use crate::events::Events;
use crate::limits::{DISPATCH_QUEUE, ENDED_JOBS, SIGN_OF_LIFE};

pub(crate) use outcomes::{Followed, Outcomes};
pub(crate) use rounds::SnapshotRequests;

/// Why a request to a job was not carried out. Clients of zrepl know these texts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignalError {
    /// No such job.
    #[error("Job {0} does not exist")]
    UnknownJob(String),
    /// The job has a wake-up waiting already.
    #[error("already woken up")]
    AlreadyWokenUp,
    /// The job is of a kind that is never woken; zrepl says the first words only.
    #[error("already woken up: job {0} serves others and does nothing by itself (signal the job that replicates)")]
    NeverWoken(String),
    /// Nothing runs that could be cancelled.
    #[error("already reset")]
    AlreadyReset,
    /// The job is of a kind that has no invocations; zrepl says the first words only.
    #[error("already reset: job {0} serves others and does nothing by itself (signal the job that replicates)")]
    NeverReset(String),
    /// A round of snapshots is asked for already or runs.
    #[error("already snapshotting")]
    AlreadySnapshotting,
    /// The job knows no name for snapshots.
    #[error(
        "the snapshots of job {0} are taken by others (`snapshotting` is `manual`): use `zfs snapshot`, or configure \
         `periodic` or `cron` with a prefix"
    )]
    SnapshotsByOthers(String),
    /// The job is of a kind that takes no snapshots.
    #[error("job {0} takes no snapshots: signal the job that sends its filesystems")]
    NoSnapshots(String),
    /// The job has failed and takes no more requests.
    #[error("job {0} has ended (see the daemon's log)")]
    JobEnded(String),
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What a person can ask of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Start an invocation now, or after the one that runs.
    Wakeup,
    /// Cancel the invocation that runs.
    Reset,
    /// Take a round of snapshots now.
    Snapshot,
}

/// A start of one invocation.
#[derive(Debug)]
pub(crate) struct Start {
    /// Counts from 1 since the daemon started.
    pub number: u64,
    /// Cancelled by a reset or by the daemon's stop.
    pub cancel: CancellationToken,
}

#[derive(Debug)]
enum Message {
    Signal {
        job: String,
        operation: Operation,
        reply: oneshot::Sender<Result<(), SignalError>>,
    },
    WakeAndFollow {
        job: String,
        reply: oneshot::Sender<Result<Followed, SignalError>>,
    },
    Follow {
        job: String,
        number: u64,
        reply: oneshot::Sender<Result<Followed, SignalError>>,
    },
    RoundFinished(JobName),
    Due(JobName),
    InvocationFinished {
        job: JobName,
        number: u64,
        summary: InvocationSummary,
    },
    Install {
        job: JobName,
        slot: Box<Slot>,
        reply: oneshot::Sender<Result<(), SignalError>>,
    },
    Retire {
        job: JobName,
        reply: oneshot::Sender<Result<(), SignalError>>,
    },
    /// Is anybody there?
    Ping {
        reply: oneshot::Sender<Result<(), SignalError>>,
    },
    Stop {
        cause: String,
        reply: oneshot::Sender<Result<(), SignalError>>,
    },
}

/// The way to the dispatcher. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatch {
    messages: mpsc::Sender<Message>,
}

impl Dispatch {
    /// A dispatcher, to be run with [`Dispatcher::run`].
    pub(crate) fn new(events: Events, jobs: CancellationToken, drain: Drain) -> (Dispatch, Dispatcher) {
        let (messages, inbox) = mpsc::channel(DISPATCH_QUEUE);
        (Dispatch { messages }, Dispatcher::new(inbox, events, jobs, drain))
    }

    /// Asks something of a job.
    pub(crate) async fn signal(&self, job: &str, operation: Operation) -> Result<(), SignalError> {
        let job = job.to_owned();
        self.ask(|reply| Message::Signal { job, operation, reply }).await
    }

    /// Wakes a job and tells which invocation that brings: a new one, or the one that waits already.
    pub(crate) async fn wake_and_follow(&self, job: &str) -> Result<Followed, SignalError> {
        let job = job.to_owned();
        self.ask(|reply| Message::WakeAndFollow { job, reply }).await
    }

    /// How to learn what becomes of an invocation that a job was woken for.
    pub(crate) async fn follow(&self, job: &str, number: u64) -> Result<Followed, SignalError> {
        let job = job.to_owned();
        self.ask(|reply| Message::Follow { job, number, reply }).await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, SignalError>>) -> Message,
    ) -> Result<T, SignalError> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.map_err(|_| SignalError::Stopping)?;
        answer.await.map_err(|_| SignalError::Stopping)?
    }

    /// A job is due by its interval.
    pub(crate) async fn due(&self, job: &JobName) {
        self.send(Message::Due(job.clone())).await;
    }

    /// A round of snapshots of a job is over.
    pub(crate) async fn round_finished(&self, job: &JobName) {
        self.send(Message::RoundFinished(job.clone())).await;
    }

    /// A job's invocation is over and it waits for the next.
    pub(crate) async fn invocation_finished(&self, job: &JobName, number: u64, summary: InvocationSummary) {
        self.send(Message::InvocationFinished { job: job.clone(), number, summary }).await;
    }

    /// A job has begun.
    pub(crate) async fn install(&self, job: &JobName, slot: Slot) {
        let (job, slot) = (job.clone(), Box::new(slot));
        // Only a dispatcher that stops does not answer.
        let _ = self.ask(|reply| Message::Install { job, slot, reply }).await;
    }

    /// A job ends, with the invocation that runs.
    pub(crate) async fn retire(&self, job: &JobName) {
        let job = job.clone();
        let _ = self.ask(|reply| Message::Retire { job, reply }).await;
    }

    /// Nothing new begins from the answer on; whether anybody is there to see to it.
    pub(crate) async fn stop(&self, cause: &str) -> bool {
        let cause = cause.to_owned();
        self.ask(|reply| Message::Stop { cause, reply }).await.is_ok()
    }

    /// Whether requests are answered in good time.
    pub(crate) async fn answers(&self) -> bool {
        let answer = self.ask(|reply| Message::Ping { reply });
        matches!(tokio::time::timeout(SIGN_OF_LIFE, answer).await, Ok(Ok(())))
    }

    /// A dispatcher that is gone was stopped: whoever speaks to it is about to be.
    async fn send(&self, message: Message) {
        let _ = self.messages.send(message).await;
    }
}

/// How a job comes by snapshots.
#[derive(Debug)]
pub(crate) enum Snapshots {
    /// It is of a kind that takes none.
    Never,
    /// Somebody else takes them.
    ByOthers,
    /// It has a snapshotter, which takes rounds on request, too.
    OnRequest(SnapshotRequests),
}

/// What the dispatcher knows of a job.
#[derive(Debug)]
pub(crate) struct Slot {
    invocations: Invocations,
    snapshots: Snapshots,
}

#[derive(Debug)]
enum Invocations {
    /// Never woken: it serves others.
    Passive,
    /// Waits for wake-ups and does something.
    Active {
        /// Where a start goes; has room for one.
        starts: mpsc::Sender<Start>,
        /// Ends the invocation that runs.
        running: Option<CancellationToken>,
        /// Another one follows.
        queued: bool,
        /// Number of the last one.
        number: u64,
        /// What the last ones did.
        outcomes: watch::Sender<Outcomes>,
    },
}

impl Slot {
    /// A job that serves others.
    pub(crate) fn passive() -> Slot {
        Slot { invocations: Invocations::Passive, snapshots: Snapshots::Never }
    }

    /// A job that waits at the other end of `starts`.
    pub(crate) fn active(starts: mpsc::Sender<Start>) -> Slot {
        let outcomes = watch::Sender::default();
        let invocations = Invocations::Active { starts, running: None, queued: false, number: 0, outcomes };
        Slot { invocations, snapshots: Snapshots::Never }
    }

    /// The same job with snapshots.
    pub(crate) fn with(self, snapshots: Snapshots) -> Slot {
        Slot { snapshots, ..self }
    }

    /// Starts an invocation, or notes that one follows.
    fn wake(&mut self, name: &str, jobs: &CancellationToken) -> Result<(), SignalError> {
        match self.wake_or_join(name, jobs)? {
            Woken { joined: true, .. } => Err(SignalError::AlreadyWokenUp),
            Woken { joined: false, .. } => Ok(()),
        }
    }

    /// The same; if one follows already, that is as good.
    fn wake_or_join(&mut self, name: &str, jobs: &CancellationToken) -> Result<Woken, SignalError> {
        let Invocations::Active { starts, running, queued, number, .. } = &mut self.invocations else {
            return Err(SignalError::NeverWoken(name.to_owned()));
        };
        let next = *number + 1;
        if running.is_some() {
            return Ok(Woken { number: next, joined: std::mem::replace(queued, true) });
        }
        let cancel = jobs.child_token();
        let start = Start { number: next, cancel: cancel.clone() };
        starts.try_send(start).map_err(|_| SignalError::JobEnded(name.to_owned()))?;
        *number = next;
        *running = Some(cancel);
        Ok(Woken { number: next, joined: false })
    }

    fn follow(&self, name: &str, number: u64) -> Result<Followed, SignalError> {
        match &self.invocations {
            Invocations::Active { outcomes, .. } => Ok(Followed { number, outcomes: outcomes.subscribe() }),
            Invocations::Passive => Err(SignalError::NeverWoken(name.to_owned())),
        }
    }

    fn is_running(&self) -> bool {
        matches!(&self.invocations, Invocations::Active { running: Some(_), .. })
    }

    fn reset(&self, name: &str) -> Result<(), SignalError> {
        match &self.invocations {
            Invocations::Passive => Err(SignalError::NeverReset(name.to_owned())),
            Invocations::Active { running: Some(cancel), .. } if !cancel.is_cancelled() => {
                cancel.cancel();
                Ok(())
            }
            Invocations::Active { .. } => Err(SignalError::AlreadyReset),
        }
    }

    fn snapshot(&self, name: &str) -> Result<(), SignalError> {
        match &self.snapshots {
            Snapshots::Never => Err(SignalError::NoSnapshots(name.to_owned())),
            Snapshots::ByOthers => Err(SignalError::SnapshotsByOthers(name.to_owned())),
            Snapshots::OnRequest(requests) => requests.ask(),
        }
    }

    /// Notes the end of an invocation; whether another one was asked for meanwhile.
    fn finished(&mut self, ended: u64, summary: InvocationSummary) -> bool {
        match &mut self.invocations {
            Invocations::Active { running, queued, number, outcomes, .. } if *number == ended => {
                *running = None;
                outcomes.send_modify(|outcomes| outcomes.note(*number, summary));
                std::mem::take(queued)
            }
            // One of a job that was replaced by another configuration and took long to end.
            Invocations::Active { .. } | Invocations::Passive => false,
        }
    }

    /// The last invocation.
    fn number(&self) -> u64 {
        match &self.invocations {
            Invocations::Active { number, .. } => *number,
            Invocations::Passive => 0,
        }
    }

    /// Counts on from an earlier job of the same name, so that nobody who asks for one of its invocations is
    /// told of another one.
    fn counting_from(&mut self, last: u64) {
        if let Invocations::Active { number, outcomes, .. } = &mut self.invocations {
            *number = last;
            outcomes.send_modify(|outcomes| outcomes.forget_until(last));
        }
    }
}

/// What a wake-up came to.
struct Woken {
    /// The invocation that it brings.
    number: u64,
    /// That one was waiting already.
    joined: bool,
}

/// Puts requests in order, one after the other.
pub(crate) struct Dispatcher {
    inbox: mpsc::Receiver<Message>,
    events: Events,
    jobs: CancellationToken,
    slots: BTreeMap<String, Slot>,
    /// The last invocations of jobs that have ended, in that order.
    retired: VecDeque<(String, u64)>,
    drain: Drain,
}

impl Dispatcher {
    fn new(inbox: mpsc::Receiver<Message>, events: Events, jobs: CancellationToken, drain: Drain) -> Dispatcher {
        Dispatcher { inbox, events, jobs, slots: BTreeMap::new(), retired: VecDeque::new(), drain }
    }

    /// Makes a job known.
    pub(crate) fn add(&mut self, name: &str, slot: Slot) {
        self.slots.insert(name.to_owned(), slot);
    }

    /// Serves until `end`, which comes after the last job has ended.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        while let Some(Some(message)) = end.run_until_cancelled(self.inbox.recv()).await {
            self.handle(message);
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Signal { job, operation, reply } => {
                // Whoever asked may have gone away.
                let _ = reply.send(self.signal(&job, operation));
            }
            Message::WakeAndFollow { job, reply } => {
                let _ = reply.send(self.wake_and_follow(&job));
            }
            Message::Follow { job, number, reply } => {
                let _ = reply.send(self.slot(&job).and_then(|slot| slot.follow(&job, number)));
            }
            Message::Due(job) => self.due(&job),
            // A round that ends while a start is queued already is part of what that start covers.
            Message::RoundFinished(job) => self.wake(&job),
            Message::InvocationFinished { job, number, summary } => {
                if self.slots.get_mut(job.as_str()).is_some_and(|slot| slot.finished(number, summary)) {
                    self.wake(&job);
                }
            }
            Message::Install { job, mut slot, reply } => {
                slot.counting_from(self.take_retired(job.as_str()));
                self.add(job.as_str(), *slot);
                let _ = reply.send(Ok(()));
            }
            Message::Retire { job, reply } => {
                if let Some(slot) = self.slots.remove(job.as_str()) {
                    // One that does nothing has nothing to cancel.
                    let _ = slot.reset(job.as_str());
                    self.retire(job.to_string(), slot.number());
                }
                let _ = reply.send(Ok(()));
            }
            Message::Ping { reply } => {
                let _ = reply.send(Ok(()));
            }
            Message::Stop { cause, reply } => {
                if !self.drain.has_begun() {
                    self.events.tell(What::DaemonStopping { cause });
                }
                self.drain.begin();
                let _ = reply.send(Ok(()));
            }
        }
    }

    fn retire(&mut self, job: String, last: u64) {
        self.retired.push_back((job, last));
        if self.retired.len() > ENDED_JOBS {
            self.retired.pop_front();
        }
    }

    /// The last invocation of an earlier job of that name.
    fn take_retired(&mut self, job: &str) -> u64 {
        let at = self.retired.iter().position(|(name, _)| name == job);
        at.and_then(|at| self.retired.remove(at)).map_or(0, |(_, last)| last)
    }

    fn signal(&mut self, job: &str, operation: Operation) -> Result<(), SignalError> {
        let (jobs, stopping) = (self.jobs.clone(), self.drain.has_begun());
        let slot = self.slot(job)?;
        match operation {
            Operation::Reset => slot.reset(job),
            Operation::Wakeup | Operation::Snapshot if stopping => Err(SignalError::Stopping),
            Operation::Wakeup => slot.wake(job, &jobs),
            Operation::Snapshot => slot.snapshot(job),
        }
    }

    fn slot(&mut self, job: &str) -> Result<&mut Slot, SignalError> {
        self.slots.get_mut(job).ok_or_else(|| SignalError::UnknownJob(job.to_owned()))
    }

    fn wake_and_follow(&mut self, job: &str) -> Result<Followed, SignalError> {
        let (jobs, stopping) = (self.jobs.clone(), self.drain.has_begun());
        let slot = self.slot(job)?;
        if stopping {
            return Err(SignalError::Stopping);
        }
        let Woken { number, .. } = slot.wake_or_join(job, &jobs)?;
        slot.follow(job, number)
    }

    fn due(&mut self, job: &JobName) {
        if self.slots.get(job.as_str()).is_some_and(Slot::is_running) {
            let message = "pull job took longer than pull interval".to_owned();
            self.events.of_job(job).tell(What::Warning { subsystem: "job", message });
        }
        self.wake(job);
    }

    fn wake(&mut self, job: &JobName) {
        let Some(slot) = self.slots.get_mut(job.as_str()).filter(|_| !self.drain.has_begun()) else { return };
        match slot.wake(job.as_str(), &self.jobs) {
            // A passive job's rounds of snapshots are for its clients.
            Ok(()) | Err(SignalError::AlreadyWokenUp | SignalError::NeverWoken(_)) => {}
            Err(error) => self.events.of_job(job).tell(What::Error { subsystem: "job", message: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active() -> (Slot, mpsc::Receiver<Start>, CancellationToken) {
        let (starts, received) = mpsc::channel(1);
        (Slot::active(starts), received, CancellationToken::new())
    }

    #[test]
    fn one_wake_up_is_queued_while_an_invocation_runs() {
        let (mut slot, mut starts, jobs) = active();
        assert_eq!(slot.wake("j", &jobs), Ok(()));
        assert_eq!(starts.try_recv().unwrap().number, 1);
        assert_eq!(slot.wake("j", &jobs), Ok(()), "queued");
        assert_eq!(slot.wake("j", &jobs), Err(SignalError::AlreadyWokenUp));
        assert!(starts.try_recv().is_err(), "the queued one waits for the end of the first");
        assert!(slot.finished(1, InvocationSummary::default()));
        assert_eq!(slot.wake("j", &jobs), Ok(()));
        assert_eq!(starts.try_recv().unwrap().number, 2);
        assert!(!slot.finished(2, InvocationSummary::default()));
    }

    #[test]
    fn a_reset_cancels_what_runs_once_and_keeps_the_queued_wake_up() {
        let (mut slot, mut starts, jobs) = active();
        assert_eq!(slot.reset("j"), Err(SignalError::AlreadyReset));
        slot.wake("j", &jobs).unwrap();
        let start = starts.try_recv().unwrap();
        slot.wake("j", &jobs).unwrap();
        assert_eq!(slot.reset("j"), Ok(()));
        assert!(start.cancel.is_cancelled());
        assert!(!jobs.is_cancelled(), "the job goes on");
        assert_eq!(slot.reset("j"), Err(SignalError::AlreadyReset));
        assert!(slot.finished(1, InvocationSummary::default()));
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_invocation_that_was_asked_for() {
        let (mut slot, mut starts, jobs) = active();
        let summary = |steps| InvocationSummary { steps, ..InvocationSummary::default() };
        slot.wake("j", &jobs).unwrap();
        starts.try_recv().unwrap();
        let queued = slot.wake_or_join("j", &jobs).unwrap();
        assert_eq!((queued.number, queued.joined), (2, false));
        let joined = slot.wake_or_join("j", &jobs).unwrap();
        assert_eq!((joined.number, joined.joined), (2, true), "the one that waits begins later than this request");
        let outcome = slot.follow("j", 2).unwrap().finished();
        slot.finished(1, summary(1));
        slot.wake("j", &jobs).unwrap();
        starts.try_recv().unwrap();
        slot.finished(2, summary(2));
        assert_eq!(outcome.await, Some(summary(2)));
        for number in 3..40 {
            slot.wake("j", &jobs).unwrap();
            starts.try_recv().unwrap();
            slot.finished(number, summary(1));
        }
        assert_eq!(slot.follow("j", 39).unwrap().finished().await, Some(summary(1)));
        assert_eq!(slot.follow("j", 2).unwrap().finished().await, None, "forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dispatcher_that_stands_still_is_noticed() {
        let events = Events::new(crate::clock::Clock::system(), Vec::new());
        let (dispatch, dispatcher) = Dispatch::new(events, CancellationToken::new(), Drain::default());
        assert!(!dispatch.answers().await, "nobody runs it");
        let end = CancellationToken::new();
        let running = tokio::spawn(dispatcher.run(end.clone()));
        assert!(dispatch.answers().await);
        end.cancel();
        running.await.unwrap();
        assert!(!dispatch.answers().await && !dispatch.stop("test").await, "it is gone");
    }

    #[tokio::test]
    async fn numbers_go_on_where_an_earlier_job_of_that_name_has_ended() {
        let (mut slot, mut starts, jobs) = active();
        slot.counting_from(7);
        slot.wake("j", &jobs).unwrap();
        assert_eq!(starts.try_recv().unwrap().number, 8);
        slot.wake("j", &jobs).unwrap();
        assert!(!slot.finished(7, InvocationSummary::default()), "that one is of the earlier job");
        assert!(slot.is_running());
        assert_eq!(slot.follow("j", 7).unwrap().finished().await, None, "nobody waits for what has ended");
        assert!(slot.finished(8, InvocationSummary::default()));
        assert_eq!((slot.number(), Slot::passive().number()), (8, 0));
    }

    #[test]
    fn jobs_that_do_not_come_back_are_forgotten_some_day() {
        let events = Events::new(crate::clock::Clock::system(), Vec::new());
        let (_dispatch, mut dispatcher) = Dispatch::new(events, CancellationToken::new(), Drain::default());
        let name = |number: u64| JobName::parse(&format!("j{number}")).unwrap();
        let most = ENDED_JOBS as u64;
        for number in 0..most + 10 {
            let (mut slot, _starts, _) = active();
            slot.counting_from(number);
            dispatcher.add(name(number).as_str(), slot);
            dispatcher.handle(Message::Retire { job: name(number), reply: oneshot::channel().0 });
        }
        assert_eq!(dispatcher.retired.len(), ENDED_JOBS);
        for (number, last) in [(9, 0), (10, 10), (most + 9, most + 9)] {
            let (job, slot) = (name(number), Box::new(active().0));
            dispatcher.handle(Message::Install { job, slot, reply: oneshot::channel().0 });
            assert_eq!(dispatcher.slots[name(number).as_str()].number(), last);
        }
        assert_eq!(dispatcher.retired.len(), ENDED_JOBS - 2, "those that are back are not kept twice");
    }

    #[test]
    fn a_passive_job_takes_neither() {
        let jobs = CancellationToken::new();
        let woken = Slot::passive().wake("s", &jobs).unwrap_err().to_string();
        assert!(woken.starts_with("already woken up: job s serves others"), "{woken}");
        let reset = Slot::passive().reset("s").unwrap_err().to_string();
        assert!(reset.starts_with("already reset: job s serves others"), "{reset}");
        assert!(matches!(Slot::passive().follow("s", 1), Err(SignalError::NeverWoken(_))));
    }

    #[tokio::test]
    async fn a_dispatcher_that_stops_starts_nothing_and_ends_nothing() {
        let (events, jobs, drain) =
            (Events::new(crate::clock::Clock::system(), Vec::new()), CancellationToken::new(), Drain::default());
        let (dispatch, mut dispatcher) = Dispatch::new(events, jobs.clone(), drain.clone());
        let (slot, mut starts, _) = active();
        dispatcher.add("j", slot.with(Snapshots::OnRequest(SnapshotRequests::default())));
        tokio::spawn(dispatcher.run(CancellationToken::new()));
        let job = JobName::parse("j").unwrap();
        dispatch.signal("j", Operation::Wakeup).await.unwrap();
        dispatch.signal("j", Operation::Wakeup).await.unwrap();
        let running = starts.try_recv().unwrap();
        assert!(dispatch.stop("test").await && drain.has_begun());
        dispatch.due(&job).await;
        dispatch.round_finished(&job).await;
        dispatch.invocation_finished(&job, 1, InvocationSummary::default()).await;
        for operation in [Operation::Wakeup, Operation::Snapshot] {
            assert_eq!(dispatch.signal("j", operation).await, Err(SignalError::Stopping));
        }
        assert!(matches!(dispatch.wake_and_follow("j").await, Err(SignalError::Stopping)));
        assert!(starts.try_recv().is_err(), "not even the queued one");
        assert!(!jobs.is_cancelled() && !running.cancel.is_cancelled());
    }

    #[test]
    fn a_job_that_has_ended_says_so() {
        let (mut slot, starts, jobs) = active();
        drop(starts);
        assert_eq!(slot.wake("j", &jobs), Err(SignalError::JobEnded("j".to_owned())));
    }

    #[test]
    fn one_round_of_snapshots_is_asked_for_at_a_time() {
        let requests = SnapshotRequests::default();
        let slot = Slot::passive().with(Snapshots::OnRequest(requests.clone()));
        assert_eq!(slot.snapshot("j"), Ok(()));
        assert_eq!(slot.snapshot("j"), Err(SignalError::AlreadySnapshotting));
        let round = requests.round();
        assert_eq!(slot.snapshot("j"), Err(SignalError::AlreadySnapshotting));
        drop(round);
        assert_eq!(slot.snapshot("j"), Ok(()));
    }

    #[test]
    fn who_cannot_take_snapshots_says_what_to_do() {
        let words = |slot: Slot| slot.snapshot("j").unwrap_err().to_string();
        assert_eq!(words(Slot::passive()), "job j takes no snapshots: signal the job that sends its filesystems");
        assert_eq!(
            words(Slot::passive().with(Snapshots::ByOthers)),
            "the snapshots of job j are taken by others (`snapshotting` is `manual`): use `zfs snapshot`, or configure \
             `periodic` or `cron` with a prefix"
        );
    }
}
