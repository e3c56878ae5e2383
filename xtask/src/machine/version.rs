//! Which OpenZFS versions there are test machines for. Adding one is one entry of [`VERSIONS`].

use anyhow::{Result, bail};

/// One of Debian's package archives, by the label that apt shows for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    /// The archive itself.
    Debian,
    /// Security updates. Unstable has none.
    Security,
}

impl Archive {
    /// `Label:` in the archive's Release files.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Archive::Debian => "Debian",
            Archive::Security => "Debian-Security",
        }
    }
}

/// One suite of an archive that packages are taken from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) archive: Archive,
    pub(crate) suite: &'static str,
    /// Whether the machine is built all the same if this machine's apt knows no such archive.
    pub(crate) optional: bool,
}

const fn debian(suite: &'static str) -> Source {
    Source { archive: Archive::Debian, suite, optional: false }
}

const fn security(suite: &'static str) -> Source {
    Source { archive: Archive::Security, suite, optional: true }
}

/// A test machine: a Debian suite's kernel sources, OpenZFS and userland.
#[derive(Debug)]
pub(crate) struct OpenZfs {
    /// Its name on our command line and in the cache: the OpenZFS release series.
    pub(crate) id: &'static str,
    /// All suites that packages may come from. Those for a suite with backports are the suite's
    /// own and the backports.
    pub(crate) sources: &'static [Source],
    /// The suite to prefer where several have a package (backports are never preferred else).
    pub(crate) prefer: Option<&'static str>,
    /// Package with the kernel's sources: a version that this OpenZFS supports.
    pub(crate) linux: &'static str,
    /// Package with the sources of the OpenZFS kernel module.
    pub(crate) module: &'static str,
}

/// Every version; the first is the default.
pub(crate) const VERSIONS: &[OpenZfs] = &[OpenZfs {
    id: "2.3",
    sources: &[debian("trixie"), debian("trixie-updates"), security("trixie-security")],
    prefer: None,
    linux: "linux-source-6.12",
    module: "zfs-dkms",
}];

/// The version called `id`, or the default.
pub(crate) fn version(id: Option<&str>) -> Result<&'static OpenZfs> {
    let found = match id {
        Some(id) => VERSIONS.iter().find(|version| version.id == id),
        None => VERSIONS.first(),
    };
    let Some(found) = found else {
        let known: Vec<_> = VERSIONS.iter().map(|version| version.id).collect();
        bail!("no test machine for OpenZFS {}; known: {}", id.unwrap_or("-"), known.join(", "));
    };
    Ok(found)
}
