//! Tells the crate which compiler builds it, for `zrepl version`.

use std::process::Command;

fn main() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let version = output.split_whitespace().nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=ZREPL_RUSTC_VERSION=rust{version}");
    println!("cargo::rerun-if-changed=build.rs");
}
