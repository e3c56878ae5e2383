//! Another configuration for a daemon that runs.

use model::event::{Replication, What};

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
async fn a_configuration_that_cannot_be_used_changes_nothing() {
    let lab = Lab::new();
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
