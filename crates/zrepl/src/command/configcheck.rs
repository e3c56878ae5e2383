//! `zrepl configcheck`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use config::{Config, Diagnostic, Loaded, Part, Secrets, Severity};
use jiff::Timestamp;
use serde_json::json;

use crate::command_line::{ConfigFormat, ConfigPart, Configcheck};

/// Silent if the configuration can be used, but for warnings, which fail a strict check, and for what
/// is asked for.
pub(crate) fn run(config: Option<&Path>, check: &Configcheck) -> Result<()> {
    let loaded = super::load(config)?;
    let warnings = check_files(&loaded, check)? + loaded.warnings.len();
    if let Some(format) = check.format {
        let text = print(&loaded.config, format, check);
        stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    }
    match (check.strict, warnings) {
        (true, 1) => bail!("1 warning, which a strict check does not let pass"),
        (true, 2..) => bail!("{warnings} warnings, which a strict check does not let pass"),
        _ => Ok(()),
    }
}

/// Says all warnings, and gives back how many are about files. The error is every mistake in them.
fn check_files(loaded: &Loaded, check: &Configcheck) -> Result<usize> {
    super::warn(&loaded.warnings);
    let found = if check.skip_cert_check { Vec::new() } else { loaded.check_files(Timestamp::now()) };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|diagnostic| diagnostic.severity() == Severity::Error);
    super::warn(&warnings);
    match errors.is_empty() {
        true => Ok(warnings.len()),
        false => Err(anyhow!(super::rendered(&errors))),
    }
}

/// Ends with a line feed.
fn print(config: &Config, format: ConfigFormat, check: &Configcheck) -> String {
    let part = match check.what {
        ConfigPart::All | ConfigPart::Config => Part::All,
        ConfigPart::Jobs => Part::Jobs,
        ConfigPart::Logging => Part::Logging,
    };
    let secrets = if check.show_secrets { Secrets::Shown } else { Secrets::Masked };
    match (format, part) {
        (ConfigFormat::Yaml, part) => config.effective(part, secrets).to_yaml(),
        (ConfigFormat::Json, part) => config.effective(part, secrets).to_json(),
        (ConfigFormat::Pretty, Part::All) => format!("{config:#?}\n"),
        (ConfigFormat::Pretty, Part::Jobs) => format!("{:#?}\n", config.jobs),
        (ConfigFormat::Pretty, Part::Logging) => format!("{:#?}\n", config.global.logging),
    }
}

/// Prints every error and warning, also if there are none.
pub(crate) fn json(config: Option<&Path>, check: &Configcheck) -> Result<()> {
    let (mut errors, mut warnings) = match config::load(config) {
        Ok(loaded) => {
            let found = if check.skip_cert_check { Vec::new() } else { loaded.check_files(Timestamp::now()) };
            let (errors, of_files): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|diagnostic| diagnostic.severity() == Severity::Error);
            (errors, [loaded.warnings, of_files].concat())
        }
        Err(config::Errors { errors, warnings }) => (errors, warnings),
    };
    if check.strict {
        errors.append(&mut warnings);
    }
    let list = |all: &[Diagnostic]| all.iter().map(object).collect::<Vec<_>>();
    let document = json!({
        "version": 1,
        "ok": errors.is_empty(),
        "errors": list(&errors),
        "warnings": list(&warnings),
    });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    match errors.len() {
        0 => Ok(()),
        1 => bail!("the configuration cannot be used: 1 error"),
        count => bail!("the configuration cannot be used: {count} errors"),
    }
}

fn object(diagnostic: &Diagnostic) -> serde_json::Value {
    let place = diagnostic.location();
    json!({
        "message": diagnostic.message(),
        "file": place.as_ref().map(|place| &place.file),
        "line": place.as_ref().map(|place| place.line),
        "column": place.as_ref().map(|place| place.column),
        "field": diagnostic.field(),
        "hint": diagnostic.hint(),
    })
}

/// Prints the schema for editors, whatever the configuration is like.
pub(crate) fn schema() -> Result<()> {
    stdout().write_all(config::schema().as_bytes()).context("cannot write to standard output")
}
