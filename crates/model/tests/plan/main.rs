//! The decisions, as tables: views in, plans out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod cron;
mod diff;
mod grid;
mod grid_properties;
mod naming;
mod notation;
mod properties;
mod protection;
mod pruning;
mod replication;
mod resolve;
mod schedule;
mod simulate;
mod verdicts;
