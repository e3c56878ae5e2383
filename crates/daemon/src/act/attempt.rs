//! Attempts of an invocation to bring the receiver up to date.

use std::collections::HashSet;
use std::sync::Arc;

use model::event::{Replication, What};
use model::plan::replication::{ReplicationPlan, plan_replication};
use model::view::View;
use model::{DatasetName, RetryClass};
use wire::{CallError, Endpoint};

use super::back_off::back_off;
use super::execute::{Execution, Failure};
use super::invocation::Invocation;
use super::tally::Tally;

/// The attempts of one invocation.
pub(super) struct Attempts<'a> {
    invocation: &'a Invocation,
    tally: &'a Tally,
    /// What another attempt of this invocation would not change.
    given_up: HashSet<DatasetName>,
    /// What the last attempt could not list on the sender.
    unlisted: Vec<DatasetName>,
    /// The last listings, unless something was changed since.
    listed: Option<Listed>,
}

/// Both sides at one time.
pub(super) struct Listed {
    pub(super) receiver: Arc<dyn Endpoint>,
    pub(super) sender_view: View,
    pub(super) receiver_view: View,
}

/// How an attempt ended.
enum Verdict {
    /// Every filesystem is up to date, or will not be in this invocation.
    Done,
    /// Something may work soon.
    TryAgain,
    /// Something may work when the peer is back.
    Reconnect,
}

impl Verdict {
    fn of_error(error: &CallError) -> Self {
        match (error, error.class()) {
            (CallError::Connection(_), _) => Verdict::Reconnect,
            (_, RetryClass::Transient) => Verdict::TryAgain,
            _ => Verdict::Done,
        }
    }

    fn of_failures(failures: &[Failure]) -> Self {
        if failures.iter().any(|failure| failure.connection) {
            Verdict::Reconnect
        } else if failures.iter().any(|failure| failure.class == RetryClass::Transient) {
            Verdict::TryAgain
        } else {
            Verdict::Done
        }
    }
}

impl<'a> Attempts<'a> {
    pub(super) fn new(invocation: &'a Invocation, tally: &'a Tally) -> Self {
        Self { invocation, tally, given_up: HashSet::new(), unlisted: Vec::new(), listed: None }
    }

    /// Tries until nothing is left to do or to try. Gives the listings that are still right.
    pub(super) async fn run(mut self) -> Option<Listed> {
        let attempts = self.invocation.attempts.get();
        for attempt in 1..=attempts {
            self.tell(Replication::AttemptStarted);
            let verdict = self.attempt(attempt == attempts).await;
            self.tell(Replication::AttemptFinished);
            let go_on = match verdict {
                Verdict::Done => false,
                _ if attempt == attempts => false,
                Verdict::TryAgain => {
                    tokio::time::sleep(back_off(attempt, self.invocation.events.clock())).await;
                    true
                }
                Verdict::Reconnect => self.reconnect().await,
            };
            if !go_on {
                break;
            }
        }
        self.listed
    }

    async fn attempt(&mut self, last_attempt: bool) -> Verdict {
        self.listed = None;
        let listed = match self.list().await {
            Ok(listed) => listed,
            Err((error, verdict)) => {
                self.tally.planned(false);
                self.tell(Replication::PlanFailed { error });
                return verdict;
            }
        };
        self.tally.planned(true);
        self.count_unlisted(&listed.sender_view);
        self.tally.looked_at(listed.sender_view.filesystems.len());
        let plan = self.plan(&listed);
        self.tell(Replication::Planned { plan: Arc::clone(&plan) });
        let failures = self.execute(&listed, &plan, last_attempt).await;
        self.given_up.extend(
            failures.iter().filter(|failure| failure.class != RetryClass::Transient).map(|f| f.filesystem.clone()),
        );
        if !Execution::has_work(&plan) {
            self.listed = Some(listed);
        }
        Verdict::of_failures(&failures)
    }

    /// What could not be listed failed, whatever becomes of the rest.
    fn count_unlisted(&mut self, view: &View) {
        for root in self.unlisted.drain(..) {
            self.tally.tried_again(&root);
        }
        for (root, why) in &view.unlisted {
            self.tally.failed(root);
            self.unlisted.push(root.clone());
            let message = format!("cannot list filesystem {:?} and what is below it: {why}", root.as_str());
            self.invocation.events.tell(What::Error { subsystem: "repl", message });
        }
    }

    async fn list(&self) -> Result<Listed, (String, Verdict)> {
        let invocation = self.invocation;
        let receiver = invocation.receiver.connect().await.map_err(|error| {
            let verdict = Verdict::of_error(&error);
            (format!("cannot reach the receiver: {error}"), verdict)
        })?;
        let (sender_view, receiver_view) = tokio::join!(invocation.sender.list(), receiver.list());
        match (sender_view, receiver_view) {
            (Ok(sender_view), Ok(receiver_view)) => Ok(Listed { receiver, sender_view, receiver_view }),
            (Err(sender), Ok(_)) => Err((format!("cannot list the sender: {sender}"), Verdict::of_error(&sender))),
            (Ok(_), Err(receiver)) => {
                Err((format!("cannot list the receiver: {receiver}"), Verdict::of_error(&receiver)))
            }
            (Err(sender), Err(receiver)) => {
                let text = format!("cannot list the sender: {sender}; cannot list the receiver: {receiver}");
                // Trying again helps only if it may help both.
                let verdict = match (Verdict::of_error(&sender), Verdict::of_error(&receiver)) {
                    (Verdict::Done, _) | (_, Verdict::Done) => Verdict::Done,
                    (Verdict::Reconnect, _) | (_, Verdict::Reconnect) => Verdict::Reconnect,
                    _ => Verdict::TryAgain,
                };
                Err((text, verdict))
            }
        }
    }

    /// The plan for what was not given up.
    fn plan(&self, listed: &Listed) -> Arc<ReplicationPlan> {
        let mut plan = plan_replication(&listed.sender_view, &listed.receiver_view, &self.invocation.policy);
        plan.filesystems.retain(|filesystem| !self.given_up.contains(&filesystem.name));
        Arc::new(plan)
    }

    async fn execute(&self, listed: &Listed, plan: &ReplicationPlan, last_attempt: bool) -> Vec<Failure> {
        for filesystem in &plan.filesystems {
            self.tally.tried_again(&filesystem.name);
        }
        let invocation = self.invocation;
        let execution = Execution {
            sender: &*invocation.sender,
            receiver: &*listed.receiver,
            sender_view: &listed.sender_view,
            receiver_view: &listed.receiver_view,
            events: &invocation.events,
            tally: self.tally,
            protection: invocation.policy.protection,
            step_concurrency: invocation.step_concurrency,
            last_attempt,
            plan,
        };
        execution.run().await
    }

    /// Waits for the peer to be back; whether it is.
    async fn reconnect(&self) -> bool {
        let tries = async {
            for tries in 1.. {
                tokio::time::sleep(back_off(tries, self.invocation.events.clock())).await;
                match self.invocation.receiver.connect().await {
                    Ok(_) => return true,
                    Err(CallError::Connection(_)) => {}
                    Err(CallError::Refused { .. }) => return false,
                }
            }
            false
        };
        let window = self.invocation.reconnect_window;
        match tokio::time::timeout(window, tries).await {
            Ok(reached) => reached,
            Err(_) => {
                let message =
                    format!("the receiver could not be reached for {window:?}, giving up until the next wake-up");
                self.invocation.events.tell(What::Error { subsystem: "repl", message });
                false
            }
        }
    }

    fn tell(&self, what: Replication) {
        self.invocation.events.tell(What::Replication(what));
    }
}
