//! Attempts of an invocation to bring the receiver up to date.
//!
//! An attempt is what begins with a listing of both sides. One that has a plan is the last: what fails
//! from then on is tried again by itself, within it.

use std::sync::Arc;

use model::RetryClass;
use model::event::{Replication, What};
use model::plan::replication::plan_replication;
use model::view::View;
use wire::{CallError, Endpoint};

use super::back_off::back_off;
use super::connection::{Sides, connect, reconnect};
use super::execute::Execution;
use super::invocation::Invocation;
use super::tally::Tally;

/// The attempts of one invocation.
pub(super) struct Attempts<'a> {
    invocation: &'a Invocation,
    tally: &'a Tally,
}

/// Both sides at one time.
pub(super) struct Listed {
    pub(super) receiver: Arc<dyn Endpoint>,
    pub(super) sender_view: View,
    pub(super) receiver_view: View,
}

/// Why there is nothing to plan with.
struct CannotList {
    error: String,
    then: Then,
}

/// What helps against a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing, in this invocation.
    Stop,
    TryAgain,
    /// To wait for the peer.
    Reconnect,
}

impl Then {
    fn after(error: &CallError) -> Self {
        match (error, error.class()) {
            (CallError::Connection(_), _) => Then::Reconnect,
            (_, RetryClass::Transient) => Then::TryAgain,
            _ => Then::Stop,
        }
    }

    /// Trying again helps only if it may help both.
    fn after_both(a: &CallError, b: &CallError) -> Self {
        match (Self::after(a), Self::after(b)) {
            (Then::Stop, _) | (_, Then::Stop) => Then::Stop,
            (Then::Reconnect, _) | (_, Then::Reconnect) => Then::Reconnect,
            (Then::TryAgain, Then::TryAgain) => Then::TryAgain,
        }
    }
}

impl<'a> Attempts<'a> {
    pub(super) fn new(invocation: &'a Invocation, tally: &'a Tally) -> Self {
        Self { invocation, tally }
    }

    /// Tries until there is a plan, and executes it. Gives the listings if they are still right.
    pub(super) async fn run(self) -> Option<Listed> {
        let attempts = self.invocation.attempts.get();
        let mut sides = None;
        for attempt in 1..=attempts {
            self.tell(Replication::AttemptStarted);
            let CannotList { error, then } = match self.list(sides.take()).await {
                Ok((sides, listed)) => {
                    let listed = self.replicate(sides, listed).await;
                    self.tell(Replication::AttemptFinished);
                    return listed;
                }
                Err(cannot) => cannot,
            };
            self.tally.planned(false);
            self.tell(Replication::PlanFailed { error: error.clone() });
            self.tell(Replication::AttemptFinished);
            match then {
                _ if attempt == attempts => break,
                Then::Stop => break,
                Then::TryAgain => tokio::time::sleep(back_off(attempt, self.invocation.events.clock())).await,
                Then::Reconnect => match reconnect(self.invocation, error).await {
                    Ok(reached) => sides = Some(reached),
                    Err(_) => break,
                },
            }
        }
        None
    }

    async fn list(&self, sides: Option<Sides>) -> Result<(Sides, Listed), CannotList> {
        let sides = match sides {
            Some(sides) => sides,
            None => connect(self.invocation)
                .await
                .map_err(|error| CannotList { then: Then::after(&error), error: error.to_string() })?,
        };
        let (error, then) = match tokio::join!(sides.sender.list(), sides.receiver.list()) {
            (Ok(sender_view), Ok(receiver_view)) => {
                let receiver = Arc::clone(&sides.receiver);
                return Ok((sides, Listed { receiver, sender_view, receiver_view }));
            }
            (Err(sender), Ok(_)) => (format!("cannot list the sender: {sender}"), Then::after(&sender)),
            (Ok(_), Err(receiver)) => (format!("cannot list the receiver: {receiver}"), Then::after(&receiver)),
            (Err(sender), Err(receiver)) => (
                format!("cannot list the sender: {sender}; cannot list the receiver: {receiver}"),
                Then::after_both(&sender, &receiver),
            ),
        };
        Err(CannotList { error, then })
    }

    async fn replicate(&self, sides: Sides, listed: Listed) -> Option<Listed> {
        let Listed { sender_view, receiver_view, .. } = &listed;
        self.tally.planned(true);
        self.tally.looked_at(sender_view.filesystems.len());
        let plan = Arc::new(plan_replication(sender_view, receiver_view, &self.invocation.policy));
        self.tell(Replication::Planned { plan: Arc::clone(&plan) });
        let views = (sender_view, receiver_view);
        let failures = Execution::new(self.invocation, self.tally, sides, &plan, views).run().await;
        self.tally.replicated(failures == 0);
        (!Execution::has_work(&plan)).then_some(listed)
    }

    fn tell(&self, what: Replication) {
        self.invocation.events.tell(What::Replication(what));
    }
}
