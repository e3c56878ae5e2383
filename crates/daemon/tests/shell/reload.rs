//! Another configuration for a daemon that runs.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use daemon::Reread;
use model::event::{Replication, What};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use zfs::fake::Verb;

use crate::world::{Lab, push_and_sink};

const SNAP: &str = r#"  - name: extra
    type: snap
    filesystems: {"src/a": true}
    snapshotting: {type: manual}
    pruning: {keep: [{type: last_n, count: 1}]}
"#;

fn config(yaml: &str) -> config::Config {
    config::parse("zrepl.yml", yaml).unwrap().config
}

fn names(jobs: &[model::JobName]) -> Vec<&str> {
    jobs.iter().map(model::JobName::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn jobs_that_did_not_change_go_on_and_the_others_begin_anew() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let yaml = push_and_sink("{type: manual}");
    let daemon = lab.start(&yaml);
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().steps, 3);

    let same = daemon.reload(config(&yaml)).await.unwrap();
    assert_eq!((names(&same.unchanged), same.global_changed), (vec!["push", "sink"], false));
    assert_eq!(same.to_string(), "no job has changed; 2 unchanged");

    let more = daemon.reload(config(&(yaml.clone() + SNAP))).await.unwrap();
    assert_eq!(names(&more.started), ["extra"]);
    assert_eq!(daemon.wakeup_and_wait("extra").await.unwrap().unwrap().errors, 0);
    assert!(daemon.status().to_json().contains("\"extra\""));

    // What ran before is not begun again: the report of the last invocation is still there.
    let before = daemon.status().to_json();
    assert!(before.contains("\"Steps\":3"), "{before}");
    let changed = yaml.replace("count: 3", "count: 4");
    let changed = daemon.reload(config(&changed)).await.unwrap();
    assert_eq!(names(&changed.restarted), ["push"]);
    assert_eq!(names(&changed.stopped), ["extra"]);
    assert_eq!(names(&changed.unchanged), ["sink"]);
    assert!(daemon.wakeup("extra").await.is_err(), "gone");
    assert!(!daemon.status().to_json().contains("\"extra\""));
    lab.snapshot("two").await;
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().steps, 3);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_invocation_of_an_unchanged_job_is_not_interrupted() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let yaml = push_and_sink("{type: manual}");
    let daemon = lab.start(&yaml);
    daemon.wakeup("push").await.unwrap();
    let planned = |what: &What| matches!(what, What::Replication(Replication::Planned { .. }));
    lab.diary.wait_until(|whats| whats.iter().any(planned)).await;
    let more = daemon.reload(config(&(yaml + SNAP))).await.unwrap();
    assert_eq!(names(&more.unchanged), ["push", "sink"]);
    lab.diary.wait_for("finished 1 with 0 errors", 1).await;
    assert_eq!(lab.diary.count("invocation 2"), 0);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_an_unchanged_job_goes_on_while_others_are_changed_and_removed() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let yaml = push_and_sink("{type: manual}");
    let other = SNAP.replace("extra", "other");
    let daemon = lab.start(&format!("{yaml}{SNAP}{other}"));
    lab.zfs.faults().pace(64, Duration::from_secs(1));
    daemon.wakeup("push").await.unwrap();
    let flows = |what: &What| matches!(what, What::Replication(Replication::StepProgress { bytes: 1.., .. }));
    lab.diary.wait_until(|whats| whats.iter().any(flows)).await;

    let new = SNAP.replace("extra", "new");
    let changed = SNAP.replace("count: 1", "count: 2");
    let reloaded = daemon.reload(config(&format!("{yaml}{changed}{new}"))).await.unwrap();
    assert_eq!(names(&reloaded.unchanged), ["push", "sink"]);
    assert_eq!(names(&reloaded.restarted), ["extra"]);
    assert_eq!(names(&reloaded.stopped), ["other"]);
    assert_eq!(names(&reloaded.started), ["new"]);
    assert_eq!(reloaded.to_string(), "started new; stopped other; restarted extra; 2 unchanged");
    let done = |what: &What| matches!(what, What::Replication(Replication::StepFinished { .. }));
    assert!(!lab.diary.whats().iter().any(done), "the stream is under way still");

    lab.diary.wait_for("finished 1 with 0 errors", 1).await;
    assert_eq!(lab.zfs.faults().calls()[&Verb::Send], 3, "each filesystem was sent once");
    let failed = |what: &What| matches!(what, What::Replication(Replication::StepFailed { .. }));
    assert!(!lab.diary.whats().iter().any(failed));
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_job_that_is_removed_is_cut_and_goes_on_when_the_job_is_back() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let yaml = push_and_sink("{type: manual}");
    let daemon = lab.start(&yaml);
    lab.zfs.faults().pace(64, Duration::from_secs(1));
    daemon.wakeup("push").await.unwrap();
    let flows = |what: &What| matches!(what, What::Replication(Replication::StepProgress { bytes: 1.., .. }));
    lab.diary.wait_until(|whats| whats.iter().any(flows)).await;

    let mut sink_alone = config(&yaml);
    sink_alone.jobs.remove(0);
    let reloaded = daemon.reload(sink_alone).await.unwrap();
    assert_eq!((names(&reloaded.stopped), names(&reloaded.unchanged)), (vec!["push"], vec!["sink"]));
    assert_eq!(lab.diary.count("cancelled 1"), 1);
    assert!(lab.world.zfs.running().is_empty(), "nothing of it runs any longer");

    lab.zfs.faults().clear();
    assert_eq!(names(&daemon.reload(config(&yaml)).await.unwrap().started), ["push"]);
    let summary = daemon.wakeup_and_wait("push").await.unwrap().unwrap();
    assert_eq!((summary.errors, summary.replicated), (0, true));
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_changed_job_was_at_goes_on() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let yaml = push_and_sink("{type: manual}");
    let daemon = lab.start(&yaml);
    lab.zfs.faults().pace(64, Duration::from_secs(1));
    daemon.wakeup("push").await.unwrap();
    let flows = |what: &What| matches!(what, What::Replication(Replication::StepProgress { bytes: 1.., .. }));
    lab.diary.wait_until(|whats| whats.iter().any(flows)).await;
    let changed = daemon.reload(config(&yaml.replace("count: 3", "count: 4"))).await.unwrap();
    assert_eq!(names(&changed.restarted), ["push"]);
    // Nobody wakes it again.
    lab.diary.wait_for("finished 2 with 0 errors", 1).await;
    assert_eq!((lab.diary.count("cancelled 1"), lab.diary.count("finished 1 ")), (1, 0), "numbers go on");
    daemon.stop("test").await.unwrap();
}

#[tokio::test]
async fn a_reload_goes_on_when_its_client_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let yaml = push_and_sink("{type: manual}").replace("sockpath: \"\"", &format!("sockpath: {}", socket.display()));
    let mut lab = Lab::new();
    lab.snapshot("one").await;
    let other = config(&yaml.replace("count: 3", "count: 4"));
    let (asked, mut load) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, gate) = std::sync::mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    lab.world.load = Some(Arc::new(move || {
        asked.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok(other.clone().into())
    }));
    let daemon = lab.start(&yaml);
    let mut client = UnixStream::connect(&socket).await.unwrap();
    client.write_all(b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    load.recv().await.unwrap();
    drop(client);
    // The daemon has heard that before it answers somebody else.
    let mut another = UnixStream::connect(&socket).await.unwrap();
    another.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    another.read_to_end(&mut Vec::new()).await.unwrap();
    go_on.send(()).unwrap();
    let read_again = |what: &What| matches!(what, What::Note { message, .. } if message.contains("restarted push"));
    lab.diary.wait_until(|whats| whats.iter().any(read_again)).await;
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_with_a_mistake_changes_nothing_and_the_repaired_one_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zrepl.yml");
    let mut lab = Lab::new();
    lab.snapshot("one").await;
    let read = path.clone();
    lab.world.load = Some(Arc::new(move || {
        let loaded = config::load(Some(&read)).map_err(|errors| errors.render(config::Style::Plain))?;
        Ok(Reread { config: loaded.config, warnings: vec!["a certificate ends soon".to_owned()] })
    }));
    let yaml = push_and_sink("{type: manual}");
    let daemon = lab.start(&yaml);
    std::fs::write(&path, format!("{yaml}{}", SNAP.replace("count: 1", "count: many"))).unwrap();
    let error = daemon.reload_from_file().await.unwrap_err().to_string();
    assert!(error.contains("zrepl.yml:") && error.contains("count"), "{error}");
    assert_eq!(lab.diary.count("the earlier configuration stays in use"), 1);
    assert!(daemon.wakeup("extra").await.is_err());
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);

    std::fs::write(&path, format!("{yaml}{}", SNAP.replace("src/a", "usb/a"))).unwrap();
    let reloaded = daemon.reload_from_file().await.unwrap();
    assert_eq!(names(&reloaded.started), ["extra"]);
    // As a start would say it, in the answer and in the log.
    assert_eq!(reloaded.warnings.len(), 2, "{reloaded:?}");
    assert_eq!(reloaded.warnings[0], "a certificate ends soon");
    assert!(reloaded.warnings[1].starts_with("pool `usb` of job `extra` is not there: import it"), "{reloaded:?}");
    assert_eq!(lab.diary.count("warning: a certificate ends soon"), 1);
    assert_eq!(lab.diary.count("warning: pool `usb` of job `extra`"), 1);

    std::fs::write(&path, format!("{yaml}{SNAP}")).unwrap();
    let reloaded = daemon.reload_from_file().await.unwrap();
    assert_eq!((names(&reloaded.restarted), reloaded.warnings.len()), (vec!["extra"], 1));
    assert_eq!(daemon.wakeup_and_wait("extra").await.unwrap().unwrap().errors, 0);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_missing_is_told_with_what_helps_and_stops_nothing() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let gone = SNAP.replace("src/a", "usb/a");
    let daemon = lab.start(&(push_and_sink("{type: manual}") + &gone));
    daemon.check_pools().await;
    let warnings: Vec<String> = lab.diary.words().into_iter().filter(|word| word.contains("warning")).collect();
    assert_eq!(
        warnings,
        [
            "12:00:00 warning: pool `usb` of job `extra` is not there: import it (`zpool import usb`), or correct its name \
          in the configuration; whatever is on other pools is done meanwhile"
        ]
    );
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_be_used_changes_nothing() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let yaml = push_and_sink("{type: manual}");
    let daemon = lab.start(&yaml);
    let refused = yaml.replace("    snapshotting:", "    send: {saved: true}\n    snapshotting:");
    let error = daemon.reload(config(&refused)).await.unwrap_err().to_string();
    assert!(error.contains("`send.saved` cannot be used"), "{error}");
    assert_eq!(lab.diary.count("the earlier configuration stays in use: job `push`: `send.saved`"), 1);
    assert!(daemon.reload_from_file().await.is_err(), "there is no file");
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);
    daemon.stop("test").await.unwrap();
}
