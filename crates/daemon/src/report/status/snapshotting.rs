//! Snapshotting in the report.

use config::types::Snapshotting as Configured;
use jiff::Timestamp;
use model::event::{SnapshotterState, Snapshotting};
use model::{DatasetName, VersionName};
use serde::{Serialize, Serializer};

use super::json::{Lazily, optional_time};

/// A job's snapshotter.
#[derive(Debug, Clone)]
pub(super) enum Snapper {
    Periodic(Periodic),
    Manual,
}

#[derive(Debug, Clone)]
pub(super) struct Periodic {
    state: SnapshotterState,
    sleep_until: Option<Timestamp>,
    error: String,
    /// None before the first round; sorted by filesystem.
    progress: Option<Vec<Progress>>,
}

#[derive(Debug, Clone)]
struct Progress {
    filesystem: DatasetName,
    snapshot: VersionName,
    started: Timestamp,
    done: Option<Timestamp>,
    error: Option<Box<str>>,
}

impl Snapper {
    pub(super) fn new(configured: &Configured) -> Snapper {
        match configured {
            Configured::Manual | Configured::Cron { .. } => Snapper::Manual,
            Configured::Periodic { .. } => Snapper::Periodic(Periodic {
                state: SnapshotterState::SyncUp,
                sleep_until: None,
                error: String::new(),
                progress: None,
            }),
        }
    }

    pub(super) fn apply(&mut self, at: Timestamp, event: &Snapshotting) {
        if let Snapper::Periodic(periodic) = self {
            periodic.apply(at, event);
        }
    }
}

impl Periodic {
    fn apply(&mut self, at: Timestamp, event: &Snapshotting) {
        match event {
            Snapshotting::State { state, sleep_until, error } => {
                self.state = *state;
                self.sleep_until = *sleep_until;
                self.error = error.clone().unwrap_or_default();
            }
            Snapshotting::RoundStarted { snapshots } => {
                let entry = |(filesystem, snapshot): &(DatasetName, VersionName)| Progress {
                    filesystem: filesystem.clone(),
                    snapshot: snapshot.clone(),
                    started: at,
                    done: None,
                    error: None,
                };
                let mut progress: Vec<Progress> = snapshots.iter().map(entry).collect();
                progress.sort_by(|a, b| a.filesystem.cmp(&b.filesystem));
                self.progress = Some(progress);
            }
            Snapshotting::Taken { filesystem, result, .. } => {
                let progress = self.progress.as_mut().map_or(&mut [][..], Vec::as_mut_slice);
                let found = progress.binary_search_by(|entry| entry.filesystem.cmp(filesystem));
                if let Some(entry) = found.ok().and_then(|index| progress.get_mut(index)) {
                    entry.done = Some(at);
                    entry.error = result.as_ref().err().map(|error| error.as_str().into());
                }
            }
            Snapshotting::RoundFinished => {}
        }
    }
}

/// zrepl's number of a state of the snapshotter.
fn number(state: SnapshotterState) -> u8 {
    match state {
        SnapshotterState::SyncUp => 1,
        SnapshotterState::SyncUpErrWait => 2,
        SnapshotterState::Planning => 4,
        SnapshotterState::Snapshotting => 8,
        SnapshotterState::Waiting => 16,
        SnapshotterState::ErrorWait => 32,
        SnapshotterState::Stopped => 64,
    }
}

impl Serialize for Snapper {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Nothing {}
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a> {
            r#type: &'static str,
            periodic: Option<&'a Periodic>,
            cron: Option<Nothing>,
            manual: Option<Nothing>,
        }
        match self {
            Snapper::Periodic(periodic) => {
                Row { r#type: "periodic", periodic: Some(periodic), cron: None, manual: None }
            }
            Snapper::Manual => Row { r#type: "manual", periodic: None, cron: None, manual: Some(Nothing {}) },
        }
        .serialize(serializer)
    }
}

impl Serialize for Periodic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, P> {
            state: u8,
            #[serde(serialize_with = "optional_time")]
            sleep_until: Option<Timestamp>,
            error: &'a str,
            progress: Option<P>,
        }
        let progress = self.progress.as_ref().map(|entries| Lazily(|| entries.iter()));
        Row { state: number(self.state), sleep_until: self.sleep_until, error: &self.error, progress }
            .serialize(serializer)
    }
}

impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a> {
            path: &'a str,
            state: u8,
            snap_name: &'a str,
            #[serde(serialize_with = "optional_time")]
            start_at: Option<Timestamp>,
            hooks: &'a str,
            hooks_had_error: bool,
            #[serde(serialize_with = "optional_time")]
            done_at: Option<Timestamp>,
        }
        Row {
            path: self.filesystem.as_str(),
            // started, done, error; a bulk call leaves nothing pending (1).
            state: match (self.done, &self.error) {
                (None, _) => 2,
                (Some(_), None) => 4,
                (Some(_), Some(_)) => 8,
            },
            snap_name: self.snapshot.as_str(),
            start_at: Some(self.started),
            // zrepl's client shows the reason of a failure only from these two.
            hooks: self.error.as_deref().unwrap_or_default(),
            hooks_had_error: self.error.is_some(),
            done_at: self.done,
        }
        .serialize(serializer)
    }
}
