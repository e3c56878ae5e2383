//! What a case is.

use crate::lab::Bench;
use anyhow::Result;
use clap::ValueEnum;

/// What cases run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The model of ZFS
    Fake,
    /// The OpenZFS of this system, in pools on files
    Real,
}

/// One case. A case for both backends is two values with one name.
pub(crate) struct Case {
    /// `area::claim`, unique within a backend.
    pub(crate) name: String,
    pub(crate) run: Run,
    /// Runs only if a filter is given and the name has it: it takes many minutes.
    pub(crate) on_request: bool,
}

/// What a case does; an error fails it.
pub(crate) enum Run {
    Fake(OnFake),
    /// The bench is the case's alone: whatever pools it makes there are destroyed afterwards.
    Real(OnReal),
}

/// The body of a case that makes its own model of ZFS.
pub(crate) type OnFake = Box<dyn FnOnce() -> Result<()> + Send>;

/// The body of a case on pools of its bench.
pub(crate) type OnReal = Box<dyn FnOnce(&Bench) -> Result<()> + Send>;

impl Case {
    /// A case on the model of ZFS.
    pub(crate) fn fake(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), run: Run::Fake(Box::new(run)), on_request: false }
    }

    /// A case that needs real ZFS.
    pub(crate) fn real(name: impl Into<String>, run: impl FnOnce(&Bench) -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), run: Run::Real(Box::new(run)), on_request: false }
    }
}
