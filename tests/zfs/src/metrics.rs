//! What a daemon exposes for Prometheus, beside what is in the pools.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use daemon::events::Reader;
use daemon::{Daemon, World};
use model::event::{Event, What};
use model::{ClientIdentity, DatasetName, UnixTime, VersionName};

use crate::body;
use crate::case::Case;
use crate::conformance::{LARGE, SMALL};
use crate::replication::rig::{self, Stage, Table};

const CASES: &Table = &[("metrics_tell_the_truth", body!(truth))];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("metrics", &[CASES])
}

/// Finds out where metrics are served.
#[derive(Default)]
struct Address(Mutex<Option<String>>);

impl Reader for Address {
    fn read(&self, event: &Event) {
        let What::Note { message, .. } = &event.what else { return };
        let place =
            message.strip_prefix("metrics are served on http://").and_then(|rest| rest.strip_suffix("/metrics"));
        if let Some(place) = place {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.to_owned());
        }
    }
}

impl Address {
    async fn get(&self) -> String {
        loop {
            if let Some(address) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return address;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Fetches the metrics.
    async fn scrape(&self) -> Result<Scrape> {
        let address = self.get().await;
        // On a thread: a clock that tokio moves by itself stands still meanwhile.
        let fetch = move || -> Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        Ok(Scrape(tokio::task::spawn_blocking(fetch).await??))
    }
}

/// The text of a scrape.
struct Scrape(String);

impl Scrape {
    /// The value of a series as it is written.
    fn value(&self, series: &str) -> Result<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {series} in\n{}", self.0))?.parse()?)
    }

    /// The sum over all series of a metric.
    fn sum(&self, metric: &str) -> f64 {
        let samples = self.0.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn is(&self, series: &str, expected: f64) -> Result<()> {
        let found = self.value(series)?;
        ensure!(found == expected, "{series} is {found}, and {expected} in truth");
        Ok(())
    }
}

const CLIENT: &str = "some host";

fn configuration(filesystems: &[&DatasetName], root: &DatasetName) -> String {
    let filesystems: Vec<String> = filesystems.iter().map(|one| format!("\"{one}\": true")).collect();
    format!(
        r#"
global:
  control: {{sockpath: ""}}
  monitoring: [{{type: prometheus, listen: "127.0.0.1:0"}}]
jobs:
  - name: push
    type: push
    connect: {{type: local, listener_name: l, client_identity: "{CLIENT}"}}
    filesystems: {{{}}}
    snapshotting: {{type: manual}}
    pruning:
      keep_sender: [{{type: last_n, count: 1}}]
      keep_receiver: [{{type: last_n, count: 2}}]
  - name: sink
    type: sink
    root_fs: "{root}"
    serve: {{type: local, listener_name: l}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#,
        filesystems.join(", ")
    )
}

/// The snapshots of a dataset, from the oldest on.
async fn snapshots(stage: &Stage<'_>, name: &DatasetName) -> Result<Vec<UnixTime>> {
    let versions = stage.dataset(name).await?.versions;
    Ok(versions.iter().filter(|version| version.is_snapshot()).map(|version| version.creation).collect())
}

async fn truth(stage: &Stage<'_>) -> Result<()> {
    let root = stage.dst("root")?;
    stage.world.create_filesystem(&root)?;
    let (one, two) = (stage.fs_with("fs one", &["1"]).await?, stage.fs_with("fs two", &["1"]).await?);
    stage.snap(&one, LARGE, "2").await?;
    let client = root.join(&ClientIdentity::parse(CLIENT)?.component())?;
    let received = |name: &DatasetName| client.join(name);

    let address = Arc::new(Address::default());
    let world = World { readers: vec![Arc::clone(&address) as Arc<dyn Reader>], ..World::new(stage.zfs()) };
    let yaml = configuration(&[&one, &two], &root);
    let config = config::parse("zrepl.yml", &yaml).map_err(|error| anyhow::anyhow!("{error:?}"))?.config;
    let daemon = Daemon::start(config, world)?;
    let before = address.scrape().await?;
    before.is("zrepl_replication_last_successful{zrepl_job=\"push\"}", 0.0)?;

    let mut bytes = 0;
    let mut destroyed = 0;
    let mut steps = 0;
    for round in 1..=3 {
        let summary = daemon.wakeup_and_wait("push").await?.context("the daemon stopped")?;
        ensure!(summary.errors == 0, "{summary:?}");
        (bytes, steps) = (bytes + summary.bytes, steps + summary.steps);
        destroyed += summary.destroyed;
        let scrape = address.scrape().await?;
        ensure!(scrape.sum("zrepl_replication_bytes_replicated") == bytes as f64, "round {round}: {bytes} bytes");
        ensure!(scrape.sum("zrepl_pruning_destroyed_snapshots_total") == destroyed as f64, "round {round}");
        scrape.is("zrepl_replication_steps_total{zrepl_job=\"push\",result=\"ok\"}", steps as f64)?;
        scrape.is("zrepl_replication_filesystem_errors{zrepl_job=\"push\"}", 0.0)?;
        scrape.is("zrepl_job_invocations_total{zrepl_job=\"push\",result=\"ok\"}", f64::from(round))?;
        let (mut here, mut there) = (0, 0);
        for name in [&one, &two] {
            let (sent, arrived) = (snapshots(stage, name).await?, snapshots(stage, &received(name)?).await?);
            ages(&scrape, name, &sent, &arrived)?;
            (here, there) = (here + sent.len(), there + arrived.len());
        }
        scrape.is("zrepl_pruning_kept_snapshots{prune_side=\"sender\",zrepl_job=\"push\"}", here as f64)?;
        scrape.is("zrepl_pruning_kept_snapshots{prune_side=\"receiver\",zrepl_job=\"push\"}", there as f64)?;
        ensure!(scrape.value("zrepl_replication_last_successful{zrepl_job=\"push\"}")? > 0.0);
        stage.snap(&one, SMALL, &format!("{}", 10 + round)).await?;
    }
    ensure!(bytes > LARGE as u64 && destroyed > 0, "{bytes} bytes, {destroyed} destroyed");

    // What stands in the way on the receiver leaves one of them behind.
    let in_the_way = zfs::Snapshot { dataset: received(&two)?, name: VersionName::parse("way")? };
    ensure!(stage.zfs().snapshot(&[in_the_way]).await.iter().all(Result::is_ok));
    stage.snap(&two, SMALL, "new").await?;
    let summary = daemon.wakeup_and_wait("push").await?.context("the daemon stopped")?;
    ensure!(summary.errors == 1, "{summary:?}");
    let scrape = address.scrape().await?;
    scrape.is("zrepl_replication_filesystem_errors{zrepl_job=\"push\"}", 1.0)?;
    scrape.is("zrepl_job_invocations_total{zrepl_job=\"push\",result=\"error\"}", 1.0)?;
    let common = snapshots(stage, &received(&two)?).await?.first().copied().into_iter().collect::<Vec<_>>();
    ages(&scrape, &two, &snapshots(stage, &two).await?, &common)?;
    Ok(daemon.stop("the case is over").await?)
}

/// Compares what is said about the ages of a filesystem's newest snapshots on both sides.
fn ages(scrape: &Scrape, name: &DatasetName, here: &[UnixTime], there: &[UnixTime]) -> Result<()> {
    let (newest, common) = (here.last().context("none here")?.0 as f64, there.last().context("none there")?.0 as f64);
    let labels = format!("{{filesystem=\"{name}\",zrepl_job=\"push\"}}");
    scrape.is(&format!("zrepl_snapshot_newest_timestamp_seconds{labels}"), newest)?;
    scrape.is(&format!("zrepl_replication_newest_timestamp_seconds{labels}"), common)?;
    scrape.is(&format!("zrepl_replication_lag_seconds{labels}"), newest - common)
}
