//! Plans against the world.

pub mod snapshotting;
