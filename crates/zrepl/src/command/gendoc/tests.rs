use std::fs;
use std::path::Path;

use super::*;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn the_committed_reference_is_what_is_generated() {
    let path = Path::new(ROOT).join("docs/reference/commands.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, markdown::page()).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(known == markdown::page(), "{} is out of date; UPDATE_EXPECT=1 writes it anew", path.display());
}

/// Groups of commands that only hold others.
fn is_group(command: &clap::Command) -> bool {
    command.get_subcommands().any(|one| !one.is_hide_set())
}

#[test]
fn every_command_has_an_example_that_can_be_parsed() {
    for (words, command) in commands() {
        if is_group(&command) && words.len() > 1 {
            continue;
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{words:?} has no example"));
        let own: Vec<&str> =
            examples.lines().filter(|line| line.contains("zrepl ") && !line.contains("`zrepl")).collect();
        assert!(own.iter().any(|line| line.contains(words.last().unwrap())), "{words:?}: {examples}");
        own.into_iter().for_each(parses);
    }
}

/// The words of an example up to what a shell or a comment makes of the rest.
fn parses(line: &str) {
    let (_, after) = line.split_once("zrepl ").unwrap();
    let after = after.split("  ").next().unwrap();
    let mut words = vec!["zrepl".to_owned()];
    for word in after.split_whitespace() {
        if ["|", "&&", ">"].contains(&word) || word.starts_with('$') {
            break;
        }
        let ends = word.ends_with([')', '"']) || word.contains("\",");
        let word = word.trim_end_matches(')');
        words.push(word.split("\",").next().unwrap().trim_matches('\'').to_owned());
        if ends {
            break;
        }
    }
    // What stands for a token is left out above.
    if words.last().is_some_and(|word| word == "decoderesumetoken") {
        words.push("token".to_owned());
    }
    let parsed = CommandLine::command().try_get_matches_from(&words);
    assert!(parsed.is_ok(), "{line}: {words:?}: {}", parsed.unwrap_err());
}

/// Commands without JSON, and why.
const WITHOUT_JSON: &[(&str, &str)] = &[
    ("zrepl daemon", "its output is the log, which has a JSON format of its own"),
    ("zrepl stdinserver", "speaks to the other side, not to a person"),
    ("zrepl pprof listen on", "silent or fails"),
    ("zrepl pprof listen off", "silent or fails"),
    ("zrepl pprof activity-trace", "its output is JSON, in the format of others"),
    ("zrepl completion", "its output is a script"),
    ("zrepl gencompletion bash", "writes a script"),
    ("zrepl gencompletion zsh", "writes a script"),
    ("zrepl gencompletion fish", "writes a script"),
];

#[test]
fn every_command_that_a_script_reads_has_json() {
    for (words, command) in commands() {
        if is_group(&command) {
            continue;
        }
        let name = words.join(" ");
        let exempt = WITHOUT_JSON.iter().any(|(without, _)| *without == name);
        let has = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        assert!(has != exempt, "{name}: has --json: {has}, need not have it: {exempt}");
    }
}

#[test]
fn every_page_has_its_sections_and_nothing_that_troff_would_take_for_a_request() {
    let pages = man::pages().unwrap();
    let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    for wanted in ["zrepl.8", "zrepl-status.8", "zrepl-test-filesystems.8", "zrepl-pprof-listen-on.8"] {
        assert!(names.contains(&wanted), "{names:?}");
    }
    for (name, page) in &pages {
        let page = String::from_utf8(page.clone()).unwrap();
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH SEE ALSO"] {
            assert!(page.contains(section), "{name} lacks {section}");
        }
        let requests = page.lines().filter(|line| line.starts_with(['.', '\'']));
        for request in requests {
            let word = request.split(' ').next().unwrap();
            assert!(
                [".TH", ".SH", ".TP", ".RS", ".RE", ".nf", ".fi", ".ie", ".el", ".PP", ".IP", ".br"].contains(&word),
                "{name}: {request}"
            );
        }
    }
    let (_, status) = pages.iter().find(|(name, _)| name == "zrepl-status.8").unwrap();
    assert!(String::from_utf8_lossy(status).contains(".SH EXAMPLES"));
}

/// Every `fn` of the sources below a folder.
fn functions(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            found.extend(names.filter_map(|name| name.strip_suffix("() {")).map(str::to_owned));
        }
    }
}

#[test]
fn every_command_and_every_row_of_the_table_has_its_tests() {
    let mut known = Vec::new();
    functions(&Path::new(ROOT).join("crates"), &mut known);
    let table = include_str!("../../../tests/command_line.md");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Row"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for row in &rows {
        let [what, _, tests] = row.as_slice() else { panic!("{row:?} is no row") };
        for test in tests.split(", ").filter(|test| !test.is_empty()) {
            let test = test.trim_matches('`');
            assert!(known.iter().any(|one| one == test), "{what}: there is no test {test}");
        }
    }
    for (words, _) in commands() {
        let name = format!("`{}", words.join(" "));
        let named = |row: &&Vec<&str>| row[0].strip_prefix(&name).is_some_and(|rest| rest.starts_with(['`', ' ']));
        assert!(rows.iter().any(|row| named(&row)), "{name}` is not in the table");
    }
}
