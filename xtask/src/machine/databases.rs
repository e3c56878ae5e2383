//! Database servers of this machine's own Debian release, for the tests of hooks.

use super::apt::HostApt;
use super::build::cache;
use super::progress::{Progress, checked};
use crate::children::Scratch;
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Where the servers are unpacked, in the layout of a root folder, with the libraries they need.
pub(crate) struct Databases {
    folder: Scratch,
}

impl Databases {
    /// Fetches what is not in the cache, and unpacks it where an unprivileged user can read it: root's
    /// cache may be closed to others, and PostgreSQL does not run as root.
    pub(crate) fn unpack() -> Result<Databases> {
        let packages = cache()?.with_file_name("databases");
        fetch(&packages)?;
        let folder = Scratch::new(&std::env::temp_dir(), "zrepl-databases-")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).context("opening a folder to others")?;
        for entry in fs::read_dir(&packages).with_context(|| packages.display().to_string())? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                let mut unpack = Command::new("dpkg-deb");
                unpack.arg("--extract").arg(&package).arg(folder.path());
                checked(&mut unpack, &packages.join("dpkg.log"))?;
            }
        }
        Ok(Databases { folder })
    }

    /// The root folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Fetches the packages, unless an earlier run has done so to its end.
fn fetch(packages: &Path) -> Result<()> {
    let complete = packages.join("complete");
    if complete.exists() {
        return Ok(());
    }
    let progress = Progress::start("databases".to_owned());
    fs::create_dir_all(packages.join("partial")).with_context(|| packages.display().to_string())?;
    let host = HostApt::new(packages, &progress)?;
    progress.step("fetching PostgreSQL and MariaDB");
    let postgres = host.dependency("postgresql", "postgresql-")?;
    host.download_missing(&[&postgres, "mariadb-server-core"], packages)?;
    fs::write(&complete, "").with_context(|| complete.display().to_string())
}
