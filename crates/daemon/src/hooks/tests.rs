//! Real programs around a snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant as Watch;

use expect_test::{Expect, expect};
use model::event::Event;
use model::event::OutputStream;
use model::filter::Pattern;
use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::events::Reader;

/// Far above what anything here takes; a test that waits for it fails.
const AMPLE: Duration = Duration::from_secs(60);

/// What a program that has to be killed is given.
const SHORT: Duration = Duration::from_millis(150);

#[derive(Default)]
struct Told(Mutex<Vec<Hook>>);

impl Reader for Told {
    fn read(&self, event: &Event) {
        if let What::Hook { what, .. } = &event.what {
            self.0.lock().unwrap().push(what.clone());
        }
    }
}

/// A folder with scripts, and what was told.
struct Stage {
    folder: TempDir,
    told: Arc<Told>,
    hooks: Vec<Configured>,
}

impl Stage {
    fn new() -> Stage {
        Stage { folder: TempDir::new().unwrap(), told: Arc::default(), hooks: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a hook that runs a shell script in the folder.
    fn script(mut self, name: &str, fatal: bool, timeout: Duration, text: &str) -> Stage {
        let path = self.path(name);
        let text = format!("#!/bin/sh\ncd {:?}\n{text}\n", self.folder.path());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.hooks.push(Configured {
            kind: HookKind::Command { path },
            timeout,
            filesystems: FilesystemFilter::new([(Pattern::parse("p<").unwrap(), true)]),
            err_is_fatal: fatal,
        });
        self
    }

    fn runner(&self) -> HookRunner {
        let readers: Vec<Arc<dyn Reader>> = vec![self.told.clone()];
        HookRunner::new(self.hooks.clone(), Events::new(Clock::system(), readers))
    }

    async fn run(&self) -> HookOutcome {
        let take = async { self.note("snapshot") };
        self.runner().run(&dataset("p/a"), &snapshot(), take).await
    }

    /// Appends a line to the file that scripts append to as well.
    fn note(&self, line: &str) -> Result<(), String> {
        let notes = self.notes();
        fs::write(self.path("notes"), format!("{notes}{line}\n")).map_err(|error| error.to_string())
    }

    fn notes(&self) -> String {
        fs::read_to_string(self.path("notes")).unwrap_or_default()
    }

    fn output(&self, wanted: OutputStream) -> Vec<String> {
        let told = self.told.0.lock().unwrap();
        let line = |what: &Hook| match what {
            Hook::Output { stream, line, .. } if *stream == wanted => Some(line.clone()),
            _ => None,
        };
        told.iter().filter_map(line).collect()
    }

    /// Steps without what differs from run to run.
    fn check(&self, outcome: &HookOutcome, expected: &Expect) {
        let folder = self.folder.path().display().to_string();
        let mut outcome = outcome.clone();
        outcome.steps.iter_mut().for_each(|step| step.runtime = Duration::ZERO);
        expected.assert_eq(&format!("{outcome}\n").replace(&folder, "/hooks"));
    }
}

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn snapshot() -> VersionName {
    VersionName::parse("zrepl_1").unwrap()
}

/// Whether a process runs, by the number in a file that a script wrote; a zombie does not.
fn runs(file: &std::path::Path) -> bool {
    let pid = fs::read_to_string(file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[tokio::test]
async fn edges_run_around_the_snapshot_and_in_reverse_after_it() {
    let note = r#"echo "$ZREPL_HOOKTYPE $(basename "$0")" >> notes"#;
    let stage = Stage::new().script("a", false, AMPLE, note).script("b", true, AMPLE, note);
    let outcome = stage.run().await;
    assert_eq!(stage.notes(), "pre_snapshot a\npre_snapshot b\nsnapshot\npost_snapshot b\npost_snapshot a\n");
    stage.check(
        &outcome,
        &expect![[r#"
        01 [Ok                  ] [   0.000s] ~ [Pre     ]  /hooks/a
        02 [Ok                  ] [   0.000s] ! [Pre     ]  /hooks/b
        03 [Ok                  ] [   0.000s] ~ [Callback]  snapshot
        04 [Ok                  ] [   0.000s] ~ [Post    ]  /hooks/b
        05 [Ok                  ] [   0.000s] ~ [Post    ]  /hooks/a
    "#]],
    );
    assert_eq!((outcome.snapshot, outcome.had_error), (Ok(()), false));
}

#[tokio::test]
async fn a_program_is_told_what_it_is_about_by_its_environment_and_nothing_else() {
    let text = r#"echo "$ZREPL_HOOKTYPE|$ZREPL_FS|$ZREPL_SNAPNAME|$ZREPL_TIMEOUT|${ZREPL_DRYRUN-unset}|$#|$(cat)""#;
    let stage = Stage::new().script("env", false, Duration::from_millis(62_500), text);
    stage.run().await;
    assert_eq!(
        stage.output(OutputStream::Stdout),
        ["pre_snapshot|p/a|zrepl_1|62||0|", "post_snapshot|p/a|zrepl_1|62||0|"]
    );
}

#[tokio::test]
async fn a_filesystem_that_no_hook_selects_is_only_snapshotted() {
    let stage = Stage::new().script("a", true, AMPLE, "exit 1");
    let runner = stage.runner();
    assert!(runner.matches(&dataset("p/a")) && !runner.matches(&dataset("q")));
    let outcome = runner.run(&dataset("q"), &snapshot(), async { Err("pool is full".to_owned()) }).await;
    stage.check(
        &outcome,
        &expect![[r#"
        01 [Err                 ] [   0.000s] ~ [Callback]  snapshot: pool is full
    "#]],
    );
    assert_eq!((outcome.snapshot, outcome.had_error), (Err("pool is full".to_owned()), true));
    assert!(stage.told.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn after_a_fatal_error_nothing_is_taken_and_what_was_done_is_undone() {
    let note = r#"echo "$ZREPL_HOOKTYPE $(basename "$0")" >> notes"#;
    let stage = Stage::new()
        .script("a", false, AMPLE, note)
        .script("b", true, AMPLE, "echo no space >&2; exit 3")
        .script("c", false, AMPLE, note);
    let outcome = stage.run().await;
    assert_eq!(stage.notes(), "pre_snapshot a\npost_snapshot a\n");
    stage.check(
        &outcome,
        &expect![[r#"
            01 [Ok                  ] [   0.000s] ~ [Pre     ]  /hooks/a
            02 [Err                 ] [   0.000s] ! [Pre     ]  /hooks/b: exit status: 3; it said: no space (no snapshot is taken: mend the hook, or let snapshots be taken without it by `err_is_fatal: false`)
            03 [SkippedDueToFatalErr] [   0.000s] ~ [Pre     ]  /hooks/c
            04 [SkippedDueToFatalErr] [   0.000s] ~ [Callback]  snapshot
            05 [SkippedDueToFatalErr] [   0.000s] ~ [Post    ]  /hooks/c
            06 [SkippedDueToFatalErr] [   0.000s] ~ [Post    ]  /hooks/b
            07 [Ok                  ] [   0.000s] ~ [Post    ]  /hooks/a
        "#]],
    );
    let error = outcome.snapshot.unwrap_err();
    assert!(error.contains("/b: ") && error.contains("exit status: 3"), "{error}");
    assert_eq!(stage.output(OutputStream::Stderr), ["no space"]);
    assert!(stage.told.0.lock().unwrap().iter().any(|what| matches!(what, Hook::Prevented { .. })));
}

#[tokio::test]
async fn a_timeout_ends_the_program_and_what_it_started() {
    let text = "sh -c 'echo $$ > grandchild; echo started; sleep 600; echo late' & echo $! > child; wait";
    let stage = Stage::new().script("slow", false, SHORT, text);
    let watch = Watch::now();
    let outcome = stage.run().await;
    assert!(watch.elapsed() < Duration::from_secs(20), "it waited for the grandchild");
    stage.check(&outcome, &expect![[r#"
        01 [Err                 ] [   0.000s] ~ [Pre     ]  /hooks/slow: timed out after 150ms and was killed with all that it had started (see what it waits for, or raise its `timeout`); it said: started (the snapshot is taken nevertheless: mend the hook, or let it prevent that by `err_is_fatal: true`)
        02 [Ok                  ] [   0.000s] ~ [Callback]  snapshot
        03 [SkippedDueToPreErr  ] [   0.000s] ~ [Post    ]  /hooks/slow
    "#]]);
    assert_eq!(stage.notes(), "snapshot\n");
    assert_eq!(stage.output(OutputStream::Stdout), ["started"]);
    // It has been killed; when it is gone is up to the kernel.
    while runs(&stage.path("grandchild")) {
        assert!(watch.elapsed() < Duration::from_secs(20), "it goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_child_in_the_background_that_holds_the_pipe_is_neither_waited_for_nor_killed() {
    let text = r#"test "$ZREPL_HOOKTYPE" = pre_snapshot && { sleep 600 & echo $! > child; echo begun; exit 0; }
                  kill -0 "$(cat child)" && kill "$(cat child)" && echo ended"#;
    let stage = Stage::new().script("lock", false, AMPLE, text);
    let watch = Watch::now();
    let outcome = stage.run().await;
    assert!(watch.elapsed() < AMPLE / 2, "it waited for the child in the background");
    assert!(!outcome.had_error, "{outcome}");
    assert_eq!(stage.output(OutputStream::Stdout), ["begun", "ended"]);
}

#[tokio::test]
async fn output_is_read_to_its_end_but_not_all_of_it_is_logged() {
    let text = r#"test "$ZREPL_HOOKTYPE" = post_snapshot && exit 0
                  yes 123456789012345 | head -c 2097152; echo done > wrote"#;
    let stage = Stage::new().script("loud", false, AMPLE, text);
    let outcome = stage.run().await;
    assert!(!outcome.had_error, "{outcome}");
    assert!(stage.path("wrote").exists());
    let logged: usize = stage.output(OutputStream::Stdout).iter().map(String::len).sum();
    assert_eq!(logged as u64, HOOK_LOG_BYTES);
    // 2 MiB in lines of 16 bytes, of which the line feeds do not count.
    let cut = (2 << 20) / 16 * 15 - HOOK_LOG_BYTES;
    let told = stage.told.0.lock().unwrap();
    assert!(told.iter().any(|what| matches!(what, Hook::OutputCut { bytes, .. } if *bytes == cut)));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let mut stage = Stage::new().script("gone", true, AMPLE, "");
    stage.hooks[0].kind = HookKind::Command { path: stage.path("nowhere") };
    let error = stage.run().await.snapshot.unwrap_err();
    assert!(error.contains("nowhere: No such file or directory"), "{error}");
}

#[tokio::test]
async fn a_dropped_run_kills_what_runs_and_undoes_what_was_done() {
    let note = r#"echo "$ZREPL_HOOKTYPE $(basename "$0")" >> notes"#;
    let stage = Stage::new().script("a", false, AMPLE, note).script(
        "b",
        false,
        AMPLE,
        "echo $$ > pid; echo up; exec sleep 600",
    );
    let runner = stage.runner();
    let (filesystem, snapshot) = (dataset("p/a"), snapshot());
    let run = runner.run(&filesystem, &snapshot, async { Ok(()) });
    let up = async {
        while stage.output(OutputStream::Stdout).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = run => panic!("it came to an end: {outcome}"),
        () = up => {}
    }
    runner.tasks.wait().await;
    assert_eq!(stage.notes(), "pre_snapshot a\npost_snapshot a\n");
    while runs(&stage.path("pid")) {
        tokio::task::yield_now().await;
    }
    assert!(stage.told.0.lock().unwrap().contains(&Hook::Interrupted));
}

#[tokio::test]
async fn an_edge_after_the_snapshot_comes_to_its_end_although_the_run_is_dropped() {
    let text = r#"test "$ZREPL_HOOKTYPE" = pre_snapshot && exit 0
                  echo thawing; until test -e go; do :; done; echo thawed >> notes"#;
    let stage = Stage::new().script("freeze", false, AMPLE, text);
    let runner = stage.runner();
    let (filesystem, snapshot) = (dataset("p/a"), snapshot());
    let run = runner.run(&filesystem, &snapshot, async { Ok(()) });
    let thawing = async {
        while stage.output(OutputStream::Stdout).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = run => panic!("it came to an end: {outcome}"),
        () = thawing => {}
    }
    fs::write(stage.path("go"), "").unwrap();
    runner.tasks.wait().await;
    assert_eq!(stage.notes(), "thawed\n");
}
