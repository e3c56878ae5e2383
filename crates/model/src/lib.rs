//! The vocabulary and the thinking of zrepl: names, versions, protections, decisions.
//!
//! Nothing here reads a clock, touches a file or a socket, or knows what `zfs(8)` prints. A fact of
//! the world enters as a value (a *view*), a decision leaves as a value (a *plan*) in which every
//! action carries its reason. All functions are total: they fail only on bad names or values.

pub mod abstraction;
pub mod aside;
pub mod diff;
pub mod event;
pub mod filter;
pub mod migration;
pub mod name;
pub mod naming;
pub mod plan;
pub mod protection;
pub mod retry;
pub mod schedule;
pub mod simulate;
pub mod version;
pub mod view;

pub use filter::FilesystemFilter;
pub use name::{ClientIdentity, DatasetName, HoldTag, JobName, NameError, PropertyName, VersionName};
pub use retry::RetryClass;
pub use version::{CreateTxg, Guid, UnixTime, Version, VersionKind, VersionRef};
