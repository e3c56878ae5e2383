//! The words for what zrepl keeps on disk.

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};
use model::JobName;
use model::abstraction::{AbstractionKind, Filesystems, Query, TxgRange};
use zfs::Snapshot;

use crate::completion;

/// What to do with holds and bookmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum ZfsAbstraction {
    /// List the holds and bookmarks by which zrepl protects what replication needs
    #[command(after_help = "\
Examples:
  zrepl zfs-abstraction list
  zrepl zfs-abstraction list --fs tank/home --type step-hold,replication-cursor-bookmark-v2
  zrepl zfs-abstraction list --fs 'tank<:ok,tank/tmp<:!' --json | jq -r .FullPath")]
    List {
        /// Which
        #[command(flatten)]
        wanted: Wanted,
        /// Print JSON: one object after the other
        #[arg(long)]
        json: bool,
    },
    /// Release all of them that match: what they protect can be destroyed afterwards
    ///
    /// Meant for filesystems and jobs that are not replicated any longer. Where replication goes on and
    /// no common snapshot is left, it cannot be incremental afterwards.
    #[command(after_help = "\
Examples:
  zrepl zfs-abstraction release-all --job old_name --dry-run
  zrepl zfs-abstraction release-all --fs tank/home --job old_name --yes")]
    ReleaseAll(Release),
    /// Release those that are stale: older than what has been replicated since
    ///
    /// For each filesystem and job: all replication cursors and all last-received holds but the newest, and
    /// step holds that are not newer than the cursor (without one: none).
    #[command(after_help = "\
Examples:
  zrepl zfs-abstraction release-stale --dry-run
  zrepl zfs-abstraction release-stale --fs 'tank<:ok' --yes")]
    ReleaseStale(Release),
    /// Make one, for tests
    #[command(subcommand)]
    Create(Create),
}

/// What to make.
#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Hold a snapshot as a job does while a step is unfinished
    #[command(after_help = "Example:\n  zrepl zfs-abstraction create step -t tank/home@monday -j backup_home")]
    Step {
        /// The snapshot
        #[arg(short, long, value_name = "SNAPSHOT", value_parser = snapshot)]
        target: Snapshot,
        /// The job's name
        #[arg(short, long = "jobid", visible_alias = "job", value_name = "JOB", value_parser = JobName::parse,
            add = completion::any_job())]
        job: JobName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to release, and how.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// Which
    #[command(flatten)]
    pub wanted: Wanted,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Only say what would be released
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed where nobody can be asked
    #[arg(long)]
    pub yes: bool,
}

/// Which ones; every option narrows it.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// One filesystem, or a filter such as `tank<:ok,tank/tmp:!` [default: all of this machine]
    #[arg(long, value_name = "FS", value_parser = Filesystems::parse)]
    fs: Option<Filesystems>,
    /// Whose; old cursors (v1) belong to every job
    #[arg(long, value_name = "JOB", value_parser = JobName::parse, add = completion::any_job())]
    job: Option<JobName>,
    /// Types, separated by commas [default: all]
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',', value_parser = str::parse::<AbstractionKind>,
        add = completion::kind())]
    kinds: Vec<AbstractionKind>,
    /// Transaction groups in which the snapshots were made, such as `[100,200)` or `~,200]`
    #[arg(long, value_name = "RANGE", value_parser = TxgRange::parse)]
    createtxg: Option<TxgRange>,
    /// How many bookmarks to destroy at a time; everything else takes few processes anyway
    #[arg(short = 'p', long, value_name = "N", default_value = "1")]
    pub concurrency: NonZeroUsize,
}

impl Wanted {
    /// The same as a question.
    pub(crate) fn query(&self) -> Query {
        let all = Query::default();
        let kinds = if self.kinds.is_empty() { all.kinds } else { self.kinds.iter().copied().collect() };
        Query {
            filesystems: self.fs.clone().unwrap_or_default(),
            job: self.job.clone(),
            kinds,
            createtxg: self.createtxg.unwrap_or_default(),
        }
    }
}

/// What to migrate.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Destroy replication cursors of zrepl up to 0.2 where their job has a newer one
    #[command(
        name = "replication-cursor:v1-v2",
        after_help = "Example:\n  zrepl migrate replication-cursor:v1-v2 --dry-run"
    )]
    ReplicationCursor(Migration),
    /// Write the marks of placeholders that zrepl 0.0 made in today's form
    #[command(name = "0.0.X:0.1:placeholder", after_help = "Example:\n  zrepl migrate 0.0.X:0.1:placeholder --dry-run")]
    Placeholder(Migration),
}

/// How to migrate.
#[derive(Debug, Args)]
pub(crate) struct Migration {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed where nobody can be asked
    #[arg(long)]
    pub yes: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A bookmark is told apart from a mistake: nothing can hold it.
fn snapshot(text: &str) -> Result<Snapshot, String> {
    if text.contains('#') {
        return Err("it is a bookmark, and only snapshots can be held".to_owned());
    }
    let (dataset, name) = text.split_once('@').ok_or("it is no snapshot: write such as tank/home@monday")?;
    let dataset = model::DatasetName::parse(dataset).map_err(|error| error.to_string())?;
    let name = model::VersionName::parse(name).map_err(|error| error.to_string())?;
    Ok(Snapshot { dataset, name })
}
