//! Asks before protection is destroyed.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

use anyhow::{Context, Result, anyhow};
use thiserror::Error;

/// Nobody agreed, because nobody could be asked. The program ends with exit code 2 then, so that a script
/// can tell it from a failure.
#[derive(Debug, Error)]
#[error("nothing was done: there is no terminal to ask for confirmation on (pass `--yes`, or `--dry-run` to look)")]
pub(crate) struct Unconfirmed;

/// Fails if nobody has agreed and nobody can be asked, before anything is looked at.
pub(crate) fn check(yes: bool) -> Result<()> {
    match yes || stdin().is_terminal() {
        true => Ok(()),
        false => Err(Unconfirmed.into()),
    }
}

/// Asks a person, unless the answer is known or there is nothing to do.
pub(crate) fn ask(yes: bool, count: usize, what: &str) -> Result<()> {
    if yes || count == 0 {
        return Ok(());
    }
    check(yes)?;
    ask_on(&mut stdin().lock(), &mut stderr(), &format!("{what}? [y/N] "))
}

fn ask_on(answers: &mut impl BufRead, questions: &mut impl Write, question: &str) -> Result<()> {
    let mut answer = String::new();
    write!(questions, "{question}").and_then(|()| questions.flush()).context("cannot ask for confirmation")?;
    answers.read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing was done")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        let ask = |answer: &str| {
            let mut asked = Vec::new();
            let result = ask_on(&mut answer.as_bytes(), &mut asked, "release 3? [y/N] ");
            assert_eq!(asked, b"release 3? [y/N] ");
            result.map_err(|error| error.to_string())
        };
        for yes in ["y\n", "yes\n", " Y \n", "YES"] {
            assert_eq!(ask(yes), Ok(()), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "no\n", "yess\n", "j\n"] {
            assert_eq!(ask(no), Err("nothing was done".to_owned()), "{no:?}");
        }
    }
}
