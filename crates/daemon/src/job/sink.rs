//! The sink job: receives what clients send, each below its own part of `root_fs`.

use std::sync::Arc;

use config::types::SinkJob;
use model::event::What;
use wire::Service;

use super::{Context, serve};
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{ReceiverConfig, Sink};
use crate::limits::{BACK_OFF_FIRST, SINK_LOOK_PAUSE};

pub(super) fn start(job: SinkJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let service = Sink::with_stall(
        Arc::clone(&context.zfs),
        context.events.clone(),
        receiver_config(&job),
        shared.world.tuning.endpoint_stall,
    );
    serve::start(&context, job.serve, Arc::clone(&service) as Arc<dyn Service>);
    let task = context.clone();
    context.spawn("cleaning", async move {
        let _ = task.shared.jobs.run_until_cancelled(look(&task, &service)).await;
    });
    Slot::passive()
}

/// Looks at what the job has received until that is seen: how old it is, is not known before.
async fn look(context: &Context, service: &Sink) {
    let (mut pause, mut told) = (BACK_OFF_FIRST, String::new());
    let jobs = &context.shared.configured_jobs;
    let mut looked = service.clean_and_warn(jobs).await.map(drop);
    while let Err(error) = looked {
        let problem = error.to_string();
        if problem != told {
            tell_not_listed(context, &problem);
            told = problem;
        }
        tokio::time::sleep(pause).await;
        pause = SINK_LOOK_PAUSE.min(pause * 2);
        looked = service.look_and_warn(jobs).await;
    }
}

fn tell_not_listed(context: &Context, problem: &str) {
    let message = format!("what the job has received cannot be looked at now: {problem}; trying again");
    context.events.tell(What::Warning { subsystem: "endpoint", message });
}

/// What the job's receivers are made of.
pub(crate) fn receiver_config(job: &SinkJob) -> ReceiverConfig {
    super::receiver_config(&job.name, &job.root_fs, &job.recv)
}
