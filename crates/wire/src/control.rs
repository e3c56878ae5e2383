//! The control connection: gRPC over HTTP/2, seven unary methods of the service `Replication`.
//!
//! [`client`] offers a peer as an [`Endpoint`](crate::Endpoint); [`server`] offers an endpoint to a peer.

pub mod authority;
pub mod client;
pub mod server;

pub use client::{Remote, Role};
pub use server::serve;

use std::time::Duration;

/// Longest message that a zrepl peer accepts, and longest request that is read, bytes.
const MAX_REQUEST: usize = 4 << 20;

/// Longest response that is read, bytes: the versions of a filesystem with a million of them.
const MAX_RESPONSE: usize = 64 << 20;

/// Silence after which a client asks whether its peer still lives. zrepl's servers object to less than
/// 2.5 s.
const CLIENT_PING: Duration = Duration::from_secs(10);

/// The same of a server.
const SERVER_PING: Duration = Duration::from_secs(5);

/// How long an answer to that question may take.
const PING_ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
