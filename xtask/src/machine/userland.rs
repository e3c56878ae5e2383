//! The guest's root folder, from Debian packages. This file is part of the cache key.

use super::apt::{file_name, write};
use super::build::Site;
use super::progress::checked;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// PID 1 of the guest.
pub(crate) const INIT: &str = include_str!("../../machine/init");

/// What the guest is to have.
pub(crate) const PACKAGES: &[&str] = &[
    "zfsutils-linux",
    "bash",
    "coreutils",
    "util-linux",
    "mount",
    "procps",
    "iproute2",
    "openssh-server",
    "openssh-client",
    "mbuffer",
    "base-files",
    "base-passwd",
    "libc-bin",
    "grep",
    "sed",
    "mawk",
    "findutils",
    "tar",
    "gzip",
    "zstd",
    "kmod",
    "passwd",
    "login",
    "netbase",
    "socat",
    "acl",
    "attr",
    "diffutils",
    "hostname",
    "busybox-static",
    "strace",
    "psmisc",
    "systemd",
    "openrc",
];

/// Packages (by the start of their file's name) that others depend on and nothing here runs.
const UNWANTED: &[&str] = &[
    "python3",
    "libpython3",
    "perl-base",
    "dpkg",
    "debconf",
    "ucf",
    "tzdata",
    "adduser",
    "libdb5",
    "gcc-",
    "media-types",
    "libtext-",
    "sensible-utils",
    "runit-helper",
    "init-system-helpers",
    "lsb-base",
    "readline-common",
];

/// Parts of packages that nothing here reads.
const UNREAD: &[&str] = &["doc", "man", "locale", "info", "lintian", "bash-completion", "i18n", "zoneinfo"];

/// Programs that busybox stands in for.
const BUSYBOX: &[&str] = &["cut", "vi", "less", "wget", "nc", "ping", "ps"];

/// What is wanted of the package systemd: enough to run a service with its log, in a case that asks for
/// it. No guest boots with it, and of its own units only the log's are needed.
const SYSTEMD: &[&str] = &[
    "./usr/bin/journalctl",
    "./usr/bin/systemctl",
    "./usr/lib/systemd/systemd",
    "./usr/lib/systemd/systemd-executor",
    "./usr/lib/systemd/systemd-journald",
    "./usr/lib/systemd/system/*.target",
    "./usr/lib/systemd/system/systemd-journald.*",
    "./usr/lib/systemd/system/systemd-journald-dev-log.socket",
];

/// Builds `root.sqfs` into `out`.
pub(crate) fn build(site: &Site<'_>, out: &Path) -> Result<()> {
    site.progress.step("fetching the userland");
    let mut packages = site.apt.download_with_dependencies(PACKAGES)?;
    packages.retain(|file| !UNWANTED.iter().any(|start| file_name(file).starts_with(start)));
    site.progress.step("unpacking the userland");
    let root = site.work.join("root");
    make_folders(&root)?;
    for package in &packages {
        unpack(package, &root).with_context(|| format!("unpacking {}", package.display()))?;
    }
    configure(&root).context("configuring the userland")?;
    let log = site.work.join("userland.log");
    checked(site.tools.command("ldconfig").arg("-r").arg(&root), &log)?;
    let mut squash = site.tools.command("mksquashfs");
    squash.arg(&root).arg(out.join("root.sqfs"));
    squash.args(["-all-root", "-comp", "zstd", "-Xcompression-level", "15", "-noappend"]);
    checked(squash.args(["-no-progress", "-quiet"]), &log)?;
    let versions: Vec<String> = packages.iter().map(|file| file_name(file)).collect();
    write(&out.join("versions"), &(versions.join("\n") + "\n"))
}

/// The folders that package files land in, with /bin and its like merged into /usr.
fn make_folders(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    Ok(())
}

fn unpack(package: &Path, root: &Path) -> Result<()> {
    let mut contents = Command::new("dpkg-deb");
    contents.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut contents = contents.spawn().context("starting dpkg-deb")?;
    let pipe = contents.stdout.take().context("output of dpkg-deb")?;
    let mut extract = Command::new("tar");
    extract.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]);
    extract.arg(root).args(UNREAD.iter().map(|name| format!("--exclude=./usr/share/{name}")));
    extract.arg("--exclude=./usr/lib/x86_64-linux-gnu/gconv");
    if file_name(package).starts_with("systemd_") {
        extract.arg("--wildcards").args(SYSTEMD);
    } else {
        extract.arg("--exclude=./usr/lib/systemd");
    }
    let extracted = extract.stdin(pipe).status().context("starting tar")?;
    let read = contents.wait().context("waiting for dpkg-deb")?;
    if !(extracted.success() && read.success()) {
        bail!("dpkg-deb {read}, tar {extracted}");
    }
    Ok(())
}

/// What the packages' maintainer scripts would have done, as far as needed.
fn configure(root: &Path) -> Result<()> {
    let etc = root.join("etc");
    let master = |name: &str| fs::read_to_string(root.join("usr/share/base-passwd").join(name));
    let passwd = master("passwd.master")?.replacen("root:*:", "root::", 1)
        + "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n\
           tester:x:1000:1000::/home/tester:/bin/bash\n";
    fs::write(etc.join("passwd"), passwd)?;
    fs::write(etc.join("group"), master("group.master")? + "tester:x:1000:\n")?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost zrepl-machine\n")?;
    // For tests over ssh: make host keys in the guest with "ssh-keygen -A".
    let sshd = "PermitRootLogin yes\nUsePAM no\nUseDNS no\nStrictModes no\n\
                Subsystem sftp internal-sftp\n";
    fs::write(etc.join("ssh/sshd_config"), sshd)?;
    for name in ["auth", "account", "password", "session", "session-noninteractive"] {
        let kind = name.split('-').next().unwrap_or(name);
        fs::write(etc.join(format!("pam.d/common-{name}")), format!("{kind} required pam_permit.so\n"))?;
    }
    replace_link("/proc/self/mounts", &etc.join("mtab"))?;
    let bin = root.join("usr/bin");
    replace_link("mawk", &bin.join("awk"))?;
    for (name, target) in BUSYBOX.iter().map(|name| (*name, "busybox")).chain([("sh", "bash")]) {
        if fs::symlink_metadata(bin.join(name)).is_err() {
            symlink(target, bin.join(name))?;
        }
    }
    for folder in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "overlay",
        "oldroot",
        "guest",
        "root",
        "home/tester",
        "var/tmp",
        "var/lib",
        "var/log",
        "var/run",
        "var/cache",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    let init = root.join("usr/sbin/guest-init");
    fs::write(&init, INIT)?;
    Ok(fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?)
}

fn replace_link(target: &str, link: &Path) -> Result<()> {
    if fs::symlink_metadata(link).is_ok() {
        fs::remove_file(link)?;
    }
    Ok(symlink(target, link)?)
}

/// Everything that the result depends on besides this file and the packages' content.
pub(crate) fn inputs() -> Vec<&'static str> {
    let mut inputs = vec![INIT];
    inputs.extend(PACKAGES);
    inputs
}
