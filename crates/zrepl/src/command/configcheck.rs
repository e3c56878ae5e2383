//! `zrepl configcheck`

use std::path::Path;

use anyhow::Result;

/// Silent if the configuration can be used, but for warnings.
pub(crate) fn run(config: Option<&Path>) -> Result<()> {
    super::warn(&super::load(config)?.warnings);
    Ok(())
}
