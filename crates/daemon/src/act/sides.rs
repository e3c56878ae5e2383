//! The two sides of a replication, wherever they are.

use std::fmt;
use std::sync::Arc;

use model::RetryClass;
use model::view::View;
use tokio::time::Instant;
use wire::{CallError, Connector, Endpoint};

/// Both sides, within reach.
#[derive(Clone)]
pub(super) struct Sides {
    pub(super) sender: Arc<dyn Endpoint>,
    pub(super) receiver: Arc<dyn Endpoint>,
}

/// Both sides at one time.
pub(super) struct Listed {
    pub(super) sides: Sides,
    pub(super) sender_view: View,
    pub(super) receiver_view: View,
    /// When the listings began.
    pub(super) since: Instant,
}

/// What was tried on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Connect,
    List,
}

/// Why one side, or both, did not do what was tried. There is at least one error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SidesFailed {
    asked: Asked,
    sender: Option<CallError>,
    receiver: Option<CallError>,
}

impl Sides {
    /// Reaches both.
    pub(super) async fn connect(sender: &dyn Connector, receiver: &dyn Connector) -> Result<Sides, SidesFailed> {
        let (sender, receiver) = both(Asked::Connect, tokio::join!(sender.connect(), receiver.connect()))?;
        Ok(Sides { sender, receiver })
    }

    /// Lists both.
    pub(super) async fn list(self) -> Result<Listed, SidesFailed> {
        let since = Instant::now();
        let (sender_view, receiver_view) = both(Asked::List, tokio::join!(self.sender.list(), self.receiver.list()))?;
        Ok(Listed { sides: self, sender_view, receiver_view, since })
    }
}

fn both<S, R>(asked: Asked, tried: (Result<S, CallError>, Result<R, CallError>)) -> Result<(S, R), SidesFailed> {
    match tried {
        (Ok(sender), Ok(receiver)) => Ok((sender, receiver)),
        (sender, receiver) => Err(SidesFailed { asked, sender: sender.err(), receiver: receiver.err() }),
    }
}

impl SidesFailed {
    /// What the sender failed to do.
    pub(super) fn of_sender(asked: Asked, error: CallError) -> Self {
        SidesFailed { asked, sender: Some(error), receiver: None }
    }

    /// What the receiver failed to do.
    pub(super) fn of_receiver(asked: Asked, error: CallError) -> Self {
        SidesFailed { asked, sender: None, receiver: Some(error) }
    }

    fn errors(&self) -> impl Iterator<Item = &CallError> {
        self.sender.iter().chain(&self.receiver)
    }

    /// Whether trying again may help; it has to help every side that failed.
    pub(super) fn class(&self) -> RetryClass {
        let hopeless = self.errors().map(CallError::class).find(|class| *class != RetryClass::Transient);
        hopeless.unwrap_or(RetryClass::Transient)
    }

    /// Whether a side has to be reached again before anything else can be tried.
    pub(super) fn connection(&self) -> bool {
        self.errors().any(|error| matches!(error, CallError::Connection(_)))
    }

    /// The side, or the sides, in words.
    fn who(&self) -> &'static str {
        match (&self.sender, &self.receiver) {
            (Some(_), Some(_)) => "sender and receiver",
            (Some(_), None) => "sender",
            (None, _) => "receiver",
        }
    }
}

impl fmt::Display for SidesFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.who();
        match self.asked {
            Asked::Connect => write!(f, "no connection to the {who}:"),
            Asked::List => write!(f, "cannot list the {who}:"),
        }?;
        match (&self.sender, &self.receiver) {
            (Some(sender), Some(receiver)) if sender != receiver => {
                write!(f, "\n  sender: {sender}\n  receiver: {receiver}")
            }
            (sender, receiver) => sender.iter().chain(receiver).take(1).try_for_each(|error| write!(f, " {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(asked: Asked, sender: Option<CallError>, receiver: Option<CallError>) -> SidesFailed {
        SidesFailed { asked, sender, receiver }
    }

    #[test]
    fn the_side_that_failed_is_named() {
        let away = || CallError::Connection("connection refused".to_owned());
        let words = |asked, sender, receiver| failed(asked, sender, receiver).to_string();
        assert_eq!(words(Asked::Connect, Some(away()), None), "no connection to the sender: connection refused");
        assert_eq!(words(Asked::Connect, None, Some(away())), "no connection to the receiver: connection refused");
        assert_eq!(
            words(Asked::Connect, Some(away()), Some(away())),
            "no connection to the sender and receiver: connection refused"
        );
        assert_eq!(
            words(Asked::Connect, Some(away()), Some(CallError::permanent("who are you"))),
            "no connection to the sender and receiver:\n  sender: connection refused\n  receiver: who are you"
        );
        assert_eq!(words(Asked::List, Some(away()), None), "cannot list the sender: connection refused");
    }

    #[test]
    fn trying_again_has_to_help_both() {
        let away = || Some(CallError::Connection("connection refused".to_owned()));
        let no = || Some(CallError::permanent("no"));
        let class = |sender, receiver| failed(Asked::List, sender, receiver).class();
        assert_eq!(class(away(), None), RetryClass::Transient);
        assert_eq!(class(away(), away()), RetryClass::Transient);
        assert_eq!(class(away(), no()), RetryClass::Permanent);
        assert_eq!(class(no(), away()), RetryClass::Permanent);
    }
}
