//! What is a configuration and what is none: `tests/configs/corpus`, one snippet a line.
//!
//! A file has sections. A section begins with `= title`, then a template, indented by four blanks,
//! with `@@` where the snippets of the section go. A snippet follows a sign:
//!
//! - `+` it is accepted, and `-` it is refused, by zrepl 0.7 and here
//! - `+!` accepted and `-!` refused here only; after ` ## ` is why
//!
//! In a snippet `⏎` is the end of a line, `␍` a carriage return, `⇥` a tab, `␣` a blank, `∅` nothing,
//! `⟦bom⟧` a byte order mark, and `⟦x*9⟧` nine times x.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends when its ground is missing"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const CORPUS: &str = "../../tests/configs/corpus";
/// A corpus that is no longer found, or of which half is skipped, shows.
const AT_LEAST: usize = 1400;

/// One line of the corpus.
struct Case {
    /// File and title.
    section: String,
    place: String,
    text: String,
    accepted: bool,
}

#[derive(Default)]
struct Section {
    title: String,
    template: String,
}

fn expand(snippet: &str) -> String {
    let mut text = String::new();
    let mut rest = snippet;
    while let Some((before, after)) = rest.split_once('⟦') {
        let (inside, after) = after.split_once('⟧').expect("the end of a ⟦");
        text += before;
        match inside.rsplit_once('*') {
            Some((what, times)) => text += &what.repeat(times.parse().expect("how often")),
            None if inside == "bom" => text.push('\u{feff}'),
            None => panic!("⟦{inside}⟧ means nothing"),
        }
        rest = after;
    }
    text += rest;
    [("⏎", "\n"), ("␍", "\r"), ("⇥", "\t"), ("␣", " "), ("∅", "")]
        .into_iter()
        .fold(text, |text, (sign, meaning)| text.replace(sign, meaning))
}

fn case(section: &Section, place: String, line: &str) -> Case {
    let (sign, snippet) = line.split_once(' ').unwrap_or((line, ""));
    let snippet = match sign {
        "+" | "-" => snippet,
        "+!" | "-!" => {
            let (snippet, why) = snippet.rsplit_once(" ## ").unwrap_or_else(|| panic!("{place}: no ` ## `"));
            assert!(!why.trim().is_empty(), "{place}: why?");
            snippet.trim_end()
        }
        _ => panic!("{place}: what is `{line}`?"),
    };
    assert_eq!(section.template.matches("@@").count(), 1, "{place}: the template of {}", section.title);
    assert!(!snippet.is_empty(), "{place}: nothing is written ∅");
    let text = section.template.replace("@@", &expand(snippet));
    let file = place.split(':').next().unwrap_or_default();
    Case {
        section: format!("{file}: {}", section.title),
        place: format!("{place} ({}): {line}", section.title),
        text,
        accepted: sign.starts_with('+'),
    }
}

fn read(path: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut section = Section::default();
    for (index, line) in fs::read_to_string(path).expect("readable").lines().enumerate() {
        let name = path.file_name().expect("a name").display();
        if let Some(title) = line.strip_prefix("= ") {
            section = Section { title: title.to_owned(), template: String::new() };
        } else if let Some(line) = line.strip_prefix("    ") {
            section.template += line;
            section.template.push('\n');
        } else if !line.is_empty() && !line.starts_with('#') {
            cases.push(case(&section, format!("{name}:{}", index + 1), line));
        }
    }
    cases
}

#[test]
fn the_corpus_is_accepted_and_refused_as_it_says() {
    let entries = fs::read_dir(CORPUS).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let cases: Vec<Case> = entries.flat_map(|path| read(&path)).collect();
    assert!(cases.len() >= AT_LEAST, "only {} cases", cases.len());
    // Without one that is accepted, a broken template would refuse everything.
    let proven: BTreeSet<&str> = cases.iter().filter(|case| case.accepted).map(|case| case.section.as_str()).collect();
    for case in &cases {
        assert!(proven.contains(case.section.as_str()), "nothing is accepted in {}", case.section);
    }
    let wrong: Vec<String> = cases.iter().filter_map(mistake).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What is wrong with a case, if anything.
fn mistake(case: &Case) -> Option<String> {
    match (config::parse("case.yml", &case.text), case.accepted) {
        (Ok(_), true) | (Err(_), false) => None,
        (Ok(_), false) => Some(format!("accepted: {}", case.place)),
        (Err(errors), true) => {
            let said: Vec<_> = errors.errors.iter().map(|error| error.message().to_owned()).collect();
            Some(format!("refused: {}\n    {}", case.place, said.join("\n    ")))
        }
    }
}
