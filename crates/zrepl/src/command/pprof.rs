//! `zrepl pprof`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::client::Client;
use crate::command_line::pprof::{ActivityTrace, Listen, Pprof};

/// What both the daemon's control socket and its listener call the trace.
const TRACE: &str = "/debug/zrepl/activity-trace";

/// Tells the daemon to serve or not, or copies its trace.
pub(crate) fn run(config: Option<&Path>, pprof: &Pprof) -> Result<()> {
    match pprof {
        Pprof::Listen(Listen::On { address }) => listen(config, true, address),
        Pprof::Listen(Listen::Off) => listen(config, false, ""),
        Pprof::ActivityTrace(trace) => super::block_on(copy(config, trace)),
    }
}

fn listen(config: Option<&Path>, run: bool, address: &str) -> Result<()> {
    let client = Client::new(&super::load(config)?.config)?;
    let request = json!({"Run": run, "HttpListenAddress": address}).to_string();
    let answer = super::block_on(client.ask_text("/debug/pprof", request))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    // No error, as in zrepl: it is served.
    if let Some(at) = answer.get("AlreadyServedOn").and_then(serde_json::Value::as_str) {
        eprintln!("already served on {at}, and not on {address} (`zrepl pprof listen off` ends that)");
    }
    Ok(())
}

/// Copies until the time is over or the daemon ends the trace. The list of events is closed in either
/// case, so that every reader of JSON takes it.
async fn copy(config: Option<&Path>, trace: &ActivityTrace) -> Result<()> {
    let client = match &trace.address {
        Some(address) => Client::of_listener(address.clone()),
        None => Client::new(&super::load(config)?.config)?,
    };
    let mut tail = Vec::new();
    let write = |piece: &[u8]| {
        tail = piece.iter().rev().copied().take(TAIL).collect();
        stdout().write_all(piece).and_then(|()| stdout().flush()).context(WRITING)
    };
    let copied = client.ask(TRACE, String::new(), write);
    match trace.length {
        // Time over is what was asked for.
        Some(length) => tokio::time::timeout(length, copied).await.unwrap_or(Ok(()))?,
        None => copied.await?,
    }
    close(&tail)
}

/// How much of the end tells whether the list is closed.
const TAIL: usize = 8;
const WRITING: &str = "cannot write to standard output";

/// `reversed` is the end of what was written, backwards.
fn close(reversed: &[u8]) -> Result<()> {
    let last = reversed.iter().find(|byte| !byte.is_ascii_whitespace());
    let closing = match last {
        Some(b']') => return Ok(()),
        Some(b',') => "{}]\n",
        None => "[]\n",
        _ => "]\n",
    };
    stdout().write_all(closing.as_bytes()).context(WRITING)
}
