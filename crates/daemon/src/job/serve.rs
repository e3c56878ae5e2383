//! What jobs that serve others have in common.

use std::sync::Arc;

use config::types::{LocalServe, Serve};
use model::event::{About, What};
use model::{ClientIdentity, JobName};
use wire::Service;
use wire::frame::Limits;
use wire::handshake::Label;
use wire::listen::{self, Host, Incident, UnderWay, Watcher};

use super::Context;
use super::transport::{self, Bound};
use crate::drain::Drain;
use crate::events::Events;
use crate::limits::{BACK_OFF_FIRST, BACK_OFF_MAX};
use crate::report::{Metrics, label_name};

/// Serves a job's clients until the daemon stops.
pub(super) fn start(context: &Context, serve: Serve, service: Arc<dyn Service>) {
    match &serve {
        Serve::Local(local) => serve_local(context, local, service),
        Serve::Tcp(_) | Serve::Tls(_) | Serve::Stdinserver(_) => {
            let task = context.clone();
            context.spawn("listener", async move {
                task.events.tell(What::JobStarted);
                task.shared.jobs.run_until_cancelled(serve_others(&task, &serve, service)).await;
                task.events.tell(What::JobStopped);
            });
        }
    }
}

/// Serves clients of the same daemon. If another job has the name already, that is told and this job has
/// no clients.
fn serve_local(context: &Context, serve: &LocalServe, service: Arc<dyn Service>) {
    // Served before the first client looks for it.
    let listener = context.shared.world.network.listen(&serve.listener_name, service);
    let place = format!("local listener {:?}", serve.listener_name);
    let task = context.clone();
    context.spawn("listener", async move {
        task.events.tell(What::JobStarted);
        match listener {
            Ok(listener) => {
                task.events.tell(What::Listening { place, problem: None });
                task.shared.jobs.cancelled().await;
                drop(listener);
            }
            Err(taken) => {
                task.events.tell(What::Listening { place, problem: Some(taken.to_string()) });
            }
        }
        task.events.tell(What::JobStopped);
    });
}

/// Serves clients of other processes. An end of the daemon's jobs ends the connections, too.
async fn serve_others(context: &Context, serve: &Serve, service: Arc<dyn Service>) {
    let bound = bind(context, serve).await;
    let greeting = transport::host_greeting(&context.shared.world.tuning);
    let (job, metrics) = (context.name.clone(), context.shared.metrics.clone());
    let drain = context.shared.drain.of_job(&context.name);
    let closing = drain.token().clone();
    let watcher = Arc::new(Told { events: context.events.clone(), job, metrics, drain });
    // A client that takes nothing of a stream is given up as a `zfs send` is that brings nothing.
    let limits = Limits { stuck: Some(context.shared.world.tuning.endpoint_stall), ..Limits::default() };
    let host = Host { service, greeting, limits, watcher, closing };
    listen::serve(bound.acceptor, host, &context.shared.jobs).await;
}

/// Listens as soon as that can be done: an address may come later than the daemon.
async fn bind(context: &Context, serve: &Serve) -> Bound {
    let (mut pause, mut told) = (BACK_OFF_FIRST, String::new());
    loop {
        match transport::bind(serve, context).await {
            Ok(bound) => {
                context.events.tell(What::Listening { place: bound.place.clone(), problem: None });
                return bound;
            }
            Err(error) => {
                let problem = format!("{error}{}; trying again", transport::hint(&error));
                if problem != told {
                    let place = transport::place(serve, context);
                    context.events.tell(What::Listening { place, problem: Some(problem.clone()) });
                    told = problem;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = BACK_OFF_MAX.min(pause * 2);
    }
}

/// What goes wrong with connections, as events of the job, and who is there.
struct Told {
    events: Events,
    job: JobName,
    metrics: Arc<Metrics>,
    drain: Drain,
}

impl Watcher for Told {
    fn notice(&self, incident: &Incident, untold: u64) {
        let message = match untold {
            0 => incident.to_string(),
            untold => format!("{incident} ({untold} more like it since the last such message)"),
        };
        let what = match incident {
            Incident::AcceptFailed(_) | Incident::Panicked { .. } => What::Error { subsystem: "transport", message },
            Incident::Lost { .. } | Incident::TooLong { .. } => What::Warning { subsystem: "rpc", message },
            Incident::Crowded { .. }
            | Incident::Refused { .. }
            | Incident::Unintelligible { .. }
            | Incident::Unserved { .. } => What::Warning { subsystem: "transport", message },
        };
        self.events.tell_about(peer(incident), what);
    }

    fn comes(&self, client: &ClientIdentity, label: Label) {
        self.metrics.client_comes(&self.job, client, label);
    }

    fn goes(&self, client: &ClientIdentity, label: Label) {
        self.metrics.client_goes(&self.job, client, label);
    }

    fn serves(&self, client: &ClientIdentity) -> UnderWay {
        Box::new(self.drain.hold(&format!("stream of client {}", client.as_str())))
    }
}

fn peer(incident: &Incident) -> About {
    let (from, client, label) = match incident {
        Incident::AcceptFailed(_) => return About::Nothing,
        Incident::Crowded { from } | Incident::Refused { from, .. } | Incident::Panicked { from, .. } => {
            (from, None, None)
        }
        Incident::Unintelligible { from, client, .. } | Incident::Unserved { from, client, .. } => {
            (from, Some(client), None)
        }
        Incident::TooLong { from, client, .. } => (from, Some(client), Some(label_name(Label::Control))),
        Incident::Lost { from, client, label, .. } => (from, Some(client), Some(label_name(*label))),
    };
    About::Peer { address: from.clone(), client: client.cloned(), label }
}
