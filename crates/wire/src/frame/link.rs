//! When a connection says that it lives, when it gives the peer up, and how it ends.
//!
//! Each side sends a heartbeat when it has sent nothing for a while, from the label until the end. Time
//! counts against the peer only while this side reads, or tries to write and hears no heartbeat. At the
//! end each side sends a reset, closes its direction, and reads what is left until the other has done
//! the same.

use std::time::{Duration, Instant};

/// The times of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Between the last frame sent and a heartbeat.
    pub heartbeat: Duration,
    /// Silence of the peer while this side reads, or while a write makes no progress.
    pub idle: Duration,
    /// From the reset until the connection is closed, whatever the peer does.
    pub closing: Duration,
    /// How long no byte of a frame may go through though the peer says that it lives. None where somebody
    /// else watches that bytes move.
    pub stuck: Option<Duration>,
}

/// Half an hour: a peer that takes nothing for so long is stuck itself, such as in a pool that is suspended.
/// Until then what sends keeps a process and its filesystem, for which all other requests wait.
const STUCK: Duration = Duration::from_secs(30 * 60);

impl Default for Limits {
    /// Those of zrepl, which waits for ever for a peer that is stuck.
    fn default() -> Self {
        let [heartbeat, idle, closing] = [5, 10, 10].map(Duration::from_secs);
        Self { heartbeat, idle, closing, stuck: Some(STUCK) }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The peer is taken for dead: nothing came while this side read.
    GiveUpReading,
    /// The peer is taken for dead: it accepts nothing and says nothing.
    GiveUpWriting,
    /// The peer lives, but accepts nothing.
    GiveUpStuck,
    /// Close the connection without waiting any longer.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The reset is due or sent.
    Closing {
        until: Instant,
    },
    Dead,
}

/// One data connection in time. Tell it what happens; ask it what to do and until when to wait.
#[derive(Debug, Clone)]
pub struct Link {
    limits: Limits,
    phase: Phase,
    last_sent: Instant,
    /// Since when a read waits, or when its last bytes came.
    reading: Option<Instant>,
    /// Since when a frame is being written, or when it last made progress, or the peer said that it lives.
    writing: Option<Instant>,
    /// Since when none of its bytes went through.
    stuck: Option<Instant>,
}

impl Link {
    /// A connection whose label went through at `now`.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, phase: Phase::Open, last_sent: now, reading: None, writing: None, stuck: None }
    }

    /// This side waits for bytes.
    pub fn read_began(&mut self, now: Instant) {
        self.reading.get_or_insert(now);
    }

    /// This side does not read for now, its sink being slow.
    pub fn read_paused(&mut self) {
        self.reading = None;
    }

    /// Bytes came; frames need not be complete.
    pub fn received(&mut self, now: Instant) {
        if let Some(since) = &mut self.reading {
            *since = now;
        }
    }

    /// A heartbeat came.
    pub fn heartbeat_received(&mut self, now: Instant) {
        self.received(now);
        if let Some(since) = &mut self.writing {
            *since = now;
        }
    }

    /// A frame begins to be written.
    pub fn write_began(&mut self, now: Instant) {
        self.writing = Some(now);
        self.stuck = Some(now);
    }

    /// Some bytes of it went through.
    pub fn wrote(&mut self, now: Instant) {
        if self.writing.is_some() {
            self.write_began(now);
        }
    }

    /// The frame has been written.
    pub fn write_ended(&mut self, now: Instant) {
        self.writing = None;
        self.stuck = None;
        self.last_sent = now;
    }

    /// This side has nothing more to say, or the peer's reset came: write a reset and close this
    /// direction, then read until the end.
    pub fn close(&mut self, now: Instant) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing { until: now + self.limits.closing };
            self.reading = None;
            self.writing = None;
            self.stuck = None;
        }
    }

    /// Whether frames may still be exchanged.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// When to ask [`Link::act`] again if nothing happens before: the peer, or the end of a closing connection, is
    /// waited for no longer. A time that appears later is at least [`Limits::idle`], [`Limits::closing`] or
    /// [`Limits::stuck`] after the event that brought it.
    pub fn patience(&self) -> Option<Instant> {
        match self.phase {
            Phase::Dead => None,
            Phase::Closing { until } => Some(until),
            Phase::Open => {
                let silent = [self.reading, self.writing].into_iter().flatten().map(|since| since + self.limits.idle);
                silent.chain(self.stuck_until()).min()
            }
        }
    }

    fn stuck_until(&self) -> Option<Instant> {
        self.stuck.zip(self.limits.stuck).and_then(|(since, limit)| since.checked_add(limit))
    }

    /// When this side has to say that it lives. Never while a frame is being written, which says it too.
    pub fn heartbeat_due(&self) -> Option<Instant> {
        (self.is_open() && self.writing.is_none()).then(|| self.last_sent + self.limits.heartbeat)
    }

    /// What is due at `now`. Nothing follows it.
    pub fn act(&mut self, now: Instant) -> Option<Action> {
        let over = |since: Option<Instant>| since.is_some_and(|since| now >= since + self.limits.idle);
        let action = match self.phase {
            Phase::Dead => return None,
            Phase::Closing { until } if now >= until => Action::Close,
            Phase::Closing { .. } => return None,
            Phase::Open if over(self.writing) => Action::GiveUpWriting,
            Phase::Open if self.stuck_until().is_some_and(|until| now >= until) => Action::GiveUpStuck,
            Phase::Open if over(self.reading) => Action::GiveUpReading,
            Phase::Open => return None,
        };
        self.phase = Phase::Dead;
        Some(action)
    }
}
