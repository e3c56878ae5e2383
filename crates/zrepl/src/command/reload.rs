//! `zrepl reload`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::client::Client;

/// Prints what has changed.
pub(crate) fn run(config: Option<&Path>) -> Result<()> {
    let client = Client::new(&super::load(config)?.config)?;
    match super::block_on(client.ask_if_known("/reload", "\"\"".to_owned()))? {
        Some(changes) => write!(stdout(), "{changes}").context("cannot write to standard output"),
        None => bail!("the daemon is of a version that cannot do this: restart it"),
    }
}
