//! What a daemon cannot do without.

use std::sync::Arc;

use daemon::Daemon;
use daemon::events::Reader;
use model::event::{Event, What};
use zfs::fake::Verb;

use crate::world::{Lab, push_and_sink};

/// Panics in whoever tells that a job is late: the dispatcher.
struct Trap;

impl Reader for Trap {
    fn read(&self, event: &Event) {
        if let What::Warning { message, .. } = &event.what {
            assert!(!message.contains("took longer than pull interval"), "a trap");
        }
    }
}

const PULL: &str = r#"
global: {control: {sockpath: ""}}
jobs:
  - name: source
    type: source
    serve: {type: local, listener_name: s}
    filesystems: {"src<": true}
    snapshotting: {type: manual}
  - name: pull
    type: pull
    connect: {type: local, listener_name: s, client_identity: c}
    root_fs: dst/backup
    interval: 10s
    recv: {placeholder: {encryption: inherit}}
    pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 3}]}
"#;

#[tokio::test(start_paused = true)]
async fn a_daemon_whose_dispatcher_panics_says_so_and_can_be_stopped() {
    let mut lab = Lab::new();
    lab.snapshot("one").await;
    lab.world.readers.push(Arc::new(Trap));
    let daemon: Daemon = lab.start(PULL);
    lab.zfs.faults().pace(64, std::time::Duration::from_secs(60));
    let lost = daemon.lost().await.to_string();
    assert!(lost.starts_with("the dispatcher has ended by a fault of this program"), "{lost}");
    assert_eq!(lab.diary.count("error: dispatcher panicked and has ended: a trap"), 1);
    assert!(lab.zfs.faults().calls().contains_key(&Verb::Send), "the invocation goes on until the daemon stops");
    assert!(!daemon.answers().await);
    assert_eq!(lab.diary.count("has not answered within 5s"), 1);
    daemon.stop(&lost).await.unwrap();
    assert_eq!((lab.diary.count("stopping: the dispatcher"), lab.diary.count("stopped")), (1, 1));
    assert!(lab.world.zfs.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_in_a_daemon_that_is_well_or_stopped() {
    let lab = Lab::new();
    let daemon = lab.start(&push_and_sink("{type: manual}"));
    assert!(daemon.answers().await);
    daemon.stop("test").await.unwrap();
    let lost = tokio::time::timeout(std::time::Duration::from_secs(60), daemon.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
}
