//! Packages of another Debian suite, fetched with a private apt state.
//!
//! Nothing is installed on this machine. Where the archives are is learnt from this machine's own
//! apt configuration, which also brings its proxies and certificates.

use super::progress::{Progress, checked};
use super::version::{OpenZfs, Source};
use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Keys that Debian signs its archives with, as `debian-archive-keyring` installs them.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// This machine's own package sources, for what the build needs to run here.
pub(crate) struct HostApt {
    options: Vec<String>,
}

impl HostApt {
    /// Uses the lists apt already has, or fetches them privately into `work`.
    pub(crate) fn new(work: &Path, progress: &Progress) -> Result<Self> {
        let mut host = Self { options: vec![format!("APT::Sandbox::User={}", user()?)] };
        if host.archives()?.is_empty() {
            progress.step("apt has no package lists yet: fetching them");
            let lists = work.join("host-lists");
            std::fs::create_dir_all(lists.join("partial")).context("making the apt lists")?;
            host.options.push(format!("Dir::State::Lists={}", lists.display()));
            host.options.push("Debug::NoLocking=1".into());
            host.options.push(format!("Dir::Cache={}", work.display()));
            checked(host.apt_get().args(["-qq", "update"]), &work.join("apt.log"))
                .context("apt cannot fetch this machine's package lists; see what `apt-get update` says")?;
        }
        Ok(host)
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// Label and address of each archive that apt has lists of.
    fn archives(&self) -> Result<Vec<(String, String)>> {
        let output = crate::children::output(self.apt_get().args([
            "indextargets",
            "--format",
            "$(LABEL)\t$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(pairs.map(|(label, address)| (label.to_owned(), address.to_owned())).collect())
    }

    /// The first dependency of a package whose name begins with `prefix`.
    pub(crate) fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let mut command = Command::new("apt-cache");
        for option in &self.options {
            command.args(["-o", option]);
        }
        let output = crate::children::output(command.args(["depends", package]))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let found = names.map(str::trim).find(|name| name.starts_with(prefix) && !name.ends_with("common"));
        found.map(str::to_owned).with_context(|| format!("{package} of this Debian depends on no {prefix}…"))
    }

    /// Fetches packages with those of their dependencies that this machine lacks.
    pub(crate) fn download_missing(&self, packages: &[&str], into: &Path) -> Result<()> {
        let mut command = self.apt_get();
        for name in ["Dir::Cache", "Dir::Cache::Archives"] {
            command.arg("-o").arg(format!("{name}={}", into.display()));
        }
        command.args(["-o", "Debug::NoLocking=1", "-o", "APT::Keep-Downloaded-Packages=1", "-qq", "--yes"]);
        // What is installed is fetched again, because its files are wanted in a folder of their own.
        command.args(["--no-install-recommends", "--reinstall", "--download-only", "install"]).args(packages);
        checked(&mut command, &into.join("apt.log")).with_context(|| format!("fetching {}", packages.join(", ")))
    }

    /// Fetches packages of this machine's own release and unpacks them into `into`.
    pub(crate) fn unpack(&self, packages: &[&str], downloads: &Path, into: &Path) -> Result<()> {
        std::fs::create_dir_all(downloads).context("making a folder for packages")?;
        let mut command = self.apt_get();
        command.args(["-qq", "download"]).args(packages).current_dir(downloads);
        checked(&mut command, &downloads.join("apt.log"))
            .with_context(|| format!("fetching {}", packages.join(", ")))?;
        for package in packages {
            let file = package_file(downloads, package)?;
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(file).arg(into);
            checked(&mut unpack, &downloads.join("dpkg.log"))?;
        }
        Ok(())
    }
}

/// A private apt that knows only the suites of one test machine.
pub(crate) struct GuestApt {
    configuration: PathBuf,
    archives: PathBuf,
    prefer: Option<&'static str>,
    log: PathBuf,
}

impl GuestApt {
    /// Sets it up below `work` and fetches the package lists.
    pub(crate) fn new(version: &OpenZfs, host: &HostApt, work: &Path, progress: &Progress) -> Result<Self> {
        let state = work.join("apt");
        let archives = state.join("archives");
        for folder in [archives.join("partial"), state.join("lists/partial")] {
            std::fs::create_dir_all(folder).context("making the private apt state")?;
        }
        let sources = source_list(version, &host.archives()?, keyring()?)?;
        let configuration = state.join("apt.conf");
        write(&state.join("status"), "")?;
        write(&state.join("sources.list"), &sources)?;
        write(&configuration, &apt_configuration(&state, &user()?))?;
        let log = work.join("apt.log");
        let apt = Self { configuration, archives, prefer: version.prefer, log };
        progress.step("fetching package lists");
        checked(&mut apt.apt_get(&["update"]), &apt.log).map_err(|error| explain(error, version))?;
        Ok(apt)
    }

    fn apt_get(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        // With -c, unlike with APT_CONFIG, ours is read after this machine's own files.
        command.arg("-c").arg(&self.configuration).arg("-qq");
        if let Some(suite) = self.prefer {
            command.args(["--target-release", suite]);
        }
        command.args(arguments);
        command
    }

    /// Fetches one package and returns its file.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        let mut command = self.apt_get(&["download", package]);
        checked(command.current_dir(&self.archives), &self.log).with_context(|| format!("fetching {package}"))?;
        package_file(&self.archives, package)
    }

    /// Fetches packages with everything they depend on, and returns the files.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut command = self.apt_get(&["install", "--yes", "--download-only"]);
        checked(command.args(packages), &self.log).context("fetching the userland")?;
        let mut files = deb_files(&self.archives)?;
        files.sort();
        Ok(files)
    }
}

/// The one-line sources of `version`, at the addresses where this machine's apt finds Debian.
fn source_list(version: &OpenZfs, archives: &[(String, String)], keyring: &str) -> Result<String> {
    let mut text = String::new();
    for Source { archive, suite, optional } in version.sources {
        match archives.iter().find(|(label, _)| label == archive.label()) {
            Some((_, address)) => {
                let _ = writeln!(text, "deb [signed-by={keyring}] {address} {suite} main contrib");
            }
            None if *optional => {}
            None => bail!(
                "apt knows no archive of {} on this machine, which the test machine is built from: \
                 add one to /etc/apt/sources.list and run `sudo apt-get update`",
                archive.label()
            ),
        }
    }
    Ok(text)
}

fn apt_configuration(state: &Path, user: &str) -> String {
    let state = state.display();
    format!(
        r#"Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::State::Lists "{state}/lists";
Dir::Cache "{state}";
Dir::Cache::Archives "{state}/archives";
Dir::Etc::SourceList "{state}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Log "{state}";
Debug::NoLocking "1";
APT::Architecture "amd64";
APT::Install-Recommends "0";
APT::Keep-Downloaded-Packages "1";
APT::Sandbox::User "{user}";
#clear APT::Default-Release;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"#
    )
}

fn keyring() -> Result<&'static str> {
    KEYRINGS
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("no Debian archive keyring on this machine: run `sudo apt-get install debian-archive-keyring`")
}

/// Turns apt's complaint about an unknown key into what to do about it.
fn explain(error: anyhow::Error, version: &OpenZfs) -> anyhow::Error {
    let text = format!("{error:#}");
    if text.contains("NO_PUBKEY") || text.contains("Missing key") {
        return anyhow::anyhow!(
            "this machine's Debian keyring lacks a key of the suites for OpenZFS {}: run \
             `sudo apt-get update && sudo apt-get install debian-archive-keyring`",
            version.id
        );
    }
    error.context("fetching package lists")
}

fn user() -> Result<String> {
    let output = crate::children::output(Command::new("id").arg("-un"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The file of `package` in `folder`: `NAME_VERSION_ARCH.deb`.
fn package_file(folder: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{package}_");
    let found = deb_files(folder)?.into_iter().find(|file| file_name(file).starts_with(&prefix));
    found.with_context(|| format!("apt fetched no file for {package}"))
}

fn deb_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The last component of `path`, as text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes a file, naming it if that fails.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::version::{VERSIONS, version};

    fn archives(labels: &[&str]) -> Vec<(String, String)> {
        labels.iter().map(|l| ((*l).to_owned(), format!("http://{l}.example/"))).collect()
    }

    #[test]
    fn sources_use_the_addresses_that_apt_knows() {
        let machine = version(Some("2.3")).unwrap();
        let text = source_list(machine, &archives(&["Debian", "Debian-Security"]), "/k").unwrap();
        assert!(text.contains("deb [signed-by=/k] http://Debian.example/ trixie main contrib\n"));
        assert!(text.contains("http://Debian-Security.example/ trixie-security main"));
    }

    #[test]
    fn a_machine_without_security_archive_is_enough() {
        let text = source_list(&VERSIONS[0], &archives(&["Debian"]), "/k").unwrap();
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_machine_without_debian_is_told_what_to_do() {
        let error = source_list(&VERSIONS[0], &archives(&["Ubuntu"]), "/k").unwrap_err();
        assert!(error.to_string().contains("sudo apt-get update"), "{error}");
    }

    #[test]
    fn a_missing_key_names_the_command() {
        let error = anyhow::anyhow!("GPG error: … NO_PUBKEY 0123");
        assert!(explain(error, &VERSIONS[0]).to_string().contains("debian-archive-keyring"));
    }
}
