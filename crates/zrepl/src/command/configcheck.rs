//! `zrepl configcheck`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result};

/// Silent if the configuration can be used, but for warnings.
pub(crate) fn run(config: Option<&Path>) -> Result<()> {
    super::warn(&super::load(config)?.warnings);
    Ok(())
}

/// Prints the schema for editors, whatever the configuration is like.
pub(crate) fn schema() -> Result<()> {
    stdout().write_all(config::schema().as_bytes()).context("cannot write to standard output")
}
