//! The workspace, and cargo as a child process.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo, in the workspace's folder: the same toolchain as the one that runs us.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let output = cargo(["metadata", "--format-version=1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("output of cargo metadata")?;
    let path = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(path.context("cargo metadata names no target directory")?.into())
}

/// How a program finds the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// Loaded at start, as shipped.
    Dynamic,
    /// Inside the program: it runs where the C library is older than the one it was built with.
    Static,
}

/// Builds `packages` (each with one program of the same name) and returns the programs' folder.
pub(crate) fn build_programs(packages: &[&str], linkage: Linkage) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo(["build", "--quiet"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let mut folder = target_directory()?;
    if linkage == Linkage::Static {
        command.args(["--target", &triple]);
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
        folder.push(&triple);
    }
    let status = crate::children::run(&mut command).context("cargo build")?;
    if !status.success() {
        bail!("building {} failed", packages.join(", "));
    }
    Ok(folder.join("debug"))
}
