//! Building the parts of a test machine into the user's cache folder, each once.
//!
//! A part's folder is named for the machine's id, the part and a hash of its inputs; it appears
//! under that name only when it is complete.

use super::apt::{GuestApt, HostApt, file_name};
use super::emulator;
use super::kernel::{self, Kernel};
use super::progress::Progress;
use super::tools::{self, Tools};
use super::userland;
use super::version::OpenZfs;
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// How many builds of one part are kept beside the present one, so that changing between two
/// branches does not rebuild.
const KEPT: usize = 1;

/// Where a build works.
pub(crate) struct Site<'a> {
    pub(crate) version: &'a OpenZfs,
    pub(crate) work: PathBuf,
    pub(crate) apt: GuestApt,
    pub(crate) tools: Tools,
    pub(crate) progress: Progress,
    pub(crate) jobs: usize,
}

/// One of the files a machine boots from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Kernel(Kernel),
    Userland,
    /// QEMU itself.
    Emulator,
}

impl Part {
    fn file(self) -> &'static str {
        match self {
            Part::Kernel(kernel) => kernel.file(),
            Part::Userland => "root.sqfs",
            Part::Emulator => emulator::PROGRAM,
        }
    }

    /// Start of the names of all builds of this part.
    fn prefix(self, version: &OpenZfs) -> String {
        let part = match self {
            Part::Kernel(kernel) => kernel.file(),
            Part::Userland => "root",
            Part::Emulator => "qemu",
        };
        format!("{}-{part}-", version.id)
    }

    /// Hash of everything that the result depends on, but for new versions of the same packages.
    fn key(self, version: &OpenZfs) -> String {
        let mut hash = Sha256::new();
        let mut add = |input: &str| {
            hash.update(input.len().to_le_bytes());
            hash.update(input);
        };
        add(&format!("{version:?}"));
        match self {
            Part::Kernel(kernel) => {
                add(&kernel.fragment());
                add(&recipe(include_str!("kernel.rs")));
            }
            Part::Userland => {
                userland::inputs().into_iter().for_each(&mut add);
                add(&recipe(include_str!("userland.rs")));
            }
            Part::Emulator => add(&recipe(include_str!("emulator.rs"))),
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn build(self, site: &Site<'_>, out: &Path) -> Result<()> {
        match self {
            Part::Kernel(kernel) => kernel::build(site, kernel, out),
            Part::Userland => userland::build(site, out),
            Part::Emulator => emulator::build(site, out),
        }
    }
}

/// What the build steps in a source file depend on: not its layout or comments, as a formatter
/// may change where it breaks lines and puts commas, and nobody should wait for a kernel then.
fn recipe(source: &str) -> String {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(str::chars).filter(|letter| !letter.is_whitespace() && *letter != ',').collect()
}

/// The folder that test machines are kept in.
pub(crate) fn cache() -> Result<PathBuf> {
    crate::cache::folder("machine")
}

/// The file of `part`, built if it is not there.
pub(crate) fn ensure(version: &OpenZfs, part: Part) -> Result<PathBuf> {
    Ok(ensure_folder(version, part)?.join(part.file()))
}

/// The folder of `part`, built if it is not there.
pub(crate) fn ensure_folder(version: &OpenZfs, part: Part) -> Result<PathBuf> {
    let cache = cache()?;
    let name = part.prefix(version) + &part.key(version);
    let folder = cache.join(&name);
    if folder.exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    let _lock = lock(&cache)?;
    if folder.exists() {
        return Ok(folder); // Somebody else built it while we waited.
    }
    let built = build_in(&cache.join("work"), version, part, &folder);
    let swept = sweep(&cache.join("work"));
    built.with_context(|| format!("building the test machine (OpenZFS {}, {})", version.id, part.file()))?;
    swept?;
    prune(&cache, &part.prefix(version), &name)?;
    Ok(folder)
}

/// One build at a time, on the whole machine: a second would only make both slower.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            eprintln!("another xtask is building a test machine: waiting for it");
        }
        Err(TryLockError::Error(error)) => return Err(error).context("locking the cache"),
    }
    file.lock().context("locking the cache")?;
    Ok(file)
}

fn build_in(work: &Path, version: &OpenZfs, part: Part, folder: &Path) -> Result<()> {
    tools::require_installed()?;
    sweep(work)?;
    fs::create_dir_all(work.join("out")).with_context(|| format!("making {}", work.display()))?;
    let progress = Progress::start(format!("machine {}: {}", version.id, part.file()));
    progress.step(&format!("building into {}", folder.display()));
    let host = HostApt::new(work, &progress)?;
    let apt = GuestApt::new(version, &host, work, &progress)?;
    let mut tools = Tools::new(&host, work, &progress)?;
    if part == Part::Kernel(Kernel::Qemu) {
        tools.add_objtool(&host, work)?;
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let site = Site { version, work: work.to_owned(), apt, tools, progress, jobs };
    part.build(&site, &work.join("out"))?;
    fs::rename(work.join("out"), folder).with_context(|| format!("making {}", folder.display()))?;
    site.progress.step("done");
    Ok(())
}

/// Removes what a build leaves, also one that was killed.
fn sweep(work: &Path) -> Result<()> {
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", work.display()))
        }
        _ => Ok(()),
    }
}

/// Removes builds whose inputs are not the present ones, all but the newest of them.
fn prune(cache: &Path, prefix: &str, present: &str) -> Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(cache).with_context(|| cache.display().to_string())? {
        let path = entry.with_context(|| cache.display().to_string())?.path();
        let name = file_name(&path);
        if name.starts_with(prefix) && name != present {
            let built = fs::metadata(&path).and_then(|metadata| metadata.modified());
            others.push((built.ok(), path));
        }
    }
    others.sort();
    others.truncate(others.len().saturating_sub(KEPT));
    for (_, path) in others {
        fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::version::VERSIONS;

    #[test]
    fn parts_have_keys_of_their_own() {
        let parts = [Part::Kernel(Kernel::UserMode), Part::Kernel(Kernel::Qemu), Part::Userland, Part::Emulator];
        let keys: std::collections::BTreeSet<_> = parts.iter().map(|part| part.key(&VERSIONS[0])).collect();
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| key.len() == 16));
    }

    #[test]
    fn layout_and_comments_do_not_change_a_recipe() {
        let (one, other) = ("f(a, b);", "// why\nf(\n    a,\n    b,\n);\n");
        assert_eq!(recipe(one), recipe(other));
        assert_ne!(recipe("f(a)"), recipe("f(b)"));
    }

    #[test]
    fn old_builds_go_but_the_newest() {
        let cache = tempfile::tempdir().unwrap();
        for (age, name) in ["9-root-a", "9-root-b", "9-root-c", "9-linux-a"].iter().enumerate() {
            let folder = cache.path().join(name);
            fs::create_dir(&folder).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age as u64 * 60);
            File::open(&folder).unwrap().set_modified(time).unwrap();
        }
        prune(cache.path(), "9-root-", "9-root-c").unwrap();
        let mut left: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|e| file_name(&e.unwrap().path())).collect();
        left.sort();
        assert_eq!(left, ["9-linux-a", "9-root-b", "9-root-c"]);
    }
}
