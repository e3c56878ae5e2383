//! A daemon's process: what runs in it ends at once when it is killed.

use std::fmt;
use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One of the machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// Always sends.
    Sender,
    /// Always receives.
    Receiver,
    /// Only in worlds of three machines, where it does either, or both.
    Third,
}

impl Host {
    /// Those of every world.
    pub const BOTH: [Host; 2] = [Host::Sender, Host::Receiver];

    /// All that there may be.
    pub const ALL: [Host; 3] = [Host::Sender, Host::Receiver, Host::Third];

    /// Position in an array of all.
    pub fn index(self) -> usize {
        match self {
            Host::Sender => 0,
            Host::Receiver => 1,
            Host::Third => 2,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Host::Sender => "A",
            Host::Receiver => "B",
            Host::Third => "C",
        })
    }
}

/// A life of a daemon, from its start to its death.
#[derive(Debug, Clone, Default)]
pub struct Process {
    death: CancellationToken,
    tasks: TaskTracker,
}

impl Process {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        !self.death.is_cancelled()
    }

    /// Nothing that runs in it is polled again.
    pub fn kill(&self) {
        self.death.cancel();
    }

    /// Returns when it is dead.
    pub async fn death(&self) {
        self.death.cancelled().await;
    }

    /// Goes on if it is alive; otherwise never.
    pub async fn go_on(&self) {
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs something in it; nothing if it dies before that is done.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.death() => None,
            result = work => Some(result),
        }
    }

    /// Runs something in it as a task of its own.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<Option<T>> {
        let process = self.clone();
        self.tasks.spawn(async move { process.run(work).await })
    }

    /// Waits until all its tasks have ended.
    pub async fn reap(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
