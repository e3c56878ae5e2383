//! Holds and cursors that no job looks after: told once, at the start, and left where they are.

use model::JobName;
use model::event::What;
use model::protection::{cursor_name, last_received_tag, step_hold_tag};
use zfs::fake::{Action, Moment, Verb};
use zfs::{ErrorKind, Snapshot, Zfs};

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

/// A sink whose pool is not there looks again until it is. Meanwhile there may be other jobs.
#[tokio::test(start_paused = true)]
async fn a_sink_that_looks_late_knows_the_jobs_of_that_time() {
    const ADDED: &str = "  - {name: added, type: snap, filesystems: {'src/b': true}, snapshotting: {type: manual}, \
                         pruning: {keep: [{type: last_n, count: 1}]}}\n";
    let lab = Lab::new();
    lab.snapshot("1").await;
    let first = lab.start(&config());
    first.wakeup_and_wait("push").await.unwrap().unwrap();
    first.stop("it is started again").await.unwrap();

    lab.diary.forget();
    lab.zfs.faults().hook(|point| match (point.verb, point.moment) {
        (Verb::List, Moment::Before) => Action::Fail(ErrorKind::PoolMissing { pool: "dst".to_owned() }),
        _ => Action::Proceed,
    });
    let daemon = lab.start(&config());
    lab.diary.wait_for("cannot be looked at now", 1).await;
    daemon.reload(config::parse("zrepl.yml", &(config() + ADDED)).unwrap().config).await.unwrap();
    let received = dataset("dst/backup/me/src/a");
    let tag = step_hold_tag(&job("added")).unwrap();
    lab.zfs.hold(&tag, &[Snapshot { dataset: received.clone(), name: version("1") }]).await.pop().unwrap().unwrap();
    lab.zfs.faults().clear();
    let knows =
        |whats: &[What]| whats.iter().any(|what| matches!(what, What::Stored { newest, .. } if !newest.is_empty()));
    lab.diary.wait_until(knows).await;
    assert_eq!(lab.diary.count("nobody looks after"), 0, "{:#?}", lab.diary.words());
    assert_eq!(lab.diary.count("cannot be looked at now"), 1, "told once, however often it is tried");
    daemon.stop("the test is over").await.unwrap();
}
