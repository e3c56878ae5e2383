//! As much of `zrepl status --mode raw` as the demo looks at.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    jobs: BTreeMap<String, Job>,
}

#[derive(Debug, Deserialize)]
struct Job {
    push: Option<Push>,
}

/// What a push job is doing, or did in its last invocation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Push {
    pub(super) replication: Option<Replication>,
    pub(super) pruning_sender: Option<Pruning>,
    pub(super) pruning_receiver: Option<Pruning>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Replication {
    attempts: Option<Vec<Attempt>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attempt {
    pub(super) state: String,
    pub(super) plan_error: Option<TimedError>,
    filesystems: Option<Vec<Filesystem>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TimedError {
    pub(super) err: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Filesystem {
    pub(super) info: FilesystemInfo,
    pub(super) plan_error: Option<TimedError>,
    pub(super) step_error: Option<TimedError>,
    steps: Option<Vec<Step>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FilesystemInfo {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    info: StepInfo,
}

/// One stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StepInfo {
    /// Empty for a full stream.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) resumed: bool,
    pub(super) bytes_expected: u64,
    pub(super) bytes_replicated: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruning {
    pub(super) state: String,
    pub(super) error: Option<String>,
}

/// The push job called `job` in a report.
pub(super) fn push(report: &str, job: &str) -> Result<Push> {
    let mut report: Report = serde_json::from_str(report).context("reading the status report")?;
    let job = report.jobs.remove(job).with_context(|| format!("no job {job} in the status report"))?;
    job.push.context("the job's report is not that of a push job")
}

impl Push {
    /// The attempt that is running, or the last one.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.replication.as_ref()?.attempts.as_ref()?.last()
    }

    /// Whether the invocation has come to its end: replication and both prunings.
    pub(super) fn is_over(&self) -> bool {
        let replicated = self
            .attempt()
            .is_some_and(|attempt| matches!(attempt.state.as_str(), "done" | "filesystem-error" | "planning-error"));
        let pruned = |pruning: &Option<Pruning>| pruning.as_ref().is_some_and(Pruning::is_over);
        replicated && pruned(&self.pruning_sender) && pruned(&self.pruning_receiver)
    }

    /// What went wrong, one line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(attempt) = self.attempt() {
            problems.extend(attempt.plan_error.iter().map(|error| error.err.clone()));
            for filesystem in attempt.filesystems() {
                let errors = filesystem.plan_error.iter().chain(&filesystem.step_error);
                problems.extend(errors.map(|error| format!("{}: {}", filesystem.info.name, error.err)));
            }
        }
        for pruning in [&self.pruning_sender, &self.pruning_receiver].into_iter().flatten() {
            problems.extend(pruning.error.clone().filter(|error| !error.is_empty()));
        }
        problems
    }
}

impl Pruning {
    fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "Done" | "ExecErr" | "PlanErr")
    }
}

impl Attempt {
    pub(super) fn filesystems(&self) -> &[Filesystem] {
        self.filesystems.as_deref().unwrap_or_default()
    }

    /// The streams for `filesystem`.
    pub(super) fn steps<'a>(&'a self, filesystem: &'a str) -> impl Iterator<Item = &'a StepInfo> {
        let found = self.filesystems().iter().filter(move |found| found.info.name == filesystem);
        found.flat_map(|found| found.steps.as_deref().unwrap_or_default()).map(|step| &step.info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = r#"{"Jobs":{"_control":{"type":"internal","internal":null},
      "p":{"type":"push","push":{"Replication":{"StartAt":"2099-02-03T04:05:06Z","Attempts":[{
        "State":"fan-out-filesystems","PlanError":null,"Filesystems":[
          {"Info":{"Name":"src"},"State":"done","PlanError":null,"StepError":null,"CurrentStep":1,
           "Steps":[{"Info":{"From":"","To":"@a","Resumed":false,"BytesExpected":9,"BytesReplicated":8}}]},
          {"Info":{"Name":"src/b"},"State":"step-error","PlanError":null,
           "StepError":{"Err":"cut","Time":"2099-02-03T04:05:06Z"},"CurrentStep":0,
           "Steps":[{"Info":{"From":"@a","To":"@b","Resumed":true,"BytesExpected":7,"BytesReplicated":5}}]},
          {"Info":{"Name":"src/c"},"State":"planning","PlanError":null,"StepError":null,"CurrentStep":0,"Steps":null}
        ]}]},"PruningSender":null,"PruningReceiver":null,"Snapshotting":null}}},"Global":{}}"#;

    #[test]
    fn a_running_replication_is_read() {
        let push = push(RUNNING, "p").unwrap();
        assert!(!push.is_over());
        assert_eq!(push.problems(), ["src/b: cut"]);
        let attempt = push.attempt().unwrap();
        let steps: Vec<_> = attempt.steps("src/b").collect();
        assert!(matches!(steps[..], [StepInfo { resumed: true, bytes_expected: 7, .. }]));
    }

    #[test]
    fn an_invocation_is_over_after_both_prunings() {
        let report = |sender: &str, receiver: &str| {
            format!(
                r#"{{"Jobs":{{"p":{{"type":"push","push":{{"Replication":{{"Attempts":[{{"State":"done"}}]}},
                 "PruningSender":{sender},"PruningReceiver":{receiver}}}}}}}}}"#
            )
        };
        let (done, running) = (r#"{"State":"Done","Error":""}"#, r#"{"State":"Exec","Error":""}"#);
        assert!(push(&report(done, done), "p").unwrap().is_over());
        assert!(!push(&report(done, running), "p").unwrap().is_over());
        assert!(!push(&report(done, "null"), "p").unwrap().is_over());
    }

    #[test]
    fn a_job_that_is_missing_is_named() {
        let error = push(RUNNING, "q").unwrap_err().to_string();
        assert_eq!(error, "no job q in the status report");
    }
}
