//! Texts as OpenZFS 2.3 prints them, and the wordings of other versions.

use super::*;

const USAGE: &str = "usage:\n\tsnapshot [-r] [-o property=value] ... <filesystem|volume>@<snap> ...\n\nFor the property list, run: zfs set|get\n";

/// Name of the variant.
fn kind(stderr: &str) -> String {
    match classify(stderr, "p/a b@1") {
        None => "none".to_owned(),
        Some(kind) => format!("{kind:?}").split([' ', '(', '{']).next().unwrap().to_owned(),
    }
}

#[test]
fn texts_of_all_commands() {
    for (expected, text) in [
        ("NotFound", "cannot open 'p/a': dataset does not exist\n"),
        ("NotFound", "cannot open 'p/a (b):c': dataset does not exist\n"),
        ("NotFound", "cannot open 'p/a#b1': no such pool or dataset\n"),
        ("NotFound", &format!("cannot open 'p/missing': dataset does not exist\n{USAGE}")),
        ("NotFound", "cannot hold snapshot 'p/a@missing': dataset does not exist\n"),
        ("NotFound", "cannot release hold from snapshot 'p/a@1': no such tag on this dataset\n"),
        ("NotFound", "cannot create 'p/nope/a': parent does not exist\n"),
        ("NotFound", "could not find any snapshots to destroy; check snapshot names.\n"),
        ("NotFound", "bookmark 'p/a#bmissing' does not exist.\n"),
        ("NotFound", "warning: cannot send 'p/a@3': incremental source (p/a#missing) does not exist\n"),
        ("PoolMissing", "cannot create 'nopool/nope/a': no such pool 'nopool'\n"),
        ("PoolMissing", "Cannot get properties of nopool: no such pool available.\n"),
        ("PoolMissing", "cannot open 'nopool': no such pool\n"),
        ("PoolSuspended", "cannot create snapshots : pool I/O is currently suspended\n"),
        ("Exists", "cannot create snapshot 'p/a@1': dataset already exists\nno snapshots were created\n"),
        ("Exists", "cannot create 'p/a': dataset already exists\n"),
        ("Exists", "cannot create bookmark 'p/a#b1': bookmark exists\n"),
        ("Exists", "cannot hold snapshot 'p/a@1': tag already exists on this dataset\n"),
        (
            "NewerVersions",
            "cannot rollback to 'p/a@1': more recent snapshots or bookmarks exist\nuse '-r' to force deletion of the following snapshots and bookmarks:\np/a@2\n",
        ),
        ("NewerVersions", "cannot rollback 'p/a': 'p/a@1' is not the latest snapshot\n"),
        ("Exists", "cannot rename 'p/a': dataset already exists\n"),
        ("Held", "cannot destroy snapshot p/a@2: it's being held. Run 'zfs holds -r p/a@2' to see holders.\n"),
        ("Held", "cannot destroy snapshot p/a@2: dataset is busy\n"),
        (
            "HasClones",
            "cannot destroy 'p/a@4': snapshot has dependent clones\nuse '-R' to destroy the following datasets:\np/clone\n",
        ),
        ("HasClones", "cannot destroy snapshot p/a@4: snapshot is cloned\n"),
        (
            "HasChildren",
            "cannot destroy 'p/a': filesystem has children\nuse '-r' to destroy the following datasets:\np/a@1\n",
        ),
        (
            "HasChildren",
            "cannot destroy 'p/v': volume has children\nuse '-r' to destroy the following datasets:\np/v@1\n",
        ),
        ("Busy", "cannot unmount '/tmp/mnt/busy': pool or dataset is busy\n"),
        ("Busy", "cannot destroy 'p/busy': dataset is busy\n"),
        ("Busy", "cannot destroy 'p/k5/%recv': dataset is busy\n"),
        ("Busy", "cannot create snapshot 'p/k4@x': dataset is busy\n"),
        ("NotFound", "warning: cannot send 'q/a@1': no such pool or dataset\n"),
        ("NoSpace", "cannot create snapshots : out of space\n"),
        ("ReadOnly", "cannot create snapshots : pool is read-only\n"),
        ("ReadOnly", "cannot hold: pool is read-only\n"),
        ("ReadOnly", "cannot set property for 'q/empty': pool is read-only\n"),
        ("PermissionDenied", "cannot create snapshots : permission denied\n"),
        ("PermissionDenied", "cannot hold: permission denied\n"),
        ("PermissionDenied", "cannot destroy bookmark: permission denied\n"),
        ("PermissionDenied", "warning: cannot send 'p/a@1': permission denied\n"),
        ("PermissionDenied", "Permission denied the ZFS utilities must be run as root.\n"),
        (
            "NoModule",
            "The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root to manually load them.\n",
        ),
        (
            "KeyNotLoaded",
            "full\tp/enc@1\t3202992\nsize\t3202992\nwarning: cannot send 'p/enc@1': dataset key must be loaded\n",
        ),
        ("KeyNotLoaded", "cannot create 'p/enc/new': encryption root's key is not loaded or provided\n"),
        ("BadResumeToken", "cannot resume send: resume token is corrupt (incorrect checksum)\n"),
        ("BadResumeToken", "cannot resume send: 'p/s@1' is no longer the same snapshot used in the initial send\n"),
        ("BadResumeToken", "cannot resume send: 'p/s@1' used in the initial send no longer exists\n"),
        ("BadResumeToken", "cannot resume send: incremental source 0x8b76244bdbb386d5 no longer exists\n"),
        ("none", "error: this is a mock\n"),
        ("none", ""),
        ("none", "cannot destroy 'p/a': dataset does not exist, says somebody\n"),
        ("none", "note: cannot open 'p/a': dataset does not exist\n"),
        ("none", &format!("cannot create 'p/a@x': bad\n{USAGE}cannot open 'p/a': dataset does not exist\n")),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
}

#[test]
fn texts_of_receive() {
    let new = "cannot receive new filesystem stream: ";
    let incremental = "cannot receive incremental stream: ";
    for (expected, text) in [
        ("TargetExists", format!("{new}destination 'q/r' exists\nmust specify -F to overwrite it\n")),
        ("TargetExists", "cannot receive resume stream: Resuming recv on existing destination 'q/r'\nmust specify -F to overwrite it\n".into()),
        ("TargetHasSnapshots", format!("{new}destination has snapshots (eg. q/r@1)\nmust destroy them to overwrite it\n")),
        ("TargetModified", format!("{incremental}destination q/r has been modified\nsince most recent snapshot\n")),
        ("SourceMismatch", format!("{incremental}most recent snapshot of q/empty does not\nmatch incremental source\n")),
        ("TargetHasPartial", format!("{new}destination q/r contains partially-complete state from \"zfs receive -s\".\n")),
        ("NotFound", format!("{incremental}destination 'q/nope' does not exist\n")),
        ("NotFound", format!("cannot open 'q/nope': dataset does not exist\n{new}unable to restore to destination\n")),
        ("HasChildren", format!("{new}destination has children (eg. p/ph/child)\ncannot overwrite with a ZVOL\n")),
        ("Truncated", format!("{incremental}incomplete stream\n")),
        ("Truncated", "cannot receive: failed to read from stream\n".into()),
        ("Truncated", format!("cannot open 'q/bad': dataset does not exist\n{new}invalid backup stream\n")),
        ("Truncated", format!("{new}checksum mismatch or incomplete stream\n")),
        ("NoSpace", format!("{new}out of space\n")),
        ("QuotaExceeded", format!("{new}destination q/quota/x space quota exceeded.\n")),
        ("ReadOnly", format!("{new}pool is read-only\n")),
        ("PermissionDenied", format!("{new}permission denied\n")),
        ("KeyNotLoaded", format!("{incremental}inherited key must be loaded\n")),
        ("BadResumeToken", "cannot receive resume stream: kernel modules must be upgraded to receive this stream.\n".into()),
        ("Unsupported", format!("{new}kernel modules must be upgraded to receive this stream.\n")),
        ("Unsupported", format!("{new}pool must be upgraded to receive this stream.\n")),
        ("Unsupported", format!("{incremental}incremental send stream requires -L (--large-block), to match previous receive.\n")),
        ("Unsupported", "invalid option 'x'\nusage:\n\treceive\n".into()),
        ("EncryptionBoundary", format!("{new}zfs receive -F cannot be used to destroy an encrypted filesystem or overwrite an unencrypted one with an encrypted one\n")),
        ("EncryptionMismatch", format!("{incremental}cannot perform raw receive on top of existing unencrypted dataset\n")),
        ("EncryptionMismatch", format!("{incremental}encryption key does not match existing key\n")),
        ("none", "cannot receive: invalid stream (bad magic number)\n".into()),
        ("none", "cannot receive: cannot receive: invalid property 'bad'\n".into()),
    ] {
        assert_eq!(kind(&text), expected, "{text}");
    }
}

#[test]
fn an_interrupted_receive_gives_its_token() {
    let text = "cannot receive new filesystem stream: checksum mismatch or incomplete stream.\nPartially received snapshot is saved.\nA resuming stream can be generated on the sending system by running:\n    zfs send -t 1-b55a6925d-b0-789c63\n";
    let Some(ErrorKind::Interrupted { token }) = classify(text, "q/r@1") else {
        panic!("{:?}", classify(text, "q/r@1"))
    };
    assert_eq!(token, "1-b55a6925d-b0-789c63");
    assert_eq!(resume_token("Partially received snapshot is saved.\n"), None);
}

#[test]
fn the_pool_of_an_error_is_that_of_the_object() {
    let kind = classify("cannot create snapshots : pool I/O is currently suspended\n", "p/a@1");
    assert!(matches!(kind, Some(ErrorKind::PoolSuspended { pool }) if pool == "p"));
}

#[test]
fn send_prints_its_size_among_other_lines() {
    for (line, size) in [
        ("size\t10512880", Some(10_512_880)),
        ("full\tp/a@1\t21022064", Some(21_022_064)),
        ("incremental\tp/a#b\tp/a b@2\t624", Some(624)),
        ("incremental\t1\tp/a@2\t10511856", Some(10_511_856)),
        ("full\tp/a@1", None),
        ("incremental\tp/a@1\tp/a@2", None),
        ("size\t18446744073709551000", None),
        ("size\t9223372036854775807", None),
        ("\tbytes = 0x9866a0", None),
    ] {
        assert_eq!(send_size(line), size, "{line:?}");
        assert!(is_send_chatter(line), "{line:?}");
    }
    assert!(is_send_chatter("09:54:15\t1234\tp/a@1"));
    assert!(is_send_chatter("resume token contents:"));
    assert!(!is_send_chatter("warning: cannot send 'p/enc@1': dataset key must be loaded"));
    assert!(!is_send_chatter("09:54\t1"));
}
