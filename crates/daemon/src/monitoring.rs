//! Metrics over plain HTTP: `GET /metrics`, for Prometheus.
//!
//! Whoever can connect can read it, and slowly: connections are few and end soon.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use config::types::Monitoring;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::event::What;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::daemon::Shared;
use crate::job::transport::address;
use crate::limits::{
    ACCEPT_PAUSE, BACK_OFF_FIRST, BACK_OFF_MAX, CONTROL_REQUEST, METRICS_CONNECTION, METRICS_CONNECTIONS,
};
use crate::report::{Live, Metrics};

/// The name under which the listener appears among the jobs.
pub(crate) const JOB: &str = "_prometheus";

/// The version of the text format, which readers look at.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves scrapes until `end`. An address that cannot be listened on is told and tried again: it may come
/// later than the daemon.
pub(crate) async fn serve(monitoring: Monitoring, shared: Shared, metrics: Arc<Metrics>, end: CancellationToken) {
    let Some(listener) = end.run_until_cancelled(bind(&monitoring, &shared)).await else { return };
    let scraped = Scraped { shared: shared.clone(), metrics, running: Arc::default() };
    let router = Router::new().route("/metrics", get(scrape)).with_state(scraped);
    let mut connections = JoinSet::new();
    while let Some(accepted) = end.run_until_cancelled(accept(&listener, &mut connections)).await {
        match accepted {
            Ok(stream) => {
                connections.spawn(tokio::time::timeout(METRICS_CONNECTION, connection(stream, router.clone())));
            }
            Err(error) => {
                let message = format!("cannot accept a connection for metrics: {error}");
                shared.events.tell(What::Warning { subsystem: "job", message });
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has the port: `ss -ltnp` shows which)",
        io::ErrorKind::AddrNotAvailable => {
            " (no interface has this address: with `listen_freebind: true` it may come later)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        _ => "",
    }
}

async fn accept<T: 'static>(listener: &TcpListener, connections: &mut JoinSet<T>) -> io::Result<TcpStream> {
    while connections.try_join_next().is_some() {}
    while connections.len() >= METRICS_CONNECTIONS {
        connections.join_next().await;
    }
    Ok(listener.accept().await?.0)
}

/// One client. What goes wrong on the way is the client's to notice.
async fn connection(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONTROL_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}

#[derive(Clone)]
struct Scraped {
    shared: Shared,
    metrics: Arc<Metrics>,
    running: Arc<AtomicUsize>,
}

async fn scrape(State(scraped): State<Scraped>) -> Response {
    let Scraped { shared, metrics, running } = scraped;
    let scrapes = running.fetch_add(1, Ordering::Relaxed) + 1;
    let live = Live {
        tasks: shared.tasks_alive(),
        children: shared.world.zfs.running().len(),
        scrapes,
        lost_lines: (shared.world.lost_lines)(),
        shutdowns: wire::data::shutdowns(),
    };
    // The text of a large host takes a while to write, in which other tasks should go on.
    let text = tokio::task::spawn_blocking(move || metrics.text(live)).await;
    running.fetch_sub(1, Ordering::Relaxed);
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
