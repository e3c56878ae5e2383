//! What the two endpoints refuse, and what they leave alone.

use anyhow::{Result, bail, ensure};
use model::protection::{ProtectionPolicy, cursor_name};
use model::{DatasetName, Guid, JobName, VersionRef};
use wire::{ByteStream, DestroyOutcome, DestroyRequest, Endpoint as _, ReceiveRequest, SendRequest};

use crate::body;
use crate::case::Case;
use crate::conformance::{SMALL, full, incremental, version};
use crate::lab::Bench;
use crate::replication::rig::{self, JOB, On, Stage, Table, on_real, refused};

const CASES: &Table = &[
    ("E2_request_that_does_not_fit_the_snapshots_is_refused", body!(wrong_versions)),
    ("E4_stale_objects_from_before_the_start_are_cleaned", body!(stale)),
    ("E6_one_send_of_a_filesystem_at_a_time", body!(concurrent)),
    ("E14_stream_that_is_not_the_announced_one_is_refused", body!(wrong_stream)),
    ("E17_cursor_name_that_is_too_long_is_refused_before_sending", body!(long_names)),
    ("E18_bookmark_that_only_looks_like_a_cursor_is_left_alone", body!(look_alike)),
    ("destroys_check_the_guid", body!(destroy_by_guid)),
];

/// Every case; the last one needs a stream that only the command line makes.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = rig::cases("endpoint", &[CASES]);
    let name = "endpoint::E14_package_of_several_filesystems_is_refused";
    cases.push(Case::real(name, |bench: &Bench| on_real(bench, body!(package))));
    let name = "endpoint::E14_stream_with_holds_is_refused";
    cases.push(Case::real(name, |bench: &Bench| on_real(bench, body!(with_holds))));
    cases
}

fn send_request(fs: &DatasetName, from: Option<&VersionRef>, to: &VersionRef) -> SendRequest {
    let protection = ProtectionPolicy::default();
    SendRequest { filesystem: fs.clone(), from: from.cloned(), to: to.clone(), resume_token: None, protection }
}

fn receive_request(fs: &DatasetName, from: Option<&VersionRef>, to: &VersionRef) -> ReceiveRequest {
    let protection = ProtectionPolicy::default();
    let (filesystem, from, to) = (fs.clone(), from.cloned(), to.clone());
    ReceiveRequest { filesystem, from, to, clear_resume_token: true, protection }
}

async fn wrong_versions(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    let mark = stage.mark(&fs, &one, "mark").await?;
    let child = stage.fs("sender fs/filtered child")?;
    let of_child = stage.snap(&child, 1000, "1").await?;
    let mut job = stage.job()?;
    job.filesystems = rig::filter([fs.as_str()])?;
    let rig = stage.rig(job)?;
    let other_guid = |of: &VersionRef| VersionRef { guid: Guid(of.guid.0 ^ 1), ..of.clone() };
    let other_name = |of: &VersionRef, name: &VersionRef| VersionRef { name: name.name.clone(), ..of.clone() };
    let wrong = [
        (None, other_guid(&one)),
        (None, other_name(&one, &two)),
        (None, VersionRef { name: version("none")?, ..one.clone() }),
        (None, mark.clone()),
        (Some(other_guid(&one)), two.clone()),
        (Some(other_guid(&mark)), two.clone()),
        (Some(other_name(&one, &two)), two.clone()),
        (Some(two.clone()), one.clone()),
    ];
    for (from, to) in wrong {
        let result = rig.sender.send(&send_request(&fs, from.as_ref(), &to)).await;
        ensure!(result.is_err(), "{from:?} to {to:?} was sent");
        refused(result, &[fs.as_str()])?;
        // What was made for a send that ZFS refused stays for the next one.
        for snapshot in ["1", "2"] {
            stage.drop_step_hold(&fs, snapshot).await?;
        }
        stage.is(&fs, &["#mark", "@1", "@2"]).await?;
    }
    refused(
        rig.sender.send(&send_request(&child, None, &of_child)).await,
        &["endpoint does not allow access to filesystem", child.as_str()],
    )?;
    refused(rig.sender.send_completed(&send_request(&child, None, &of_child)).await, &["does not allow access"])?;
    let missing = stage.src("sender fs/none")?;
    refused(rig.sender.send(&send_request(&missing, None, &one)).await, &[missing.as_str()])?;
    // A cursor on a snapshot that is not there any longer.
    for to in [other_guid(&two), other_name(&one, &two)] {
        let result = rig.sender.send_completed(&send_request(&fs, None, &to)).await;
        ensure!(result.is_err(), "the cursor was moved to {to:?}");
        stage.is(&fs, &["#mark", "@1", "@2"]).await?;
    }
    drop(rig.sender.send(&send_request(&fs, Some(&mark), &two)).await?);
    stage.is(&child, &["@1"]).await
}

async fn stale(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    rig.ok().await?;
    let received = rig.received(&fs)?;
    stage.make_step_hold(&fs, &one, JOB).await?;
    stage.make_step_hold(&fs, &two, JOB).await?;
    stage.make_step_hold(&fs, &two, "other-job").await?;
    stage.make_tentative(&fs, &two, JOB).await?;
    let three = stage.snap(&fs, 1000, "3").await?;
    rig.ok().await?;
    stage.make_last_received(&received, &two, rig::SINK).await?;
    stage.make_step_hold(&fs, &two, JOB).await?;
    stage.make_cursor(&fs, &two, JOB).await?;
    stage.make_tentative(&fs, &three, JOB).await?;

    let rig = rig.again(|_| {})?;
    ensure!(rig.clean().await? == [2, 1], "the hold, and the tentative cursor; the older hold");
    stage.is(&fs, &["@1", "cursor 2", "@2 step of other-job", "cursor 3", "@3"]).await?;
    stage.is(&received, &["@2", "@3 last"]).await?;
    // The older cursor goes when the receiver is known to have the newer.
    let report = rig.ok().await?;
    ensure!(report.summary.steps == 0);
    stage.is(&fs, &["@1", "@2 step of other-job", "cursor 3", "@3"]).await
}

async fn concurrent(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.rig(stage.job()?)?;
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 3 * SMALL, "1").await?;
    let request = send_request(&fs, None, &one);
    let first = rig.sender.send(&request).await?;
    let mut second = std::pin::pin!(rig.sender.send(&request));
    let zfs = stage.zfs();
    tokio::select! {
        biased;
        _ = &mut second => bail!("two sends of one filesystem run at a time"),
        // Takes as long as a send takes to start.
        looked = zfs.dataset(&fs) => drop(looked?),
    }
    drop(first);
    let mut stream = second.await?.stream;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    stage.is(&fs, &["@1 step"]).await
}

async fn wrong_stream(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    let received = rig.received(&fs)?;
    let noise: ByteStream = Box::pin(std::io::Cursor::new(vec![1; 1000]));
    let nothing: ByteStream = Box::pin(tokio::io::empty());
    let streams = [
        (receive_request(&fs, None, &one), stage.send(&full(&fs, &two)).await?, "carries a snapshot with guid"),
        (receive_request(&fs, None, &two), stage.send(&incremental(&fs, &one, &two)).await?, "is incremental from"),
        (receive_request(&fs, Some(&one), &two), stage.send(&full(&fs, &two)).await?, "is incremental from nothing"),
        (receive_request(&fs, None, &one), noise, "does not begin like a send stream"),
        (receive_request(&fs, None, &one), nothing, "ended before its first record"),
    ];
    for (request, stream, text) in streams {
        refused(rig.receiver.receive(&request, stream).await, &[text])?;
        stage.is(&received, &["missing"]).await?;
    }
    rig.ok().await?;
    rig.same(&fs).await
}

async fn package(stage: &Stage<'_>) -> Result<()> {
    let On::Real(bench) = stage.on else { bail!("there is no command line") };
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    stage.fs("sender fs/child")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    bench.bash(&format!("zfs snapshot '{fs}/child@1'; zfs send -R '{fs}@1' >stream"))?;
    let bytes = std::fs::read(bench.folder().join("stream"))?;
    let stream: ByteStream = Box::pin(std::io::Cursor::new(bytes));
    let result = rig.receiver.receive(&receive_request(&fs, None, &one), stream).await;
    refused(result, &[fs.as_str(), "is a package of several filesystems"])?;
    stage.is(&rig.received(&fs)?, &["missing"]).await
}

/// A tag with line breaks would look like rows of other snapshots' holds.
async fn with_holds(stage: &Stage<'_>) -> Result<()> {
    let On::Real(bench) = stage.on else { bail!("there is no command line") };
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    bench.bash(&format!(
        "zfs hold $'a\\tb\\nc' '{fs}@1'; zfs send -h -p '{fs}@1' >stream; zfs send -p '{fs}@1' >plain"
    ))?;
    let stream = |file: &str| -> Result<ByteStream> {
        Ok(Box::pin(std::io::Cursor::new(std::fs::read(bench.folder().join(file))?)))
    };
    let result = rig.receiver.receive(&receive_request(&fs, None, &one), stream("stream")?).await;
    refused(result, &[fs.as_str(), "carries holds"])?;
    stage.is(&rig.received(&fs)?, &["missing"]).await?;
    rig.receiver.receive(&receive_request(&fs, None, &one), stream("plain")?).await?;
    stage.is(&rig.received(&fs)?, &["@1 last"]).await
}

async fn long_names(stage: &Stage<'_>) -> Result<()> {
    let name = "j".repeat(203);
    let good = stage.job()?;
    let rig = stage.push_with(|job| job.name.clone_from(&name))?;
    let fs = stage.fs_with("a filesystem whose cursor does not fit", &["1"]).await?;
    for strategy in
        [model::protection::ProtectionStrategy::Resumability, model::protection::ProtectionStrategy::Incremental]
    {
        let rig = rig.again(|job| job.protection = rig::protection(strategy))?;
        rig.run().await.fails(&[fs.as_str(), "255"])?;
        ensure!(stage.state_of(&fs, &name).await? == ["@1"], "{strategy:?}");
        stage.is(&rig.received(&fs)?, &["missing"]).await?;
    }
    let rig = rig.again(|job| job.name = good.name)?;
    rig.ok().await?;
    rig.same(&fs).await
}

async fn look_alike(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    let job = JobName::parse(JOB)?;
    // The name says @2, the bookmark is of @1.
    let lie = cursor_name(Guid(two.guid.0 ^ 1), &job)?;
    stage.zfs().bookmark(&fs, &one, &lie).await?;
    let old_name = version("zrepl_replication_cursor")?;
    stage.zfs().bookmark(&fs, &one, &old_name).await?;
    let marks = [format!("#{lie}"), format!("#{old_name}")];
    let kept = async |expected: &[&str]| -> Result<()> {
        let state = stage.state(&fs).await?;
        let mut wanted: Vec<String> = marks.iter().cloned().chain(expected.iter().map(ToString::to_string)).collect();
        let mut found = state.clone();
        wanted.sort();
        found.sort();
        ensure!(found == wanted, "{state:?}");
        Ok(())
    };
    rig.ok().await?;
    kept(&["@1", "cursor 2", "@2"]).await?;
    rig.again(|_| {})?.clean().await?;
    stage.snap(&fs, 1000, "3").await?;
    rig.ok().await?;
    kept(&["@1", "@2", "cursor 3", "@3"]).await
}

async fn destroy_by_guid(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.rig(stage.job()?)?;
    let fs = stage.fs("sender fs")?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    stage.destroy(&fs, "1").await?;
    stage.snap(&fs, 1000, "1").await?;
    let request = DestroyRequest { filesystem: fs.clone(), snapshots: vec![one, two] };
    let results = rig.sender.destroy_snapshots(&[request]).await?;
    let [result] = &results[..] else { bail!("{results:?}") };
    let outcomes: Vec<&DestroyOutcome> = result.results.iter().map(|(_, outcome)| outcome).collect();
    ensure!(
        matches!(outcomes[..], [DestroyOutcome::Failed(why), DestroyOutcome::Destroyed] if why.contains("another snapshot has its name")),
        "{outcomes:?}"
    );
    stage.is(&fs, &["@1"]).await
}
