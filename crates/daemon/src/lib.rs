//! The daemon: jobs that decide when, act on plans, and report what happened as events.
//!
//! Async lives here. Decisions are the model's, ZFS is behind `zfs::Zfs`, the other side behind
//! `wire::Endpoint`; time and events come through the handles of [`clock`] and [`events`], so that a
//! simulation can own them.

pub mod act;
pub mod clock;
pub mod endpoint;
pub mod events;
pub mod limits;
