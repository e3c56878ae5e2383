//! What a long build is doing, and the commands it runs.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Lines with the time since the start of the build.
pub(crate) struct Progress {
    what: String,
    start: Instant,
}

impl Progress {
    /// Starts the clock.
    pub(crate) fn start(what: String) -> Self {
        Self { what, start: Instant::now() }
    }

    /// Says what is being done now.
    pub(crate) fn step(&self, doing: &str) {
        eprintln!("{} [{:>4}s] {doing}", self.what, self.start.elapsed().as_secs());
    }
}

/// Runs a command whose output matters only if it fails: it goes to `log`, of which the end is
/// part of the error.
pub(crate) fn checked(command: &mut Command, log: &Path) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))?;
    let start = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let duplicate = || file.try_clone().context("duplicating a log file");
    command.stdin(Stdio::null()).stdout(duplicate()?).stderr(duplicate()?);
    let status = crate::children::run(command)?;
    if status.success() {
        return Ok(());
    }
    let mut output = Vec::new();
    file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut output))?;
    bail!("{} ended with {status}\n{}", command.get_program().display(), excerpt(&String::from_utf8_lossy(&output)));
}

/// The lines that most likely say what went wrong: errors, else the end.
fn excerpt(output: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = output.lines().collect();
    let is_error = |line: &&&str| line.contains("error") || line.contains("Error") || line.starts_with("E:");
    let errors: Vec<&str> = lines.iter().filter(is_error).take(LINES).copied().collect();
    let shown = if errors.is_empty() {
        lines.iter().skip(lines.len().saturating_sub(LINES)).copied().collect()
    } else {
        errors
    };
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_prefers_errors_over_the_end() {
        let text = "compiling a\na.c:1: error: no b\nmake: leaving";
        assert_eq!(excerpt(text), "    a.c:1: error: no b");
        assert_eq!(excerpt("one\ntwo"), "    one\n    two");
    }

    #[test]
    fn a_failing_command_keeps_status_and_output() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken; exit 3"]);
        let error = checked(&mut command, &log).unwrap_err().to_string();
        assert!(error.contains("status: 3") && error.contains("broken"), "{error}");
    }
}
