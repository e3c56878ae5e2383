//! What passes between the two sides of a replication, and how they find each other.
//!
//! [`Endpoint`] is the service that a side offers, in terms of the model. [`local`] connects two jobs
//! of one daemon. Between two machines the bytes are those of zrepl 0.6 and 0.7: [`handshake`],
//! [`frame`] and [`pdu`] are codecs without I/O; [`transport`], [`data`] and [`control`] speak them over any
//! bytes in both directions: [`tcp`], [`tls`], [`ssh`] with [`stdinserver`]. [`listen`] serves whoever
//! arrives, [`peer`] is the way to such a listener. Two sides of this program speak more than that, see
//! [`extension`]. This crate knows nothing of ZFS or of jobs.

pub mod control;
pub mod data;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod listen;
pub mod local;
pub mod pdu;
pub mod peer;
pub mod remote;
pub mod service;
pub mod socket_file;
pub mod ssh;
pub mod stdinserver;
pub mod tcp;
pub mod tls;
pub mod transport;

pub use local::LocalNetwork;
pub use pump::ByteStream;
pub use service::{
    CallError, Connector, DestroyOutcome, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RenameAsideRequest,
    RollBackRequest, SameProcess, SendReply, SendRequest, Service,
};
