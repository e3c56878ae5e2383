//! Jobs that fetch from a source, and sources with their clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use model::ClientIdentity;
use model::event::{Replication, What};
use model::protection::ProtectionPolicy;
use tokio::time::Instant;
use wire::{CallError, Connector, DestroyOutcome, DestroyRequest, Endpoint, SendRequest};
use zfs::fake::{Action, FakeHost, Moment, Verb};

use crate::world::{Lab, dataset, version};

/// A source of `src` and pull jobs, each with its name, root and interval.
fn source_and(snapshotting: &str, pulls: &[(&str, &str, &str)]) -> String {
    let mut yaml = format!(
        r#"
global: {{control: {{sockpath: ""}}}}
jobs:
  - name: source
    type: source
    serve: {{type: local, listener_name: s}}
    filesystems: {{"src<": true, "src/b": false}}
    snapshotting: {snapshotting}
"#
    );
    for (name, root, interval) in pulls {
        yaml += &format!(
            r#"
  - name: {name}
    type: pull
    connect: {{type: local, listener_name: s, client_identity: {name}}}
    root_fs: {root}
    interval: {interval}
    recv: {{placeholder: {{encryption: inherit}}}}
    pruning: {{keep_sender: [{{type: last_n, count: 1}}], keep_receiver: [{{type: last_n, count: 3}}]}}
"#
        );
    }
    yaml
}

const MANUAL: &str = "{type: manual}";
const PULL: (&str, &str, &str) = ("pull", "dst/backup", "manual");

fn snapshots(host: &FakeHost, name: &str) -> Vec<String> {
    let names = ["1", "2", "3", "4"].iter().filter(|one| host.snapshot_guid(&dataset(name), &version(one)).is_some());
    names.map(|one| (*one).to_owned()).collect()
}

async fn client(lab: &Lab, name: &str) -> Arc<dyn Endpoint> {
    let name = ClientIdentity::parse(name).unwrap();
    lab.world.network.connector("s", name, Duration::from_secs(2)).connect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pull_job_fetches_right_below_its_root_and_prunes_both_sides() {
    let lab = Lab::new();
    for name in ["1", "2"] {
        lab.snapshot(name).await;
    }
    let daemon = lab.start(&source_and(MANUAL, &[PULL]));
    let first = daemon.wakeup_and_wait("pull").await.unwrap().unwrap();
    assert_eq!((first.errors, first.filesystems, first.steps), (0, 2, 2), "{:#?}", lab.diary.words());
    assert_eq!(snapshots(&lab.host, "dst/backup/src/a"), ["2"], "no level for the client");
    assert_eq!(snapshots(&lab.host, "src/a"), ["2"], "pruned by the pull job");
    assert_eq!(snapshots(&lab.host, "src/b"), ["1", "2"], "none of the source's");
    lab.snapshot("3").await;
    let second = daemon.wakeup_and_wait("pull").await.unwrap().unwrap();
    assert_eq!((second.errors, second.steps), (0, 2));
    assert_eq!(snapshots(&lab.host, "dst/backup/src/a"), ["2", "3"]);
    let holds = lab.zfs.faults().processes();
    assert!(holds.contains_key("bookmark"), "{holds:?}");
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_protections_are_those_of_the_jobs_that_own_the_sides() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let daemon = lab.start(&source_and(MANUAL, &[PULL]));
    daemon.wakeup_and_wait("pull").await.unwrap();
    let zfs = &lab.world.zfs;
    let sent = zfs.dataset(&dataset("src/a")).await.unwrap();
    let bookmarks = sent.versions.iter().filter(|one| !one.is_snapshot()).map(|one| one.name.to_string());
    let bookmarks: Vec<String> = bookmarks.collect();
    assert_eq!(bookmarks.len(), 1);
    assert!(bookmarks[0].starts_with("zrepl_CURSOR_G_") && bookmarks[0].ends_with("_J_source"), "{bookmarks:?}");
    let held = zfs::Snapshot { dataset: dataset("dst/backup/src/a"), name: version("1") };
    let holds = zfs.holds(&[held]).await.unwrap();
    let tags: Vec<&str> = holds.iter().map(|hold| hold.tag.as_str()).collect();
    assert_eq!(tags, ["zrepl_last_received_J_pull"]);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_interval_brings_invocations_the_first_one_interval_after_the_start() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let started = Instant::now();
    let daemon = lab.start(&source_and(MANUAL, &[("pull", "dst/backup", "10m")]));
    lab.diary.wait_for("finished 1 with 0 errors", 1).await;
    assert!((600..610).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    lab.diary.wait_for("finished 3 with 0 errors", 1).await;
    assert!((1800..1810).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_round_that_takes_longer_than_the_interval_is_told_and_one_more_follows() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    lab.host.write_file(&dataset("src/a"), "much", &vec![7; 256_000]).unwrap();
    lab.snapshot("2").await;
    lab.zfs.faults().pace(1024, Duration::from_secs(1));
    let daemon = lab.start(&source_and(MANUAL, &[("pull", "dst/backup", "60s")]));
    lab.diary.wait_for("warning: pull job took longer than pull interval", 2).await;
    lab.diary.wait_for("finished 2", 1).await;
    let words = lab.diary.words();
    let at = |word: &str| words.iter().position(|one| one.contains(word)).unwrap();
    assert_eq!(words[at("finished 1")..at("invocation 2")].len(), 1, "at once: {words:#?}");
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_takes_its_snapshots_itself_and_shows_them() {
    let lab = Lab::new();
    let daemon = lab.start(&source_and("{type: periodic, interval: 10m, prefix: z_}", &[PULL]));
    lab.diary.wait_for("taken src/a@z_", 1).await;
    assert_eq!(lab.diary.count("taken src/b@"), 0);
    lab.diary.wait_for(" Waiting until", 1).await;
    let shown: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
    let source = &shown["Jobs"]["source"];
    assert_eq!((&source["type"], &source["source"]["Snapper"]["Type"]), (&"source".into(), &"periodic".into()));
    assert_eq!(source["source"]["Snapper"]["Periodic"]["State"], 16);
    let pull = &shown["Jobs"]["pull"];
    assert_eq!(pull["type"], "pull");
    for nothing in ["Replication", "PruningSender", "PruningReceiver", "Snapshotting"] {
        assert!(pull["pull"][nothing].is_null() && pull["pull"].get(nothing).is_some(), "{pull}");
    }
    assert_eq!(lab.diary.count("invocation"), 0, "a source's rounds wake nobody");

    let summary = daemon.wakeup_and_wait("pull").await.unwrap().unwrap();
    assert_eq!((summary.errors, summary.steps), (0, 2));
    daemon.snapshot("source").await.unwrap();
    lab.diary.wait_for("taken src/a@z_", 2).await;
    let shown: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
    let pull = &shown["Jobs"]["pull"]["pull"];
    assert_eq!(pull["Replication"]["Attempts"][0]["State"], "done");
    assert_eq!((&pull["PruningSender"]["State"], &pull["PruningReceiver"]["State"]), (&"Done".into(), &"Done".into()));
    assert!(pull["Snapshotting"].is_null());
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_says_what_it_does_not_serve_in_zrepl_s_words() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let daemon = lab.start(&source_and(MANUAL, &[]));
    let source = client(&lab, "anybody").await;
    let view = source.list().await.unwrap();
    let names: Vec<String> = view.filesystems.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["src", "src/a"]);
    let zfs = &lab.world.zfs;
    let outside = zfs.dataset(&dataset("src/b")).await.unwrap().versions[0].to_ref();
    let request = SendRequest {
        filesystem: dataset("src/b"),
        from: None,
        to: outside.clone(),
        resume_token: None,
        protection: ProtectionPolicy::default(),
    };
    let refusal = CallError::permanent("endpoint does not allow access to filesystem src/b");
    assert_eq!(source.send(&request).await.err(), Some(refusal.clone()));
    assert_eq!(source.send_completed(&request).await, Err(refusal.clone()));
    let destroy = DestroyRequest { filesystem: dataset("src/b"), snapshots: vec![outside] };
    assert_eq!(source.destroy_snapshots(&[destroy]).await, Err(refusal));
    assert_eq!(snapshots(&lab.host, "src/b"), ["1"]);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_named_and_waited_for() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let yaml = source_and(MANUAL, &[PULL])
        .replace("serve: {type: local, listener_name: s}", "serve: {type: local, listener_name: later}");
    let daemon = lab.start(&yaml);
    let waits = daemon.wakeup_and_wait("pull");
    let summary = tokio::time::timeout(Duration::from_secs(3600), waits).await.unwrap().unwrap().unwrap();
    assert_eq!((summary.errors > 0, summary.steps), (true, 0));
    let told = "no connection to the sender: no job serves the local listener \"s\"";
    let given_up = lab.diary.whats().into_iter().filter_map(|what| match what {
        What::Replication(Replication::ReconnectFailed { error }) => Some(error),
        _ => None,
    });
    let given_up: Vec<String> = given_up.collect();
    assert!(given_up.len() == 1 && given_up[0].contains(told), "{given_up:#?}");
    let shown = daemon.status().to_json();
    assert!(shown.contains("no connection to the sender: no job serves"), "{shown}");
    daemon.stop("test").await.unwrap();
}

/// Refuses the first few connections.
struct Away {
    left: AtomicU32,
    way: Arc<dyn Connector>,
}

#[async_trait]
impl Connector for Away {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        match left {
            0 => self.way.connect().await,
            _ => Err(CallError::Connection("connection refused".to_owned())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_comes_back_is_pulled_from_in_the_same_invocation() {
    let mut lab = Lab::new();
    lab.snapshot("1").await;
    lab.world.connector = Arc::new(|_, way| Arc::new(Away { left: AtomicU32::new(5), way }));
    let daemon = lab.start(&source_and(MANUAL, &[PULL]));
    let summary = daemon.wakeup_and_wait("pull").await.unwrap().unwrap();
    assert_eq!((summary.errors, summary.steps), (0, 2));
    let shown: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
    let attempts = &shown["Jobs"]["pull"]["pull"]["Replication"]["Attempts"];
    assert_eq!(attempts[0]["PlanError"]["Err"], "no connection to the sender: connection refused");
    assert_eq!(attempts[1]["State"], "done", "{attempts}");
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_source_are_told_and_neither_loses_the_other_s_base() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    lab.host.create_filesystem(&dataset("dst/other")).unwrap();
    let daemon = lab.start(&source_and(MANUAL, &[PULL, ("slow", "dst/other", "manual")]));
    for job in ["slow", "pull"] {
        assert_eq!(daemon.wakeup_and_wait(job).await.unwrap().unwrap().errors, 0);
    }
    assert_eq!(lab.diary.count("both replicate src"), 1, "once, not for every filesystem: {:#?}", lab.diary.words());
    for name in ["2", "3"] {
        lab.snapshot(name).await;
        let summary = daemon.wakeup_and_wait("pull").await.unwrap().unwrap();
        assert_eq!(summary.errors, 0, "{:#?}", lab.diary.words());
    }
    assert_eq!(snapshots(&lab.host, "src/a"), ["1", "3"], "what the slow one has, and the newest");
    assert!(lab.diary.count("src/a@1 is kept: client \"slow\" of the same source still needs it") > 0);
    let summary = daemon.wakeup_and_wait("slow").await.unwrap().unwrap();
    assert_eq!((summary.errors, summary.steps), (0, 2));
    assert_eq!(snapshots(&lab.host, "dst/other/src/a"), ["1", "3"]);
    daemon.wakeup_and_wait("pull").await.unwrap();
    assert_eq!(snapshots(&lab.host, "src/a"), ["3"]);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_client_needs_is_remembered_while_its_pool_cannot_be_listed() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    lab.host.create_pool(&dataset("well")).unwrap();
    let yaml = source_and(MANUAL, &[]).replace("{\"src<\": true, ", "{\"src<\": true, \"well<\": true, ");
    let daemon = lab.start(&yaml);
    let (one, other) = (client(&lab, "one").await, client(&lab, "other").await);
    let version = lab.world.zfs.dataset(&dataset("src/a")).await.unwrap().versions[0].to_ref();
    let request = SendRequest {
        filesystem: dataset("src/a"),
        from: None,
        to: version.clone(),
        resume_token: None,
        protection: ProtectionPolicy {
            initial: model::protection::ProtectionStrategy::Nothing,
            incremental: model::protection::ProtectionStrategy::Nothing,
        },
    };
    drop(other.send(&request).await.unwrap());
    lab.zfs.faults().hook(|point| match point.verb == Verb::List && point.object.starts_with("src") {
        true => Action::Fail(zfs::ErrorKind::PoolSuspended { pool: "src".to_owned() }),
        false => Action::Proceed,
    });
    let view = one.list().await.unwrap();
    assert_eq!(view.unlisted.keys().map(|root| root.as_str()).collect::<Vec<_>>(), ["src"]);
    assert_eq!(view.filesystems.len(), 1);
    lab.zfs.faults().clear();
    let destroy = DestroyRequest { filesystem: dataset("src/a"), snapshots: vec![version] };
    let results = one.destroy_snapshots(&[destroy]).await.unwrap();
    assert!(matches!(results[0].results[0].1, DestroyOutcome::Kept(_)), "{results:?}");
    let calls = lab.zfs.faults().calls();
    let some = one.list_some(&[dataset("src/a")]).await.unwrap();
    assert_eq!((some.filesystems.len(), some.unlisted.len()), (1, 0));
    assert_eq!(lab.zfs.faults().calls()[&Verb::List], calls[&Verb::List] + 1);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_to_go_is_answered_one_by_one() {
    let lab = Lab::new();
    for name in ["1", "2", "3"] {
        lab.snapshot(name).await;
    }
    let daemon = lab.start(&source_and(MANUAL, &[]));
    let (one, other) = (client(&lab, "one").await, client(&lab, "other").await);
    let versions = lab.world.zfs.dataset(&dataset("src/a")).await.unwrap().versions;
    let request = SendRequest {
        filesystem: dataset("src/a"),
        from: None,
        to: versions[1].to_ref(),
        resume_token: None,
        protection: ProtectionPolicy {
            initial: model::protection::ProtectionStrategy::Nothing,
            incremental: model::protection::ProtectionStrategy::Nothing,
        },
    };
    drop(other.send(&request).await.unwrap());
    let destroy = DestroyRequest {
        filesystem: dataset("src/a"),
        snapshots: versions.iter().map(model::Version::to_ref).collect(),
    };
    let results = one.destroy_snapshots(std::slice::from_ref(&destroy)).await.unwrap();
    let names: Vec<&str> = results[0].results.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["1", "2", "3"]);
    let gone = |index: usize| results[0].results[index].1 == DestroyOutcome::Destroyed;
    assert!(gone(0) && gone(2), "{results:?}");
    let DestroyOutcome::Kept(why) = &results[0].results[1].1 else { panic!("{results:?}") };
    assert_eq!(why, "client \"other\" of the same source still needs it");
    let own = other.destroy_snapshots(&[DestroyRequest { snapshots: vec![versions[1].to_ref()], ..destroy }]).await;
    assert_eq!(own.unwrap()[0].results[0].1, DestroyOutcome::Destroyed, "its own is its own business");
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_sinks_sources_and_clients_work_at_once() {
    let lab = Lab::new();
    lab.host.create_filesystem(&dataset("dst/other")).unwrap();
    lab.host.create_filesystem(&dataset("dst/third")).unwrap();
    lab.snapshot("1").await;
    let push = |name: &str, listener: &str, filesystem: &str| {
        format!(
            r#"
  - name: {name}
    type: push
    connect: {{type: local, listener_name: {listener}, client_identity: {name}}}
    filesystems: {{{filesystem}: true}}
    snapshotting: {{type: manual}}
    pruning: {{keep_sender: [{{type: regex, regex: ".*"}}], keep_receiver: [{{type: last_n, count: 3}}]}}
"#
        )
    };
    let sink = |name: &str, root: &str| {
        format!(
            r#"
  - name: {name}
    type: sink
    root_fs: {root}
    serve: {{type: local, listener_name: {name}}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
        )
    };
    let yaml = source_and(MANUAL, &[PULL]).replace("last_n, count: 1}", "regex, regex: \".*\"}")
        + &push("in one", "fan", "src/a")
        + &push("in two", "fan", "src/b")
        + &push("out", "other", "src/a")
        + &sink("fan", "dst/other")
        + &sink("other", "dst/third");
    let daemon = lab.start(&yaml);
    lab.zfs.faults().pace(64, Duration::from_secs(1));
    let jobs = ["pull", "in one", "in two", "out"];
    let all = jobs.map(|job| daemon.wakeup_and_wait(job));
    for (job, summary) in jobs.iter().zip(futures::future::join_all(all).await) {
        assert_eq!(summary.unwrap().unwrap().errors, 0, "{job}: {:#?}", lab.diary.words());
    }
    for name in ["dst/backup/src/a", "dst/other/in one/src/a", "dst/other/in two/src/b", "dst/third/out/src/a"] {
        assert_eq!(snapshots(&lab.host, name), ["1"], "{name}");
    }
    let bookmarks = lab.world.zfs.dataset(&dataset("src/a")).await.unwrap().versions;
    assert_eq!(bookmarks.iter().filter(|one| !one.is_snapshot()).count(), 3, "a cursor per job");
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_at_a_source_is_cleaned_before_the_first_step() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    let yaml = source_and(MANUAL, &[PULL]);
    let daemon = lab.start(&yaml);
    daemon.wakeup_and_wait("pull").await.unwrap();
    daemon.stop("test").await.unwrap();
    let stale = zfs::Snapshot { dataset: dataset("src/a"), name: version("1") };
    let tag = model::HoldTag::parse("zrepl_STEP_J_source").unwrap();
    lab.world.zfs.hold(&tag, std::slice::from_ref(&stale)).await.pop().unwrap().unwrap();
    lab.snapshot("2").await;
    let daemon = lab.start(&yaml);
    let summary = daemon.wakeup_and_wait("pull").await.unwrap().unwrap();
    assert_eq!((summary.errors, summary.steps), (0, 2));
    assert_eq!(snapshots(&lab.host, "src/a"), ["2"], "nothing holds it any longer");
    assert!(lab.zfs.faults().processes().contains_key("release"));
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_wake_up_is_told_what_its_invocation_did() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    lab.zfs.faults().pace(64, Duration::from_secs(1));
    let daemon = lab.start(&source_and(MANUAL, &[PULL]));
    let (first, queued, joined) =
        tokio::join!(daemon.wakeup_and_wait("pull"), daemon.wakeup_and_wait("pull"), daemon.wakeup_and_wait("pull"));
    assert_eq!(first.unwrap().unwrap().steps, 2);
    assert_eq!((queued.unwrap().unwrap().steps, joined.unwrap().unwrap().steps), (0, 0));
    assert_eq!(lab.diary.count("invocation"), 2, "exactly one more");
    assert!(
        daemon.wakeup_and_wait("source").await.unwrap_err().to_string().starts_with("already woken up: job source")
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reset_does_not_wait_for_what_comes_before_the_first_invocation() {
    let lab = Lab::new();
    lab.snapshot("1").await;
    lab.zfs.faults().at_verb(Verb::List, 0, Moment::Before, Action::Hang);
    // The pull job's own preparation is the one that hangs.
    let yaml = source_and(MANUAL, &[PULL]);
    let (source, pull) = yaml.split_at(yaml.find("  - name: pull").unwrap());
    let (globals, source) = source.split_at(source.find("  - name: source").unwrap());
    let daemon = lab.start(&format!("{globals}{pull}{source}"));
    let started = Instant::now();
    let (outcome, reset) = tokio::join!(daemon.wakeup_and_wait("pull"), daemon.reset("pull"));
    assert_eq!(reset, Ok(()));
    assert!(outcome.unwrap().unwrap().cancelled);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    daemon.stop("test").await.unwrap();
}
