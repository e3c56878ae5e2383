//! What outlives the jobs: the dispatcher, the control socket, the listener for metrics. Without the first
//! two a daemon runs that nobody can wake, ask or stop: it is better ended and started anew.

use std::future::Future;

use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::tasks::Tasks;

/// Something that a daemon cannot do without has ended before the daemon did.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the {service} has ended by a fault of this program, which the log tells: no job could be woken or asked any longer"
)]
pub struct ServiceLost {
    /// What it was.
    pub service: String,
}

/// The services of one daemon.
#[derive(Default)]
pub(crate) struct Services {
    tasks: Tasks,
    end: CancellationToken,
    lost: watch::Sender<Option<ServiceLost>>,
}

/// Tells that a service has ended, however it did.
struct Vital {
    service: &'static str,
    end: CancellationToken,
    lost: watch::Sender<Option<ServiceLost>>,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.end.is_cancelled() {
            self.lost.send_replace(Some(ServiceLost { service: self.service.to_owned() }));
        }
    }
}

impl Services {
    /// Cancelled when the services shall end.
    pub(crate) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Runs a service that others can do without.
    pub(crate) fn spawn(&self, name: &str, events: &Events, service: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(name, events, service);
    }

    /// Runs a service whose end is told by [`Services::lost`].
    pub(crate) fn spawn_vital(
        &self,
        name: &'static str,
        events: &Events,
        service: impl Future<Output = ()> + Send + 'static,
    ) {
        let vital = Vital { service: name, end: self.end.clone(), lost: self.lost.clone() };
        self.tasks.spawn(name, events, async move {
            let _vital = vital;
            service.await;
        });
    }

    /// Waits until a vital service has ended before its time, which may be never.
    pub(crate) async fn lost(&self) -> ServiceLost {
        let mut lost = self.lost.subscribe();
        let told = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        match told {
            Some(lost) => lost,
            None => std::future::pending().await,
        }
    }

    /// Ends them and waits for that.
    pub(crate) async fn stop(&self) {
        self.end.cancel();
        self.tasks.wait().await;
    }

    /// The names of those that run.
    pub(crate) fn alive(&self) -> Vec<String> {
        self.tasks.alive()
    }

    /// Ends them where they are.
    pub(crate) fn abort(&self) {
        self.end.cancel();
        self.tasks.abort();
    }
}
