//! What is in the log and in the status when something is wrong: `docs/faults.md`, made by real daemons that
//! meet real faults. `UPDATE_EXPECT=1` writes the page anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod causes;
mod machine;
#[path = "../place/mod.rs"]
mod place;

use std::fmt::Write as _;
use std::{fs, thread};

use machine::Said;

/// Something that goes wrong.
struct Fault {
    /// As somebody would look it up.
    title: &'static str,
    /// What was done to the machine.
    cause: &'static str,
    /// Does it.
    run: fn() -> Said,
}

const HEAD: &str = "\
# Faults, and what is said about them

Each section is a fault that was caused, and what a person can read then: the log as standard output has it at level
`info` without times, and `zrepl status`. A test causes all of them and compares, so that this is what happens.
Lines that every run has are left out, and the lines of each job are together. What is between the third brackets says
where in a job's work a line belongs, see [logging](logging.md#spans).
";

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");

#[test]
fn each_fault_is_named_with_its_cause_and_what_to_do() {
    let runs: Vec<_> = causes::all().into_iter().map(|fault| (thread::spawn(fault.run), fault)).collect();
    let sections: Vec<_> = runs
        .into_iter()
        .map(|(run, fault)| section(&fault, run.join().unwrap_or_else(|_| panic!("{}", fault.title))))
        .collect();
    let page = sections.iter().fold(HEAD.to_owned(), |page, section| page + section);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(PAGE, page).unwrap();
        return;
    }
    let expected = fs::read_to_string(PAGE).unwrap();
    let differ: String = sections.iter().filter(|section| !expected.contains(*section)).cloned().collect();
    assert!(differ.is_empty(), "docs/faults.md has other words for this:\n{differ}");
    assert_eq!(page, expected, "docs/faults.md has the same sections in the same order");
}

fn section(Fault { title, cause, .. }: &Fault, Said { typed, log, status }: Said) -> String {
    let mut section = format!("\n## {title}\n\n{cause}\n");
    for (what, text) in [("", typed), ("The log:", log), ("`zrepl status`:", status)] {
        if text.is_empty() {
            continue;
        }
        if !what.is_empty() {
            let _ = write!(section, "\n{what}\n");
        }
        let _ = write!(section, "\n```text\n{text}```\n");
    }
    section
}
