//! Where we keep what takes long to make.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The cache folder of one purpose, which may not exist yet.
pub(crate) fn folder(purpose: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => std::env::home_dir().context("no home folder: set HOME or XDG_CACHE_HOME")?.join(".cache"),
    };
    Ok(std::path::absolute(folder)?.join("zrepl-dev").join(purpose))
}
