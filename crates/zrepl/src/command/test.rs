//! `zrepl test`

pub(crate) mod placeholder;
pub(crate) mod token;

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use config::types::{Config, Job};
use model::{DatasetName, FilesystemFilter};
use serde_json::{Value, json};
use zfs::cli::{CliConfig, ZfsCli};
use zfs::{Listing, Scope, Zfs};

use crate::command_line::test::FilesystemsTest;

/// Prints whether a job's filter selects filesystems: verdict, name, and why, separated by tabs.
/// Scripts read it: the third column is empty unless somebody asks for it or it is an error.
pub(crate) fn filesystems(config: Option<&Path>, test: &FilesystemsTest) -> Result<()> {
    let loaded = super::load(config)?;
    let filter = filter(&loaded.config, &test.job)?;
    if test.json {
        return object(filter, test);
    }
    let mut out = stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").context("cannot write to standard output");
    if let Some(input) = &test.input {
        return match DatasetName::parse(input) {
            Ok(name) => say(verdict(filter, &name, test.explain)),
            Err(error) => {
                say(format!("ERROR\t{input}\t{error}"))?;
                bail!("1 filesystem could not be tested")
            }
        };
    }
    let listing = listing()?;
    for dataset in &listing.datasets {
        say(verdict(filter, &dataset.name, test.explain))?;
    }
    for skipped in &listing.skipped {
        say(format!("ERROR\t{skipped}\tits name cannot be used"))?;
    }
    match listing.skipped.len() {
        0 => Ok(()),
        count => bail!("{count} filesystems could not be tested"),
    }
}

fn listing() -> Result<Listing> {
    super::block_on(async {
        let zfs = ZfsCli::new(CliConfig::default());
        zfs.list(&Scope::Everything).await.context("cannot list the filesystems of this machine")
    })
}

/// The same as JSON. What could not be tested is listed, and an error too.
fn object(filter: &FilesystemFilter, test: &FilesystemsTest) -> Result<()> {
    let (names, failed) = match &test.input {
        Some(input) => match DatasetName::parse(input) {
            Ok(name) => (vec![name], Vec::new()),
            Err(error) => (Vec::new(), vec![format!("{input}: {error}")]),
        },
        None => {
            let Listing { datasets, skipped, .. } = listing()?;
            let failed = skipped.iter().map(|skipped| format!("{skipped}: its name cannot be used")).collect();
            (datasets.into_iter().map(|dataset| dataset.name).collect(), failed)
        }
    };
    let tested = |name: &DatasetName| {
        let decided = filter.decide(name);
        json!({
            "filesystem": name.as_str(),
            "accepted": decided.as_ref().is_some_and(|(_, selected)| *selected),
            "entry": decided.map(|(entry, _)| entry.to_string()),
        })
    };
    let filesystems: Vec<Value> = names.iter().map(tested).collect();
    let object = json!({"version": 1, "job": test.job, "filesystems": filesystems, "errors": failed});
    writeln!(stdout(), "{}", serde_json::to_string_pretty(&object)?).context("cannot write to standard output")?;
    ensure!(failed.is_empty(), "{} filesystems could not be tested", failed.len());
    Ok(())
}

fn filter<'a>(config: &'a Config, name: &str) -> Result<&'a FilesystemFilter> {
    let job = config.jobs.iter().find(|job| job.name().as_str() == name);
    match job.ok_or_else(|| anyhow!("job {name:?} not defined in config"))? {
        Job::Push(job) => Ok(&job.filesystems),
        Job::Snap(job) => Ok(&job.filesystems),
        Job::Source(job) => Ok(&job.filesystems),
        Job::Pull(_) => bail!("job {name:?} does not have filesystems filter: it pulls what the source job offers"),
        Job::Sink(_) => bail!("job {name:?} does not have filesystems filter: a sink takes what its clients send"),
    }
}

fn verdict(filter: &FilesystemFilter, name: &DatasetName, explain: bool) -> String {
    let decided = filter.decide(name);
    let word = if decided.as_ref().is_some_and(|(_, selected)| *selected) { "ACCEPT" } else { "REJECT" };
    let why = match (explain, decided) {
        (false, _) => String::new(),
        (true, Some((entry, selected))) => format!("entry {:?}: {selected}", entry.to_string()),
        (true, None) => "no entry covers it".to_owned(),
    };
    format!("{word}\t{name}\t{why}")
}
