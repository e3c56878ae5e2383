//! `zrepl gendoc`: man pages and the reference, from the definition of the command line.

mod man;
mod markdown;

use std::fs;
use std::io::{Write, stdout};

use anyhow::{Context, Result};
use clap::CommandFactory as _;

use crate::command_line::CommandLine;
use crate::command_line::shell::Gendoc;

/// Writes what is asked for.
pub(crate) fn run(doc: &Gendoc) -> Result<()> {
    match doc {
        Gendoc::Man { directory } => {
            for (name, page) in man::pages()? {
                let path = directory.join(name);
                fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        }
        Gendoc::Markdown => stdout().write_all(markdown::page().as_bytes()).context("cannot write to standard output"),
    }
}

/// Every command that is shown, groups too, with its words: `["zrepl", "test", "filesystems"]`.
pub(crate) fn commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut root = CommandLine::command();
    // Whatever terminal it is generated in.
    root = root.term_width(100);
    root.build();
    let mut all = Vec::new();
    collect(&root, &[], &mut all);
    all
}

fn collect(command: &clap::Command, above: &[String], all: &mut Vec<(Vec<String>, clap::Command)>) {
    let words: Vec<String> = above.iter().cloned().chain([command.get_name().to_owned()]).collect();
    all.push((words.clone(), command.clone()));
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help");
    shown.for_each(|one| collect(one, &words, all));
}

#[cfg(test)]
mod tests;
