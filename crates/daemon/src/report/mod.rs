//! Readers of events: what a person, a script or a log sees. They decide nothing.

pub mod log;
mod status;
pub mod trace;
mod version;

pub(crate) use status::Summary;
pub use status::{Status, StatusFold};
pub use version::Version;
