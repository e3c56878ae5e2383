//! Whole jobs of a configuration on a stage: what they say they would do, and what they do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Config;
use daemon::clock::Clock;
use daemon::events::Reader;
use daemon::preview::{JobPreview, Wish, preview, serve_all};
use daemon::{Daemon, World};
use jiff::Timestamp;
use model::event::{Event, What};
use tokio::sync::Notify;

use crate::replication::rig::Stage;

/// Longer than an invocation takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// What happened.
#[derive(Default)]
struct Diary {
    events: Mutex<Vec<What>>,
    news: Notify,
}

impl Reader for Diary {
    fn read(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.what.clone());
        self.news.notify_one();
    }
}

/// The jobs of a configuration, whose clock stands still: what is previewed has the names of what is
/// done.
pub(crate) struct Jobs {
    config: Config,
    world: World,
    diary: Arc<Diary>,
}

impl Jobs {
    /// Jobs as in the configuration file, without a control socket.
    pub(crate) fn new(stage: &Stage<'_>, jobs: &str) -> Result<Self> {
        let yaml = format!("global: {{control: {{sockpath: \"\"}}}}\njobs:\n{jobs}");
        let loaded = config::parse("zrepl.yml", &yaml).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let now = if stage.is_fake() { Timestamp::from_second(1_700_000_000)? } else { Timestamp::now() };
        let diary = Arc::new(Diary::default());
        let readers = vec![Arc::clone(&diary) as Arc<dyn Reader>];
        let world = World { clock: Clock::new(move || now), readers, ..World::new(stage.zfs()) };
        Ok(Self { config: loaded.config, world, diary })
    }

    /// What a job would do, said without a daemon.
    pub(crate) async fn preview(&self, job: &str) -> Result<JobPreview> {
        let world = World { network: wire::LocalNetwork::default(), ..self.world.clone() };
        let _served = serve_all(&self.config, &world)?;
        let wish = Wish { job: Some(job.to_owned()), estimate: true };
        preview(&self.config.jobs, &world, &wish).await?.jobs.pop().context("one job")
    }

    /// What a job tells until the end of an invocation that is asked for.
    pub(crate) async fn wake_up(&self, job: &str) -> Result<Vec<What>> {
        let daemon = Daemon::start(self.config.clone(), self.world.clone())?;
        daemon.wakeup(job).await?;
        self.first_invocation(daemon).await
    }

    /// What the jobs tell until the end of the first invocation, which a round of snapshots asks for.
    pub(crate) async fn round(&self) -> Result<Vec<What>> {
        let daemon = Daemon::start(self.config.clone(), self.world.clone())?;
        self.first_invocation(daemon).await
    }

    async fn first_invocation(&self, daemon: Daemon) -> Result<Vec<What>> {
        let finished = tokio::time::timeout(LONG, async {
            while !self.events().iter().any(is_end) {
                self.diary.news.notified().await;
            }
        });
        ensure!(finished.await.is_ok(), "no invocation has finished, but {:#?}", self.events());
        daemon.stop("the case is over").await?;
        let mut events = std::mem::take(&mut *self.diary.events.lock().unwrap_or_else(PoisonError::into_inner));
        events.truncate(events.iter().position(is_end).context("it has finished")? + 1);
        Ok(events)
    }

    fn events(&self) -> Vec<What> {
        self.diary.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn is_end(what: &What) -> bool {
    matches!(what, What::InvocationFinished { .. })
}
