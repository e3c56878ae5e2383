//! `zrepl migrate`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};
use config::types::Job;
use daemon::migrate::{
    Migration as Found, PlaceholderMark, ReceivingJob, destroy_old_cursor, mark_placeholder, plan_cursors,
    plan_placeholders, receives,
};
use model::DatasetName;
use model::abstraction::CURSOR_V1;
use model::migration::CursorMigration;
use serde_json::{Value, json};
use zfs::Zfs;
use zfs::cli::{CliConfig, ZfsCli};

use super::confirm;
use crate::command_line::abstractions::{Migrate, Migration};

/// Carries over what earlier versions left on disk.
pub(crate) fn run(config: Option<&Path>, migrate: &Migrate) -> Result<()> {
    let jobs = super::load(config)?.config.jobs;
    let zfs = ZfsCli::new(CliConfig::default());
    super::block_on(async {
        match migrate {
            Migrate::ReplicationCursor(how) => cursors(&zfs, &jobs, how).await,
            Migrate::Placeholder(how) => placeholders(&zfs, &jobs, how).await,
        }
    })
}

/// What became of a filesystem.
struct Outcome<'a> {
    filesystem: &'a DatasetName,
    /// In one word or two, which scripts may read.
    word: &'static str,
    /// What is to be said besides.
    note: String,
}

impl Outcome<'_> {
    const FAILED: &'static str = "failed";

    fn to_json(&self) -> Value {
        json!({"filesystem": self.filesystem.as_str(), "outcome": self.word, "note": self.note})
    }
}

async fn cursors(zfs: &dyn Zfs, jobs: &[Job], how: &Migration) -> Result<()> {
    if !how.dry_run {
        confirm::check(how.yes)?;
    }
    let (plan, without) = plan_cursors(zfs, jobs).await.context("cannot list filesystems")?;
    let ready = plan.iter().filter(|one| matches!(one.action, CursorMigration::Superseded { .. })).count();
    if !how.dry_run {
        confirm::ask(how.yes, ready, &format!("destroy {ready} old replication cursors that newer ones replace"))?;
    }
    let mut outcomes = Vec::new();
    for one in &plan {
        let outcome = migrate_cursor(zfs, one, how.dry_run).await;
        if !how.json {
            say(format!("{}#{CURSOR_V1}: {}: {}\n", outcome.filesystem, outcome.word, outcome.note))?;
        }
        outcomes.push(outcome);
    }
    match how.json {
        true => say_json("replication-cursor:v1-v2", how, &outcomes)?,
        false => say(format!("filesystems without an old cursor: {without}\n"))?,
    }
    finish(&outcomes)
}

async fn migrate_cursor<'a>(zfs: &dyn Zfs, one: &'a Found<CursorMigration>, dry_run: bool) -> Outcome<'a> {
    let filesystem = &one.filesystem;
    let (word, note) = match &one.action {
        CursorMigration::Nothing => ("skipped", "there is no old cursor".to_owned()),
        CursorMigration::NoOwner => ("skipped", "no job's filter selects the filesystem".to_owned()),
        CursorMigration::Needed(why) => (Outcome::FAILED, why.clone()),
        CursorMigration::Superseded { job, by } => {
            let note = format!("job \"{job}\" has {filesystem}{by}");
            match dry_run {
                true => ("would be destroyed", note),
                false => match destroy_old_cursor(zfs, filesystem).await {
                    Ok(()) => ("destroyed", note),
                    Err(error) => (Outcome::FAILED, error.to_string()),
                },
            }
        }
    };
    Outcome { filesystem, word, note }
}

async fn placeholders(zfs: &dyn Zfs, jobs: &[Job], how: &Migration) -> Result<()> {
    if !how.dry_run {
        confirm::check(how.yes)?;
    }
    let plan = plan_placeholders(zfs, jobs).await.context("cannot list filesystems")?;
    let marks = plan.iter().flat_map(|job| &job.filesystems);
    let ready = marks.filter(|one| one.action.replaces.is_some()).count();
    if !how.dry_run {
        confirm::ask(how.yes, ready, &format!("set zrepl:placeholder=on on {ready} filesystems"))?;
    }
    for job in jobs.iter().filter(|job| !how.json && receives(job).is_none()) {
        say(format!("ignoring job {:?}: it does not receive\n", job.name().as_str()))?;
    }
    let mut outcomes = Vec::new();
    for ReceivingJob { job, root, filesystems } in &plan {
        if !how.json {
            say(format!("job \"{job}\" => migrate filesystems below root_fs \"{root}\"\n"))?;
        }
        for one in filesystems {
            let outcome = migrate_placeholder(zfs, one, how.dry_run).await;
            if !how.json {
                say(format!("\t\"{}\" ... {} {}\n", outcome.filesystem, outcome.word, outcome.note))?;
            }
            outcomes.push(outcome);
        }
        if filesystems.is_empty() && !how.json {
            say("\tno filesystems\n".to_owned())?;
        }
    }
    if how.json {
        say_json("0.0.X:0.1:placeholder", how, &outcomes)?;
    }
    finish(&outcomes)
}

async fn migrate_placeholder<'a>(zfs: &dyn Zfs, one: &'a Found<PlaceholderMark>, dry_run: bool) -> Outcome<'a> {
    let PlaceholderMark { is_placeholder, replaces } = &one.action;
    let (word, note) = match replaces {
        None => ("unchanged", format!("(placeholder={is_placeholder})")),
        Some(old) => {
            let note = format!("(placeholder={is_placeholder}) (old value = {old:?})");
            match dry_run {
                true => ("migrate", note),
                false => match mark_placeholder(zfs, &one.filesystem).await {
                    Ok(()) => ("migrate", note),
                    Err(error) => (Outcome::FAILED, error.to_string()),
                },
            }
        }
    };
    Outcome { filesystem: &one.filesystem, word, note }
}

fn finish(outcomes: &[Outcome<'_>]) -> Result<()> {
    match outcomes.iter().filter(|outcome| outcome.word == Outcome::FAILED).count() {
        0 => Ok(()),
        count => bail!("{count} of the filesystems could not be migrated; what is said of them tells why"),
    }
}

fn say_json(migration: &str, how: &Migration, outcomes: &[Outcome<'_>]) -> Result<()> {
    let filesystems: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
    let all = json!({"version": 1, "migration": migration, "dry_run": how.dry_run, "filesystems": filesystems});
    say(serde_json::to_string_pretty(&all)? + "\n")
}

fn say(text: String) -> Result<()> {
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
