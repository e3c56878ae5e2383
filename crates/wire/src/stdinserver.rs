//! The passive side of SSH: `zrepl stdinserver` is the command that an SSH server runs for a client, and
//! hands its standard input and output to the daemon over a Unix socket named after the client.
//!
//! A client is who its forced command says it is, which the socket's name repeats. Messages and the order
//! of descriptors are zrepl's, so that a program of one version can meet a daemon of another.

mod acceptor;
mod connection;
mod descriptors;
mod proxy;

#[cfg(test)]
mod tests;

pub use acceptor::StdinAcceptor;
pub use proxy::{ProxyError, proxy, refuse, standard_streams};

/// Length of each of the texts below on the wire: filled up with zeros.
pub(crate) const GREETING_LENGTH: usize = 31;

/// From the daemon, once it has the descriptors.
pub(crate) const HELLO: [u8; GREETING_LENGTH] = greeting(b"SSHCON_HELO");

/// From the client, in answer; what follows is the protocol's.
pub(crate) const BEGIN: [u8; GREETING_LENGTH] = greeting(b"SSHCON_BEGIN");

/// From `zrepl stdinserver`, which could not hand its descriptors over.
pub(crate) const PROXY_ERROR: [u8; GREETING_LENGTH] = greeting(b"SSHCON_PROXY_ERROR");

#[allow(clippy::indexing_slicing, reason = "at compile time, where a text that is too long does not compile")]
const fn greeting(text: &[u8]) -> [u8; GREETING_LENGTH] {
    let (mut padded, mut at) = ([0; GREETING_LENGTH], 0);
    while at < text.len() {
        padded[at] = text[at];
        at += 1;
    }
    padded
}
