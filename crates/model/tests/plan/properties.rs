//! What holds for all views, found by trying many: a small world is generated, plans are applied to it
//! in the smallest actions that a crash can separate, and the world is planned again.

use std::collections::BTreeMap;

use model::plan::protection::{
    ProtectionChanges, after_completion, after_receive, protect_before_send, stale_protections,
};
use model::plan::prune::{CursorView, Decision, KeepRule, PruneSide, PruneView, plan_pruning};
use model::plan::replication::{
    Base, Conflict, FilesystemAction, FilesystemPlan, InitialReplication, NothingReason, Repair, ReplicationPlan,
    ReplicationPolicy, Step, plan_replication,
};
use model::plan::resolve::{ConflictPolicy, Resolution, WhenDiverged, WhenNothingInCommon, WhenTokenIsDead};
use model::protection::{Protection, ProtectionKind, ProtectionPolicy, ProtectionStrategy, bookmark_protection};
use model::view::{
    DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, TokenContents, TokenFlags, View,
};
use model::{CreateTxg, DatasetName, Guid, UnixTime, Version, VersionKind, VersionName, VersionRef};
use proptest::prelude::*;

use crate::grid_properties::any_grid;
use crate::notation::{dataset, job};

const NAMES: [&str; 5] = ["p", "p/a", "p/a/b", "p/ab", "q"];

// === worlds ===

fn version(kind: VersionKind, number: u64, txg: u64, name: String) -> Version {
    Version {
        kind,
        name: VersionName::parse(&name).unwrap(),
        guid: Guid(number + 1),
        createtxg: CreateTxg(txg),
        creation: UnixTime((number * 60) as i64),
        userrefs: 0,
    }
}

/// What one side has of snapshot number n: nothing, the snapshot, a bookmark, or both.
fn side_versions(have: &[u8], order: &[u64], receiver: bool) -> Vec<Version> {
    let mut list = Vec::new();
    for (number, have) in have.iter().enumerate() {
        let (number, txg) = (number as u64, 10 * order[number]);
        if have & 1 != 0 {
            list.push(version(VersionKind::Snapshot, number, txg, format!("s{number}")));
        }
        if have & 2 != 0 && !receiver {
            list.push(version(VersionKind::Bookmark, number, txg, format!("b{number}")));
        }
    }
    list
}

fn protection(kind: ProtectionKind, of: &Version) -> Protection {
    let bookmark = |name| VersionRef { kind: VersionKind::Bookmark, name, guid: of.guid };
    let version = match kind {
        ProtectionKind::Cursor => bookmark(model::protection::cursor_name(of.guid, &job()).unwrap()),
        ProtectionKind::TentativeCursor => bookmark(model::protection::tentative_cursor_name(of.guid, &job()).unwrap()),
        ProtectionKind::StepHold | ProtectionKind::LastReceivedHold => of.to_ref(),
    };
    Protection { kind, version, createtxg: of.createtxg }
}

fn blank(placeholder: Placeholder) -> FilesystemView {
    FilesystemView {
        kind: DatasetKind::Filesystem,
        placeholder,
        encryption: Encryption::None,
        versions: Vec::new().into(),
        partial: None,
        protections: Vec::new(),
    }
}

fn add(fs: &mut FilesystemView, version: Version) {
    let mut list = fs.versions.to_vec();
    list.push(version);
    fs.versions = Version::sorted(list);
}

fn drop_bookmark(fs: &mut FilesystemView, name: &VersionName) {
    let goes = |version: &Version| version.kind == VersionKind::Bookmark && version.name == *name;
    fs.versions = fs.versions.iter().filter(|version| !goes(version)).cloned().collect();
    fs.protections.retain(|p| p.version.kind != VersionKind::Bookmark || p.version.name != *name);
}

fn set_held(fs: &mut FilesystemView) {
    let holds: Vec<Guid> =
        fs.protections.iter().filter(|p| p.version.kind == VersionKind::Snapshot).map(|p| p.version.guid).collect();
    let mut list = fs.versions.to_vec();
    for version in list.iter_mut().filter(|version| version.is_snapshot()) {
        version.userrefs = holds.iter().filter(|guid| **guid == version.guid).count() as u32;
    }
    fs.versions = list.into();
}

/// Adds protections where the side has a snapshot for them.
fn protect(fs: &mut FilesystemView, marks: &[(ProtectionKind, usize)]) {
    for (kind, number) in marks {
        let Some(of) = fs.snapshots().find(|v| v.guid == Guid(*number as u64 + 1)).cloned() else { continue };
        let made = protection(*kind, &of);
        if fs.protections.contains(&made) {
            continue;
        }
        if made.version.kind == VersionKind::Bookmark {
            let name = made.version.name.clone();
            add(fs, Version { kind: VersionKind::Bookmark, name, ..of });
        }
        fs.protections.push(made);
    }
    set_held(fs);
}

/// Destroys snapshots of which a cursor may remain.
fn lose_unheld(fs: &mut FilesystemView, lost: &[bool]) {
    let is_lost = |v: &&Version| v.is_snapshot() && v.userrefs == 0 && lost[v.guid.0 as usize - 1];
    fs.versions = fs.versions.iter().filter(|version| !is_lost(version)).cloned().collect();
}

prop_compose! {
    fn any_sides(name: &'static str)(
        sender_have in prop::collection::vec(0u8..4, 6),
        receiver_have in prop::collection::vec(prop::sample::select(vec![0u8, 0, 1]), 6),
        shuffled in prop::bool::weighted(0.1),
        foreign in prop::bool::weighted(0.1),
        exists in prop::bool::weighted(0.7),
        sender_mark in prop::bool::weighted(0.1),
        receiver_mark in 0u8..8,
        partial in prop::option::weighted(0.3, (prop::option::of(0usize..6), 0usize..6, any::<bool>())),
        sender_marks in prop::collection::vec((prop::sample::select(vec![
            ProtectionKind::Cursor, ProtectionKind::TentativeCursor, ProtectionKind::StepHold,
        ]), 0usize..6), 0..4),
        sender_lost in prop::collection::vec(prop::bool::weighted(0.3), 6),
        receiver_marks in prop::collection::vec((Just(ProtectionKind::LastReceivedHold), 0usize..6), 0..3),
    ) -> (FilesystemView, Option<FilesystemView>) {
        let order: Vec<u64> = (1..7).collect();
        let receiver_order = if shuffled { vec![2, 1, 3, 6, 5, 4] } else { order.clone() };
        let mut sender = blank(if sender_mark { Placeholder::On } else { Placeholder::Unset });
        sender.versions = Version::sorted(side_versions(&sender_have, &order, false));
        protect(&mut sender, &sender_marks);
        lose_unheld(&mut sender, &sender_lost);
        let mut receiver = blank(match receiver_mark { 0 => Placeholder::On, 1 => Placeholder::Off, _ => Placeholder::Unset });
        let mut list = side_versions(&receiver_have, &receiver_order, true);
        if foreign {
            list.push(version(VersionKind::Snapshot, 99, 1000, "foreign".into()));
        }
        receiver.versions = Version::sorted(list);
        protect(&mut receiver, &receiver_marks);
        receiver.partial = partial.map(|(from, to, readable)| PartialReceive {
            token: "t".into(),
            contents: if readable { Ok(token(name, from.map(|n| Guid(n as u64 + 1)), Guid(to as u64 + 1))) } else { Err("bad".into()) },
        });
        (sender, exists.then_some(receiver))
    }
}

fn token(name: &str, from: Option<Guid>, to: Guid) -> TokenContents {
    TokenContents { from, to, to_name: format!("{name}@x"), bytes_received: 1, flags: TokenFlags::default() }
}

fn any_world() -> impl Strategy<Value = (View, View)> {
    NAMES.map(any_sides).prop_map(|sides| {
        let (mut sender, mut receiver) = (BTreeMap::new(), BTreeMap::new());
        for (name, (source, target)) in NAMES.iter().zip(sides) {
            sender.insert(dataset(name), source);
            // A dataset can exist only below one that exists.
            let parent = dataset(name).parent();
            if let Some(target) = target.filter(|_| parent.is_none_or(|parent| receiver.contains_key(&parent))) {
                receiver.insert(dataset(name), target);
            }
        }
        (View::new(sender), View::new(receiver))
    })
}

fn any_strategy() -> impl Strategy<Value = ProtectionStrategy> {
    use ProtectionStrategy::*;
    prop::sample::select(vec![Resumability, Incremental, Nothing])
}

fn any_policy() -> impl Strategy<Value = ReplicationPolicy> {
    use InitialReplication::*;
    (prop::sample::select(vec![MostRecent, All, Fail]), any_strategy(), any_strategy(), any_conflict_policy()).prop_map(
        |(initial, first, later, conflicts)| ReplicationPolicy {
            initial,
            protection: ProtectionPolicy { initial: first, incremental: later },
            conflicts,
        },
    )
}

fn any_conflict_policy() -> impl Strategy<Value = ConflictPolicy> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(diverged, dead_token, no_common)| ConflictPolicy {
        diverged: if diverged { WhenDiverged::RollbackReceiver } else { WhenDiverged::Fail },
        dead_token: if dead_token { WhenTokenIsDead::Fail } else { WhenTokenIsDead::Discard },
        no_common: if no_common { WhenNothingInCommon::RenameAside } else { WhenNothingInCommon::Fail },
    })
}

// === applying a plan ===

/// Both sides, and how many more actions happen before the power fails.
struct World {
    sender: View,
    receiver: View,
    policy: ReplicationPolicy,
    left: usize,
    /// What was moved out of the way on the receiver, by its old name.
    aside: Vec<(DatasetName, FilesystemView)>,
}

/// The power failed.
struct Cut;

type Applied = Result<(), Cut>;

impl World {
    fn new((sender, receiver): (View, View), policy: ReplicationPolicy) -> Self {
        Self { sender, receiver, policy, left: usize::MAX, aside: Vec::new() }
    }

    fn plan(&self) -> ReplicationPlan {
        plan_replication(&self.sender, &self.receiver, &self.policy)
    }

    fn spend(&mut self) -> Applied {
        self.left = self.left.checked_sub(1).ok_or(Cut)?;
        Ok(())
    }

    fn apply(&mut self, plan: &ReplicationPlan) -> Applied {
        for fs in &plan.filesystems {
            match &fs.action {
                FilesystemAction::Nothing(_) | FilesystemAction::Conflict(_) => {}
                FilesystemAction::Confirm { version, repairs } => self.confirm(&fs.name, version, repairs)?,
                FilesystemAction::Steps { base, steps, discard, resolution } => {
                    if discard.is_some() {
                        self.spend()?;
                        self.receiver.filesystems.get_mut(&fs.name).unwrap().partial = None;
                    }
                    if let Some(resolution) = resolution {
                        self.resolve(&fs.name, resolution)?;
                    }
                    if let (true, Base::Common(common)) = (steps.is_empty(), base) {
                        assert!(resolution.is_some());
                        self.confirm(&fs.name, common, &[Repair::HoldLastReceived, Repair::MoveCursor])?;
                    }
                    self.check_order(fs);
                    for step in steps {
                        self.step(&fs.name, step)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn resolve(&mut self, name: &DatasetName, resolution: &Resolution) -> Applied {
        match resolution {
            Resolution::RollBack { to, destroy } => {
                let strategy = self.policy.protection.incremental;
                let existing = self.receiver.filesystems[name].protections.clone();
                self.receiver_changes(name, &after_receive(to, strategy, &existing))?;
                self.spend()?;
                let fs = self.receiver.filesystems.get_mut(name).unwrap();
                let at = fs.snapshots().find(|version| version.to_ref() == *to).expect("it is there").createtxg;
                let newer: Vec<&Version> = fs.snapshots().filter(|version| version.createtxg > at).collect();
                assert!(newer.iter().all(|version| version.userrefs == 0 && destroy.contains(&version.to_ref())));
                fs.versions =
                    fs.versions.iter().filter(|version| !destroy.contains(&version.to_ref())).cloned().collect();
                assert_eq!(fs.newest_snapshot().map(Version::to_ref).as_ref(), Some(to));
            }
            Resolution::RenameAside { newest, below } => {
                self.spend()?;
                let there = self.receiver.filesystems[name].newest_snapshot().map(Version::to_ref);
                assert_eq!(there.as_ref(), Some(newest));
                let all = std::mem::take(&mut self.receiver.filesystems);
                let (moved, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    all.into_iter().partition(|(fs, _)| fs.is_within(name));
                assert!(moved.keys().all(|fs| fs == name || below.contains(fs)));
                self.receiver.filesystems = kept;
                self.aside.extend(moved);
            }
        }
        Ok(())
    }

    /// Every snapshot on the receiver, also of what was moved out of the way.
    fn received(&self) -> Vec<(DatasetName, VersionRef)> {
        let all = self.receiver.filesystems.iter().chain(self.aside.iter().map(|(name, fs)| (name, fs)));
        all.flat_map(|(name, fs)| fs.snapshots().map(|version| (name.clone(), version.to_ref()))).collect()
    }

    fn check_order(&self, fs: &FilesystemPlan) {
        if let Some(after) = &fs.after {
            assert!(self.receiver.filesystems[after].newest_snapshot().is_some(), "{after} before {}", fs.name);
        }
    }

    fn confirm(&mut self, name: &DatasetName, version: &VersionRef, repairs: &[Repair]) -> Applied {
        assert!(!repairs.is_empty());
        let strategy = self.policy.protection.incremental;
        if repairs.iter().any(|repair| matches!(repair, Repair::HoldLastReceived | Repair::ReleaseOlderReceived)) {
            let existing = self.receiver.filesystems[name].protections.clone();
            self.receiver_changes(name, &after_receive(version, strategy, &existing))?;
        }
        if repairs.iter().any(|repair| matches!(repair, Repair::MoveCursor | Repair::RemoveStepProtection)) {
            let existing = self.sender.filesystems[name].protections.clone();
            self.sender_changes(name, &after_completion(&job(), version, strategy, &existing).unwrap())?;
        }
        Ok(())
    }

    fn step(&mut self, name: &DatasetName, step: &Step) -> Applied {
        let strategy = self.policy.protection.for_step(step.from.as_ref());
        let existing = self.sender.filesystems[name].protections.clone();
        let before = protect_before_send(&job(), step.from.as_ref(), &step.to, strategy, &existing).unwrap();
        self.sender_changes(name, &before)?;
        self.receive(name, step)?;
        let existing = self.receiver.filesystems[name].protections.clone();
        self.receiver_changes(name, &after_receive(&step.to, strategy, &existing))?;
        let existing = self.sender.filesystems[name].protections.clone();
        self.sender_changes(name, &after_completion(&job(), &step.to, strategy, &existing).unwrap())
    }

    fn receive(&mut self, name: &DatasetName, step: &Step) -> Applied {
        let source = &self.sender.filesystems[name];
        let sent = source.snapshots().find(|version| version.to_ref() == step.to).expect("sent what is there").clone();
        if let Some(from) = &step.from {
            assert!(source.versions.iter().any(|version| version.to_ref() == *from), "{from} is not on the sender");
        }
        for parent in name.ancestors() {
            self.receiver.filesystems.entry(parent).or_insert_with(|| blank(Placeholder::On));
        }
        self.spend()?;
        let exists = self.receiver.filesystems.contains_key(name);
        let target = self.receiver.filesystems.entry(name.clone()).or_insert_with(|| blank(Placeholder::Unset));
        assert_eq!(step.resume_token.is_some(), target.partial.is_some(), "partial state is used or discarded");
        match &step.from {
            None => {
                assert!(target.newest_snapshot().is_none());
                target.versions = Vec::new().into();
                target.protections.clear();
            }
            Some(from) => assert_eq!(target.newest_snapshot().map(|v| v.guid), Some(from.guid)),
        }
        let contents = token(name.as_str(), step.from.as_ref().map(|from| from.guid), step.to.guid);
        target.partial = Some(PartialReceive { token: "t".into(), contents: Ok(contents) });
        self.spend()?;
        let target = self.receiver.filesystems.get_mut(name).unwrap();
        target.partial = None;
        if exists {
            target.placeholder = Placeholder::Off;
        }
        let txg = target.versions.iter().map(|version| version.createtxg.0).max().unwrap_or(0) + 1;
        add(target, Version { createtxg: CreateTxg(txg), userrefs: 0, ..sent });
        Ok(())
    }

    fn sender_changes(&mut self, name: &DatasetName, changes: &ProtectionChanges) -> Applied {
        for (of, bookmark) in &changes.bookmarks {
            self.spend()?;
            let fs = self.sender.filesystems.get_mut(name).unwrap();
            let of = fs.snapshots().find(|version| version.to_ref() == *of).expect("a snapshot is bookmarked").clone();
            let made = Version { kind: VersionKind::Bookmark, name: bookmark.clone(), userrefs: 0, ..of };
            assert!(fs.versions.iter().all(|version| version.to_ref() != made.to_ref()), "made twice");
            fs.protections.push(bookmark_protection(&made, &job()).unwrap());
            add(fs, made);
        }
        self.holds(name, changes, ProtectionKind::StepHold)
    }

    fn receiver_changes(&mut self, name: &DatasetName, changes: &ProtectionChanges) -> Applied {
        assert!(changes.bookmarks.is_empty() && changes.destroy_bookmarks.is_empty());
        self.holds(name, changes, ProtectionKind::LastReceivedHold)
    }

    fn holds(&mut self, name: &DatasetName, changes: &ProtectionChanges, kind: ProtectionKind) -> Applied {
        for snapshot in &changes.holds {
            self.spend()?;
            let fs = self.side(kind).filesystems.get_mut(name).unwrap();
            let of = fs.snapshots().find(|version| version.guid == snapshot.guid).expect("held what is there").clone();
            let made = protection(kind, &of);
            assert!(!fs.protections.contains(&made), "held twice");
            fs.protections.push(made);
        }
        for hold in &changes.release {
            self.spend()?;
            self.side(kind).filesystems.get_mut(name).unwrap().protections.retain(|existing| existing != hold);
        }
        for bookmark in &changes.destroy_bookmarks {
            self.spend()?;
            drop_bookmark(self.side(kind).filesystems.get_mut(name).unwrap(), bookmark);
        }
        set_held(self.side(kind).filesystems.get_mut(name).unwrap());
        Ok(())
    }

    fn side(&mut self, kind: ProtectionKind) -> &mut View {
        if kind == ProtectionKind::LastReceivedHold { &mut self.receiver } else { &mut self.sender }
    }

    /// Takes a snapshot on the sender that no peer has.
    fn snapshot_everywhere(&mut self, number: u64) {
        for fs in self.sender.filesystems.values_mut().filter(|fs| fs.placeholder != Placeholder::On) {
            add(fs, version(VersionKind::Snapshot, number, 10_000 + number, format!("n{number}")));
        }
    }

    fn common(&self, name: &DatasetName) -> Option<Guid> {
        let source = &self.sender.filesystems.get(name)?.versions;
        let target = &self.receiver.filesystems.get(name)?;
        target.snapshots().rev().find(|v| source.iter().any(|s| s.guid == v.guid)).map(|v| v.guid)
    }

    /// Prunes both sides with these rules.
    fn prune(&mut self, rules: &[KeepRule]) {
        let names: Vec<DatasetName> = self.receiver.filesystems.keys().cloned().collect();
        for name in names.iter().filter(|name| self.sender.filesystems.contains_key(*name)).cloned().collect::<Vec<_>>()
        {
            let common_base = self.common(&name);
            let cursor = self.sender.filesystems[&name]
                .protections
                .iter()
                .filter(|p| p.kind == ProtectionKind::Cursor)
                .max_by_key(|p| p.createtxg)
                .map_or(CursorView::Missing, |p| CursorView::At(p.version.guid, p.createtxg));
            for (side, view) in [(PruneSide::Sender, &mut self.sender), (PruneSide::Receiver, &mut self.receiver)] {
                let fs = view.filesystems.get_mut(&name).unwrap();
                let versions = fs.versions.clone();
                let view = PruneView { name: name.clone(), skip: None, versions, cursor, common_base };
                fs.versions = survivors(&plan_pruning(side, &[view], rules));
            }
        }
    }
}

fn survivors(plan: &model::plan::prune::PrunePlan) -> std::sync::Arc<[Version]> {
    let fs = &plan.filesystems[0];
    let kept = fs.versions.iter().zip(&fs.decisions).filter(|(_, decision)| **decision != Decision::Destroy);
    kept.map(|(version, _)| version.clone()).collect()
}

fn is_settled(action: &FilesystemAction) -> bool {
    matches!(action, FilesystemAction::Nothing(_) | FilesystemAction::Conflict(_))
}

fn names_in_conflict(plan: &ReplicationPlan) -> Vec<&DatasetName> {
    let mut names: Vec<&DatasetName> = plan
        .filesystems
        .iter()
        .filter(|fs| matches!(fs.action, FilesystemAction::Conflict(_)))
        .map(|fs| &fs.name)
        .collect();
    names.sort();
    names
}

// === rules ===

fn any_rule_without_grid() -> impl Strategy<Value = KeepRule> {
    let regex = || prop::sample::select(vec!["^s", "[024]$", "n", "zzz"]).prop_map(|r| regex::Regex::new(r).unwrap());
    prop_oneof![
        any::<bool>().prop_map(|keep_snapshot_at_cursor| KeepRule::NotReplicated { keep_snapshot_at_cursor }),
        (1usize..4, prop::option::of(regex())).prop_map(|(count, regex)| KeepRule::LastN { count, regex }),
        (regex(), any::<bool>()).prop_map(|(regex, negate)| KeepRule::Regex { regex, negate }),
    ]
}

fn any_rule() -> impl Strategy<Value = KeepRule> {
    let regex = prop::sample::select(vec!["^s", "[024]$"]).prop_map(|r| regex::Regex::new(r).unwrap());
    let grid = (any_grid(), regex).prop_map(|(grid, regex)| KeepRule::Grid { grid, regex });
    prop_oneof![3 => any_rule_without_grid(), 1 => grid]
}

prop_compose! {
    fn any_prune_view()(
        have in prop::collection::vec(0u8..4, 8),
        held in prop::collection::vec(prop::bool::weighted(0.2), 8),
        cursor in prop::option::of(0usize..8),
        base in prop::option::of(0usize..8),
    ) -> PruneView {
        let order: Vec<u64> = (1..9).collect();
        let mut versions = side_versions(&have, &order, false);
        for version in versions.iter_mut().filter(|version| version.is_snapshot()) {
            version.userrefs = u32::from(held[version.guid.0 as usize - 1]);
        }
        PruneView {
            name: dataset("p"),
            skip: None,
            versions: Version::sorted(versions),
            cursor: cursor.map_or(CursorView::Missing, |n| CursorView::At(Guid(n as u64 + 1), CreateTxg(10 * (n as u64 + 1)))),
            common_base: base.map(|n| Guid(n as u64 + 1)),
        }
    }
}

fn any_side() -> impl Strategy<Value = PruneSide> {
    prop::sample::select(vec![PruneSide::Sender, PruneSide::Receiver, PruneSide::Local])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_applied_plan_leaves_nothing_to_do(world in any_world(), policy in any_policy()) {
        let mut world = World::new(world, policy);
        let plan = world.plan();
        prop_assert!(world.apply(&plan).is_ok());
        let again = world.plan();
        for fs in &again.filesystems {
            prop_assert!(is_settled(&fs.action), "{}: {}", fs.name, fs.action);
        }
        prop_assert_eq!(names_in_conflict(&again), names_in_conflict(&plan));
    }

    /// Cut anywhere, replication goes on where it was and ends as if nothing had happened.
    #[test]
    fn a_cut_at_any_action_is_made_up_for(world in any_world(), policy in any_policy(), cut in 0usize..40) {
        let mut world = World::new(world, policy);
        let plan = world.plan();
        let conflicts: Vec<DatasetName> = names_in_conflict(&plan).into_iter().cloned().collect();
        world.left = cut;
        let _ = world.apply(&plan);
        world.left = usize::MAX;
        for name in NAMES.map(dataset) {
            let base = world.common(&name);
            let stale = stale_protections(&world.sender.filesystems[&name].protections);
            prop_assert!(!stale.creates());
            prop_assert!(world.sender_changes(&name, &stale).is_ok());
            prop_assert_eq!(world.common(&name), base);
        }
        let plan = world.plan();
        prop_assert_eq!(names_in_conflict(&plan), conflicts.iter().collect::<Vec<_>>());
        prop_assert!(world.apply(&plan).is_ok());
        for fs in &world.plan().filesystems {
            prop_assert!(is_settled(&fs.action), "{}: {}", fs.name, fs.action);
        }
    }

    /// Whatever a job may do about conflicts, and wherever it is cut.
    #[test]
    fn nothing_is_destroyed_that_no_plan_named(world in any_world(), policy in any_policy(), cut in 0usize..40) {
        let mut world = World::new(world, policy);
        let mut named = Vec::new();
        let mut before = world.received();
        for left in [cut, usize::MAX] {
            let plan = world.plan();
            for fs in &plan.filesystems {
                if let FilesystemAction::Steps { resolution: Some(Resolution::RollBack { destroy, .. }), .. } = &fs.action {
                    prop_assert_eq!(policy.conflicts.diverged, WhenDiverged::RollbackReceiver);
                    named.extend(destroy.iter().map(|version| (fs.name.clone(), version.clone())));
                }
            }
            world.left = left;
            let _ = world.apply(&plan);
            let after = world.received();
            for gone in before.iter().filter(|snapshot| !after.contains(snapshot)) {
                prop_assert!(named.contains(gone), "{}{} is gone", gone.0, gone.1);
            }
            before = after;
        }
        for (name, moved) in &world.aside {
            prop_assert_eq!(policy.conflicts.no_common, WhenNothingInCommon::RenameAside);
            if let Some(source) = world.sender.filesystems.get(name) {
                let common = moved.snapshots().any(|v| source.versions.iter().any(|s| s.guid == v.guid));
                prop_assert!(!common, "a base of {} was moved out of the way", name);
            }
        }
    }

    #[test]
    fn after_replication_exactly_one_cursor_and_one_hold_are_left(world in any_world(), initial in any::<bool>()) {
        let initial = if initial { InitialReplication::All } else { InitialReplication::MostRecent };
        let mut world = World::new(world, crate::notation::policy(initial, ProtectionStrategy::Resumability));
        prop_assert!(world.apply(&world.plan()).is_ok());
        for fs in world.plan().filesystems {
            let FilesystemAction::Nothing(NothingReason::UpToDate(version)) = fs.action else { continue };
            let received: Vec<_> = world.receiver.filesystems[&fs.name].protections.iter().map(|p| p.version.guid).collect();
            prop_assert_eq!(received, vec![version.guid]);
            if version.kind == VersionKind::Snapshot {
                let sent = &world.sender.filesystems[&fs.name].protections;
                prop_assert_eq!(sent.len(), 1);
                prop_assert_eq!(sent[0].kind, ProtectionKind::Cursor);
                prop_assert_eq!(sent[0].version.guid, version.guid);
            }
        }
    }

    /// The reason to exist: no rules, and no cut, lose the base that both sides share.
    #[test]
    fn pruning_both_sides_never_costs_the_common_base(
        world in any_world(),
        policy in any_policy(),
        rules in prop::collection::vec(any_rule(), 1..4),
        cut in 0usize..40,
    ) {
        let mut world = World::new(world, policy);
        let plan = world.plan();
        world.left = cut;
        let _ = world.apply(&plan);
        world.left = usize::MAX;
        let bases: Vec<_> = NAMES.iter().map(|name| (*name, world.common(&dataset(name)))).collect();
        world.prune(&rules);
        for (name, base) in &bases {
            prop_assert_eq!(world.common(&dataset(name)), *base, "{}", name);
        }
        let conflicts: Vec<DatasetName> = names_in_conflict(&world.plan()).into_iter().cloned().collect();
        world.snapshot_everywhere(50);
        for fs in &world.plan().filesystems {
            let base = bases.iter().find(|(name, _)| *name == fs.name.as_str()).and_then(|(_, base)| *base);
            let kept = matches!(fs.action, FilesystemAction::Conflict(Conflict::DeadToken { .. }));
            if base.is_some() && !kept && !conflicts.contains(&fs.name) {
                let incremental = matches!(&fs.action, FilesystemAction::Steps { steps, .. } if steps[0].from.is_some());
                prop_assert!(incremental || world.sender.filesystems[&fs.name].placeholder == Placeholder::On, "{}: {}", fs.name, fs.action);
            }
        }
    }

    #[test]
    fn pruning_spares_what_is_held_and_the_receivers_base(
        view in any_prune_view(), side in any_side(), rules in prop::collection::vec(any_rule(), 0..4),
    ) {
        let plan = plan_pruning(side, std::slice::from_ref(&view), &rules);
        for version in plan.filesystems[0].destroys() {
            prop_assert!(version.is_snapshot());
            prop_assert_eq!(version.userrefs, 0);
            prop_assert!(side != PruneSide::Receiver || Some(version.guid) != view.common_base);
            prop_assert!(!rules.is_empty());
        }
        let has_snapshots = |versions: &[Version]| versions.iter().any(Version::is_snapshot);
        if side == PruneSide::Receiver && has_snapshots(&view.versions) {
            prop_assert!(has_snapshots(&survivors(&plan)), "a receiver is never emptied");
        }
    }

    /// For grids see the properties of their own.
    #[test]
    fn pruning_twice_destroys_nothing_more(
        view in any_prune_view(), side in any_side(), rules in prop::collection::vec(any_rule_without_grid(), 0..4),
    ) {
        let left = survivors(&plan_pruning(side, std::slice::from_ref(&view), &rules));
        let again = plan_pruning(side, &[PruneView { versions: left, ..view }], &rules);
        prop_assert_eq!(again.filesystems[0].destroys().count(), 0);
    }

    #[test]
    fn a_further_rule_only_keeps_more(
        view in any_prune_view(), side in any_side(),
        rules in prop::collection::vec(any_rule(), 1..4), further in any_rule(), at in any::<prop::sample::Index>(),
    ) {
        let plan = plan_pruning(side, std::slice::from_ref(&view), &rules);
        let mut more = rules.clone();
        more.insert(at.index(rules.len() + 1), further);
        let more = plan_pruning(side, &[view], &more);
        for version in more.filesystems[0].destroys() {
            prop_assert!(plan.filesystems[0].destroys().any(|destroyed| destroyed == version), "{}", version);
        }
    }
}
