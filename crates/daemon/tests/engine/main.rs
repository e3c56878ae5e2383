//! The engine and both endpoints on pools in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod again;
mod conflicts;
mod crashes;
mod cuts;
mod endpoints;
mod hangs;
mod isolation;
mod order;
mod peers;
mod placeholders;
mod polled;
mod pruning;
mod replication;
mod resets;
mod retries;
mod world;
