//! What a peer's error says about trying again. zrepl sends texts alone; two sides of this program agree
//! on a word beside the text ([`Errors`](crate::extension::Extension::Errors)).

use model::RetryClass;

use crate::service::CallError;

/// Parts of texts that a person has to do something about: of ZFS and the system, then of this program.
const FOR_A_PERSON: &[&str] = &[
    "out of space",
    "no space left",
    "quota exceeded",
    "permission denied",
    "operation not permitted",
    "encryption key not loaded",
    "key must be loaded",
    "no such pool",
    "pool I/O is currently suspended",
    "read-only file system",
    "is not imported (",
    "is suspended (",
    "the pool is read-only",
    "encryption key is not loaded",
    "the target exists and is not a placeholder",
    "the target has snapshots",
    "the target has been modified",
    "cannot be used to destroy an encrypted filesystem",
    "the encryption of stream and target do not fit",
    "the stream needs a feature",
    "cannot start `",
    "longer than the system allows",
    "kernel module is not loaded",
];

/// Parts of texts about what passes by itself: of ZFS, the system and zrepl, then of this program.
const PASSING: &[&str] = &[
    "dataset is busy",
    "pool is busy",
    "i/o timeout",
    "deadline exceeded",
    "context canceled",
    "resource temporarily unavailable",
    "cannot allocate memory",
    "broken pipe",
    "connection reset",
    "stream: source error",
    "stream: read error",
    ": it is busy",
    "the stream ended early",
    "the stream failed: ",
    ": cancelled",
    " and was stopped",
    "; it was stopped",
    " was killed by signal ",
    ENDED,
    " is still under way",
    " are still being made",
    "the stream did not begin within",
    "the stream ended before its first record",
    "another snapshot has its name by now",
    "\" is gone",
    " since the plan was made",
    "it has no such snapshot any more",
    " is none of what the plan destroys",
    ": something is called ",
];

/// What zrepl tells when it ended its own `zfs`, as it does when the stream breaks off: nothing about why.
const ENDED: &str = "error: signal: killed";

/// The error of a peer that was sent a stream which failed here, with what `source` says about it. The
/// peer's word counts, unless it only tells that it gave up because the stream broke off.
pub fn of_failed_stream(error: CallError, source: &str) -> CallError {
    match error {
        CallError::Connection(_) => refusal(&format!("the stream failed: {source}")),
        CallError::Refused { message, .. } if message.contains(ENDED) => {
            refusal(&format!("the stream failed: {source}; the peer: {}", message.trim_end()))
        }
        error => error,
    }
}

/// The error of a call that a peer answered with this text.
pub fn refusal(text: &str) -> CallError {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let class = match () {
        () if has(FOR_A_PERSON) => RetryClass::NeedsPerson,
        () if has(PASSING) => RetryClass::Transient,
        () => RetryClass::Permanent,
    };
    CallError::Refused { class, message: text.to_owned() }
}

const TRANSIENT: &str = "transient";
const PERMANENT: &str = "permanent";
const NEEDS_PERSON: &str = "needs-person";
const TARGET_MODIFIED: &str = "target-modified";

/// The word for an error. A connection that broke is another one than that to the client.
pub fn word(error: &CallError) -> &'static str {
    match error {
        CallError::TargetModified(_) => TARGET_MODIFIED,
        CallError::Connection(_) | CallError::Refused { class: RetryClass::Transient, .. } => TRANSIENT,
        CallError::Refused { class: RetryClass::Permanent, .. } => PERMANENT,
        CallError::Refused { class: RetryClass::NeedsPerson, .. } => NEEDS_PERSON,
    }
}

/// The error that a peer described with a word and a text. A word that is not known says nothing.
pub fn described(word: &str, text: &str) -> CallError {
    let refused = |class| CallError::Refused { class, message: text.to_owned() };
    match word {
        TRANSIENT => refused(RetryClass::Transient),
        PERMANENT => refused(RetryClass::Permanent),
        NEEDS_PERSON => refused(RetryClass::NeedsPerson),
        TARGET_MODIFIED => CallError::TargetModified(text.to_owned()),
        _ => refusal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_more_than_a_text() {
        let text = "dataset is busy";
        let refused = |class| CallError::Refused { class, message: text.to_owned() };
        for error in [
            refused(RetryClass::Transient),
            refused(RetryClass::Permanent),
            refused(RetryClass::NeedsPerson),
            CallError::TargetModified(text.to_owned()),
        ] {
            assert_eq!(described(word(&error), text), error);
        }
        assert_eq!(described("of tomorrow", text), refusal(text));
    }

    #[test]
    fn a_text_says_whether_trying_again_may_help() {
        for (text, class) in [
            ("cannot receive: out of space", RetryClass::NeedsPerson),
            ("cannot hold snapshot: dataset is busy", RetryClass::Transient),
            ("stream: source error: boom", RetryClass::Transient),
            ("zfs exited with error: signal: killed\nstderr:\n", RetryClass::Transient),
            ("filesystem does not exist", RetryClass::Permanent),
        ] {
            assert_eq!(refusal(text).class(), class, "{text}");
        }
    }
}
