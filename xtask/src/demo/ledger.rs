//! The demo's account: a line as each thing happens, and a table of all at the end.

use anyhow::Result;
use std::time::Instant;

struct Entry {
    title: String,
    seconds: f64,
    finding: String,
}

/// What happened, in order.
pub(super) struct Ledger {
    start: Instant,
    entries: Vec<Entry>,
}

impl Ledger {
    /// An empty one.
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), entries: Vec::new() }
    }

    /// Does one thing of the story and notes what it found, which it has checked.
    pub(super) fn step(&mut self, title: &str, act: impl FnOnce() -> Result<String>) -> Result<()> {
        println!("[{:>3.0}s] {title} …", self.start.elapsed().as_secs_f64());
        let begin = Instant::now();
        let outcome = act();
        let finding = match &outcome {
            Ok(finding) => finding.clone(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        println!("       {finding}");
        self.entries.push(Entry { title: title.to_owned(), seconds: begin.elapsed().as_secs_f64(), finding });
        outcome.map(drop)
    }

    /// All of it as a table.
    pub(super) fn table(&self) -> String {
        let width = self.entries.iter().map(|entry| entry.title.chars().count()).max().unwrap_or(0);
        let mut table = format!("{:<width$}  {:>7}  what was found\n", "step", "time");
        table += &format!("{}  {}  {}\n", "-".repeat(width), "-".repeat(7), "-".repeat(48));
        for Entry { title, seconds, finding } in &self.entries {
            let finding = finding.lines().next().unwrap_or_default();
            table += &format!("{title:<width$}  {seconds:>5.1} s  {finding}\n");
        }
        table
    }
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = count as f64;
    let mut unit = UNITS[0];
    for next in UNITS.into_iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(200 << 20), "200.0 MiB");
        assert_eq!(bytes(5 << 40), "5120.0 GiB");
    }

    #[test]
    fn a_step_that_fails_is_in_the_table_and_ends_the_story() {
        let mut ledger = Ledger::start();
        ledger.step("look", || Ok("2 pools".into())).unwrap();
        ledger.step("leap", || anyhow::bail!("too wide")).unwrap_err();
        let table = ledger.table();
        assert!(table.contains("look      0.0 s  2 pools\n"), "{table}");
        assert!(table.contains("leap      0.0 s  FAILED: too wide\n"), "{table}");
    }
}
