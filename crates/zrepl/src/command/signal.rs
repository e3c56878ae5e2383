//! `zrepl signal`

use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daemon::control::{Outcome, OutcomeRequest, Ticket};
use daemon::report::Summary;
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
        let request = OutcomeRequest { name: job.to_owned(), ticket: ticket.clone() };
        let asked = client.ask_text("/outcome", serde_json::to_string(&request)?).await;
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
                "summary": members(&summary),
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

/// In the style of the program's JSON; on the socket it is zrepl's.
fn members(summary: &Summary) -> serde_json::Value {
    let Summary { filesystems, steps, bytes, destroyed, errors, seconds, cancelled, replicated } = summary;
    json!({
        "filesystems": filesystems,
        "steps": steps,
        "bytes": bytes,
        "destroyed": destroyed,
        "errors": errors,
        "seconds": seconds,
        "cancelled": cancelled,
        "replicated": replicated,
    })
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

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
