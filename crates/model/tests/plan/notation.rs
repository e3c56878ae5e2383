//! Views in a few characters.
//!
//! `@a #b @c=x @d!` are the snapshot a, the bookmark b, a snapshot named c with the guid of x, and the
//! held snapshot d. A guid is the text of the name; ages follow the order of first mention.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::plan::replication::{InitialReplication, ReplicationPolicy};
use model::plan::resolve::ConflictPolicy;
use model::protection::{Protection, ProtectionKind, ProtectionPolicy, ProtectionStrategy};
use model::protection::{cursor_name, tentative_cursor_name};
use model::view::{DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, TokenContents, View};
use model::{CreateTxg, DatasetName, Guid, JobName, UnixTime, Version, VersionKind, VersionName, VersionRef};

pub(crate) fn job() -> JobName {
    JobName::parse("j").unwrap()
}

pub(crate) fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

pub(crate) fn guid(name: &str) -> Guid {
    Guid(name.bytes().fold(0, |guid, byte| guid << 8 | u64::from(byte)))
}

/// The versions of a text, in order.
pub(crate) fn versions(text: &str) -> Arc<[Version]> {
    Version::sorted(unsorted(text))
}

/// The versions of a text as they stand there.
pub(crate) fn unsorted(text: &str) -> Vec<Version> {
    let mut seen: Vec<Guid> = Vec::new();
    text.split_whitespace()
        .map(|word| {
            let (reference, held) = match word.strip_suffix('!') {
                Some(word) => (reference(word), 1),
                None => (reference(word), 0),
            };
            if !seen.contains(&reference.guid) {
                seen.push(reference.guid);
            }
            let age = seen.iter().position(|guid| *guid == reference.guid).unwrap() + 1;
            Version {
                kind: reference.kind,
                name: reference.name,
                guid: reference.guid,
                createtxg: CreateTxg(age as u64 * 10),
                creation: UnixTime(age as i64 * 100),
                userrefs: held,
            }
        })
        .collect()
}

/// One version as requests carry it.
pub(crate) fn reference(word: &str) -> VersionRef {
    let kind = match &word[..1] {
        "@" => VersionKind::Snapshot,
        "#" => VersionKind::Bookmark,
        other => panic!("{other} is no delimiter"),
    };
    let (name, of) = word[1..].split_once('=').unwrap_or((&word[1..], &word[1..]));
    VersionRef { kind, name: VersionName::parse(name).unwrap(), guid: guid(of) }
}

/// `cursor:a step:b tentative:b received:a`, protections of the job `j`; `:b20` sets the age to 20.
pub(crate) fn protections(text: &str) -> Vec<Protection> {
    text.split_whitespace()
        .map(|word| {
            let (kind, name) = word.split_once(':').unwrap();
            let (name, age) = name.split_at(1);
            let at = guid(name);
            let bookmark = |name| VersionRef { kind: VersionKind::Bookmark, name, guid: at };
            let (kind, version) = match kind {
                "cursor" => (ProtectionKind::Cursor, bookmark(cursor_name(at, &job()).unwrap())),
                "tentative" => (ProtectionKind::TentativeCursor, bookmark(tentative_cursor_name(at, &job()).unwrap())),
                "step" => (ProtectionKind::StepHold, reference(&format!("@{name}"))),
                "received" => (ProtectionKind::LastReceivedHold, reference(&format!("@{name}"))),
                other => panic!("{other} is no protection"),
            };
            Protection { kind, version, createtxg: CreateTxg(age.parse().unwrap_or(0)) }
        })
        .collect()
}

/// `@a @b | cursor:b`: versions, then protections. `placeholder` or `off` in front sets the property.
pub(crate) fn filesystem(text: &str) -> FilesystemView {
    let (placeholder, text) = match text {
        text if text.starts_with("placeholder") => (Placeholder::On, &text["placeholder".len()..]),
        text if text.starts_with("off") => (Placeholder::Off, &text["off".len()..]),
        text => (Placeholder::Unset, text),
    };
    let (listed, protected) = text.split_once('|').unwrap_or((text, ""));
    FilesystemView {
        kind: DatasetKind::Filesystem,
        placeholder,
        encryption: Encryption::None,
        versions: versions(listed),
        partial: None,
        protections: protections(protected),
    }
}

/// Partial state for `to` of the filesystem `p/a`.
pub(crate) fn partial(from: Option<&str>, to: &str) -> PartialReceive {
    PartialReceive {
        token: "token".into(),
        contents: Ok(TokenContents {
            from: from.map(guid),
            to: guid(to),
            to_name: format!("p/a@{to}"),
            bytes_received: 1,
            flags: model::view::TokenFlags::default(),
        }),
    }
}

pub(crate) fn view<const N: usize>(filesystems: [(&str, FilesystemView); N]) -> View {
    View::new(filesystems.into_iter().map(|(name, fs)| (dataset(name), fs)).collect::<BTreeMap<_, _>>())
}

pub(crate) fn policy(initial: InitialReplication, protection: ProtectionStrategy) -> ReplicationPolicy {
    ReplicationPolicy {
        initial,
        protection: ProtectionPolicy { initial: protection, incremental: protection },
        conflicts: ConflictPolicy::default(),
    }
}
