//! The log: which events become a line, at which level, in zrepl's formats and field names.

mod earlier;
mod entry;
mod format;
mod local;
mod outlet;
mod remote;

pub(crate) use entry::level_of;
pub use entry::{Entry, Value};
pub use format::{Layout, Metadata};
pub use outlet::{StdoutLog, Terminal, Writer};
pub use remote::{Complaints, Outlet, RemoteLog};

#[cfg(test)]
mod tests;
