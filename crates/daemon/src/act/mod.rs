//! Carries plans out against ZFS and the other side.

mod attempt;
mod back_off;
mod connection;
mod execute;
mod invocation;
mod looked;
mod pruning;
mod resolve;
mod sides;
pub mod snapshotting;
mod step;
mod tally;
mod watch;
mod work;

pub use invocation::{Invocation, LocalInvocation, prune_local, replicate_and_prune};
pub(crate) use pruning::{local_views, receiver_views, sender_views};
pub use watch::Patience;
