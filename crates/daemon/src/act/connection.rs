//! The way back to both sides when a connection broke.

use model::RetryClass;
use model::event::{Replication, What};

use super::back_off::back_off;
use super::invocation::Invocation;
use super::sides::Sides;

/// Reaches both sides again after `cause`, within the job's window; the error says why not.
pub(super) async fn reconnect(invocation: &Invocation, cause: String) -> Result<Sides, String> {
    let tell = |what| invocation.events.tell(What::Replication(what));
    let window = invocation.reconnect_window;
    let now = invocation.events.clock().now();
    tell(Replication::Reconnecting { error: cause.clone(), until: now.saturating_add(window).unwrap_or(now) });
    let mut last = None;
    let tries = async {
        for tries in 1.. {
            tokio::time::sleep(back_off(tries, invocation.events.clock())).await;
            match Sides::connect(&*invocation.sender, &*invocation.receiver).await {
                Ok(sides) => return Ok(sides),
                Err(failed) if failed.class() == RetryClass::Transient => last = Some(failed),
                Err(failed) => return Err(failed.to_string()),
            }
        }
        Err(String::new())
    };
    let reached = tokio::time::timeout(window, tries).await;
    let reached = reached.unwrap_or_else(|_| {
        let last = last.map_or(cause, |failed| failed.to_string());
        Err(format!("giving up after {window:?} of trying to connect: {last}"))
    });
    match &reached {
        Ok(_) => tell(Replication::Reconnected),
        Err(error) => tell(Replication::ReconnectFailed { error: error.clone() }),
    }
    reached
}
