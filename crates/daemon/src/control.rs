//! The control socket: HTTP over a Unix socket, as zrepl's clients speak it.
//!
//! The directory is the protection: whoever can reach the socket may wake and reset jobs.

mod follow;
mod pprof;
mod socket;

use std::convert::Infallible;
use std::io::{self, BufWriter, Write};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use model::event::What;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::Shared;
use crate::dispatch::Operation;
use crate::http::{self, Lasting};
use crate::limits::{CONTROL_REQUEST_BYTES, HTTP_REQUEST};
use crate::preview::Wish;
use crate::reload::ReloadAnswer;
use crate::report::{Status, Version};

pub use follow::{Outcome, OutcomeRequest, Ticket};
pub(crate) use pprof::{Profiling, autostart};
pub use socket::{Socket, SocketError};

/// The name under which the socket appears among the jobs.
pub const JOB: &str = "_control";

/// A report is written in pieces of this size, of which few exist at a time.
const CHUNK: usize = 64 * 1024;

/// Serves requests until `end`, then removes the socket's file.
pub(crate) async fn serve(socket: Socket, shared: Shared, end: CancellationToken) {
    let listener = match socket.listener() {
        Ok(listener) => listener,
        Err(error) => {
            shared.events.tell(What::Error { subsystem: "job", message: error.to_string() });
            return;
        }
    };
    let place = socket.path().display().to_string();
    http::serve(listener, &place, router(shared.clone()), &shared.events, &end).await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/version", any(version))
        .route("/status", any(status))
        .route("/signal", any(signal))
        .route("/plan", any(plan))
        .route("/reload", any(reload))
        .route("/debug/pprof", any(pprof::switch))
        .route(pprof::TRACE, any(pprof::trace))
        .route("/wakeup", any(follow::wakeup))
        .route("/outcome", any(follow::outcome))
        .layer(from_fn_with_state(shared.clone(), counted))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(shared)
}

/// Counts a request for the metrics; as in zrepl, not for the status, which screens ask for all the time.
async fn counted(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let endpoint = request.uri().path().to_owned();
    if endpoint == "/status" {
        return next.run(request).await;
    }
    shared.metrics.control_begins(&endpoint);
    let begun = Instant::now();
    let response = next.run(request).await;
    shared.metrics.control_finished(&endpoint, begun.elapsed());
    response
}

/// zrepl's answers are declared as plain text, JSON or not.
fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

async fn version() -> Response {
    match serde_json::to_string(&Version::own()) {
        Ok(json) => text(StatusCode::OK, json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The report. Who says which one it has is told if that is still the one; zrepl's clients do not.
async fn status(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    // Before the report: it may be newer than its tag says, never older.
    let tag = shared.status_tag();
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = match known {
        true => text(StatusCode::NOT_MODIFIED, Body::empty()),
        false => text(StatusCode::OK, Body::from_stream(stream(shared.status()))),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// The report in pieces, written no faster than they are taken: the whole text may be larger than
/// everything else that the daemon holds.
fn stream(status: Status) -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    let (pieces, taken) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut writer = BufWriter::with_capacity(CHUNK, Pieces(pieces));
        // The only way to fail is that nobody takes the pieces any longer.
        let _ = status.write_json(&mut writer).and_then(|()| writer.write_all(b"\n")).and_then(|()| writer.flush());
    });
    futures::stream::unfold(taken, |mut taken| async { Some((Ok(taken.recv().await?), taken)) })
}

struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Bytes::copy_from_slice(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Plans what the next invocations would do: `{"Job": name or "", "Estimate": bool}`. Not of zrepl.
async fn plan(State(shared): State<Shared>, body: Body) -> Response {
    let wish = match bytes(body).await.and_then(|bytes| PlanRequest::parse(&bytes)) {
        Ok(PlanRequest { job, estimate }) => Wish { job: (!job.is_empty()).then_some(job), estimate },
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let preview = shared.preview(&wish).await.map_err(|error| error.to_string());
    match preview.and_then(|preview| serde_json::to_string(&preview).map_err(|error| error.to_string())) {
        Ok(json) => text(StatusCode::OK, json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// What `/plan` is asked.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PlanRequest {
    job: String,
    #[serde(default)]
    estimate: bool,
}

impl PlanRequest {
    fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }
}

/// Reads the configuration again; says what has changed. Not of zrepl.
///
/// Not done here but in a task of its own: a client that leaves drops what answers it, and a reload that is
/// dropped between the end of jobs and their beginning would leave them ended.
async fn reload(Extension(lasting): Extension<Lasting>, State(shared): State<Shared>) -> Response {
    lasting.grant();
    let (done, outcome) = oneshot::channel();
    let task = shared.clone();
    shared.tasks.spawn("reload", &shared.events, async move {
        // Nobody may wait any longer.
        let _ = done.send(task.reload_from_file().await);
    });
    match outcome.await {
        Ok(Ok(reloaded)) => match serde_json::to_string(&ReloadAnswer { version: 1, reloaded }) {
            Ok(json) => text(StatusCode::OK, json + "\n"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the reload has ended early: see the daemon's log"),
    }
}

/// A request's body.
async fn bytes(body: Body) -> Result<Bytes, String> {
    match tokio::time::timeout(HTTP_REQUEST, axum::body::to_bytes(body, CONTROL_REQUEST_BYTES)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the request was not complete after {HTTP_REQUEST:?}")),
    }
}

async fn signal(State(shared): State<Shared>, body: Body) -> Response {
    let SignalRequest { name, op } = match bytes(body).await.and_then(|bytes| SignalRequest::parse(&bytes)) {
        Ok(request) => request,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let operation = match op.as_str() {
        "wakeup" => Operation::Wakeup,
        "reset" => Operation::Reset,
        // Not in zrepl.
        "snapshot" => Operation::Snapshot,
        _ => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("operation {op:?} is invalid")),
    };
    match shared.dispatch.signal(&name, operation).await {
        Ok(()) => text(StatusCode::OK, "{}\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// What `/signal` is asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct SignalRequest {
    name: String,
    op: String,
}

impl SignalRequest {
    /// Reads `{"Name": …, "Op": …}`. As in zrepl, letter case of the keys does not matter and other
    /// keys are ignored.
    fn parse(body: &[u8]) -> Result<SignalRequest, String> {
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let mut request = SignalRequest::default();
        for (key, value) in fields {
            let field = match key.to_ascii_lowercase().as_str() {
                "name" => &mut request.name,
                "op" => &mut request.op,
                _ => continue,
            };
            *field = value.as_str().ok_or_else(|| format!("{key:?} is not a string"))?.to_owned();
        }
        Ok(request)
    }
}
