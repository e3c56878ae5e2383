//! Two daemons, each with a pool and a handle on ZFS of its own, over a network.

mod calls;
mod certificates;
mod draining;
mod identity;
mod link;
mod malformed;
mod network;
mod sshd;
mod transports;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use daemon::events::Reader;
use daemon::preview::Wish;
use daemon::tuning::Tuning;
use daemon::{Daemon, World};
use model::DatasetName;
use model::event::{Event, InvocationSummary, Replication, What};
use tokio::sync::Notify;

use crate::body;
use crate::case::Case;
use crate::conformance::{LARGE, SMALL};
use crate::replication::rig::{self, SINK, Stage, Table};
use malformed::malformed_requests;

const CASES: &Table = &[
    ("push_over_tcp", body!(push)),
    ("pull_over_tcp", body!(pull)),
    ("push_over_tcp_as_zrepl_does", body!(plain_push)),
    ("pull_over_tcp_as_zrepl_does", body!(plain_pull)),
    ("a_push_whose_connection_is_cut_in_mid_stream_resumes", body!(cut_push)),
    ("a_pull_whose_connection_is_cut_in_mid_stream_resumes", body!(cut_pull)),
    ("a_sink_whose_address_is_taken_listens_later", body!(late)),
    ("clients_whose_address_is_unknown_are_turned_away", body!(unknown)),
    ("E1_malformed_requests_are_answered_with_errors", body!(malformed_requests)),
];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = rig::cases("remote", &[CASES, calls::CASES, draining::CASES, identity::CASES, transports::CASES]);
    cases.push(network::case());
    cases.push(sshd::case());
    cases
}

/// What this program is instead of the suite if a case has started it so.
pub(crate) fn stand_in() -> Option<ExitCode> {
    transports::stand_in().or_else(network::stand_in)
}

/// Longer than anything takes that is waited for.
const LONG: Duration = Duration::from_secs(60);

/// What a daemon told.
#[derive(Default)]
struct Diary {
    told: Mutex<Vec<Told>>,
    news: Notify,
}

enum Told {
    Note(String),
    Problem(String),
}

impl Reader for Diary {
    fn read(&self, event: &Event) {
        let told = match &event.what {
            What::Note { message, .. } => Told::Note(message.clone()),
            What::Listening { place, problem: None } => Told::Note(format!("listening on {place}")),
            What::Listening { place, problem: Some(problem) } => {
                Told::Problem(format!("cannot listen on {place}: {problem}"))
            }
            What::Error { message, .. } | What::Warning { message, .. } => Told::Problem(message.clone()),
            What::Replication(
                Replication::PlanFailed { error }
                | Replication::StepFailed { error, .. }
                | Replication::Reconnecting { error, .. }
                | Replication::ReconnectFailed { error },
            ) => Told::Problem(error.clone()),
            _ => return,
        };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        self.news.notify_waiters();
    }
}

impl Diary {
    fn find(&self, word: &str) -> Option<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = told.iter().map(|(Told::Note(text) | Told::Problem(text))| text);
        texts.find(|text| text.contains(word)).cloned()
    }

    /// The first text with a word in it.
    async fn wait_for(&self, word: &str) -> Result<String> {
        let waited = tokio::time::timeout(LONG, async {
            loop {
                let news = self.news.notified();
                if let Some(text) = self.find(word) {
                    return text;
                }
                news.await;
            }
        });
        waited.await.with_context(|| format!("nobody told {word:?}, but {:?}", self.problems()))
    }

    /// The first one.
    async fn wait_for_problem(&self) -> Result<String> {
        let waited = tokio::time::timeout(LONG, async {
            loop {
                let news = self.news.notified();
                if let Some(problem) = self.problems().into_iter().next() {
                    return problem;
                }
                news.await;
            }
        });
        waited.await.context("nothing went wrong")
    }

    fn problems(&self) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = |told: &Told| if let Told::Problem(text) = told { Some(text.clone()) } else { None };
        told.iter().filter_map(problem).collect()
    }
}

/// A daemon on one of the machines.
struct Machine {
    daemon: Daemon,
    diary: Arc<Diary>,
}

impl Machine {
    fn start(stage: &Stage<'_>, jobs: &str) -> Result<Self> {
        Self::start_with(stage, "", jobs)
    }

    /// With more in the `global` section.
    fn start_with(stage: &Stage<'_>, global: &str, jobs: &str) -> Result<Self> {
        Self::start_tuned(stage, Tuning::default(), global, jobs)
    }

    fn start_tuned(stage: &Stage<'_>, tuning: Tuning, global: &str, jobs: &str) -> Result<Self> {
        let diary = Arc::new(Diary::default());
        let readers = vec![Arc::clone(&diary) as Arc<dyn Reader>];
        let world = World { readers, tuning, ..World::new(stage.zfs()) };
        let yaml = format!("global: {{control: {{sockpath: \"\"}}{global}}}\njobs:\n{jobs}");
        let config = config::parse("zrepl.yml", &yaml).map_err(|error| anyhow::anyhow!("{error:?}"))?.config;
        Ok(Self { daemon: Daemon::start(config, world)?, diary })
    }

    /// Where it listens.
    async fn port(&self) -> Result<u16> {
        let told = self.diary.wait_for("listening on 127.0.0.1:").await?;
        Ok(told.rsplit(':').next().context("a port")?.parse()?)
    }

    async fn invoke(&self, job: &str) -> Result<InvocationSummary> {
        self.daemon.wakeup_and_wait(job).await?.context("the daemon stopped")
    }

    /// An invocation that nothing disturbs.
    async fn invoke_well(&self, job: &str) -> Result<InvocationSummary> {
        let summary = self.invoke(job).await?;
        let problems = self.diary.problems();
        ensure!(summary.errors == 0 && problems.is_empty(), "{job}: {summary:?} {problems:?}");
        Ok(summary)
    }

    async fn stop(self) -> Result<()> {
        Ok(self.daemon.stop("the case is over").await?)
    }
}

/// Sockets are real, and so is time: nothing else could tell who is late.
fn on_real_time(stage: &Stage<'_>) {
    if stage.is_fake() {
        tokio::time::resume();
    }
}

fn sink(root: &DatasetName, listen: &str, client: &str) -> String {
    format!(
        r#"
  - name: {SINK}
    type: sink
    root_fs: "{root}"
    serve: {{type: tcp, listen: "{listen}", clients: {{"{client}": client}}}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
    )
}

fn push_job(fs: &DatasetName, port: u16) -> String {
    format!(
        r#"
  - name: push job
    type: push
    connect: {{type: tcp, address: "127.0.0.1:{port}"}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
    pruning:
      keep_sender: [{{type: last_n, count: 1}}]
      keep_receiver: [{{type: last_n, count: 2}}]
"#
    )
}

/// A sink on the second pool, and where it receives what `client` sends of a filesystem.
fn sink_machine(stage: &Stage<'_>, fs: &DatasetName) -> Result<(Machine, DatasetName)> {
    tuned_sink_machine(stage, Tuning::default(), fs)
}

fn tuned_sink_machine(stage: &Stage<'_>, tuning: Tuning, fs: &DatasetName) -> Result<(Machine, DatasetName)> {
    let root = stage.dst("clients")?;
    stage.world.create_filesystem(&root)?;
    let machine = Machine::start_tuned(stage, tuning, "", &sink(&root, "127.0.0.1:0", "127.0.0.1"))?;
    let client = DatasetName::parse("client")?;
    Ok((machine, root.join(&client)?.join(fs)?))
}

/// A peer that offers nothing but zrepl's protocol.
fn plain() -> Tuning {
    Tuning { extensions: false, ..Tuning::default() }
}

/// A peer that offers all it can.
fn extended() -> Tuning {
    Tuning { extensions: true, ..Tuning::default() }
}

async fn push(stage: &Stage<'_>) -> Result<()> {
    push_tuned(stage, extended(), extended()).await
}

/// Either side may be the older one.
async fn plain_push(stage: &Stage<'_>) -> Result<()> {
    push_tuned(stage, extended(), plain()).await
}

async fn push_tuned(stage: &Stage<'_>, pusher: Tuning, receiver: Tuning) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs_with("sender fs", &["1", "2"]).await?;
    let (there, received) = tuned_sink_machine(stage, receiver, &fs)?;
    let here = Machine::start_tuned(stage, pusher, "", &push_job(&fs, there.port().await?))?;

    let plan = here.daemon.preview(&Wish { job: None, estimate: true }).await?;
    let planned: Vec<_> = plan.jobs.iter().map(|job| (job.total.sends, job.problems.clone())).collect();
    ensure!(planned == [(1, vec![])], "{planned:?}");
    ensure!(stage.state(&received).await? == ["missing"], "a plan changes nothing");

    let first = here.invoke_well("push job").await?;
    ensure!((first.steps, first.destroyed) == (1, 1), "{first:?}");
    stage.is(&fs, &["cursor 2", "@2"]).await?;
    stage.is(&received, &["@2 last"]).await?;
    for name in ["3", "4"] {
        stage.snap(&fs, SMALL, name).await?;
    }
    let second = here.invoke_well("push job").await?;
    ensure!(second.steps == 2, "{second:?}");
    stage.is(&fs, &["cursor 4", "@4"]).await?;
    stage.is(&received, &["@3", "@4 last"]).await?;
    stage.same_files_mounted(&fs, &received)?;
    let idle = here.invoke_well("push job").await?;
    ensure!((idle.steps, idle.destroyed) == (0, 0), "{idle:?}");

    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}

/// A source on the first pool.
fn source_machine(stage: &Stage<'_>, fs: &DatasetName) -> Result<Machine> {
    tuned_source_machine(stage, Tuning::default(), fs)
}

fn tuned_source_machine(stage: &Stage<'_>, tuning: Tuning, fs: &DatasetName) -> Result<Machine> {
    let jobs = format!(
        r#"
  - name: source job
    type: source
    serve: {{type: tcp, listen: "127.0.0.1:0", clients: {{"127.0.0.0/8": "client-*"}}}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
"#
    );
    Machine::start_tuned(stage, tuning, "", &jobs)
}

/// A pull job on the second pool, and where it receives a filesystem.
fn pull_machine(stage: &Stage<'_>, fs: &DatasetName, port: u16) -> Result<(Machine, DatasetName)> {
    tuned_pull_machine(stage, Tuning::default(), fs, port)
}

fn tuned_pull_machine(
    stage: &Stage<'_>,
    tuning: Tuning,
    fs: &DatasetName,
    port: u16,
) -> Result<(Machine, DatasetName)> {
    machine_that_pulls(stage, tuning, fs, &format!("type: tcp, address: \"localhost:{port}\""))
}

/// The same over any transport.
fn machine_that_pulls(
    stage: &Stage<'_>,
    tuning: Tuning,
    fs: &DatasetName,
    connect: &str,
) -> Result<(Machine, DatasetName)> {
    let root = stage.dst("pulled")?;
    stage.world.create_filesystem(&root)?;
    let jobs = format!(
        r#"
  - name: pull job
    type: pull
    connect: {{{connect}}}
    root_fs: "{root}"
    interval: manual
    recv: {{placeholder: {{encryption: inherit}}}}
    pruning:
      keep_sender: [{{type: last_n, count: 1}}]
      keep_receiver: [{{type: last_n, count: 3}}]
"#
    );
    Ok((Machine::start_tuned(stage, tuning, "", &jobs)?, root.join(fs)?))
}

async fn pull(stage: &Stage<'_>) -> Result<()> {
    pull_tuned(stage, extended()).await
}

async fn plain_pull(stage: &Stage<'_>) -> Result<()> {
    pull_tuned(stage, plain()).await
}

async fn pull_tuned(stage: &Stage<'_>, tuning: Tuning) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let there = tuned_source_machine(stage, extended(), &fs)?;
    let (here, received) = tuned_pull_machine(stage, tuning, &fs, there.port().await?)?;
    let plan = here.daemon.preview(&Wish { job: Some("pull job".to_owned()), estimate: true }).await?;
    let planned: Vec<_> = plan.jobs.iter().map(|job| (job.total.sends, job.problems.clone())).collect();
    ensure!(planned == [(1, vec![])], "{planned:?}");
    ensure!(plan.jobs.iter().all(|job| job.total.bytes > 0 && job.total.sizes_unknown == 0), "{:?}", plan.jobs);

    ensure!(here.invoke_well("pull job").await?.steps == 1);
    stage.snap(&fs, SMALL, "2").await?;
    let second = here.invoke_well("pull job").await?;
    ensure!((second.steps, second.destroyed) == (1, 1), "{second:?}");
    let found = stage.state_of(&fs, "source job").await?;
    ensure!(found == ["cursor 2", "@2"], "{found:?}");
    let found = stage.state(&received).await?;
    ensure!(found == ["@1", "@2 last of pull job"], "{found:?}");
    stage.same_files_mounted(&fs, &received)?;
    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}

/// An invocation whose connections are cut once, and that ends well all the same.
async fn survives(here: &Machine, job: &str) -> Result<()> {
    let summary = here.invoke(job).await?;
    let problems = here.diary.problems();
    ensure!(!problems.is_empty(), "nobody noticed that the connection was cut");
    ensure!((summary.errors, summary.steps) == (0, 1), "{summary:?} {problems:?}");
    let status = here.daemon.status().to_json();
    ensure!(status.contains("\"Resumed\":true"), "it began anew: {problems:?} {status}");
    Ok(())
}

async fn cut_push(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;
    let (there, received) = sink_machine(stage, &fs)?;
    let link = link::cut_after(2 * LARGE as u64, there.port().await?).await?;
    let here = Machine::start(stage, &push_job(&fs, link.port()))?;
    survives(&here, "push job").await?;
    stage.is(&fs, &["cursor 1", "@1"]).await?;
    stage.is(&received, &["@1 last"]).await?;
    stage.same_files_mounted(&fs, &received)?;
    let told = there.diary.problems();
    ensure!(told.iter().any(|text| text.contains("of client \"client\" from 127.0.0.1 broke")), "{told:?}");
    here.stop().await?;
    there.stop().await
}

async fn cut_pull(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;
    let there = source_machine(stage, &fs)?;
    let link = link::cut_after(2 * LARGE as u64, there.port().await?).await?;
    let (here, received) = pull_machine(stage, &fs, link.port())?;
    survives(&here, "pull job").await?;
    let found = stage.state_of(&fs, "source job").await?;
    ensure!(found == ["cursor 1", "@1"], "{found:?}");
    stage.same_files_mounted(&fs, &received)?;
    here.stop().await?;
    there.stop().await
}

/// The address is taken when the sink starts, so that it listens later, and the push job finds it.
async fn late(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let root = stage.dst("clients")?;
    stage.world.create_filesystem(&root)?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let there = Machine::start(stage, &sink(&root, &address.to_string(), "127.0.0.1"))?;
    let told = there.diary.wait_for("cannot listen on 127.0.0.1:").await?;
    ensure!(told.contains("Address already in use") && told.ends_with("; trying again"), "{told}");
    drop(taken);
    let here = Machine::start(stage, &push_job(&fs, address.port()))?;
    let summary = here.invoke("push job").await?;
    ensure!((summary.errors, summary.steps) == (0, 1), "{summary:?} {:?}", here.diary.problems());
    here.stop().await?;
    there.stop().await
}

async fn unknown(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let root = stage.dst("clients")?;
    stage.world.create_filesystem(&root)?;
    let there = Machine::start(stage, &sink(&root, "127.0.0.1:0", "192.0.2.1"))?;
    let here = Machine::start(stage, &push_job(&fs, there.port().await?))?;
    let plan = here.daemon.preview(&Wish { job: None, estimate: false }).await?;
    let problems: Vec<String> = plan.jobs.iter().flat_map(|job| job.problems.clone()).collect();
    ensure!(problems.iter().any(|text| text.contains("it does not allow this client")), "{problems:?}");
    here.daemon.wakeup("push job").await?;
    let told = here.diary.wait_for("no connection to the receiver").await?;
    ensure!(told.contains("it does not allow this client"), "{told}");
    here.daemon.reset("push job").await?;
    ensure!(stage.world.zfs().list(&zfs::Scope::Trees(vec![root.clone()])).await?.datasets.len() == 1);
    let told = there.diary.problems();
    let expected = "connection from 127.0.0.1 refused: client IP not in client map (add it to `clients`)";
    ensure!(told == [expected], "{told:?}");
    here.stop().await?;
    there.stop().await
}
