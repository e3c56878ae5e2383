//! A daemon that is stopped in mid step lets it end, and begins no other.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{LONG, Machine, on_real_time, push_job, sink_machine};
use crate::body;
use crate::conformance::{LARGE, SMALL};
use crate::replication::rig::{Stage, Table};

pub(super) const CASES: &Table = &[
    ("a_stop_of_the_side_that_pushes_lets_its_step_end", body!(pushing)),
    ("a_stop_of_the_side_that_is_pulled_from_lets_the_step_end", body!(pulled)),
];

/// Waits until a stream is on its way for a daemon.
async fn at_work(machine: &Machine, what: &str) -> Result<()> {
    let waited = tokio::time::timeout(LONG, async {
        while machine.daemon.under_way().iter().all(|one| !one.starts_with(what)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.with_context(|| format!("no {what} is under way, but {:?}", machine.diary.problems()))
}

async fn pushing(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;
    stage.snap(&fs, SMALL, "2").await?;
    let (there, received) = sink_machine(stage, &fs)?;
    // Both snapshots, one after the other.
    let more = "conflict_resolution: {initial_replication: all}
    send: {bandwidth_limit: {max: 1 MiB, bucket_capacity: 128 KiB}}
    snapshotting:";
    let job = push_job(&fs, there.port().await?).replacen("snapshotting:", more, 1);
    let here = Machine::start(stage, &job)?;
    here.daemon.wakeup("push job").await?;
    at_work(&here, "step of").await?;
    here.daemon.stop("in mid step").await?;
    ensure!(here.diary.find("waiting up to 30s for what is under way: step of").is_some());
    ensure!(here.diary.find("cut, as").is_none() && there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    stage.is(&fs, &["cursor 1", "@1", "@2"]).await?;
    stage.is(&received, &["@1 last"]).await?;
    there.stop().await
}

async fn pulled(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;
    stage.snap(&fs, SMALL, "2").await?;
    // Slow where it begins: on the way there is room for megabytes.
    let there = Machine::start(
        stage,
        &format!(
            r#"
  - name: source job
    type: source
    serve: {{type: tcp, listen: "127.0.0.1:0", clients: {{"127.0.0.0/8": "client-*"}}}}
    filesystems: {{"{fs}": true}}
    send: {{bandwidth_limit: {{max: 1 MiB, bucket_capacity: 128 KiB}}}}
    snapshotting: {{type: manual}}
"#
        ),
    )?;
    let root = stage.dst("pulled")?;
    stage.world.create_filesystem(&root)?;
    let port = there.port().await?;
    let here = Machine::start(
        stage,
        &format!(
            r#"
  - name: pull job
    type: pull
    connect: {{type: tcp, address: "localhost:{port}"}}
    root_fs: "{root}"
    interval: manual
    recv: {{placeholder: {{encryption: inherit}}}}
    conflict_resolution: {{initial_replication: all}}
    pruning: {{keep_sender: [{{type: last_n, count: 9}}], keep_receiver: [{{type: last_n, count: 9}}]}}
"#
        ),
    )?;
    here.daemon.wakeup("pull job").await?;
    at_work(&there, "stream of client").await?;
    there.daemon.stop("in mid step").await?;
    ensure!(there.diary.find("waiting up to 30s for what is under way: stream of client").is_some());
    ensure!(there.diary.find("cut, as").is_none() && there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    // The cursor: the source has heard that the step arrived.
    let found = stage.state_of(&fs, "source job").await?;
    ensure!(found == ["cursor 1", "@1", "@2"], "{found:?}");
    here.stop().await?;
    let found = stage.state(&root.join(&fs)?).await?;
    ensure!(found == ["@1 last of pull job"], "{found:?}");
    Ok(())
}
