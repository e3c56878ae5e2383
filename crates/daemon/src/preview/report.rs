//! What a preview says: plain data, the same as JSON and in memory.

use serde::{Deserialize, Serialize};

/// The version of the JSON form. It grows when a field changes its meaning or goes; new fields do not
/// count.
pub const VERSION: u32 = 1;

/// What the next invocations would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// [`VERSION`] of the program that made it.
    pub version: u32,
    /// The jobs that do something by themselves, in the order of the configuration.
    pub jobs: Vec<JobPreview>,
}

/// What the next invocation of a job would do: its snapshots first, then its sends, then what pruning
/// would destroy if both had succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPreview {
    /// The name.
    pub job: String,
    /// What kind of job it is: `push` or `snap`.
    pub kind: String,
    /// When it was planned (RFC 3339), and when the planned snapshots would have been taken.
    pub at: String,
    /// When the job takes snapshots by itself; an invocation follows them.
    #[serde(default)]
    pub next: NextRound,
    /// What the snapshots would be called; none if the job takes none by itself.
    pub snapshot: Option<String>,
    /// Why (a part of) the job could not be planned.
    pub problems: Vec<String>,
    /// What looking at the pools had to warn of.
    pub warnings: Vec<String>,
    /// The sides that are pruned.
    pub sides: Vec<SidePreview>,
    /// In path order.
    pub filesystems: Vec<FilesystemPreview>,
    /// All filesystems together.
    pub total: Summary,
}

/// When a job acts by itself: takes a round of snapshots, or, if it pulls, fetches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case")]
pub enum NextRound {
    /// Never by itself: others take them, and ask for invocations.
    OnRequest,
    /// At a time (RFC 3339): what the daemon waits for, or would if it started now.
    At {
        /// The time.
        at: String,
    },
    /// It cannot be said.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What a plan says that was made by a program that does not know.
impl Default for NextRound {
    fn default() -> Self {
        NextRound::Unknown { why: "whoever planned does not say".to_owned() }
    }
}

/// A side that is pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidePreview {
    /// Which.
    pub side: Side,
    /// The keep rules; decisions name them by their place, which counts from 1. Nothing is destroyed
    /// without rules.
    pub rules: Vec<String>,
    /// Why it cannot be said what would be destroyed.
    pub unknown: Option<String>,
}

/// Which side is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The one that sends.
    Sender,
    /// The one that receives.
    Receiver,
    /// The only one of a job that does not replicate.
    Local,
}

/// What would happen to a filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemPreview {
    /// The name, as the sender has it.
    pub filesystem: String,
    /// The snapshot that would be taken; none if the job takes none here.
    pub snapshot: Option<SnapshotPreview>,
    /// What would be sent; none if the job does not replicate it.
    pub replication: Option<ReplicationPreview>,
    /// What pruning would do, side by side.
    pub pruning: Vec<PruningPreview>,
    /// The numbers.
    pub summary: Summary,
}

/// A snapshot that would be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPreview {
    /// Its short name.
    pub name: String,
    /// Why it cannot be taken.
    pub impossible: Option<String>,
    /// What runs around it, in the order of the edges before it.
    #[serde(default)]
    pub hooks: Vec<HookPreview>,
}

/// A hook that would run around a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPreview {
    /// How people know it: the program, or the server.
    pub name: String,
    /// Its failure before the snapshot prevents it.
    pub fatal: bool,
}

/// What replication would do for a filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum ReplicationPreview {
    /// Nothing.
    Nothing {
        /// Why.
        why: String,
    },
    /// Put holds and bookmarks right.
    Confirm {
        /// What and why.
        why: String,
    },
    /// Send.
    Send {
        /// Why it starts where it starts.
        why: String,
        /// Why partial state on the receiver would be discarded first.
        discard: Option<String>,
        /// What would be done to the receiver first, because the job is configured to resolve the conflict.
        #[serde(default)]
        resolution: Option<ResolutionPreview>,
        /// In order; none if the sender has nothing newer than what the receiver is taken back to.
        steps: Vec<StepPreview>,
    },
    /// Nothing can be sent before a person decides.
    Conflict {
        /// What is in the way.
        why: String,
    },
}

/// What would be done to the receiver to resolve a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ResolutionPreview {
    /// Destroy snapshots, and roll live changes back.
    RollBack {
        /// Where to, `@snapshot`.
        to: String,
        /// What would be destroyed, `@snapshot`, oldest first.
        destroys: Vec<String>,
        /// The choice in the configuration.
        why: String,
    },
    /// Rename.
    RenameAside {
        /// The new name, with a word for the time.
        to: String,
        /// What is below it and would move along.
        below: Vec<String>,
        /// The choice in the configuration.
        why: String,
    },
}

/// A send and receive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPreview {
    /// What the receiver has, `@snapshot` or `#bookmark`; none for a full send.
    pub from: Option<String>,
    /// What would be sent, `@snapshot`.
    pub to: String,
    /// Whether the step continues an interrupted one.
    pub resumes: bool,
    /// About how large the stream would be.
    pub size: Size,
}

/// About how large a stream would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// It cannot be said, and why.
    Unknown(String),
}

/// What pruning would do to a filesystem on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruningPreview {
    /// Which side.
    pub side: Side,
    /// Why it is not pruned at all.
    pub skipped: Option<String>,
    /// Every snapshot there would be, oldest first.
    pub snapshots: Vec<Verdict>,
}

/// The decision about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The short name.
    pub name: String,
    /// When it was taken (RFC 3339).
    pub creation: String,
    /// Whether it goes.
    pub destroy: bool,
    /// Which rule keeps it, or what else; or that no rule does.
    pub why: String,
    /// The places of the rules that keep it.
    pub kept_by: Vec<u32>,
    /// The rules that let it go; all of them if it is destroyed.
    pub rejected_by: Vec<Rejected>,
}

/// A rule that lets a snapshot go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its place.
    pub rule: u32,
    /// Why.
    pub why: String,
}

/// Numbers for a line at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Snapshots that would be taken.
    pub snapshots: usize,
    /// Steps.
    pub sends: usize,
    /// Bytes of the steps whose size is known.
    pub bytes: u64,
    /// Steps whose size is not.
    pub sizes_unknown: usize,
    /// Snapshots that would be destroyed, on all sides.
    pub destroys: usize,
    /// Filesystems that need a person: a conflict, or a snapshot that cannot be taken.
    pub blocked: usize,
}

impl Summary {
    fn of(filesystem: &FilesystemPreview) -> Summary {
        let mut summary = Summary::default();
        let impossible = match &filesystem.snapshot {
            Some(snapshot) if snapshot.impossible.is_none() => {
                summary.snapshots = 1;
                false
            }
            other => other.is_some(),
        };
        if let Some(ReplicationPreview::Send { steps, resolution, .. }) = &filesystem.replication {
            if let Some(ResolutionPreview::RollBack { destroys, .. }) = resolution {
                summary.destroys = destroys.len();
            }
            summary.sends = steps.len();
            for step in steps {
                match step.size {
                    Size::Bytes(bytes) => summary.bytes = summary.bytes.saturating_add(bytes),
                    Size::Unknown(_) => summary.sizes_unknown += 1,
                }
            }
        }
        summary.destroys +=
            filesystem.pruning.iter().flat_map(|side| &side.snapshots).filter(|one| one.destroy).count();
        let conflict = matches!(filesystem.replication, Some(ReplicationPreview::Conflict { .. }));
        summary.blocked = usize::from(impossible || conflict);
        summary
    }

    fn add(&mut self, other: &Summary) {
        self.snapshots += other.snapshots;
        self.sends += other.sends;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sizes_unknown += other.sizes_unknown;
        self.destroys += other.destroys;
        self.blocked += other.blocked;
    }
}

impl JobPreview {
    /// Counts again, after sizes became known.
    pub(super) fn count(&mut self) {
        self.total = Summary::default();
        for filesystem in &mut self.filesystems {
            filesystem.summary = Summary::of(filesystem);
            self.total.add(&filesystem.summary);
        }
    }
}
