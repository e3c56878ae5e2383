//! The two halves of a replication as services: what a sender and a receiver do when asked.
//!
//! An endpoint acts on one pool's side. It believes nothing of what a caller says about it: access,
//! policy and guids are checked here. It decides nothing about what should be replicated or pruned.

mod abandoned;
mod batch;
mod destroy;
mod head;
mod locks;
mod passing;
mod protect;
mod receiver;
mod replace;
mod resolve;
mod sender;
mod sink;
mod source;
mod streams;
mod table;
mod view;

pub use abandoned::ConfiguredJobs;
pub use receiver::{Receiver, ReceiverConfig};
pub use sender::{SendPolicy, Sender, SenderConfig};
pub use sink::Sink;
pub use source::Source;

use model::RetryClass;
use wire::CallError;

/// A failed ZFS operation as the answer to a call.
fn refused(error: &zfs::Error) -> CallError {
    CallError::Refused { class: error.class(), message: error.to_string() }
}

/// An answer that needs a person.
fn needs_person(message: impl ToString) -> CallError {
    CallError::Refused { class: RetryClass::NeedsPerson, message: message.to_string() }
}
