//! What zrepl keeps on disk, from the command line: words in; lines, exit codes and calls of `zfs` out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::Guid;
use model::view::{TokenContents, TokenFlags};
use zfs::token::{ResumeToken, encode};

/// A pool to send from and one to receive into, and a log of what was changed.
const ZFS: &str = r##"#!/bin/sh
echo "$1" >> "$0.asked"
row() { printf '%s\t%s\t%s\t171568800%s\t%s\n' "$@"; }
case "$1" in
get) for f in p p/a q q/old; do
         printf '%s\ttype\tfilesystem\t-\n%s\tkeystatus\t-\t-\n' $f $f
         case $f in
             q) printf 'q\tzrepl:placeholder\ton\tlocal\n';;
             q/old) printf 'q/old\tzrepl:placeholder\tHASH\tlocal\n';;
         esac
     done;;
list) row p/a@1 1 10 1 1
      row p/a@2 2 20 2 2
      row p/a#zrepl_CURSOR_G_0000000000000001_J_push 1 10 1 -
      row p/a#zrepl_replication_cursor 1 10 1 -
      row p/a#zrepl_CURSOR_G_0000000000000002_J_push 2 20 2 -
      row p/a#zrepl_CURSOR_G_00000000000000ff_J_push 2 20 2 -
      row q@2 2 20 2 1;;
holds) test -e "$0.no-holds" && { echo "cannot: I/O error" >&2; exit 1; }
       printf 'p/a@1\tzrepl_STEP_J_push\tnow\np/a@2\tzrepl_STEP_J_push\tnow\n'
       printf 'p/a@2\tof others\tnow\nq@2\tzrepl_last_received_J_sink\tnow\n';;
*) echo "$*" >> "$0.done"
   test -e "$0.broken" && { echo "cannot do it: permission denied" >&2; exit 1; }
   exit 0;;
esac
"##;

/// What zrepl 0.0 wrote on `q/old`.
const HASH: &str = "d64fa515e145c6fb755ff1fbc878fe81a0d47a85395a397fa23767f7d8d4dd6b";

const OLD_CURSOR: &str = "replication-cursor-bookmark-v2 p/a#zrepl_CURSOR_G_0000000000000001_J_push";
const CURSOR: &str = "replication-cursor-bookmark-v2 p/a#zrepl_CURSOR_G_0000000000000002_J_push";
const V1: &str = "replication-cursor-bookmark-v1 p/a#zrepl_replication_cursor";
const STEP_1: &str = "step-hold \"zrepl_STEP_J_push\" on p/a@1";
const STEP_2: &str = "step-hold \"zrepl_STEP_J_push\" on p/a@2";
const LAST: &str = "last-received-hold \"zrepl_last_received_J_sink\" on q@2";

struct Place(tempfile::TempDir);

type Transcript = (Option<i32>, String, String);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("zfs"), ZFS.replace("HASH", HASH)).unwrap();
        fs::set_permissions(place.path("zfs"), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Without a configuration, unless one is named, and without a terminal.
    fn run(&self, words: &[&str]) -> Transcript {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_zrepl"));
        command.args(words).env_clear().env("PATH", path).env("TZ", "UTC").stdin(Stdio::null());
        let output = command.current_dir(self.0.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}: {out}");
        out
    }

    fn lines(&self, words: &[&str]) -> Vec<String> {
        self.ok(words).lines().map(str::to_owned).collect()
    }

    /// What was changed since the last look.
    fn done(&self) -> Vec<String> {
        let done = read(&self.path("zfs.done"));
        let _ = fs::remove_file(self.path("zfs.done"));
        done.lines().map(str::to_owned).collect()
    }

    fn touch(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_list_needs_no_configuration_and_three_processes() {
    let place = Place::new();
    assert_eq!(place.lines(&["zfs-abstraction", "list"]), [OLD_CURSOR, V1, STEP_1, CURSOR, STEP_2, LAST]);
    assert_eq!(read(&place.path("zfs.asked")).lines().count(), 3);
    let list = |words: &[&str]| place.lines(&[&["zfs-abstraction", "list"], words].concat());
    assert_eq!(list(&["--fs", "q"]), [LAST]);
    assert_eq!(list(&["--fs", "p<:ok,q:!", "--type", "step-hold"]), [STEP_1, STEP_2]);
    assert_eq!(list(&["--job", "sink", "-p", "8"]), [V1, LAST]);
    assert_eq!(list(&["--createtxg", "(10,20]", "--fs", "p/a"]), [CURSOR, STEP_2]);
    assert_eq!(list(&["--type", "tentative-replication-cursor-bookmark-v2"]), [""; 0]);
}

#[test]
fn a_list_as_json_is_one_object_after_the_other() {
    let place = Place::new();
    let out = place.ok(&["zfs-abstraction", "list", "--json", "--type", "step-hold,replication-cursor-bookmark-v1"]);
    let objects: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&out).into_iter().collect::<Result<_, _>>().unwrap();
    assert!(out.contains("}\n\n{\n  \"CreateTXG\": 10,") || out.contains("}\n\n{\n  \"Type\""), "{out}");
    let expected = serde_json::json!([
        {
            "Version": 1, "Type": "replication-cursor-bookmark-v1", "FS": "p/a", "Name": "zrepl_replication_cursor",
            "FullPath": "p/a#zrepl_replication_cursor", "JobID": null, "CreateTXG": 10,
            "FilesystemVersion": {
                "Type": "bookmark", "Name": "zrepl_replication_cursor", "Guid": 1, "CreateTXG": 10,
                "Creation": "2024-05-14T12:00:01+00:00", "UserRefs": {"Value": 0, "Valid": false},
            },
            "String": V1,
        },
        {
            "Version": 1, "Type": "step-hold", "FS": "p/a", "Name": "1", "FullPath": "p/a@1", "JobID": "push", "CreateTXG": 10,
            "FilesystemVersion": {
                "Type": "snapshot", "Name": "1", "Guid": 1, "CreateTXG": 10,
                "Creation": "2024-05-14T12:00:01+00:00", "UserRefs": {"Value": 1, "Valid": true},
            },
            "String": STEP_1,
        },
    ]);
    assert_eq!(serde_json::Value::Array(objects[..2].to_vec()), expected);
    assert_eq!(objects.len(), 3);
}

#[test]
fn what_cannot_be_looked_at_is_an_error_and_the_rest_is_listed() {
    let place = Place::new();
    place.touch("zfs.no-holds");
    let (code, out, err) = place.run(&["zfs-abstraction", "list"]);
    assert_eq!((code, out.lines().collect::<Vec<_>>()), (Some(1), vec![OLD_CURSOR, V1, CURSOR]));
    assert!(err.starts_with("list endpoint abstractions on \"p/a\": list holds: "), "{err}");
    assert!(err.contains("on \"q\": list holds: ") && err.contains("I/O error"), "{err}");
    assert!(err.ends_with("\nthere were errors in listing the abstractions\n"), "{err}");
    let (code, _, err) = place.run(&["zfs-abstraction", "release-stale", "--yes"]);
    assert!(code == Some(1) && err.contains("nothing was released"), "{err}");
    assert_eq!(place.done(), [""; 0]);
    let (code, out, _) = place.run(&["zfs-abstraction", "list", "--fs", "none"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
}

#[test]
fn stale_ones_are_released_after_a_yes() {
    let place = Place::new();
    let stale = [OLD_CURSOR, STEP_1, STEP_2];
    let would = stale.map(|one| format!("would destroy {one}"));
    assert_eq!(place.lines(&["zfs-abstraction", "release-stale", "--dry-run"]), would);
    let (code, out, err) = place.run(&["zfs-abstraction", "release-stale"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(
        err,
        "nothing was done: there is no terminal to ask for confirmation on (pass `--yes`, or `--dry-run` to look)\n"
    );
    assert_eq!(place.done(), [""; 0]);
    let done = stale.map(|one| format!("destroy {one} ... OK"));
    assert_eq!(place.lines(&["zfs-abstraction", "release-stale", "--yes"]), done);
    let cursor = "destroy p/a#zrepl_CURSOR_G_0000000000000001_J_push";
    assert_eq!(place.done(), ["release zrepl_STEP_J_push p/a@1 p/a@2", cursor], "holds of one job in one process");
    let alone = place.run(&["zfs-abstraction", "release-stale", "--type", "step-hold", "--dry-run"]);
    assert!(alone.0 == Some(1) && alone.2.contains("only if `--type` has both"), "{alone:?}");
}

#[test]
fn all_that_match_are_released_and_failures_are_told_one_by_one() {
    let place = Place::new();
    assert_eq!(place.run(&["zfs-abstraction", "release-all"]).0, Some(2));
    let dry = place.ok(&["zfs-abstraction", "release-all", "--dry-run", "--json", "--fs", "p"]);
    assert_eq!(dry, "[]\n");
    let dry = place.ok(&["zfs-abstraction", "release-all", "--dry-run", "--json"]);
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&dry).unwrap().len(), 6);
    assert_eq!(place.done(), [""; 0]);
    let out = place.ok(&["zfs-abstraction", "release-all", "--yes", "--json", "--fs", "q"]);
    let done: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&done["DestroyErr"], &done["Abstraction"]["String"]), (&"".into(), &LAST.into()));
    assert_eq!(place.done(), ["release zrepl_last_received_J_sink q@2"]);

    place.touch("zfs.broken");
    let words = ["zfs-abstraction", "release-all", "--yes", "--fs", "p/a", "--type", "replication-cursor-bookmark-v1"];
    let (code, out, err) = place.run(&words);
    assert_eq!((code, err.as_str()), (Some(1), "there were errors in destroying the abstractions\n"));
    assert!(out.starts_with(&format!("destroy {V1} ... failed:\ncannot destroy bookmark ")), "{out}");
}

#[test]
fn a_step_hold_is_made_on_a_snapshot_only() {
    let place = Place::new();
    let create = |target: &str| place.run(&["zfs-abstraction", "create", "step", "-t", target, "-j", "push"]);
    assert_eq!(create("p/a@1"), (Some(0), format!("{STEP_1}\n"), String::new()));
    assert_eq!(place.done(), ["hold zrepl_STEP_J_push p/a@1"]);
    let (code, _, err) = create("p/a#1");
    assert!(code == Some(1) && err.contains("it is a bookmark, and only snapshots can be held"), "{err}");
    let (code, _, err) = create("p/a");
    assert!(code == Some(1) && err.contains("it is no snapshot"), "{err}");
    let (code, _, err) = place.run(&["zfs-abstraction", "create", "step", "-t", "p/a@1"]);
    assert!(code == Some(1) && err.contains("--jobid"), "{err}");
}

#[test]
fn placeholders_are_told_with_what_is_set_on_them() {
    let place = Place::new();
    let all =
        format!("IS_PLACEHOLDER\tDATASET\tzrepl:placeholder\nno\tp\t\nno\tp/a\t\nyes\tq\ton\nyes\tq/old\t{HASH}\n");
    assert_eq!(place.ok(&["test", "placeholder", "--all"]), all);
    let json = place.ok(&["test", "placeholder", "--all", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["version"], &json["datasets"][2]["is_placeholder"]), (&1.into(), &true.into()));
    let (code, out, err) = place.run(&["test", "placeholder", "--dataset", "none"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(1), "", "filesystem \"none\" does not exist\n"));
    assert_eq!(place.run(&["test", "placeholder"]).0, Some(1));
}

#[test]
fn a_token_is_read_without_asking_a_pool() {
    let place = Place::new();
    let flags = TokenFlags { compressed: true, ..TokenFlags::default() };
    let contents =
        TokenContents { from: None, to: Guid(0xface), to_name: "p/a@2".to_owned(), bytes_received: 7, flags };
    let token = encode(&ResumeToken { contents, object: 1, offset: 2 });
    let text = place.ok(&["test", "decoderesumetoken", &token]);
    assert_eq!(place.ok(&["test", "decoderesumetoken", "--token", &token]), text);
    let head = "{\n \"HasFromGUID\": false,\n \"HasToGUID\": true,\n \"FromGUID\": 0,\n \"ToGUID\": 64206,\n \
                \"ToName\": \"p/a@2\",\n \"HasCompressOK\": true,\n \"CompressOK\": true,\n \"HasRawOk\": false,\n";
    assert!(text.starts_with(head) && text.ends_with(" \"SavedOk\": false\n}\n"), "{text}");
    let json = place.ok(&["test", "decoderesumetoken", &token, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["version"], &json["bytes_received"], &json["from_guid"]), (&1.into(), &7.into(), &().into()));
    let damaged = place.run(&["test", "decoderesumetoken", &token.replacen("1-", "1-1", 1)]);
    assert!(damaged.0 == Some(1) && damaged.2.starts_with("cannot decode the resume token: "), "{damaged:?}");
    assert!(!place.path("zfs.asked").exists());
}

const JOBS: &str = "
jobs:
  - name: push
    type: push
    connect: {type: local, listener_name: l, client_identity: me}
    filesystems: {'p<': true}
    snapshotting: {type: manual}
    pruning: {keep_sender: [{type: last_n, count: 2}], keep_receiver: [{type: last_n, count: 3}]}
  - name: sink
    type: sink
    root_fs: q
    serve: {type: local, listener_name: l}
";

#[test]
fn an_old_cursor_is_destroyed_where_its_job_has_a_newer_one() {
    let place = Place::new();
    fs::write(place.path("zrepl.yml"), JOBS).unwrap();
    let migrate = |words: &[&str]| {
        place.run(&[&["--config", "zrepl.yml", "migrate", "replication-cursor:v1-v2"], words].concat())
    };
    assert_eq!(migrate(&[]).0, Some(2));
    let said = |word: &str| {
        format!(
            "p/a#zrepl_replication_cursor: {word}: job \"push\" has p/a#zrepl_CURSOR_G_0000000000000002_J_push\n\
             filesystems without an old cursor: 3\n"
        )
    };
    assert_eq!(migrate(&["--dry-run"]), (Some(0), said("would be destroyed"), String::new()));
    assert_eq!(place.done(), [""; 0]);
    assert_eq!(migrate(&["--yes"]), (Some(0), said("destroyed"), String::new()));
    assert_eq!(place.done(), ["destroy p/a#zrepl_replication_cursor"]);

    fs::write(place.path("zrepl.yml"), JOBS.replace("name: push", "name: renamed")).unwrap();
    let (code, out, err) = migrate(&["--yes"]);
    assert!(code == Some(1) && out.contains("failed: job \"renamed\" has no cursor yet"), "{out}");
    assert!(err.starts_with("1 of the filesystems could not be migrated"), "{err}");
    assert_eq!(place.done(), [""; 0]);
}

#[test]
fn hashed_marks_of_placeholders_are_replaced() {
    let place = Place::new();
    fs::write(place.path("zrepl.yml"), JOBS).unwrap();
    let migrate =
        |words: &[&str]| place.run(&[&["--config", "zrepl.yml", "migrate", "0.0.X:0.1:placeholder"], words].concat());
    assert_eq!(migrate(&[]).0, Some(2));
    let (code, out, err) = migrate(&["--dry-run"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = format!(
        "ignoring job \"push\": it does not receive\njob \"sink\" => migrate filesystems below root_fs \"q\"\n\
         \t\"q\" ... unchanged (placeholder=true)\n\
         \t\"q/old\" ... migrate (placeholder=true) (old value = \"{HASH}\")\n"
    );
    assert_eq!(out, expected);
    assert_eq!(place.done(), [""; 0]);
    let (code, out, _) = migrate(&["--yes", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["version"], &json["filesystems"][1]["outcome"]), (Some(0), &1.into(), &"migrate".into()));
    assert_eq!(place.done(), ["set zrepl:placeholder=on q/old"]);
    place.touch("zfs.broken");
    assert_eq!(migrate(&["--yes"]).0, Some(1), "a failure is one");
}

#[test]
fn help_has_examples() {
    let place = Place::new();
    for words in [
        &["zfs-abstraction", "list"][..],
        &["zfs-abstraction", "release-all"],
        &["zfs-abstraction", "release-stale"],
        &["zfs-abstraction", "create", "step"],
        &["test", "placeholder"],
        &["test", "decoderesumetoken"],
        &["migrate", "replication-cursor:v1-v2"],
        &["migrate", "0.0.X:0.1:placeholder"],
    ] {
        let help = place.ok(&[words, &["--help"]].concat());
        assert!(help.contains("Example") && help.contains(&words.join(" ")), "{words:?}: {help}");
    }
}
