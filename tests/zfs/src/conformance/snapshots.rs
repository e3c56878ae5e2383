//! Snapshots, bookmarks, holds, and their end.

use anyhow::{Context as _, Result, ensure};
use model::{DatasetName, VersionKind};
use zfs::{Error, ItemResult, Snapshot};

use super::{Body, Ground, expect, outcome, tag, version};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("snapshot_takes_many_of_both_pools", body!(snapshot_many)),
    ("snapshot_fails_item_by_item", body!(snapshot_errors)),
    ("HoldsWork", body!(holds_work)),
    ("IdempotentHold", body!(idempotent_hold)),
    ("hold_fails_item_by_item", body!(hold_errors)),
    ("release_of_what_is_gone_is_done", body!(release_gone)),
    ("Z7_a_snapshot_that_vanished_has_no_holds", body!(holds_of_vanished)),
    ("IdempotentBookmark", body!(idempotent_bookmark)),
    ("CreateReplicationCursor", body!(cursor_bookmarks)),
    ("Z14_bookmark_of_bookmark", body!(bookmark_of_bookmark)),
    ("IdempotentDestroy", body!(idempotent_destroy)),
    ("BatchDestroy", body!(batch_destroy)),
    ("UndestroyableSnapshotParsing", body!(undestroyable)),
    ("Z8_batch_destroy_held_cloned_missing_duplicate", body!(batch_mixture)),
    ("Z8_batch_destroy_two_thousand_names", body!(batch_many)),
    ("Z9_names_that_mean_several_snapshots_are_refused", body!(hostile_names)),
    ("Z10_a_snapshot_taken_again_has_another_guid", body!(taken_again)),
];

fn snapshots(dataset: &DatasetName, names: &[&str]) -> Result<Vec<Snapshot>> {
    names.iter().map(|name| Ok(Snapshot { dataset: dataset.clone(), name: version(name)? })).collect()
}

fn outcomes(results: &[ItemResult]) -> Vec<String> {
    results.iter().map(outcome).collect()
}

/// Errors of bulk calls name their items.
fn objects(results: Vec<ItemResult>) -> Vec<String> {
    results.into_iter().filter_map(Result::err).map(|error: Error| error.object).collect()
}

async fn snapshot_many(ground: &Ground<'_>) -> Result<()> {
    let other = ground.dst("other")?;
    ground.world.create_filesystem(&other)?;
    let (a, b) = (ground.fs("a b")?, ground.fs("a b/c")?);
    let volume = ground.src("vol")?;
    ground.world.create_volume(&volume)?;
    let mut wanted = Vec::new();
    for dataset in [&a, &other, &b, &volume] {
        wanted.extend(snapshots(dataset, &["at once"])?);
    }
    let before = ground.world.processes();
    ensure!(outcomes(&ground.zfs().snapshot(&wanted).await) == ["ok"; 4]);
    let started = ground.world.processes() - before;
    ensure!(started <= 2, "one process per pool, not {started}");
    let txg = |dataset| async move {
        let found = ground.find(dataset, VersionKind::Snapshot, "at once").await;
        found.map(|version| version.createtxg)
    };
    ensure!(txg(&a).await? == txg(&b).await? && txg(&a).await? == txg(&volume).await?, "one transaction group");
    ensure!(ground.zfs().snapshot(&[]).await.is_empty());
    Ok(())
}

async fn snapshot_errors(ground: &Ground<'_>) -> Result<()> {
    let (a, b, missing) = (ground.fs("a b")?, ground.fs("b")?, ground.src("missing")?);
    ground.take(&b, "there").await?;
    let mut wanted = snapshots(&a, &["there"])?;
    wanted.extend(snapshots(&b, &["there"])?);
    wanted.extend(snapshots(&missing, &["there"])?);
    wanted.extend(snapshots(&a, &["second"])?);
    let results = ground.zfs().snapshot(&wanted).await;
    ensure!(outcomes(&results) == ["ok", "Exists", "NotFound", "ok"], "{results:?}");
    ensure!(objects(results) == [wanted[1].to_string(), wanted[2].to_string()]);
    ensure!(ground.versions(&a).await?.len() == 2);
    Ok(())
}

async fn holds_work(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    ground.take(&fs, "snap name").await?;
    ground.take(&fs, "unheld").await?;
    ground.hold("tag 1", &fs, "snap name").await?;
    ground.hold("tag 2", &fs, "snap name").await?;
    let holds = ground.zfs().holds(&snapshots(&fs, &["snap name", "unheld"])?).await?;
    let mut tags: Vec<_> = holds.iter().map(|hold| hold.tag.as_str()).collect();
    tags.sort_unstable();
    ensure!(tags == ["tag 1", "tag 2"], "{holds:?}");
    ensure!(holds.iter().all(|hold| hold.dataset == fs && hold.snapshot.as_str() == "snap name"), "{holds:?}");
    ensure!(ground.zfs().holds(&[]).await?.is_empty());
    Ok(())
}

async fn idempotent_hold(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    ground.take(&fs, "1").await?;
    ground.hold("same tag", &fs, "1").await?;
    ground.hold("same tag", &fs, "1").await?;
    ensure!(ground.find(&fs, VersionKind::Snapshot, "1").await?.userrefs == 1);
    Ok(())
}

async fn hold_errors(ground: &Ground<'_>) -> Result<()> {
    let (fs, other) = (ground.fs("a b")?, ground.src("missing fs")?);
    for name in ["1", "2", "3"] {
        ground.take(&fs, name).await?;
    }
    ground.hold("tag", &fs, "2").await?;
    let mut wanted = snapshots(&fs, &["1", "no such", "2"])?;
    wanted.extend(snapshots(&other, &["1"])?);
    wanted.extend(snapshots(&fs, &["3"])?);
    let results = ground.zfs().hold(&tag("tag")?, &wanted).await;
    ensure!(outcomes(&results) == ["ok", "NotFound", "ok", "NotFound", "ok"], "{results:?}");
    ensure!(objects(results) == [wanted[1].to_string(), wanted[3].to_string()]);
    ensure!(ground.zfs().holds(&wanted).await?.len() == 3);
    Ok(())
}

async fn release_gone(ground: &Ground<'_>) -> Result<()> {
    let (fs, other) = (ground.fs("a b")?, ground.src("missing fs")?);
    for name in ["1", "2", "3"] {
        ground.take(&fs, name).await?;
    }
    ground.hold("tag", &fs, "1").await?;
    ground.hold("tag", &fs, "3").await?;
    ground.hold("kept", &fs, "3").await?;
    let mut wanted = snapshots(&fs, &["1", "no such", "2"])?;
    wanted.extend(snapshots(&other, &["1"])?);
    wanted.extend(snapshots(&fs, &["3"])?);
    for _ in 0..2 {
        let results = ground.zfs().release(&tag("tag")?, &wanted).await;
        ensure!(outcomes(&results) == ["ok"; 5], "{results:?}");
    }
    let holds = ground.zfs().holds(&wanted).await?;
    ensure!(holds.len() == 1 && holds[0].tag.as_str() == "kept", "{holds:?}");
    Ok(())
}

async fn holds_of_vanished(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    ground.take(&fs, "1").await?;
    ground.hold("tag", &fs, "1").await?;
    let asked = snapshots(&fs, &["gone", "1"])?;
    ensure!(ground.zfs().holds(&asked).await?.len() == 1);
    let released = ground.zfs().release(&tag("tag")?, &asked).await;
    ensure!(outcomes(&released) == ["ok", "ok"], "{released:?}");
    ensure!(ground.zfs().holds(&asked).await?.is_empty());
    let elsewhere = snapshots(&ground.src("no fs")?, &["gone"])?;
    ensure!(ground.zfs().holds(&elsewhere).await?.is_empty());
    Ok(())
}

async fn idempotent_bookmark(ground: &Ground<'_>) -> Result<()> {
    let (zfs, fs) = (ground.zfs(), ground.fs("a b")?);
    let a = ground.take(&fs, "a snap").await?;
    let another = ground.take(&fs, "another snap").await?;
    let name = version("book mark")?;
    let first = ground.mark(&fs, &a, "book mark").await?;
    ensure!(ground.mark(&fs, &a, "book mark").await? == first && first.guid == a.guid);
    expect(zfs.bookmark(&fs, &another, &name).await, "Exists", format!("{fs}#book mark"))?;
    let with_its_guid = model::VersionRef { guid: another.guid, ..first.clone() };
    ensure!(zfs.is_still(&fs, &a).await? && zfs.is_still(&fs, &first).await?);
    ensure!(!zfs.is_still(&fs, &with_its_guid).await?, "it is another's");
    ground.destroy(&fs, "a snap").await?;
    let gone = zfs.bookmark(&fs, &a, &version("new mark")?).await;
    ensure!(outcome(&gone) == "NotFound", "{gone:?}");
    expect(zfs.is_still(&fs, &a).await.map(drop), "NotFound", format!("{fs}@a snap"))?;
    let missing = ground.src("missing")?;
    let gone = zfs.bookmark(&missing, &a, &name).await;
    ensure!(outcome(&gone) == "NotFound", "{gone:?}");
    Ok(())
}

async fn cursor_bookmarks(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let job = model::JobName::parse("job name")?;
    let one = ground.take(&fs, "1").await?;
    let three = ground.take(&fs, "3").await?;
    let (bookmark_1, bookmark_3) = (ground.mark(&fs, &one, "1").await?, ground.mark(&fs, &three, "3").await?);
    ground.destroy(&fs, "3").await?;
    let cursor = |guid| model::protection::cursor_name(guid, &job);
    let zfs = ground.zfs();
    for source in [&one, &one, &bookmark_1] {
        zfs.bookmark(&fs, source, &cursor(one.guid)?).await?;
    }
    zfs.bookmark(&fs, &bookmark_3, &cursor(three.guid)?).await?;
    let made = ground.find(&fs, VersionKind::Bookmark, cursor(one.guid)?.as_str()).await?;
    zfs.bookmark(&fs, &made.to_ref(), &cursor(one.guid)?).await?;
    let snapshot = ground.find(&fs, VersionKind::Snapshot, "1").await?;
    ensure!((made.guid, made.createtxg) == (snapshot.guid, snapshot.createtxg));
    let found = model::protection::bookmark_protection(&made, &job).context("it is the job's cursor")?;
    ensure!(found.createtxg == snapshot.createtxg);
    Ok(())
}

async fn bookmark_of_bookmark(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let snapshot = ground.take(&fs, "1").await?;
    let first = ground.mark(&fs, &snapshot, "first mark").await?;
    ground.destroy(&fs, "1").await?;
    for _ in 0..2 {
        ensure!(ground.mark(&fs, &first, "copy").await?.guid == snapshot.guid);
    }
    let no_such = model::VersionRef { name: version("no such")?, ..first };
    let gone = ground.zfs().bookmark(&fs, &no_such, &version("x")?).await;
    ensure!(outcome(&gone) == "NotFound", "{gone:?}");
    Ok(())
}

async fn idempotent_destroy(ground: &Ground<'_>) -> Result<()> {
    let (zfs, fs) = (ground.zfs(), ground.fs("a b")?);
    let snapshot = ground.take(&fs, "1").await?;
    ground.mark(&fs, &snapshot, "1").await?;
    let missing = ground.src("missing fs")?;
    for dataset in [&fs, &fs, &missing] {
        ground.destroy(dataset, "1").await?;
        zfs.destroy_bookmark(dataset, &version("1")?).await?;
    }
    ensure!(ground.versions(&fs).await?.is_empty());
    for _ in 0..2 {
        zfs.destroy_dataset(&fs).await?;
    }
    expect(zfs.dataset(&fs).await, "NotFound", &fs)?;
    Ok(())
}

async fn batch_destroy(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    for name in ["1", "2", "3"] {
        ground.take(&fs, name).await?;
    }
    ground.hold("tag", &fs, "2").await?;
    let results = ground.zfs().destroy_snapshots(&fs, &[version("3")?, version("2")?]).await;
    ensure!(outcomes(&results) == ["ok", "Held"], "{results:?}");
    ensure!(objects(results) == [format!("{fs}@2")]);
    ensure!(ground.versions(&fs).await? == ["@1", "@2"]);
    Ok(())
}

async fn undestroyable(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    for name in ["1 2 3", "4 5 6", "7 8 9"] {
        ground.take(&fs, name).await?;
    }
    ground.hold("tag", &fs, "4 5 6").await?;
    let names = [version("1 2 3")?, version("4 5 6")?, version("7 8 9")?];
    let results = ground.zfs().destroy_snapshots(&fs, &names).await;
    ensure!(outcomes(&results) == ["ok", "Held", "ok"], "{results:?}");
    expect(ground.destroy(&fs, "4 5 6").await, "Held", format!("{fs}@4 5 6"))?;
    ensure!(ground.versions(&fs).await? == ["@4 5 6"]);
    Ok(())
}

async fn batch_mixture(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    for name in ["plain 1", "held", "cloned", "plain 2", "both", "kept"] {
        ground.take(&fs, name).await?;
    }
    ground.hold("tag", &fs, "held").await?;
    ground.hold("tag", &fs, "both").await?;
    for name in ["cloned", "both"] {
        let snapshot = Snapshot { dataset: fs.clone(), name: version(name)? };
        ground.world.clone_snapshot(&snapshot, &ground.src(&format!("clone of {name}"))?)?;
    }
    let wanted = ["plain 1", "missing", "held", "cloned", "plain 2", "plain 1", "both"];
    let names = wanted.iter().map(|name| version(name)).collect::<Result<Vec<_>>>()?;
    let results = ground.zfs().destroy_snapshots(&fs, &names).await;
    ensure!(outcomes(&results) == ["ok", "ok", "Held", "HasClones", "ok", "ok", "HasClones"], "{results:?}");
    ensure!(ground.versions(&fs).await? == ["@held", "@cloned", "@both", "@kept"]);
    ensure!(ground.zfs().destroy_snapshots(&fs, &[]).await.is_empty());
    let missing = [version("missing 1")?, version("missing 2")?];
    ensure!(outcomes(&ground.zfs().destroy_snapshots(&fs, &missing).await) == ["ok", "ok"], "none is there");
    Ok(())
}

/// More than one command line can carry; only two of them exist, the first and the last.
async fn batch_many(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let name = |number: usize| version(&format!("{} {number:04}", "long name ".repeat(19)));
    let names = (0..2000).map(name).collect::<Result<Vec<_>>>()?;
    for number in [0, 1999] {
        ground.take(&fs, name(number)?.as_str()).await?;
    }
    let results = ground.zfs().destroy_snapshots(&fs, &names).await;
    ensure!(results.len() == 2000 && results.iter().all(Result::is_ok));
    ensure!(ground.versions(&fs).await?.is_empty());
    Ok(())
}

async fn hostile_names(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    ground.take(&fs, "a").await?;
    ground.take(&fs, "b").await?;
    for name in ["%", "a,b", "a%b", "../x", ""] {
        ensure!(version(name).is_err(), "{name:?} became a name");
    }
    ensure!(ground.versions(&fs).await? == ["@a", "@b"]);
    Ok(())
}

/// Destruction is by name, so the caller's check of the guid is what protects a new snapshot; here it
/// is what a listing must be fit for.
async fn taken_again(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let first = ground.take(&fs, "same name").await?;
    ground.destroy(&fs, "same name").await?;
    let second = ground.take(&fs, "same name").await?;
    ensure!(first.name == second.name && first.guid != second.guid);
    Ok(())
}
