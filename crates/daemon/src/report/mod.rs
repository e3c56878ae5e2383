//! Readers of events: what a person, a script or a log sees. They decide nothing.

mod ages;
pub mod log;
mod metrics;
mod movement;
mod status;
pub mod trace;
mod version;

pub(crate) use metrics::label_name;
pub use metrics::{Live, Metrics};
pub use status::{Status, StatusFold, Summary};
pub use version::Version;
