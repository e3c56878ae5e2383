//! A daemon that gets another configuration: jobs that it does not change go on, with everything that they
//! are at; the others end and begin anew.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::types::Job;
use config::{Config, Part, Secrets};
use model::JobName;
use model::event::What;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::daemon::{Reread, Shared};
use crate::dispatch::Operation;
use crate::job;
use crate::limits;
use crate::not_yet::not_yet;
use crate::startup::look_at_pools;

/// The jobs that run.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Jobs>>);

#[derive(Default)]
struct Jobs {
    jobs: BTreeMap<JobName, One>,
    global: String,
}

struct One {
    /// What the configuration says of it.
    text: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What another configuration changed. Names are in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Jobs that are new.
    #[serde(with = "names")]
    pub started: Vec<JobName>,
    /// Jobs that are gone.
    #[serde(with = "names")]
    pub stopped: Vec<JobName>,
    /// Jobs that have changed.
    #[serde(with = "names")]
    pub restarted: Vec<JobName>,
    /// Jobs that go on as they were.
    #[serde(with = "names")]
    pub unchanged: Vec<JobName>,
    /// Whether `global` has changed, which takes effect when the daemon is started anew.
    pub global_changed: bool,
    /// What a start would have warned of.
    pub warnings: Vec<String>,
}

/// What clients of the control socket are told.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// Changes if something is taken away or means something else; 1.
    pub version: u32,
    /// What has changed.
    #[serde(flatten)]
    pub reloaded: Reloaded,
}

/// Names of jobs as text.
mod names {
    use model::JobName;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(names: &[JobName], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(JobName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JobName>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| JobName::parse(text).map_err(Error::custom)).collect()
    }
}

/// In one line, without the warnings.
impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |what: &str, jobs: &[JobName]| (!jobs.is_empty()).then(|| format!("{what} {}", jobs.join(", ")));
        let changes =
            [named("started", &self.started), named("stopped", &self.stopped), named("restarted", &self.restarted)];
        let mut parts: Vec<String> = changes.into_iter().flatten().collect();
        if parts.is_empty() {
            parts.push("no job has changed".to_owned());
        }
        parts.push(format!("{} unchanged", self.unchanged.len()));
        if self.global_changed {
            parts.push("`global` has changed: restart the daemon for that".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

/// Why the earlier configuration stays in use.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// It asks for what this version cannot do.
    #[error("{}", .0.join("\n"))]
    NotYet(Vec<String>),
    /// It has mistakes.
    #[error("{0}")]
    Unusable(String),
    /// The daemon was started without a file.
    #[error("there is no file to read the configuration from: restart the daemon")]
    NoFile,
    /// The daemon ends.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What the configuration says of a job, as text that is equal if that is.
fn text_of(job: &Job, config: &Config) -> String {
    let alone = Config { jobs: vec![job.clone()], global: config.global.clone() };
    alone.effective(Part::Jobs, Secrets::Shown).to_yaml()
}

fn global_of(config: &Config) -> String {
    let alone = Config { jobs: Vec::new(), global: config.global.clone() };
    alone.effective(Part::All, Secrets::Shown).to_yaml()
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a daemon starts with.
    pub(crate) fn begin(&self, config: &Config) {
        self.lock().global = global_of(config);
    }

    /// What one job has of the daemon: an end of its own.
    pub(crate) fn own(&self, job: &Job, config: &Config, shared: &Shared) -> Shared {
        let own = Shared { jobs: shared.jobs.child_token(), job_tasks: TaskTracker::new(), ..shared.clone() };
        let one = One { text: text_of(job, config), stop: own.jobs.clone(), tasks: own.job_tasks.clone() };
        self.lock().jobs.insert(job.name().clone(), one);
        own
    }

    fn compare(&self, config: &Config) -> Reloaded {
        let running = self.lock();
        let mut found = Reloaded { global_changed: running.global != global_of(config), ..Reloaded::default() };
        for job in &config.jobs {
            let list = match running.jobs.get(job.name()) {
                None => &mut found.started,
                Some(one) if one.text == text_of(job, config) => &mut found.unchanged,
                Some(_) => &mut found.restarted,
            };
            list.push(job.name().clone());
        }
        let gone = running.jobs.keys().filter(|name| config.jobs.iter().all(|job| job.name() != *name));
        found.stopped = gone.cloned().collect();
        found
    }
}

impl Shared {
    /// See [`crate::Daemon::reload_from_file`].
    pub(crate) async fn reload_from_file(&self) -> Result<Reloaded, ReloadError> {
        let Some(load) = self.world.load.clone() else { return self.told(Err(ReloadError::NoFile)) };
        // What was read last is in use in the end.
        let _one_at_a_time = self.reloading.lock().await;
        // Reads files, includes and all.
        match tokio::task::spawn_blocking(move || load()).await {
            Ok(Ok(read)) => self.reload_alone(read).await,
            Ok(Err(mistakes)) => self.told(Err(ReloadError::Unusable(mistakes))),
            Err(error) => self.told(Err(ReloadError::Unusable(error.to_string()))),
        }
    }

    /// See [`crate::Daemon::reload`].
    pub(crate) async fn reload(&self, read: Reread) -> Result<Reloaded, ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        self.reload_alone(read).await
    }

    async fn reload_alone(&self, read: Reread) -> Result<Reloaded, ReloadError> {
        let Reread { config, warnings } = read;
        let jobs = config.jobs.clone();
        let mut reloaded = self.told(self.change(config).await).inspect_err(|_| {
            // They are about the file, and may not be told again.
            warnings.iter().for_each(|warning| self.warn(warning.clone()));
        })?;
        let begun = |job: &&Job| reloaded.started.contains(job.name()) || reloaded.restarted.contains(job.name());
        let missing = self.missing_pools(jobs.iter().filter(begun)).await;
        reloaded.warnings = warnings.into_iter().chain(missing).collect();
        reloaded.warnings.iter().for_each(|warning| self.warn(warning.clone()));
        Ok(reloaded)
    }

    /// What a start tells of pools, for jobs that have begun. Who waits for the answer is not kept waiting by a
    /// pool that hangs.
    async fn missing_pools<'a>(&self, jobs: impl Iterator<Item = &'a Job>) -> Vec<String> {
        let mut found = Vec::new();
        let look = look_at_pools(jobs, &*self.world.zfs, |message| found.push(message));
        let complete = tokio::time::timeout(limits::RELOAD_LOOK, look).await.is_ok();
        if !complete {
            let limit = limits::RELOAD_LOOK;
            found.push(format!("the pools of the jobs that have begun could not be looked at within {limit:?}"));
        }
        found
    }

    fn told(&self, result: Result<Reloaded, ReloadError>) -> Result<Reloaded, ReloadError> {
        self.events.tell(match &result {
            Ok(reloaded) => {
                let message = format!("the configuration was read again: {reloaded}");
                What::Note { subsystem: "job", message }
            }
            Err(error) => {
                let message = format!("the earlier configuration stays in use: {error}");
                What::Error { subsystem: "job", message }
            }
        });
        if result.is_err() {
            self.metrics.reloaded(Err(()), self.world.clock.now());
        }
        result
    }

    async fn change(&self, config: Config) -> Result<Reloaded, ReloadError> {
        let not_yet = not_yet(&config);
        if !not_yet.is_empty() {
            return Err(ReloadError::NotYet(not_yet));
        }
        if self.drain.has_begun() {
            return Err(ReloadError::Stopping);
        }
        let found = self.running.compare(&config);
        let busy: Vec<&JobName> = found.restarted.iter().filter(|name| self.status.runs(name.as_str())).collect();
        // Side by side: each may take as long as its `zfs` does.
        futures::future::join_all(found.stopped.iter().chain(&found.restarted).map(|name| self.end(name))).await;
        self.status.follow(&config, &found.restarted);
        self.metrics.reloaded(Ok(&config.jobs), self.world.clock.now());
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = config.jobs.clone().into();
        self.configured_jobs.follow(&config.jobs);
        let begin = |job: &&Job| found.started.contains(job.name()) || found.restarted.contains(job.name());
        for job in config.jobs.iter().filter(begin) {
            let own = self.running.own(job, &config, self);
            let slot = job::start(job.clone(), &own);
            self.dispatch.install(job.name(), slot).await;
            if busy.contains(&job.name()) {
                // What it was at goes on. A job that cannot be woken has been replaced by one of another kind.
                let _ = self.dispatch.signal(job.name().as_str(), Operation::Wakeup).await;
            }
        }
        Ok(found)
    }

    /// Ends a job. What it has received of a step stays, and is resumed.
    async fn end(&self, name: &JobName) {
        let one = self.running.lock().jobs.remove(name);
        let Some(One { stop, tasks, .. }) = one else { return };
        stop.cancel();
        self.dispatch.retire(name).await;
        tasks.close();
        if tokio::time::timeout(limits::STOP, tasks.wait()).await.is_err() {
            let message = format!(
                "job {name} has not ended within {:?} (a `zfs` that hangs?); it goes on beside what replaces it",
                limits::STOP
            );
            self.events.of_job(name).tell(What::Error { subsystem: "job", message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_in_an_order_and_read_it_again() {
        let jobs = |names: &[&str]| names.iter().map(|name| JobName::parse(name).unwrap()).collect();
        let reloaded = Reloaded {
            started: jobs(&["a", "b"]),
            unchanged: jobs(&["c"]),
            global_changed: true,
            warnings: vec!["w".to_owned()],
            ..Reloaded::default()
        };
        let json = serde_json::to_string(&ReloadAnswer { version: 1, reloaded: reloaded.clone() }).unwrap();
        let expected = concat!(
            r#"{"version":1,"started":["a","b"],"stopped":[],"restarted":[],"unchanged":["c"],"#,
            r#""global_changed":true,"warnings":["w"]}"#,
        );
        assert_eq!(json, expected);
        let answer: ReloadAnswer = serde_json::from_str(&json).unwrap();
        assert_eq!((answer.version, answer.reloaded), (1, reloaded));
    }
}
