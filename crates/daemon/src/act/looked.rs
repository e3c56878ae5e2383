//! Both sides as pruning finds them: each by itself, since the sender can be pruned without the receiver.

use std::sync::Arc;

use model::plan::prune::PruneSide;
use model::view::View;
use wire::{CallError, Connector, Endpoint};

use super::invocation::Invocation;
use super::pruning::{PruneFailed, Views, receiver_views, sender_views};
use super::sides::{Asked, Listed, Sides, SidesFailed};
use super::tally::Tally;
use crate::events::Events;

/// A side and what is on it.
type Side = Result<(Arc<dyn Endpoint>, View), SidesFailed>;

/// Both sides, or why one cannot be looked at.
pub(super) struct Looked {
    sender: Side,
    receiver: Side,
}

impl From<Listed> for Looked {
    fn from(Listed { sides: Sides { sender, receiver }, sender_view, receiver_view }: Listed) -> Self {
        Self { sender: Ok((sender, sender_view)), receiver: Ok((receiver, receiver_view)) }
    }
}

impl Looked {
    /// Lists both.
    pub(super) async fn at_both(invocation: &Invocation) -> Self {
        let (sender, receiver) = tokio::join!(look_at_sender(invocation), look_at_receiver(invocation));
        Self { sender, receiver }
    }

    /// Lists the side that is pruned again, and what could not be listed before.
    pub(super) async fn again(&mut self, invocation: &Invocation, pruned: PruneSide) {
        let sender = async {
            if pruned == PruneSide::Sender || self.sender.is_err() {
                self.sender = look_at_sender(invocation).await;
            }
        };
        let receiver = async {
            if pruned == PruneSide::Receiver || self.receiver.is_err() {
                self.receiver = look_at_receiver(invocation).await;
            }
        };
        tokio::join!(sender, receiver);
    }

    /// Tells what of them could not be listed.
    pub(super) fn count_unlisted(&self, tally: &Tally, events: &Events) {
        for (_, view) in self.sender.iter().chain(&self.receiver) {
            tally.count_unlisted(view, events, "pruning");
        }
    }

    /// What a side is pruned by.
    pub(super) fn views(&self, pruned: PruneSide) -> Views<'_> {
        match pruned {
            PruneSide::Sender | PruneSide::Local => {
                let (endpoint, view) = self.sender.as_ref().map_err(failed)?;
                let there = self.receiver.as_ref().ok().map(|(_, view)| view);
                Ok((&**endpoint, sender_views(view, there)))
            }
            PruneSide::Receiver => {
                let (endpoint, there) = self.receiver.as_ref().map_err(failed)?;
                let (_, here) = self.sender.as_ref().map_err(|error| PruneFailed {
                    class: error.class(),
                    error: "the sender cannot be listed, which tells what is replicated".to_owned(),
                })?;
                Ok((&**endpoint, receiver_views(here, there)))
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
    let view = endpoint.list().await.map_err(|error| failed(Asked::List, error))?;
    Ok((endpoint, view))
}
