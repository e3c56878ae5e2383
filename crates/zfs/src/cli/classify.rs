//! What the messages of `zfs` and `zpool` mean. Pure; the texts are those of the C locale.
//!
//! A message has the form `cannot VERB 'OBJECT': REASON` or `cannot VERB: REASON`. Reasons are compared
//! whole or by their fixed ends, after trimming; nothing is searched for in the middle of a line, where
//! a name could contain anything.

use crate::error::ErrorKind;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// What precedes the object, or the reason if there is none: `open`, `receive new filesystem stream`.
    pub(crate) verb: &'a str,
    /// The name in quotes.
    pub(crate) object: Option<&'a str>,
    /// Why.
    pub(crate) reason: &'a str,
}

/// The messages in a child's standard error, without usage text and unrelated lines.
pub(crate) fn messages(stderr: &str) -> impl Iterator<Item = Message<'_>> {
    lines(stderr).filter_map(message)
}

/// Trimmed non-empty lines up to the usage text.
pub(crate) fn lines(stderr: &str) -> impl Iterator<Item = &str> {
    stderr.lines().map(str::trim).take_while(|line| *line != "usage:").filter(|line| !line.is_empty())
}

/// Reads one line as a message.
pub(crate) fn message(line: &str) -> Option<Message<'_>> {
    let line = line.strip_prefix("warning: ").unwrap_or(line);
    let rest = line.strip_prefix("cannot ").or_else(|| line.strip_prefix("Cannot "))?;
    quoted(rest).or_else(|| unquoted(rest))
}

/// `VERB 'OBJECT': REASON`; no name contains a quote.
fn quoted(rest: &str) -> Option<Message<'_>> {
    let (verb, after) = rest.split_once('\'')?;
    let (object, reason) = after.split_once("': ")?;
    (!verb.contains(": ") && !object.contains('\'')).then_some(Message {
        verb: verb.trim_end(),
        object: Some(object),
        reason,
    })
}

fn unquoted(rest: &str) -> Option<Message<'_>> {
    let (verb, reason) = rest.split_once(": ")?;
    Some(Message { verb: verb.trim_end(), object: None, reason })
}

/// What a failed command's standard error means for `object`; none if it says nothing known.
pub(crate) fn classify(stderr: &str, object: &str) -> Option<ErrorKind> {
    if let Some(kind) = lines(stderr).find_map(general) {
        return Some(kind);
    }
    let mut first = None;
    for message in messages(stderr) {
        // What `recv` says after "cannot open" its target decides, unless it only repeats it.
        let repeats = message.reason == "unable to restore to destination";
        if message.verb.starts_with("receive") && !repeats {
            return receive(message, stderr).or_else(|| reason(message.reason, object)).or(first);
        }
        if first.is_none() {
            first = of_message(message, object);
        }
    }
    first.or_else(|| lines(stderr).find_map(loose))
}

/// What one message means.
pub(crate) fn of_message(message: Message<'_>, object: &str) -> Option<ErrorKind> {
    if message.verb == "resume send" {
        return Some(ErrorKind::BadResumeToken(message.reason.to_owned()));
    }
    if message.verb.starts_with("destroy snapshot") && message.reason == "dataset is busy" {
        return Some(ErrorKind::Held); // before the wording became explicit
    }
    reason(message.reason, object)
}

/// Lines that are no messages about an object and hold for any command.
fn general(line: &str) -> Option<ErrorKind> {
    if line.starts_with("The ZFS modules ") || line.starts_with("Unable to open /dev/zfs: No such file") {
        return Some(ErrorKind::NoModule);
    }
    if line.starts_with("Unable to open /dev/zfs: Permission denied")
        || line == "Permission denied the ZFS utilities must be run as root."
    {
        return Some(ErrorKind::PermissionDenied);
    }
    None
}

/// Messages that do not begin with "cannot".
fn loose(line: &str) -> Option<ErrorKind> {
    let missing = line == "could not find any snapshots to destroy; check snapshot names."
        || (line.starts_with("bookmark '") && line.ends_with("' does not exist."));
    if missing {
        return Some(ErrorKind::NotFound);
    }
    let option = line.strip_prefix("invalid option '")?.strip_suffix('\'')?;
    Some(ErrorKind::Unsupported(format!("option -{option} is unknown to this version of zfs")))
}

/// Whether this is how ZFS says that an object is not there.
pub(crate) fn is_absence(reason: &str) -> bool {
    matches!(reason, "dataset does not exist" | "no such pool or dataset")
}

fn reason(reason: &str, object: &str) -> Option<ErrorKind> {
    use ErrorKind as K;
    let pool = || object.split(['/', '@', '#']).next().unwrap_or(object).to_owned();
    Some(match reason {
        _ if is_absence(reason) => K::NotFound,
        "parent does not exist" | "no such tag on this dataset" => K::NotFound,
        // ESRCH of a send: the bookmark from which it is to start.
        "No such process" => K::NotFound,
        "no such pool" | "no such pool available." => K::PoolMissing { pool: pool() },
        "dataset already exists"
        | "destination already exists"
        | "bookmark exists"
        | "snapshot exists"
        | "tag already exists on this dataset" => K::Exists,
        "dataset is busy" | "pool or dataset is busy" | "target is busy" | "Device busy" => K::Busy,
        "snapshot has dependent clones" | "snapshot is cloned" => K::HasClones,
        "filesystem has children" | "volume has children" | "filesystem has dependent clones" => K::HasChildren,
        "more recent snapshots or bookmarks exist" => K::NewerVersions,
        _ if reason.ends_with(" is not the latest snapshot") => K::NewerVersions,
        _ if reason.starts_with("there are snapshots or bookmarks more recent than ") => K::NewerVersions,
        "out of space" | "No space left on device" => K::NoSpace,
        "disk quota exceeded" | "Disk quota exceeded" | "quota exceeded" => K::QuotaExceeded,
        "pool is read-only" | "Read-only file system" => K::ReadOnly,
        "permission denied" | "Permission denied" => K::PermissionDenied,
        "pool I/O is currently suspended" => K::PoolSuspended { pool: pool() },
        "dataset key must be loaded"
        | "inherited key must be loaded"
        | "encryption key not loaded"
        | "encryption root's key is not loaded or provided" => K::KeyNotLoaded,
        _ if reason.starts_with("no such pool '") => K::PoolMissing { pool: pool() },
        _ if reason.starts_with("it's being held. Run 'zfs holds -r ") => K::Held,
        _ if reason.starts_with("incremental source (") && reason.ends_with(") does not exist") => K::NotFound,
        _ => return None,
    })
}

fn receive(message: Message<'_>, stderr: &str) -> Option<ErrorKind> {
    use ErrorKind as K;
    let text = message.reason;
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    Some(match text {
        "checksum mismatch or incomplete stream." | "checksum mismatch or incomplete stream" => {
            match resume_token(stderr) {
                Some(token) => K::Interrupted { token: token.to_owned() },
                None => K::Truncated,
            }
        }
        // "invalid backup stream" is also what a resumable receive says of a stream that ends right
        // behind its first record.
        "incomplete stream" | "failed to read from stream" | "invalid backup stream" => K::Truncated,
        "zfs receive -F cannot be used to destroy an encrypted filesystem or overwrite an unencrypted one with an encrypted one" => {
            K::EncryptionBoundary
        }
        // The state that the token stands for is gone, or the target has snapshots that came after it.
        "kernel modules must be upgraded to receive this stream." if message.verb == "receive resume stream" => {
            K::BadResumeToken("the target has no state that it continues".to_owned())
        }
        "kernel modules must be upgraded to receive this stream."
        | "pool must be upgraded to receive this stream."
        | "incremental send stream requires -L (--large-block), to match previous receive." => {
            K::Unsupported(text.trim_end_matches('.').to_owned())
        }
        "encryption key does not match existing key"
        | "cannot perform raw receive on top of existing unencrypted dataset" => K::EncryptionMismatch(text.to_owned()),
        _ if between("destination '", "' does not exist") => K::NotFound,
        _ if between("destination '", "' exists") => K::TargetExists,
        _ if between("Resuming recv on existing destination '", "'") => K::TargetExists,
        _ if between("destination has children (eg. ", ")") => K::HasChildren,
        _ if between("destination has snapshots (eg. ", ")") => K::TargetHasSnapshots,
        _ if between("destination ", " has been modified") => K::TargetModified,
        _ if between("most recent snapshot of ", " does not") => K::SourceMismatch,
        _ if between("destination ", " space quota exceeded.") => K::QuotaExceeded,
        _ if between("destination ", " contains partially-complete state from \"zfs receive -s\".") => {
            K::TargetHasPartial
        }
        _ => return None,
    })
}

/// The token that `zfs recv -s` prints when it ends early.
pub(crate) fn resume_token(stderr: &str) -> Option<&str> {
    let mut lines = lines(stderr)
        .skip_while(|line| *line != "A resuming stream can be generated on the sending system by running:");
    lines.nth(1)?.strip_prefix("zfs send -t ").map(str::trim)
}

/// Lines that `zfs send -v -P` prints about a healthy send.
pub(crate) fn is_send_chatter(line: &str) -> bool {
    let line = line.trim_end();
    line == "resume token contents:"
        || line == "nvlist version: 0"
        || ["size\t", "full\t", "incremental\t", "\t"].iter().any(|start| line.starts_with(start))
        || is_progress(line)
}

/// `09:54:15<TAB>BYTES<TAB>SNAPSHOT`, once a second.
fn is_progress(line: &str) -> bool {
    let Some((time, _)) = line.split_once('\t') else { return false };
    time.len() == 8 && time.bytes().enumerate().all(|(i, b)| if i % 3 == 2 { b == b':' } else { b.is_ascii_digit() })
}

/// The size in a line of `zfs send -v -P`, of whichever form this version of ZFS prints.
pub(crate) fn send_size(line: &str) -> Option<u64> {
    let line = line.trim_end();
    let size = match line.split_once('\t')? {
        ("size", size) => size,
        ("full", rest) => rest.split_once('\t')?.1,
        ("incremental", rest) => rest.split_once('\t')?.1.split_once('\t')?.1,
        _ => return None,
    };
    // An estimate that has wrapped below zero is none.
    size.parse().ok().filter(|size| *size < i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests;
