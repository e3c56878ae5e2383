//! From `zrepl.yml` to checked values. The only room that knows YAML.
//!
//! Every mistake of a file is reported in one go, each with file, line, column, the field's path and
//! a hint. What leaves this room needs no further checks.

pub mod types;

mod diagnostic;
mod source;

use std::path::Path;
use std::sync::Arc;

pub use diagnostic::{Diagnostic, Errors, Location, Severity, Style};
pub use types::Config;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// What is legal and probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the configuration: `path` if given, else the first default location that exists.
///
/// # Errors
/// All mistakes of all files at once, with the warnings that there were.
pub fn load(path: Option<&Path>) -> Result<Loaded, Errors> {
    let shown = path.unwrap_or(Path::new("/etc/zrepl/zrepl.yml")).display().to_string();
    Err(Errors::one(Diagnostic::error(format!("cannot read {shown}: the reader is not connected yet"))))
}

/// Reads a configuration from memory; `source_name` stands for the file's name in messages.
///
/// # Errors
/// All mistakes at once, with the warnings that there were.
pub fn parse(source_name: &str, text: &str) -> Result<Loaded, Errors> {
    let source = Arc::new(source::Source::new(source_name, text));
    Err(Errors::one(Diagnostic::error("the reader is not connected yet").in_file(&source)))
}
