//! The configuration as it takes effect: every default filled in, included files put in, as a text
//! that is itself a configuration with the same meaning.
//!
//! Sections are taken apart by name, so that a field that is added elsewhere is missed here by the
//! compiler.

mod dsn;
mod global;
mod jobs;
mod text;
mod transports;

use crate::types::Config;
use text::{Value, map};

/// What becomes of passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// `***` stands for each.
    Masked,
    /// As they are.
    Shown,
}

/// What of a configuration is shown. Each part is a whole configuration, with defaults for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// `jobs`
    Jobs,
    /// `global.logging`
    Logging,
}

/// A configuration as it takes effect.
#[derive(Debug)]
pub struct Effective(Value);

impl Config {
    /// The configuration as it takes effect.
    pub fn effective(&self, part: Part, secrets: Secrets) -> Effective {
        let jobs = || ("jobs", jobs::jobs(&self.jobs, secrets));
        Effective(match part {
            Part::All => map([("global", global::global(&self.global)), jobs()]),
            Part::Jobs => map([jobs()]),
            Part::Logging => map([("global", map([("logging", global::logging(&self.global.logging))]))]),
        })
    }
}

impl Effective {
    /// Block style, with a final line feed.
    pub fn to_yaml(&self) -> String {
        self.0.to_yaml()
    }

    /// The same as JSON, which is a configuration too: one line, with a line feed.
    pub fn to_json(&self) -> String {
        self.0.to_json() + "\n"
    }
}
