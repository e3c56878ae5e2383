//! `zrepl configcheck`

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use config::{Config, Loaded, Part, Secrets, Severity};
use jiff::Timestamp;

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

/// Prints the schema for editors, whatever the configuration is like.
pub(crate) fn schema() -> Result<()> {
    stdout().write_all(config::schema().as_bytes()).context("cannot write to standard output")
}
