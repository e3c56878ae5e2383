//! Waking a job and learning what became of it. Not of zrepl, whose daemons answer 404 here.
//!
//! Waiting takes as many requests as it takes time: each is answered before the connection would be
//! too old.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::event::InvocationSummary;
use serde::{Deserialize, Serialize};

use super::{bytes, text};
use crate::daemon::Shared;
use crate::dispatch::{Followed, SignalError};
use crate::limits::OUTCOME_WAIT;
use crate::report::Summary;

/// `{"Name": job}`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WakeupRequest {
    name: String,
}

/// Which invocation of which daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ticket {
    /// Its number.
    pub invocation: u64,
    /// When the daemon was started, in a text that only that daemon knows.
    pub daemon: String,
}

/// What became of an invocation?
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OutcomeRequest {
    /// The job's name.
    pub name: String,
    /// The invocation.
    #[serde(flatten)]
    pub ticket: Ticket,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outcome {
    /// Whether it has ended.
    pub finished: bool,
    /// What it did; none before its end.
    pub summary: Option<Summary>,
}

impl Outcome {
    fn of(summary: Option<&InvocationSummary>) -> Self {
        Outcome { finished: summary.is_some(), summary: summary.map(Summary::from) }
    }
}

/// Wakes a job: `{"Name": job}`, answered by `{"Invocation": number, "Daemon": text}`.
pub(super) async fn wakeup(State(shared): State<Shared>, body: Body) -> Response {
    let request: WakeupRequest = match parse(body).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match shared.dispatch.wake_and_follow(&request.name).await {
        Ok(Followed { number, .. }) => json(&Ticket { invocation: number, daemon: shared.started.to_string() }),
        Err(error) => failed(&error.to_string()),
    }
}

/// What became of an invocation: `{"Name": job, "Invocation": number, "Daemon": text}`, answered by
/// `{"Finished": bool, "Summary": …}` when it has ended or after a while.
pub(super) async fn outcome(State(shared): State<Shared>, body: Body) -> Response {
    let OutcomeRequest { name, ticket } = match parse(body).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    if ticket.daemon != shared.started.to_string() {
        return failed("the daemon was started anew meanwhile: what became of the invocation is in the log");
    }
    let followed = match shared.dispatch.follow(&name, ticket.invocation).await {
        Ok(followed) => followed,
        Err(error) => return failed(&error.to_string()),
    };
    let Ok(_room) = shared.waiters.try_acquire() else { return json(&Outcome::of(None)) };
    let finished = async {
        // What has ended before the daemon stops is told all the same.
        tokio::select! {
            biased;
            summary = followed.finished() => Ok(summary),
            () = shared.jobs.cancelled() => Err(SignalError::Stopping),
        }
    };
    match tokio::time::timeout(OUTCOME_WAIT, finished).await {
        Err(_) => json(&Outcome::of(None)),
        Ok(Ok(Some(summary))) => json(&Outcome::of(Some(&summary))),
        Ok(Ok(None)) => failed("what became of the invocation is forgotten: see the log"),
        Ok(Err(error)) => failed(&error.to_string()),
    }
}

async fn parse<T: for<'de> Deserialize<'de>>(body: Body) -> Result<T, Response> {
    let read = bytes(body).await;
    let parsed = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    parsed.map_err(|problem| text(StatusCode::BAD_REQUEST, problem))
}

fn json(answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(json) => text(StatusCode::OK, json + "\n"),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> Response {
    text(StatusCode::INTERNAL_SERVER_ERROR, why.to_owned())
}
