//! Attempts of an invocation to bring the receiver up to date.

use std::collections::HashSet;
use std::sync::Arc;

use model::event::{Replication, What};
use model::plan::replication::{ReplicationPlan, plan_replication};
use model::{DatasetName, RetryClass};

use super::back_off::back_off;
use super::execute::{Execution, Failure};
use super::invocation::Invocation;
use super::sides::{Listed, Sides, SidesFailed};
use super::tally::Tally;

/// The attempts of one invocation.
pub(super) struct Attempts<'a> {
    invocation: &'a Invocation,
    tally: &'a Tally,
    /// What another attempt of this invocation would not change.
    given_up: HashSet<DatasetName>,
    /// The last listings, unless something was changed since.
    listed: Option<Listed>,
}

/// How an attempt ended.
enum Verdict {
    /// Every filesystem is up to date, or will not be in this invocation.
    Done,
    /// Something may work soon.
    TryAgain,
    /// Something may work when a side that is away is back.
    Reconnect,
}

impl Verdict {
    fn of_sides(failed: &SidesFailed) -> Self {
        match (failed.class(), failed.connection()) {
            (RetryClass::Transient, true) => Verdict::Reconnect,
            (RetryClass::Transient, false) => Verdict::TryAgain,
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
        Self { invocation, tally, given_up: HashSet::new(), listed: None }
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
            Err(failed) => {
                self.tally.planned(false);
                self.tell(Replication::PlanFailed { error: failed.to_string() });
                return Verdict::of_sides(&failed);
            }
        };
        self.tally.planned(true);
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

    async fn list(&self) -> Result<Listed, SidesFailed> {
        self.connect().await?.list().await
    }

    async fn connect(&self) -> Result<Sides, SidesFailed> {
        Sides::connect(&*self.invocation.sender, &*self.invocation.receiver).await
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
            sender: &*listed.sides.sender,
            receiver: &*listed.sides.receiver,
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

    /// Waits for whichever side is away to be back; whether both are there.
    async fn reconnect(&self) -> bool {
        let mut away = None;
        let tries = async {
            for tries in 1.. {
                tokio::time::sleep(back_off(tries, self.invocation.events.clock())).await;
                match self.connect().await {
                    Ok(_) => return true,
                    Err(failed) if failed.class() == RetryClass::Transient => away = Some(failed),
                    Err(_) => return false,
                }
            }
            false
        };
        let window = self.invocation.reconnect_window;
        if let Ok(reached) = tokio::time::timeout(window, tries).await {
            return reached;
        }
        let why = away.map(|failed| format!(": {failed}")).unwrap_or_default();
        let message = format!("giving up until the next wake-up after {window:?} of trying to connect{why}");
        self.invocation.events.tell(What::Error { subsystem: "repl", message });
        false
    }

    fn tell(&self, what: Replication) {
        self.invocation.events.tell(What::Replication(what));
    }
}
