//! What may be written where: the jobs of the configuration, by what a command does with them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::builder::StyledStr;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use config::types::{Job, Snapshotting};
use model::abstraction::AbstractionKind;

/// The words so far. What offers candidates is not told them.
static WORDS: OnceLock<Vec<String>> = OnceLock::new();

/// Keeps the words of the one question that this process answers.
pub(super) fn remember(words: &[OsString]) {
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    let _ = WORDS.set(words.collect());
}

fn words() -> &'static [String] {
    WORDS.get().map_or(&[], Vec::as_slice)
}

/// Every job.
pub(crate) fn any_job() -> ArgValueCandidates {
    ArgValueCandidates::new(|| jobs(|_| true))
}

/// Jobs that choose filesystems.
pub(crate) fn filtering_job() -> ArgValueCandidates {
    ArgValueCandidates::new(|| jobs(|job| matches!(job, Job::Push(_) | Job::Snap(_) | Job::Source(_))))
}

/// Jobs that do something by themselves, which can be planned and simulated.
pub(crate) fn planned_job() -> ArgValueCandidates {
    ArgValueCandidates::new(|| jobs(is_active))
}

/// Jobs that can be told what has been written before.
pub(crate) fn signalled_job() -> ArgValueCandidates {
    ArgValueCandidates::new(|| match words().iter().any(|word| word == "snapshot") {
        true => jobs(snapshots),
        false => jobs(is_active),
    })
}

/// Types of holds and bookmarks.
pub(crate) fn kind() -> ArgValueCandidates {
    ArgValueCandidates::new(|| AbstractionKind::ALL.map(|kind| CompletionCandidate::new(kind.as_str())).into())
}

fn is_active(job: &Job) -> bool {
    matches!(job, Job::Push(_) | Job::Pull(_) | Job::Snap(_))
}

fn snapshots(job: &Job) -> bool {
    let snapshotting = match job {
        Job::Push(job) => &job.snapshotting,
        Job::Snap(job) => &job.snapshotting,
        Job::Source(job) => &job.snapshotting,
        Job::Pull(_) | Job::Sink(_) => return false,
    };
    !matches!(snapshotting, Snapshotting::Manual)
}

/// A configuration with mistakes has no jobs that anything could be done with.
fn jobs(wanted: impl Fn(&Job) -> bool) -> Vec<CompletionCandidate> {
    let Ok(loaded) = config::load(named_config().as_deref()) else { return Vec::new() };
    let wanted = loaded.config.jobs.iter().filter(|job| wanted(job));
    wanted.map(|job| CompletionCandidate::new(job.name().as_str()).help(Some(StyledStr::from(kind_of(job))))).collect()
}

fn kind_of(job: &Job) -> &'static str {
    match job {
        Job::Push(_) => "push job",
        Job::Pull(_) => "pull job",
        Job::Sink(_) => "sink job",
        Job::Source(_) => "source job",
        Job::Snap(_) => "snap job",
    }
}

/// The configuration that the words name.
fn named_config() -> Option<PathBuf> {
    let words = words();
    let joined = words.iter().find_map(|word| word.strip_prefix("--config="));
    let apart = || words.iter().position(|word| word == "--config").and_then(|at| words.get(at + 1));
    joined.or_else(|| apart().map(String::as_str)).filter(|path| !path.is_empty()).map(PathBuf::from)
}
