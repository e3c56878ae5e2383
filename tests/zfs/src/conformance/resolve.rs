//! What resolves conflicts: destroying all or nothing, rolling back, renaming.

use anyhow::{Result, ensure};
use model::view::Placeholder;
use model::{DatasetName, VersionKind, VersionName};
use zfs::{Error, Snapshot};

use super::{Body, Ground, LARGE, expect, full, incremental, into, resume, version};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("destroy_together_destroys_all_or_nothing", body!(all_or_nothing)),
    ("rollback_undoes_what_was_written_and_destroys_nothing", body!(rollback)),
    ("rollback_keeps_what_an_interrupted_receive_left", body!(rollback_partial)),
    ("rollback_of_a_volume", body!(rollback_volume)),
    ("rename_takes_along_what_is_below", body!(rename)),
    ("rename_takes_along_what_an_interrupted_receive_left", body!(rename_partial)),
    ("rename_of_a_volume", body!(rename_volume)),
];

async fn together(ground: &Ground<'_>, dataset: &DatasetName, names: &[&str]) -> Result<(), Error> {
    let names: Vec<VersionName> = names.iter().filter_map(|name| version(name).ok()).collect();
    ground.zfs().destroy_together(dataset, &names).await
}

fn snapshot(dataset: &DatasetName, name: &str) -> Result<Snapshot> {
    Ok(Snapshot { dataset: dataset.clone(), name: version(name)? })
}

async fn all_or_nothing(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    for name in ["1", "2 held", "3", "4 cloned", "5"] {
        ground.take(&fs, name).await?;
    }
    ground.hold("somebody's", &fs, "2 held").await?;
    ground.world.clone_snapshot(&snapshot(&fs, "4 cloned")?, &ground.src("clone")?)?;
    let all = ground.versions(&fs).await?;
    let held = together(ground, &fs, &["1", "2 held", "3"]).await;
    expect(held, "Held", format!("{fs}@2 held"))?;
    let cloned = together(ground, &fs, &["1", "4 cloned", "5"]).await;
    expect(cloned, "HasClones", format!("{fs}@4 cloned"))?;
    ensure!(ground.versions(&fs).await? == all, "something was destroyed");
    together(ground, &fs, &[]).await?;
    together(ground, &fs, &["1", "3", "never there", "3"]).await?;
    ensure!(ground.versions(&fs).await? == ["@2 held", "@4 cloned", "@5"]);
    together(ground, &fs, &["1", "3"]).await?;
    together(ground, &ground.src("missing")?, &["1"]).await?;
    Ok(())
}

async fn rollback(ground: &Ground<'_>) -> Result<()> {
    let (fs, kid) = (ground.fs("a b")?, ground.fs("a b/kid")?);
    let one = ground.write_take(&fs, 1000, "1").await?;
    ground.mark(&fs, &one, "mark of 1").await?;
    ground.hold("somebody's", &fs, "1").await?;
    let files = ground.world.files(&fs)?;
    let target = snapshot(&fs, "1")?;
    ground.zfs().rollback(&target).await?;
    ground.world.write_file(&fs, "later", b"lost")?;
    ground.world.write_file(&kid, "later", b"kept")?;
    ground.zfs().rollback(&target).await?;
    ensure!(ground.world.files(&fs)? == files, "{:?}", ground.world.files(&fs)?.keys());
    ensure!(ground.world.files(&kid)?.contains_key("later"));
    let two = ground.write_take(&fs, 2000, "2").await?;
    let newer = ground.world.files(&fs)?;
    expect(ground.zfs().rollback(&target).await, "NewerVersions", &target)?;
    ground.mark(&fs, &two, "mark of 2").await?;
    ground.destroy(&fs, "2").await?;
    expect(ground.zfs().rollback(&target).await, "NewerVersions", &target)?;
    ensure!(ground.world.files(&fs)? == newer, "a refused rollback changed something");
    let mark = version("mark of 2")?;
    ground.zfs().destroy_bookmark(&fs, &mark).await?;
    ground.zfs().rollback(&target).await?;
    ensure!(ground.world.files(&fs)? == files);
    let found = ground.find(&fs, VersionKind::Snapshot, "1").await?;
    ensure!(found.guid == one.guid && found.userrefs == 1);
    let missing = snapshot(&fs, "missing")?;
    expect(ground.zfs().rollback(&missing).await, "NotFound", &missing)?;
    let nowhere = snapshot(&ground.src("missing")?, "1")?;
    expect(ground.zfs().rollback(&nowhere).await, "NotFound", &nowhere)?;
    Ok(())
}

async fn rollback_partial(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("sender fs")?;
    let one = ground.write_take(&fs, 1000, "1").await?;
    let two = ground.write_take(&fs, LARGE, "2").await?;
    let received = ground.dst("received")?;
    ground.transfer(&full(&fs, &one), &into(&received, "1")?).await?;
    let token = ground.interrupt(&incremental(&fs, &one, &two), &into(&received, "2")?, 500_000).await?;
    ground.world.write_file(&received, "own file", b"lost")?;
    ground.zfs().rollback(&snapshot(&received, "1")?).await?;
    ensure!(ground.dataset(&received).await?.resume_token.as_ref() == Some(&token));
    ground.transfer(&resume(&fs, &token), &into(&received, "2")?).await?;
    ground.same_files(&fs, &received)
}

async fn rollback_volume(ground: &Ground<'_>) -> Result<()> {
    let volume = ground.src("vol 1")?;
    ground.world.create_volume(&volume)?;
    ground.take(&volume, "1").await?;
    ground.zfs().rollback(&snapshot(&volume, "1")?).await?;
    ensure!(ground.versions(&volume).await? == ["@1"]);
    Ok(())
}

async fn rename(ground: &Ground<'_>) -> Result<()> {
    let (old, kid, other) = (ground.fs("old name")?, ground.fs("old name/kid")?, ground.fs("old name 2")?);
    let zfs = ground.zfs();
    let one = ground.write_take(&old, 1000, "1").await?;
    ground.mark(&old, &one, "mark").await?;
    ground.hold("somebody's", &old, "1").await?;
    let of_kid = ground.write_take(&kid, 1000, "k").await?;
    zfs.set_property(&old, "zrepl:placeholder", "off").await?;
    let (new, new_kid) =
        (ground.src("new.zrepl.aside.20261121T160413Z")?, ground.src("new.zrepl.aside.20261121T160413Z/kid")?);
    let files = ground.world.files(&old)?;
    expect(zfs.rename(&old, &other).await, "Exists", &old)?;
    expect(zfs.rename(&ground.src("missing")?, &new).await, "NotFound", ground.src("missing")?)?;
    zfs.rename(&old, &new).await?;
    for gone in [&old, &kid] {
        expect(zfs.dataset(gone).await, "NotFound", gone)?;
    }
    let moved = ground.dataset(&new).await?;
    ensure!(moved.placeholder == Placeholder::Off);
    let mut versions: Vec<String> = moved.versions.iter().map(ToString::to_string).collect();
    versions.sort();
    ensure!(versions == ["#mark", "@1"], "{versions:?}");
    let found = ground.find(&new, VersionKind::Snapshot, "1").await?;
    ensure!(found.guid == one.guid && found.userrefs == 1);
    ensure!(ground.find(&new_kid, VersionKind::Snapshot, "k").await?.guid == of_kid.guid);
    ensure!(ground.world.files(&new)? == files);
    // The name is free again.
    ensure!(ground.versions(&ground.fs("old name")?).await?.is_empty());
    ensure!(ground.dataset(&other).await?.name == other, "what has a similar name stays");
    Ok(())
}

async fn rename_partial(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("sender fs")?;
    let one = ground.write_take(&fs, 1000, "1").await?;
    let two = ground.write_take(&fs, LARGE, "2").await?;
    let (old, new) = (ground.dst("old")?, ground.dst("new")?);
    ground.transfer(&full(&fs, &one), &into(&old, "1")?).await?;
    let token = ground.interrupt(&incremental(&fs, &one, &two), &into(&old, "2")?, 500_000).await?;
    ground.zfs().rename(&old, &new).await?;
    ensure!(ground.dataset(&new).await?.resume_token.as_ref() == Some(&token));
    ground.transfer(&resume(&fs, &token), &into(&new, "2")?).await?;
    ensure!(ground.versions(&new).await? == ["@1", "@2"]);
    Ok(())
}

async fn rename_volume(ground: &Ground<'_>) -> Result<()> {
    let (old, new) = (ground.src("vol 1")?, ground.src("vol 2")?);
    ground.world.create_volume(&old)?;
    let one = ground.take(&old, "1").await?;
    ground.zfs().rename(&old, &new).await?;
    ensure!(ground.find(&new, VersionKind::Snapshot, "1").await?.guid == one.guid);
    expect(ground.zfs().dataset(&old).await, "NotFound", &old)?;
    Ok(())
}
