//! Protects bases that nothing protects, of filesystems with conflicts.

use model::event::What;
use model::plan::endangered::{self, endangered_base};
use model::view::View;
use model::{DatasetName, RetryClass};
use tokio::time::sleep;
use wire::CallError;

use super::{Execution, Happened, Link};
use crate::act::back_off::back_off;
use crate::act::sides::Sides;
use crate::act::step::ConfirmRun;

/// A base that nothing protects, of a filesystem with a conflict.
pub(super) struct Endangered {
    filesystem: DatasetName,
    base: endangered::Endangered,
    tries: u32,
}

impl Execution<'_> {
    /// A conflict may last, and other jobs prune meanwhile.
    pub(super) fn note_endangered(&mut self, filesystem: &DatasetName, (sender, receiver): (&View, &View)) {
        let protection = self.invocation.policy.protection;
        if let Some(base) = endangered_base(filesystem, sender, receiver, protection) {
            self.endangered.push_back(Endangered { filesystem: filesystem.clone(), base, tries: 0 });
        }
    }

    /// Protects the newest common version of a filesystem on the sides that do not.
    pub(super) fn rescue(&mut self, endangered: Endangered) {
        self.confirmations_running += 1;
        let Endangered { filesystem, base, .. } = &endangered;
        let Sides { sender, receiver } = self.sides.clone();
        let run = ConfirmRun {
            sender,
            receiver,
            protection: self.invocation.policy.protection,
            filesystem: filesystem.clone(),
            received_as: base.received_as.clone(),
            version: base.version.clone(),
            repairs: base.repairs.clone(),
        };
        let under_way = self.under_way("protection", filesystem);
        self.running.push(Box::pin(async move {
            let _under_way = under_way;
            Happened::Rescued { endangered, result: run.run().await }
        }));
    }

    /// What fails for good is told only: the filesystem has failed already, and the next invocation tries
    /// it again.
    pub(super) fn rescued(&mut self, mut endangered: Endangered, result: Result<(), CallError>) {
        self.confirmations_running -= 1;
        endangered.tries += 1;
        let may_try_again = endangered.tries < self.invocation.attempts.get() && !matches!(self.link, Link::Closed(_));
        match result {
            Ok(()) if !endangered.base.is_unprotected() => {}
            Ok(()) => {
                let Endangered { filesystem, base, .. } = endangered;
                let message = format!(
                    "{filesystem}: {}, the newest that both sides have, was not protected; now it is, until {filesystem} \
                     can be replicated again",
                    base.version
                );
                self.invocation.events.tell_of(&filesystem, What::Note { subsystem: "repl", message });
            }
            Err(CallError::Connection(cause)) if may_try_again => {
                self.endangered.push_back(endangered);
                self.reconnect(&cause);
            }
            Err(error) if may_try_again && error.class() == RetryClass::Transient => {
                let wait = back_off(endangered.tries, self.invocation.events.clock());
                self.running.push(Box::pin(async move {
                    sleep(wait).await;
                    Happened::Endangered(endangered)
                }));
            }
            Err(error) => self.tell_endangered(&endangered, &error.to_string()),
        }
    }

    pub(super) fn tell_endangered(&self, endangered: &Endangered, why: &str) {
        let Endangered { filesystem, base, .. } = endangered;
        let message = format!(
            "{filesystem} cannot be replicated, and {} is not protected, the newest that both sides have: {why}",
            base.version
        );
        self.invocation.events.tell_of(filesystem, What::Warning { subsystem: "repl", message });
    }

    pub(super) fn endangered_again(&mut self, endangered: Endangered) {
        match &self.link {
            Link::Up | Link::Reconnecting => self.endangered.push_back(endangered),
            Link::Closed(why) => self.tell_endangered(&endangered, why),
        }
    }
}
