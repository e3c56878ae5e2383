//! QEMU, unpacked with everything it needs down to the C library: it runs on any host and nothing
//! is installed there. This file is part of the cache key.

use super::apt::{file_name, write};
use super::build::Site;
use super::progress::checked;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

const PACKAGE: &str = "qemu-system-x86";

/// The program within the unpacked folder.
pub(super) const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

/// Unpacks QEMU into `out`.
pub(super) fn build(site: &Site<'_>, out: &Path) -> Result<()> {
    site.progress.step("fetching QEMU");
    let packages = site.apt.download_with_dependencies(&[PACKAGE])?;
    site.progress.step("unpacking QEMU");
    let log = site.work.join("emulator.log");
    for package in &packages {
        let mut unpack = Command::new("dpkg-deb");
        checked(unpack.arg("--extract").arg(package).arg(out), &log)?;
    }
    for unread in ["usr/share/doc", "usr/share/man", "usr/share/locale"] {
        // Only to save space, and some packages bring none.
        let _ = std::fs::remove_dir_all(out.join(unread));
    }
    let versions: Vec<String> = packages.iter().map(|file| file_name(file)).collect();
    write(&out.join("versions"), &(versions.join("\n") + "\n"))
}

/// The command that runs the QEMU unpacked in `folder`, with its own loader and libraries.
pub(super) fn command(folder: &Path) -> Command {
    let below = |path: &str| folder.join(path).display().to_string();
    let loader = ["lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"]
        .map(|path| folder.join(path))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| folder.join("lib64/ld-linux-x86-64.so.2"));
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(below).join(":");
    let mut command = Command::new(loader);
    command.args(["--library-path", &libraries, &below(PROGRAM)]);
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.args(["-L", &below(data)]);
    }
    command.env("QEMU_MODULE_DIR", below("usr/lib/x86_64-linux-gnu/qemu"));
    command
}
