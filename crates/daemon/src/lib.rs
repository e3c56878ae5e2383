//! The daemon: jobs that decide when, act on plans, and report what happened as events.
//!
//! Async lives here. Decisions are the model's, ZFS is behind `zfs::Zfs`, the other side behind
//! `wire::Endpoint`; time and events come through the handles of [`clock`] and [`events`], so that a
//! simulation can own them.

pub mod abstractions;
pub mod act;
pub mod bandwidth;
pub mod clock;
pub mod control;
mod daemon;
mod dispatch;
mod drain;
pub mod endpoint;
pub mod events;
pub mod hooks;
mod http;
mod isolate;
mod job;
pub mod limits;
pub mod migrate;
mod monitoring;
mod not_yet;
pub mod preview;
mod reload;
pub mod report;
mod services;
pub mod signals;
mod startup;
mod tasks;
pub mod tuning;

pub use daemon::{Daemon, LoadConfig, LostLines, Reread, StartError, StillRunning, World, WrapConnector, WrapZfs};
pub use dispatch::{Operation, SignalError};
pub use drain::{Drain, UnderWay};
pub use reload::{ReloadAnswer, ReloadError, Reloaded};
pub use services::ServiceLost;

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
