//! Rounds with hooks around some snapshots. Real time, since real programs are waited for.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use config::types::{Hook, HookKind, Snapshotting};
use daemon::limits;
use model::FilesystemFilter;
use model::event::SnapshotterState;
use model::filter::Pattern;
use model::naming::{SnapshotNaming, TimestampFormat};

use crate::snapshots::rounds;
use crate::world::{Lab, state_word};

/// A hook around snapshots of these filesystems; the script sees zrepl's variables.
fn hook(path: PathBuf, script: &str, filesystems: &str) -> Hook {
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Hook {
        kind: HookKind::Command { path },
        timeout: Duration::from_secs(30),
        filesystems: FilesystemFilter::new([(Pattern::parse(filesystems).unwrap(), true)]),
        err_is_fatal: false,
    }
}

fn hourly(hooks: Vec<Hook>) -> Snapshotting {
    let naming = SnapshotNaming::new("z_".to_owned(), TimestampFormat::dense());
    Snapshotting::Periodic { naming, interval: Duration::from_secs(3600), hooks }
}

#[tokio::test]
async fn those_with_hooks_come_last_under_the_same_name_and_unmatched_hooks_are_told() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let script = "echo $ZREPL_HOOKTYPE $ZREPL_FS@$ZREPL_SNAPNAME >> \"$0.log\"";
    let hooks =
        vec![hook(folder.path().join("one"), script, "src/a"), hook(folder.path().join("two"), script, "elsewhere")];
    let daemon = lab.start_push(hourly(hooks));
    rounds(&lab, 1).await;
    let words = lab.diary.words();
    let taken: Vec<&str> = words.iter().filter_map(|word| word.split_once(" taken ").map(|(_, rest)| rest)).collect();
    let (_, name) = taken[0].split_once('@').unwrap();
    assert_eq!(taken, ["src", "src/b", "src/a"].map(|filesystem| format!("{filesystem}@{name}")));
    let log = std::fs::read_to_string(folder.path().join("one.log")).unwrap();
    assert_eq!(log, format!("pre_snapshot src/a@{name}\npost_snapshot src/a@{name}\n"));
    assert_eq!(lab.diary.count("warning: hook did not match any snapshotted filesystems: 2 ("), 1, "{words:#?}");
    daemon.stop("test").await.unwrap();
}

#[tokio::test]
async fn a_failed_hook_makes_an_error_of_the_round_whose_snapshots_are_there() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let daemon = lab.start_push(hourly(vec![hook(folder.path().join("bad"), "exit 3", "src/a")]));
    lab.diary.wait_for(&state_word(SnapshotterState::ErrorWait), 1).await;
    assert_eq!(lab.diary.count("hooks failed around 1 of 3 snapshots, which were taken"), 1);
    assert_eq!((lab.diary.count(" taken src"), lab.diary.count("hooks of src/a failed")), (3, 1));
    let report: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
    let rows = &report["Jobs"]["push"]["push"]["Snapshotting"]["Periodic"]["Progress"];
    assert_eq!(
        (&rows[0]["State"], &rows[0]["Hooks"], &rows[0]["HooksHadError"]),
        (&4.into(), &"".into(), &false.into())
    );
    assert_eq!(
        (&rows[1]["Path"], &rows[1]["State"], &rows[1]["HooksHadError"]),
        (&"src/a".into(), &8.into(), &true.into())
    );
    assert!(rows[1]["Hooks"].as_str().unwrap().starts_with("01 [Err"), "{rows}");
    daemon.stop("test").await.unwrap();
}

#[tokio::test]
async fn a_stop_waits_for_what_undoes_a_hook_however_long_its_timeout() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let script = "test $ZREPL_HOOKTYPE = pre_snapshot && exit; echo thawing; exec sleep 600";
    let slow = Hook { timeout: limits::STOP * 3, ..hook(folder.path().join("thaw"), script, "src/a") };
    let daemon = lab.start_push(hourly(vec![slow]));
    lab.diary.wait_for("hook says thawing", 1).await;
    // From here on, nobody waits for real.
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    daemon.stop("test").await.unwrap();
    assert!(before.elapsed() >= limits::STOP * 2, "after {:?}", before.elapsed());
    assert_eq!(lab.diary.count("hook failed: "), 1, "{:#?}", lab.diary.words());
    assert_eq!(lab.diary.count("timed out after 90s and was killed"), 1);
}

#[tokio::test]
async fn a_failed_hook_that_is_fatal_prevents_its_snapshot_alone() {
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let bad = Hook { err_is_fatal: true, ..hook(folder.path().join("bad"), "exit 3", "src/a") };
    let daemon = lab.start_push(hourly(vec![bad]));
    lab.diary.wait_for(&state_word(SnapshotterState::ErrorWait), 1).await;
    assert_eq!(lab.diary.count("1 of 3 snapshots could not be taken"), 1, "{:#?}", lab.diary.words());
    daemon.stop("test").await.unwrap();
}
