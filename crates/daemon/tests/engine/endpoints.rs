//! What endpoints answer to callers that they cannot trust.

use std::sync::Arc;

use daemon::endpoint::ConfiguredJobs;
use model::event::What;
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::{ClientIdentity, HoldTag, RetryClass, VersionKind, VersionRef};
use tokio::io::AsyncReadExt;
use wire::{ByteStream, CallError, Connector, DestroyRequest, Endpoint, ReceiveRequest, SendRequest, Service};
use zfs::{Snapshot, Zfs};

use crate::world::{Direct, Settings, World, name, received, short};

async fn two_snapshots() -> World {
    let world = World::new(Settings::default());
    world.create(&["src/a", "src/b"]);
    world.snapshot("1", &["src/a", "src/b"]).await;
    world.write("src/a", "second", 2_000);
    world.snapshot("2", &["src/a", "src/b"]).await;
    world
}

fn snapshot(world: &World, filesystem: &str, text: &str) -> VersionRef {
    let guid = world.source.snapshot_guid(&name(filesystem), &short(text)).unwrap();
    VersionRef { kind: VersionKind::Snapshot, name: short(text), guid }
}

fn send(world: &World, from: Option<&str>, to: &str) -> SendRequest {
    SendRequest {
        filesystem: name("src/a"),
        from: from.map(|from| snapshot(world, "src/a", from)),
        to: snapshot(world, "src/a", to),
        resume_token: None,
        protection: ProtectionPolicy::default(),
    }
}

fn receive(request: &SendRequest) -> ReceiveRequest {
    ReceiveRequest {
        filesystem: request.filesystem.clone(),
        from: request.from.clone(),
        to: request.to.clone(),
        clear_resume_token: true,
        protection: request.protection,
    }
}

async fn receiver(world: &World) -> Arc<dyn Endpoint> {
    Direct(world.daemons.sink.clone()).connect().await.unwrap()
}

async fn stream(world: &World, request: &SendRequest) -> ByteStream {
    world.daemons.sender.send(request).await.unwrap().stream
}

/// Everything that the target's pool has.
async fn datasets(world: &World) -> Vec<String> {
    let listing = world.target.zfs().list(&zfs::Scope::Everything).await.unwrap();
    listing.datasets.into_iter().map(|dataset| dataset.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_the_announced_one_changes_nothing() {
    let world = two_snapshots().await;
    let receiver = receiver(&world).await;
    let first = send(&world, None, "1");
    let before = datasets(&world).await;
    let refusal = async |request: ReceiveRequest, stream: ByteStream| {
        let error = receiver.receive(&request, stream).await.unwrap_err();
        assert_eq!(datasets(&world).await, before);
        error
    };

    let other_to = receive(&send(&world, None, "2"));
    let error = refusal(other_to, stream(&world, &first).await).await;
    assert!(error.to_string().contains("carries a snapshot with guid"), "{error}");
    assert_eq!(error.class(), RetryClass::Permanent);

    let other_from = receive(&send(&world, Some("1"), "2"));
    let error = refusal(other_from, stream(&world, &send(&world, None, "2")).await).await;
    assert!(error.to_string().contains("is incremental from nothing, not from guid"), "{error}");

    let error = refusal(receive(&first), Box::pin(&b""[..])).await;
    assert_eq!(error.to_string(), "the stream ended before its first record");
    let error = refusal(receive(&first), Box::pin(&[0x5a; 4096][..])).await;
    assert!(error.to_string().contains("does not begin like a send stream"), "{error}");

    let package: &'static [u8] = include_bytes!("../../../zfs/testdata/head-R");
    let error = refusal(receive(&first), Box::pin(package)).await;
    assert!(error.to_string().contains("package of several filesystems"), "{error}");

    let mut bookmark = receive(&first);
    bookmark.to.kind = VersionKind::Bookmark;
    let error = refusal(bookmark, stream(&world, &first).await).await;
    assert!(error.to_string().contains("is not a snapshot"), "{error}");
}

/// What a client of zrepl's protocol sends, which tells no base.
fn announced(request: &SendRequest) -> ReceiveRequest {
    ReceiveRequest { from: None, ..receive(request) }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_is_incremental_from_is_told_by_its_head_if_the_client_does_not() {
    let world = two_snapshots().await;
    let receiver = receiver(&world).await;
    let (first, second) = (send(&world, None, "1"), send(&world, Some("1"), "2"));
    for request in [&first, &second] {
        let stream = stream(&world, request).await;
        receiver.receive_announced(&announced(request), stream).await.unwrap();
    }
    assert_eq!(world.target_versions("src/a").await, ["@1", "@2 zrepl_last_received_J_sink"]);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_step_has_its_own_protection_whoever_tells_the_base() {
    let world = two_snapshots().await;
    let receiver = receiver(&world).await;
    let (first, second) = (send(&world, None, "1"), send(&world, Some("1"), "2"));
    let protection = ProtectionPolicy { initial: ProtectionStrategy::Nothing, ..ProtectionPolicy::default() };
    for (request, expected) in [(&first, &["@1"][..]), (&second, &["@1", "@2 zrepl_last_received_J_sink"][..])] {
        let stream = stream(&world, request).await;
        receiver.receive_announced(&ReceiveRequest { protection, ..announced(request) }, stream).await.unwrap();
        assert_eq!(world.target_versions("src/a").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_told_base_everything_else_is_checked_all_the_same() {
    let world = two_snapshots().await;
    let receiver = receiver(&world).await;
    let (first, second) = (send(&world, None, "1"), send(&world, Some("1"), "2"));
    let refusal = async |request: ReceiveRequest, stream: ByteStream| {
        let before = datasets(&world).await;
        let error = receiver.receive_announced(&request, stream).await.unwrap_err();
        assert_eq!(datasets(&world).await, before);
        error.to_string()
    };
    let error = refusal(announced(&second), stream(&world, &first).await).await;
    assert!(error.contains("carries a snapshot with guid"), "{error}");
    let package: &'static [u8] = include_bytes!("../../../zfs/testdata/head-R");
    let error = refusal(announced(&first), Box::pin(package)).await;
    assert!(error.contains("package of several filesystems"), "{error}");
    let mut bookmark = announced(&first);
    bookmark.to.kind = VersionKind::Bookmark;
    let error = refusal(bookmark, stream(&world, &first).await).await;
    assert!(error.contains("is not a snapshot"), "{error}");

    let received = stream(&world, &first).await;
    receiver.receive_announced(&announced(&first), received).await.unwrap();
    // A full stream must not replace it, also if it is not announced as one.
    let full = send(&world, None, "2");
    let error = refusal(announced(&full), stream(&world, &full).await).await;
    assert!(error.contains("it has snapshots"), "{error}");
    let sender: &dyn Endpoint = &*world.daemons.sender;
    let error = sender.receive_announced(&announced(&first), Box::pin(&b""[..])).await.unwrap_err();
    assert_eq!(error.to_string(), "sender does not implement Receive()");
}

#[tokio::test(start_paused = true)]
async fn a_target_with_snapshots_is_not_replaced_by_a_full_stream() {
    let world = two_snapshots().await;
    world.run_well().await;
    let receiver = receiver(&world).await;
    let first = send(&world, None, "1");
    let error = receiver.receive(&receive(&first), stream(&world, &first).await).await.unwrap_err();
    assert!(error.to_string().contains("it has snapshots"), "{error}");
    assert_eq!(world.target_versions("src/a").await, ["@1", "@2 zrepl_last_received_J_sink"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_outside_the_filter_can_be_reached() {
    let world = two_snapshots().await;
    let sender = &world.daemons.sender;
    world.write("src", "root", 100);
    world.snapshot("1", &["src"]).await;
    let request = SendRequest { filesystem: name("src"), to: snapshot(&world, "src", "1"), ..send(&world, None, "1") };
    let destroy = DestroyRequest { filesystem: name("src"), snapshots: vec![request.to.clone()] };
    let refusals = [
        sender.send(&request).await.map(|_| ()),
        sender.send_completed(&request).await,
        sender.destroy_snapshots(&[destroy]).await.map(|_| ()),
    ];
    for refusal in refusals {
        let text = refusal.unwrap_err().to_string();
        assert_eq!(text, "endpoint does not allow access to filesystem src");
    }
    assert_eq!(world.source_versions("src").await, ["@1"]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_was_made_anew_is_not_sent_and_nothing_is_left_behind() {
    let world = two_snapshots().await;
    world.run_well().await;
    world.snapshot("3", &["src/a"]).await;
    let request = send(&world, Some("2"), "3");
    world.source.zfs().destroy_snapshots(&name("src/a"), &[short("3")]).await.remove(0).unwrap();
    world.snapshot("3", &["src/a"]).await;
    let before = world.source_versions("src/a").await;
    let error = world.daemons.sender.send(&request).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another snapshot has its name"), "{error}");
    assert_eq!(world.source_versions("src/a").await, before);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_step_is_refused_and_a_broken_one_not_used() {
    let world = two_snapshots().await;
    world.daemons.target_zfs.faults().break_stream(
        zfs::fake::Verb::Receive,
        0,
        5_000,
        zfs::fake::StreamFault::Dies(zfs::ErrorKind::Killed { command: "zfs recv".into(), signal: 9 }),
    );
    let receiver = receiver(&world).await;
    let first = send(&world, None, "1");
    receiver.receive(&receive(&first), stream(&world, &first).await).await.unwrap_err();
    let token = receiver.list().await.unwrap().filesystems[&name("src/a")].partial.clone().unwrap().token;
    let with_token =
        |request: SendRequest, token: &str| SendRequest { resume_token: Some(token.to_owned()), ..request };
    let refusal = async |request: SendRequest| world.daemons.sender.send(&request).await.map(|_| ()).unwrap_err();

    let error = refusal(with_token(send(&world, None, "2"), &token)).await;
    assert!(error.to_string().contains("is not for the step"), "{error}");
    let to = snapshot(&world, "src/b", "1");
    let other = SendRequest { filesystem: name("src/b"), to, ..send(&world, None, "1") };
    let error = refusal(with_token(other, &token)).await;
    assert!(error.to_string().contains("not for filesystem"), "{error}");

    let reply = world.daemons.sender.send(&with_token(send(&world, None, "1"), "1-dead-beef-00")).await.unwrap();
    assert!(!reply.used_resume_token);
    drop(reply);
    let reply = world.daemons.sender.send(&with_token(send(&world, None, "1"), &token)).await.unwrap();
    assert!(reply.used_resume_token);
    let error = receiver.receive(&receive(&first), reply.stream).await.unwrap_err();
    assert!(error.to_string().contains("continues an interrupted one"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_filesystem_is_sent_once_at_a_time() {
    let world = two_snapshots().await;
    let request = send(&world, None, "1");
    let first = world.daemons.sender.send(&request).await.unwrap();
    let error = world.daemons.sender.send(&request).await.map(|_| ()).unwrap_err();
    assert_eq!(error.class(), RetryClass::Transient);
    assert!(error.to_string().contains("still under way"), "{error}");
    drop(first);
    let mut bytes = Vec::new();
    stream(&world, &request).await.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.len() > 10_000);
}

#[tokio::test(start_paused = true)]
async fn confirming_twice_starts_no_further_process() {
    let world = two_snapshots().await;
    world.run_well().await;
    let receiver = receiver(&world).await;
    let step = send(&world, Some("1"), "2");
    let before = world.processes();
    world.daemons.sender.send_completed(&step).await.unwrap();
    receiver.confirm_received(&receive(&step)).await.unwrap();
    assert_eq!(world.processes(), before);
}

#[tokio::test(start_paused = true)]
async fn stale_protections_are_removed_and_told() {
    let world = two_snapshots().await;
    world.run_well().await;
    let zfs = world.source.zfs();
    let tag = HoldTag::parse("zrepl_STEP_J_push").unwrap();
    let snapshots = ["src/a", "src/b"].map(|filesystem| Snapshot { dataset: name(filesystem), name: short("1") });
    zfs.hold(&tag, &snapshots).await;
    zfs.bookmark(
        &name("src/a"),
        &snapshot(&world, "src/a", "1"),
        &model::protection::cursor_name(snapshot(&world, "src/a", "1").guid, &crate::world::job("push")).unwrap(),
    )
    .await
    .unwrap();
    let others = HoldTag::parse("zrepl_STEP_J_other").unwrap();
    zfs.hold(&others, &snapshots[..1]).await;
    world.events();
    let jobs = ConfiguredJobs::default();
    assert_eq!(world.daemons.sender.clean_and_warn(&jobs).await.unwrap(), 2);
    let told = world.events().into_iter().filter(|what| matches!(what, What::Protection { .. })).count();
    assert_eq!(told, 2);
    assert_eq!(world.source_versions("src/b").await, ["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2"]);
    // An older cursor may be all that is left of the base; only what knows the receiver removes it.
    assert_eq!(
        world.source_versions("src/a").await,
        ["#zrepl_CURSOR_G_GUID_J_push", "@1 zrepl_STEP_J_other", "#zrepl_CURSOR_G_GUID_J_push", "@2"]
    );
    assert_eq!(world.daemons.sender.clean_and_warn(&jobs).await.unwrap(), 0);
    assert_eq!(world.daemons.sink.clean_and_warn(&jobs).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_has_one_receiver_of_its_own() {
    let world = two_snapshots().await;
    let endpoint = |text: &str| world.daemons.sink.endpoint_for(&ClientIdentity::parse(text).unwrap());
    let (one, again, other) = (endpoint("x").unwrap(), endpoint("x").unwrap(), endpoint("y").unwrap());
    assert!(Arc::ptr_eq(&one, &again));
    assert!(!Arc::ptr_eq(&one, &other));
    let error = endpoint(&"x".repeat(250)).err().unwrap();
    assert!(error.to_string().contains("cannot be a dataset"), "{error}");

    let request = send(&world, None, "1");
    one.receive(&receive(&request), stream(&world, &request).await).await.unwrap();
    assert!(other.list().await.unwrap().filesystems.is_empty());
    assert_eq!(World::versions(&world.target, "dst/sink/x/src/a").await, ["@1 zrepl_last_received_J_sink"]);
    assert_eq!(World::versions(&world.target, &received("src/a")).await, ["missing"]);
}

#[tokio::test(start_paused = true)]
async fn each_half_refuses_what_the_other_is_for() {
    let world = two_snapshots().await;
    let (sender, receiver) = (&world.daemons.sender, receiver(&world).await);
    let request = send(&world, None, "1");
    let refused = |error: CallError| assert_eq!(error.class(), RetryClass::Permanent);
    refused(sender.receive(&receive(&request), Box::pin(&b""[..])).await.unwrap_err());
    refused(sender.confirm_received(&receive(&request)).await.unwrap_err());
    refused(receiver.send(&request).await.map(|_| ()).unwrap_err());
    receiver.send_completed(&request).await.unwrap();
}
