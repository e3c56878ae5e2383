//! One invocation of a job: replicate, then prune the sender, then the receiver.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use model::event::{InvocationSummary, What};
use model::plan::prune::{KeepRule, PruneSide};
use model::plan::replication::ReplicationPolicy;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::{Connector, Endpoint};

use super::attempt::Attempts;
use super::looked::Both;
use super::pruning::{Prune, PruneFailed, local_views};
use super::sides::Listed;
use super::tally::Tally;
use super::watch::{Patience, Watched};
use crate::drain::Drain;
use crate::events::Events;

/// An invocation of a job that replicates.
pub struct Invocation {
    /// Counts from 1 since the daemon started.
    pub number: u64,
    /// The job's events.
    pub events: Events,
    /// The way to the side that sends; nothing is assumed of where either side is.
    pub sender: Arc<dyn Connector>,
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
    /// Attempts at most, also to prune a side; [`crate::limits::ATTEMPTS`] unless somebody says otherwise.
    pub attempts: NonZeroU32,
    /// How long to wait for a side that cannot be reached; [`crate::limits::RECONNECT_WINDOW`]
    /// unless somebody says otherwise.
    pub reconnect_window: Duration,
    /// How long to wait for a side that can be reached but says nothing.
    pub patience: Patience,
    /// Lets steps that have begun end before the invocation does, and no other begin.
    pub drain: Drain,
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
    /// How often at most it is tried; [`crate::limits::ATTEMPTS`] unless somebody says otherwise.
    pub attempts: NonZeroU32,
    /// How long to wait for ZFS if the endpoint says nothing.
    pub patience: Patience,
    /// Lets calls that have begun end before the invocation does, and no other begin.
    pub drain: Drain,
    /// Ends the invocation early.
    pub cancel: CancellationToken,
}

/// Replicates, then prunes the sender, then the receiver; the latter two also after a failure. Tells
/// when the invocation starts and what it did. Returns only when nothing of it runs any longer.
pub async fn replicate_and_prune(invocation: Invocation) -> InvocationSummary {
    let tally = Tally::default();
    let Invocation { patience, .. } = invocation;
    let sender = Watched::connector("sender", patience, Arc::clone(&invocation.sender));
    let receiver = Watched::connector("receiver", patience, Arc::clone(&invocation.receiver));
    let invocation = Invocation { sender, receiver, ..invocation };
    let work = async {
        let listed = Attempts::new(&invocation, &tally).run().await;
        prune_both(&invocation, &tally, listed).await;
    };
    report(invocation.number, &invocation.events, &invocation.cancel, &tally, work).await
}

/// Prunes the snapshots of a job that replicates nothing. Tells when the invocation starts and what it
/// did.
pub async fn prune_local(invocation: LocalInvocation) -> InvocationSummary {
    let tally = Tally::default();
    let LocalInvocation { number, events, endpoint, keep, attempts, patience, drain, cancel } = &invocation;
    let endpoint = &Watched::endpoint("sender", *patience, Arc::clone(endpoint));
    let work = async {
        let prune = Prune { side: PruneSide::Local, events, tally: &tally, rules: keep, drain };
        if keep.is_empty() {
            return prune.run_without_rules();
        }
        for tries in 1.. {
            let view = endpoint.list().await;
            if let Ok(view) = &view {
                tally.looked_at(view.filesystems.len());
                tally.count_unlisted(view, events, "pruning");
            }
            let views = view.map(|view| (&**endpoint, local_views(&view))).map_err(|error| PruneFailed {
                class: error.class(),
                error: format!("cannot list the filesystems: {error}"),
            });
            let Err(failed) = prune.run(views).await else { break };
            if !prune.goes_on_after(failed, tries, *attempts).await {
                break;
            }
        }
    };
    report(*number, events, cancel, &tally, work).await
}

async fn report(
    number: u64,
    events: &Events,
    cancel: &CancellationToken,
    tally: &Tally,
    work: impl Future<Output = ()>,
) -> InvocationSummary {
    let started = Instant::now();
    events.tell(What::InvocationStarted { number });
    let cancelled = cancel.run_until_cancelled(work).await.is_none();
    let summary = tally.summary(started.elapsed(), cancelled);
    events.tell(What::InvocationFinished { number, summary: summary.clone() });
    summary
}

async fn prune_both(invocation: &Invocation, tally: &Tally, listed: Option<Listed>) {
    let Invocation { events, keep_sender, keep_receiver, attempts, drain, .. } = invocation;
    let sender = Prune { side: PruneSide::Sender, events, tally, rules: keep_sender, drain };
    let receiver = Prune { side: PruneSide::Receiver, events, tally, rules: keep_receiver, drain };
    if keep_sender.is_empty() && keep_receiver.is_empty() {
        sender.run_without_rules();
        receiver.run_without_rules();
        return;
    }
    let mut looked = match listed {
        Some(listed) => Both::from(listed),
        None => Both::at_both(invocation).await,
    };
    for prune in [sender, receiver] {
        if prune.rules.is_empty() {
            prune.run_without_rules();
            continue;
        }
        looked.refresh(invocation).await;
        for tries in 1.. {
            looked.count_unlisted(tally, events);
            let Err(failed) = prune.run(looked.views(prune.side)).await else { break };
            if !prune.goes_on_after(failed, tries, *attempts).await {
                break;
            }
            looked.again(invocation, prune.side).await;
        }
    }
}
