//! The planners over a large host, as `cargo bench` measures them, and a plan of the whole program for
//! one filesystem that has fallen far behind.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::daemon::build;
use super::stand_in::{SMALL, Scale, StandIn};
use crate::cargo::cargo;
use crate::children::Scratch;

/// The receiver has the first of 65,000 snapshots.
const CATCH_UP: Scale = Scale { filesystems: 1, snapshots: 1, increments: 64_999, bytes: SMALL };

/// What is aimed at for it, listings included.
const AIM_SECONDS: f64 = 10.0;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let mut command = cargo(["bench", "--quiet", "--package", "model", "--bench", "plan", "--"]);
    if !crate::children::run(command.args(arguments))?.success() {
        bail!("the measurement failed");
    }
    catch_up()
}

/// Lists both sides through the stand-in and plans, in a process of its own.
fn catch_up() -> Result<()> {
    let zrepl = build()?;
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    let host = StandIn::new(scratch.path(), CATCH_UP)?;
    let mut command = Command::new(&zrepl);
    command.arg("--config").arg(host.config(1)?).args(["plan", "--no-estimate", "--format", "json", host.push_job()]);
    let start = Instant::now();
    let output = host.equip(&mut command).stdin(Stdio::null()).output().context("starting zrepl plan")?;
    let wall = start.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("zrepl plan failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).context("the output of zrepl plan")?;
    let (steps, processes) = (count(&plan, "to"), host.processes()?.len());
    if steps < CATCH_UP.increments {
        bail!("the plan has {steps} steps instead of {}", CATCH_UP.increments);
    }
    println!(
        "a catch-up over {steps} snapshots: {wall:.2} s with its listings (aim {AIM_SECONDS} s), {processes} processes"
    );
    Ok(())
}

/// How often a key occurs, at any depth.
fn count(value: &serde_json::Value, key: &str) -> usize {
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| usize::from(name == key) + count(value, key)).sum()
        }
        serde_json::Value::Array(items) => items.iter().map(|item| count(item, key)).sum(),
        _ => 0,
    }
}
