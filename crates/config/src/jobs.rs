//! The `jobs` of a file.

use std::cell::RefCell;

use model::plan::replication::{InitialReplication, ReplicationPolicy};
use model::plan::resolve::ConflictPolicy;
use model::protection::ProtectionPolicy;
use model::{JobName, PropertyName};

use crate::decode::{Field, Section, all};
use crate::place::{Place, Spot};
use crate::snapshotting::snapshotting;
use crate::suggest::shown;
use crate::transports::{connect, serve};
use crate::types::{
    BandwidthLimit, Concurrency, Job, PlaceholderEncryption, Pruning, PullJob, PushJob, RecvOptions, SendOptions,
    SinkJob, SnapJob, SourceJob,
};
use crate::values::{
    bandwidth_limit, boolean, brief, choice, count, dataset, filesystems, interval_or_manual, keep_rules,
    local_keep_rules, property, property_key, text,
};

const TYPES: [&str; 5] = ["push", "sink", "snap", "pull", "source"];

/// What jobs say that other jobs may contradict.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) names: RefCell<Vec<(JobName, Place)>>,
    /// Those that could be read, in order.
    pub(crate) spots: RefCell<Vec<Spot>>,
}

pub(crate) fn jobs(field: &Field<'_>, claims: &Claims) -> Option<Vec<Job>> {
    all(field.items()?, |item| job(item, claims))
}

fn job(field: &Field<'_>, claims: &Claims) -> Option<Job> {
    let (section, kind) = field.tagged(&TYPES)?;
    let job = match kind.as_str() {
        "push" => Job::Push(push(section, claims)?),
        "sink" => Job::Sink(sink(section, claims)?),
        "snap" => Job::Snap(snap(section, claims)?),
        "pull" => Job::Pull(pull(section, claims)?),
        _ => Job::Source(source(section, claims)?),
    };
    claims.spots.borrow_mut().push(field.spot());
    Some(job)
}

fn push(mut section: Section<'_>, claims: &Claims) -> Option<PushJob> {
    let name = name(&mut section, claims);
    let connect = section.required("connect", connect);
    let filesystems = section.required("filesystems", filesystems);
    let send = section.subsection("send", SendOptions::default(), send);
    let replication = replication_of(&mut section);
    let snapshotting = section.required("snapshotting", snapshotting);
    let pruning = section.required("pruning", pruning);
    section.finish()?;
    let (replication, concurrency) = replication?;
    Some(PushJob {
        name: name?,
        connect: connect?,
        filesystems: filesystems?,
        send: send?,
        replication,
        concurrency,
        snapshotting: snapshotting?,
        pruning: pruning?,
    })
}

fn sink(mut section: Section<'_>, claims: &Claims) -> Option<SinkJob> {
    let name = name(&mut section, claims);
    let root_fs = section.required("root_fs", dataset);
    let serve = section.required("serve", serve);
    let recv = section.subsection("recv", RecvOptions::default(), recv);
    section.finish()?;
    Some(SinkJob { name: name?, root_fs: root_fs?, serve: serve?, recv: recv? })
}

fn snap(mut section: Section<'_>, claims: &Claims) -> Option<SnapJob> {
    let name = name(&mut section, claims);
    let filesystems = section.required("filesystems", filesystems);
    let snapshotting = section.required("snapshotting", snapshotting);
    let keep = section.required("pruning", |field| {
        let mut section = field.section()?;
        let keep = section.required("keep", local_keep_rules);
        section.finish()?;
        keep
    });
    section.finish()?;
    Some(SnapJob { name: name?, filesystems: filesystems?, snapshotting: snapshotting?, keep: keep? })
}

fn pull(mut section: Section<'_>, claims: &Claims) -> Option<PullJob> {
    let name = name(&mut section, claims);
    let connect = section.required("connect", connect);
    let root_fs = section.required("root_fs", dataset);
    let interval = section.required("interval", interval_or_manual);
    let recv = section.subsection("recv", RecvOptions::default(), recv);
    let replication = replication_of(&mut section);
    let pruning = section.required("pruning", pruning);
    section.finish()?;
    let (replication, concurrency) = replication?;
    Some(PullJob {
        name: name?,
        connect: connect?,
        root_fs: root_fs?,
        interval: interval?,
        recv: recv?,
        replication,
        concurrency,
        pruning: pruning?,
    })
}

fn source(mut section: Section<'_>, claims: &Claims) -> Option<SourceJob> {
    let name = name(&mut section, claims);
    let serve = section.required("serve", serve);
    let filesystems = section.required("filesystems", filesystems);
    let send = section.subsection("send", SendOptions::default(), send);
    let snapshotting = section.required("snapshotting", snapshotting);
    section.finish()?;
    Some(SourceJob { name: name?, serve: serve?, filesystems: filesystems?, send: send?, snapshotting: snapshotting? })
}

/// Names end up on disk; those that begin with `_` are the daemon's own.
fn name(section: &mut Section<'_>, claims: &Claims) -> Option<JobName> {
    section.required("name", |field| {
        let text = &field.scalar("a job name")?.text;
        if text.starts_with('_') {
            let message = format!("job name `{}` is reserved for internal use (starts with _)", shown(text));
            return field.fail(message, Some("choose a name that begins otherwise".to_owned()));
        }
        match JobName::parse(text) {
            Ok(name) => {
                claims.names.borrow_mut().push((name.clone(), field.place()));
                Some(name)
            }
            Err(error) => {
                let hint = "it becomes part of names on disk: letters, digits, `-`, `_`, `.`, `:` and blanks";
                field.fail(brief(&error), text.contains(|each| !is_name_character(each)).then(|| hint.to_owned()))
            }
        }
    })
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.: ".contains(character)
}

fn send(mut section: Section<'_>) -> Option<SendOptions> {
    let mut flag = |key| section.optional(key, false, boolean);
    let (encrypted, raw) = (flag("encrypted"), flag("raw"));
    let (send_properties, backup_properties) = (flag("send_properties"), flag("backup_properties"));
    let (large_blocks, compressed) = (flag("large_blocks"), flag("compressed"));
    let (embedded_data, saved) = (flag("embedded_data"), flag("saved"));
    let bandwidth_limit = section.subsection("bandwidth_limit", BandwidthLimit::default(), bandwidth_limit);
    section.finish()?;
    Some(SendOptions {
        encrypted: encrypted?,
        raw: raw?,
        send_properties: send_properties?,
        backup_properties: backup_properties?,
        large_blocks: large_blocks?,
        compressed: compressed?,
        embedded_data: embedded_data?,
        saved: saved?,
        bandwidth_limit: bandwidth_limit?,
    })
}

/// `replication` and `conflict_resolution` of an active job.
fn replication_of(section: &mut Section<'_>) -> Option<(ReplicationPolicy, Concurrency)> {
    let default = (ProtectionPolicy::default(), Concurrency::default());
    let replication = section.subsection("replication", default, replication);
    let resolution = section.subsection("conflict_resolution", Default::default(), conflict_resolution);
    let (protection, concurrency) = replication?;
    let (initial, conflicts) = resolution?;
    Some((ReplicationPolicy { initial, protection, conflicts }, concurrency))
}

fn replication(mut section: Section<'_>) -> Option<(ProtectionPolicy, Concurrency)> {
    let protection = section.subsection("protection", ProtectionPolicy::default(), |mut section| {
        let default = ProtectionPolicy::default();
        let initial = section.optional("initial", default.initial, choice);
        let incremental = section.optional("incremental", default.incremental, choice);
        section.finish()?;
        Some(ProtectionPolicy { initial: initial?, incremental: incremental? })
    });
    let concurrency = section.subsection("concurrency", Concurrency::default(), |mut section| {
        let default = Concurrency::default();
        let steps = section.optional("steps", default.steps, count);
        let size_estimates = section.optional("size_estimates", default.size_estimates, count);
        section.finish()?;
        Some(Concurrency { steps: steps?, size_estimates: size_estimates? })
    });
    section.finish()?;
    Some((protection?, concurrency?))
}

/// What to send first, and what to do about conflicts.
fn conflict_resolution(mut section: Section<'_>) -> Option<(InitialReplication, ConflictPolicy)> {
    let initial = section.optional("initial_replication", InitialReplication::default(), choice);
    let default = ConflictPolicy::default();
    let diverged = section.optional("diverged", default.diverged, choice);
    let dead_token = section.optional("dead_token", default.dead_token, choice);
    let no_common = section.optional("no_common", default.no_common, choice);
    section.finish()?;
    Some((initial?, ConflictPolicy { diverged: diverged?, dead_token: dead_token?, no_common: no_common? }))
}

fn pruning(field: &Field<'_>) -> Option<Pruning> {
    let mut section = field.section()?;
    let keep_sender = section.required("keep_sender", keep_rules);
    let keep_receiver = section.required("keep_receiver", keep_rules);
    section.finish()?;
    Some(Pruning { keep_sender: keep_sender?, keep_receiver: keep_receiver? })
}

fn recv(mut section: Section<'_>) -> Option<RecvOptions> {
    let placeholder_encryption = section.subsection("placeholder", PlaceholderEncryption::default(), |mut section| {
        let encryption = section.optional("encryption", PlaceholderEncryption::default(), choice);
        section.finish()?;
        encryption
    });
    let properties = section.subsection("properties", (Vec::new(), Vec::new()), |mut section| {
        let inherit = section.list("inherit", property);
        let override_ = section.take("override").map_or(Some(Vec::new()), |field| overrides(&field));
        section.finish()?;
        Some((inherit?, override_?))
    });
    let bandwidth_limit = section.subsection("bandwidth_limit", BandwidthLimit::default(), bandwidth_limit);
    section.finish()?;
    let (inherit, override_) = properties?;
    Some(RecvOptions {
        placeholder_encryption: placeholder_encryption?,
        inherit,
        override_,
        bandwidth_limit: bandwidth_limit?,
    })
}

fn overrides(field: &Field<'_>) -> Option<Vec<(PropertyName, String)>> {
    let entries = field.entries("a mapping of properties to values")?;
    let decoded = entries.into_iter().map(|(name, field)| {
        let value = if field.is_null() { Some(String::new()) } else { text(&field) };
        property_key(&name, &field).zip(value)
    });
    let decoded: Vec<Option<(PropertyName, String)>> = decoded.collect();
    decoded.into_iter().collect()
}
