//! The sink job: receives what clients send, each below its own part of `root_fs`.

use std::sync::Arc;

use config::types::{Serve, SinkJob};

use super::{Context, serve};
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{ReceiverConfig, Sink};

pub(super) fn start(job: SinkJob, shared: &Shared) -> Slot {
    let Serve::Local(local) = &job.serve else { return Slot::passive() };
    let context = Context::new(&job.name, shared);
    let service = Sink::new(Arc::clone(&context.zfs), context.events.clone(), receiver_config(&job));
    serve::local(&context, local, service);
    Slot::passive()
}

/// What the job's receivers are made of.
pub(crate) fn receiver_config(job: &SinkJob) -> ReceiverConfig {
    super::receiver_config(&job.name, &job.root_fs, &job.recv)
}
