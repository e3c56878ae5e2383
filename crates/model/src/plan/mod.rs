//! Decisions: pure functions from a view to a plan in which every action has its reason.

pub mod endangered;
mod explain;
pub mod protection;
pub mod prune;
pub mod replication;
pub mod resolve;
mod resume;
pub mod snapshot;
