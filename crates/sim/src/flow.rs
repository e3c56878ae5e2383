//! Who replicates what to where.

use std::collections::BTreeSet;

use model::protection::{last_received_tag, parse_cursor_name, step_hold_tag};
use model::{DatasetName, FilesystemFilter, JobName};

use crate::check::Expected;
use crate::picture::VersionPicture;
use crate::process::Host;

/// One replication: two jobs, one of which is active.
#[derive(Debug, Clone)]
pub struct Flow {
    /// From here.
    pub sender: Host,
    /// To here.
    pub receiver: Host,
    /// Where the active job is: one of both.
    pub driver: Host,
    /// The job that owns cursors and step holds: a push or a source job.
    pub sending: JobName,
    /// The job that owns last-received holds: a sink or a pull job.
    pub receiving: JobName,
    /// Below which the receiver keeps the sender's filesystems.
    pub root: String,
    /// What is replicated.
    pub filesystems: FilesystemFilter,
    /// Whether the policy keeps a base, for all kinds of step.
    pub guarded: bool,
    /// What the protections of what is up to date must be.
    pub expected: Expected,
}

/// Filesystems, as the senders name them, of flows by their position.
pub type Places = BTreeSet<(usize, String)>;

impl Flow {
    /// The job that is woken.
    pub fn active(&self) -> &JobName {
        if self.driver == self.sender { &self.sending } else { &self.receiving }
    }

    /// Whether a job takes part.
    pub fn is_of(&self, job: &JobName) -> bool {
        [&self.sending, &self.receiving].contains(&job)
    }

    /// Where the receiver keeps a filesystem.
    pub fn on_receiver(&self, filesystem: &str) -> String {
        format!("{}/{filesystem}", self.root)
    }

    /// Whether a filesystem of the sender is replicated.
    pub fn selects(&self, filesystem: &str) -> bool {
        DatasetName::parse(filesystem).is_ok_and(|name| self.filesystems.selects(&name))
    }

    /// Whether a hold belongs to this flow and is the business of a job.
    pub fn owns_hold(&self, (host, job): &(Host, JobName), tag: &str) -> bool {
        let sends = *host == self.sender && *job == self.sending;
        let receives = *host == self.receiver && *job == self.receiving;
        let is = |own: Result<model::HoldTag, _>| own.is_ok_and(|own: model::HoldTag| own.as_str() == tag);
        (sends && is(step_hold_tag(job))) || (receives && is(last_received_tag(job)))
    }

    /// Whether a bookmark belongs to this flow and is the business of a job.
    pub fn owns_bookmark(&self, (host, job): &(Host, JobName), version: &VersionPicture) -> bool {
        let own = parse_cursor_name(&version.name)
            .is_some_and(|(_, guid, owner)| owner == job.as_str() && guid == version.guid);
        *host == self.sender && *job == self.sending && own
    }
}
