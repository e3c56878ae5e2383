//! The scripts that teach shells to ask.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory as _;
use clap_complete::aot;

use crate::command_line::CommandLine;
use crate::command_line::shell::{Completion, Gencompletion, Shell};

const BASH: &str = include_str!("zrepl.bash");
const ZSH: &str = include_str!("_zrepl");
const FISH: &str = include_str!("zrepl.fish");

/// Prints the script of a shell.
pub(crate) fn print(completion: &Completion) -> Result<()> {
    let script = script(completion.shell, completion.no_descriptions);
    stdout().write_all(&script).context("cannot write to standard output")
}

/// Writes the script of a shell to a file.
pub(crate) fn write(which: &Gencompletion) -> Result<()> {
    let (shell, file) = match which {
        Gencompletion::Bash(file) => (Shell::Bash, file),
        Gencompletion::Zsh(file) => (Shell::Zsh, file),
        Gencompletion::Fish(file) => (Shell::Fish, file),
    };
    let path: &Path = &file.file;
    fs::write(path, script(shell, false)).with_context(|| format!("cannot write {}", path.display()))
}

fn script(shell: Shell, no_descriptions: bool) -> Vec<u8> {
    let question = if no_descriptions { super::PLAIN } else { super::DESCRIBED };
    match shell {
        Shell::Bash => BASH.into(),
        Shell::Zsh => ZSH.replace("__COMPLETE", question).into(),
        Shell::Fish => FISH.replace("__COMPLETE", question).into(),
        Shell::Powershell => {
            let mut script = Vec::new();
            clap_complete::generate(aot::PowerShell, &mut CommandLine::command(), "zrepl", &mut script);
            script
        }
    }
}
