//! Programs that the build of a test machine runs on this machine.
//!
//! A compiler and the like must be installed; small build tools are unpacked privately when they
//! are missing, from this machine's own release (they are linked against its C library).

use super::apt::HostApt;
use super::progress::Progress;
use anyhow::{Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Command and the package that brings it.
const INSTALLED: [(&str, &str); 12] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("gcc", "gcc"),
    ("make", "make"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("ar", "binutils"),
    ("tar", "tar"),
    ("perl", "perl-base"),
    ("ldconfig", "libc-bin"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Commands with the packages to unpack for them.
const UNPACKED: [(&str, &[&str]); 4] = [
    ("m4", &["m4", "libsigsegv2"]),
    ("flex", &["flex"]),
    ("bison", &["bison"]),
    ("mksquashfs", &["squashfs-tools", "liblzo2-2"]),
];

/// For the kernel's objtool, which only an x86 kernel has.
const OBJTOOL: [&str; 4] = ["libelf-dev", "libelf1", "zlib1g-dev", "zlib1g"];

/// Where the build's programs are.
pub(crate) struct Tools {
    environment: Vec<(&'static str, OsString)>,
    prefix: PathBuf,
}

impl Tools {
    /// Unpacks what is missing below `work`.
    pub(crate) fn new(host: &HostApt, work: &Path, progress: &Progress) -> Result<Self> {
        let prefix = work.join("tools");
        let missing: Vec<&str> = UNPACKED
            .iter()
            .filter(|(command, _)| find(command).is_none())
            .flat_map(|(_, packages)| packages.iter().copied())
            .collect();
        if !missing.is_empty() {
            progress.step(&format!("unpacking {} for the build", missing.join(", ")));
            host.unpack(&missing, &work.join("tool-packages"), &prefix)?;
        }
        let bin = prefix.join("usr/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut environment = vec![
            ("PATH", joined([bin.clone()].into_iter().chain(std::env::split_paths(&path)))),
            ("LD_LIBRARY_PATH", library_path(&prefix)),
        ];
        if bin.join("m4").exists() {
            environment.push(("M4", bin.join("m4").into()));
        }
        if bin.join("bison").exists() {
            environment.push(("BISON_PKGDATADIR", prefix.join("usr/share/bison").into()));
        }
        Ok(Self { environment, prefix })
    }

    /// Adds what objtool is compiled against, if this machine lacks it.
    pub(crate) fn add_objtool(&mut self, host: &HostApt, work: &Path) -> Result<()> {
        if Path::new("/usr/include/gelf.h").exists() {
            return Ok(());
        }
        let packages: Vec<&str> = OBJTOOL.into_iter().collect();
        host.unpack(&packages, &work.join("tool-packages"), &self.prefix)?;
        self.environment.push(("C_INCLUDE_PATH", self.prefix.join("usr/include").into()));
        self.environment.push(("LIBRARY_PATH", library_path(&self.prefix)));
        Ok(())
    }

    /// A command that finds the tools.
    pub(crate) fn command(&self, program: &str) -> Command {
        let own = self.prefix.join("usr/bin").join(program);
        let mut command = if own.exists() { Command::new(own) } else { Command::new(program_path(program)) };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn library_path(prefix: &Path) -> OsString {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let present = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let own = ["usr/lib", "lib"].map(|folder| prefix.join(folder).join(&triple));
    joined(own.into_iter().chain(std::env::split_paths(&present).filter(|path| path != "")))
}

fn joined(paths: impl Iterator<Item = PathBuf>) -> OsString {
    // Fails only for a path with a colon, which no element of a search path has.
    std::env::join_paths(paths).unwrap_or_default()
}

/// Where `program` is, in PATH or among the administrator's programs, which an ordinary user's
/// PATH lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn program_path(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| program.into())
}

/// Sees to it that everything is there that must be installed: root gets it installed, others are
/// told how.
pub(crate) fn require_installed() -> Result<()> {
    let missing: Vec<_> = INSTALLED.iter().filter(|(command, _)| find(command).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let names: Vec<&str> = missing.iter().map(|(command, _)| *command).collect();
    let (names, packages_text) = (names.join(", "), packages.join(" "));
    let can_install = rustix::process::geteuid().is_root() && find("apt-get").is_some();
    if !can_install {
        bail!("missing on this machine: {names}; run `sudo apt-get install {packages_text}`");
    }
    eprintln!("missing on this machine: {names}; running `apt-get install {packages_text}`");
    if install(&packages).is_err() {
        apt_get(&["update"])?;
        install(&packages)?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    // Making room by removing what somebody else installed is not ours to decide.
    let mut arguments = vec!["install", "--yes", "--no-remove", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    let status = crate::children::run(&mut command)?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }
}
