//! `zrepl version`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use daemon::report::Version;
use serde_json::json;

use crate::client::Client;
use crate::command_line::Side;

/// Prints one line per side.
pub(crate) fn run(config: Option<&Path>, show: Option<Side>, json: bool) -> Result<()> {
    if json {
        return object(config, show);
    }
    let own = Version::own();
    if show != Some(Side::Daemon) {
        say(&format!("client: {own}"))?;
    }
    if show == Some(Side::Client) {
        return Ok(());
    }
    let theirs = ask(config).map_err(|error| anyhow!("server: error: {error:#}"))?;
    say(&format!("server: {theirs}"))?;
    if show.is_none() && theirs.version != own.version {
        eprintln!("WARNING: client version {} != daemon version {}, restart zrepl daemon", own.version, theirs.version);
    }
    Ok(())
}

/// The same as JSON. A daemon that gives no answer is an error here too, after what is known.
fn object(config: Option<&Path>, show: Option<Side>) -> Result<()> {
    let own = (show != Some(Side::Daemon)).then(Version::own);
    let asked = if show == Some(Side::Client) { None } else { Some(ask(config)) };
    let (theirs, error) = match asked {
        None => (None, None),
        Some(Ok(theirs)) => (Some(theirs), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let object = json!({"version": 1, "client": own, "daemon": theirs});
    say(&serde_json::to_string_pretty(&object)?)?;
    error.map_or(Ok(()), |error| Err(anyhow!("server: error: {error:#}")))
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("cannot write to standard output")
}

fn ask(config: Option<&Path>) -> Result<Version> {
    let client = Client::new(&super::load(config)?.config)?;
    let answer = super::block_on(client.ask_text("/version", "\"\"".to_owned()))?;
    serde_json::from_str(&answer).context("the daemon's answer is no version")
}
