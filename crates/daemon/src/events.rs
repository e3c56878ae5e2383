//! One stream of events, of which status and logs are folds.

use std::sync::Arc;

use model::event::{About, Event, What};
use model::{DatasetName, JobName};

use crate::clock::Clock;

/// Reads events. Called in order, from whichever task has something to tell; must be quick and must
/// not call back.
pub trait Reader: Send + Sync {
    /// Takes notice of an event.
    fn read(&self, event: &Event);
}

/// Where events are told. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    clock: Clock,
    readers: Arc<[Arc<dyn Reader>]>,
    job: Option<JobName>,
}

impl Events {
    /// A stream with these readers.
    pub fn new(clock: Clock, readers: Vec<Arc<dyn Reader>>) -> Self {
        Self { clock, readers: readers.into(), job: None }
    }

    /// The same stream, for one job.
    pub fn of_job(&self, job: &JobName) -> Self {
        Self { job: Some(job.clone()), ..self.clone() }
    }

    /// The job whose events these are; none for the daemon's own.
    pub fn job(&self) -> Option<&JobName> {
        self.job.as_ref()
    }

    /// The clock that dates the events.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Tells what happened.
    pub fn tell(&self, what: What) {
        self.tell_about(About::Nothing, what);
    }

    /// Tells a protection, a note, a warning or an error about a filesystem.
    pub fn tell_of(&self, filesystem: &DatasetName, what: What) {
        self.tell_about(About::Filesystem(filesystem.clone()), what);
    }

    /// Tells a protection, a note, a warning or an error about something.
    pub fn tell_about(&self, about: About, what: What) {
        let event = Event { at: self.clock.now(), job: self.job.clone(), about, what };
        self.readers.iter().for_each(|reader| reader.read(&event));
    }
}
