//! A kernel with OpenZFS compiled in. This file is part of the cache key: a change rebuilds.

use super::apt::{file_name, write};
use super::build::Site;
use super::progress::checked;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COMMON: &str = include_str!("../../machine/common.config");

/// What runs the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// An ordinary program of this machine: user-mode Linux.
    UserMode,
    /// A stock x86 kernel for QEMU.
    Qemu,
}

impl Kernel {
    /// Linux's name of the architecture.
    fn arch(self) -> &'static str {
        match self {
            Kernel::UserMode => "um",
            Kernel::Qemu => "x86",
        }
    }

    /// The options it is built with.
    pub(crate) fn fragment(self) -> String {
        let own = match self {
            Kernel::UserMode => include_str!("../../machine/uml.config"),
            Kernel::Qemu => include_str!("../../machine/qemu.config"),
        };
        format!("{COMMON}{own}")
    }

    /// The name of the built file.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Kernel::UserMode => "linux",
            Kernel::Qemu => "bzImage",
        }
    }

    /// Where the built file is in the kernel's tree.
    fn built(self) -> &'static str {
        match self {
            Kernel::UserMode => "linux",
            Kernel::Qemu => "arch/x86/boot/bzImage",
        }
    }
}

/// Builds the kernel into `out`.
pub(crate) fn build(site: &Site<'_>, kernel: Kernel, out: &Path) -> Result<()> {
    let tree = Tree::unpack(site, kernel)?;
    tree.configure()?;
    site.progress.step("configuring OpenZFS (about a minute)");
    tree.add_openzfs()?;
    site.progress.step("compiling (about ten processor minutes)");
    tree.make(&[kernel.file()])?;
    let file = out.join(kernel.file());
    fs::copy(tree.linux.join(kernel.built()), &file).context("copying the kernel")?;
    if kernel == Kernel::UserMode {
        checked(Command::new("strip").arg(&file), &tree.log)?;
    }
    write(&out.join("versions"), &format!("{}\n{}\n", tree.linux_package, tree.openzfs_package))
}

/// Unpacked sources.
struct Tree<'a> {
    site: &'a Site<'a>,
    kernel: Kernel,
    linux: PathBuf,
    openzfs: PathBuf,
    linux_package: String,
    openzfs_package: String,
    log: PathBuf,
}

impl<'a> Tree<'a> {
    fn unpack(site: &'a Site<'a>, kernel: Kernel) -> Result<Self> {
        let version = site.version;
        site.progress.step("fetching sources");
        let linux_package = site.apt.download(version.linux)?;
        let openzfs_package = site.apt.download(version.module)?;
        site.progress.step("unpacking and configuring the kernel");
        let log = site.work.join("kernel.log");
        let (unpacked, linux) = (site.work.join("sources"), site.work.join("linux"));
        fs::create_dir_all(&linux).context("making the kernel's tree")?;
        for package in [&linux_package, &openzfs_package] {
            let mut command = Command::new("dpkg-deb");
            checked(command.arg("--extract").arg(package).arg(&unpacked), &log)?;
        }
        let sources = unpacked.join("usr/src");
        let mut untar = Command::new("tar");
        untar.arg("--extract").arg("--file").arg(sources.join(format!("{}.tar.xz", version.linux)));
        untar.arg("--directory").arg(&linux).arg("--strip-components=1");
        checked(&mut untar, &log)?;
        Ok(Self {
            site,
            kernel,
            linux,
            openzfs: openzfs_sources(&sources)?,
            linux_package: file_name(&linux_package),
            openzfs_package: file_name(&openzfs_package),
            log,
        })
    }

    /// Writes the configuration, and what OpenZFS's own configuration looks at.
    fn configure(&self) -> Result<()> {
        write(&self.fragment(), &self.kernel.fragment())?;
        self.choose_options()?;
        self.make(&["prepare", "modules_prepare"])
    }

    fn fragment(&self) -> PathBuf {
        self.site.work.join("kernel.config")
    }

    fn choose_options(&self) -> Result<()> {
        let fragment = format!("KCONFIG_ALLCONFIG={}", self.fragment().display());
        self.make(&["allnoconfig", &fragment])
    }

    /// Makes OpenZFS a part of the kernel's tree.
    fn add_openzfs(&self) -> Result<()> {
        let with = |option| format!("--with-{option}={}", self.linux.display());
        let mut configure = self.command("./configure");
        configure
            .args(["--disable-dependency-tracking", "--with-config=kernel"])
            .args(["--enable-linux-builtin", &with("linux"), &with("linux-obj")])
            .env("TEST_JOBS", self.site.jobs.to_string())
            .current_dir(&self.openzfs);
        checked(&mut configure, &self.log).context("configuring OpenZFS")?;
        let mut copy = self.command("./copy-builtin");
        checked(copy.arg(&self.linux).current_dir(&self.openzfs), &self.log)?;
        // Debian's package lacks the rule that makes this header.
        let revision = format!("#define ZFS_META_GITREV \"{}\"\n", self.openzfs_package);
        write(&self.linux.join("include/zfs/zfs_gitrev.h"), &revision)?;
        self.choose_options()?;
        let chosen = fs::read_to_string(self.linux.join(".config")).context("kernel .config")?;
        if !chosen.lines().any(|line| line == "CONFIG_ZFS=y") {
            bail!("{} has no place for OpenZFS in this configuration", self.linux_package);
        }
        Ok(())
    }

    fn make(&self, targets: &[&str]) -> Result<()> {
        let mut command = self.command("make");
        command.arg("--directory").arg(&self.linux).arg(format!("--jobs={}", self.site.jobs));
        checked(command.args(targets), &self.log).with_context(|| format!("make {}", targets.join(" ")))
    }

    /// A command that makes the same kernel from the same sources, wherever and whenever.
    fn command(&self, program: &str) -> Command {
        let mut command = self.site.tools.command(program);
        command
            .env("ARCH", self.kernel.arch())
            .env("KERNEL_ARCH", self.kernel.arch())
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan 1 00:00:00 UTC 1970")
            .env("KBUILD_BUILD_USER", "zrepl")
            .env("KBUILD_BUILD_HOST", "machine")
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("CFLAGS")
            .env_remove("RUSTFLAGS");
        command
    }
}

/// The folder `zfs-VERSION` among unpacked sources.
fn openzfs_sources(sources: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(sources).context("unpacked sources")? {
        let path = entry.context("unpacked sources")?.path();
        if file_name(&path).starts_with("zfs-") {
            return Ok(path);
        }
    }
    bail!("the OpenZFS package has no sources in usr/src");
}
