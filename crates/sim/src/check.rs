//! What must always hold (safety) and what must hold in the end (liveness).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use model::aside::is_aside;
use model::plan::prune::{PrunePlan, PruneSide};
use model::plan::replication::{FilesystemAction, FilesystemPlan};
use model::plan::resolve::Resolution;
use model::protection::{ProtectionKind, last_received_tag, step_hold_tag};
use model::{CreateTxg, DatasetName, Guid, HoldTag, JobName, VersionKind};

use crate::flow::{Flow, Places};
use crate::picture::{DatasetPicture, Picture, Pools, VersionPicture, newest_common};
use crate::process::Host;

/// What is on all machines.
pub type Pictures = [Picture; 3];

/// A job on a machine.
pub type Actor = (Host, JobName);

/// Looks at the pools after every operation.
pub struct Watch {
    pools: Box<dyn Pools>,
    flows: Vec<Flow>,
    before: Pictures,
    common: BTreeMap<(usize, String), (Guid, CreateTxg)>,
    /// Whose base a user took away by force.
    broken: Places,
    condemned: BTreeSet<(Host, String, Guid)>,
    /// What plans move out of the way.
    moving: BTreeSet<(Host, String)>,
    contents: BTreeMap<Guid, u64>,
    seen: BTreeSet<(Host, String, Guid)>,
    violations: Vec<String>,
}

impl Watch {
    /// A watch over these pools and what is replicated between them.
    pub fn new(pools: Box<dyn Pools>, flows: Vec<Flow>) -> Self {
        let mut watch = Self {
            pools,
            flows,
            before: Default::default(),
            common: BTreeMap::new(),
            broken: Places::new(),
            condemned: BTreeSet::new(),
            moving: BTreeSet::new(),
            contents: BTreeMap::new(),
            seen: BTreeSet::new(),
            violations: Vec::new(),
        };
        watch.user_did(&"the world begins", &Places::new());
        watch
    }

    /// What was unsafe so far.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Something else that must never happen did.
    pub fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// What is on the pools, as of the last look.
    pub fn pictures(&self) -> &Pictures {
        &self.before
    }

    /// Who replicates what to where.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// A job announced a plan; what it names may go.
    pub fn announced(&mut self, (host, job): &Actor, plan: &PrunePlan) {
        let flow = self.flows.iter().find(|flow| flow.driver == *host && flow.active() == job);
        for filesystem in &plan.filesystems {
            let place = match (plan.side, flow) {
                (PruneSide::Local, _) => Some((*host, filesystem.name.to_string())),
                (PruneSide::Sender, Some(flow)) => Some((flow.sender, filesystem.name.to_string())),
                (PruneSide::Receiver, Some(flow)) => Some((flow.receiver, flow.on_receiver(filesystem.name.as_str()))),
                (PruneSide::Sender | PruneSide::Receiver, None) => None,
            };
            let Some((host, dataset)) = place else { continue };
            let destroys = filesystem.destroys().map(|version| (host, dataset.clone(), version.guid));
            self.condemned.extend(destroys);
        }
    }

    /// A job announced a replication plan; what it destroys or moves to resolve conflicts may go.
    pub fn announced_resolutions(&mut self, (host, job): &Actor, plans: &[FilesystemPlan]) {
        let Some(flow) = self.flows.iter().find(|flow| flow.driver == *host && flow.active() == job) else { return };
        for filesystem in plans {
            let FilesystemAction::Steps { resolution: Some(resolution), .. } = &filesystem.action else { continue };
            let dataset = flow.on_receiver(filesystem.name.as_str());
            match resolution {
                Resolution::RollBack { destroy, .. } => {
                    let destroys = destroy.iter().map(|version| (flow.receiver, dataset.clone(), version.guid));
                    self.condemned.extend(destroys);
                }
                Resolution::RenameAside { .. } => {
                    self.moving.insert((flow.receiver, dataset));
                }
            }
        }
    }

    /// Looks after one of `actors` did something. What is found is also kept.
    pub fn look(&mut self, cause: &dyn Display, actors: &[Actor]) -> Vec<String> {
        let now = self.take();
        let mut found = Vec::new();
        for host in Host::ALL {
            self.check_host(host, &now, actors, &mut found);
        }
        self.check_common(&now, actors, &mut found);
        self.settle(now, cause, found)
    }

    /// Looks after somebody else did something, which excuses nothing but what vanished. `broken` are
    /// filesystems whose base the user took away by force.
    pub fn user_did(&mut self, cause: &dyn Display, broken: &Places) -> Vec<String> {
        let now = self.take();
        let mut found = Vec::new();
        for (place, flow) in self.common.keys().filter_map(|place| Some((place, self.flows.get(place.0)?))) {
            if !flow.guarded || broken.contains(place) {
                continue;
            }
            let (_, filesystem) = place;
            let sender = now[flow.sender.index()].get(filesystem);
            let receiver = now[flow.receiver.index()].get(&flow.on_receiver(filesystem));
            let usable = sender.zip(receiver).is_some_and(|(sender, receiver)| {
                let base = newest_common(sender, receiver).map(|version| version.guid);
                base.is_some() && base == receiver.newest().map(|version| version.guid)
            });
            if !usable {
                let who = flow.sending.as_str();
                found.push(format!("an ordinary command of a user took the base of {filesystem} ({who})"));
            }
        }
        self.common.clear();
        self.broken.clone_from(broken);
        self.settle(now, cause, found)
    }

    fn take(&mut self) -> Pictures {
        Host::ALL.map(|host| self.pools.picture(host))
    }

    fn settle(&mut self, now: Pictures, cause: &dyn Display, mut found: Vec<String>) -> Vec<String> {
        self.check_contents(&now, &mut found);
        self.common = self.commons(&now);
        self.before = now;
        let found: Vec<String> = found.into_iter().map(|violation| format!("{violation} (by: {cause})")).collect();
        self.violations.extend(found.iter().cloned());
        found
    }

    fn check_host(&self, host: Host, now: &Pictures, actors: &[Actor], found: &mut Vec<String>) {
        let (before, now) = (&self.before[host.index()], &now[host.index()]);
        let nothing = DatasetPicture::default();
        let receives = self.flows.iter().any(|flow| flow.receiver == host);
        for (name, old) in before {
            let name = &self.name_now(host, name, now);
            let new = now.get(name).unwrap_or(&nothing);
            if old == new {
                continue;
            }
            for version in old.versions.iter().filter(|version| !new.versions.contains(version)) {
                self.check_vanished(host, name, version, actors, found);
            }
            for (snapshot, tag) in old.holds.difference(&new.holds) {
                let owned = |actor| self.flows.iter().any(|flow| flow.owns_hold(actor, tag));
                if !actors.iter().filter(|(on, _)| *on == host).any(owned) {
                    found.push(format!("foreign hold {tag:?} on {name}@{snapshot} is gone"));
                }
            }
            // What holds no snapshot may be the state of a receive, which can be discarded.
            let holds_nothing = receives && !old.placeholder && old.versions.is_empty();
            if !now.contains_key(name) && !holds_nothing {
                found.push(format!("dataset {name} is gone"));
            }
        }
    }

    /// What a dataset is called after something above it, or itself, was moved out of the way as a plan
    /// says.
    fn name_now(&self, host: Host, name: &str, now: &Picture) -> String {
        let is_within = |moved: &str| name.strip_prefix(moved).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        for (_, moved) in self.moving.iter().filter(|(on, _)| *on == host && !now.contains_key(name)) {
            let Some(rest) = is_within(moved) else { continue };
            let is_new = |candidate: &&String| {
                let parsed = DatasetName::parse(candidate);
                let aside = candidate.starts_with(moved.as_str()) && parsed.is_ok_and(|name| is_aside(&name));
                aside && !candidate[moved.len()..].contains('/') && !self.before[host.index()].contains_key(*candidate)
            };
            if let Some(aside) = now.keys().find(is_new) {
                return format!("{aside}{rest}");
            }
        }
        name.to_owned()
    }

    fn check_vanished(
        &self,
        host: Host,
        dataset: &str,
        version: &VersionPicture,
        actors: &[Actor],
        found: &mut Vec<String>,
    ) {
        let owned = |actor| self.flows.iter().any(|flow| flow.owns_bookmark(actor, version));
        let excused = match version.kind {
            VersionKind::Bookmark => actors.iter().filter(|(on, _)| *on == host).any(owned),
            VersionKind::Snapshot => self.condemned.contains(&(host, dataset.to_owned(), version.guid)),
        };
        if !excused {
            let mark = version.kind.delimiter();
            found.push(format!("{dataset}{mark}{} is gone, and no plan has named it", version.name));
        }
    }

    fn check_common(&self, now: &Pictures, actors: &[Actor], found: &mut Vec<String>) {
        let commons = self.commons(now);
        for (place @ (flow, filesystem), (guid, txg)) in &self.common {
            let Some(flow) = self.flows.get(*flow).filter(|flow| flow.guarded) else { continue };
            // A rollback takes cursors along: until the job finds that, what is left in common is no other
            // job's business.
            let is_unprotected = || !protects(flow, &self.before[flow.sender.index()], filesystem, *guid);
            if self.broken.contains(place) && !actors.iter().all(|(_, job)| flow.is_of(job)) && is_unprotected() {
                continue;
            }
            // What arrived without anybody being told is no base yet: the one before it is.
            let is_unknown = || !is_acknowledged(flow, &self.before, filesystem, *guid);
            let who = flow.sending.as_str();
            match commons.get(place) {
                None => found.push(format!("{filesystem} ({who}) has no common version any longer, it was {guid:?}")),
                Some((now, older))
                    if older < txg && is_acknowledged(flow, &self.before, filesystem, *now) && is_unknown() => {}
                Some((now, older)) if older < txg => {
                    found
                        .push(format!("the newest common version of {filesystem} ({who}) was {guid:?} and is {now:?}"));
                }
                Some(_) => {}
            }
        }
    }

    fn commons(&self, pictures: &Pictures) -> BTreeMap<(usize, String), (Guid, CreateTxg)> {
        let mut commons = BTreeMap::new();
        for (index, flow) in self.flows.iter().enumerate() {
            let receiver = &pictures[flow.receiver.index()];
            for (name, dataset) in pictures[flow.sender.index()].iter().filter(|(name, _)| flow.selects(name)) {
                let Some(other) = receiver.get(&flow.on_receiver(name)) else { continue };
                if let Some(version) = newest_common(dataset, other) {
                    commons.insert((index, name.clone()), (version.guid, version.createtxg));
                }
            }
        }
        commons
    }

    /// What has the same guid has the same content, wherever it is.
    fn check_contents(&mut self, now: &Pictures, found: &mut Vec<String>) {
        for (host, picture) in Host::ALL.into_iter().zip(now) {
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

    /// How all filesystems stand: what is behind, with the reason, and which need a person. Those in
    /// `excused` may.
    pub fn standings(&self, excused: &Places) -> Standings {
        let mut standings = Standings::default();
        for (index, flow) in self.flows.iter().enumerate() {
            for (name, dataset) in &self.before[flow.sender.index()] {
                if !flow.selects(name) || dataset.placeholder {
                    continue;
                }
                let place = (index, name.clone());
                match standing(flow, &self.before, name) {
                    Standing::Empty | Standing::Converged => {
                        let stale = stale(flow, &self.before, name);
                        standings
                            .behind
                            .extend(stale.map(|stale| format!("{name} ({}): {stale}", flow.sending.as_str())));
                    }
                    Standing::Behind(_) if excused.contains(&place) => standings.stuck.push(place),
                    Standing::Stuck if endangered(flow, &self.before, name) => standings
                        .behind
                        .push(format!("{name} ({}): nothing protects what is in common", flow.sending.as_str())),
                    Standing::Stuck => standings.stuck.push(place),
                    Standing::Clashing => standings.clashing.push(place),
                    Standing::Behind(why) => {
                        standings.behind.push(format!("{name} ({}): {why}", flow.sending.as_str()));
                    }
                }
            }
        }
        standings
    }
}

/// How everything stands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Standings {
    /// What is behind, with the reason.
    pub behind: Vec<String>,
    /// What needs a person.
    pub stuck: Vec<(usize, String)>,
    /// What the sender has next has the name of another snapshot of the receiver, because the clock was
    /// set back: this needs a person as well.
    pub clashing: Vec<(usize, String)>,
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
enum Standing {
    /// The sender has nothing to send.
    Empty,
    /// No incremental is possible, and what the receiver has must not be replaced.
    Stuck,
    /// The next snapshot has the name of another one that the receiver has.
    Clashing,
    /// Everything is where it should be.
    Converged,
    /// Something is missing.
    Behind(String),
}

/// How a filesystem of the sender stands.
fn standing(flow: &Flow, pictures: &Pictures, filesystem: &str) -> Standing {
    let nothing = DatasetPicture::default();
    let receiver = pictures[flow.receiver.index()].get(&flow.on_receiver(filesystem)).unwrap_or(&nothing);
    let Some(sender) = pictures[flow.sender.index()].get(filesystem) else { return Standing::Empty };
    let (Some(newest), base) = (sender.newest(), newest_common(sender, receiver)) else { return Standing::Empty };
    let Some(received) = receiver.newest() else {
        return Standing::Behind("the receiver has no snapshot".to_owned());
    };
    let Some(base) = base.filter(|base| base.guid == received.guid) else { return Standing::Stuck };
    if base.createtxg < newest.createtxg {
        let mut missing = sender.snapshots().filter(|version| version.createtxg > base.createtxg);
        let is_there = |version: &VersionPicture| receiver.snapshots().any(|other| other.name == version.name);
        if missing.any(is_there) {
            return Standing::Clashing;
        }
        return Standing::Behind(format!("the receiver has {}, not {}", base.name, newest.name));
    }
    match leftovers(flow, sender, receiver, base.guid) {
        None => Standing::Converged,
        Some(problem) => Standing::Behind(problem),
    }
}

/// Whether the job of a flow keeps a version on the sender.
fn protects(flow: &Flow, sender: &Picture, filesystem: &str, guid: Guid) -> bool {
    let Some(sender) = sender.get(filesystem) else { return false };
    let cursor = |kind| sender.cursors(kind, &flow.sending).contains(&guid);
    cursor(ProtectionKind::Cursor)
        || cursor(ProtectionKind::TentativeCursor)
        || held(sender, step_hold_tag(&flow.sending)).contains(&guid)
}

/// Whether the receiving job of a flow holds a version.
fn is_acknowledged(flow: &Flow, pictures: &Pictures, filesystem: &str, guid: Guid) -> bool {
    let receiver = pictures[flow.receiver.index()].get(&flow.on_receiver(filesystem));
    receiver.is_some_and(|receiver| held(receiver, last_received_tag(&flow.receiving)).contains(&guid))
}

/// Whether the newest common snapshot of a filesystem that needs a person may be pruned meanwhile.
fn endangered(flow: &Flow, pictures: &Pictures, filesystem: &str) -> bool {
    let (senders, receivers) = (&pictures[flow.sender.index()], &pictures[flow.receiver.index()]);
    let both = senders.get(filesystem).zip(receivers.get(&flow.on_receiver(filesystem)));
    let Some(base) = both.and_then(|(sender, receiver)| newest_common(sender, receiver)) else { return false };
    let keeps_cursor = flow.guarded && flow.expected == Expected::OneEach;
    keeps_cursor && base.kind == VersionKind::Snapshot && !protects(flow, senders, filesystem, base.guid)
}

fn held<E>(dataset: &DatasetPicture, tag: Result<HoldTag, E>) -> Vec<Guid> {
    tag.map(|tag| dataset.held(tag.as_str())).unwrap_or_default()
}

fn leftovers(flow: &Flow, sender: &DatasetPicture, receiver: &DatasetPicture, base: Guid) -> Option<String> {
    let steps: Vec<Guid> = held(sender, step_hold_tag(&flow.sending));
    let tentative = sender.cursors(ProtectionKind::TentativeCursor, &flow.sending);
    let cursors = sender.cursors(ProtectionKind::Cursor, &flow.sending);
    let received = held(receiver, last_received_tag(&flow.receiving));
    let wanted: &[&[Guid]] = match flow.expected {
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

/// A protection that no step needs any longer, whether or not there was anything to send. Holds on what
/// has nothing in common with the sender are put right when the receiving job starts, or by the next step.
fn stale(flow: &Flow, pictures: &Pictures, filesystem: &str) -> Option<String> {
    let sender = pictures[flow.sender.index()].get(filesystem)?;
    let steps = held(sender, step_hold_tag(&flow.sending));
    let receiver = pictures[flow.receiver.index()].get(&flow.on_receiver(filesystem));
    let related = receiver.filter(|receiver| newest_common(sender, receiver).is_some());
    let received = related.map(|receiver| held(receiver, last_received_tag(&flow.receiving))).unwrap_or_default();
    match (steps.as_slice(), received.as_slice()) {
        ([], [] | [_]) => None,
        _ => Some(format!("stale step holds {steps:?} or last-received holds {received:?}")),
    }
}
