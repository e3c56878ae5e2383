//! Carries plans out against ZFS and the other side.

mod invocation;
pub mod snapshotting;

pub use invocation::{Invocation, LocalInvocation, prune_local, replicate_and_prune};
