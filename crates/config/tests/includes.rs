//! What `include` accepts: a folder of files for every case.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends when its ground is missing")]

use std::fs;
use std::path::Path;

use Outcome::{Jobs, Refused};

/// A sink job of that name, as a list entry in flow style.
macro_rules! sink {
    ($name:literal) => {
        concat!("{type: sink, name: ", $name, ", root_fs: p, serve: {type: local, listener_name: ", $name, "}}")
    };
}

/// A whole file with one job.
macro_rules! file {
    ($name:literal) => {
        concat!("jobs: [", sink!($name), "]\n")
    };
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// Accepted, with these jobs in this order.
    Jobs(&'static [&'static str]),
    Refused,
}

struct Case {
    /// `main.yml`
    main: &'static str,
    /// Other files by path; a path that ends with `/` is a folder.
    files: &'static [(&'static str, &'static str)],
    outcome: Outcome,
}

const CASES: &[Case] = &[
    Case { main: "include: [x.yml]", files: &[("x.yml", file!("x"))], outcome: Jobs(&["x"]) },
    Case { main: "include: [./x.yml]", files: &[("x.yml", file!("x"))], outcome: Jobs(&["x"]) },
    Case { main: "include: [d/x.yml]", files: &[("d/x.yml", file!("x"))], outcome: Jobs(&["x"]) },
    Case { main: "include: [d/../x.yml]", files: &[("x.yml", file!("x")), ("d/", "")], outcome: Jobs(&["x"]) },
    // Jobs of the main file first, then in the order of the entries.
    Case {
        main: concat!("include: [b.yml, a.yml]\njobs: [", sink!("main"), "]"),
        files: &[("a.yml", file!("a")), ("b.yml", file!("b"))],
        outcome: Jobs(&["main", "b", "a"]),
    },
    // A folder: by name, hidden files too, neither other endings nor folders below.
    Case {
        main: "include: [d]",
        files: &[
            ("d/b.yml", file!("b")),
            ("d/a.yml", file!("a")),
            ("d/.h.yml", file!("h")),
            ("d/c.yaml", "nonsense"),
            ("d/c.txt", "nonsense"),
            ("d/sub/e.yml", "nonsense"),
        ],
        outcome: Jobs(&["h", "a", "b"]),
    },
    Case { main: "include: [d/]", files: &[("d/a.yml", file!("a"))], outcome: Jobs(&["a"]) },
    Case { main: "include: [d]", files: &[("d/", "")], outcome: Jobs(&[]) },
    Case { main: "include: [d]", files: &[("d/a.yml/", "")], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", "")], outcome: Jobs(&[]) },
    Case { main: "include: [x.yml]", files: &[("x.yml", "# nothing\n")], outcome: Jobs(&[]) },
    Case { main: "include: [x.yml, x.yml]", files: &[("x.yml", "")], outcome: Jobs(&[]) },
    Case { main: "include: [x.yml, x.yml]", files: &[("x.yml", file!("x"))], outcome: Refused },
    Case { main: "include: [d, d/x.yml]", files: &[("d/x.yml", file!("x"))], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[], outcome: Refused },
    Case { main: "include: [d]", files: &[], outcome: Refused },
    Case { main: "include: [x.yaml]", files: &[("x.yaml", file!("x"))], outcome: Refused },
    Case { main: "include: [x.YML]", files: &[("x.YML", file!("x"))], outcome: Refused },
    Case { main: "include: [x]", files: &[("x", file!("x"))], outcome: Refused },
    Case { main: "include: ['*.yml']", files: &[("x.yml", file!("x"))], outcome: Refused },
    Case { main: "include: [/dev/null]", files: &[], outcome: Refused },
    // Nothing stands for the folder of the main file, which then includes itself.
    Case { main: "include: [~]", files: &[], outcome: Refused },
    Case { main: "include: ['']", files: &[], outcome: Refused },
    Case { main: "include: [[x.yml]]", files: &[("x.yml", "")], outcome: Refused },
    Case { main: "include: x.yml", files: &[("x.yml", "")], outcome: Refused },
    Case { main: "include: [main.yml]", files: &[], outcome: Refused },
    // What an included file may say.
    Case { main: "include: [x.yml]", files: &[("x.yml", "include: [y.yml]"), ("y.yml", file!("y"))], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", "include: []")], outcome: Jobs(&[]) },
    Case { main: "include: [x.yml]", files: &[("x.yml", "global: {}")], outcome: Jobs(&[]) },
    Case { main: "include: [x.yml]", files: &[("x.yml", "global: {control: {sockpath: /run/x}}")], outcome: Jobs(&[]) },
    Case { main: "include: [x.yml]", files: &[("x.yml", "global: {nonsense: 1}")], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", "nonsense: 1")], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", "jobs: [")], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", "[]")], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", "jobs: [{type: nonsense}]")], outcome: Refused },
    Case { main: "include: [x.yml]", files: &[("x.yml", file!("_x"))], outcome: Refused },
    Case {
        main: concat!("include: [x.yml]\njobs: [", sink!("x"), "]"),
        files: &[("x.yml", file!("x"))],
        outcome: Refused,
    },
    Case {
        main: "include: [x.yml, y.yml]",
        files: &[("x.yml", file!("same")), ("y.yml", file!("same"))],
        outcome: Refused,
    },
];

fn write(folder: &Path, path: &str, text: &str) {
    let file = folder.join(path);
    if path.ends_with('/') {
        fs::create_dir_all(&file).expect("create");
    } else {
        fs::create_dir_all(file.parent().expect("a folder")).expect("create");
        fs::write(&file, text).expect("write");
    }
}

#[test]
fn included_files_are_taken_or_refused() {
    for Case { main, files, outcome } in CASES {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(path, text)| write(folder.path(), path, text));
        write(folder.path(), "main.yml", main);
        match (config::load(Some(&folder.path().join("main.yml"))), outcome) {
            (Ok(loaded), Jobs(names)) => {
                let jobs: Vec<_> = loaded.config.jobs.iter().map(|job| job.name().as_str()).collect();
                assert_eq!(jobs, *names, "{main} {files:?}");
            }
            (Ok(_), Refused) => panic!("accepted: {main} {files:?}"),
            (Err(_), Refused) => {}
            (Err(errors), Jobs(_)) => panic!("refused: {main} {files:?}\n{errors}"),
        }
    }
}

/// Nobody waits for a pipe that no one writes to.
#[test]
fn a_pipe_is_no_file_to_include() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("p.yml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    write(folder.path(), "main.yml", "include: [p.yml]");
    let errors = config::load(Some(&folder.path().join("main.yml"))).expect_err("refused");
    assert!(errors.to_string().contains("not a file or directory"), "{errors}");
}
