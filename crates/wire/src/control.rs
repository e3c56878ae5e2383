//! The control connection: gRPC over HTTP/2, seven unary methods of the service `Replication`, and those of
//! `zr2.Replication` between two sides that have agreed on them.
//!
//! [`client`] offers a peer as an [`Endpoint`](crate::Endpoint); [`server`] offers an endpoint to a peer.

mod answer;
pub mod authority;
pub mod client;
mod message;
pub mod server;

pub use client::{Remote, Role};
pub use server::{Notice, TooLong, serve};

use std::time::Duration;

/// Longest message that a zrepl peer accepts, and longest request that is read, bytes.
const MAX_REQUEST: usize = 4 << 20;

/// Longest response that is read, bytes: the versions of a filesystem with a million of them.
const MAX_RESPONSE: usize = 64 << 20;

/// Longest part of a listing that is read, bytes. They have a quarter of a MiB, and an entry more.
const MAX_PART: usize = 4 << 20;

/// Silence after which a client asks whether its peer still lives. zrepl's servers object to less than
/// 2.5 s.
const CLIENT_PING: Duration = Duration::from_secs(10);

/// The same of a server.
const SERVER_PING: Duration = Duration::from_secs(5);

/// How long an answer to that question may take.
const PING_ANSWER: Duration = Duration::from_secs(10);

/// The header with the word for an error.
const ERROR_WORD: &str = "zr2-error";

/// Methods beyond those of zrepl.
mod method {
    pub(super) const SERVICE: &str = "/zr2.Replication/";
    pub(super) const LIST: &str = "/zr2.Replication/List";
    pub(super) const CONFIRM: &str = "/zr2.Replication/ConfirmReceived";
    pub(super) const ROLL_BACK: &str = "/zr2.Replication/RollBack";
    pub(super) const RENAME_ASIDE: &str = "/zr2.Replication/RenameAside";
    pub(super) const DESTROY: &str = "/zr2.Replication/DestroySnapshots";
}

#[cfg(test)]
mod agreed_tests;
#[cfg(test)]
mod tests;
