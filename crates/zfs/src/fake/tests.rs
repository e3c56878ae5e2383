//! What the conformance suite cannot ask real ZFS: faults, determinism, counters.

use super::*;
use crate::ops::{ReceiveTarget, SendFlags, SendSource};
use crate::token;

fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

fn version(text: &str) -> VersionName {
    VersionName::parse(text).unwrap()
}

fn snapshot(dataset: &str, text: &str) -> Snapshot {
    Snapshot { dataset: name(dataset), name: version(text) }
}

/// Two pools, `src/a` with a file of some blocks.
fn host(seed: u64) -> FakeHost {
    let host = FakeHost::new(seed, Arc::new(|| UnixTime(1_700_000_000)));
    for pool in ["src", "dst"] {
        host.create_pool(&name(pool)).unwrap();
    }
    host.create_filesystem(&name("src/a")).unwrap();
    host.write_file(&name("src/a"), "f", &noise(1, 5 * content::BLOCK + 17)).unwrap();
    host
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = rng::Rng::new(seed);
    (0..len).map(|_| rng.next() as u8).collect()
}

async fn listing(zfs: &FakeZfs) -> Vec<Dataset> {
    zfs.list(&Scope::Everything).await.unwrap().datasets
}

async fn take(zfs: &FakeZfs, dataset: &str, text: &str) -> VersionRef {
    zfs.snapshot(&[snapshot(dataset, text)]).await.remove(0).unwrap();
    let dataset = zfs.dataset(&name(dataset)).await.unwrap();
    dataset.versions.iter().find(|v| v.name.as_str() == text).unwrap().to_ref()
}

fn send_args(from: Option<&VersionRef>, to: &VersionRef) -> SendArgs {
    let source = SendSource::Snapshot { from: from.cloned(), to: to.clone(), flags: SendFlags::default() };
    SendArgs { dataset: name("src/a"), source }
}

fn receive_args(dataset: &str, text: &str) -> ReceiveArgs {
    ReceiveArgs {
        dataset: name(dataset),
        snapshot: version(text),
        target: ReceiveTarget::Continue,
        resumable: true,
        set: Vec::new(),
        inherit: Vec::new(),
        stall_limit: Duration::from_secs(60),
    }
}

async fn transfer(zfs: &FakeZfs, args: &SendArgs, dataset: &str, text: &str) -> Result<(), Error> {
    let stream = zfs.send(args).await?;
    zfs.receive(&receive_args(dataset, text), stream.bytes).await
}

fn killed() -> ErrorKind {
    ErrorKind::Killed { command: "zfs".into(), signal: 9 }
}

/// A cut at any byte keeps no more than arrived, and the rest completes the content.
#[tokio::test]
async fn a_cut_at_any_byte_can_be_resumed() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    let total = zfs.estimate_send(&send_args(None, &s1)).await.unwrap().unwrap();
    for (nth, cut) in (0..total).step_by(40_009).chain([624, 625, total - 1]).enumerate() {
        let target = format!("dst/cut {nth}");
        let zfs = host.zfs();
        zfs.faults().break_stream(Verb::Send, 0, cut, StreamFault::Ends);
        let error = transfer(&zfs, &send_args(None, &s1), &target, "1").await.unwrap_err();
        let partial = zfs.dataset(&name(&target)).await.ok().and_then(|dataset| dataset.resume_token);
        assert_eq!(error.resume_token(), partial.as_deref(), "cut at {cut}");
        let Some(resume) = partial else {
            assert!(cut < 624, "nothing kept of {cut} bytes");
            continue;
        };
        assert!(matches!(error.kind, ErrorKind::Interrupted { .. }), "{error}");
        let kept = token::decode(&resume).unwrap().bytes_received;
        assert!(kept <= cut && cut - kept < 2 * content::BLOCK as u64, "{kept} of {cut}");
        let args = SendArgs { dataset: name("src/a"), source: SendSource::Resume { token: resume } };
        let rest = zfs.estimate_send(&args).await.unwrap().unwrap();
        assert!(rest <= total - kept + 2 * content::BLOCK as u64, "{rest} after {kept} of {total}");
        transfer(&zfs, &args, &target, "1").await.unwrap();
        assert_eq!(host.content_hash(&name(&target)).unwrap(), host.content_hash(&name("src/a")).unwrap());
    }
}

#[tokio::test]
async fn a_lost_reply_leaves_the_effect_and_a_refused_call_does_not() {
    let zfs = host(1).zfs();
    zfs.faults().at_verb(Verb::Snapshot, 0, Moment::Before, Action::Fail(killed()));
    zfs.faults().at_verb(Verb::Snapshot, 1, Moment::After, Action::Fail(killed()));
    for text in ["before", "after"] {
        assert!(zfs.snapshot(&[snapshot("src/a", text)]).await.remove(0).is_err());
    }
    let versions = zfs.dataset(&name("src/a")).await.unwrap().versions;
    assert_eq!(versions.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["after"]);
}

#[tokio::test]
async fn a_call_that_is_stopped_between_items_leaves_the_rest_undone() {
    let zfs = host(1).zfs();
    take(&zfs, "src/a", "1").await;
    take(&zfs, "src/a", "2").await;
    let both = [snapshot("src/a", "1"), snapshot("src/a", "2")];
    zfs.faults().at_verb(Verb::Hold, 0, Moment::Between, Action::Fail(killed()));
    let results = zfs.hold(&HoldTag::parse("t").unwrap(), &both).await;
    assert!(results[0].is_ok() && results[1].is_err());
    assert_eq!(zfs.holds(&both).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dropped_receive_keeps_its_state_and_unlocks_the_target() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    zfs.faults().break_stream(Verb::Send, 0, 300_000, StreamFault::Stalls);
    let stream = zfs.send(&send_args(None, &s1)).await.unwrap();
    let args = receive_args("dst/a", "1");
    let mut receive = Box::pin(zfs.receive(&args, stream.bytes));
    assert!(futures_poll(&mut receive).await.is_none(), "it waits for data");
    assert!(matches!(zfs.abort_receive(&name("dst/a")).await.unwrap_err().kind, ErrorKind::Busy));
    let destroyed = zfs.destroy_snapshots(&name("src/a"), &[version("1")]).await.remove(0);
    assert!(matches!(destroyed.unwrap_err().kind, ErrorKind::Held), "it is being sent");
    assert_eq!(zfs.running().len(), 2);
    drop(receive);
    assert!(zfs.running().is_empty());
    assert!(zfs.dataset(&name("dst/a")).await.unwrap().resume_token.is_some());
    zfs.abort_receive(&name("dst/a")).await.unwrap();
    assert!(zfs.dataset(&name("dst/a")).await.unwrap_err().is_not_found());
    zfs.destroy_snapshots(&name("src/a"), &[version("1")]).await.remove(0).unwrap();
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_stream_ends_at_the_limit() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    zfs.faults().break_stream(Verb::Send, 0, 300_000, StreamFault::Stalls);
    let error = transfer(&zfs, &send_args(None, &s1), "dst/a", "1").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Stalled(_)), "{error}");
    assert!(error.resume_token().is_some());
}

#[tokio::test]
async fn either_child_may_die_or_run_out_of_space_at_a_byte() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    zfs.faults().break_stream(Verb::Send, 0, 200_000, StreamFault::Dies(killed()));
    zfs.faults().break_stream(Verb::Receive, 1, 200_000, StreamFault::Dies(ErrorKind::NoSpace));
    zfs.faults().break_stream(Verb::Receive, 2, 200_000, StreamFault::Dies(killed()));
    for (nth, expected) in [ErrorKind::Source(String::new()), ErrorKind::NoSpace, killed()].into_iter().enumerate() {
        let error = transfer(&zfs, &send_args(None, &s1), &format!("dst/{nth}"), "1").await.unwrap_err();
        assert_eq!(std::mem::discriminant(&error.kind), std::mem::discriminant(&expected), "{error}");
        assert!(error.resume_token().is_some(), "{error}");
    }
}

#[tokio::test]
async fn a_full_pool_keeps_what_fitted() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    host.set_capacity("dst", Some(300_000)).unwrap();
    let error = transfer(&zfs, &send_args(None, &s1), "dst/a", "1").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NoSpace) && error.resume_token().is_some(), "{error}");
    assert!(host.used(&name("dst")) <= 300_000);
}

#[tokio::test]
async fn the_hook_sees_every_point_and_can_stop_there() {
    let zfs = host(1).zfs();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    zfs.faults().hook(move |point| {
        log.lock().unwrap().push(point.to_string());
        if point.verb == Verb::Hold && point.moment == Moment::After { Action::Hang } else { Action::Proceed }
    });
    take(&zfs, "src/a", "1").await;
    let (tag, one) = (HoldTag::parse("t").unwrap(), [snapshot("src/a", "1")]);
    let mut hold = Box::pin(zfs.hold(&tag, &one));
    assert!(futures_poll(&mut hold).await.is_none());
    drop(hold);
    zfs.faults().clear();
    assert_eq!(zfs.holds(&one).await.unwrap().len(), 1, "it hung after its effect");
    let expected = [
        r#"Before call 0 Snapshot "src/a@1""#,
        r#"After call 0 Snapshot "src/a@1""#,
        r#"Before call 1 Dataset "src/a""#,
        r#"After call 1 Dataset "src/a""#,
        r#"Before call 2 Hold "src/a@1""#,
        r#"After call 2 Hold "src/a@1""#,
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn calls_and_processes_are_counted() {
    let zfs = host(1).zfs();
    take(&zfs, "src/a", "1").await;
    listing(&zfs).await;
    zfs.hold(&HoldTag::parse("t").unwrap(), &[snapshot("src/a", "1")]).await.remove(0).unwrap();
    let calls: Vec<_> = zfs.faults().calls().into_iter().collect();
    assert_eq!(calls, [(Verb::List, 1), (Verb::Dataset, 1), (Verb::Snapshot, 1), (Verb::Hold, 1)]);
    let processes: Vec<_> = zfs.faults().processes().into_iter().collect();
    assert_eq!(processes, [("hold", 1), ("list", 4), ("snapshot", 1)]);
}

/// A short history with faults by seed; what it looks like in the end.
async fn history(seed: u64) -> (Vec<Dataset>, Vec<String>) {
    let zfs = host(seed).zfs();
    zfs.faults().seed(seed, 300);
    let mut errors = Vec::new();
    for round in 0..20 {
        let text = format!("s{round}");
        let results = zfs.snapshot(&[snapshot("src/a", &text)]).await;
        errors.extend(results.into_iter().filter_map(|r| r.err().map(|e| e.to_string())));
        let Ok(dataset) = zfs.dataset(&name("src/a")).await else { continue };
        let Some(newest) = dataset.versions.last() else { continue };
        let result = transfer(&zfs, &send_args(None, &newest.to_ref()), &format!("dst/{round}"), "x").await;
        errors.extend(result.err().map(|e| e.to_string()));
    }
    zfs.faults().clear();
    (listing(&zfs).await, errors)
}

#[tokio::test]
async fn equal_seeds_give_equal_histories() {
    let first = history(7).await;
    assert_eq!(first, history(7).await);
    assert!(!first.1.is_empty(), "faults struck");
    assert_ne!(first, history(8).await);
}

#[tokio::test]
async fn damage_in_a_stream_is_noticed_and_the_rest_sent_again() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    let mut stream = zfs.send(&send_args(None, &s1)).await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream.bytes, &mut bytes).await.unwrap();
    assert_eq!(Some(bytes.len() as u64), stream.expected.get());
    bytes[400_000] ^= 1;
    let args = receive_args("dst/a", "1");
    let error = zfs.receive(&args, Box::pin(std::io::Cursor::new(bytes))).await.unwrap_err();
    let ErrorKind::Interrupted { token } = error.kind else { panic!("{error}") };
    let rest = SendArgs { dataset: name("src/a"), source: SendSource::Resume { token } };
    transfer(&zfs, &rest, "dst/a", "1").await.unwrap();
    assert_eq!(host.content_hash(&name("dst/a")).unwrap(), host.content_hash(&name("src/a")).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_paced_stream_takes_its_time() {
    let host = host(1);
    let zfs = host.zfs();
    let s1 = take(&zfs, "src/a", "1").await;
    zfs.faults().pace(100_000, Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    transfer(&zfs, &send_args(None, &s1), "dst/a", "1").await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 7, "some 700 kB");
    zfs.faults().at_verb(Verb::List, 0, Moment::Before, Action::Delay(Duration::from_secs(9)));
    listing(&zfs).await;
    assert!(start.elapsed() >= Duration::from_secs(15));
}
