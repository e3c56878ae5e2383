//! `zrepl zfs-abstraction`

use std::io::{Write, stdout};

use anyhow::{Context, Result, anyhow, bail};
use daemon::abstractions::{Found, create_step_hold, list, release};
use jiff::tz::TimeZone;
use model::VersionKind;
use model::abstraction::{Abstraction, Query, sort_out};
use serde_json::{Value, json};
use zfs::Zfs;
use zfs::cli::{CliConfig, ZfsCli};

use super::confirm;
use crate::command_line::abstractions::{Create, Release, Wanted, ZfsAbstraction};

/// Which of those found to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    All,
    Stale,
}

/// Looks at and changes what zrepl keeps on disk. Needs no configuration.
pub(crate) fn run(what: ZfsAbstraction) -> Result<()> {
    let zfs = ZfsCli::new(CliConfig::default());
    super::block_on(async {
        match what {
            ZfsAbstraction::List { wanted, json } => show(&zfs, &wanted, json).await,
            ZfsAbstraction::ReleaseAll(release) => release_some(&zfs, &release, Choice::All).await,
            ZfsAbstraction::ReleaseStale(release) => release_some(&zfs, &release, Choice::Stale).await,
            ZfsAbstraction::Create(Create::Step { target, job, json }) => {
                let made = create_step_hold(&zfs, &target, &job).await?;
                say(if json { pretty(&object(&made))? } else { made.to_string() + "\n" })
            }
        }
    })
}

async fn show(zfs: &dyn Zfs, wanted: &Wanted, json: bool) -> Result<()> {
    let Found { abstractions, errors } = list(zfs, &wanted.query()).await;
    for one in &abstractions {
        // An empty line after each object, as zrepl 0.7 has it.
        say(if json { pretty(&object(one))? + "\n" } else { format!("{one}\n") })?;
    }
    errors.iter().for_each(|error| eprintln!("{error}"));
    match errors.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("there were errors in listing the abstractions")),
    }
}

async fn release_some(zfs: &dyn Zfs, wanted: &Release, choice: Choice) -> Result<()> {
    let Release { json, dry_run, yes, .. } = *wanted;
    let query = wanted.wanted.query();
    if choice == Choice::Stale {
        query.check_shows_stale()?;
    }
    if !dry_run {
        confirm::check(yes)?;
    }
    let (chosen, listed_all) = choose(zfs, &query, choice).await?;
    match (dry_run, json) {
        (true, true) => say(pretty(&Value::Array(chosen.iter().map(object).collect()))?)?,
        (true, false) => chosen.iter().try_for_each(|one| say(format!("would destroy {one}\n")))?,
        (false, _) => {
            if !yes {
                chosen.iter().for_each(|one| eprintln!("{one}"));
            }
            confirm::ask(yes, chosen.len(), &format!("release {} of zrepl's holds and bookmarks", chosen.len()))?;
            let results = release(zfs, &chosen, wanted.wanted.concurrency).await;
            tell(&chosen, &results, json)?;
        }
    }
    match listed_all {
        true => Ok(()),
        false => bail!("there were errors in listing the abstractions"),
    }
}

/// What to release, and whether everything could be looked at. What is stale shows only if it could.
async fn choose(zfs: &dyn Zfs, query: &Query, choice: Choice) -> Result<(Vec<Abstraction>, bool)> {
    let Found { abstractions, errors } = list(zfs, query).await;
    errors.iter().for_each(|error| eprintln!("{error}"));
    match choice {
        Choice::All => Ok((abstractions, errors.is_empty())),
        Choice::Stale if errors.is_empty() => Ok((sort_out(abstractions).stale, true)),
        Choice::Stale => bail!("nothing was released: what is stale can be told only if everything can be listed"),
    }
}

fn tell(chosen: &[Abstraction], results: &[Result<(), zfs::Error>], json: bool) -> Result<()> {
    for (one, result) in std::iter::zip(chosen, results) {
        let error = result.as_ref().err().map(zfs::Error::to_string);
        say(match (json, error) {
            (true, error) => {
                pretty(&json!({"Version": 1, "Abstraction": object(one), "DestroyErr": error.unwrap_or_default()}))?
            }
            (false, None) => format!("destroy {one} ... OK\n"),
            (false, Some(error)) => format!("destroy {one} ... failed:\n{error}\n"),
        })?;
    }
    match results.iter().all(Result::is_ok) {
        true => Ok(()),
        false => bail!("there were errors in destroying the abstractions"),
    }
}

/// In the form of zrepl 0.7, which has no `Version`.
fn object(one: &Abstraction) -> Value {
    let version = &one.version;
    let (kind, counts) = match version.kind {
        VersionKind::Snapshot => ("snapshot", true),
        VersionKind::Bookmark => ("bookmark", false),
    };
    let creation = version.creation.to_timestamp().to_zoned(TimeZone::system());
    json!({
        "Version": 1,
        "Type": one.kind.as_str(),
        "FS": one.dataset.as_str(),
        "Name": version.name.as_str(),
        "FullPath": one.full_path(),
        "JobID": one.job.as_ref().map(model::JobName::as_str),
        "CreateTXG": version.createtxg.0,
        "FilesystemVersion": {
            "Type": kind,
            "Name": version.name.as_str(),
            "Guid": version.guid.0,
            "CreateTXG": version.createtxg.0,
            "Creation": creation.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            "UserRefs": {"Value": version.userrefs, "Valid": counts},
        },
        "String": one.to_string(),
    })
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn say(text: String) -> Result<()> {
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
