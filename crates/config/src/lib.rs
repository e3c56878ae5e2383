//! From `zrepl.yml` to checked values. The only room that knows YAML.
//!
//! Every mistake of a file is reported in one go, each with file, line, column, the field's path and
//! a hint. What leaves this room needs no further checks.

pub mod types;

mod check;
mod decode;
mod diagnostic;
mod document;
mod duration;
mod jobs;
mod load;
mod patterns;
mod scalar;
mod source;
mod suggest;
mod tree;
mod values;

pub use diagnostic::{Diagnostic, Errors, Location, Severity, Style};
pub use load::{find, load, parse};
pub use types::Config;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// What is legal and probably not meant.
    pub warnings: Vec<Diagnostic>,
}
