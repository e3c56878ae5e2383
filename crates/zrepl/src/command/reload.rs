//! `zrepl reload`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::client::Client;

/// Prints what has changed.
pub(crate) fn run(config: Option<&Path>) -> Result<()> {
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
    match super::block_on(client.ask_for_long("/reload", "\"\"".to_owned()))? {
        Some(changes) => write!(stdout(), "{changes}").context("cannot write to standard output"),
        None => bail!("the daemon is of a version that cannot do this: restart it"),
    }
}
