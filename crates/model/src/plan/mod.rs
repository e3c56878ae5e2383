//! Decisions: pure functions from a view to a plan in which every action has its reason.

pub mod prune;
pub mod replication;
pub mod snapshot;
