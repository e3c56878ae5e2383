//! The side of `zrepl stdinserver`: gives its descriptors away and waits for the end.

use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use thiserror::Error;

use super::{PROXY_ERROR, descriptors};

/// Why a client is not served.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// Nobody listens for this client.
    #[error(
        "cannot connect to the daemon at {}: {source} (does the daemon run, may this account use the socket, and is the \
         identity among the `client_identities` of a job?)",
        socket.display()
    )]
    NoDaemon {
        /// Where it should be.
        socket: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The daemon could not be given the descriptors.
    #[error("cannot hand the connection to the daemon at {}: {source}", socket.display())]
    NotHandedOver {
        /// Where it is.
        socket: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The daemon ended, or refused the client; its log says why.
    #[error("the daemon at {} ended the connection before it was done (its log says why)", socket.display())]
    Ended {
        /// Where it is.
        socket: PathBuf,
    },
}

/// Hands `input` and `output` to the daemon that listens at `socket`, and waits until it has no more use for
/// them. Nobody else should have them open: what the daemon closes would stay open for the client.
///
/// # Errors
/// See [`ProxyError`]. The client has been told as far as that was possible.
pub fn proxy(socket: &Path, input: OwnedFd, output: OwnedFd) -> Result<(), ProxyError> {
    let daemon = match UnixStream::connect(socket) {
        Ok(daemon) => daemon,
        Err(source) => {
            refuse(&output);
            return Err(ProxyError::NoDaemon { socket: socket.to_owned(), source });
        }
    };
    if let Err(source) = hand_over(&daemon, &input, &output) {
        refuse(&output);
        return Err(ProxyError::NotHandedOver { socket: socket.to_owned(), source });
    }
    drop((input, output));
    match (&daemon).read(&mut [0]) {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) => Err(ProxyError::Ended { socket: socket.to_owned() }),
    }
}

/// Takes standard input and output from this process, for [`proxy`]. What reads or writes there afterwards
/// finds nothing.
///
/// # Errors
/// The system's.
pub fn standard_streams() -> io::Result<(OwnedFd, OwnedFd)> {
    let (input, output) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok((input, output))
}

fn hand_over(daemon: &UnixStream, input: &OwnedFd, output: &OwnedFd) -> io::Result<()> {
    // A daemon of zrepl leaves that to this side.
    for descriptor in [input, output] {
        fcntl_setfl(descriptor, fcntl_getfl(descriptor)? | OFlags::NONBLOCK)?;
    }
    descriptors::send(daemon, input.as_fd(), output.as_fd())?;
    daemon.shutdown(Shutdown::Write)
}

/// Tells the client that the mistake is on this side. What it is stands on standard error.
pub fn refuse(output: impl AsFd) {
    // If it cannot be told, it finds the connection closed.
    let _ = rustix::io::write(output, &PROXY_ERROR);
}
