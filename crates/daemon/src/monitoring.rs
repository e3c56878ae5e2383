//! Metrics over plain HTTP: `GET /metrics`, for Prometheus.
//!
//! Whoever can connect can read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use config::types::Monitoring;
use model::event::What;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::daemon::Shared;
use crate::http;
use crate::job::transport::{address, hint};
use crate::limits::{BACK_OFF_FIRST, BACK_OFF_MAX};
use crate::report::Live;

/// The name under which the listener appears among the jobs.
pub(crate) const JOB: &str = "_prometheus";

/// The version of the text format, which readers look at.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves scrapes until `end`. An address that cannot be listened on is told and tried again: it may come
/// later than the daemon.
pub(crate) async fn serve(monitoring: Monitoring, shared: Shared, end: CancellationToken) {
    let Some(listener) = end.run_until_cancelled(bind(&monitoring, &shared)).await else { return };
    let place = address(&monitoring.listen.address).to_string();
    http::serve(listener, &place, router(shared.clone()), &shared.events, &end).await;
}

/// What is served, on whatever listener.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(shared: Shared) -> Router<S> {
    Router::new().route("/metrics", get(scrape)).with_state(Scraped { shared, running: Arc::default() })
}

async fn bind(monitoring: &Monitoring, shared: &Shared) -> TcpListener {
    let address = address(&monitoring.listen.address);
    let (mut pause, mut told) = (BACK_OFF_FIRST, String::new());
    loop {
        match wire::tcp::bind(&address, monitoring.listen.freebind).await {
            Ok(listener) => {
                let place = listener.local_addr().map_or_else(|_| address.to_string(), |bound| bound.to_string());
                let message = format!("metrics are served on http://{place}/metrics");
                shared.events.tell(What::Note { subsystem: "job", message });
                return listener;
            }
            Err(error) => {
                let message = format!(
                    "cannot serve metrics on {address} (`global.monitoring`, `listen`): {error}{}; jobs run without, \
                     trying again",
                    hint(&error)
                );
                if message != told {
                    shared.events.tell(What::Error { subsystem: "job", message: message.clone() });
                    told = message;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = BACK_OFF_MAX.min(pause * 2);
    }
}

#[derive(Clone)]
struct Scraped {
    shared: Shared,
    running: Arc<AtomicUsize>,
}

async fn scrape(State(scraped): State<Scraped>) -> Response {
    let Scraped { shared, running } = scraped;
    let scrapes = running.fetch_add(1, Ordering::Relaxed) + 1;
    let live = Live {
        tasks: shared.tasks_alive(),
        children: shared.world.zfs.running().len(),
        scrapes,
        lost_lines: (shared.world.lost_lines)(),
        shutdowns: wire::data::shutdowns(),
    };
    // The text of a large host takes a while to write, in which other tasks should go on.
    let text = tokio::task::spawn_blocking(move || shared.metrics.text(live)).await;
    running.fetch_sub(1, Ordering::Relaxed);
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
