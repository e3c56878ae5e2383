//! What jobs may ask of streams: properties, flags, and how fast.

use std::time::Duration;

use anyhow::{Result, ensure};
use daemon::bandwidth::Bandwidth;
use model::{DatasetName, PropertyName};
use zfs::{PlaceholderEncryption, SendFlags};

use super::rig::{On, Stage, Table, filter};
use crate::body;
use crate::conformance::LARGE;
use crate::lab::command;

pub(super) const CASES: &Table = &[
    ("R22_properties_over_two_hops", body!(properties)),
    ("R22_volumes_with_properties", body!(volumes)),
    ("R23_bandwidth_limit_of_either_side", body!(bandwidth)),
    ("Z16_filesystem_without_room_is_not_in_the_way_of_others", body!(quota)),
    ("send_flags_of_all_kinds_together", body!(flags)),
];

fn property(name: &str) -> Result<PropertyName> {
    Ok(PropertyName::parse(name)?)
}

fn pair(name: &str, value: &str) -> Result<(PropertyName, String)> {
    Ok((property(name)?, value.to_owned()))
}

/// The sender's own properties go along, but for what a receiver sets or inherits.
async fn properties(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs("sender fs")?;
    for (property, value) in [("user:keep", "kept"), ("user:drop", "dropped"), ("user:set", "from the sender")] {
        stage.world.set_property(&fs, property, value)?;
    }
    stage.snap(&fs, 1000, "1").await?;
    let only = filter([fs.as_str()])?;
    let set = vec![pair("user:set", "by the first receiver")?, pair("canmount", "noauto")?];
    let inherit = vec![property("user:drop")?, property("mountpoint")?];
    let first = stage.push_with(|job| {
        job.filesystems = only;
        job.send.flags = SendFlags { properties: true, ..SendFlags::default() };
        (job.set, job.inherit) = (set, inherit);
    })?;
    first.ok().await?;
    let hop = first.received(&fs)?;
    let is = |name: &DatasetName, property: &str, value: Option<(&str, &'static str)>| -> Result<()> {
        let found = stage.world.property(name, property)?;
        let expected = value.map(|(value, source)| (value.to_owned(), source));
        ensure!(found == expected, "{property} of {name} is {found:?}, not {expected:?}");
        Ok(())
    };
    is(&hop, "user:keep", Some(("kept", "received")))?;
    is(&hop, "user:drop", None)?;
    is(&hop, "user:set", Some(("by the first receiver", "local")))?;
    is(&hop, "canmount", Some(("noauto", "local")))?;

    // What was received goes on; with `backup_properties` in the sender's own words.
    for (number, backup) in [(2, false), (3, true)] {
        let mut job = first.job.clone();
        job.name = format!("hop {number}");
        job.filesystems = filter([hop.as_str()])?;
        job.root = stage.src(&format!("hop {number}"))?;
        job.placeholders = Some(PlaceholderEncryption::Inherit);
        job.send.flags = SendFlags { properties: !backup, backup_properties: backup, ..SendFlags::default() };
        job.set = vec![pair("canmount", "noauto")?];
        stage.world.create_filesystem(&job.root)?;
        let rig = stage.rig(job)?;
        rig.ok().await?;
        let there = rig.received(&hop)?;
        is(&there, "user:keep", Some(("kept", "received")))?;
        // What a receiver does not take from a stream is not even kept as received.
        is(&there, "user:drop", None)?;
        let set = if backup && !stage.is_fake() { "from the sender" } else { "by the first receiver" };
        is(&there, "user:set", Some((set, "received")))?;
        stage.is(&there, &["@1 last"]).await?;
    }
    // A change travels with the next step.
    stage.world.set_property(&fs, "user:keep", "changed")?;
    stage.snap(&fs, 1000, "2").await?;
    first.ok().await?;
    is(&hop, "user:keep", Some(("changed", "received")))?;
    is(&hop, "user:set", Some(("by the first receiver", "local")))
}

async fn volumes(stage: &Stage<'_>) -> Result<()> {
    let volume = stage.src("a volume")?;
    stage.world.create_volume(&volume)?;
    stage.world.set_property(&volume, "user:keep", "kept")?;
    stage.take(&volume, "1").await?;
    let set = vec![pair("user:set", "by the receiver")?];
    let rig = stage.push_with(|job| {
        job.send.flags = SendFlags { properties: true, compressed: true, ..SendFlags::default() };
        job.set = set;
    })?;
    rig.ok().await?;
    let received = rig.received(&volume)?;
    let property = |name: &str| stage.world.property(&received, name);
    ensure!(property("user:keep")? == Some(("kept".to_owned(), "received")));
    ensure!(property("user:set")? == Some(("by the receiver".to_owned(), "local")));
    ensure!(stage.dataset(&received).await?.kind == model::view::DatasetKind::Volume);
    if let On::Real(_) = stage.on {
        let size = |name: &DatasetName| command("zfs", &["get", "-Hpo", "value", "volsize", name.as_str()]);
        ensure!(size(&volume)? == size(&received)?);
    }
    stage.take(&volume, "2").await?;
    rig.ok().await?;
    stage.is(&received, &["@1", "@2 last"]).await
}

/// Counts what the buckets made streams wait; the time of this machine proves nothing.
async fn bandwidth(stage: &Stage<'_>) -> Result<()> {
    const RATE: u64 = 1 << 20;
    const BUCKET: u64 = 128 << 10;
    let rig = stage.push()?;
    for (number, sends) in [(1, true), (2, false)] {
        let fs = stage.fs(&format!("limited {number}"))?;
        stage.snap(&fs, LARGE, "1").await?;
        let limit = Bandwidth::new(RATE, BUCKET);
        let (only, mine) = (filter([fs.as_str()])?, limit.clone());
        let limited = rig.again(|job| {
            job.filesystems = only;
            *(if sends { &mut job.send_limit } else { &mut job.receive_limit }) = mine;
        })?;
        let report = limited.ok().await?;
        limited.same(&fs).await?;
        // Less on a machine so slow that the bucket fills while the stream is read.
        let most = Duration::from_secs_f64((report.summary.bytes - BUCKET) as f64 / RATE as f64);
        let waited = limit.waited();
        ensure!(
            report.summary.bytes >= LARGE as u64 && !waited.is_zero(),
            "{report_bytes} bytes",
            report_bytes = report.summary.bytes
        );
        ensure!(waited <= most + Duration::from_millis(10), "waited {waited:?} for at most {most:?}");
        if stage.is_fake() {
            ensure!(waited + Duration::from_millis(10) >= most, "waited {waited:?} of {most:?}");
        }
    }
    Ok(())
}

async fn flags(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs("sender fs")?;
    if let On::Real(_) = stage.on {
        command("zfs", &["set", "recordsize=1M", "compression=on", fs.as_str()])?;
    }
    stage.snap(&fs, 2 * LARGE, "1").await?;
    let rig = stage.push_with(|job| {
        job.send.flags = SendFlags { large_blocks: true, compressed: true, embedded: true, ..SendFlags::default() };
    })?;
    let report = rig.run_with(super::faults::Fault::CutEnd(700_000)).await;
    report.fails(&["it can be resumed"])?;
    rig.ok().await?;
    rig.same(&fs).await?;
    stage.snap(&fs, LARGE, "2").await?;
    rig.ok().await?;
    rig.same(&fs).await
}

async fn quota(stage: &Stage<'_>) -> Result<()> {
    let full = stage.fs_with("full", &["1"]).await?;
    let others = [stage.fs_with("before", &["1"]).await?, stage.fs_with("later", &["1"]).await?];
    let rig = stage.push()?;
    rig.ok().await?;
    let received = rig.received(&full)?;
    stage.world.set_property(&received, "quota", "1500000")?;
    stage.snap(&full, 4 * LARGE, "2").await?;
    for other in &others {
        stage.snap(other, 1000, "2").await?;
    }
    let report = rig.run().await;
    report.fails(&[full.as_str(), "quota exceeded"])?;
    for other in &others {
        rig.same(other).await?;
    }
    stage.is(&received, &["@1 last"]).await?;
    stage.world.set_property(&received, "quota", if stage.is_fake() { "100000000" } else { "none" })?;
    rig.ok().await?;
    rig.same(&full).await
}
