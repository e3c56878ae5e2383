//! What must always hold (safety) and what must hold in the end (liveness).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use model::plan::prune::{PrunePlan, PruneSide};
use model::plan::replication::{FilesystemAction, FilesystemPlan};
use model::plan::resolve::Resolution;
use model::protection::{ProtectionKind, last_received_tag, parse_cursor_name, step_hold_tag};
use model::{CreateTxg, Guid, JobName, VersionKind};

use crate::picture::{DatasetPicture, Picture, Pools, VersionPicture, newest_common};
use crate::process::Host;

/// Who is who in a world.
#[derive(Debug, Clone)]
pub struct Names {
    /// The push job.
    pub push: JobName,
    /// The sink job.
    pub sink: JobName,
    /// Below which the receiver keeps the sender's filesystems, `dst/sink/client`.
    pub root: String,
}

impl Names {
    /// Where the receiver keeps a filesystem.
    pub fn on_receiver(&self, filesystem: &str) -> String {
        format!("{}/{filesystem}", self.root)
    }

    fn is_own_tag(&self, host: Host, tag: &str) -> bool {
        let own = match host {
            Host::Sender => step_hold_tag(&self.push),
            Host::Receiver => last_received_tag(&self.sink),
        };
        own.is_ok_and(|own| own.as_str() == tag)
    }

    fn is_own_bookmark(&self, version: &VersionPicture) -> bool {
        parse_cursor_name(&version.name)
            .is_some_and(|(_, guid, owner)| owner == self.push.as_str() && guid == version.guid)
    }
}

/// Looks at the pools after every operation.
pub struct Watch {
    pools: Box<dyn Pools>,
    names: Names,
    guarded: bool,
    before: [Picture; 2],
    common: BTreeMap<String, (Guid, CreateTxg)>,
    condemned: BTreeSet<(Host, String, Guid)>,
    contents: BTreeMap<Guid, u64>,
    seen: BTreeSet<(Host, String, Guid)>,
    violations: Vec<String>,
}

impl Watch {
    /// A watch over these pools. `guarded`: the policy keeps a base, for all kinds of step.
    pub fn new(pools: Box<dyn Pools>, names: Names, guarded: bool) -> Self {
        let mut watch = Self {
            pools,
            names,
            guarded,
            before: Default::default(),
            common: BTreeMap::new(),
            condemned: BTreeSet::new(),
            contents: BTreeMap::new(),
            seen: BTreeSet::new(),
            violations: Vec::new(),
        };
        watch.user_did(&"the world begins", &[]);
        watch
    }

    /// What was unsafe so far.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// What is on the pools, as of the last look.
    pub fn pictures(&self) -> &[Picture; 2] {
        &self.before
    }

    /// Who is who.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A plan was announced; what it names may go.
    pub fn announced(&mut self, plan: &PrunePlan) {
        let host = match plan.side {
            PruneSide::Sender | PruneSide::Local => Host::Sender,
            PruneSide::Receiver => Host::Receiver,
        };
        for filesystem in &plan.filesystems {
            let dataset = match host {
                Host::Sender => filesystem.name.to_string(),
                Host::Receiver => self.names.on_receiver(filesystem.name.as_str()),
            };
            let destroys = filesystem.destroys().map(|version| (host, dataset.clone(), version.guid));
            self.condemned.extend(destroys);
        }
    }

    /// A replication plan was announced; what it destroys to resolve conflicts may go.
    pub fn announced_resolutions(&mut self, plans: &[FilesystemPlan]) {
        for filesystem in plans {
            let FilesystemAction::Steps { resolution: Some(Resolution::RollBack { destroy, .. }), .. } =
                &filesystem.action
            else {
                continue;
            };
            let dataset = self.names.on_receiver(filesystem.name.as_str());
            self.condemned.extend(destroy.iter().map(|version| (Host::Receiver, dataset.clone(), version.guid)));
        }
    }

    /// Looks after the program did something. What is found is also kept.
    pub fn look(&mut self, cause: &dyn Display) -> Vec<String> {
        let now = self.take();
        let mut found = Vec::new();
        for host in Host::BOTH {
            self.check_host(host, &now, &mut found);
        }
        self.check_common(&now, &mut found);
        self.settle(now, cause, found)
    }

    /// Looks after somebody else did something, which excuses nothing but what vanished. `broken` are
    /// filesystems whose base the user took away by force.
    pub fn user_did(&mut self, cause: &dyn Display, broken: &[String]) -> Vec<String> {
        let now = self.take();
        let mut found = Vec::new();
        if self.guarded {
            let [sender, receiver] = &now;
            for filesystem in self.common.keys().filter(|name| !broken.contains(name)) {
                let pair = sender.get(filesystem).zip(receiver.get(&self.names.on_receiver(filesystem)));
                let usable = pair.is_some_and(|(sender, receiver)| {
                    let base = newest_common(sender, receiver).map(|version| version.guid);
                    base.is_some() && base == receiver.newest().map(|version| version.guid)
                });
                if !usable {
                    found.push(format!("an ordinary command of a user took the base of {filesystem}"));
                }
            }
        }
        self.common.clear();
        self.settle(now, cause, found)
    }

    fn take(&mut self) -> [Picture; 2] {
        Host::BOTH.map(|host| self.pools.picture(host))
    }

    fn settle(&mut self, now: [Picture; 2], cause: &dyn Display, mut found: Vec<String>) -> Vec<String> {
        self.check_contents(&now, &mut found);
        self.common = self.commons(&now);
        self.before = now;
        let found: Vec<String> = found.into_iter().map(|violation| format!("{violation} (by: {cause})")).collect();
        self.violations.extend(found.iter().cloned());
        found
    }

    fn check_host(&self, host: Host, now: &[Picture; 2], found: &mut Vec<String>) {
        let (Some(before), Some(now)) = (self.before.get(host.index()), now.get(host.index())) else { return };
        let nothing = DatasetPicture::default();
        for (name, old) in before {
            let new = now.get(name).unwrap_or(&nothing);
            if old == new {
                continue;
            }
            for version in old.versions.iter().filter(|version| !new.versions.contains(version)) {
                self.check_vanished(host, name, version, found);
            }
            let released = old.holds.difference(&new.holds);
            for (snapshot, tag) in released.filter(|(_, tag)| !self.names.is_own_tag(host, tag)) {
                found.push(format!("foreign hold {tag:?} on {name}@{snapshot} is gone"));
            }
            // What holds no snapshot may be the state of a receive, which can be discarded.
            let holds_nothing = host == Host::Receiver && !old.placeholder && old.versions.is_empty();
            if !now.contains_key(name) && !holds_nothing {
                found.push(format!("dataset {name} is gone"));
            }
        }
    }

    fn check_vanished(&self, host: Host, dataset: &str, version: &VersionPicture, found: &mut Vec<String>) {
        let excused = match version.kind {
            VersionKind::Bookmark => self.names.is_own_bookmark(version),
            VersionKind::Snapshot => self.condemned.contains(&(host, dataset.to_owned(), version.guid)),
        };
        if !excused {
            let mark = version.kind.delimiter();
            found.push(format!("{dataset}{mark}{} is gone, and no plan has named it", version.name));
        }
    }

    fn check_common(&self, now: &[Picture; 2], found: &mut Vec<String>) {
        let commons = self.commons(now);
        for (filesystem, (guid, txg)) in self.common.iter().filter(|_| self.guarded) {
            match commons.get(filesystem) {
                None => found.push(format!("{filesystem} has no common version any longer, it was {guid:?}")),
                Some((now, older)) if older < txg => {
                    found.push(format!("the newest common version of {filesystem} was {guid:?} and is {now:?}"));
                }
                Some(_) => {}
            }
        }
    }

    fn commons(&self, [sender, receiver]: &[Picture; 2]) -> BTreeMap<String, (Guid, CreateTxg)> {
        let common = |(name, dataset): (&String, &DatasetPicture)| {
            let other = receiver.get(&self.names.on_receiver(name))?;
            newest_common(dataset, other).map(|version| (name.clone(), (version.guid, version.createtxg)))
        };
        sender.iter().filter_map(common).collect()
    }

    /// What has the same guid has the same content, wherever it is.
    fn check_contents(&mut self, now: &[Picture; 2], found: &mut Vec<String>) {
        for (host, picture) in Host::BOTH.into_iter().zip(now) {
            for (name, dataset) in picture {
                for version in dataset.snapshots() {
                    if self.seen.contains(&(host, name.clone(), version.guid)) {
                        continue;
                    }
                    self.seen.insert((host, name.clone(), version.guid));
                    let Some(content) = self.pools.content(host, name, &version.name) else { continue };
                    if *self.contents.entry(version.guid).or_insert(content) != content {
                        found
                            .push(format!("{name}@{} does not contain what {:?} contains", version.name, version.guid));
                    }
                }
            }
        }
    }
}

/// What the protections of an up-to-date filesystem must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// One cursor, one last-received hold.
    OneEach,
    /// None at all.
    None,
    /// One of the above; which depends on the kind of the last step.
    Either,
}

/// How a filesystem stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The sender has nothing to send.
    Empty,
    /// No incremental is possible, and what the receiver has must not be replaced.
    Stuck,
    /// Everything is where it should be.
    Converged,
    /// Something is missing.
    Behind(String),
}

/// How a filesystem of the sender stands.
pub fn standing(names: &Names, pictures: &[Picture; 2], filesystem: &str, expected: Expected) -> Standing {
    let nothing = DatasetPicture::default();
    let [sender, receiver] = pictures;
    let receiver = receiver.get(&names.on_receiver(filesystem)).unwrap_or(&nothing);
    let Some(sender) = sender.get(filesystem) else { return Standing::Empty };
    let (Some(newest), base) = (sender.newest(), newest_common(sender, receiver)) else { return Standing::Empty };
    let Some(received) = receiver.newest() else {
        return Standing::Behind("the receiver has no snapshot".to_owned());
    };
    let Some(base) = base.filter(|base| base.guid == received.guid) else { return Standing::Stuck };
    if base.createtxg < newest.createtxg {
        return Standing::Behind(format!("the receiver has {}, not {}", base.name, newest.name));
    }
    match leftovers(names, sender, receiver, base.guid, expected) {
        None => Standing::Converged,
        Some(problem) => Standing::Behind(problem),
    }
}

fn leftovers(
    names: &Names,
    sender: &DatasetPicture,
    receiver: &DatasetPicture,
    base: Guid,
    expected: Expected,
) -> Option<String> {
    let held = |dataset: &DatasetPicture, tag: Result<model::HoldTag, _>| {
        tag.map(|tag: model::HoldTag| dataset.held(tag.as_str())).unwrap_or_default()
    };
    let steps: Vec<Guid> = held(sender, step_hold_tag(&names.push));
    let tentative = sender.cursors(ProtectionKind::TentativeCursor, &names.push);
    let cursors = sender.cursors(ProtectionKind::Cursor, &names.push);
    let received = held(receiver, last_received_tag(&names.sink));
    let wanted: &[&[Guid]] = match expected {
        Expected::OneEach => &[&[base]],
        Expected::None => &[&[]],
        Expected::Either => &[&[base], &[]],
    };
    let snapshot = |guid: Guid| sender.snapshots().any(|version| version.guid == guid);
    // What would complete a snapshot that is gone from the sender is discarded by the next step, and until
    // there is something to send there is none.
    if receiver.partial.is_some_and(|partial| partial.to.is_none_or(snapshot)) {
        return Some("the receiver has the state of an interrupted receive".to_owned());
    }
    // A user destroyed the newest common snapshot before the sender heard that it had arrived. Its
    // tentative cursor is the base now, and stays until the next step: not every ZFS can copy bookmarks.
    if tentative.contains(&base) && !snapshot(base) {
        return None;
    }
    if !steps.is_empty() || !tentative.is_empty() {
        return Some(format!("step holds {steps:?}, tentative cursors {tentative:?}"));
    }
    if !wanted.contains(&&*cursors) {
        return Some(format!("cursors on {cursors:?}, base is {base:?}"));
    }
    if !wanted.contains(&&*received) {
        return Some(format!("last-received holds on {received:?}, base is {base:?}"));
    }
    None
}
