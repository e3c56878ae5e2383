//! What the text of a peer's error says about trying again. zrepl sends texts alone.

use model::RetryClass;

use crate::service::CallError;

/// Parts of texts of ZFS and of the system that a person has to do something about.
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
];

/// Parts of texts about what passes by itself.
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
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_whether_trying_again_may_help() {
        for (text, class) in [
            ("cannot receive: out of space", RetryClass::NeedsPerson),
            ("cannot hold snapshot: dataset is busy", RetryClass::Transient),
            ("stream: source error: boom", RetryClass::Transient),
            ("filesystem does not exist", RetryClass::Permanent),
        ] {
            assert_eq!(refusal(text).class(), class, "{text}");
        }
    }
}
