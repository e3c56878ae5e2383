//! `zrepl plan`

pub(crate) mod table;

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use config::types::{Config, Job};
use daemon::World;
use daemon::preview::{JobPreview, Preview, VERSION, Wish, WishError, preview, serve_all};
use serde_json::json;
use zfs::cli::{CliConfig, ZfsCli};

use crate::client::Client;
use crate::command_line::{Plan, PlanFormat};

/// Whoever has just changed the file must not take this for a plan by it.
const BY_THE_DAEMON: &str = "planned by the running daemon, with the configuration that it read last (with the file as it \
    is now: --without-daemon, or `zrepl reload` first)";

/// Prints what the next invocations would do. Standard error says who planned.
pub(crate) fn run(config: Option<&Path>, plan: &Plan) -> Result<()> {
    let config = super::load(config)?.config;
    let wishes = wishes(&config, plan)?;
    let preview = super::block_on(async {
        if plan.without_daemon {
            eprintln!("planned by this program, with the configuration file as it is now");
            return look(&config, &wishes).await;
        }
        let client = Client::new(&config);
        let away = match &client {
            Ok(client) => client.reach().await.err(),
            Err(no_socket) => Some(anyhow!("{no_socket}")),
        };
        match (client, away) {
            (Ok(client), None) => {
                eprintln!("{BY_THE_DAEMON}");
                ask(&client, &wishes).await
            }
            (_, away) => {
                let why = away.map(|why| format!(": {why}")).unwrap_or_default();
                eprintln!("planned by this program, without a daemon{why}");
                look(&config, &wishes).await
            }
        }
    })?;
    let text = match plan.format {
        _ if plan.json => serde_json::to_string_pretty(&preview)? + "\n",
        PlanFormat::Json => serde_json::to_string_pretty(&preview)? + "\n",
        PlanFormat::Table => table::whole(&preview, super::wants_colors(stdout().is_terminal())),
        PlanFormat::Summary => table::summary(&preview, super::wants_colors(stdout().is_terminal())),
    };
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    complete(&preview)
}

/// A script must not take half a plan for the whole.
fn complete(preview: &Preview) -> Result<()> {
    let of_job =
        |job: &JobPreview| (!job.problems.is_empty()).then(|| format!("{}: {}", job.job, job.problems.join("; ")));
    let problems: Vec<String> = preview.jobs.iter().filter_map(of_job).collect();
    ensure!(problems.is_empty(), "the plan is not complete: job {}", problems.join("; job "));
    Ok(())
}

/// One wish per job, since a daemon answers for a job within the time that a client waits.
fn wishes(config: &Config, plan: &Plan) -> Result<Vec<Wish>> {
    let estimate = !plan.no_estimate;
    let wish = |name: &str| Wish { job: Some(name.to_owned()), estimate };
    let Some(name) = &plan.job else {
        let active = config.jobs.iter().filter(|job| !matches!(job, Job::Sink(_) | Job::Source(_)));
        return Ok(active.map(|job| wish(job.name().as_str())).collect());
    };
    if !config.jobs.iter().any(|job| job.name().as_str() == name) {
        return Err(WishError::UnknownJob(name.clone()).into());
    }
    Ok(vec![wish(name)])
}

async fn ask(client: &Client, wishes: &[Wish]) -> Result<Preview> {
    let mut whole = Preview { version: VERSION, jobs: Vec::new() };
    for wish in wishes {
        let request = json!({"Job": wish.job, "Estimate": wish.estimate}).to_string();
        let answer = client.ask_text("/plan", request).await.map_err(|error| refused(error, wish))?;
        let part: Preview = serde_json::from_str(&answer).context("the daemon's answer is no plan of this version")?;
        whole.jobs.extend(part.jobs);
    }
    Ok(whole)
}

/// The file has the job, or nobody would have asked for it.
fn refused(error: anyhow::Error, wish: &Wish) -> anyhow::Error {
    let unknown = |name: &String| error.to_string().contains(&WishError::UnknownJob(name.clone()).to_string());
    match &wish.job {
        Some(name) if unknown(name) => anyhow!(
            "the running daemon has no job {name:?}, as it has read another configuration: `zrepl reload` makes it read \
             this one; or plan with --without-daemon"
        ),
        _ => error,
    }
}

async fn look(config: &Config, wishes: &[Wish]) -> Result<Preview> {
    let world = world(config)?;
    let _served = serve_all(config, &world)?;
    let mut whole = Preview { version: VERSION, jobs: Vec::new() };
    for wish in wishes {
        whole.jobs.extend(preview(&config.jobs, &world, wish).await?.jobs);
    }
    Ok(whole)
}

/// The pools of this host, without a daemon.
pub(super) fn world(config: &Config) -> Result<World> {
    super::daemon::check_zfs(config)?;
    Ok(World::new(Arc::new(ZfsCli::new(CliConfig::default()))))
}
