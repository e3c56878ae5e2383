//! Tasks that belong to a daemon: named, awaited, and unable to take each other down.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use model::event::What;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::events::Events;

#[derive(Default)]
struct Alive {
    next: u64,
    tasks: BTreeMap<u64, (String, Option<AbortHandle>)>,
}

/// The tasks of one daemon. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    alive: Arc<Mutex<Alive>>,
}

/// Takes a task off the list however it ends.
struct Registration {
    id: u64,
    alive: Arc<Mutex<Alive>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).tasks.remove(&self.id);
    }
}

/// Something that counts as a task until this is dropped.
pub(crate) struct Held {
    _registration: Registration,
    _counted: TaskTrackerToken,
}

impl Tasks {
    /// Counts as a task what runs in one of somebody else's.
    pub(crate) fn hold(&self, name: &str) -> Held {
        Held { _registration: self.registration(name), _counted: self.tracker.token() }
    }

    /// Runs a task; `name` says what the daemon waits for if it does not end. A panic in it becomes
    /// an error event.
    pub(crate) fn spawn(&self, name: &str, events: &Events, task: impl Future<Output = ()> + Send + 'static) {
        let registration = self.registration(name);
        let id = registration.id;
        let (events, name) = (events.clone(), name.to_owned());
        let handle = self.tracker.spawn(async move {
            let _registration = registration;
            if let Err(panic) = catch(task).await {
                let message = format!("{name} panicked and has ended: {panic}");
                events.tell(What::Error { subsystem: "job", message });
            }
        });
        // A task that has ended already is off the list and stays off it.
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, abort)) = alive.tasks.get_mut(&id) {
            *abort = Some(handle.abort_handle());
        }
    }

    fn registration(&self, name: &str) -> Registration {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.next += 1;
        let id = alive.next;
        alive.tasks.insert(id, (name.to_owned(), None));
        Registration { id, alive: Arc::clone(&self.alive) }
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The names of those that run.
    pub(crate) fn alive(&self) -> Vec<String> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.tasks.values().map(|(name, _)| name.clone()).collect()
    }

    /// How many run.
    pub(crate) fn count(&self) -> usize {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).tasks.len()
    }

    /// Ends all tasks where they wait, without a chance to clean up: what a kill does.
    pub(crate) fn abort(&self) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.tasks.values().filter_map(|(_, abort)| abort.as_ref()).for_each(AbortHandle::abort);
    }
}

/// Runs a future to its end or to its panic, whose message is the error.
pub(crate) async fn catch<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|panic| message_of(&*panic))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
