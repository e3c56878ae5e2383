//! `zrepl stdinserver`: what an SSH server runs for a client.

use std::fs::File;
use std::io::{self, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::ClientIdentity;
use wire::stdinserver::{proxy, refuse};

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
    let (input, output) = give_up_standard_streams().context("cannot take over standard input and output")?;
    Ok(proxy(socket, input, output)?)
}

/// They are the daemon's. If this process kept them open too, the client would not see them closed.
fn give_up_standard_streams() -> io::Result<(OwnedFd, OwnedFd)> {
    let (input, output) = (stdin().as_fd().try_clone_to_owned()?, stdout().as_fd().try_clone_to_owned()?);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok((input, output))
}

/// The client's log quotes it, where it is among lines of other programs.
fn dated(error: &Error) -> Error {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    anyhow!("{} {error:#}", now.strftime("%Y/%m/%d %H:%M:%S"))
}
