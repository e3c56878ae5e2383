//! One step: send, receive, tell the sender that it arrived.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use model::DatasetName;
use model::event::{Replication, What};
use model::plan::replication::Step;
use model::protection::ProtectionPolicy;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::MissedTickBehavior;
use wire::{ByteStream, CallError, Endpoint, ReceiveRequest, SendRequest};

use crate::events::Events;
use crate::limits::PROGRESS_INTERVAL;

/// A step about to run.
pub(super) struct StepRun<'a> {
    pub(super) sender: &'a dyn Endpoint,
    pub(super) receiver: &'a dyn Endpoint,
    pub(super) events: &'a Events,
    pub(super) protection: ProtectionPolicy,
    pub(super) filesystem: &'a DatasetName,
    /// Index in the plan's steps.
    pub(super) index: usize,
    pub(super) step: &'a Step,
    /// Bytes of this step.
    pub(super) bytes: Arc<AtomicU64>,
    /// Bytes of the invocation.
    pub(super) total: Arc<AtomicU64>,
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
        let counted = Counted { bytes: reply.stream, of_step: self.bytes.clone(), of_invocation: self.total.clone() };
        let received = self.receiver.receive(&receive, Box::pin(counted));
        self.with_progress(received, || reply.expected.get().copied()).await?;
        self.sender.send_completed(&request).await
    }

    async fn with_progress<T>(&self, work: impl Future<Output = T>, expected: impl Fn() -> Option<u64>) -> T {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        let mut told = (None, 0);
        loop {
            let done = tokio::select! {
                biased;
                result = &mut work => Some(result),
                _ = ticks.tick() => None,
            };
            let now = (expected(), self.bytes.load(Ordering::Relaxed));
            if now != told {
                told = now;
                self.tell_progress(now);
            }
            if let Some(result) = done {
                return result;
            }
        }
    }

    fn tell_progress(&self, (expected, bytes): (Option<u64>, u64)) {
        let (filesystem, step) = (self.filesystem.clone(), self.index);
        self.events.tell(What::Replication(Replication::StepProgress { filesystem, step, expected, bytes }));
    }
}

/// Counts the bytes of a stream as they pass.
struct Counted {
    bytes: ByteStream,
    of_step: Arc<AtomicU64>,
    of_invocation: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.bytes.as_mut().poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        self.of_step.fetch_add(read, Ordering::Relaxed);
        self.of_invocation.fetch_add(read, Ordering::Relaxed);
        polled
    }
}
