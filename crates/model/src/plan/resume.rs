//! Whether an interrupted step can be completed.

use crate::name::DatasetName;
use crate::plan::replication::{Discard, Step};
use crate::version::{Guid, Version};
use crate::view::{Encryption, FilesystemView, PartialReceive};

/// The step that completes what a receiver has partly, or why nothing can.
///
/// `receiver_newest` is the newest snapshot that the receiver has: a stream continues there, or, if
/// there is none, is a full one. `to` is needed as a snapshot on the sender, `from` as any version.
pub(crate) fn resumed_step(
    name: &DatasetName,
    partial: &PartialReceive,
    sender: &FilesystemView,
    sends_encrypted: Option<bool>,
    receiver_newest: Option<Guid>,
) -> Result<Step, Discard> {
    let versions = &sender.versions;
    let token = partial.contents.as_ref().map_err(|error| Discard::Unreadable(error.clone()))?;
    let to_name = || token.to_name.clone();
    if token.to_name.split_once('@').map(|(dataset, _)| dataset) != Some(name.as_str()) {
        return Err(Discard::OtherFilesystem { to_name: to_name() });
    }
    let to = snapshot(versions, token.to).ok_or_else(|| Discard::ToGone { to_name: to_name() })?;
    let from = match token.from {
        Some(guid) => Some(snapshot(versions, guid).or_else(|| any(versions, guid)).ok_or(Discard::FromGone)?),
        None => None,
    };
    let goes_on = from.is_none_or(|from| from.createtxg < to.createtxg);
    if token.from != receiver_newest || !goes_on {
        return Err(Discard::Superseded);
    }
    let encrypted = sender.encryption != Encryption::None && token.flags.raw;
    if sends_encrypted.is_some_and(|demanded| demanded != encrypted) {
        return Err(Discard::OtherPolicy);
    }
    Ok(Step {
        from: from.map(Version::to_ref),
        to: to.to_ref(),
        created: to.creation,
        resume_token: Some(partial.token.to_string()),
    })
}

fn snapshot(versions: &[Version], guid: Guid) -> Option<&Version> {
    versions.iter().rev().find(|version| version.is_snapshot() && version.guid == guid)
}

fn any(versions: &[Version], guid: Guid) -> Option<&Version> {
    versions.iter().rev().find(|version| version.guid == guid)
}
