//! How connections for data have ended: zrepl's names for it.

use wire::data::Shutdowns;

use super::family::{Descriptor, Kind, samples, summary};

const HARD_CLOSES: Descriptor = Descriptor {
    name: "zrepl_frameconn_shutdown_hard_closes",
    kind: Kind::Counter,
    help: "Connections that were dropped before both sides had said goodbye, by what could not be done.",
    labels: &["step"],
};

const CLOSE_ERRORS: Descriptor = Descriptor {
    name: "zrepl_frameconn_shutdown_close_errors",
    kind: Kind::Counter,
    help: "Connections that could not be closed, by what failed.",
    labels: &["step"],
};

/// Appends them. The steps are zrepl's; two of them cannot fail here.
pub(super) fn write(text: &mut String, shutdowns: &Shutdowns) {
    let Shutdowns { ended, took, drained_for, drained_bytes, unfinished, write_errors, close_errors } = *shutdowns;
    let mut summary = |name, help, sum: f64| summary(text, name, help, sum, ended);
    let help = "Bytes that arrived after this side had said goodbye.";
    summary("zrepl_frameconn_shutdown_drain_bytes_read", help, drained_bytes as f64);
    let help = "How long the end of a connection took, in seconds.";
    summary("zrepl_frameconn_shutdown_seconds", help, took.as_secs_f64());
    let help = "How much of that the other side was waited for, in seconds.";
    summary("zrepl_frameconn_shutdown_drain_seconds", help, drained_for.as_secs_f64());
    let steps =
        [("disable_timeouts", 0), ("set_deadline", unfinished), ("write_frame", write_errors), ("close_write", 0)];
    samples(text, &HARD_CLOSES, steps.into_iter().map(|(step, count)| ([step], count as f64)));
    samples(text, &CLOSE_ERRORS, [(["close"], close_errors as f64)].into_iter());
}
