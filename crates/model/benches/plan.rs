//! How long thinking takes on a large host: 10,000 filesystems with 100 snapshots each.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use model::plan::prune::{CursorView, KeepRule, PruneSide, PruneView, plan_pruning};
use model::plan::replication::{FilesystemAction, ReplicationPolicy, plan_replication};
use model::protection::{Protection, ProtectionKind, bookmark_protection, cursor_name};
use model::view::{DatasetKind, Encryption, FilesystemView, Placeholder, View};
use model::{CreateTxg, DatasetName, Guid, JobName, UnixTime, Version, VersionKind, VersionName};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const FILESYSTEMS: u64 = 10_000;
const SNAPSHOTS: u64 = 100;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn replication_nothing_changed(bencher: Bencher<'_, '_>) {
    replication(bencher, 0);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn replication_one_new_snapshot_each(bencher: Bencher<'_, '_>) {
    replication(bencher, 1);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn replication_first_of_all(bencher: Bencher<'_, '_>) {
    let sender = side(Side::Sender, SNAPSHOTS);
    bencher.bench_local(|| plan_replication(black_box(&sender), &View::default(), &policy()));
}

/// One filesystem that has fallen far behind: the receiver has the first of its snapshots.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn replication_catch_up_over_65000(bencher: Bencher<'_, '_>) {
    const SNAPSHOTS: u64 = 65_000;
    let names: Vec<VersionName> = names(SNAPSHOTS);
    let of_one = |side, names: &[VersionName]| {
        View::new(BTreeMap::from([(DatasetName::parse("tank/data").unwrap(), filesystem(side, 0, names))]))
    };
    let mut sender = of_one(Side::Sender, &names);
    let receiver = of_one(Side::Receiver, &names[..1]);
    // The cursor is on what the receiver has.
    let first = of_one(Side::Sender, &names[..1]);
    for (name, view) in &mut sender.filesystems {
        let snapshots = view.snapshots().cloned();
        let cursor = first.filesystems[name].versions.iter().filter(|version| !version.is_snapshot()).cloned();
        view.versions = Version::sorted(snapshots.chain(cursor).collect());
        view.protections = first.filesystems[name].protections.clone();
    }
    bencher.bench_local(|| {
        let plan = plan_replication(black_box(&sender), black_box(&receiver), &policy());
        assert!(matches!(&plan.filesystems[0].action, FilesystemAction::Steps { steps, .. } if steps.len() == 64_999));
        plan
    });
}

fn replication(bencher: Bencher<'_, '_>, new: u64) {
    let (sender, receiver) = (side(Side::Sender, SNAPSHOTS), side(Side::Receiver, SNAPSHOTS - new));
    bencher.bench_local(|| plan_replication(black_box(&sender), black_box(&receiver), &policy()));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn pruning_sender(bencher: Bencher<'_, '_>) {
    pruning(bencher, Side::Sender, PruneSide::Sender);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn pruning_receiver(bencher: Bencher<'_, '_>) {
    pruning(bencher, Side::Receiver, PruneSide::Receiver);
}

fn pruning(bencher: Bencher<'_, '_>, which: Side, side_pruned: PruneSide) {
    let views: Vec<PruneView> =
        side(which, SNAPSHOTS).filesystems.into_iter().map(|(name, fs)| prune_view(name, fs.versions)).collect();
    let regex = |text| regex::Regex::new(text).unwrap();
    let rules = [
        KeepRule::NotReplicated { keep_snapshot_at_cursor: true },
        KeepRule::LastN { count: 10, regex: Some(regex("^zrepl_")) },
        KeepRule::Regex { regex: regex("^manual_"), negate: false },
    ];
    bencher.bench_local(|| plan_pruning(side_pruned, black_box(&views), &rules));
}

fn policy() -> ReplicationPolicy {
    ReplicationPolicy::default()
}

fn prune_view(name: DatasetName, versions: Arc<[Version]>) -> PruneView {
    let newest = versions.iter().rev().find(|version| version.is_snapshot()).unwrap();
    let (guid, txg) = (newest.guid, newest.createtxg);
    PruneView { name, skip: None, versions, cursor: CursorView::At(guid, txg), common_base: Some(guid) }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Sender,
    Receiver,
}

/// 100 trees of 100 filesystems. What was replicated last is protected as zrepl does it.
fn side(side: Side, snapshots: u64) -> View {
    let names = names(SNAPSHOTS);
    let filesystems = (0..FILESYSTEMS).map(|number| {
        let name = format!("tank/tree{:02}/filesystem{:02}", number / 100, number % 100);
        (DatasetName::parse(&name).unwrap(), filesystem(side, number, &names[..snapshots as usize]))
    });
    View::new(filesystems.collect::<BTreeMap<_, _>>())
}

fn names(count: u64) -> Vec<VersionName> {
    (0..count).map(|n| VersionName::parse(&format!("zrepl_20240514_{n:06}_000")).unwrap()).collect()
}

fn filesystem(side: Side, number: u64, names: &[VersionName]) -> FilesystemView {
    let job = JobName::parse("backup").unwrap();
    let mut versions: Vec<Version> = names
        .iter()
        .zip(0..)
        .map(|(name, age)| Version {
            kind: VersionKind::Snapshot,
            name: name.clone(),
            // Spread over the whole range, as real ones are.
            guid: Guid((number * SNAPSHOTS + age + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            createtxg: CreateTxg(1000 + age * 10),
            creation: UnixTime(1_700_000_000 + age as i64 * 600),
            userrefs: 0,
        })
        .collect();
    let protections = match side {
        Side::Sender => vec![mark_cursor(&mut versions, &job)],
        Side::Receiver => vec![hold_last(&mut versions)],
    };
    FilesystemView {
        kind: DatasetKind::Filesystem,
        placeholder: Placeholder::Unset,
        encryption: Encryption::None,
        versions: Version::sorted(versions),
        partial: None,
        protections,
    }
}

fn mark_cursor(versions: &mut Vec<Version>, job: &JobName) -> Protection {
    let newest = versions.last().unwrap();
    let name = cursor_name(newest.guid, job).unwrap();
    let cursor = Version { kind: VersionKind::Bookmark, name, ..newest.clone() };
    let protection = bookmark_protection(&cursor, job).unwrap();
    versions.push(cursor);
    protection
}

fn hold_last(versions: &mut [Version]) -> Protection {
    let newest = versions.last_mut().unwrap();
    newest.userrefs = 1;
    Protection { kind: ProtectionKind::LastReceivedHold, version: newest.to_ref(), createtxg: newest.createtxg }
}
