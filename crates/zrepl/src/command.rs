//! What the commands do.

pub(crate) mod abstractions;
pub(crate) mod configcheck;
pub(crate) mod confirm;
pub(crate) mod daemon;
pub(crate) mod gendoc;
pub(crate) mod migrate;
pub(crate) mod plan;
pub(crate) mod pprof;
mod privileges;
pub(crate) mod reload;
pub(crate) mod signal;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod stdinserver;
pub(crate) mod test;
pub(crate) mod version;

use std::future::Future;
use std::io::{self, IsTerminal, stderr};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use config::{Diagnostic, Loaded, Style};

/// Reads the configuration. The error is every mistake in it.
fn load(path: Option<&Path>) -> Result<Loaded> {
    let style = if wants_colors(stderr().is_terminal()) { Style::Colored } else { Style::Plain };
    config::load(path).map_err(|errors| anyhow!(errors.render(style)))
}

/// Says what is legal and probably not meant.
fn warn(warnings: &[Diagnostic]) {
    if !warnings.is_empty() {
        eprintln!("{}\n", rendered(warnings));
    }
}

/// One after the other, separated by empty lines.
fn rendered(diagnostics: &[Diagnostic]) -> String {
    let style = if wants_colors(stderr().is_terminal()) { Style::Colored } else { Style::Plain };
    diagnostics.iter().map(|one| one.render(style)).collect::<Vec<_>>().join("\n\n")
}

/// Whether to colour what is written to a terminal.
fn wants_colors(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// What is said about an output that takes nothing.
const OUTPUT: &str = "cannot write to standard output";

/// Whether an error is that nobody reads the output any longer.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.to_string() == OUTPUT && error.root_cause().downcast_ref().is_some_and(broken)
}

/// Runs what a client does.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the program's runtime")?.block_on(work)
}
