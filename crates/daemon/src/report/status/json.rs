//! How the report writes what JSON has no form for.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// What zrepl shows for a time that is not set.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A time as text.
pub(super) fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NO_TIME.to_owned(), |at| at.to_string())
}

/// For `serialize_with`.
pub(super) fn optional_time<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time(*at))
}

/// A list whose entries exist only while they are written.
pub(super) struct Lazily<F>(pub F);

impl<F, I> Serialize for Lazily<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// An error and when it happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TimedError {
    #[serde(rename = "Err")]
    pub error: String,
    #[serde(rename = "Time")]
    at: String,
}

impl TimedError {
    pub(super) fn new(error: &str, at: Timestamp) -> TimedError {
        TimedError { error: error.to_owned(), at: time(Some(at)) }
    }
}
