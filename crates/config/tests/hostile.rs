//! No bytes whatsoever make the reader panic, loop, or point outside the file.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends when its ground is missing")]

mod probe;

use std::fs;
use std::path::{Path, PathBuf};

use probe::probe;
use proptest::prelude::*;

fn samples() -> Vec<String> {
    let folders = ["../../tests/configs/valid", "../../tests/configs/invalid"];
    let entries = folders.into_iter().flat_map(|folder| fs::read_dir(folder).expect("the folder"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yml"));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).expect("a sample")).collect()
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(usize, u8),
    Remove(usize, usize),
    Insert(usize, &'static str),
    Copy(usize, usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let pieces = [
        "\t",
        "\n",
        "- ",
        ": ",
        "&a ",
        "*a",
        "<<: *a\n",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">\n",
        "---\n",
        "...\n",
        "# ",
        "!!str ",
        "!!binary ",
        "%YAML 1.1\n",
        "? ",
        "\u{feff}",
        "\u{0}",
        "\u{1F980}",
        "~",
        "\r",
        "\u{2028}",
        "type: ",
        ",",
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<usize>(), prop::sample::select(pieces.to_vec())).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<usize>(), 1..200_usize, any::<usize>()).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let place = |at: usize| at % (bytes.len() + 1);
    match *edit {
        Edit::Replace(at, byte) => {
            let at = place(at);
            bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
        }
        Edit::Remove(at, length) => {
            let at = place(at);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Edit::Insert(at, piece) => {
            let at = place(at);
            bytes.splice(at..at, piece.bytes());
        }
        Edit::Copy(from, length, to) => {
            let (from, to) = (place(from), place(to));
            let copied = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes.splice(to..to, copied);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_an_error_or_a_configuration(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        probe(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_yaml_is_an_error_or_a_configuration(text in "([a-c:{}\\[\\]&*!|>\"'#%@~<, \n\t-]|type|jobs: |- |\n  |é){0,40}") {
        probe(&text);
    }

    #[test]
    fn damaged_files_are_an_error_or_a_configuration(
        sample in prop::sample::select(samples()),
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        let mut bytes = sample.into_bytes();
        edits.iter().for_each(|edit| apply(&mut bytes, edit));
        probe(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn thousands_of_mistakes_are_cut_off() {
    let text = format!("jobs:\n{}", "- {type: nonsense}\n".repeat(20_000));
    let errors = config::parse("x.yml", &text).expect_err("nonsense");
    assert_eq!(errors.errors.len(), 101);
    assert_eq!(errors.errors[100].to_string(), "error: and 19900 more errors");
}

#[test]
fn nesting_and_aliases_are_bounded() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        (0..20_000).map(|depth| format!("{}a:\n", " ".repeat(depth % 2000))).collect(),
        format!("[{}]", "a,".repeat(510_000)),
        format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(5_000), "*a,".repeat(5_000)),
    ] {
        let errors = config::parse("x.yml", &text).expect_err("too much");
        assert!(errors.to_string().len() < 100_000);
    }
}

#[test]
fn a_large_ordinary_file_is_read() {
    let job = |number: usize| {
        format!(
            "- {{type: snap, name: job{number}, filesystems: {{\"tank/{number}<\": true}}, \
             snapshotting: {{type: manual}}, pruning: {{keep: [{{type: last_n, count: 1}}]}}}}\n"
        )
    };
    let text = format!("jobs:\n{}", (0..2_000).map(job).collect::<String>());
    let loaded = config::parse("x.yml", &text).expect("valid");
    assert_eq!(loaded.config.jobs.len(), 2_000);
}

/// The files of a folder and of those below it.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// What fuzzing ever found, and what it starts from.
#[test]
fn found_inputs_are_an_error_or_a_configuration() {
    let mut files = files_below(Path::new("../../tests/configs"));
    let found = Path::new("../../fuzz/found/config");
    if found.exists() {
        files.extend(files_below(found));
    }
    assert!(files.len() >= samples().len());
    for file in files {
        probe(&String::from_utf8_lossy(&fs::read(&file).expect("readable")));
    }
}
