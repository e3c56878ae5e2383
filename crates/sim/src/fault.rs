//! Where something can go wrong, and what does.

use std::fmt;
use std::time::Duration;

use zfs::ErrorKind;

use crate::process::Host;

/// A point at which the world asks whether something goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// A ZFS operation is about to start.
    Before(Op),
    /// A ZFS operation has done a part of its items.
    Between(String),
    /// A ZFS operation has taken effect; its result has not been seen yet.
    After(Op),
    /// A stream starts; a fault may come at some byte of it.
    Stream {
        /// Where it is read.
        host: Host,
        /// What reads it.
        reader: StreamReader,
    },
    /// A daemon dials.
    Connect,
    /// A call is about to leave.
    Call(&'static str),
    /// The other side has answered a call.
    Reply(&'static str),
}

/// A ZFS operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// On which machine.
    pub host: Host,
    /// Counts the operations of all machines from 1.
    pub number: u64,
    /// The method of `zfs::Zfs`.
    pub verb: &'static str,
    /// What it is about, for people.
    pub object: String,
    /// Whether it can change anything on disk.
    pub changes: bool,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {} {} {}", self.number, self.verb, self.object)
    }
}

/// Who reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamReader {
    /// The sending daemon reads what `zfs send` writes.
    Daemon,
    /// The network carries it.
    Network,
    /// `zfs receive` reads it.
    Receive,
}

/// Which daemons die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    /// One.
    One(Host),
    /// All at once.
    All,
}

impl Victims {
    /// Whether a machine's daemon is among them.
    pub fn include(self, host: Host) -> bool {
        match self {
            Victims::One(one) => one == host,
            Victims::All => true,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Daemons die here.
    Kill(Victims),
    /// The operation fails (before it did anything, or after it did everything).
    Error(ErrorKind),
    /// The connection breaks.
    Disconnect,
    /// It takes so long.
    Delay(Duration),
    /// The fault comes when so many bytes of the stream have passed.
    AtByte(u64, Box<Fault>),
}

/// Decides what goes wrong. Asked at every site, in order.
pub trait Faults: Send {
    /// What goes wrong here, if anything.
    fn at(&mut self, site: &Site) -> Option<Fault>;
}

/// Nothing goes wrong.
pub struct NoFaults;

impl Faults for NoFaults {
    fn at(&mut self, _: &Site) -> Option<Fault> {
        None
    }
}
