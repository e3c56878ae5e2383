//! The one place where wake-ups, resets and the stop of a daemon are put in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::JobName;
use model::event::What;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::limits::DISPATCH_QUEUE;

/// Why a request to a job was not carried out. Clients of zrepl know these texts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignalError {
    /// No such job.
    #[error("Job {0} does not exist")]
    UnknownJob(String),
    /// The job has a wake-up waiting already, or is of a kind that is never woken.
    #[error("already woken up")]
    AlreadyWokenUp,
    /// Nothing runs that could be cancelled.
    #[error("already reset")]
    AlreadyReset,
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
    Signal { job: String, operation: Operation, reply: oneshot::Sender<Result<(), SignalError>> },
    RoundFinished(JobName),
    InvocationFinished(JobName),
    Stop { cause: String },
}

/// The way to the dispatcher. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatch {
    messages: mpsc::Sender<Message>,
}

impl Dispatch {
    /// A dispatcher, to be run with [`Dispatcher::run`].
    pub(crate) fn new(events: Events, jobs: CancellationToken) -> (Dispatch, Dispatcher) {
        let (messages, inbox) = mpsc::channel(DISPATCH_QUEUE);
        (Dispatch { messages }, Dispatcher { inbox, events, jobs, slots: BTreeMap::new(), stopping: false })
    }

    /// Asks something of a job.
    pub(crate) async fn signal(&self, job: &str, operation: Operation) -> Result<(), SignalError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Signal { job: job.to_owned(), operation, reply };
        self.messages.send(message).await.map_err(|_| SignalError::Stopping)?;
        answer.await.map_err(|_| SignalError::Stopping)?
    }

    /// A round of snapshots of a job is over.
    pub(crate) async fn round_finished(&self, job: &JobName) {
        self.send(Message::RoundFinished(job.clone())).await;
    }

    /// A job's invocation is over and it waits for the next.
    pub(crate) async fn invocation_finished(&self, job: &JobName) {
        self.send(Message::InvocationFinished(job.clone())).await;
    }

    /// The daemon shall stop.
    pub(crate) async fn stop(&self, cause: &str) {
        self.send(Message::Stop { cause: cause.to_owned() }).await;
    }

    /// A dispatcher that is gone was stopped: whoever speaks to it is about to be.
    async fn send(&self, message: Message) {
        let _ = self.messages.send(message).await;
    }
}

/// Where rounds of snapshots are asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotRequests(Arc<watch::Sender<Phase>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Asked,
    Running,
}

impl Default for SnapshotRequests {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Idle)))
    }
}

impl SnapshotRequests {
    /// Asks for a round now.
    fn ask(&self) -> Result<(), SignalError> {
        let asked = self.0.send_if_modified(|phase| {
            let idle = *phase == Phase::Idle;
            if idle {
                *phase = Phase::Asked;
            }
            idle
        });
        if asked { Ok(()) } else { Err(SignalError::AlreadySnapshotting) }
    }

    /// Waits until a round is asked for.
    pub(crate) async fn asked(&self) {
        // The sender is here: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|phase| *phase == Phase::Asked).await;
    }

    /// A round begins, which is what was asked for, if anything was.
    pub(crate) fn round(&self) -> Round<'_> {
        self.0.send_replace(Phase::Running);
        Round(self)
    }
}

/// A round of snapshots, until it is dropped.
pub(crate) struct Round<'a>(&'a SnapshotRequests);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(Phase::Idle);
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
    },
}

impl Slot {
    /// A job that serves others.
    pub(crate) fn passive() -> Slot {
        Slot { invocations: Invocations::Passive, snapshots: Snapshots::Never }
    }

    /// A job that waits at the other end of `starts`.
    pub(crate) fn active(starts: mpsc::Sender<Start>) -> Slot {
        let invocations = Invocations::Active { starts, running: None, queued: false, number: 0 };
        Slot { invocations, snapshots: Snapshots::Never }
    }

    /// The same job with snapshots.
    pub(crate) fn with(self, snapshots: Snapshots) -> Slot {
        Slot { snapshots, ..self }
    }

    /// Starts an invocation, or notes that one follows.
    fn wake(&mut self, name: &str, jobs: &CancellationToken) -> Result<(), SignalError> {
        let Invocations::Active { starts, running, queued, number } = &mut self.invocations else {
            return Err(SignalError::AlreadyWokenUp);
        };
        if jobs.is_cancelled() {
            return Err(SignalError::Stopping);
        }
        if running.is_some() {
            return match std::mem::replace(queued, true) {
                true => Err(SignalError::AlreadyWokenUp),
                false => Ok(()),
            };
        }
        let cancel = jobs.child_token();
        let start = Start { number: *number + 1, cancel: cancel.clone() };
        starts.try_send(start).map_err(|_| SignalError::JobEnded(name.to_owned()))?;
        *number += 1;
        *running = Some(cancel);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), SignalError> {
        match &self.invocations {
            Invocations::Active { running: Some(cancel), .. } if !cancel.is_cancelled() => {
                cancel.cancel();
                Ok(())
            }
            _ => Err(SignalError::AlreadyReset),
        }
    }

    fn snapshot(&self, name: &str, jobs: &CancellationToken) -> Result<(), SignalError> {
        match &self.snapshots {
            Snapshots::Never => Err(SignalError::NoSnapshots(name.to_owned())),
            Snapshots::ByOthers => Err(SignalError::SnapshotsByOthers(name.to_owned())),
            Snapshots::OnRequest(_) if jobs.is_cancelled() => Err(SignalError::Stopping),
            Snapshots::OnRequest(requests) => requests.ask(),
        }
    }

    /// Notes the end of an invocation; whether another one was asked for meanwhile.
    fn finished(&mut self) -> bool {
        match &mut self.invocations {
            Invocations::Active { running, queued, .. } => {
                *running = None;
                std::mem::take(queued)
            }
            Invocations::Passive => false,
        }
    }
}

/// Puts requests in order, one after the other.
pub(crate) struct Dispatcher {
    inbox: mpsc::Receiver<Message>,
    events: Events,
    jobs: CancellationToken,
    slots: BTreeMap<String, Slot>,
    stopping: bool,
}

impl Dispatcher {
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
            // A round that ends while a start is queued already is part of what that start covers.
            Message::RoundFinished(job) => self.wake(&job),
            Message::InvocationFinished(job) => {
                if self.slots.get_mut(job.as_str()).is_some_and(Slot::finished) {
                    self.wake(&job);
                }
            }
            Message::Stop { cause } => {
                if !std::mem::replace(&mut self.stopping, true) {
                    self.events.tell(What::DaemonStopping { cause });
                }
                self.jobs.cancel();
            }
        }
    }

    fn signal(&mut self, job: &str, operation: Operation) -> Result<(), SignalError> {
        let slot = self.slots.get_mut(job).ok_or_else(|| SignalError::UnknownJob(job.to_owned()))?;
        match operation {
            Operation::Wakeup => slot.wake(job, &self.jobs),
            Operation::Reset => slot.reset(),
            Operation::Snapshot => slot.snapshot(job, &self.jobs),
        }
    }

    fn wake(&mut self, job: &JobName) {
        let Some(slot) = self.slots.get_mut(job.as_str()) else { return };
        match slot.wake(job.as_str(), &self.jobs) {
            Ok(()) | Err(SignalError::AlreadyWokenUp | SignalError::Stopping) => {}
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
        assert!(slot.finished());
        assert_eq!(slot.wake("j", &jobs), Ok(()));
        assert_eq!(starts.try_recv().unwrap().number, 2);
        assert!(!slot.finished());
    }

    #[test]
    fn a_reset_cancels_what_runs_once_and_keeps_the_queued_wake_up() {
        let (mut slot, mut starts, jobs) = active();
        assert_eq!(slot.reset(), Err(SignalError::AlreadyReset));
        slot.wake("j", &jobs).unwrap();
        let start = starts.try_recv().unwrap();
        slot.wake("j", &jobs).unwrap();
        assert_eq!(slot.reset(), Ok(()));
        assert!(start.cancel.is_cancelled());
        assert!(!jobs.is_cancelled(), "the job goes on");
        assert_eq!(slot.reset(), Err(SignalError::AlreadyReset));
        assert!(slot.finished());
    }

    #[test]
    fn a_passive_job_takes_neither() {
        let jobs = CancellationToken::new();
        assert_eq!(Slot::passive().wake("s", &jobs), Err(SignalError::AlreadyWokenUp));
        assert_eq!(Slot::passive().reset(), Err(SignalError::AlreadyReset));
    }

    #[test]
    fn a_job_that_has_ended_says_so() {
        let (mut slot, starts, jobs) = active();
        drop(starts);
        assert_eq!(slot.wake("j", &jobs), Err(SignalError::JobEnded("j".to_owned())));
        let (mut slot, _starts, jobs) = active();
        jobs.cancel();
        assert_eq!(slot.wake("j", &jobs), Err(SignalError::Stopping));
    }

    #[test]
    fn one_round_of_snapshots_is_asked_for_at_a_time() {
        let (requests, jobs) = (SnapshotRequests::default(), CancellationToken::new());
        let slot = Slot::passive().with(Snapshots::OnRequest(requests.clone()));
        assert_eq!(slot.snapshot("j", &jobs), Ok(()));
        assert_eq!(slot.snapshot("j", &jobs), Err(SignalError::AlreadySnapshotting));
        let round = requests.round();
        assert_eq!(slot.snapshot("j", &jobs), Err(SignalError::AlreadySnapshotting));
        drop(round);
        assert_eq!(slot.snapshot("j", &jobs), Ok(()));
        jobs.cancel();
        assert_eq!(slot.snapshot("j", &jobs), Err(SignalError::Stopping));
    }

    #[test]
    fn who_cannot_take_snapshots_says_what_to_do() {
        let words = |slot: Slot| slot.snapshot("j", &CancellationToken::new()).unwrap_err().to_string();
        assert_eq!(words(Slot::passive()), "job j takes no snapshots: signal the job that sends its filesystems");
        assert_eq!(
            words(Slot::passive().with(Snapshots::ByOthers)),
            "the snapshots of job j are taken by others (`snapshotting` is `manual`): use `zfs snapshot`, or configure \
             `periodic` or `cron` with a prefix"
        );
    }
}
