//! `zrepl test placeholder`

use std::io::{Write, stdout};

use anyhow::{Context, Result, bail};
use model::view::Placeholder;
use serde_json::{Value, json};
use zfs::cli::{CliConfig, ZfsCli};
use zfs::{Dataset, Listing, Scope, Zfs};

use crate::command_line::test::PlaceholderTest;

/// Prints which filesystems are placeholders, with what is set on them.
pub(crate) fn run(test: &PlaceholderTest) -> Result<()> {
    let scope = match &test.dataset {
        Some(name) if !test.all => Scope::Only(vec![name.clone()]),
        _ => Scope::Everything,
    };
    let Listing { datasets, missing, skipped } = super::super::block_on(async {
        ZfsCli::new(CliConfig::default()).list(&scope).await.context("cannot get placeholder state")
    })?;
    if let Some(missing) = missing.first() {
        bail!("filesystem {:?} does not exist", missing.as_str());
    }
    let text = match test.json {
        true => {
            let datasets: Vec<Value> = datasets.iter().map(object).collect();
            serde_json::to_string_pretty(&json!({"version": 1, "datasets": datasets}))? + "\n"
        }
        false => {
            let head = "IS_PLACEHOLDER\tDATASET\tzrepl:placeholder\n".to_owned();
            datasets.iter().fold(head, |text, dataset| text + &line(dataset))
        }
    };
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    skipped.iter().for_each(|what| eprintln!("left out: {what}"));
    match skipped.len() {
        0 => Ok(()),
        count => bail!("{count} filesystems have names that cannot be used"),
    }
}

fn line(dataset: &Dataset) -> String {
    let is = if dataset.placeholder == Placeholder::On { "yes" } else { "no" };
    // A person's text may have tabs and line breaks in it.
    let value = dataset.placeholder_text.as_deref().unwrap_or_default().replace(char::is_control, " ");
    format!("{is}\t{}\t{value}\n", dataset.name)
}

fn object(dataset: &Dataset) -> Value {
    json!({
        "dataset": dataset.name.as_str(),
        "is_placeholder": dataset.placeholder == Placeholder::On,
        "value": dataset.placeholder_text.as_deref(),
    })
}
