//! What has been seen of each daemon so far.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::rate::JobRates;
use super::report::{Job, Kind, Report};

/// A daemon as its last reports show it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// None if it is the only one.
    pub(crate) name: Option<String>,
    pub(crate) report: Option<Report>,
    /// When that report came.
    pub(crate) at: Option<Timestamp>,
    /// Why there is no newer one.
    pub(crate) error: Option<String>,
    /// Whether this is a saved report, of a daemon that nothing can be told.
    pub(crate) saved: bool,
    /// When it was noticed that another process answers.
    pub(crate) restarted: Option<Timestamp>,
    rates: BTreeMap<String, JobRates>,
}

impl Seen {
    pub(crate) fn new(name: Option<String>) -> Seen {
        Seen { name, ..Seen::default() }
    }

    /// Takes over the answer that came at `now`, which is `elapsed` since some beginning.
    pub(crate) fn note(&mut self, elapsed: Duration, now: Timestamp, answer: Result<Report, String>) {
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        let started = |report: &Report| report.global.daemon.started_at;
        if self.report.as_ref().and_then(started).is_some_and(|before| Some(before) != started(&report)) {
            self.restarted = Some(now);
            self.rates.clear();
        }
        self.rates.retain(|name, _| report.jobs.contains_key(name));
        for (name, job) in &report.jobs {
            if job.kind.replicates() && !self.saved {
                self.rates.entry(name.clone()).or_default().note(elapsed, job.body.replication.as_ref());
            }
        }
        (self.report, self.at, self.error) = (Some(report), Some(now), None);
    }

    /// The daemon says that nothing has changed.
    pub(crate) fn note_same(&mut self, elapsed: Duration, now: Timestamp) {
        if let Some(report) = self.report.take() {
            self.note(elapsed, now, Ok(report));
        }
    }

    /// The jobs of the configuration, by name.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = (&str, &Job)> {
        let jobs = self.report.iter().flat_map(|report| &report.jobs);
        jobs.filter(|(name, job)| job.kind != Kind::Internal && !name.starts_with('_'))
            .map(|(name, job)| (name.as_str(), job))
    }

    pub(crate) fn rates(&self, job: &str) -> JobRates {
        self.rates.get(job).cloned().unwrap_or_default()
    }

    /// The name of a job among those of all daemons.
    pub(crate) fn full_name(&self, job: &str) -> String {
        self.name.as_ref().map_or_else(|| job.to_owned(), |source| format!("{source}:{job}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(started: &str) -> Report {
        let text = format!(
            r#"{{"Jobs":{{"_control":{{"type":"internal"}}}},"Global":{{"Daemon":{{"StartedAt":"{started}"}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_last_report_stays_while_none_comes_and_another_daemon_is_noticed() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut seen = Seen::new(None);
        let mut note = |answer| {
            seen.note(Duration::ZERO, now, answer);
            (seen.report.is_some(), seen.error.is_some(), seen.restarted.is_some())
        };
        assert_eq!(note(Err("gone".to_owned())), (false, true, false));
        assert_eq!(note(Ok(report("2024-05-14T00:00:00Z"))), (true, false, false));
        assert_eq!(note(Err("gone".to_owned())), (true, true, false));
        assert_eq!(note(Ok(report("2024-05-14T00:00:00Z"))), (true, false, false));
        assert_eq!(note(Ok(report("2024-05-14T01:00:00Z"))), (true, false, true));
        seen.note(Duration::ZERO, now, Err("gone".to_owned()));
        seen.note_same(Duration::ZERO, now);
        assert!(seen.report.is_some() && seen.error.is_none(), "it is back and says that nothing has changed");
    }
}
