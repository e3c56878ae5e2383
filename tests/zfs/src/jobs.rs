//! Whole daemons: jobs that fetch and jobs that send, over the local transport, as configured.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use daemon::events::Reader;
use daemon::{Daemon, World};
use model::event::{Event, InvocationSummary, Replication, What};
use model::plan::prune::KeepRule;
use model::{ClientIdentity, DatasetName};
use tokio::sync::Notify;
use wire::{CallError, Connector, Endpoint};

use crate::body;
use crate::case::Case;
use crate::conformance::{LARGE, SMALL};
use crate::replication::faults::{Fault, Faulty, Side};
use crate::replication::rig::{self, SINK, Stage, Table};

const CASES: &Table = &[
    ("pull_fetches_and_resumes_after_a_kill", body!(pull)),
    ("fan_in_keeps_clients_apart", body!(fan_in)),
    ("E7_two_jobs_of_one_filesystem_leave_each_other_s_protections_alone", body!(fan_out)),
    ("E15_client_identities", body!(identities)),
    ("R20_chained_replication_with_receive_side_bookmarks", body!(chained)),
    ("newest_snapshot_of_what_is_received_is_kept_by_every_job", body!(newest_received)),
];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("jobs", &[CASES])
}

/// Remembers what went wrong.
#[derive(Default)]
struct Problems(Mutex<Vec<String>>);

impl Reader for Problems {
    fn read(&self, event: &Event) {
        let problem = match &event.what {
            What::Error { message, .. } | What::Warning { message, .. } => message.clone(),
            What::Replication(Replication::PlanFailed { error } | Replication::StepFailed { error, .. }) => {
                error.clone()
            }
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }
}

/// The world of a daemon on the pools of a stage.
fn world(stage: &Stage<'_>) -> (World, Arc<Problems>) {
    let problems = Arc::new(Problems::default());
    let readers = vec![Arc::clone(&problems) as Arc<dyn Reader>];
    (World { readers, ..World::new(stage.zfs()) }, problems)
}

/// Starts jobs of a configuration, without a control socket.
pub(crate) fn start(world: &World, jobs: &str) -> Result<Daemon> {
    let yaml = format!("global: {{control: {{sockpath: \"\"}}}}\njobs:\n{jobs}");
    let config = config::parse("zrepl.yml", &yaml).map_err(|error| anyhow::anyhow!("{error:?}"))?.config;
    Ok(Daemon::start(config, world.clone())?)
}

/// An invocation that must succeed.
async fn invoke(daemon: &Daemon, job: &str, problems: &Problems) -> Result<InvocationSummary> {
    let summary = daemon.wakeup_and_wait(job).await?.context("the daemon stopped")?;
    let problems = std::mem::take(&mut *problems.0.lock().unwrap_or_else(PoisonError::into_inner));
    ensure!(summary.errors == 0 && problems.is_empty(), "{job}: {summary:?} {problems:?}");
    Ok(summary)
}

/// A way to a source whose streams fall silent, after telling so.
pub(crate) struct Stalling {
    pub(crate) way: Arc<dyn Connector>,
    pub(crate) fault: Arc<Fault>,
}

#[async_trait]
impl Connector for Stalling {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        let inner = self.way.connect().await?;
        Ok(Arc::new(Faulty { inner, side: Side::Sender, fault: Arc::clone(&self.fault) }))
    }
}

/// The job names have blanks, as those of datasets do.
pub(crate) fn source_and_pull(stage: &Stage<'_>) -> Result<String> {
    let [pool, _] = stage.world.pools();
    let root = stage.dst("pulled")?;
    Ok(format!(
        r#"
  - name: source job
    type: source
    serve: {{type: local, listener_name: s}}
    filesystems: {{"{pool}<": true, "{pool}": false}}
    snapshotting: {{type: manual}}
  - name: pull job
    type: pull
    connect: {{type: local, listener_name: s, client_identity: client}}
    root_fs: "{root}"
    interval: manual
    recv: {{placeholder: {{encryption: inherit}}}}
    pruning:
      keep_sender: [{{type: last_n, count: 1}}]
      keep_receiver: [{{type: last_n, count: 3}}]
"#
    ))
}

async fn pull(stage: &Stage<'_>) -> Result<()> {
    let jobs = source_and_pull(stage)?;
    let root = stage.dst("pulled")?;
    stage.world.create_filesystem(&root)?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;

    let (mut cut, _) = world(stage);
    let stalled = Arc::new(Notify::new());
    let notified = Arc::clone(&stalled);
    let hook = Box::new(move || notified.notify_one());
    let fault = Arc::new(Fault::AfterBytes { bytes: 2 * LARGE as u64, hook, stalls: true });
    cut.connector = Arc::new(move |_, way| Arc::new(Stalling { way, fault: Arc::clone(&fault) }));
    let daemon = start(&cut, &jobs)?;
    tokio::select! {
        ended = daemon.wakeup_and_wait("pull job") => bail!("it was not interrupted: {ended:?}"),
        () = stalled.notified() => {}
    }
    let zfs = stage.zfs();
    if !stage.is_fake() {
        // What is in the pipe has to reach the pool.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    drop(daemon);
    while !zfs.running().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let received = root.join(&fs)?;
    ensure!(stage.dataset(&received).await?.resume_token.is_some(), "nothing was kept");
    ensure!(stage.state_of(&fs, "source job").await? == ["@1 step"], "{:?}", stage.state(&fs).await?);

    let (whole, problems) = world(stage);
    let daemon = start(&whole, &jobs)?;
    let resumed = invoke(&daemon, "pull job", &problems).await?;
    ensure!(resumed.steps == 1 && resumed.bytes < 2 * LARGE as u64, "{resumed:?}");
    same(stage, &fs, &received).await?;
    ensure!(stage.state_of(&fs, "source job").await? == ["cursor 1", "@1"], "{:?}", stage.state(&fs).await?);
    ensure!(stage.state(&received).await? == ["@1 last of pull job"], "{:?}", stage.state(&received).await?);

    stage.snap(&fs, SMALL, "2").await?;
    let next = invoke(&daemon, "pull job", &problems).await?;
    ensure!((next.steps, next.destroyed) == (1, 1), "{next:?}");
    ensure!(stage.state_of(&fs, "source job").await? == ["cursor 2", "@2"], "{:?}", stage.state(&fs).await?);
    ensure!(stage.state(&received).await? == ["@1", "@2 last of pull job"], "{:?}", stage.state(&received).await?);
    let idle = invoke(&daemon, "pull job", &problems).await?;
    ensure!((idle.steps, idle.destroyed) == (0, 0), "{idle:?}");
    Ok(daemon.stop("the case is over").await?)
}

/// Fails unless both have the same newest snapshot and files.
async fn same(stage: &Stage<'_>, a: &DatasetName, b: &DatasetName) -> Result<()> {
    let (here, there) = (stage.dataset(a).await?, stage.dataset(b).await?);
    let newest = |dataset: &zfs::Dataset| dataset.versions.iter().rfind(|v| v.is_snapshot()).map(|v| v.guid);
    ensure!(newest(&here).is_some() && newest(&here) == newest(&there), "{b} is not what {a} is");
    stage.same_files_mounted(a, b)
}

async fn fan_in(stage: &Stage<'_>) -> Result<()> {
    let root = stage.dst("fan")?;
    stage.world.create_filesystem(&root)?;
    let (one, two) = (stage.fs_with("fs one", &["1"]).await?, stage.fs_with("fs two", &["1"]).await?);
    let push = |identity: &str, filesystem: &DatasetName| {
        format!(
            r#"
  - name: push of {identity}
    type: push
    connect: {{type: local, listener_name: fan, client_identity: {identity}}}
    filesystems: {{"{filesystem}": true}}
    snapshotting: {{type: manual}}
    pruning: {{keep_sender: [{{type: regex, regex: ".*"}}], keep_receiver: [{{type: last_n, count: 3}}]}}
"#
        )
    };
    // The second one has the same filesystems as the first, and one of its own.
    let jobs = push("first host", &one)
        + &push("second", &one).replace("true}", &format!("true, \"{two}\": true}}"))
        + &format!(
            r#"
  - name: {SINK}
    type: sink
    root_fs: "{root}"
    serve: {{type: local, listener_name: fan}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
        );
    let (world, problems) = world(stage);
    let daemon = start(&world, &jobs)?;
    for round in ["2", "3"] {
        let both = ["push of first host", "push of second"].map(|job| daemon.wakeup_and_wait(job));
        for summary in futures::future::join_all(both).await {
            let summary = summary?.context("the daemon stopped")?;
            ensure!(summary.errors == 0, "{summary:?} {:?}", problems.0.lock());
        }
        for (identity, filesystem) in [("first host", &one), ("second", &one), ("second", &two)] {
            let client = root.join(&ClientIdentity::parse(identity)?.component())?;
            same(stage, filesystem, &client.join(filesystem)?).await?;
        }
        for filesystem in [&one, &two] {
            stage.snap(filesystem, 1000, round).await?;
        }
    }
    let strange = root.join(&ClientIdentity::parse("first host")?.component())?.join(&two)?;
    ensure!(stage.dataset(&strange).await.is_err(), "what one client sends is not at another's");
    Ok(daemon.stop("the case is over").await?)
}

/// Steps of two jobs to two receivers, in turns and one in the middle of the other's.
async fn fan_out(stage: &Stage<'_>) -> Result<()> {
    let keep_newest = vec![KeepRule::Regex { regex: regex::Regex::new("^[34]")?, negate: false }];
    let one = stage.push_with(|job| {
        job.name = "one".to_owned();
        job.keep_sender = keep_newest;
    })?;
    let root = stage.dst("other root")?;
    let two = stage.push_with(|job| {
        job.name = "two".to_owned();
        job.root = root;
    })?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let is = async |expected: &[&str]| -> Result<()> {
        let found = stage.state_of(&fs, "one").await?;
        ensure!(found == expected, "{found:?}, not {expected:?}");
        Ok(())
    };
    // Both have 1; the rules of the first one would destroy it, and its bookmarks stay.
    let keep_all = one.again(|job| job.keep_sender = Vec::new())?;
    keep_all.ok().await?;
    is(&["cursor 1", "@1"]).await?;
    two.ok().await?;
    is(&["cursor 1", "cursor 1 of two", "@1"]).await?;

    // The second one is interrupted in a step, the first one goes ahead and prunes.
    stage.snap(&fs, 2 * LARGE, "2").await?;
    ensure!(two.run_with(Fault::CutEnd(LARGE as u64)).await.summary.errors == 1);
    is(&["cursor 1", "cursor 1 of two", "@1 step of two", "@2 step of two"]).await?;
    stage.snap(&fs, 1000, "3").await?;
    let report = one.run().await;
    ensure!(report.summary.errors == 0, "what another job holds is kept, which is no error: {:?}", report.failures());
    is(&["cursor 1 of two", "@1 step of two", "@2 step of two", "cursor 3", "@3"]).await?;

    // The second one resumes, while the first one is in a step itself.
    stage.snap(&fs, LARGE, "4").await?;
    ensure!(one.run_with(Fault::CutEnd(SMALL as u64)).await.summary.errors == 1);
    is(&["cursor 1 of two", "@1 step of two", "@2 step of two", "cursor 3", "@3 step", "@4 step"]).await?;
    let resumed = two.ok().await?;
    ensure!(resumed.summary.steps == 3 && resumed.summary.bytes < 3 * LARGE as u64, "{:?}", resumed.summary);
    is(&["@1", "@2", "cursor 3", "@3 step", "cursor 4 of two", "@4 step"]).await?;
    one.ok().await?;
    is(&["@3", "cursor 4", "cursor 4 of two", "@4"]).await?;
    for rig in [&one, &two] {
        rig.same(&fs).await?;
    }

    // With no snapshot in common on the sender any more, the bookmark of each is enough.
    stage.destroy(&fs, "4").await?;
    stage.snap(&fs, 1000, "4b").await?;
    for rig in [&two, &one] {
        ensure!(rig.ok().await?.summary.steps == 1);
        rig.same(&fs).await?;
    }
    is(&["@3", "cursor 4b", "cursor 4b of two", "@4b"]).await
}

async fn identities(stage: &Stage<'_>) -> Result<()> {
    let root = stage.dst("clients")?;
    stage.world.create_filesystem(&root)?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    for refused in ["", ".", "..", "a/b", "/a", "a/", "a@b", "a#b", "a%b", "a\nb", "\u{e4}", &"x".repeat(256)] {
        ensure!(ClientIdentity::parse(refused).is_err(), "{refused:?}");
    }
    let (world, problems) = world(stage);
    let push = |identity: &str| {
        format!(
            r#"
  - name: push
    type: push
    connect: {{type: local, listener_name: l, client_identity: "{identity}"}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
    pruning: {{keep_sender: [{{type: regex, regex: ".*"}}], keep_receiver: [{{type: last_n, count: 3}}]}}
  - name: {SINK}
    type: sink
    root_fs: "{root}"
    serve: {{type: local, listener_name: l}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
        )
    };
    for refused in ["", "..", "a/b"] {
        ensure!(start(&world, &push(refused)).is_err(), "{refused:?} in a configuration");
    }
    // A name of its own, but too long below any root.
    let long = "x".repeat(255);
    let daemon = start(&world, &push(&long))?;
    let summary = daemon.wakeup_and_wait("push").await?.context("the daemon stopped")?;
    let told = std::mem::take(&mut *problems.0.lock().unwrap_or_else(PoisonError::into_inner));
    ensure!(summary.errors > 0 && told.iter().any(|text| text.contains("cannot be a dataset")), "{told:?}");
    daemon.stop("refused").await?;

    // As long as fits with the filesystem.
    let room = model::name::MAX_NAME_LEN - root.as_str().len() - fs.as_str().len() - 2 - "@1".len();
    for identity in ["with some spaces", " leading", "10.0.0.1", "fe80::1-eth0", &"y".repeat(room)] {
        let daemon = start(&world, &push(identity))?;
        let summary = invoke(&daemon, "push", &problems).await.context(identity.to_owned())?;
        ensure!(summary.steps == 1, "{identity:?}: {summary:?}");
        let received = root.join(&ClientIdentity::parse(identity)?.component())?.join(&fs)?;
        ensure!(stage.versions(&received).await? == ["@1"], "{identity:?}");
        daemon.stop("received").await?;
    }
    Ok(())
}

/// From a to b to c: b has placeholders, and bookmarks of others on what it received.
async fn chained(stage: &Stage<'_>) -> Result<()> {
    let [pool, _] = stage.world.pools();
    let (b, c) = (stage.dst("b")?, stage.dst("c")?);
    for root in [&b, &c] {
        stage.world.create_filesystem(root)?;
    }
    stage.fs("gap")?;
    let fs = stage.fs_with("gap/sender fs", &["1"]).await?;
    let jobs = format!(
        r#"
  - name: a to b
    type: push
    connect: {{type: local, listener_name: b, client_identity: a}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
    pruning:
      keep_sender: [{{type: last_n, count: 1}}]
      keep_receiver: [{{type: last_n, count: 2}}]
  - name: sink of b
    type: sink
    root_fs: "{b}"
    serve: {{type: local, listener_name: b}}
    recv: {{placeholder: {{encryption: inherit}}}}
  - name: source of b
    type: source
    serve: {{type: local, listener_name: c}}
    filesystems: {{"{b}<": true, "{b}": false}}
    snapshotting: {{type: manual}}
  - name: b to c
    type: pull
    connect: {{type: local, listener_name: c, client_identity: c}}
    root_fs: "{c}"
    interval: manual
    recv: {{placeholder: {{encryption: inherit}}}}
    pruning:
      keep_sender: [{{type: regex, regex: ".*"}}]
      keep_receiver: [{{type: last_n, count: 2}}]
"#
    );
    let (world, problems) = world(stage);
    let daemon = start(&world, &jobs)?;
    let on_b = b.join(&ClientIdentity::parse("a")?.component())?.join(&fs)?;
    let on_c = c.join(&on_b)?;
    for round in 1..=4 {
        ensure!(invoke(&daemon, "a to b", &problems).await?.steps == 1, "round {round} to b");
        let newest = stage.find(&on_b, model::VersionKind::Snapshot, &round.to_string()).await?;
        // Of a person, in the middle of what the jobs make.
        stage.mark(&on_b, &newest.to_ref(), &format!("mark {round}")).await?;
        ensure!(invoke(&daemon, "b to c", &problems).await?.steps == 1, "round {round} to c");
        for (from, to) in [(&fs, &on_b), (&on_b, &on_c)] {
            same(stage, from, to).await?;
        }
        stage.snap(&fs, 1000, &(round + 1).to_string()).await?;
    }
    let expected = ["#mark 1", "#mark 2", "#mark 3", "@3", "#mark 4", "cursor 4", "@4 last of sink of b"];
    let found = stage.state_of(&on_b, "source of b").await?;
    ensure!(found == expected, "{found:?}");
    let found = stage.state(&on_c).await?;
    ensure!(found == ["@3", "@4 last of b to c"], "{found:?}");
    for name in [b.join(&ClientIdentity::parse("a")?.component())?.join(&pool)?, on_c.parent().context("a parent")?] {
        let placeholder = stage.dataset(&name).await?.placeholder;
        ensure!(placeholder == model::view::Placeholder::On, "{name}: {placeholder:?}");
    }
    Ok(daemon.stop("the case is over").await?)
}

/// Without its newest snapshot, what was received counts as modified, and nothing more can be received.
async fn newest_received(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, 1000, "2").await?;
    rig.ok().await?;
    let received = rig.received(&fs)?;
    // As if the daemon had died between the receive and the hold.
    let one = stage.find(&received, model::VersionKind::Snapshot, "1").await?;
    stage.make_last_received(&received, &one.to_ref(), SINK).await?;
    stage.drop_last_received(&received, "2").await?;

    let jobs = format!(
        r#"
  - name: local
    type: snap
    filesystems: {{"{received}": true}}
    snapshotting: {{type: manual}}
    pruning: {{keep: [{{type: regex, regex: "^nothing$"}}]}}
"#
    );
    let (world, problems) = world(stage);
    let daemon = start(&world, &jobs)?;
    let summary = daemon.wakeup_and_wait("local").await?.context("the daemon stopped")?;
    daemon.stop("the case is over").await?;
    ensure!(summary.destroyed == 0 && summary.errors == 0, "{summary:?}");
    let told = problems.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
    ensure!(told.contains("@2 is kept: it is the newest snapshot of what job"), "{told}");
    stage.snap(&fs, 1000, "3").await?;
    rig.ok().await?;
    same(stage, &fs, &received).await?;

    stage.drop_last_received(&received, "3").await?;
    stage.destroy(&received, "3").await?;
    stage.snap(&fs, 1000, "4").await?;
    rig.run().await.fails(&["modified since its most recent snapshot"])
}
