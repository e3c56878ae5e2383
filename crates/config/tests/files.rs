//! The files of `tests/configs` are the tests: what each says, or why it cannot be used, is in the
//! `.txt` beside it. `UPDATE_EXPECT=1` writes those anew.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends when its ground is missing")]

use std::fs;
use std::path::{Path, PathBuf};

const FOLDER: &str = "../../tests/configs";

fn files(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(FOLDER).join(kind)).expect("the folder of configurations");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yml"));
    files.sort();
    assert!(files.len() > 5, "the folder {kind} has {} files", files.len());
    files
}

/// Compares with the `.txt`, and gives back what to complain about.
fn compare(path: &Path, text: &str) -> Option<String> {
    let text = text.replace(&format!("{FOLDER}/"), "") + "\n";
    let expected = path.with_extension("txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&expected, &text).expect("write");
        return None;
    }
    let known = fs::read_to_string(&expected).unwrap_or_default();
    (known != text).then(|| format!("--- {}\n{known}--- is now\n{text}", expected.display()))
}

#[test]
fn every_valid_file_means_what_it_is_known_to_mean() {
    let complaints: Vec<String> = files("valid")
        .iter()
        .filter_map(|path| match config::load(Some(path)) {
            Ok(loaded) => {
                let said = loaded.warnings.iter().map(|warning| format!("{warning}\n\n")).collect::<String>();
                compare(path, &format!("{said}{:#?}", loaded.config))
            }
            Err(errors) => Some(format!("{} is refused:\n{errors}\n", path.display())),
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_invalid_file_is_refused_with_the_known_words() {
    let complaints: Vec<String> = files("invalid")
        .iter()
        .filter_map(|path| match config::load(Some(path)) {
            Ok(_) => Some(format!("{} is accepted\n", path.display())),
            Err(errors) => compare(path, &errors.to_string()),
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_expectation_has_its_file() {
    for kind in ["valid", "invalid"] {
        for entry in fs::read_dir(Path::new(FOLDER).join(kind)).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "txt") {
                assert!(path.with_extension("yml").exists(), "{} belongs to no file", path.display());
            }
        }
    }
}
