//! How much processor time a child used.
//!
//! The system tells the sum over all children that were reaped. What one of them adds is seen by looking
//! before and after it is reaped.

use std::future::poll_fn;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::event::ProcessorTime;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use tokio::process::Child;
/// Children are reaped one after the other. Those of others in this process, hooks for example, may be
/// reaped at the same instant and are counted with one of these then.
static REAPING: Mutex<()> = Mutex::new(());

/// A child that was reaped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reaped {
    /// How it ended; none if the operating system would not tell.
    pub(super) status: Option<ExitStatus>,
    /// What it used, with its own children; none if the operating system would not tell.
    pub(super) used: Option<ProcessorTime>,
}

/// Waits for the end of a child. Can be dropped and called again.
pub(super) async fn reap(child: &mut Child) -> Reaped {
    let mut end = pin!(child.wait());
    poll_fn(|context| {
        let _one_at_a_time = REAPING.lock().unwrap_or_else(PoisonError::into_inner);
        let before = used_by_children();
        end.as_mut().poll(context).map(|status| Reaped { status: status.ok(), used: used_since(before) })
    })
    .await
}

fn used_since(before: Option<ProcessorTime>) -> Option<ProcessorTime> {
    let (before, now) = (before?, used_by_children()?);
    let user = now.user.saturating_sub(before.user);
    Some(ProcessorTime { user, system: now.system.saturating_sub(before.system) })
}

fn used_by_children() -> Option<ProcessorTime> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    Some(ProcessorTime { user: duration(usage.user_time())?, system: duration(usage.system_time())? })
}

fn duration(time: TimeVal) -> Option<Duration> {
    let seconds = Duration::from_secs(time.tv_sec().try_into().ok()?);
    Some(seconds + Duration::from_micros(time.tv_usec().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_child_computes_is_counted_for_it() {
        let run = |script: &str| tokio::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        let mut busy = run("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
        let busy = reap(&mut busy).await;
        assert!(busy.status.unwrap().success());
        let idle = reap(&mut run("exit 3")).await;
        assert_eq!(idle.status.unwrap().code(), Some(3));
        let (busy, idle) = (busy.used.unwrap(), idle.used.unwrap());
        assert!(busy.user > Duration::from_millis(20), "{busy:?}");
        assert!(busy.user > idle.user * 2, "{busy:?} {idle:?}");
    }
}
