//! The passive side: whoever arrives is identified, greeted and served, each in a task of its own, so
//! that a slow or silent client delays nobody.

mod crowd;
mod muffler;
pub(crate) mod refusing;

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use model::ClientIdentity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::control::{Notice, TooLong};
use crate::frame::Limits;
use crate::handshake::{Agreement, Label};
use crate::service::{CallError, Service};
use crate::transport::{Acceptor, Arrival, Connection, Greeting, HandshakeError, Identify, Stranger, welcome};
use crate::{control, data};
use crowd::{Known, Place, Unknown};
use muffler::Muffler;
use refusing::Refusing;

/// Connections of one listener at a time: more than clients with many concurrent steps need. One for data
/// has about ten files with the pipes of its child, so that several crowded listeners fit into the 65,536
/// that the daemon asks the system for.
const CONNECTIONS: usize = 512;

/// Of those, connections that have not shown yet who they are and what they want. They end by
/// themselves, within the limits of the transport and of the greeting, and when somebody comes of whose
/// source there are fewer: so nobody locks others out.
const UNKNOWN: usize = 128;

/// Of all, connections of one client: more than one with many concurrent steps needs, and few enough that
/// a client alone does not lock others out.
const OF_ONE_CLIENT: usize = 256;

/// Pause after a failed accept, which as a rule lacks file descriptors; it doubles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Longest such pause.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a listener does with those who arrive.
pub struct Host {
    /// Whose endpoints are offered.
    pub service: Arc<dyn Service>,
    /// What clients are told first.
    pub greeting: Greeting,
    /// The times of data connections.
    pub limits: Limits,
    /// Who is told what happens.
    pub watcher: Arc<dyn Watcher>,
    /// Cancelled when nobody new is let in and no further data is asked for; what is under way goes on.
    pub closing: CancellationToken,
}

/// Is told what goes wrong with connections, and who is there.
pub trait Watcher: Send + Sync {
    /// Takes notice of an incident, after this many of the same kind and source that were not told, so
    /// that nobody who only knocks can fill a log. Must be quick.
    fn notice(&self, incident: &Incident, untold: u64);

    /// A client is served from now on. Must be quick, as the next one.
    fn comes(&self, client: &ClientIdentity, label: Label);

    /// A connection that was told to come is gone.
    fn goes(&self, client: &ClientIdentity, label: Label);

    /// A client's request for data is being served until what this gives is dropped. Must be quick.
    fn serves(&self, client: &ClientIdentity) -> UnderWay;
}

/// Something that is under way until this is dropped.
pub type UnderWay = Box<dyn Send>;

/// Something that went wrong with a connection, or before there was one.
#[derive(Debug)]
pub enum Incident {
    /// No connection can be accepted; it is tried again.
    AcceptFailed(io::Error),
    /// There are too many connections; this one was closed.
    Crowded {
        /// Where it came from.
        from: String,
    },
    /// A client that is not let in.
    Refused {
        /// Where it came from.
        from: String,
        /// Why.
        why: Stranger,
    },
    /// A client that does not speak the protocol.
    Unintelligible {
        /// Where it came from.
        from: String,
        /// Who it is.
        client: ClientIdentity,
        /// What it did.
        error: HandshakeError,
    },
    /// A client that the job has nothing for; it was told so.
    Unserved {
        /// Where it came from.
        from: String,
        /// Who it is.
        client: ClientIdentity,
        /// Why.
        error: CallError,
    },
    /// An answer that its client cannot read if it is zrepl.
    TooLong {
        /// Where it comes from.
        from: String,
        /// Who it is.
        client: ClientIdentity,
        /// The answer.
        answer: TooLong,
    },
    /// A connection that did not end in order.
    Lost {
        /// Where it came from.
        from: String,
        /// Who it is.
        client: ClientIdentity,
        /// What it was for.
        label: Label,
        /// What happened.
        why: String,
    },
    /// A defect of this program; the connection is gone.
    Panicked {
        /// Where it came from.
        from: String,
        /// What the panic said.
        message: String,
    },
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incident::AcceptFailed(error) => write!(f, "cannot accept connections: {error}; trying again"),
            Incident::Crowded { from } => write!(
                f,
                "connection from {from} closed: there are too many (at most {CONNECTIONS}, {OF_ONE_CLIENT} of one \
                 client, and {UNKNOWN} that have not shown yet what they want)"
            ),
            Incident::Refused { from, why } => write!(f, "connection from {from} refused: {why}"),
            Incident::Unintelligible { from, client, error } => {
                write!(f, "handshake with client {:?} from {from} failed: {error}", client.as_str())
            }
            Incident::Unserved { from, client, error } => {
                write!(f, "client {:?} from {from} cannot be served: {error}", client.as_str())
            }
            Incident::TooLong { from, client, answer } => {
                write!(f, "client {:?} from {from} may fail to read what it asked for: {answer}", client.as_str())
            }
            Incident::Lost { from, client, label, why } => {
                let kind = match label {
                    Label::Control => "control",
                    Label::Data => "data",
                };
                write!(f, "{kind} connection of client {:?} from {from} broke: {why}", client.as_str())
            }
            Incident::Panicked { from, message } => write!(f, "serving a connection from {from} panicked: {message}"),
        }
    }
}

impl Incident {
    /// What counts as the same again.
    fn key(&self) -> (&str, &'static str) {
        match self {
            Incident::AcceptFailed(_) => ("", "accept"),
            // Whoever causes it, it is one state of the listener.
            Incident::Crowded { .. } => ("", "crowded"),
            Incident::Refused { from, .. } => (from, "refused"),
            Incident::Unintelligible { from, .. } => (from, "unintelligible"),
            Incident::Unserved { from, .. } => (from, "unserved"),
            Incident::TooLong { client, .. } => (client.as_str(), "too long"),
            Incident::Lost { from, .. } => (from, "lost"),
            Incident::Panicked { from, .. } => (from, "panicked"),
        }
    }
}

/// Serves everybody who arrives until the host closes, and who is there then until `stop` is cancelled. What is
/// under way at that time is ended on return, except that data connections may say goodbye, and that requests of
/// control connections end as soon as their tasks notice that nobody waits for the answer.
pub async fn serve(mut acceptor: Box<dyn Acceptor>, host: Host, stop: &CancellationToken) {
    let closing = host.closing.clone();
    let reception = Arc::new(Reception {
        host,
        muffler: Mutex::default(),
        all: Arc::new(Semaphore::new(CONNECTIONS)),
        unknown: Unknown::new(UNKNOWN),
        known: Known::new(OF_ONE_CLIENT),
    });
    let mut guests = JoinSet::new();
    let accepting = closing.run_until_cancelled(reception.accept_all(&mut *acceptor, &mut guests));
    stop.run_until_cancelled(accepting).await;
    // Who comes later is refused by the system instead of waiting for a word.
    drop(acceptor);
    stop.cancelled().await;
    guests.shutdown().await;
}

/// A client that is there; dropped when it goes, however that happens.
struct Presence<'a> {
    watcher: &'a dyn Watcher,
    client: &'a ClientIdentity,
    label: Label,
}

impl<'a> Presence<'a> {
    fn begin(watcher: &'a dyn Watcher, client: &'a ClientIdentity, label: Label) -> Presence<'a> {
        watcher.comes(client, label);
        Presence { watcher, client, label }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.watcher.goes(self.client, self.label);
    }
}

struct Reception {
    host: Host,
    muffler: Mutex<Muffler>,
    all: Arc<Semaphore>,
    unknown: Arc<Unknown>,
    known: Known,
}

/// Room for one connection.
struct Room {
    _all: OwnedSemaphorePermit,
    unknown: Place,
}

impl Reception {
    async fn accept_all(self: &Arc<Self>, acceptor: &mut dyn Acceptor, guests: &mut JoinSet<()>) {
        let mut pause = ACCEPT_PAUSE;
        loop {
            let arrived = acceptor.accept().await;
            // Those that are over; they have told themselves what went wrong.
            while guests.try_join_next().is_some() {}
            match arrived {
                Ok(arrival) => {
                    pause = ACCEPT_PAUSE;
                    match self.room(&arrival.from) {
                        Some(room) => drop(guests.spawn(Arc::clone(self).attend(arrival, room))),
                        None => self.tell(&Incident::Crowded { from: arrival.from }),
                    }
                }
                // It gave up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.tell(&Incident::AcceptFailed(error));
                    sleep(pause).await;
                    pause = ACCEPT_PAUSE_MAX.min(pause * 2);
                }
            }
        }
    }

    fn room(&self, from: &str) -> Option<Room> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let unknown = self.unknown.admit(from)?;
        Some(Room { _all: all, unknown })
    }

    fn tell(&self, incident: &Incident) {
        let (source, kind) = incident.key();
        let mut muffler = self.muffler.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = muffler.admit(source, kind, Instant::now());
        drop(muffler);
        if let Some(untold) = untold {
            self.host.watcher.notice(incident, untold);
        }
    }

    /// One connection, from its arrival to its end.
    async fn attend(self: Arc<Self>, arrival: Arrival, room: Room) {
        let from = arrival.from.clone();
        let served = AssertUnwindSafe(self.serve(arrival, room)).catch_unwind().await;
        let incident = match served {
            Ok(Ok(())) => return,
            Ok(Err(incident)) => incident,
            Err(panic) => Incident::Panicked { from, message: message_of(&*panic) },
        };
        self.tell(&incident);
    }

    async fn serve(self: &Arc<Self>, arrival: Arrival, room: Room) -> Result<(), Incident> {
        let Arrival { from, identify } = arrival;
        let Room { _all, unknown } = room;
        let introduced = unknown.leave.run_until_cancelled(self.introduce(&from, identify)).await;
        let Some(introduced) = introduced else { return Err(Incident::Crowded { from }) };
        let (io, client, agreed, label) = introduced?;
        drop(unknown);
        let Some(_seat) = self.known.admit(&client) else { return Err(Incident::Crowded { from }) };
        let endpoint = self.host.service.endpoint_for(&client).unwrap_or_else(|error| {
            self.tell(&Incident::Unserved { from: from.clone(), client: client.clone(), error: error.clone() });
            Arc::new(Refusing(error))
        });
        let presence = Presence::begin(&*self.host.watcher, &client, label);
        let served = match label {
            Label::Control => {
                let notice = self.notice(&from, &client);
                control::serve(io, endpoint, agreed, notice).await.map_err(|error| error.to_string())
            }
            Label::Data => {
                let closing = self.closing(&client);
                data::serve(io, endpoint, self.host.limits, agreed, closing).await.map_err(|error| error.to_string())
            }
        };
        drop(presence);
        served.map_err(|why| Incident::Lost { from, client, label, why })
    }

    /// Who it is and what it wants.
    async fn introduce(
        &self,
        from: &str,
        identify: Identify,
    ) -> Result<(Connection, ClientIdentity, Agreement, Label), Incident> {
        let from = from.to_owned();
        let (mut io, client) = match identify.await {
            Ok(identified) => identified,
            Err(why) => return Err(Incident::Refused { from, why }),
        };
        match welcome(&mut io, &self.host.greeting).await {
            Ok((agreed, label)) => Ok((io, client, agreed, label)),
            Err(error) => Err(Incident::Unintelligible { from, client, error }),
        }
    }

    fn closing(self: &Arc<Self>, client: &ClientIdentity) -> data::Closing {
        let (reception, client) = (Arc::clone(self), client.clone());
        let under_way = Box::new(move || reception.host.watcher.serves(&client));
        data::Closing { begun: self.host.closing.clone(), under_way }
    }

    fn notice(self: &Arc<Self>, from: &str, client: &ClientIdentity) -> Notice {
        let (reception, from, client) = (Arc::clone(self), from.to_owned(), client.clone());
        Box::new(move |answer| {
            reception.tell(&Incident::TooLong { from: from.clone(), client: client.clone(), answer });
        })
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
