//! The snap job: snapshots and prunes, without replication.

use std::sync::Arc;

use config::types::SnapJob;
use wire::Endpoint;

use super::{Context, clean_up};
use crate::act::{LocalInvocation, prune_local};
use crate::bandwidth::Bandwidth;
use crate::daemon::Shared;
use crate::dispatch::{Slot, Start};
use crate::endpoint::{SendPolicy, Sender, SenderConfig};
use crate::tuning::Tuning;

pub(super) fn start(job: SnapJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let sender = Sender::new(Arc::clone(&context.zfs), context.events.clone(), sender_config(&job));
    let snapshots = context.spawn_snapshotter(job.snapshotting.clone(), job.filesystems.clone());
    let (events, tuning, drain) = (context.events.clone(), shared.world.tuning, shared.drain.of_job(&job.name));
    // It leaves no protections behind, but those of others keep its snapshots from being pruned.
    let (cleaned, jobs) = (Arc::clone(&sender), Arc::clone(&shared.configured_jobs));
    let prepare = clean_up(context.clone(), async move { cleaned.clean_and_warn(&jobs).await });
    let endpoint: Arc<dyn Endpoint> = sender;
    let slot = context.spawn_invocations(prepare, move |start| {
        let Start { number, cancel } = start;
        let (events, endpoint, keep) = (events.clone(), Arc::clone(&endpoint), job.keep.clone());
        let (Tuning { attempts, patience, .. }, drain) = (tuning, drain.clone());
        prune_local(LocalInvocation { number, events, endpoint, keep, attempts, patience, drain, cancel })
    });
    slot.with(snapshots)
}

/// Nothing is ever sent.
pub(crate) fn sender_config(job: &SnapJob) -> SenderConfig {
    SenderConfig {
        job: job.name.clone(),
        filesystems: job.filesystems.clone(),
        send: SendPolicy::default(),
        bandwidth: Bandwidth::unlimited(),
    }
}
