//! Listings, placeholders, properties.

use anyhow::{Result, ensure};
use model::view::{DatasetKind, Placeholder};
use model::{CreateTxg, Guid, VersionKind};
use zfs::{PlaceholderEncryption, Scope};

use super::{Body, Ground, expect};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("GetNonexistent", body!(get_nonexistent)),
    ("Z1_names_with_colons_and_dots", body!(odd_names)),
    ("Z2_odd_property_values_do_not_break_listings", body!(odd_values)),
    ("ListFilesystemsNoFilter", body!(list_everything)),
    ("list_covers_its_roots_and_names_missing_ones", body!(list_trees)),
    ("list_needs_at_most_two_processes", body!(list_processes)),
    ("ListFilesystemVersionsFilesystemNotExist", body!(versions_of_nothing)),
    ("ListFilesystemVersionsTypeFilteringAndPrefix", body!(versions_of_both_kinds)),
    ("ListFilesystemVersionsUserrefs", body!(versions_userrefs)),
    ("ListFilesystemVersionsZeroExistIsNotAnError", body!(versions_none)),
    ("create_placeholder", body!(create_placeholder)),
    ("placeholder_counts_only_where_it_is_set", body!(placeholder_is_local)),
    ("set_property", body!(set_property)),
    ("destroy_dataset", body!(destroy_dataset)),
    ("can_resume", body!(can_resume)),
    ("contents_tell_what_was_never_used", body!(contents)),
    ("list_of_named_datasets_leaves_out_what_is_below", body!(only_named)),
];

async fn get_nonexistent(ground: &Ground<'_>) -> Result<()> {
    let (fs, missing) = (ground.fs("a b")?, ground.src("missing fs")?);
    ground.take(&fs, "1").await?;
    ensure!(ground.dataset(&fs).await?.name == fs);
    expect(ground.zfs().dataset(&missing).await, "NotFound", &missing)?;
    let below = ground.src("missing fs/child")?;
    expect(ground.zfs().dataset(&below).await, "NotFound", &below)?;
    Ok(())
}

async fn odd_names(ground: &Ground<'_>) -> Result<()> {
    let (fs, missing) = (ground.fs("a:b.c-d_e")?, ground.src("a:b.c-d_e/no")?);
    ground.take(&fs, "x:y.z-1_2").await?;
    ensure!(ground.versions(&fs).await? == ["@x:y.z-1_2"]);
    expect(ground.zfs().dataset(&missing).await, "NotFound", &missing)?;
    Ok(())
}

async fn odd_values(ground: &Ground<'_>) -> Result<()> {
    let values = ["", "a\tb", "a\nb", " ", "-", &"x".repeat(8000)];
    for (number, value) in values.iter().enumerate() {
        let fs = ground.fs(&format!("value {number}"))?;
        ground.world.set_property(&fs, "zrepl:placeholder", value)?;
        ground.world.set_property(&fs, "other:property", value)?;
        let dataset = ground.dataset(&fs).await?;
        ensure!(dataset.placeholder == Placeholder::Unset, "{value:?} became {:?}", dataset.placeholder);
    }
    let listing = ground.zfs().list(&Scope::Trees(vec![ground.world.pools()[0].clone()])).await?;
    ensure!(listing.datasets.len() == values.len() + 1, "{} datasets", listing.datasets.len());
    ensure!(listing.skipped.is_empty(), "{:?}", listing.skipped);
    Ok(())
}

async fn list_everything(ground: &Ground<'_>) -> Result<()> {
    let (a, b) = (ground.fs("a b")?, ground.fs("a b/c")?);
    let (v, w) = (ground.src("vol 1")?, ground.src("a b/vol 2")?);
    for volume in [&v, &w] {
        ground.world.create_volume(volume)?;
    }
    ground.take(&v, "of a volume").await?;
    let pools = ground.zfs().pools().await?;
    let all = ground.world.pools().iter().all(|pool| pools.contains(pool));
    ensure!(all, "{pools:?} instead of {:?}", ground.world.pools());
    let listing = ground.zfs().list(&Scope::Everything).await?;
    for (name, kind) in [
        (&a, DatasetKind::Filesystem),
        (&b, DatasetKind::Filesystem),
        (&v, DatasetKind::Volume),
        (&w, DatasetKind::Volume),
    ] {
        let found: Vec<_> = listing.datasets.iter().filter(|dataset| dataset.name == *name).collect();
        ensure!(found.len() == 1 && found[0].kind == kind, "{name}: {found:?}");
    }
    for pool in ground.world.pools() {
        ensure!(listing.datasets.iter().any(|dataset| dataset.name == pool), "{pool} is missing");
    }
    let at = |name: &model::DatasetName| listing.datasets.iter().position(|dataset| dataset.name == *name);
    ensure!(at(&a) < at(&b) && at(&a) < at(&w), "parents come first");
    Ok(())
}

async fn list_trees(ground: &Ground<'_>) -> Result<()> {
    let (a, a2, kid) = (ground.fs("a")?, ground.fs("a 2")?, ground.fs("a/kid")?);
    ground.take(&kid, "1").await?;
    let missing = ground.src("nothing here")?;
    let scope = Scope::Trees(vec![a.clone(), missing.clone()]);
    let listing = ground.zfs().list(&scope).await?;
    let names: Vec<_> = listing.datasets.iter().map(|dataset| &dataset.name).collect();
    ensure!(names == [&a, &kid], "{names:?}, and {a2} is not below {a}");
    ensure!(listing.missing == [missing.clone()], "{:?}", listing.missing);
    ensure!(listing.datasets[1].versions.len() == 1);
    let listing = ground.zfs().list(&Scope::Trees(vec![missing.clone()])).await?;
    ensure!(listing.datasets.is_empty() && listing.missing == [missing]);
    Ok(())
}

async fn list_processes(ground: &Ground<'_>) -> Result<()> {
    for number in 0..5 {
        let fs = ground.fs(&format!("fs {number}"))?;
        ground.take(&fs, "1").await?;
    }
    let before = ground.world.processes();
    ground.zfs().list(&Scope::Trees(ground.world.pools().to_vec())).await?;
    let started = ground.world.processes() - before;
    ensure!(started <= 2, "{started} processes");
    Ok(())
}

async fn versions_of_nothing(ground: &Ground<'_>) -> Result<()> {
    let missing = ground.src("not there")?;
    expect(ground.zfs().dataset(&missing).await, "NotFound", &missing)?;
    Ok(())
}

async fn versions_of_both_kinds(ground: &Ground<'_>) -> Result<()> {
    let (fs, kid) = (ground.fs("a b")?, ground.fs("a b/kid")?);
    for dataset in [&fs, &kid] {
        for name in ["foo 1", "foo 2", " blank first", "bar"] {
            let snapshot = ground.take(dataset, name).await?;
            ground.mark(dataset, &snapshot, &format!("{name} mark")).await?;
        }
        let bar = ground.find(dataset, VersionKind::Snapshot, "bar").await?.to_ref();
        ground.mark(dataset, &bar, "bar").await?;
    }
    let dataset = ground.dataset(&fs).await?;
    let names: Vec<_> = dataset.versions.iter().map(ToString::to_string).collect();
    ensure!(names.len() == 9, "{names:?}");
    ensure!(dataset.versions.is_sorted_by_key(model::Version::order), "{names:?}");
    let snapshots: Vec<_> = dataset.versions.iter().filter(|v| v.is_snapshot()).map(|v| v.name.as_str()).collect();
    ensure!(snapshots == ["foo 1", "foo 2", " blank first", "bar"], "{snapshots:?}");
    for version in dataset.versions.iter() {
        let base = version.name.as_str().trim_end_matches(" mark");
        let origin = ground.find(&fs, VersionKind::Snapshot, base).await?;
        let identity = |v: &model::Version| (v.guid, v.createtxg, v.creation);
        ensure!(identity(version) == identity(&origin), "{version} differs from @{base}");
        ensure!(version.guid != Guid(0) && version.createtxg > CreateTxg(0));
    }
    Ok(())
}

async fn versions_userrefs(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    for name in ["0", "1", "2", "3"] {
        let snapshot = ground.take(&fs, name).await?;
        ground.mark(&fs, &snapshot, name).await?;
    }
    ground.hold("tag 1", &fs, "1").await?;
    ground.hold("tag 1", &fs, "2").await?;
    ground.hold("tag 2", &fs, "2").await?;
    let dataset = ground.dataset(&fs).await?;
    let refs = |kind| dataset.versions.iter().filter(move |v| v.kind == kind).map(|v| v.userrefs).collect::<Vec<_>>();
    ensure!(refs(VersionKind::Snapshot) == [0, 1, 2, 0], "{:?}", dataset.versions);
    ensure!(refs(VersionKind::Bookmark) == [0; 4], "{:?}", dataset.versions);
    Ok(())
}

async fn versions_none(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("empty one")?;
    ensure!(ground.dataset(&fs).await?.versions.is_empty());
    Ok(())
}

async fn create_placeholder(ground: &Ground<'_>) -> Result<()> {
    let zfs = ground.zfs();
    for (number, encryption) in [PlaceholderEncryption::Inherit, PlaceholderEncryption::Off].into_iter().enumerate() {
        let name = ground.dst(&format!("place holder {number}"))?;
        zfs.create_placeholder(&name, encryption).await?;
        let dataset = ground.dataset(&name).await?;
        ensure!(dataset.placeholder == Placeholder::On && dataset.versions.is_empty(), "{dataset:?}");
        expect(zfs.create_placeholder(&name, encryption).await, "Exists", &name)?;
    }
    let orphan = ground.dst("no parent/child")?;
    expect(zfs.create_placeholder(&orphan, PlaceholderEncryption::Inherit).await, "NotFound", &orphan)?;
    let nowhere = model::DatasetName::parse("no such pool/child")?;
    expect(zfs.create_placeholder(&nowhere, PlaceholderEncryption::Inherit).await, "PoolMissing", &nowhere)?;
    Ok(())
}

async fn placeholder_is_local(ground: &Ground<'_>) -> Result<()> {
    let parent = ground.dst("parent")?;
    ground.zfs().create_placeholder(&parent, PlaceholderEncryption::Inherit).await?;
    let child = ground.dst("parent/child")?;
    ground.world.create_filesystem(&child)?;
    ensure!(ground.dataset(&child).await?.placeholder == Placeholder::Unset, "inherited");
    for (value, expected) in [("off", Placeholder::Off), ("on", Placeholder::On), ("yes", Placeholder::Unset)] {
        ground.zfs().set_property(&child, "zrepl:placeholder", value).await?;
        ensure!(ground.dataset(&child).await?.placeholder == expected, "{value}");
    }
    Ok(())
}

async fn set_property(ground: &Ground<'_>) -> Result<()> {
    let (fs, missing) = (ground.fs("a b")?, ground.src("missing")?);
    let zfs = ground.zfs();
    for value in ["one", "a = b", "", "two words"] {
        zfs.set_property(&fs, "user:property", value).await?;
        let found = ground.world.property(&fs, "user:property")?;
        ensure!(found == Some((value.to_owned(), "local")), "{found:?}");
    }
    expect(zfs.set_property(&missing, "user:property", "x").await, "NotFound", &missing)?;
    expect(zfs.set_property(&fs, "nonsense", "x").await, "Failed", &fs)?;
    Ok(())
}

async fn destroy_dataset(ground: &Ground<'_>) -> Result<()> {
    let zfs = ground.zfs();
    let (parent, kid) = (ground.fs("parent one")?, ground.fs("parent one/kid")?);
    expect(zfs.destroy_dataset(&parent).await, "HasChildren", &parent)?;
    let snapshot = ground.take(&kid, "1").await?;
    expect(zfs.destroy_dataset(&kid).await, "HasChildren", &kid)?;
    ground.mark(&kid, &snapshot, "only a bookmark").await?;
    ground.destroy(&kid, "1").await?;
    for dataset in [&kid, &parent] {
        zfs.destroy_dataset(dataset).await?;
        expect(zfs.dataset(dataset).await, "NotFound", dataset)?;
        zfs.destroy_dataset(dataset).await?;
    }
    Ok(())
}

async fn can_resume(ground: &Ground<'_>) -> Result<()> {
    ensure!(ground.zfs().can_resume(ground.world.pools()[1].as_str()).await?);
    expect(ground.zfs().can_resume("no such pool").await, "PoolMissing", "no such pool")?;
    Ok(())
}

async fn contents(ground: &Ground<'_>) -> Result<()> {
    let zfs = ground.zfs();
    let made = ground.dst("place holder")?;
    zfs.create_placeholder(&made, PlaceholderEncryption::Inherit).await?;
    let found = zfs.contents(&made).await?;
    ensure!(!found.mounted && found.without_mountpoint && found.had_snapshots == Some(false), "{found:?}");
    ensure!(found.logical_bytes <= daemon::limits::UNUSED_FILESYSTEM_BYTES, "{found:?}");

    let fs = ground.fs("a b")?;
    let found = zfs.contents(&fs).await?;
    ensure!(found.mounted && !found.without_mountpoint && found.had_snapshots == Some(false), "{found:?}");
    ground.write_take(&fs, crate::conformance::LARGE, "1").await?;
    ground.destroy(&fs, "1").await?;
    let found = zfs.contents(&fs).await?;
    ensure!(found.had_snapshots == Some(true) && found.logical_bytes > 900_000, "{found:?}");

    let volume = ground.src("volume")?;
    ground.world.create_volume(&volume)?;
    let found = zfs.contents(&volume).await?;
    ensure!(found.kind == model::view::DatasetKind::Volume && !found.mounted, "{found:?}");
    let missing = ground.src("missing")?;
    expect(zfs.contents(&missing).await, "NotFound", &missing)?;
    Ok(())
}

async fn only_named(ground: &Ground<'_>) -> Result<()> {
    let (parent, kid) = (ground.fs("parent one")?, ground.fs("parent one/kid")?);
    let other = ground.fs("other")?;
    for fs in [&parent, &kid, &other] {
        ground.take(fs, "1").await?;
    }
    let missing = ground.src("missing")?;
    let scope = zfs::Scope::Only(vec![missing.clone(), parent.clone(), other.clone()]);
    let listing = ground.zfs().list(&scope).await?;
    let names: Vec<_> = listing.datasets.iter().map(|dataset| dataset.name.clone()).collect();
    ensure!(names == [other, parent] && listing.missing == [missing], "{listing:?}");
    ensure!(listing.datasets.iter().all(|dataset| dataset.versions.len() == 1), "{listing:?}");
    Ok(())
}
