//! The jobs as they take effect.

use std::num::NonZeroUsize;

use model::FilesystemFilter;
use model::filter::Pattern;
use model::plan::prune::KeepRule;
use model::plan::replication::ReplicationPolicy;
use model::plan::resolve::ConflictPolicy;
use model::protection::ProtectionPolicy;

use super::text::{Value, list, map, path, text, word};
use super::transports::{connect, serve};
use super::{Secrets, dsn};
use crate::describe::Shown as _;
use crate::duration::{one_unit, sum_of_units};
use crate::size;
use crate::types::{
    BandwidthLimit, Concurrency, Hook, HookKind, Job, Pruning, PullJob, PushJob, RecvOptions, SendOptions, SinkJob,
    SnapJob, Snapshotting, SourceJob,
};

pub(super) fn jobs(jobs: &[Job], secrets: Secrets) -> Value {
    list(jobs, |job| match job {
        Job::Push(job) => push(job, secrets),
        Job::Sink(job) => sink(job),
        Job::Snap(job) => snap(job, secrets),
        Job::Pull(job) => pull(job),
        Job::Source(job) => source(job, secrets),
    })
}

fn push(job: &PushJob, secrets: Secrets) -> Value {
    let PushJob { name, connect, filesystems, send, replication, concurrency, snapshotting, pruning } = job;
    map([
        ("type", text("push")),
        ("name", text(name)),
        ("connect", self::connect(connect)),
        ("filesystems", self::filesystems(filesystems)),
        ("send", self::send(send)),
        ("replication", self::replication(*replication, *concurrency)),
        ("conflict_resolution", conflict_resolution(*replication)),
        ("snapshotting", self::snapshotting(snapshotting, secrets)),
        ("pruning", self::pruning(pruning)),
    ])
}

fn sink(job: &SinkJob) -> Value {
    let SinkJob { name, root_fs, serve, recv } = job;
    map([
        ("type", text("sink")),
        ("name", text(name)),
        ("root_fs", text(root_fs)),
        ("serve", self::serve(serve)),
        ("recv", self::recv(recv)),
    ])
}

fn snap(job: &SnapJob, secrets: Secrets) -> Value {
    let SnapJob { name, filesystems, snapshotting, keep } = job;
    map([
        ("type", text("snap")),
        ("name", text(name)),
        ("filesystems", self::filesystems(filesystems)),
        ("snapshotting", self::snapshotting(snapshotting, secrets)),
        ("pruning", map([("keep", list(keep, keep_rule))])),
    ])
}

fn pull(job: &PullJob) -> Value {
    let PullJob { name, connect, root_fs, interval, recv, replication, concurrency, pruning } = job;
    map([
        ("type", text("pull")),
        ("name", text(name)),
        ("connect", self::connect(connect)),
        ("root_fs", text(root_fs)),
        ("interval", Value::Text(interval.map_or_else(|| "manual".to_owned(), one_unit))),
        ("recv", self::recv(recv)),
        ("replication", self::replication(*replication, *concurrency)),
        ("conflict_resolution", conflict_resolution(*replication)),
        ("pruning", self::pruning(pruning)),
    ])
}

fn source(job: &SourceJob, secrets: Secrets) -> Value {
    let SourceJob { name, serve, filesystems, send, snapshotting } = job;
    map([
        ("type", text("source")),
        ("name", text(name)),
        ("serve", self::serve(serve)),
        ("filesystems", self::filesystems(filesystems)),
        ("send", self::send(send)),
        ("snapshotting", self::snapshotting(snapshotting, secrets)),
    ])
}

/// A filter whose entries were all dropped because they match nothing must not be empty either.
fn filesystems(filter: &FilesystemFilter) -> Value {
    let entry = |(pattern, selected): (&Pattern, bool)| (pattern.to_string(), Value::Bool(selected));
    let entries: Vec<_> = filter.entries().map(entry).collect();
    match entries.is_empty() {
        true => Value::Map(vec![entry((&Pattern::Everything, false))]),
        false => Value::Map(entries),
    }
}

fn send(options: &SendOptions) -> Value {
    let SendOptions {
        encrypted,
        raw,
        send_properties,
        backup_properties,
        large_blocks,
        compressed,
        embedded_data,
        saved,
        bandwidth_limit,
    } = options;
    map([
        ("encrypted", Value::Bool(*encrypted)),
        ("raw", Value::Bool(*raw)),
        ("send_properties", Value::Bool(*send_properties)),
        ("backup_properties", Value::Bool(*backup_properties)),
        ("large_blocks", Value::Bool(*large_blocks)),
        ("compressed", Value::Bool(*compressed)),
        ("embedded_data", Value::Bool(*embedded_data)),
        ("saved", Value::Bool(*saved)),
        ("bandwidth_limit", self::bandwidth_limit(*bandwidth_limit)),
    ])
}

fn recv(options: &RecvOptions) -> Value {
    let RecvOptions { placeholder_encryption, inherit, override_, bandwidth_limit } = options;
    let overrides = override_.iter().map(|(name, value)| (name.to_string(), text(value)));
    map([
        ("placeholder", map([("encryption", word(*placeholder_encryption))])),
        ("properties", map([("inherit", list(inherit, text)), ("override", Value::Map(overrides.collect()))])),
        ("bandwidth_limit", self::bandwidth_limit(*bandwidth_limit)),
    ])
}

fn bandwidth_limit(limit: BandwidthLimit) -> Value {
    let BandwidthLimit { max, bucket_capacity } = limit;
    let max = max.map_or_else(|| size::UNLIMITED.to_owned(), |max| size::bytes(max.get()));
    map([("max", text(max)), ("bucket_capacity", text(size::bytes(bucket_capacity.get())))])
}

fn replication(policy: ReplicationPolicy, concurrency: Concurrency) -> Value {
    let ProtectionPolicy { initial, incremental } = policy.protection;
    let Concurrency { steps, size_estimates } = concurrency;
    map([
        ("protection", map([("initial", word(initial)), ("incremental", word(incremental))])),
        ("concurrency", map([("steps", count(steps)), ("size_estimates", count(size_estimates))])),
    ])
}

fn count(count: NonZeroUsize) -> Value {
    number(count.get())
}

fn number(number: usize) -> Value {
    Value::Number(u64::try_from(number).unwrap_or(u64::MAX))
}

fn conflict_resolution(policy: ReplicationPolicy) -> Value {
    let ReplicationPolicy { initial, conflicts, protection: _ } = policy;
    let ConflictPolicy { diverged, dead_token, no_common } = conflicts;
    map([
        ("initial_replication", word(initial)),
        ("diverged", word(diverged)),
        ("dead_token", word(dead_token)),
        ("no_common", word(no_common)),
    ])
}

fn snapshotting(snapshotting: &Snapshotting, secrets: Secrets) -> Value {
    let (kind, naming, when, hooks) = match snapshotting {
        Snapshotting::Manual => return map([("type", text("manual"))]),
        Snapshotting::Periodic { naming, interval, hooks } => {
            ("periodic", naming, ("interval", Value::Text(one_unit(*interval))), hooks)
        }
        Snapshotting::Cron { naming, cron, hooks } => ("cron", naming, ("cron", text(cron.text())), hooks),
    };
    map([
        ("type", text(kind)),
        ("prefix", text(naming.prefix())),
        when,
        ("timestamp_format", text(naming.format().text())),
        ("timestamp_location", text(naming.format().zone().shown().unwrap_or_default())),
        ("hooks", list(hooks, |hook| self::hook(hook, secrets))),
    ])
}

fn hook(hook: &Hook, secrets: Secrets) -> Value {
    let Hook { kind, timeout, filesystems, err_is_fatal } = hook;
    let section = match kind {
        HookKind::Command { path: program } => map([("type", text("command")), ("path", path(program))]),
        HookKind::PostgresCheckpoint { dsn } => {
            map([("type", text("postgres-checkpoint")), ("dsn", Value::Text(dsn::postgres(dsn, secrets)))])
        }
        HookKind::MysqlLockTables { dsn } => {
            map([("type", text("mysql-lock-tables")), ("dsn", Value::Text(dsn::mysql(dsn, secrets)))])
        }
    };
    section
        .with("timeout", Some(text(sum_of_units(*timeout))))
        .with("filesystems", Some(self::filesystems(filesystems)))
        .with("err_is_fatal", Some(Value::Bool(*err_is_fatal)))
}

fn pruning(Pruning { keep_sender, keep_receiver }: &Pruning) -> Value {
    map([("keep_sender", list(keep_sender, keep_rule)), ("keep_receiver", list(keep_receiver, keep_rule))])
}

fn keep_rule(rule: &KeepRule) -> Value {
    match rule {
        KeepRule::NotReplicated { keep_snapshot_at_cursor } => {
            map([("type", text("not_replicated")), ("keep_snapshot_at_cursor", Value::Bool(*keep_snapshot_at_cursor))])
        }
        KeepRule::LastN { count, regex } => {
            map([("type", text("last_n")), ("count", number(*count))]).with("regex", regex.as_ref().map(text))
        }
        KeepRule::Regex { regex, negate } => {
            map([("type", text("regex")), ("regex", text(regex)), ("negate", Value::Bool(*negate))])
        }
        KeepRule::Grid { grid, regex } => map([("type", text("grid")), ("grid", text(grid)), ("regex", text(regex))]),
    }
}
