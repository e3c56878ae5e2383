//! That what `CASES.md` names is there.

use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../CASES.md");

/// Cases of zrepl's platform tests (one of them with eight subtests instead of itself), the scenarios,
/// and what is asked of the protocol.
const ROWS: usize = 46 + 8 + 59 + 16;

/// The text of a file below the workspace.
fn text(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Cases that exist only in the test machine are not in [`crate::cases`] here.
fn is_case(name: &str) -> bool {
    let known = crate::cases().iter().any(|case| case.name == name);
    let only_in_the_machine = || {
        let files = ["language", "service"].map(|file| text(&format!("tests/zfs/src/{file}.rs")));
        files.iter().any(|file| file.contains(&format!("\"{name}\"")))
    };
    // One for each seed.
    let seeds = || crate::cases().iter().any(|case| case.name.starts_with(name) && name.ends_with('_'));
    known || only_in_the_machine() || seeds()
}

fn exists(name: &str) -> bool {
    match name.split_once(".rs::") {
        Some((file, test)) => text(&format!("{file}.rs")).contains(&format!("fn {test}(")),
        None => is_case(name),
    }
}

#[test]
fn every_case_that_the_page_names_exists() {
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| ") && line.contains("::")).collect();
    assert!(rows.len() >= ROWS, "{} rows", rows.len());
    for row in rows {
        let cases = row.rsplit(" | ").next().unwrap();
        let missing: Vec<&str> = cases.split('`').skip(1).step_by(2).filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{missing:?} of {row}");
    }
}

#[test]
fn every_scenario_has_a_row_with_a_case() {
    for (letter, last) in [('Z', 16), ('E', 19), ('R', 24)] {
        for number in 1..=last {
            let start = format!("| {letter}{number} | ");
            assert!(PAGE.lines().any(|line| line.starts_with(&start) && line.contains("::")), "{start}");
        }
    }
    let numbered = (1..=47).map(|number| number.to_string()).chain((1..=14).map(|number| format!("P{number}")));
    for number in numbered {
        let start = format!("| {number} ");
        assert!(PAGE.lines().any(|line| line.starts_with(&start) && line.contains("::")), "{start}");
    }
}
