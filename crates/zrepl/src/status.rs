//! `zrepl status`: what daemons report, for people and for monitoring.
//!
//! A report becomes lines of text whose parts say what they mean (`view`); the screen, a dump and a
//! check are three ways to use that. Nothing here decides anything about ZFS.

pub(crate) mod check;
pub(crate) mod dump;
pub(crate) mod health;
pub(crate) mod look;
pub(crate) mod progress;
pub(crate) mod rate;
pub(crate) mod report;
pub(crate) mod screen;
pub(crate) mod seen;
pub(crate) mod source;
pub(crate) mod text;
pub(crate) mod view;
