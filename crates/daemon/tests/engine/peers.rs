//! Sides that are not quite as this program's own: what is asked of them, and what they cannot tell.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use daemon::act::{Invocation, replicate_and_prune};
use model::plan::resolve::WhenDiverged;
use model::protection::ProtectionStrategy;
use model::view::View;
use model::{DatasetName, VersionKind, VersionRef};
use wire::{
    ByteStream, CallError, Connector, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RollBackRequest,
    SendReply, SendRequest,
};
use zfs::fake::{Action, Moment, PoolState, Verb};
use zfs::{ErrorKind, Snapshot, Zfs};

use crate::world::{Direct, Settings, World, filter, name, received, short};

/// A side that tells what it was told, and does not know what it has of a filesystem for so many listings.
struct Odd {
    inner: Arc<dyn Endpoint>,
    completed: Mutex<Vec<VersionRef>>,
    unlisted: AtomicU32,
    /// Like zrepl's.
    keeps_protections_to_itself: bool,
}

impl Odd {
    fn new(inner: Arc<dyn Endpoint>, unlisted: u32) -> Arc<Self> {
        let unlisted = AtomicU32::new(unlisted);
        Arc::new(Self { inner, completed: Mutex::default(), unlisted, keeps_protections_to_itself: false })
    }

    fn like_zrepl(inner: Arc<dyn Endpoint>) -> Arc<Self> {
        let (completed, unlisted) = Default::default();
        Arc::new(Self { inner, completed, unlisted, keeps_protections_to_itself: true })
    }

    fn view(&self, mut view: View) -> View {
        view.protections_known &= !self.keeps_protections_to_itself;
        let left = self.unlisted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            view.filesystems.remove(&name("src/a"));
            view.unlisted.insert(name("src/a"), "it is busy".to_owned());
        }
        view
    }
}

/// One that is there already.
struct There(Arc<Odd>);

#[async_trait]
impl Connector for There {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        Ok(self.0.clone())
    }
}

#[async_trait]
impl Endpoint for Odd {
    async fn list(&self) -> Result<View, CallError> {
        Ok(self.view(self.inner.list().await?))
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        Ok(self.view(self.inner.list_some(filesystems).await?))
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        self.inner.send(request).await
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.inner.receive(request, stream).await
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        self.completed.lock().unwrap().push(request.to.clone());
        self.inner.send_completed(request).await
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.inner.confirm_received(request).await
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        self.inner.destroy_snapshots(requests).await
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<model::VersionName>, CallError> {
        self.inner.roll_back(request).await
    }
}

async fn replicated(settings: Settings) -> World {
    let world = World::new(settings);
    world.create(&["src/a"]);
    for snapshot in ["1", "2"] {
        world.snapshot(snapshot, &["src/a"]).await;
    }
    world.run_well().await;
    world.events();
    world
}

/// zrepl's sender, told that a bookmark arrived, protects nothing and removes what the job has.
#[tokio::test(start_paused = true)]
async fn no_sender_is_told_that_a_bookmark_arrived() {
    for strategy in [ProtectionStrategy::Incremental, ProtectionStrategy::Nothing] {
        let mut world = replicated(Settings { strategy, ..Settings::default() }).await;
        world.settings.conflicts.diverged = WhenDiverged::RollbackReceiver;
        if strategy == ProtectionStrategy::Incremental {
            for result in world.source.zfs().destroy_snapshots(&name("src/a"), &[short("2")]).await {
                result.unwrap();
            }
        }
        let alien = Snapshot { dataset: name(&received("src/a")), name: short("alien") };
        world.target.zfs().snapshot(&[alien]).await.into_iter().for_each(Result::unwrap);
        world.snapshot("3", &["src/a"]).await;
        let sender = Odd::like_zrepl(world.daemons.sender.clone());
        let invocation = Invocation { sender: Arc::new(There(sender.clone())), ..world.invocation() };
        let summary = replicate_and_prune(invocation).await;
        assert_eq!((summary.errors, summary.steps), (0, 1), "{:?}", world.failures());
        world.assert_replicated("src/a").await;
        let told = std::mem::take(&mut *sender.completed.lock().unwrap());
        assert!(told.iter().all(|version| version.kind == VersionKind::Snapshot), "{told:?}");
        assert_eq!(told.iter().map(|version| version.name.as_str()).collect::<Vec<_>>(), ["3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_receiver_cannot_list_for_a_moment_is_replicated_all_the_same() {
    for (unlisted, outcome) in [(1, (0, 1, true)), (2, (0, 1, true)), (3, (1, 0, false)), (9, (1, 0, false))] {
        let world = replicated(Settings::default()).await;
        world.snapshot("3", &["src/a"]).await;
        let sink = Direct(world.daemons.sink.clone()).connect().await.unwrap();
        let receiver = Arc::new(There(Odd::new(sink, unlisted)));
        let summary = replicate_and_prune(Invocation { receiver, ..world.invocation() }).await;
        assert_eq!((summary.errors, summary.steps, summary.replicated), outcome, "{unlisted}");
        let failures = world.failures();
        let tries = usize::try_from(unlisted.min(3)).unwrap();
        assert_eq!(failures.len(), tries, "{failures:?}");
        assert!(failures.iter().all(|why| why.contains("cannot list what it has of it: it is busy")), "{failures:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_base_that_could_not_be_protected_is_tried_again() {
    let world = replicated(Settings::default()).await;
    world.source.rollback(&Snapshot { dataset: name("src/a"), name: short("1") }).unwrap();
    let failed = AtomicBool::new(false);
    world.daemons.source_zfs.faults().hook(move |point| {
        let first =
            point.verb == Verb::Bookmark && point.moment == Moment::Before && !failed.swap(true, Ordering::Relaxed);
        if first { Action::Fail(ErrorKind::Busy) } else { Action::Proceed }
    });
    assert_eq!(world.run().await.errors, 1);
    assert_eq!(world.source_versions("src/a").await, ["#zrepl_CURSOR_G_GUID_J_push", "@1"]);
}

#[tokio::test(start_paused = true)]
async fn an_exported_pool_is_an_error_and_not_one_without_filesystems() {
    let world = World::new(Settings { filesystems: filter(&["src/a", "src/gone", "usb/a"]), ..Settings::default() });
    world.source.create_pool(&name("usb")).unwrap();
    world.create(&["src/a", "usb/a"]);
    world.snapshot("1", &["src/a", "usb/a"]).await;
    world.source.set_pool_state("usb", PoolState::Exported).unwrap();
    let summary = world.run().await;
    let failures = world.failures();
    assert_eq!((summary.errors, summary.steps, summary.replicated), (1, 1, false), "{failures:?}");
    assert!(failures[0].starts_with(r#"cannot list filesystem "usb/a""#), "{failures:?}");
    let asked = ["src/a", "src/gone", "usb/a"].map(name);
    let view = world.daemons.sender.list_some(&asked).await.unwrap();
    assert_eq!(view.filesystems.into_keys().collect::<Vec<_>>(), [name("src/a")]);
    assert_eq!(view.unlisted.into_keys().collect::<Vec<_>>(), [name("usb/a")]);
    world.source.set_pool_state("usb", PoolState::Online).unwrap();
    assert_eq!(world.run_well().await.steps, 1);
}
