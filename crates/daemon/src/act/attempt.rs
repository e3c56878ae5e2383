//! Attempts of an invocation to bring the receiver up to date.
//!
//! An attempt is what begins with a listing of both sides. One that has a plan is the last: what fails
//! from then on is tried again by itself, within it.

use std::sync::Arc;

use model::RetryClass;
use model::event::{Replication, What};
use model::plan::replication::plan_replication;
use tokio::time::sleep;

use super::back_off::back_off;
use super::connection::reconnect;
use super::execute::Execution;
use super::invocation::Invocation;
use super::sides::{Listed, Sides, SidesFailed};
use super::tally::Tally;

/// The attempts of one invocation.
pub(super) struct Attempts<'a> {
    invocation: &'a Invocation,
    tally: &'a Tally,
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
            let failed = match self.list(sides.take()).await {
                Ok(listed) => {
                    let listed = self.replicate(listed).await;
                    self.tell(Replication::AttemptFinished);
                    return listed;
                }
                Err(failed) => failed,
            };
            self.tally.planned(false);
            self.tell(Replication::PlanFailed { error: failed.to_string() });
            self.tell(Replication::AttemptFinished);
            if attempt == attempts || failed.class() != RetryClass::Transient {
                break;
            }
            if failed.connection() {
                match reconnect(self.invocation, failed.to_string()).await {
                    Ok(reached) => sides = Some(reached),
                    Err(_) => break,
                }
            } else {
                sleep(back_off(attempt, self.invocation.events.clock())).await;
            }
        }
        None
    }

    async fn list(&self, sides: Option<Sides>) -> Result<Listed, SidesFailed> {
        let sides = match sides {
            Some(sides) => sides,
            None => Sides::connect(&*self.invocation.sender, &*self.invocation.receiver).await?,
        };
        sides.list().await
    }

    async fn replicate(&self, listed: Listed) -> Option<Listed> {
        let Listed { sides, sender_view, receiver_view, .. } = &listed;
        self.tally.planned(true);
        self.tally.count_unlisted(sender_view, &self.invocation.events, "repl");
        self.tally.looked_at(sender_view.filesystems.len());
        let plan = Arc::new(plan_replication(sender_view, receiver_view, &self.invocation.policy));
        self.tell(Replication::Planned { plan: Arc::clone(&plan) });
        let views = (sender_view, receiver_view);
        let failures = Execution::new(self.invocation, self.tally, sides.clone(), &plan, views).run().await;
        self.tally.replicated(failures == 0 && sender_view.unlisted.is_empty());
        (!Execution::has_work(&plan, views, &self.invocation.policy)).then_some(listed)
    }

    fn tell(&self, what: Replication) {
        self.invocation.events.tell(What::Replication(what));
    }
}
