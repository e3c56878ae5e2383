//! The reference as Markdown: what `--help` says, for every command.

use std::fmt::Write as _;

use super::commands;
use crate::environment;

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (words, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        // Writing to a string does not fail.
        let _ = write!(page, "\n## {}\n\n```text\n{}\n```\n", words.join(" "), help.join("\n"));
    }
    page += "\n## Environment variables\n\n| Variable | Meaning |\n|---|---|\n";
    for (name, meaning) in environment::READ {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page += "\nOf zrepl 0.7 these have no effect any longer; the daemon says so if one of them is set:\n\n";
    page += "| Variable | Why |\n|---|---|\n";
    for (name, why) in environment::GONE {
        let _ = writeln!(page, "| `{name}` | {why} |");
    }
    page
}

const HEAD: &str = "\
# Commands

What `zrepl COMMAND --help` says, made from the definition of the command line.

Exit codes: 0 when all was done or help was asked for; 1 for every error, with its text on standard error;
2 when a command that destroys holds or bookmarks could ask nobody and `--yes` was not given. `zrepl status
--check` has those of monitoring plug-ins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

Output for scripts: `--json`, with `version` (`Version` where the keys are those of zrepl 0.7), which
changes if something is taken away or means something else, not if something is added.
";
