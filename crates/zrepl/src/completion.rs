//! Completion of the command line. Scripts of the shells ask the program itself what may come next, so
//! that they know the jobs of the configuration. They ask as those that zrepl 0.7 made do: `__complete`
//! and the words so far, the last of which is to be completed.

mod candidates;
mod scripts;

use std::ffi::OsString;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::engine::{CompletionCandidate, complete};

use crate::command_line::CommandLine;
pub(crate) use candidates::{any_job, filtering_job, kind, planned_job, signalled_job};
pub(crate) use scripts::{print, write};

/// Asks for candidates with an explanation each.
const DESCRIBED: &str = "__complete";
/// Asks for candidates alone.
const PLAIN: &str = "__completeNoDesc";

/// What the shell shall do, in bits: nothing is known.
const ERROR: u8 = 1;
/// The word goes on after the candidate.
const NO_SPACE: u8 = 2;
/// Files are no candidates.
const NO_FILES: u8 = 4;

/// Answers a shell, if it is one that asks. These words are not part of what people write, and
/// anything may follow them.
pub(crate) fn answer(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let program = words.next()?;
    let described = match words.next()?.to_str()? {
        DESCRIBED => true,
        PLAIN => false,
        _ => return None,
    };
    let asked: Vec<OsString> = words.collect();
    let text = answer_text(program, asked, described);
    // A shell that has gone away needs no answer.
    let _ = stdout().write_all(text.as_bytes());
    Some(ExitCode::SUCCESS)
}

fn answer_text(program: OsString, asked: Vec<OsString>, described: bool) -> String {
    candidates::remember(&asked);
    let mut words = vec![program];
    words.extend(asked);
    let last = words.len().saturating_sub(1);
    let current = words.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(found) = complete(&mut CommandLine::command(), words, last, Some(Path::new("."))) else {
        return format!(":{ERROR}\n");
    };
    let offered: Vec<_> = found.iter().filter(|one| is_offered(one, &current)).collect();
    let mut text: String = offered.iter().filter_map(|one| line(one, described)).collect();
    let open = !offered.is_empty() && offered.iter().all(|one| one.get_value().to_string_lossy().ends_with('/'));
    let directive = if open { NO_FILES | NO_SPACE } else { NO_FILES };
    text.push_str(&format!(":{directive}\n"));
    text
}

/// Options are offered to whoever has begun to write one.
fn is_offered(candidate: &CompletionCandidate, current: &str) -> bool {
    !candidate.is_hide_set() && (current.starts_with('-') || !candidate.get_value().to_string_lossy().starts_with('-'))
}

/// A candidate with what is said about it; none if it does not fit on a line.
fn line(candidate: &CompletionCandidate, described: bool) -> Option<String> {
    let value = candidate.get_value().to_str().filter(|value| !value.chars().any(char::is_control))?;
    let help = candidate.get_help().filter(|_| described).map(ToString::to_string);
    let help = help.and_then(|help| help.lines().next().map(str::to_owned));
    Some(match help.filter(|help| !help.is_empty()) {
        Some(help) => format!("{value}\t{help}\n"),
        None => format!("{value}\n"),
    })
}

#[cfg(test)]
mod tests;
