//! `zrepl signal`

use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plan::table::human;
use crate::client::Client;
use crate::command_line::{Operation, Signal};

/// Pause before a daemon that could not wait for an outcome any longer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Silent on success, unless somebody waits for the outcome or wants JSON.
pub(crate) fn run(config: Option<&Path>, signal: &Signal) -> Result<()> {
    let Signal { operation, ref job, wait, json } = *signal;
    ensure!(!wait || operation == Operation::Wakeup, "`--wait` goes with `signal wakeup` only");
    let client = Client::new(&super::load(config)?.config)?;
    let operation = match operation {
        Operation::Wakeup if wait => return super::block_on(wake_and_wait(&client, job, json)),
        Operation::Wakeup => "wakeup",
        Operation::Reset => "reset",
        Operation::Snapshot => "snapshot",
    };
    let request = json!({"Name": job, "Op": operation}).to_string();
    super::block_on(client.ask_text("/signal", request))?;
    if json { say(&json!({"version": 1, "job": job, "operation": operation}).to_string()) } else { Ok(()) }
}

/// Which invocation of which daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ticket {
    invocation: u64,
    daemon: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    finished: bool,
    summary: Option<Summary>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "PascalCase"))]
struct Summary {
    filesystems: u64,
    steps: u64,
    bytes: u64,
    destroyed: u64,
    errors: u64,
    seconds: f64,
    cancelled: bool,
}

async fn wake_and_wait(client: &Client, job: &str, json: bool) -> Result<()> {
    let answer = client.ask_if_known("/wakeup", json!({"Name": job}).to_string()).await?;
    let Some(answer) = answer else {
        bail!(
            "the daemon that runs cannot tell what becomes of a wake-up, so job {job} was not woken up: leave out \
             `--wait`, or run the daemon of this version (see `zrepl version`)"
        );
    };
    let ticket: Ticket = serde_json::from_str(&answer).context("the daemon's answer is not understood")?;
    let summary = loop {
        let request = json!({"Name": job, "Invocation": ticket.invocation, "Daemon": ticket.daemon}).to_string();
        let asked = client.ask_text("/outcome", request).await;
        let answer =
            asked.with_context(|| format!("invocation {} of job {job} is lost sight of", ticket.invocation))?;
        match serde_json::from_str(&answer).context("the daemon's answer is not understood")? {
            Outcome { finished: true, summary: Some(summary) } => break summary,
            _ => tokio::time::sleep(AGAIN).await,
        }
    };
    let said = match json {
        true => {
            let object = json!({
                "version": 1,
                "job": job,
                "operation": "wakeup",
                "invocation": ticket.invocation,
                "summary": summary,
            });
            say(&object.to_string())
        }
        false => say(&words(&summary)),
    };
    match summary {
        Summary { cancelled: true, .. } => bail!("the invocation was cancelled before its end"),
        Summary { errors: 0, .. } => said,
        Summary { errors, .. } => bail!("not all was done: {} (see the daemon's log)", count(errors, "error")),
    }
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("cannot write to standard output")
}

fn words(summary: &Summary) -> String {
    let Summary { filesystems, steps, bytes, destroyed, seconds, .. } = summary;
    format!(
        "{}, {} with {}, {} destroyed, in {seconds:.1} s",
        count(*filesystems, "filesystem"),
        count(*steps, "step"),
        human(*bytes),
        count(*destroyed, "snapshot")
    )
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
