//! A machine with one pool, as its users and its administrator see it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use model::view::Placeholder;
use model::{DatasetName, HoldTag, VersionKind, VersionName, VersionRef};
use zfs::fake::{Action, FakeHost, Moment, PoolState};
use zfs::{ErrorKind, Scope, Snapshot, Zfs};

use crate::dice::Dice;
use crate::fault::{Fault, Site};
use crate::picture::{DatasetPicture, Partial, Picture, Pools, VersionPicture};
use crate::process::Host;
use crate::room::Room;
use crate::time::SimTime;

/// A machine; clones are the same one.
#[derive(Clone)]
pub struct Machine {
    pool: &'static str,
    host: FakeHost,
    /// What the pool held when it went away.
    away: Arc<Mutex<Option<Picture>>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Arc<dyn Fn(&str) -> bool + Send + Sync>;

fn dataset(name: &str) -> DatasetName {
    #[allow(clippy::expect_used, reason = "names are the simulator's own")]
    DatasetName::parse(name).expect("a dataset name")
}

fn version(name: &str) -> VersionName {
    #[allow(clippy::expect_used, reason = "names are the simulator's own")]
    VersionName::parse(name).expect("a version name")
}

fn snapshot(filesystem: &str, name: &str) -> Snapshot {
    Snapshot { dataset: dataset(filesystem), name: version(name) }
}

impl Machine {
    /// A machine with its pool.
    pub fn new(host: Host, pool: &'static str, seed: u64, time: &SimTime) -> Self {
        let clock = time.clone();
        let seed = Dice::new(seed.wrapping_mul(4).wrapping_add(host.index() as u64)).number();
        let machine = FakeHost::new(seed, Arc::new(move || clock.unix()));
        // A new machine has no pool of that name.
        let _ = machine.create_pool(&dataset(pool));
        Self { pool, host: machine, away: Arc::default(), hook: Arc::default() }
    }

    /// Lets the room decide about faults in the middle of operations.
    pub fn attach(&self, host: Host, room: &Arc<Room>) {
        let room = Arc::downgrade(room);
        let hook = move |object: &str| {
            let Some(room) = room.upgrade() else { return false };
            if let Some(Fault::Kill(victims)) = room.fault(&Site::Between(object.to_owned())) {
                room.kill(victims);
            }
            !room.process(host).is_alive()
        };
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// What a daemon works with.
    pub fn zfs(&self) -> Arc<dyn Zfs> {
        let zfs = self.host.zfs();
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            zfs.faults().hook(move |point| match point.moment == Moment::Between && hook(&point.object) {
                true => Action::Hang,
                false => Action::Proceed,
            });
        }
        Arc::new(zfs)
    }

    fn now<T>(&self, ask: impl AsyncFnOnce(&dyn Zfs) -> T) -> T {
        let zfs = self.host.zfs();
        #[allow(clippy::expect_used, reason = "a fake without faults waits for nothing")]
        let answer = ask(&zfs).now_or_never().expect("the fake answers at once");
        answer
    }

    /// `zfs create -p`
    pub fn create(&self, name: &str) {
        let name = dataset(name);
        let mut missing: Vec<DatasetName> = std::iter::once(name.clone()).chain(name.ancestors()).collect();
        missing.reverse();
        for name in missing {
            // Those that exist refuse.
            let _ = self.host.create_filesystem(&name);
        }
    }

    /// `zfs create -V`
    pub fn create_volume(&self, name: &str) -> Result<(), ErrorKind> {
        self.host.create_volume(&dataset(name))
    }

    /// Writes a file of so many bytes that depend on `seed`.
    pub fn write(&self, name: &str, file: &str, bytes: usize, seed: u64) -> Result<(), ErrorKind> {
        let mut dice = Dice::new(seed);
        let content: Vec<u8> = std::iter::repeat_with(|| dice.number().to_le_bytes()).flatten().take(bytes).collect();
        self.host.write_file(&dataset(name), file, &content)
    }

    /// `zfs snapshot`
    pub fn snapshot(&self, filesystem: &str, name: &str) -> Result<(), ErrorKind> {
        let taken = self.now(async |zfs| zfs.snapshot(&[snapshot(filesystem, name)]).await);
        taken.into_iter().collect::<Result<(), _>>().map_err(|error| error.kind)
    }

    /// `zfs destroy` of one snapshot.
    pub fn destroy_snapshot(&self, filesystem: &str, name: &str) -> Result<(), ErrorKind> {
        let names = [version(name)];
        let destroyed = self.now(async |zfs| zfs.destroy_snapshots(&dataset(filesystem), &names).await);
        destroyed.into_iter().collect::<Result<(), _>>().map_err(|error| error.kind)
    }

    /// `zfs hold`
    pub fn hold(&self, filesystem: &str, name: &str, tag: &str) -> Result<(), ErrorKind> {
        let Ok(tag) = HoldTag::parse(tag) else { return Err(ErrorKind::NotFound) };
        let held = self.now(async |zfs| zfs.hold(&tag, &[snapshot(filesystem, name)]).await);
        held.into_iter().collect::<Result<(), _>>().map_err(|error| error.kind)
    }

    /// `zfs release`
    pub fn release(&self, filesystem: &str, name: &str, tag: &str) -> Result<(), ErrorKind> {
        let Ok(tag) = HoldTag::parse(tag) else { return Err(ErrorKind::NotFound) };
        let released = self.now(async |zfs| zfs.release(&tag, &[snapshot(filesystem, name)]).await);
        released.into_iter().collect::<Result<(), _>>().map_err(|error| error.kind)
    }

    /// `zfs bookmark`
    pub fn bookmark(&self, filesystem: &str, name: &str, bookmark: &str) -> Result<(), ErrorKind> {
        let filesystem = dataset(filesystem);
        let Some(guid) = self.host.snapshot_guid(&filesystem, &version(name)) else { return Err(ErrorKind::NotFound) };
        let source = VersionRef { kind: VersionKind::Snapshot, name: version(name), guid };
        let made = self.now(async |zfs| zfs.bookmark(&filesystem, &source, &version(bookmark)).await);
        made.map_err(|error| error.kind)
    }

    /// `zfs rollback -r`
    pub fn rollback(&self, filesystem: &str, name: &str) -> Result<(), ErrorKind> {
        self.host.rollback(&snapshot(filesystem, name))
    }

    /// The names of the snapshots of a filesystem, oldest first.
    pub fn snapshots(&self, filesystem: &str) -> Vec<String> {
        let picture = self.picture();
        let names =
            picture.get(filesystem).map(|dataset| dataset.snapshots().map(|version| version.name.clone()).collect());
        names.unwrap_or_default()
    }

    /// Bytes that still fit, or no limit.
    pub fn set_free(&self, bytes: Option<u64>) {
        let used = self.host.used(&dataset(self.pool));
        // The pool exists.
        let _ = self.host.set_capacity(self.pool, bytes.map(|bytes| used + bytes));
    }

    /// Takes the pool away, or brings it back.
    pub fn set_imported(&self, imported: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if imported == away.is_none() {
            return;
        }
        *away = if imported { None } else { Some(self.look()) };
        let state = if imported { PoolState::Online } else { PoolState::Exported };
        // The pool exists.
        let _ = self.host.set_pool_state(self.pool, state);
    }

    /// What is on the pool, also while it is away.
    pub fn picture(&self) -> Picture {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner).clone();
        away.unwrap_or_else(|| self.look())
    }

    fn look(&self) -> Picture {
        let listing = self.now(async |zfs| zfs.list(&Scope::Everything).await);
        let mut picture = Picture::new();
        let mut held = Vec::new();
        for found in listing.map(|listing| listing.datasets).unwrap_or_default() {
            let holds = found.versions.iter().filter(|version| version.userrefs > 0);
            held.extend(holds.map(|held| Snapshot { dataset: found.name.clone(), name: held.name.clone() }));
            let versions = found.versions.iter().map(|version| VersionPicture {
                kind: version.kind,
                name: version.name.to_string(),
                guid: version.guid,
                createtxg: version.createtxg,
            });
            let dataset = DatasetPicture {
                placeholder: found.placeholder == Placeholder::On,
                partial: found
                    .resume_token
                    .map(|token| Partial { to: zfs::token::decode(&token).ok().map(|token| token.to) }),
                versions: versions.collect(),
                holds: Default::default(),
            };
            picture.insert(found.name.to_string(), dataset);
        }
        for hold in self.now(async |zfs| zfs.holds(&held).await).unwrap_or_default() {
            if let Some(dataset) = picture.get_mut(hold.dataset.as_str()) {
                dataset.holds.insert((hold.snapshot.to_string(), hold.tag.to_string()));
            }
        }
        picture
    }
}

/// Machines by the position of their hosts.
impl Pools for Vec<Machine> {
    fn picture(&self, host: Host) -> Picture {
        self.get(host.index()).map(Machine::picture).unwrap_or_default()
    }

    fn content(&self, host: Host, dataset: &str, name: &str) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut digest = DefaultHasher::new();
        self.get(host.index())?.host.snapshot_hash(&snapshot(dataset, name)).ok()?.hash(&mut digest);
        Some(digest.finish())
    }
}
