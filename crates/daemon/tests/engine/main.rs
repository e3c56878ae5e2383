//! The engine and both endpoints on pools in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod crashes;
mod endpoints;
mod placeholders;
mod pruning;
mod replication;
mod retries;
mod world;
