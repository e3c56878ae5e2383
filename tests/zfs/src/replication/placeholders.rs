//! Filesystems that only carry what is below them.

use anyhow::{Context as _, Result, ensure};
use model::DatasetName;
use model::protection::ProtectionStrategy;
use model::view::{Encryption, Placeholder};
use sha2::{Digest as _, Sha512_256};
use zfs::PlaceholderEncryption;

use super::faults::Fault;
use super::rig::{On, Stage, Table, filter, protection};
use crate::body;
use crate::conformance::{LARGE, SMALL, full};
use crate::lab::command;

pub(super) const CASES: &Table = &[
    ("ReplicationOfPlaceholderFilesystemsInChainedReplicationScenario", body!(chained)),
    ("ReplicationPlaceholderEncryption__EncryptOnReceiverUseCase__WorksIfConfiguredWithInherit", body!(inherit)),
    ("ReplicationPlaceholderEncryption__UnspecifiedIsOkForClientIdentityPlaceholder", body!(client)),
    (
        "ReplicationPlaceholderEncryption__UnspecifiedLeadsToFailureAtRuntimeWhenCreatingPlaceholders",
        body!(unspecified),
    ),
    ("E10_only_local_on_or_its_own_hash_is_a_placeholder", body!(values)),
    ("E11_interrupted_receive_into_placeholder_same_daemon", body!(interrupted_same_daemon)),
    ("E11_interrupted_receive_into_placeholder_killed_daemon", body!(interrupted_killed_daemon)),
    ("E12_placeholder_off_without_data_is_repaired", body!(repaired)),
    ("live_data_without_snapshots_is_never_replaced", body!(live)),
];

pub(super) const MARK: &str = "zrepl:placeholder";

pub(super) fn marked(stage: &Stage<'_>, name: &DatasetName, value: &str) -> Result<()> {
    let mark = stage.world.property(name, MARK)?;
    ensure!(mark == Some((value.to_owned(), "local")), "{name} has {mark:?}");
    Ok(())
}

async fn chained(stage: &Stage<'_>) -> Result<()> {
    let host1 = stage.fs("host1")?;
    stage.fs("host1/a")?;
    let b = stage.fs_with("host1/a/b", &["1"]).await?;
    let mut job = stage.job()?;
    job.placeholders = Some(PlaceholderEncryption::Off);
    job.filesystems = filter([b.as_str()])?;
    job.root = stage.dst("host2")?;
    stage.world.create_filesystem(&job.root)?;
    let first = stage.rig(job.clone())?;
    first.ok().await?;
    let on_host2 = first.received(&b)?;

    job.filesystems = filter([format!("{}<", job.root), format!("!{}", job.root)])?;
    job.root = stage.src("host3")?;
    job.name = "second job".to_owned();
    stage.world.create_filesystem(&job.root)?;
    let second = stage.rig(job)?;
    second.ok().await?;
    let on_host3 = second.received(&on_host2)?;
    second.same(&on_host2).await?;
    for name in [&on_host2, &on_host3] {
        marked(stage, &name.parent().context("a parent")?, "on")?;
    }
    stage.is(&on_host3, &["@1 last"]).await?;
    ensure!(stage.versions(&host1).await?.is_empty());
    Ok(())
}

async fn inherit(stage: &Stage<'_>) -> Result<()> {
    stage.fs("sender")?;
    stage.fs("sender/a")?;
    let child = stage.fs_with("sender/a/child", &["initial"]).await?;
    let mut job = stage.job()?;
    job.placeholders = Some(PlaceholderEncryption::Inherit);
    job.filesystems = filter([child.as_str()])?;
    job.root = stage.dst("receiver encrypted")?;
    stage.world.create_encrypted(&job.root)?;
    let rig = stage.rig(job)?;
    let report = rig.ok().await?;
    ensure!(report.summary.steps == 1);
    let received = rig.received(&child)?;
    ensure!(stage.dataset(&received).await?.encryption == Encryption::Encrypted { key_loaded: true });
    if let On::Real(_) = stage.on {
        let root = command("zfs", &["get", "-Ho", "value", "encryptionroot", received.as_str()])?;
        ensure!(root.trim() == rig.job.root.as_str(), "the encryption root is {root}");
    }
    rig.same(&child).await
}

async fn client(stage: &Stage<'_>) -> Result<()> {
    let [pool, _] = stage.world.pools();
    let child = stage.fs_with("child fs", &["1"]).await?;
    stage.snap(&pool, 1000, "1").await?;
    let mut job = stage.job()?;
    job.filesystems = filter([format!("{pool}<")])?;
    job.client = Some("testclientid".to_owned());
    stage.world.create_filesystem(&job.root)?;
    let rig = stage.rig(job)?;
    let report = rig.ok().await?;
    ensure!(report.summary.steps == 2);
    for name in [&pool, &child] {
        rig.same(name).await?;
    }
    let client = stage.dst("receiver root/testclientid")?;
    marked(stage, &client, "on")?;
    ensure!(rig.received(&pool)? == client.join(&pool)?);
    Ok(())
}

async fn unspecified(stage: &Stage<'_>) -> Result<()> {
    stage.fs("sender")?;
    let child = stage.fs_with("sender/child", &["initial"]).await?;
    let mut job = stage.job()?;
    job.filesystems = filter([child.as_str()])?;
    stage.world.create_filesystem(&job.root)?;
    let rig = stage.rig(job)?;
    let report = rig.run().await;
    ensure!(report.planned_steps() == 1 && report.summary.steps == 0);
    let [pool, _] = stage.world.pools();
    let first = rig.job.root.join(&pool)?;
    let text = format!(
        "cannot create placeholder filesystem {first}: placeholder filesystem encryption handling is unspecified in receiver config"
    );
    report.fails(&[child.as_str(), &text])?;
    stage.is(&first, &["missing"]).await
}

/// The mark of zrepl before 0.1.
pub(super) fn hash(name: &DatasetName) -> String {
    Sha512_256::digest(name.as_str()).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn values(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let root = rig.job.root.clone();
    let make = |path: &str| -> Result<DatasetName> {
        let name = stage.dst(&format!("receiver root/{path}"))?;
        stage.world.create_filesystem(&name)?;
        Ok(name)
    };
    let set = |name: &DatasetName, value: &str| stage.world.set_property(name, MARK, value);
    let on = make("on")?;
    set(&on, "on")?;
    make("on/inherits")?;
    set(&make("off")?, "off")?;
    let hashed = make("hashed")?;
    set(&hashed, &hash(&hashed))?;
    // As after `zfs rename`.
    set(&make("renamed")?, &hash(&hashed))?;
    set(&make("word")?, "yes")?;

    // The mark of the sender's own placeholder comes with its properties.
    let source = stage.fs("marked source")?;
    set(&source, "on")?;
    let one = stage.snap(&source, 1000, "1").await?;
    let flags = zfs::SendFlags { properties: true, ..zfs::SendFlags::default() };
    let send = crate::conformance::send_args(&source, None, &one, flags);
    let received = stage.dst("receiver root/received")?;
    stage.transfer(&send, &crate::conformance::into(&received, "1")?).await?;
    let mark = stage.world.property(&received, MARK)?;
    ensure!(mark == Some(("on".to_owned(), "received")), "{mark:?}");

    let view = rig.receiver.list().await?;
    let expected = [
        ("on", Placeholder::On),
        ("on/inherits", Placeholder::Unset),
        ("off", Placeholder::Off),
        ("hashed", Placeholder::On),
        ("renamed", Placeholder::Unset),
        ("word", Placeholder::Unset),
        ("received", Placeholder::Unset),
    ];
    for (path, expected) in expected {
        let found = view.filesystems.get(&DatasetName::parse(path)?).with_context(|| path.to_owned())?.placeholder;
        ensure!(found == expected, "{path} below {root} is {found:?}, not {expected:?}");
    }
    Ok(())
}

async fn interrupted_same_daemon(stage: &Stage<'_>) -> Result<()> {
    interrupted(stage, false).await
}

async fn interrupted_killed_daemon(stage: &Stage<'_>) -> Result<()> {
    interrupted(stage, true).await
}

fn cuts(whole: u64) -> [u64; 4] {
    [0, 1000, whole / 2, whole - 1]
}

/// Interrupts the full receive into a placeholder that has a child: before its first byte, after a
/// record, in the middle, and before its last byte.
async fn interrupted(stage: &Stage<'_>, restart: bool) -> Result<()> {
    let mut names = Vec::new();
    for number in 0..4 {
        let parent = stage.fs(&format!("parent {number}"))?;
        let child = stage.fs_with(&format!("parent {number}/child"), &["1"]).await?;
        names.push((parent, child));
    }
    let below = stage.push_with(|job| {
        job.placeholders = Some(PlaceholderEncryption::Inherit);
    })?;
    let only: Vec<&str> = names.iter().map(|(_, child)| child.as_str()).collect();
    let filesystems = filter(only)?;
    below.again(|job| job.filesystems = filesystems)?.ok().await?;
    for (number, (parent, child)) in names.iter().enumerate() {
        let received = below.received(parent)?;
        marked(stage, &received, "on")?;
        let one = stage.snap(parent, 4 * SMALL, "1").await?;
        let whole = stage.stream_len(&full(parent, &one)).await?;
        let cut = cuts(whole).get(number).copied().context("four")?;
        let selected = filter([parent.as_str(), child.as_str()])?;
        let mut rig = below.again(|job| job.filesystems = selected)?;
        ensure!(rig.run_with(Fault::CutEnd(cut)).await.summary.errors == 1, "cut after {cut} of {whole} bytes");
        stage.is(&rig.received(child)?, &["@1 last"]).await?;
        if restart {
            rig = rig.again(|_| {})?;
        }
        let report = rig.run().await;
        ensure!(report.summary.errors == 0, "cut after {cut} of {whole} bytes: {:?}", report.failures());
        marked(stage, &received, "off")?;
        rig.same(parent).await?;
        stage.is(&rig.received(child)?, &["@1 last"]).await?;
        stage.is(&received, &["@1 last"]).await?;
    }
    Ok(())
}

async fn repaired(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.protection = protection(ProtectionStrategy::Resumability))?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, LARGE / 4, "1").await?;
    let received = rig.received(&fs)?;
    stage.world.create_filesystem(&received)?;
    // Without a mark it is somebody's filesystem.
    rig.run().await.fails(&[received.as_str(), "the target exists and is not a placeholder"])?;
    stage.zfs().destroy_dataset(&received).await?;
    // As zrepl leaves it that was killed before the first byte had arrived.
    stage.zfs().create_placeholder(&received, PlaceholderEncryption::Inherit).await?;
    stage.world.set_property(&received, MARK, "off")?;
    let report = rig.ok().await?;
    ensure!(report.notes().iter().any(|note| note.contains(received.as_str()) && note.contains("not completed")));
    marked(stage, &received, "off")?;
    rig.same(&fs).await
}

/// Gives a filesystem below a placeholder a mountpoint.
fn mount(stage: &Stage<'_>, name: &DatasetName) -> Result<()> {
    let On::Real(bench) = stage.on else { return stage.world.set_property(name, "mountpoint", "/somewhere") };
    let path = bench.mountpoint(name.as_str());
    stage.world.set_property(name, "mountpoint", &path.to_string_lossy())
}

/// Targets with a mark and without snapshots in which somebody works.
async fn live(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let zfs = stage.zfs();
    let mut targets = Vec::new();
    for path in ["completed once", "mounted", "large"] {
        let fs = stage.fs_with(path, &["1"]).await?;
        let received = rig.received(&fs)?;
        zfs.create_placeholder(&received, PlaceholderEncryption::Inherit).await?;
        targets.push(received);
    }
    let volume = stage.src("volume")?;
    stage.world.create_volume(&volume)?;
    stage.take(&volume, "1").await?;
    let [completed, mounted, large] = &targets[..] else { anyhow::bail!("three targets") };
    stage.world.create_volume(&rig.received(&volume)?)?;
    stage.world.set_property(&rig.received(&volume)?, MARK, "off")?;

    let only = filter([stage.src("completed once")?.as_str()])?;
    rig.again(|job| job.filesystems = only)?.ok().await?;
    marked(stage, completed, "off")?;
    stage.drop_last_received(completed, "1").await?;
    stage.destroy(completed, "1").await?;

    stage.world.set_property(mounted, MARK, "off")?;
    for target in [mounted, large] {
        mount(stage, target)?;
    }
    stage.world.write_file(mounted, "note", b"a few words")?;
    stage.world.write_file(large, "work", &crate::conformance::noise(7, 400_000))?;

    let files = (stage.world.files(mounted)?, stage.world.files(large)?);
    let rig = rig.again(|_| {})?;
    let failures = rig.run().await.failures();
    let expected = [
        (completed, "it had snapshots"),
        (mounted, "it is mounted"),
        (large, "it is mounted"),
        (&rig.received(&volume)?, "it is a volume"),
    ];
    ensure!(failures.len() == expected.len(), "{failures:?}");
    for (target, why) in expected {
        let says = |failure: &&String| failure.contains(target.as_str()) && failure.contains(why);
        let failure = failures.iter().find(says).with_context(|| format!("{target}, {why}: {failures:?}"))?;
        ensure!(failure.contains("rename or destroy it"), "{failure}");
    }
    ensure!((stage.world.files(mounted)?, stage.world.files(large)?) == files);
    // Once it is unmounted, its size counts.
    stage.world.set_property(large, "mountpoint", "none")?;
    let only = filter([stage.src("large")?.as_str()])?;
    let one = rig.again(|job| job.filesystems = only)?;
    one.run().await.fails(&[large.as_str(), "bytes of data", "rename or destroy it"])?;
    mount(stage, large)?;
    ensure!(stage.world.files(large)? == files.1);
    mount(stage, completed)?;
    ensure!(stage.world.files(completed)?.len() == 1, "what arrived is still there");

    // What a person says is not needed.
    stage.world.set_property(completed, "mountpoint", "none")?;
    stage.world.set_property(completed, MARK, "on")?;
    let only = filter([stage.src("completed once")?.as_str()])?;
    rig.again(|job| job.filesystems = only)?.ok().await?;
    stage.is(completed, &["@1 last"]).await
}
