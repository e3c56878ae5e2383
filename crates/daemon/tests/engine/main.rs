//! The engine and both endpoints on pools in memory.

mod crashes;
mod endpoints;
mod placeholders;
mod pruning;
mod replication;
mod retries;
mod world;
