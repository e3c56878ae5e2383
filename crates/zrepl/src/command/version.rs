//! `zrepl version`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use daemon::report::Version;

use crate::client::Client;
use crate::command_line::Side;

/// Prints one line per side.
pub(crate) fn run(config: Option<&Path>, show: Option<Side>) -> Result<()> {
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

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("cannot write to standard output")
}

fn ask(config: Option<&Path>) -> Result<Version> {
    let client = Client::new(&super::load(config)?.config)?;
    let answer = super::block_on(client.ask_text("/version", "\"\"".to_owned()))?;
    serde_json::from_str(&answer).context("the daemon's answer is no version")
}
