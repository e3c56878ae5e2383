//! `zrepl configcheck`

use std::path::Path;

use anyhow::{Result, bail};

/// Silent if the configuration can be used, but for warnings, which fail a `strict` check.
pub(crate) fn run(config: Option<&Path>, strict: bool) -> Result<()> {
    let warnings = super::load(config)?.warnings;
    super::warn(&warnings);
    match (strict, warnings.len()) {
        (true, 1) => bail!("1 warning, which a strict check does not let pass"),
        (true, 2..) => bail!("{} warnings, which a strict check does not let pass", warnings.len()),
        _ => Ok(()),
    }
}
