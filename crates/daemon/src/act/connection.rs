//! Both sides of an invocation, and the way back to them when a connection broke.

use std::sync::Arc;

use model::event::{Replication, What};
use wire::{CallError, Endpoint};

use super::back_off::back_off;
use super::invocation::Invocation;
use super::watch::Watched;

/// Both sides, connected.
#[derive(Clone)]
pub(super) struct Sides {
    pub(super) sender: Arc<dyn Endpoint>,
    pub(super) receiver: Arc<dyn Endpoint>,
}

/// Reaches both sides.
pub(super) async fn connect(invocation: &Invocation) -> Result<Sides, CallError> {
    let patience = invocation.patience;
    let receiver = tokio::time::timeout(patience.call, invocation.receiver.connect())
        .await
        .unwrap_or_else(|_| Err(CallError::Connection(format!("it did not answer within {:?}", patience.call))));
    let receiver = receiver.map_err(|error| unreachable("receiver", error))?;
    Ok(Sides {
        sender: Watched::new("sender", patience, Arc::clone(&invocation.sender)),
        receiver: Watched::new("receiver", patience, receiver),
    })
}

fn unreachable(side: &str, error: CallError) -> CallError {
    let text = format!("cannot reach the {side}: {error}");
    match error {
        CallError::Connection(_) => CallError::Connection(text),
        CallError::Refused { class, .. } => CallError::Refused { class, message: text },
    }
}

/// Reaches both sides again after `cause`, within the job's window; the error says why not.
pub(super) async fn reconnect(invocation: &Invocation, cause: String) -> Result<Sides, String> {
    let tell = |what| invocation.events.tell(What::Replication(what));
    let window = invocation.reconnect_window;
    let now = invocation.events.clock().now();
    tell(Replication::Reconnecting { error: cause, until: now.saturating_add(window).unwrap_or(now) });
    let mut last = None;
    let tries = async {
        for tries in 1.. {
            tokio::time::sleep(back_off(tries, invocation.events.clock())).await;
            match connect(invocation).await {
                Ok(sides) => return Ok(sides),
                Err(error @ CallError::Connection(_)) => last = Some(error),
                Err(error @ CallError::Refused { .. }) => return Err(error.to_string()),
            }
        }
        Err(String::new())
    };
    let reached = tokio::time::timeout(window, tries).await;
    let reached = reached.unwrap_or_else(|_| {
        let last = last.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
        Err(format!("the other side could not be reached for {window:?}: {last}"))
    });
    match &reached {
        Ok(_) => tell(Replication::Reconnected),
        Err(error) => tell(Replication::ReconnectFailed { error: error.clone() }),
    }
    reached
}
