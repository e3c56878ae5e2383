//! Readers of events: what a person, a script or a log sees. They decide nothing.

pub mod log;
mod status;
mod version;

pub use status::{Status, StatusFold, Summary};
pub use version::Version;
