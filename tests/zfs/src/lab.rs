//! Fresh pools on files for each case, gone when it ends.

use anyhow::{Context as _, Result, bail};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The smallest size with room for a case's data; files are sparse.
const POOL_MIB: u64 = 200;

/// Room for tens of thousands of filesystems.
const LARGE_POOL_MIB: u64 = 16 * 1024;

/// Pools stay busy for a moment after their last user ended.
const BUSY_FOR: Duration = Duration::from_secs(5);
const BUSY_POLL: Duration = Duration::from_millis(50);

/// Where benches are.
pub(crate) struct Lab {
    work: PathBuf,
    next: AtomicU32,
}

impl Lab {
    /// A lab in the folder `work`, which is made if need be.
    pub(crate) fn open(work: Option<&Path>) -> Result<Self> {
        let work = std::path::absolute(work.context("real ZFS needs a work folder")?)?;
        fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        command("zpool", &["list"]).context("no working ZFS on this system")?;
        Ok(Self { work, next: AtomicU32::new(1) })
    }

    /// Runs a case on a bench of its own, and clears that away whatever comes of it.
    pub(crate) fn with_bench(&self, run: impl FnOnce(&Bench) -> Result<()>) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("zsuite-{}-{number}", std::process::id());
        let folder = self.work.join(&name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let bench = Bench { name, folder, pools: RefCell::default(), pool_mib: Cell::new(POOL_MIB) };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bench)));
        let cleared = bench.clear();
        match outcome {
            Ok(outcome) => outcome.and(cleared),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// One case's pools and files.
pub(crate) struct Bench {
    name: String,
    folder: PathBuf,
    pools: RefCell<Vec<Pool>>,
    pool_mib: Cell<u64>,
}

#[derive(Clone)]
struct Pool {
    name: String,
    image: PathBuf,
}

impl Bench {
    /// A folder for the case's own files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Pools that are made from now on have room for much.
    pub(crate) fn use_large_pools(&self) {
        self.pool_mib.set(LARGE_POOL_MIB);
    }

    /// Makes an empty pool and returns its name, which nobody else uses. It is mounted below
    /// the bench's folder.
    pub(crate) fn pool(&self, label: &str) -> Result<String> {
        self.pool_with(label, &[])
    }

    /// The same with further options of `zpool create`.
    pub(crate) fn pool_with(&self, label: &str, options: &[&str]) -> Result<String> {
        let name = format!("{}-{label}", self.name);
        let image = self.folder.join(format!("{label}.img"));
        File::create_new(&image)
            .and_then(|file| file.set_len(self.pool_mib.get() << 20))
            .with_context(|| format!("making {}", image.display()))?;
        let mountpoint = format!("mountpoint={}", self.mountpoint(&name).display());
        self.pools.borrow_mut().push(Pool { name: name.clone(), image: image.clone() });
        let image = image.to_string_lossy();
        let create = ["create", "-f", "-o", "cachefile=none", "-O", &mountpoint];
        command("zpool", &[&create, options, &[&name, &image]].concat())?;
        Ok(name)
    }

    /// Where `dataset` is mounted, unless its mountpoint was changed.
    pub(crate) fn mountpoint(&self, dataset: &str) -> PathBuf {
        self.folder.join("mnt").join(dataset)
    }

    /// Runs bash with the bench's folder as its current one, and returns what it wrote to stdout.
    /// It is an error if any of its commands fails.
    pub(crate) fn bash(&self, script: &str) -> Result<String> {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(&self.folder);
        checked(&mut command)
    }

    fn clear(&self) -> Result<()> {
        for pool in self.pools.borrow().iter() {
            destroy(&pool.name)?;
            fs::remove_file(&pool.image).with_context(|| pool.image.display().to_string())?;
        }
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

/// Destroys a pool, waiting for its last users.
fn destroy(pool: &str) -> Result<()> {
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        match command("zpool", &["destroy", pool]) {
            Ok(_) => return Ok(()),
            Err(error) if format!("{error}").contains("no such pool") => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return command("zpool", &["destroy", "-f", pool]).map(drop).context(error);
            }
            Err(_) => sleep(BUSY_POLL),
        }
    }
}

/// Runs a program and returns its stdout; it is an error if it fails.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Result<String> {
    checked(Command::new(program).args(arguments))
}

fn checked(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.env("LC_ALL", "C").output().with_context(|| format!("starting {}", program.display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
