//! Whole daemons on pools in memory: jobs, snapshotter, control socket, stop.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod abandoned;
mod calendar;
mod clocks;
mod control;
mod deeds;
mod draining;
mod hooks;
mod jobs;
mod metrics;
mod preview;
mod pulling;
mod reload;
mod requests;
mod services;
mod snapshots;
mod world;
