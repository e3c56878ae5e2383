//! Forms of words that scripts for zrepl 0.7 may use and that its parser takes: `--json=true`, `--all=false`.

use std::ffi::{OsStr, OsString};

use clap::{ArgAction, Command};

/// The same words with flags that are there or not. What is no such form is left as it is, for the parser to
/// judge; so is everything after `--`.
pub(crate) fn plain(root: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut command = root;
    let mut plain: Vec<OsString> = Vec::new();
    let mut words = words.into_iter();
    plain.extend(words.next());
    while let Some(word) = words.next() {
        if word == "--" {
            plain.push(word);
            break;
        }
        match Form::of(&word, command, root) {
            Form::Set(flag) => plain.push(flag),
            // The last one counts.
            Form::Unset(flag) => plain.retain(|earlier| *earlier != flag),
            Form::WithValue => {
                plain.push(word);
                plain.extend(words.next());
            }
            Form::Other => {
                command = word.to_str().and_then(|name| command.find_subcommand(name)).unwrap_or(command);
                plain.push(word);
            }
        }
    }
    plain.extend(words);
    plain
}

/// What a word is.
enum Form {
    /// A flag that is there.
    Set(OsString),
    /// One that is said not to be.
    Unset(OsString),
    /// An option whose value is the next word.
    WithValue,
    Other,
}

impl Form {
    fn of(word: &OsStr, command: &Command, root: &Command) -> Form {
        let Some(word) = word.to_str().filter(|word| word.starts_with('-')) else { return Form::Other };
        let arguments = || command.get_arguments().chain(root.get_arguments());
        let named = |name: &str| arguments().find(|argument| argument.get_long() == Some(name));
        let Some(long) = word.strip_prefix("--") else {
            let mut letters = word.chars().skip(1);
            let (letter, rest) = (letters.next(), letters.next());
            let takes =
                arguments().any(|one| letter.is_some() && one.get_short() == letter && one.get_action().takes_values());
            return if takes && rest.is_none() { Form::WithValue } else { Form::Other };
        };
        let Some((name, value)) = long.split_once('=') else {
            let takes = named(long).is_some_and(|argument| argument.get_action().takes_values());
            return if takes { Form::WithValue } else { Form::Other };
        };
        let is_flag = named(name).is_some_and(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
        match truth(value).filter(|_| is_flag) {
            Some(true) => Form::Set(format!("--{name}").into()),
            Some(false) => Form::Unset(format!("--{name}").into()),
            None => Form::Other,
        }
    }
}

/// As Go reads it.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::command_line::CommandLine;

    fn of(words: &str) -> String {
        let words = words.split(' ').map(OsString::from);
        let plain = plain(&CommandLine::command(), words);
        plain.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_may_have_values_and_the_last_one_counts() {
        for (words, expected) in [
            ("zrepl status --json=true", "zrepl status --json"),
            ("zrepl status --json=T --mode=raw", "zrepl status --json --mode=raw"),
            ("zrepl status --json --check --json=false", "zrepl status --check"),
            ("zrepl status --json=0 --json", "zrepl status --json"),
            (
                "zrepl migrate replication-cursor:v1-v2 --dry-run=true",
                "zrepl migrate replication-cursor:v1-v2 --dry-run",
            ),
            // Values of options, words after `--`, what is no flag of this command, and nonsense stay.
            ("zrepl --config status test filesystems --all=1", "zrepl --config status test filesystems --all"),
            ("zrepl test filesystems --job --all=1", "zrepl test filesystems --job --all=1"),
            ("zrepl status -d 1s --json=f", "zrepl status -d 1s"),
            ("zrepl status -- --json=true", "zrepl status -- --json=true"),
            ("zrepl status --wait=true", "zrepl status --wait=true"),
            ("zrepl status --json=maybe", "zrepl status --json=maybe"),
        ] {
            assert_eq!(of(words), expected);
        }
    }
}
