//! One step: send, receive, tell the sender that it arrived. And what makes up for a lost end of one.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use model::event::{Replication, What};
use model::plan::replication::{Repair, Step};
use model::protection::ProtectionPolicy;
use model::{DatasetName, VersionRef};
use pump::{Bytes, Moved};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use wire::{ByteStream, CallError, Endpoint, ReceiveRequest, SendRequest};

use crate::events::Events;
use crate::limits::PROGRESS_INTERVAL;

/// A step about to run.
pub(super) struct StepRun<'a> {
    pub(super) sender: Arc<dyn Endpoint>,
    pub(super) receiver: Arc<dyn Endpoint>,
    pub(super) events: &'a Events,
    pub(super) protection: ProtectionPolicy,
    pub(super) filesystem: DatasetName,
    /// Index in the plan's steps.
    pub(super) index: usize,
    pub(super) step: Step,
    /// Bytes of this step.
    pub(super) bytes: Arc<AtomicU64>,
    /// Bytes of the invocation.
    pub(super) total: Arc<AtomicU64>,
    /// How long no byte may move.
    pub(super) stall: Duration,
}

impl StepRun<'_> {
    /// Runs it. Dropping the future ends the transfer; what arrived can be resumed.
    pub(super) async fn run(&self) -> Result<(), CallError> {
        let request = SendRequest {
            filesystem: self.filesystem.clone(),
            from: self.step.from.clone(),
            to: self.step.to.clone(),
            resume_token: self.step.resume_token.clone(),
            protection: self.protection,
        };
        let reply = self.sender.send(&request).await?;
        let receive = ReceiveRequest {
            filesystem: request.filesystem.clone(),
            from: request.from.clone(),
            to: request.to.clone(),
            clear_resume_token: !reply.used_resume_token,
            protection: self.protection,
        };
        let (of_step, of_invocation) = (Arc::clone(&self.bytes), Arc::clone(&self.total));
        let counted = Counted { bytes: reply.stream, of_step, of_invocation };
        let received = self.receiver.receive(&receive, Box::pin(counted));
        self.watch(received, || reply.expected.get().copied()).await?;
        self.sender.send_completed(&request).await
    }

    /// Tells how far the transfer is, and ends it if it gets no further.
    async fn watch(
        &self,
        transfer: impl Future<Output = Result<(), CallError>>,
        expected: impl Fn() -> Option<u64>,
    ) -> Result<(), CallError> {
        let mut ticks = interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut transfer = std::pin::pin!(transfer);
        let (mut told, mut moved) = ((None, 0), Instant::now());
        loop {
            let mut done = tokio::select! {
                biased;
                result = &mut transfer => Some(result),
                _ = ticks.tick() => None,
            };
            let now = (expected(), self.bytes.load(Ordering::Relaxed));
            if now != told {
                moved = Instant::now();
                told = now;
                self.tell_progress(now);
            } else if moved.elapsed() >= self.stall {
                done = done.or_else(|| Some(Err(self.stalled(now.1))));
            }
            if let Some(result) = done {
                return result;
            }
        }
    }

    /// As if the connection were gone: only a new one can be trusted to move something.
    fn stalled(&self, bytes: u64) -> CallError {
        CallError::Connection(format!(
            "no byte of {}{} has moved for {:?} ({bytes} did), neither does the receiver answer",
            self.filesystem, self.step.to, self.stall
        ))
    }

    fn tell_progress(&self, (expected, bytes): (Option<u64>, u64)) {
        let (filesystem, step) = (self.filesystem.clone(), self.index);
        self.events.tell(What::Replication(Replication::StepProgress { filesystem, step, expected, bytes }));
    }
}

/// A confirmation about to run.
pub(super) struct ConfirmRun {
    pub(super) sender: Arc<dyn Endpoint>,
    pub(super) receiver: Arc<dyn Endpoint>,
    pub(super) protection: ProtectionPolicy,
    pub(super) filesystem: DatasetName,
    /// The newest common version, as the sender names it.
    pub(super) version: VersionRef,
    /// As the receiver names it.
    pub(super) received_as: VersionRef,
    pub(super) repairs: Vec<Repair>,
}

impl ConfirmRun {
    /// The receiver first: its hold keeps the base that the cursor will stand for.
    pub(super) async fn run(self) -> Result<(), CallError> {
        let wants = |these: [Repair; 2]| self.repairs.iter().any(|repair| these.contains(repair));
        if wants([Repair::HoldLastReceived, Repair::ReleaseOlderReceived]) {
            let request = ReceiveRequest {
                filesystem: self.filesystem.clone(),
                from: Some(self.received_as.clone()),
                to: self.received_as.clone(),
                clear_resume_token: false,
                protection: self.protection,
            };
            self.receiver.confirm_received(&request).await?;
        }
        if wants([Repair::MoveCursor, Repair::RemoveStepProtection]) {
            let request = SendRequest {
                filesystem: self.filesystem.clone(),
                from: Some(self.version.clone()),
                to: self.version.clone(),
                resume_token: None,
                protection: self.protection,
            };
            self.sender.send_completed(&request).await?;
        }
        Ok(())
    }
}

/// Counts the bytes of a stream as they pass.
struct Counted {
    bytes: ByteStream,
    of_step: Arc<AtomicU64>,
    of_invocation: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, moved: usize) {
        self.of_step.fetch_add(moved as u64, Ordering::Relaxed);
        self.of_invocation.fetch_add(moved as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.bytes.as_mut().poll_read(cx, buf);
        self.count(buf.filled().len() - before);
        polled
    }
}

impl Bytes for Counted {
    fn poll_move(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        let polled = self.bytes.as_mut().poll_move(cx, to, most);
        if let Poll::Ready(Ok(Moved::Bytes(moved))) = &polled {
            self.count(*moved);
        }
        polled
    }

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.bytes.as_mut().poll_ready(cx)
    }
}
