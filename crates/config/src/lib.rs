//! From `zrepl.yml` to checked values. The only room that knows YAML.
//!
//! Every mistake of a file is reported in one go, each with file, line, column, the field's path and
//! a hint. What leaves this room needs no further checks.

pub mod duration;
pub mod types;

mod address;
mod certificates;
mod check;
mod clients;
mod decode;
mod describe;
mod diagnostic;
mod dialect;
mod document;
mod dsn;
mod effective;
mod files;
mod global;
mod grid;
mod jobs;
mod lint;
mod load;
mod patterns;
mod place;
mod scalar;
mod secrets;
mod size;
mod snapshotting;
mod source;
mod suggest;
mod transports;
mod tree;
mod values;
mod words;

pub use describe::{reference, schema};
pub use diagnostic::{Diagnostic, Errors, Location, Severity, Style};
pub use effective::{Effective, Part, Secrets};
pub use load::{control_socket, find, load, parse};
pub use types::Config;

use jiff::Timestamp;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// What is legal and probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// Certificates and keys.
    files: Vec<files::NamedFile>,
}

impl Loaded {
    /// Looks at the certificates and keys that the configuration names, as of `now`: errors for those
    /// that cannot be used, warnings for what is dangerous and for certificates that are not valid, or
    /// not for long.
    pub fn check_files(&self, now: Timestamp) -> Vec<Diagnostic> {
        files::check(&self.files, now)
    }
}
