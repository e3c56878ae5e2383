//! One invocation of a job: replicate, then prune the sender, then the receiver.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use model::event::{InvocationSummary, What};
use model::plan::prune::KeepRule;
use model::plan::replication::ReplicationPolicy;
use tokio_util::sync::CancellationToken;
use wire::{Connector, Endpoint};

use crate::events::Events;

/// An invocation of a job that replicates.
pub struct Invocation {
    /// Counts from 1 since the daemon started.
    pub number: u64,
    /// The job's events.
    pub events: Events,
    /// The side that sends.
    pub sender: Arc<dyn Endpoint>,
    /// The way to the side that receives.
    pub receiver: Arc<dyn Connector>,
    /// What to replicate and what to protect.
    pub policy: ReplicationPolicy,
    /// Steps at a time.
    pub step_concurrency: NonZeroUsize,
    /// What to keep on the sender; nothing is destroyed without rules.
    pub keep_sender: Vec<KeepRule>,
    /// What to keep on the receiver; nothing is destroyed without rules.
    pub keep_receiver: Vec<KeepRule>,
    /// Attempts at most; [`crate::limits::ATTEMPTS`] unless somebody says otherwise.
    pub attempts: NonZeroU32,
    /// How long to wait for a receiver that cannot be reached; [`crate::limits::RECONNECT_WINDOW`]
    /// unless somebody says otherwise.
    pub reconnect_window: Duration,
    /// Ends the invocation early. What was received of a step stays and is resumed later.
    pub cancel: CancellationToken,
}

/// An invocation of a job that only prunes its own snapshots.
pub struct LocalInvocation {
    /// Counts from 1 since the daemon started.
    pub number: u64,
    /// The job's events.
    pub events: Events,
    /// The side: a [`crate::endpoint::Sender`] of the job.
    pub endpoint: Arc<dyn Endpoint>,
    /// What to keep; nothing is destroyed without rules.
    pub keep: Vec<KeepRule>,
    /// Ends the invocation early.
    pub cancel: CancellationToken,
}

/// Replicates, then prunes the sender, then the receiver; the latter two also after a failure. Tells
/// when the invocation starts and what it did. Returns only when nothing of it runs any longer.
pub async fn replicate_and_prune(invocation: Invocation) -> InvocationSummary {
    let Invocation { number, events, .. } = invocation;
    events.tell(What::InvocationStarted { number });
    let summary = InvocationSummary::default();
    events.tell(What::InvocationFinished { number, summary: summary.clone() });
    summary
}

/// Prunes the snapshots of a job that replicates nothing. Tells when the invocation starts and what it
/// did.
pub async fn prune_local(invocation: LocalInvocation) -> InvocationSummary {
    let LocalInvocation { number, events, .. } = invocation;
    events.tell(What::InvocationStarted { number });
    let summary = InvocationSummary::default();
    events.tell(What::InvocationFinished { number, summary: summary.clone() });
    summary
}
