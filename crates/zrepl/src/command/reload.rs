//! `zrepl reload`

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use daemon::ReloadAnswer;

use crate::client::{Client, Unreachable};
use crate::command_line::Reload;

/// Prints what has changed; warnings go to standard error, unless all is JSON.
pub(crate) fn run(config: Option<&Path>, how: &Reload) -> Result<()> {
    let client = match super::load(config) {
        Ok(loaded) => Client::new(&loaded.config)?,
        // The daemon shall hear of a mistake, too: it keeps what it has, and its log and its metrics say so.
        Err(mistakes) => {
            let client = config::control_socket(config).map(Client::at);
            match client.filter(|client| super::block_on(client.reach()).is_ok()) {
                Some(client) => client,
                None => return Err(mistakes),
            }
        }
    };
    let answer = super::block_on(client.ask_for_long("/reload", "\"\"".to_owned())).map_err(elsewhere)?;
    let Some(answer) = answer else { bail!("the daemon is of a version that cannot do this: restart it") };
    let ReloadAnswer { reloaded, .. } =
        serde_json::from_str(&answer).context("the daemon's answer is of another version")?;
    let text = if how.json {
        answer
    } else {
        reloaded.warnings.iter().for_each(|warning| eprintln!("{}\n", said(warning)));
        format!("{reloaded}\n")
    };
    stdout().write_all(text.as_bytes()).context(super::OUTPUT)
}

/// What is a mistake in its file looks like one; the rest says what it is.
fn said(warning: &str) -> String {
    let marked = warning.starts_with("warning") || warning.starts_with("error");
    if marked { warning.to_owned() } else { format!("warning: {warning}") }
}

/// A daemon goes on listening where it did when it started, whatever the file says now.
fn elsewhere(error: anyhow::Error) -> anyhow::Error {
    let stopped = error.downcast_ref().is_some_and(|error: &Unreachable| error.stopped);
    let default = PathBuf::from(config::types::DEFAULT_CONTROL_SOCKET);
    match stopped {
        false => error,
        true if super::block_on(Client::at(default.clone()).reach()).is_ok() => anyhow!(
            "{error}; a daemon listens on {}: if it is this one, `global.control.sockpath` has changed since it started, \
             which takes effect when it is restarted",
            default.display()
        ),
        true => anyhow!(
            "{error}; if `global.control.sockpath` has changed since the daemon started, it listens where it did before: \
             restart it, or send it SIGHUP"
        ),
    }
}
