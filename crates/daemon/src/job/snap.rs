//! The snap job: snapshots and prunes, without replication.

use std::sync::Arc;

use config::types::SnapJob;
use wire::Endpoint;

use super::Context;
use crate::act::{LocalInvocation, prune_local};
use crate::bandwidth::Bandwidth;
use crate::daemon::Shared;
use crate::dispatch::{Slot, Start};
use crate::endpoint::{SendPolicy, Sender, SenderConfig};
use crate::tuning::Tuning;

pub(super) fn start(job: SnapJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let endpoint: Arc<dyn Endpoint> =
        Sender::new(Arc::clone(&context.zfs), context.events.clone(), sender_config(&job));
    let snapshots = context.spawn_snapshotter(job.snapshotting.clone(), job.filesystems.clone());
    let (events, tuning) = (context.events.clone(), shared.world.tuning);
    // Snap jobs leave no protections behind.
    let slot = context.spawn_invocations(std::future::ready(()), move |start| {
        let Start { number, cancel } = start;
        let (events, endpoint, keep) = (events.clone(), Arc::clone(&endpoint), job.keep.clone());
        let Tuning { attempts, patience, .. } = tuning;
        prune_local(LocalInvocation { number, events, endpoint, keep, attempts, patience, cancel })
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
