//! `zrepl stdinserver`: what an SSH server runs for a client.

use std::io::stdout;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::ClientIdentity;
use wire::stdinserver::{proxy, refuse, standard_streams};

/// Hands standard input and output to the daemon and waits until that is done with them.
pub(crate) fn run(config: Option<&Path>, client: &str) -> Result<()> {
    let served = match socket(config, client) {
        Ok(socket) => serve(&socket),
        Err(error) => {
            refuse(stdout());
            Err(error)
        }
    };
    served.map_err(|error| dated(&error))
}

fn socket(config: Option<&Path>, client: &str) -> Result<PathBuf> {
    // As a name of a file it must not lead out of the folder.
    let client = ClientIdentity::parse(client).map_err(|error| anyhow!("bad client identity {client:?}: {error}"))?;
    let loaded = super::load(config)?;
    Ok(loaded.config.global.stdinserver_sockets.join(client.as_str()))
}

fn serve(socket: &Path) -> Result<()> {
    let (input, output) = standard_streams().context("cannot take over standard input and output")?;
    Ok(proxy(socket, input, output)?)
}

/// The client's log quotes it, where it is among lines of other programs.
fn dated(error: &Error) -> Error {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    anyhow!("{} {error:#}", now.strftime("%Y/%m/%d %H:%M:%S"))
}
