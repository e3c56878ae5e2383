//! What a person releases from the command line while the jobs go on.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result, ensure};
use daemon::abstractions::{Found, create_step_hold, list, release};
use model::JobName;
use model::abstraction::{Abstraction, Filesystems, Query, sort_out};
use zfs::Snapshot;

use crate::body;
use crate::case::Case;
use crate::conformance::{LARGE, version};
use crate::replication::faults::Fault;
use crate::replication::rig::{self, JOB, SINK, Stage, Table};

const CASES: &Table = &[("E16_released_by_hand_with_the_daemon_running", body!(released))];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("abstractions", &[CASES])
}

const OTHER: &str = "other-job";

/// What a query finds, which has to be everything.
async fn found(stage: &Stage<'_>, query: &Query) -> Result<Vec<Abstraction>> {
    let Found { mut abstractions, errors } = list(&*stage.zfs(), query).await;
    ensure!(errors.is_empty(), "{errors:?}");
    // Of this stage alone, whatever else the machine has.
    let pools = stage.world.pools();
    abstractions.retain(|one| pools.iter().any(|pool| one.dataset.is_within(pool)));
    Ok(abstractions)
}

async fn release_all(stage: &Stage<'_>, chosen: &[Abstraction]) -> Result<()> {
    for result in release(&*stage.zfs(), chosen, NonZeroUsize::MIN).await {
        result?;
    }
    Ok(())
}

fn words(all: &[Abstraction]) -> Vec<String> {
    all.iter().map(|one| format!("{} {}", one.kind, one.version.guid)).collect()
}

async fn released(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    let received = rig.received(&fs)?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    rig.ok().await?;
    for (snapshot, job) in [(&one, JOB), (&two, JOB), (&one, OTHER)] {
        let target = Snapshot { dataset: fs.clone(), name: version(snapshot.name.as_str())? };
        let made = create_step_hold(&*stage.zfs(), &target, &JobName::parse(job)?).await?;
        ensure!(made.version.guid == snapshot.guid && made.job == Some(JobName::parse(job)?), "{made}");
    }
    stage.make_cursor(&fs, &one, JOB).await?;
    let all = found(stage, &Query::default()).await?;
    let here = found(stage, &Query { filesystems: Filesystems::One(fs.clone()), ..Query::default() }).await?;
    ensure!((all.len(), here.len()) == (6, 5), "{all:?}");
    let of_sink = found(stage, &Query { job: Some(JobName::parse(SINK)?), ..Query::default() }).await?;
    ensure!(words(&of_sink) == [format!("last-received-hold {}", two.guid)], "{of_sink:?}");

    let stale = sort_out(all).stale;
    let mut expected = [
        format!("replication-cursor-bookmark-v2 {}", one.guid),
        format!("step-hold {}", one.guid),
        format!("step-hold {}", two.guid),
    ];
    let mut told = words(&stale);
    expected.sort();
    told.sort();
    ensure!(told == expected, "{told:?}");
    release_all(stage, &stale).await?;
    release_all(stage, &stale).await.context("what is gone is released")?;
    stage.is(&fs, &["@1 step of other-job", "cursor 2", "@2"]).await?;
    ensure!(rig.ok().await?.summary.steps == 0);

    // The job puts back what it needs, although nothing new was taken.
    release_all(stage, &found(stage, &Query::default()).await?).await?;
    stage.is(&fs, &["@1", "@2"]).await?;
    stage.is(&received, &["@2"]).await?;
    ensure!(rig.ok().await?.summary.steps == 0);
    stage.is(&fs, &["@1", "cursor 2", "@2"]).await?;
    stage.is(&received, &["@2 last"]).await?;

    // In the middle of a step, which goes on where it was cut.
    stage.snap(&fs, 2 * LARGE, "3").await?;
    ensure!(rig.run_with(Fault::CutEnd(LARGE as u64)).await.summary.errors == 1);
    release_all(stage, &found(stage, &Query::default()).await?).await?;
    let resumed = rig.ok().await?;
    ensure!(resumed.summary.steps == 1 && resumed.summary.bytes < 2 * LARGE as u64, "{:?}", resumed.summary);
    stage.is(&fs, &["@1", "@2", "cursor 3", "@3"]).await?;
    rig.same(&fs).await
}
