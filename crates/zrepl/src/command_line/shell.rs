//! The words of `zrepl completion` and `zrepl gencompletion`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// Whose script to print.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
    /// Candidates without explanations
    #[arg(long)]
    pub no_descriptions: bool,
}

/// Shells with a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// Friendly interactive shell
    Fish,
    /// PowerShell: commands and options only
    Powershell,
}

/// Whose script to write where.
#[derive(Debug, Subcommand)]
pub(crate) enum Gencompletion {
    /// Write the script for bash
    #[command(after_help = "Example:\n  zrepl gencompletion bash /etc/bash_completion.d/zrepl")]
    Bash(ScriptFile),
    /// Write the script for zsh, which finds it as `_zrepl` in a directory of its `fpath`
    #[command(after_help = "Example:\n  zrepl gencompletion zsh /usr/local/share/zsh/site-functions/_zrepl")]
    Zsh(ScriptFile),
    /// Write the script for fish
    #[command(after_help = "Example:\n  zrepl gencompletion fish /etc/fish/completions/zrepl.fish")]
    Fish(ScriptFile),
}

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct ScriptFile {
    /// The file, which is overwritten
    #[arg(value_name = "OUTFILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// What to write about the command line itself, for packages.
#[derive(Debug, Subcommand)]
pub(crate) enum Gendoc {
    /// Write the man pages, one per command, into a directory
    #[command(after_help = "Example:\n  zrepl gendoc man /usr/share/man/man8")]
    Man {
        /// The directory, which must exist
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
    /// Print the reference of all commands as Markdown
    #[command(after_help = "Example:\n  zrepl gendoc markdown > docs/reference/commands.md")]
    Markdown,
}
