//! The planners over a large host, as `cargo bench` measures them.

use anyhow::{Result, bail};

use crate::cargo::cargo;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let mut command = cargo(["bench", "--quiet", "--package", "model", "--bench", "plan", "--"]);
    match crate::children::run(command.args(arguments))?.success() {
        true => Ok(()),
        false => bail!("the measurement failed"),
    }
}
