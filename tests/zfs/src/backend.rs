//! What a case needs besides [`Zfs`]: to make datasets, to write files and read them back. On real ZFS
//! by the `zfs` command, on the model directly.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use model::{DatasetName, UnixTime};
use rustix::time::{ClockId, Timespec, clock_settime};
use zfs::cli::{CliConfig, ZfsCli};
use zfs::fake::{FakeHost, FakeZfs, PoolState, Source};
use zfs::{Snapshot, Zfs};

use crate::lab::{Bench, command};

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A machine with two fresh pools.
pub(crate) trait World {
    /// The operations under test.
    fn zfs(&self) -> Arc<dyn Zfs>;
    /// The two pools.
    fn pools(&self) -> [DatasetName; 2];
    /// Processes that the operations have started, or would have.
    fn processes(&self) -> u64;
    fn create_filesystem(&self, name: &DatasetName) -> Result<()>;
    fn create_volume(&self, name: &DatasetName) -> Result<()>;
    /// With a key of its own, loaded.
    fn create_encrypted(&self, name: &DatasetName) -> Result<()>;
    fn set_key_loaded(&self, name: &DatasetName, loaded: bool) -> Result<()>;
    fn write_file(&self, dataset: &DatasetName, file: &str, bytes: &[u8]) -> Result<()>;
    fn remove_file(&self, dataset: &DatasetName, file: &str) -> Result<()>;
    fn files(&self, dataset: &DatasetName) -> Result<Files>;
    fn set_property(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<()>;
    /// A user property and whether it is `local`, `received` or `inherited`.
    fn property(&self, dataset: &DatasetName, property: &str) -> Result<Option<(String, &'static str)>>;
    /// The same of many, in one go; without those that do not have it.
    fn properties(&self, datasets: &[DatasetName], property: &str) -> Result<BTreeMap<DatasetName, String>>;
    fn clone_snapshot(&self, snapshot: &Snapshot, clone: &DatasetName) -> Result<()>;
    fn rollback(&self, snapshot: &Snapshot) -> Result<()>;
    /// The pool must be one of [`World::pools`].
    fn set_pool_state(&self, pool: &DatasetName, state: PoolState) -> Result<()>;
    /// Leaves only some MiB free in a pool.
    fn fill(&self, pool: &DatasetName, free_mib: u64) -> Result<()>;
    /// Takes back what [`World::fill`] did.
    fn empty(&self, pool: &DatasetName) -> Result<()>;
    /// Sets the machine's clock. Only for machines whose clock is nobody else's.
    fn set_clock(&self, now: UnixTime) -> Result<()>;
}

/// [`World`] on the model.
pub(crate) struct FakeWorld {
    host: FakeHost,
    zfs: FakeZfs,
    /// Seconds since 1970 on its clock.
    now: Arc<AtomicI64>,
}

const FAKE_POOLS: [&str; 2] = ["src pool", "dst pool"];

impl FakeWorld {
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let now = Arc::new(AtomicI64::new(1_700_000_000));
        let clock = Arc::clone(&now);
        let host = FakeHost::new(seed, Arc::new(move || UnixTime(clock.load(Ordering::Relaxed))));
        for pool in FAKE_POOLS {
            host.create_pool(&DatasetName::parse(pool)?)?;
        }
        let zfs = host.zfs();
        Ok(Self { host, zfs, now })
    }

    /// The machine itself.
    pub(crate) fn host(&self) -> &FakeHost {
        &self.host
    }

    /// What goes wrong with the operations.
    pub(crate) fn faults(&self) -> &zfs::fake::Faults {
        self.zfs.faults()
    }
}

impl World for FakeWorld {
    fn zfs(&self) -> Arc<dyn Zfs> {
        Arc::new(self.zfs.clone())
    }

    fn pools(&self) -> [DatasetName; 2] {
        FAKE_POOLS.map(|pool| DatasetName::parse(pool).unwrap_or_else(|_| unreachable!("a literal")))
    }

    fn processes(&self) -> u64 {
        self.zfs.faults().processes().values().sum()
    }

    fn create_filesystem(&self, name: &DatasetName) -> Result<()> {
        Ok(self.host.create_filesystem(name)?)
    }

    fn create_volume(&self, name: &DatasetName) -> Result<()> {
        Ok(self.host.create_volume(name)?)
    }

    fn create_encrypted(&self, name: &DatasetName) -> Result<()> {
        Ok(self.host.create_encrypted(name)?)
    }

    fn set_key_loaded(&self, name: &DatasetName, loaded: bool) -> Result<()> {
        Ok(self.host.set_key_loaded(name, loaded)?)
    }

    fn write_file(&self, dataset: &DatasetName, file: &str, bytes: &[u8]) -> Result<()> {
        Ok(self.host.write_file(dataset, file, bytes)?)
    }

    fn remove_file(&self, dataset: &DatasetName, file: &str) -> Result<()> {
        Ok(self.host.remove_file(dataset, file)?)
    }

    fn files(&self, dataset: &DatasetName) -> Result<Files> {
        Ok(self.host.files(dataset)?)
    }

    fn set_property(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<()> {
        Ok(self.host.set_property(dataset, property, value)?)
    }

    fn property(&self, dataset: &DatasetName, property: &str) -> Result<Option<(String, &'static str)>> {
        Ok(self.host.property(dataset, property).map(|(value, source)| match source {
            Some(Source::Local) => (value, "local"),
            Some(Source::Received) => (value, "received"),
            None => (value, "inherited"),
        }))
    }

    fn properties(&self, datasets: &[DatasetName], property: &str) -> Result<BTreeMap<DatasetName, String>> {
        let found = |name: &DatasetName| {
            let property = self.property(name, property).transpose()?;
            Some(property.map(|(value, source)| (name.clone(), format!("{value} {source}"))))
        };
        datasets.iter().filter_map(found).collect()
    }

    fn clone_snapshot(&self, snapshot: &Snapshot, clone: &DatasetName) -> Result<()> {
        Ok(self.host.clone_snapshot(snapshot, clone)?)
    }

    fn rollback(&self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.host.rollback(snapshot)?)
    }

    fn set_pool_state(&self, pool: &DatasetName, state: PoolState) -> Result<()> {
        Ok(self.host.set_pool_state(pool.as_str(), state)?)
    }

    fn fill(&self, pool: &DatasetName, free_mib: u64) -> Result<()> {
        Ok(self.host.set_capacity(pool.as_str(), Some(self.host.used(pool) + (free_mib << 20)))?)
    }

    fn empty(&self, pool: &DatasetName) -> Result<()> {
        Ok(self.host.set_capacity(pool.as_str(), None)?)
    }

    fn set_clock(&self, now: UnixTime) -> Result<()> {
        self.now.store(now.0, Ordering::Relaxed);
        Ok(())
    }
}

/// [`World`] on the ZFS of this system.
pub(crate) struct RealWorld<'a> {
    bench: &'a Bench,
    pools: [DatasetName; 2],
    zfs: ZfsCli,
    started: Arc<std::sync::atomic::AtomicU64>,
}

impl<'a> RealWorld<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Result<Self> {
        Self::on(bench, "src", "dst")
    }

    /// One of several worlds on one bench, whose pools are gone when the bench is.
    pub(crate) fn numbered(bench: &'a Bench, number: u32) -> Result<Self> {
        Self::on(bench, &format!("src{number}"), &format!("dst{number}"))
    }

    fn on(bench: &'a Bench, src: &str, dst: &str) -> Result<Self> {
        let pools = [bench.pool(src)?, bench.pool(dst)?];
        for pool in &pools {
            // Reading a file must not count as a modification.
            command("zfs", &["set", "atime=off", pool])?;
        }
        let started = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = Arc::clone(&started);
        let zfs = ZfsCli::new(CliConfig::default()).with_observer(Arc::new(move |record| {
            if matches!(record.event, zfs::cli::CommandEvent::Started) {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }));
        Ok(Self { bench, pools: [DatasetName::parse(&pools[0])?, DatasetName::parse(&pools[1])?], zfs, started })
    }

    fn path(&self, dataset: &DatasetName, file: &str) -> std::path::PathBuf {
        self.bench.mountpoint(dataset.as_str()).join(file)
    }
}

const PASSPHRASE: &str = "conformance";

/// Whether a filesystem is mounted, as the kernel says.
fn mounted(dataset: &DatasetName) -> Result<bool> {
    let device = dataset.as_str().replace(' ', r"\040");
    Ok(std::fs::read_to_string("/proc/self/mounts")?.lines().any(|line| line.split(' ').next() == Some(&device)))
}

impl World for RealWorld<'_> {
    fn zfs(&self) -> Arc<dyn Zfs> {
        Arc::new(self.zfs.clone())
    }

    fn pools(&self) -> [DatasetName; 2] {
        self.pools.clone()
    }

    fn processes(&self) -> u64 {
        self.started.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn create_filesystem(&self, name: &DatasetName) -> Result<()> {
        command("zfs", &["create", name.as_str()]).map(drop)
    }

    fn create_volume(&self, name: &DatasetName) -> Result<()> {
        command("zfs", &["create", "-s", "-V", "4M", name.as_str()]).map(drop)
    }

    fn create_encrypted(&self, name: &DatasetName) -> Result<()> {
        let key = self.bench.folder().join("key");
        std::fs::write(&key, PASSPHRASE)?;
        let location = format!("keylocation=file://{}", key.display());
        let options = ["create", "-o", "encryption=on", "-o", "keyformat=passphrase", "-o", &location, name.as_str()];
        command("zfs", &options).map(drop)
    }

    fn set_key_loaded(&self, name: &DatasetName, loaded: bool) -> Result<()> {
        if loaded {
            let location = format!("file://{}", self.bench.folder().join("key").display());
            command("zfs", &["load-key", "-L", &location, name.as_str()])?;
            return command("zfs", &["mount", name.as_str()]).map(drop);
        }
        if mounted(name)? {
            command("zfs", &["unmount", name.as_str()])?;
        }
        command("zfs", &["unload-key", name.as_str()]).map(drop)
    }

    fn write_file(&self, dataset: &DatasetName, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(dataset, file);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    fn remove_file(&self, dataset: &DatasetName, file: &str) -> Result<()> {
        let path = self.path(dataset, file);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(path.display().to_string())
            }
            _ => Ok(()),
        }
    }

    fn files(&self, dataset: &DatasetName) -> Result<Files> {
        if !mounted(dataset)? {
            bail!("{dataset} is not mounted");
        }
        let folder = self.path(dataset, "");
        let mut files = Files::new();
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = entry.file_name().into_string().map_err(|name| anyhow!("{name:?} is not text"))?;
                files.insert(name, std::fs::read(entry.path())?);
            }
        }
        Ok(files)
    }

    fn set_property(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<()> {
        command("zfs", &["set", &format!("{property}={value}"), dataset.as_str()]).map(drop)
    }

    fn property(&self, dataset: &DatasetName, property: &str) -> Result<Option<(String, &'static str)>> {
        let line = command("zfs", &["get", "-Hp", "-o", "source,value", property, dataset.as_str()])?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let (source, value) = line.split_once('\t').context("two columns")?;
        Ok(match source {
            "local" => Some((value.to_owned(), "local")),
            "received" => Some((value.to_owned(), "received")),
            _ if source.starts_with("inherited") => Some((value.to_owned(), "inherited")),
            _ => None,
        })
    }

    fn properties(&self, datasets: &[DatasetName], property: &str) -> Result<BTreeMap<DatasetName, String>> {
        let names: Vec<&str> = datasets.iter().map(DatasetName::as_str).collect();
        let lines = command("zfs", &[&["get", "-Hp", "-o", "name,source,value", property], &names[..]].concat())?;
        let mut found = BTreeMap::new();
        for line in lines.lines() {
            let mut columns = line.splitn(3, '\t');
            let mut column = || columns.next().context("three columns");
            let (name, source, value) = (column()?, column()?, column()?);
            let source = source.split(' ').next().unwrap_or_default();
            if source != "-" {
                found.insert(DatasetName::parse(name)?, format!("{value} {source}"));
            }
        }
        Ok(found)
    }

    fn clone_snapshot(&self, snapshot: &Snapshot, clone: &DatasetName) -> Result<()> {
        command("zfs", &["clone", &snapshot.to_string(), clone.as_str()]).map(drop)
    }

    fn rollback(&self, snapshot: &Snapshot) -> Result<()> {
        command("zfs", &["rollback", "-r", &snapshot.to_string()]).map(drop)
    }

    fn set_pool_state(&self, pool: &DatasetName, state: PoolState) -> Result<()> {
        // Not there already is as good.
        let _ = Command::new("zpool").args(["export", pool.as_str()]).output();
        let folder = self.bench.folder().to_string_lossy().into_owned();
        let import = ["import", "-o", "cachefile=none", "-d", &folder];
        match state {
            PoolState::Exported => Ok(()),
            PoolState::Online => command("zpool", &[&import[..], &[pool.as_str()]].concat()).map(drop),
            PoolState::ReadOnly => {
                command("zpool", &[&import[..], &["-o", "readonly=on", pool.as_str()]].concat()).map(drop)
            }
            PoolState::Suspended => bail!("a real pool is not suspended on demand"),
        }
    }

    fn fill(&self, pool: &DatasetName, free_mib: u64) -> Result<()> {
        let free = command("zfs", &["get", "-Hpo", "value", "available", pool.as_str()])?;
        let reserved = free.trim().parse::<u64>()?.saturating_sub(free_mib << 20);
        let option = format!("reservation={reserved}");
        command("zfs", &["create", "-o", &option, &format!("{pool}/filler")]).map(drop)
    }

    fn empty(&self, pool: &DatasetName) -> Result<()> {
        command("zfs", &["destroy", &format!("{pool}/filler")]).map(drop)
    }

    fn set_clock(&self, now: UnixTime) -> Result<()> {
        let time = Timespec { tv_sec: now.0, tv_nsec: 0 };
        clock_settime(ClockId::Realtime, time).context("setting the clock")
    }
}

/// A shrinking history makes many worlds; their pools would slow each other down. What cannot be
/// destroyed here is the bench's to clear.
impl Drop for RealWorld<'_> {
    fn drop(&mut self) {
        for pool in &self.pools {
            let _ = command("zpool", &["destroy", "-f", pool.as_str()]);
        }
    }
}
