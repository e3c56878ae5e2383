//! What the daemon knows about itself: the activity trace, and the listener that zrepl calls after the
//! profiler of its language. Profiles of the processor's time and of memory are made from outside: a signal
//! handler that walks stacks would be unsafe code in every daemon for the sake of a few.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Router};
use model::event::What;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::text;
use crate::daemon::Shared;
use crate::http::{self, Lasting};
use crate::limits::{TRACE_CLIENTS, TRACE_PULSE};
use crate::monitoring;
use crate::report::trace::TraceStream;

/// Where the trace is, on the socket and on the listener.
pub(super) const TRACE: &str = "/debug/zrepl/activity-trace";

/// The listener, if there is one, and room for those that read the trace.
pub(crate) struct Profiling {
    listening: Mutex<Option<Listening>>,
    readers: Arc<Semaphore>,
}

/// Where it is served.
struct Listening {
    at: SocketAddr,
    /// As it was asked for; a name stands for an address.
    asked: String,
    end: CancellationToken,
}

/// What became of a wish to listen.
enum Listened {
    /// It is done, there.
    There,
    /// It was done already, elsewhere.
    Already(SocketAddr),
}

impl Default for Profiling {
    fn default() -> Self {
        Self { listening: Mutex::default(), readers: Arc::new(Semaphore::new(TRACE_CLIENTS)) }
    }
}

/// Begins or ends to listen: `{"Run": bool, "HttpListenAddress": "host:port"}`. As in zrepl, a second
/// beginning changes nothing; unlike there, the answer says where it is served already
/// (`{"AlreadyServedOn": "host:port"}`), and an address that cannot be used is an error.
pub(super) async fn switch(State(shared): State<Shared>, body: Body) -> Response {
    let request: Request = match super::bytes(body).await {
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
            Ok(request) => request,
        },
    };
    match request {
        Request { run: false, .. } => {
            stop(&shared);
            text(StatusCode::OK, "{}\n")
        }
        Request { run: true, address } => match listen(&shared, &address).await {
            Ok(Listened::There) => text(StatusCode::OK, "{}\n"),
            Ok(Listened::Already(at)) => {
                text(StatusCode::OK, serde_json::json!({"AlreadyServedOn": at.to_string()}).to_string() + "\n")
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
    }
}

#[derive(Debug, serde::Deserialize)]
struct Request {
    #[serde(rename = "Run")]
    run: bool,
    #[serde(rename = "HttpListenAddress", default)]
    address: String,
}

/// Listens from the daemon's start on; what goes wrong is in the log.
pub(crate) async fn autostart(shared: Shared, address: String) {
    if let Err(message) = listen(&shared, &address).await {
        shared.events.tell(What::Error { subsystem: "meta", message });
    }
}

async fn listen(shared: &Shared, address: &str) -> Result<Listened, String> {
    // Without a host the daemon is nobody's business but this machine's: there is no authentication.
    let place = if address.starts_with(':') { format!("127.0.0.1{address}") } else { address.to_owned() };
    if let Some(at) = listening(shared) {
        let asked = lock(shared).as_ref().is_some_and(|one| one.asked == place);
        return Ok(if asked || at.to_string() == place { Listened::There } else { Listened::Already(at) });
    }
    let bound = TcpListener::bind(&place).await;
    let (listener, at) = bound
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map(|(at, listener)| (listener, at))
        .map_err(|error| format!("cannot listen on {place}: {error} (write HOST:PORT, such as 127.0.0.1:6060)"))?;
    let end = shared.jobs.child_token();
    {
        let mut listening = lock(shared);
        if let Some(quicker) = listening.as_ref().filter(|one| !one.end.is_cancelled()) {
            return Ok(Listened::Already(quicker.at));
        }
        *listening = Some(Listening { at, asked: place, end: end.clone() });
    }
    tell(shared, format!("serving profiles on http://{at}/debug/pprof/, to everybody who can reach it"));
    shared.tasks.spawn("profile listener", &shared.events, serve(listener, at, shared.clone(), end));
    Ok(Listened::There)
}

fn stop(shared: &Shared) {
    if let Some(listening) = lock(shared).take() {
        listening.end.cancel();
        tell(shared, "profiles are not served any longer".to_owned());
    }
}

fn listening(shared: &Shared) -> Option<SocketAddr> {
    lock(shared).as_ref().filter(|one| !one.end.is_cancelled()).map(|one| one.at)
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Option<Listening>> {
    shared.profiling.listening.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(shared: &Shared, message: String) {
    shared.events.tell(What::Note { subsystem: "meta", message });
}

async fn serve(listener: TcpListener, at: SocketAddr, shared: Shared, end: CancellationToken) {
    let router = Router::new()
        .route("/debug/pprof/", any(index))
        .route("/debug/pprof/cmdline", any(command_line))
        .route("/debug/pprof/tasks", any(tasks))
        .route("/debug/pprof/{profile}", any(no_profile))
        .route(TRACE, any(trace))
        .merge(monitoring::router(shared.clone()))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(shared.clone());
    http::serve(listener, &at.to_string(), router, &shared.events, &end).await;
}

async fn index() -> Response {
    text(
        StatusCode::OK,
        format!(
            "/debug/pprof/tasks      what the daemon would wait for if it were to stop, and its child processes\n\
             /debug/pprof/cmdline    its command line\n\
             /metrics                what Prometheus fetches\n\
             {TRACE}    what it does from now on, for https://ui.perfetto.dev\n\n\
             {INSTEAD}"
        ),
    )
}

async fn command_line() -> Response {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    text(StatusCode::OK, words.join("\0"))
}

async fn tasks(State(shared): State<Shared>) -> Response {
    let commands = shared.world.zfs.running();
    let commands = commands.iter().map(|command| format!("`{}`", command.args.join(" ")));
    let all = [shared.tasks.alive(), shared.undoing.alive()].concat().into_iter().chain(commands);
    text(StatusCode::OK, all.map(|one| one + "\n").collect::<String>())
}

/// What tells more than a profile that the daemon would make of itself: `perf` sees the kernel and the
/// children as well, where nearly all of the time goes, and costs nothing while it does not run.
const INSTEAD: &str = "\
where the processor's time goes:    perf record -g -p $(pidof zrepl) -- sleep 30; perf report
                                    (with -a instead of -p: of zfs and the kernel, too)
how much memory there is, of what:  grep -E '^(Rss|Anon|Private)' /proc/$(pidof zrepl)/smaps_rollup
who allocates it:                   heaptrack -p $(pidof zrepl)
where threads wait:                 gdb -p $(pidof zrepl) -batch -ex 'thread apply all bt'
";

/// As `go tool pprof` prints it for its user.
async fn no_profile(Path(profile): Path<String>) -> Response {
    let text_of = format!("there is no profile {profile:?}: this daemon makes none of itself. Instead:\n\n{INSTEAD}");
    text(StatusCode::NOT_FOUND, text_of)
}

/// What happens from now on, for as long as the client reads and the daemon runs.
pub(super) async fn trace(Extension(lasting): Extension<Lasting>, State(shared): State<Shared>) -> Response {
    let Ok(room) = Arc::clone(&shared.profiling.readers).try_acquire_owned() else {
        let message = format!("{TRACE_CLIENTS} others read the activity trace: try again when one has ended");
        return text(StatusCode::INTERNAL_SERVER_ERROR, message);
    };
    lasting.grant();
    let reading = Reading { stream: shared.world.trace.stream(), end: shared.jobs.clone(), _room: room };
    let head = futures::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"[\n"))]);
    let rest = futures::stream::unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        Some(match reading.next().await {
            Some(piece) => (Ok(Bytes::from(piece)), Some(reading)),
            // A list does not end with a comma.
            None => (Ok(Bytes::from_static(b"{}]\n")), None),
        })
    });
    text(StatusCode::OK, Body::from_stream(futures::StreamExt::chain(head, rest)))
}

struct Reading {
    stream: TraceStream,
    end: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Reading {
    async fn next(&mut self) -> Option<String> {
        tokio::select! {
            () = self.end.cancelled() => None,
            piece = self.stream.next() => piece,
            // Space between the elements of a list.
            () = tokio::time::sleep(TRACE_PULSE) => Some("\n".to_owned()),
        }
    }
}
