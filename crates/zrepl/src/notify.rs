//! What the service manager is told: that the daemon is ready, reloads, stops, and lives. See
//! sd_notify(3); without `NOTIFY_SOCKET` nobody is told.

use std::future::Future;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

/// What is asked for at a time: enough for what follows the last wait for hooks, too, see
/// [`daemon::limits::STOP`].
const MORE_TIME: Duration = Duration::from_secs(90);

/// The way to the service manager. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Notify {
    socket: Option<Arc<UnixDatagram>>,
    /// A quarter of what may pass between two signs of life.
    interval: Option<Duration>,
}

impl Notify {
    /// As the service manager that started this program wishes.
    pub(crate) fn from_environment() -> Notify {
        let set = |name: &str| std::env::var(name).ok();
        let ours = set("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = set("WATCHDOG_USEC").filter(|_| ours).and_then(|limit| limit.parse().ok());
        Notify::new(set("NOTIFY_SOCKET").as_deref(), limit.map(Duration::from_micros))
    }

    fn new(path: Option<&str>, limit: Option<Duration>) -> Notify {
        let socket = path.filter(|path| !path.is_empty()).and_then(connect).map(Arc::new);
        Notify { interval: limit.map(|limit| limit / 4).filter(|pause| socket.is_some() && !pause.is_zero()), socket }
    }

    /// Tells a state. A manager that does not listen is not waited for.
    pub(crate) fn say(&self, state: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(state.as_bytes());
        }
    }

    /// Tells that the configuration is read again; `READY=1` follows.
    pub(crate) fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// Does the work of a stop, and asks for more time than the manager's limit again and again, as long
    /// as `takes_time` says that it is needed.
    pub(crate) async fn with_more_time<T>(&self, takes_time: impl Fn() -> bool, work: impl Future<Output = T>) -> T {
        self.with_more_time_every(MORE_TIME / 6, takes_time, work).await
    }

    async fn with_more_time_every<T>(
        &self,
        pause: Duration,
        takes_time: impl Fn() -> bool,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if takes_time() {
                self.say(&format!("EXTEND_TIMEOUT_USEC={}", MORE_TIME.as_micros()));
            }
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Gives the next sign of life when it is due and `alive` says that there is any; never ends if nobody
    /// waits for one. One that is missing does no harm.
    pub(crate) async fn watchdog(&self, alive: impl AsyncFnOnce() -> bool) {
        match self.interval {
            Some(interval) => {
                tokio::time::sleep(interval).await;
                if alive().await {
                    self.say("WATCHDOG=1");
                }
            }
            None => std::future::pending().await,
        }
    }
}

fn connect(path: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    match path.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).ok()?;
            socket.connect_addr(&address).ok()?;
        }
        _ => socket.connect(path).ok()?,
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_manager_hears_of_states_and_signs_of_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let heard = || {
            let mut bytes = [0; 200];
            let length = manager.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let notify = Notify::new(path.to_str(), Some(Duration::from_millis(4)));
        notify.say("READY=1");
        assert_eq!(heard(), "READY=1");
        notify.reloading();
        assert_eq!(heard(), "RELOADING=1");
        assert_eq!(notify.interval, Some(Duration::from_millis(1)));
        notify.watchdog(async || true).await;
        assert_eq!(heard(), "WATCHDOG=1");
        notify.watchdog(async || false).await;
        notify.say("STOPPING=1");
        assert_eq!(heard(), "STOPPING=1", "who does not answer gives no sign of life");
        drop(manager);
        notify.say("STOPPING=1");
    }

    #[tokio::test]
    async fn the_manager_is_asked_for_time_as_long_as_hooks_are_undone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notify = Notify::new(path.to_str(), None);
        let looks = std::cell::Cell::new(0);
        // Hooks are undone when this is asked for the third, fourth and fifth time.
        let undoing = || {
            looks.set(looks.get() + 1);
            (3..6).contains(&looks.get())
        };
        let work = async {
            while looks.get() < 8 {
                tokio::task::yield_now().await;
            }
            "done"
        };
        assert_eq!(notify.with_more_time_every(Duration::from_millis(1), undoing, work).await, "done");
        let mut heard = Vec::new();
        let mut bytes = [0; 200];
        while let Ok(length) = manager.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        assert_eq!(heard, ["EXTEND_TIMEOUT_USEC=90000000"; 3]);
        assert!(MORE_TIME > daemon::limits::STOP * 2, "until the next time, and for what comes after the hooks");
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let notify = Notify::new(None, Some(Duration::from_secs(30)));
        assert!(notify.socket.is_none() && notify.interval.is_none());
        notify.say("READY=1");
    }
}
