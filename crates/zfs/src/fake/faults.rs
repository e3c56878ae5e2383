//! What goes wrong, and when: by script, by seed, or as a simulator decides call by call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::rng::Rng;
use crate::error::ErrorKind;

/// The calls of [`Zfs`](crate::Zfs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "named like the methods")]
pub enum Verb {
    List,
    Pools,
    Dataset,
    Contents,
    Holds,
    CreatePlaceholder,
    SetProperty,
    Snapshot,
    Bookmark,
    IsStill,
    Hold,
    Release,
    DestroySnapshots,
    DestroyTogether,
    Rollback,
    Rename,
    DestroyBookmark,
    DestroyDataset,
    Send,
    EstimateSend,
    Receive,
    AbortReceive,
    CanResume,
}

impl Verb {
    /// Whether the call changes nothing.
    pub fn only_reads(self) -> bool {
        matches!(
            self,
            Verb::List
                | Verb::Pools
                | Verb::Dataset
                | Verb::Contents
                | Verb::Holds
                | Verb::IsStill
                | Verb::Send
                | Verb::EstimateSend
                | Verb::CanResume
        )
    }
}

/// When, within a call, a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// Between two items of a call that takes effect item by item (hold, release).
    Between,
    /// Everything has happened, nobody knows yet.
    After,
}

/// A place where a call can be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The call's number among all calls of this [`FakeZfs`](super::FakeZfs), from 0.
    pub call: u64,
    /// Which call.
    pub verb: Verb,
    /// The object it names first.
    pub object: String,
    /// Where in the call.
    pub moment: Moment,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} call {} {:?} {:?}", self.moment, self.call, self.verb, self.object)
    }
}

/// What happens at a point.
#[derive(Debug, Clone)]
pub enum Action {
    /// Go on.
    Proceed,
    /// The call ends with this error.
    Fail(ErrorKind),
    /// The call never ends: for a simulator that kills the whole daemon here.
    Hang,
    /// The call goes on after a while, on tokio's clock.
    Delay(Duration),
}

/// What happens to a stream.
#[derive(Debug, Clone)]
pub enum StreamFault {
    /// The child ends with this error. A receive that dies keeps what it has if it is resumable.
    Dies(ErrorKind),
    /// No byte moves any more.
    Stalls,
    /// A sender only: ends cleanly, as when the reader cannot tell a cut from the end.
    Ends,
}

type Hook = Arc<dyn Fn(&Point) -> Action + Send + Sync>;

/// Handle to the faults of one [`FakeZfs`](super::FakeZfs). Clones are the same handle.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: BTreeMap<Verb, u64>,
    total: u64,
    processes: BTreeMap<&'static str, u64>,
    script: Vec<(Trigger, Moment, Action)>,
    streams: Vec<(Verb, u64, u64, StreamFault)>,
    hook: Option<Hook>,
    seeded: Option<(Rng, u32)>,
    pace: Option<(u64, Duration)>,
}

enum Trigger {
    Call(u64),
    Nth(Verb, u64),
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("calls", &self.lock().calls).finish_non_exhaustive()
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `action` at a moment of the call with this number.
    pub fn at_call(&self, call: u64, moment: Moment, action: Action) {
        self.lock().script.push((Trigger::Call(call), moment, action));
    }

    /// Does `action` at a moment of the `nth` call (from 0) of a verb.
    pub fn at_verb(&self, verb: Verb, nth: u64, moment: Moment, action: Action) {
        self.lock().script.push((Trigger::Nth(verb, nth), moment, action));
    }

    /// Breaks the stream of the `nth` send or receive (from 0) when `byte` bytes have passed.
    pub fn break_stream(&self, verb: Verb, nth: u64, byte: u64, fault: StreamFault) {
        self.lock().streams.push((verb, nth, byte, fault));
    }

    /// Lets every call fail with a probability of `per_mille`, before or after its effect, and every
    /// stream break at some byte with the same probability. Equal seeds and calls give equal faults.
    pub fn seed(&self, seed: u64, per_mille: u32) {
        self.lock().seeded = Some((Rng::new(seed), per_mille));
    }

    /// Makes streams slow: a pause on tokio's clock after every so many bytes.
    pub fn pace(&self, bytes: u64, pause: Duration) {
        self.lock().pace = Some((bytes.max(1), pause));
    }

    /// Asks this function at every point. Scripted faults come first. It must not call back into the
    /// pool.
    pub fn hook(&self, hook: impl Fn(&Point) -> Action + Send + Sync + 'static) {
        self.lock().hook = Some(Arc::new(hook));
    }

    /// Removes all faults and the hook; counters stay.
    pub fn clear(&self) {
        let mut state = self.lock();
        *state = State {
            calls: std::mem::take(&mut state.calls),
            total: state.total,
            processes: std::mem::take(&mut state.processes),
            ..State::default()
        };
    }

    /// How many calls were made, by verb.
    pub fn calls(&self) -> BTreeMap<Verb, u64> {
        self.lock().calls.clone()
    }

    /// How many child processes the command line would have needed, by subcommand.
    pub fn processes(&self) -> BTreeMap<&'static str, u64> {
        self.lock().processes.clone()
    }

    pub(super) fn count_processes(&self, command: &'static str, number: usize) {
        *self.lock().processes.entry(command).or_default() += number as u64;
    }

    pub(super) fn begin(&self, verb: Verb, object: String) -> Call {
        let mut state = self.lock();
        let calls = state.calls.entry(verb).or_default();
        let nth = *calls;
        *calls += 1;
        let number = state.total;
        state.total += 1;
        Call { faults: self.clone(), number, nth, verb, object }
    }
}

/// One call under way.
pub(super) struct Call {
    faults: Faults,
    number: u64,
    nth: u64,
    verb: Verb,
    object: String,
}

impl Call {
    pub(super) async fn pass(&self, moment: Moment) -> Result<(), ErrorKind> {
        match self.action(moment) {
            Action::Proceed => Ok(()),
            Action::Fail(kind) => Err(kind),
            Action::Hang => std::future::pending().await,
            Action::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        }
    }

    fn action(&self, moment: Moment) -> Action {
        let (scripted, hook) = {
            let mut state = self.faults.lock();
            (self.scripted(&mut state, moment), state.hook.clone())
        };
        if let Some(action) = scripted {
            return action;
        }
        let point = Point { call: self.number, verb: self.verb, object: self.object.clone(), moment };
        hook.map_or(Action::Proceed, |hook| hook(&point))
    }

    fn scripted(&self, state: &mut State, moment: Moment) -> Option<Action> {
        let hits = |trigger: &Trigger| match trigger {
            Trigger::Call(number) => *number == self.number,
            Trigger::Nth(verb, nth) => (*verb, *nth) == (self.verb, self.nth),
        };
        if let Some(found) = state.script.iter().position(|(trigger, at, _)| *at == moment && hits(trigger)) {
            return Some(state.script.swap_remove(found).2);
        }
        let (rng, per_mille) = state.seeded.as_mut()?;
        rng.one_in(1000, *per_mille).then(|| Action::Fail(random_kind(rng)))
    }

    /// The fault of this call's stream, if it has one: at which byte, and what.
    pub(super) fn stream_fault(&self) -> Option<(u64, StreamFault)> {
        let mut state = self.faults.lock();
        let found = state.streams.iter().position(|(verb, nth, ..)| (*verb, *nth) == (self.verb, self.nth));
        if let Some(found) = found {
            let (_, _, byte, fault) = state.streams.swap_remove(found);
            return Some((byte, fault));
        }
        let (rng, per_mille) = state.seeded.as_mut()?;
        // Cuts of all magnitudes: streams of a test have from some hundred bytes to some megabytes.
        rng.one_in(1000, *per_mille).then(|| {
            let magnitude = 8 + rng.below(14);
            (rng.below(1 << magnitude), StreamFault::Dies(random_kind(rng)))
        })
    }

    pub(super) fn pace(&self) -> Option<(u64, Duration)> {
        self.faults.lock().pace
    }
}

/// A failure that any command may meet at any time.
fn random_kind(rng: &mut Rng) -> ErrorKind {
    match rng.below(4) {
        0 => ErrorKind::Busy,
        1 => ErrorKind::NoSpace,
        2 => ErrorKind::Deadline(Duration::from_secs(60)),
        _ => ErrorKind::Killed { command: "zfs".into(), signal: 9 },
    }
}
