//! Both sides as pruning finds them: each by itself, since the sender can be pruned without the receiver.

use std::sync::Arc;

use model::plan::prune::PruneSide;
use model::view::View;
use tokio::time::Instant;
use wire::{CallError, Connector, Endpoint};

use super::invocation::Invocation;
use super::pruning::{PruneFailed, Views, receiver_views, sender_views};
use super::sides::{Asked, Listed, Sides, SidesFailed};
use super::tally::Tally;
use crate::events::Events;
use crate::limits::VIEW_AGE;

/// A side that was looked at.
struct Looked {
    endpoint: Arc<dyn Endpoint>,
    view: View,
    /// When its listing began.
    since: Instant,
}

/// A side, or why it cannot be looked at.
type Side = Result<Looked, SidesFailed>;

/// Both sides, as far as they can be looked at.
pub(super) struct Both {
    sender: Side,
    receiver: Side,
}

impl From<Listed> for Both {
    fn from(Listed { sides: Sides { sender, receiver }, sender_view, receiver_view, since }: Listed) -> Self {
        Self {
            sender: Ok(Looked { endpoint: sender, view: sender_view, since }),
            receiver: Ok(Looked { endpoint: receiver, view: receiver_view, since }),
        }
    }
}

impl Both {
    /// Lists both.
    pub(super) async fn at_both(invocation: &Invocation) -> Self {
        let (sender, receiver) = tokio::join!(look_at_sender(invocation), look_at_receiver(invocation));
        Self { sender, receiver }
    }

    /// Lists again after pruning a side failed: that side, what could not be listed before, and also for a
    /// receiver the sender, of which a rollback makes a base of what was none.
    pub(super) async fn again(&mut self, invocation: &Invocation, pruned: PruneSide) {
        let receiver = pruned == PruneSide::Receiver || self.receiver.is_err();
        self.look(invocation, true, receiver).await;
    }

    /// Lists again what was listed long ago, because the other side could not be reached or was pruned
    /// meanwhile.
    pub(super) async fn refresh(&mut self, invocation: &Invocation) {
        let is_old = |side: &Side| side.as_ref().is_ok_and(|looked| looked.since.elapsed() > VIEW_AGE);
        let (sender, receiver) = (is_old(&self.sender), is_old(&self.receiver));
        self.look(invocation, sender, receiver).await;
    }

    async fn look(&mut self, invocation: &Invocation, sender: bool, receiver: bool) {
        let sender = async {
            if sender {
                self.sender = look_at_sender(invocation).await;
            }
        };
        let receiver = async {
            if receiver {
                self.receiver = look_at_receiver(invocation).await;
            }
        };
        tokio::join!(sender, receiver);
    }

    /// Tells what of them could not be listed.
    pub(super) fn count_unlisted(&self, tally: &Tally, events: &Events) {
        for looked in self.sender.iter().chain(&self.receiver) {
            tally.count_unlisted(&looked.view, events, "pruning");
        }
    }

    /// What a side is pruned by.
    pub(super) fn views(&self, pruned: PruneSide) -> Views<'_> {
        match pruned {
            PruneSide::Sender | PruneSide::Local => {
                let Looked { endpoint, view, .. } = self.sender.as_ref().map_err(failed)?;
                let there = self.receiver.as_ref().ok().map(|looked| &looked.view);
                Ok((&**endpoint, sender_views(view, there)))
            }
            PruneSide::Receiver => {
                let Looked { endpoint, view: there, .. } = self.receiver.as_ref().map_err(failed)?;
                let here = self.sender.as_ref().map_err(|error| PruneFailed {
                    class: error.class(),
                    error: "what is replicated is not known while the sender cannot be listed".to_owned(),
                })?;
                Ok((&**endpoint, receiver_views(&here.view, there)))
            }
        }
    }
}

fn failed(error: &SidesFailed) -> PruneFailed {
    PruneFailed { class: error.class(), error: error.to_string() }
}

async fn look_at_sender(invocation: &Invocation) -> Side {
    look_at(&*invocation.sender, SidesFailed::of_sender).await
}

async fn look_at_receiver(invocation: &Invocation) -> Side {
    look_at(&*invocation.receiver, SidesFailed::of_receiver).await
}

async fn look_at(side: &dyn Connector, failed: impl Fn(Asked, CallError) -> SidesFailed) -> Side {
    let endpoint = side.connect().await.map_err(|error| failed(Asked::Connect, error))?;
    let since = Instant::now();
    let view = endpoint.list().await.map_err(|error| failed(Asked::List, error))?;
    Ok(Looked { endpoint, view, since })
}
