//! Whether programs built here run in a guest, whose C library may be older than ours.

use super::guest::Machine;
use crate::cargo::Linkage;
use anyhow::{Context as _, Result};
use std::process::Command;

/// How to link programs for `machine`: as shipped if its C library is as new as ours.
pub(crate) fn linkage_for(machine: &Machine) -> Result<Linkage> {
    let versions = machine.root.with_file_name("versions");
    let packages = std::fs::read_to_string(&versions).with_context(|| format!("reading {}", versions.display()))?;
    let guest = packages.lines().find_map(|line| release(line.strip_prefix("libc6_")?));
    let guest = guest.with_context(|| format!("no libc6 in {}", versions.display()))?;
    let output = crate::children::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = release(text.trim().trim_start_matches("glibc "));
    Ok(choose(host, guest))
}

/// Without a glibc of our own (musl), programs are static anyway.
fn choose(host: Option<(u32, u32)>, guest: (u32, u32)) -> Linkage {
    if host.is_some_and(|host| host > guest) { Linkage::Static } else { Linkage::Dynamic }
}

/// `2.41` of `2.41-12_amd64.deb`.
fn release(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_static_only_if_the_guest_is_older() {
        assert_eq!(release("2.41-12+deb13u1_amd64.deb"), Some((2, 41)));
        assert_eq!(choose(release("2.36"), (2, 41)), Linkage::Dynamic);
        assert_eq!(choose(release("2.41"), (2, 41)), Linkage::Dynamic);
        assert_eq!(choose(release("2.42"), (2, 41)), Linkage::Static);
        assert_eq!(choose(None, (2, 41)), Linkage::Dynamic);
    }
}
