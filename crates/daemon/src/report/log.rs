//! The log: which events become a line, at which level, in zrepl's formats and field names.

mod entry;
mod format;
mod outlet;
mod steps;

pub(crate) use entry::level_of;
pub use entry::{Entry, Value};
pub use format::{Layout, Metadata};
pub use outlet::{StdoutLog, Terminal, Writer};

#[cfg(test)]
mod tests;
