//! Holds and cursors that no job looks after: told once, at the start, and left where they are.

use model::JobName;
use model::protection::{cursor_name, last_received_tag, step_hold_tag};
use zfs::fake::Verb;
use zfs::{Snapshot, Zfs};

use super::world::{Lab, dataset, push_and_sink, version};

fn job(name: &str) -> JobName {
    JobName::parse(name).unwrap()
}

fn snapshot(dataset_name: &str) -> Snapshot {
    Snapshot { dataset: dataset(dataset_name), name: version("1") }
}

fn config() -> String {
    push_and_sink("{type: manual}").replace("{\"src<\": true}", "{\"src<\": true, \"src/b\": false}")
}

#[tokio::test(start_paused = true)]
async fn what_is_outside_the_filter_or_of_no_job_is_told_once_and_stays() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let hold = async |tag: model::HoldTag, on: &str| {
        lab.zfs.hold(&tag, &[snapshot(on)]).await.pop().unwrap().unwrap();
    };
    hold(step_hold_tag(&job("push")).unwrap(), "src/b").await;
    hold(step_hold_tag(&job("old name")).unwrap(), "src/a").await;
    // Of a job of this configuration, whoever else sees it.
    hold(last_received_tag(&job("sink")).unwrap(), "src/a").await;
    let guid = lab.zfs.dataset(&dataset("src/a")).await.unwrap().versions[0].to_ref();
    lab.zfs.bookmark(&dataset("src/a"), &guid, &cursor_name(guid.guid, &job("old name")).unwrap()).await.unwrap();

    let daemon = lab.start(&config());
    lab.diary.wait_for("warning: ", 1).await;
    let summary = daemon.wakeup_and_wait("push").await.unwrap().unwrap();
    assert_eq!(summary.errors, 0);
    let warnings: Vec<_> = lab.diary.words().into_iter().filter(|word| word.contains("warning: ")).collect();
    assert_eq!(
        warnings,
        ["12:00:00 warning: found 3 holds and cursors of zrepl that nobody looks after, such as \
          replication-cursor-bookmark-v2 src/a#zrepl_CURSOR_G_"
            .to_owned()
            + &format!("{:016x}_J_old name: there is no job \"old name\" in the configuration; ", guid.guid.0)
            + "it stays until you release it, and a hold keeps its snapshot from being destroyed: zrepl \
               zfs-abstraction release-all --fs 'src/a' --job 'old name'"]
    );
    daemon.stop("the test is over").await.unwrap();

    let holds = lab.zfs.holds(&[snapshot("src/a"), snapshot("src/b")]).await.unwrap();
    let tags: Vec<String> = holds.iter().map(|hold| hold.tag.to_string()).collect();
    for tag in ["zrepl_STEP_J_push", "zrepl_STEP_J_old name", "zrepl_last_received_J_sink"] {
        assert!(tags.iter().any(|one| one == tag), "{tag} is gone: {tags:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn looking_for_them_costs_no_process_and_finding_none_is_silent() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let tag = step_hold_tag(&job("push")).unwrap();
    lab.zfs.hold(&tag, &[snapshot("src/a")]).await.pop().unwrap().unwrap();
    let daemon = lab.start(&config());
    daemon.wakeup_and_wait("push").await.unwrap().unwrap();
    assert_eq!(lab.diary.count("warning: "), 0);
    let before = lab.zfs.faults().calls();
    daemon.stop("the test is over").await.unwrap();

    let lab = Lab::new();
    lab.snapshot("1").await;
    lab.zfs.hold(&tag, &[snapshot("src/a"), snapshot("src/b")]).await.into_iter().for_each(Result::unwrap);
    let daemon = lab.start(&config());
    daemon.wakeup_and_wait("push").await.unwrap().unwrap();
    assert_eq!(lab.diary.count("warning: found a hold or cursor of zrepl"), 1);
    for verb in [Verb::List, Verb::Holds] {
        assert_eq!(lab.zfs.faults().calls().get(&verb), before.get(&verb), "{verb:?}");
    }
    daemon.stop("the test is over").await.unwrap();
}
