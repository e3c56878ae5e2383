//! `zrepl status`

use std::io::{IsTerminal, StdoutLock, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::client::Client;
use crate::command_line::status::{Coloring, Status, StatusMode};
use crate::status::look::Show;
use crate::status::seen::Seen;
use crate::status::source::Source;
use crate::status::{check, dump, screen};

/// Shows what daemons do, or checks it.
pub(crate) fn run(config: Option<&Path>, status: &Status) -> Result<ExitCode> {
    if status.check.check {
        return Ok(check(config, status));
    }
    let terminal = stdout().is_terminal();
    let mode = match status.mode {
        None if status.json => StatusMode::Raw,
        Some(mode) => mode,
        None if terminal => StatusMode::Interactive,
        None => StatusMode::Dump,
    };
    if matches!(mode, StatusMode::Interactive | StatusMode::Legacy) && !terminal {
        bail!(
            "`--mode {}` needs a terminal as standard output: use `--mode dump` for text, `--mode raw` for JSON",
            if mode == StatusMode::Legacy { "legacy" } else { "interactive" }
        );
    }
    let sources = sources(config, status)?;
    match mode {
        StatusMode::Raw => match &status.job {
            // As in zrepl `--mode raw` shows all jobs in any case.
            Some(job) if status.json => one_job(&sources, job)?,
            _ => raw(&sources)?,
        },
        StatusMode::Dump => return print(&sources, status, terminal),
        StatusMode::Interactive | StatusMode::Legacy => {
            let options = screen::Options {
                job: status.job.clone(),
                colors: is_colored(status.color, terminal),
                legacy: mode == StatusMode::Legacy,
                zone: TimeZone::system(),
            };
            screen::run(sources, status.delay, options)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn sources(config: Option<&Path>, status: &Status) -> Result<Vec<Source>> {
    if status.socket.is_empty() && status.from.is_empty() {
        return Ok(vec![Source::daemon(Client::new(&super::load(config)?.config)?)]);
    }
    Source::all(&status.socket, &status.from)
}

fn is_colored(wanted: Coloring, terminal: bool) -> bool {
    match wanted {
        Coloring::Always => true,
        Coloring::Never => false,
        Coloring::Auto => super::wants_colors(terminal),
    }
}

const ONE_REPORT: &str = "`--mode raw` shows one report: give one `--socket` or `--from`";

fn raw(sources: &[Source]) -> Result<()> {
    let [source] = sources else { bail!(ONE_REPORT) };
    let mut line = RawLine { out: stdout().lock(), line_feed_held_back: false };
    super::block_on(source.raw(|piece| line.write(piece)))?;
    line.out.flush().context("cannot write to standard output")
}

/// The report with one job alone.
fn one_job(sources: &[Source], wanted: &str) -> Result<()> {
    let [source] = sources else { bail!(ONE_REPORT) };
    let mut text = Vec::new();
    super::block_on(source.raw(|piece| {
        text.extend_from_slice(piece);
        Ok(())
    }))?;
    let mut report: Value = serde_json::from_slice(&text).context("the daemon's report is not understood")?;
    let jobs = report.get_mut("Jobs").and_then(Value::as_object_mut).context("the daemon's report has no jobs")?;
    if !jobs.contains_key(wanted) {
        return Err(unknown(wanted, jobs.keys().cloned()));
    }
    jobs.retain(|name, _| name == wanted);
    write!(stdout(), "{report}").context("cannot write to standard output")
}

/// What zrepl says, and which jobs there are.
fn unknown(wanted: &str, known: impl Iterator<Item = String>) -> anyhow::Error {
    let known: Vec<String> = known.filter(|name| !name.starts_with('_')).collect();
    match known.is_empty() {
        true => anyhow!("job {wanted:?} not found: there are no jobs"),
        false => anyhow!("job {wanted:?} not found: there are {}", known.join(", ")),
    }
}

/// Asks all of them once.
fn seen(sources: &[Source]) -> Vec<Seen> {
    let ask = |source: &Source| {
        let mut seen = Seen::new(source.name.clone());
        let answer = super::block_on(source.report()).map_err(|error| format!("{error:#}"));
        seen.note(Duration::ZERO, Timestamp::now(), answer);
        seen
    };
    sources.iter().map(ask).collect()
}

fn print(sources: &[Source], status: &Status, terminal: bool) -> Result<ExitCode> {
    let seen = seen(sources);
    let errors: Vec<String> = seen.iter().filter_map(|seen| seen.error.clone()).collect();
    ensure!(errors.len() < seen.len(), "{}", errors.join("\n"));
    let zone = TimeZone::system();
    let lines = dump::lines(&seen, status.job.as_deref(), Show::All, Timestamp::now(), &zone);
    let Some(lines) = lines else {
        let known = seen.iter().flat_map(|seen| seen.jobs().map(move |(name, _)| seen.full_name(name)));
        return Err(unknown(status.job.as_deref().unwrap_or_default(), known));
    };
    let width = crossterm::terminal::size().ok().filter(|_| terminal).map(|(width, _)| usize::from(width));
    let colored = is_colored(status.color, terminal);
    let mut out = std::io::BufWriter::new(stdout().lock());
    for line in lines {
        let folded = width.map_or_else(|| vec![line.clone()], |width| line.fold(width));
        for line in folded {
            let text = if colored { dump::colored(&line) } else { line.text() };
            writeln!(out, "{text}").context("cannot write to standard output")?;
        }
    }
    out.flush().context("cannot write to standard output")?;
    errors.iter().for_each(|error| eprintln!("{error}"));
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything has an answer in a plug-in's terms, also what goes wrong before the check.
fn check(config: Option<&Path>, status: &Status) -> ExitCode {
    let verdict = match sources(config, status) {
        Ok(sources) => {
            let ask = |source: &Source| (source.name.clone(), super::block_on(source.report()));
            let reports: Vec<_> = sources.iter().map(ask).collect();
            check::check(&reports, status.job.as_deref(), &status.check, Timestamp::now())
        }
        Err(error) => check::Verdict::unknown(&format!("{error:#}")),
    };
    // A reader that has gone away takes no other answer either; the exit code remains.
    let _ = writeln!(stdout(), "{}", verdict.text);
    ExitCode::from(verdict.level.exit_code())
}

/// Writes an answer without its final line feed.
struct RawLine {
    out: StdoutLock<'static>,
    line_feed_held_back: bool,
}

impl RawLine {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        const FAILED: &str = "cannot write to standard output";
        if piece.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.line_feed_held_back) {
            self.out.write_all(b"\n").context(FAILED)?;
        }
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        self.line_feed_held_back = text.len() < piece.len();
        self.out.write_all(text).context(FAILED)
    }
}
