use model::protection::{Protection, ProtectionKind, ProtectionPolicy, ProtectionStrategy};
use model::view::{DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, View};
use model::{CreateTxg, DatasetName, Guid, UnixTime, Version, VersionKind, VersionName};
use proptest::prelude::*;
use prost::Message as _;

use super::convert::*;
use super::*;
use crate::service::{DestroyOutcome, DestroyRequest};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Encodes to the recorded bytes and back.
fn same<M: prost::Message + Default + PartialEq + std::fmt::Debug>(message: &M, recorded: &str) {
    let bytes = hex(recorded);
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(&M::decode(bytes.as_slice()).unwrap(), message);
}

const S1: &str = "120273311888ef99abc5e88c9111202a2a14323032362d30312d30325430333a30343a30355a";

fn version() -> Version {
    Version {
        kind: VersionKind::Snapshot,
        name: VersionName::parse("s1").unwrap(),
        guid: Guid(0x1122_3344_5566_7788),
        createtxg: CreateTxg(42),
        creation: UnixTime(1_767_323_045),
        userrefs: 0,
    }
}

fn s1() -> FilesystemVersion {
    FilesystemVersion::from(&version())
}

fn send_req() -> SendReq {
    SendReq {
        filesystem: "tank/a".into(),
        from: None,
        to: Some(s1()),
        resume_token: String::new(),
        replication_config: Some(ProtectionPolicy::default().into()),
    }
}

fn receive_req() -> ReceiveReq {
    ReceiveReq {
        filesystem: "dst".into(),
        to: Some(s1()),
        clear_resume_token: true,
        replication_config: Some(ProtectionPolicy::default().into()),
    }
}

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn filesystem_view() -> FilesystemView {
    FilesystemView {
        kind: DatasetKind::Filesystem,
        placeholder: Placeholder::Unset,
        encryption: Encryption::None,
        versions: [].into(),
        partial: None,
        protections: vec![],
    }
}

#[test]
fn requests_are_those_of_zrepl() {
    same(&s1(), S1);
    let send = format!("0a0674616e6b2f61 1a26{S1} 32060a0408011001");
    same(&send_req(), &send);
    same(&SendCompletedReq { original_req: Some(send_req()) }, &format!("1238{send}"));
    let destroy = DestroySnapshotsReq { filesystem: "tank/a".into(), snapshots: vec![s1()] };
    same(&destroy, &format!("0a0674616e6b2f61 1226{S1}"));
    same(&receive_req(), &format!("0a03647374 1226{S1} 1801 22060a0408011001"));
    same(&ListFilesystemReq {}, "");
}

#[test]
fn responses_are_those_of_zrepl() {
    let placeholder = FilesystemView { placeholder: Placeholder::On, ..filesystem_view() };
    let partial = PartialReceive { token: "1-abc".into(), contents: Err("made up".into()) };
    let partial = FilesystemView { partial: Some(partial), ..filesystem_view() };
    let all = [("tank/a", filesystem_view()), ("tank/b", placeholder), ("tank/c", partial)];
    let view = View::new(all.into_iter().map(|(name, view)| (dataset(name), view)).collect());
    same(&list_response(&view), "0a080a0674616e6b2f61 0a0a0a0674616e6b2f621801 0a0f0a0674616e6b2f631205312d616263");
    same(&cursor_response(&filesystem_view()), "1001");
    same(&send_response(false, Some(1_234_567)), "1087ad4b");
    same(&send_response(false, Some(1_000_000)), "10c0843d");
    same(&send_response(false, None), "");
    same(&ReceiveRes {}, "");
    let uuid = "2f4b6a1e-0000-4000-8000-000000000001".to_owned();
    let ascii = uuid.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    same(&PingReq { message: uuid.clone() }, &format!("0a24{ascii}"));
    same(&PingRes { echo: uuid }, &format!("0a24{ascii}"));
}

#[test]
fn a_cursor_of_zero_is_still_a_cursor() {
    same(&ReplicationCursorRes { result: Some(CursorResult::Guid(0)) }, "0800");
    assert_eq!(cursor(&ReplicationCursorRes { result: Some(CursorResult::Guid(0)) }), Ok(Some(Guid(0))));
    assert_eq!(cursor(&ReplicationCursorRes { result: Some(CursorResult::Notexist(true)) }), Ok(None));
    let problem = cursor(&ReplicationCursorRes { result: None }).unwrap_err().problem;
    assert_eq!(problem, Problem::Missing("Result"));
}

#[test]
fn the_newest_cursor_counts() {
    let protection = |kind, guid, createtxg| Protection {
        kind,
        version: model::VersionRef { guid: Guid(guid), ..version().to_ref() },
        createtxg: CreateTxg(createtxg),
    };
    let protections = vec![
        protection(ProtectionKind::Cursor, 7, 20),
        protection(ProtectionKind::Cursor, 9, 10),
        protection(ProtectionKind::StepHold, 8, 30),
    ];
    let response = cursor_response(&FilesystemView { protections, ..filesystem_view() });
    assert_eq!(response.result, Some(CursorResult::Guid(7)));
}

#[test]
fn unknown_fields_are_tolerated() {
    let with_job_name = [hex("2a036a6f62"), send_req().encode_to_vec(), hex("9a0603616263")].concat();
    assert_eq!(decode::<SendReq>("SendReq", &with_job_name), Ok(send_req()));
}

#[test]
fn a_tree_that_could_not_be_listed_is_not_taken_for_missing() {
    let mut view = View::default();
    view.unlisted.insert(dataset("tank/x"), "suspended".into());
    let listed = filesystems(list_response(&view)).unwrap();
    assert_eq!(listed.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), ["tank/x"]);
}

#[test]
fn steps_keep_their_meaning() {
    let mut request = send_request(send_req()).unwrap();
    assert_eq!(request.to, version().to_ref());
    assert_eq!((&request.from, &request.resume_token), (&None, &None));
    request.from = Some(model::VersionRef { kind: VersionKind::Bookmark, ..version().to_ref() });
    request.resume_token = Some("1-abc".into());
    request.protection =
        ProtectionPolicy { initial: ProtectionStrategy::Nothing, incremental: ProtectionStrategy::Incremental };
    assert_eq!(send_request(SendReq::from(&request)), Ok(request.clone()));
    assert_eq!(send_completed_request(SendCompletedReq { original_req: Some((&request).into()) }), Ok(request));
    let receive = receive_request(&receive_req()).unwrap();
    assert!(receive.clear_resume_token && receive.from.is_none());
    assert_eq!(receive_request(&ReceiveReq::from(&receive)), Ok(receive));
}

#[test]
fn malformed_steps_are_refused() {
    let refuse = |change: fn(&mut SendReq)| {
        let mut request = send_req();
        change(&mut request);
        let refused = send_request(request.clone()).unwrap_err();
        let completed = send_completed_request(SendCompletedReq { original_req: Some(request) }).unwrap_err();
        assert_eq!(completed.problem, refused.problem);
        refused.problem
    };
    assert_eq!(refuse(|r| r.replication_config = None), Problem::Missing("ReplicationConfig"));
    let no_protection = refuse(|r| r.replication_config = Some(ReplicationConfig { protection: None }));
    assert_eq!(no_protection, Problem::Missing("ReplicationConfig.protection"));
    for kind in [0, 4, -1] {
        let protection = Some(ReplicationConfigProtection { initial: 1, incremental: kind });
        let request = SendReq { replication_config: Some(ReplicationConfig { protection }), ..send_req() };
        assert_eq!(send_request(request).unwrap_err().problem, Problem::Guarantee(kind));
    }
    assert_eq!(refuse(|r| r.to = None), Problem::Missing("To"));
    assert_eq!(
        refuse(|r| r.resume_token = "x".repeat(10 << 20)),
        Problem::TooLong { field: "ResumeToken", length: 10 << 20 }
    );
    for bad in ["", "/", "a/", "/a", "a//b", "a@b", "a#b", "a/../b", "a\0b", "a,b", "ü"] {
        let request = SendReq { filesystem: bad.into(), ..send_req() };
        assert!(matches!(send_request(request).unwrap_err().problem, Problem::Name(_)), "{bad:?}");
    }
    assert!(matches!(refuse(|r| r.from = Some(FilesystemVersion::default())), Problem::Name(_)), "empty, not absent");
    let missing = send_completed_request(SendCompletedReq { original_req: None }).unwrap_err();
    assert_eq!(missing.to_string(), "malformed SendCompletedReq: OriginalReq is missing");
    assert!(receive_request(&ReceiveReq { to: None, ..receive_req() }).is_err());
    assert!(receive_request(&ReceiveReq { replication_config: None, ..receive_req() }).is_err());
}

#[test]
fn an_error_about_a_long_text_is_short() {
    let long = "x".repeat(10 << 20);
    let problems = [
        send_request(SendReq { filesystem: long.clone(), ..send_req() }).unwrap_err(),
        versions(&one(FilesystemVersion { name: long.clone(), ..s1() })).unwrap_err(),
        versions(&one(FilesystemVersion { creation: long, ..s1() })).unwrap_err(),
    ];
    for problem in problems {
        assert!(problem.to_string().len() < 1000, "{}", problem.to_string().len());
    }
}

fn one(version: FilesystemVersion) -> ListFilesystemVersionsRes {
    ListFilesystemVersionsRes { versions: vec![version] }
}

#[test]
fn versions_are_read_and_checked() {
    assert_eq!(versions(&one(s1())), Ok(vec![version()]));
    let bookmark = FilesystemVersion { r#type: 1, creation: "2026-01-02T04:04:05.9+01:00".into(), ..s1() };
    assert_eq!(versions(&one(bookmark)), Ok(vec![Version { kind: VersionKind::Bookmark, ..version() }]));
    let unknown = versions(&one(FilesystemVersion { r#type: 2, ..s1() })).unwrap_err();
    assert_eq!(unknown.problem, Problem::VersionType(2));
    for bad in ["", "a/b", "a@b", "a#b", "a,b", "a%b", ".", "..", "a\nb"] {
        let problem = versions(&one(FilesystemVersion { name: bad.into(), ..s1() })).unwrap_err().problem;
        assert!(matches!(problem, Problem::Name(_)), "{bad:?}");
    }
    for bad in [
        "",
        "now",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05Z",
        "2026-13-02T03:04:05Z",
        "2026-01-02T03:04:05Z[UTC]",
        "-002026-01-02T03:04:05Z",
        "2026-01-02T25:04:05Z",
    ] {
        let problem = versions(&one(FilesystemVersion { creation: bad.into(), ..s1() })).unwrap_err().problem;
        assert_eq!(problem, Problem::Creation(bad.into()));
    }
}

#[test]
fn times_that_are_sent_can_be_read() {
    for seconds in [i64::MIN, -1, 0, 1, 253_402_300_799, i64::MAX] {
        let sent = FilesystemVersion::from(&Version { creation: UnixTime(seconds), ..version() });
        assert!(versions(&one(sent.clone())).is_ok(), "{}", sent.creation);
    }
    assert!(versions(&one(FilesystemVersion::from(&version().to_ref()))).is_ok());
}

#[test]
fn filesystems_are_read_and_checked() {
    let list = |paths: &[&str]| ListFilesystemRes {
        filesystems: paths.iter().map(|path| Filesystem { path: (*path).into(), ..Filesystem::default() }).collect(),
    };
    assert_eq!(filesystems(list(&["b", "a/c", "a"])).unwrap().len(), 3);
    assert_eq!(filesystems(list(&["b", "a", "b"])).unwrap_err().problem, Problem::Twice(dataset("b")));
    assert!(matches!(filesystems(list(&["a@b"])).unwrap_err().problem, Problem::Name(_)));
}

#[test]
fn every_snapshot_has_an_outcome_whatever_the_peer_answers() {
    let named = |name: &str| FilesystemVersion { name: name.into(), ..s1() };
    let message = DestroySnapshotsReq { filesystem: "tank/a".into(), snapshots: ["a", "b", "c"].map(named).to_vec() };
    let request: DestroyRequest = destroy_request(&message).unwrap();
    let answer = |name: &str, error: &str| DestroySnapshotRes { snapshot: Some(named(name)), error: error.into() };
    let results = vec![
        answer("c", "busy"),
        answer("a", ""),
        answer("x", ""),
        DestroySnapshotRes { snapshot: None, error: String::new() },
    ];
    let result = destroy_result(&request, &DestroySnapshotsRes { results });
    let outcomes: Vec<_> = result.results.iter().map(|(name, outcome)| (name.as_str(), outcome.clone())).collect();
    assert_eq!(
        outcomes,
        [
            ("a", DestroyOutcome::Destroyed),
            ("b", DestroyOutcome::Failed("the peer did not say what became of it".into())),
            ("c", DestroyOutcome::Failed("busy".into())),
        ]
    );
    let kept = [DestroyOutcome::Destroyed, DestroyOutcome::Kept("a clone".into())];
    let names = request.snapshots.iter().map(|snapshot| snapshot.name.clone());
    let result = crate::service::DestroyResult { filesystem: dataset("tank/a"), results: names.zip(kept).collect() };
    let errors: Vec<_> = destroy_response(message, &result).results.into_iter().map(|result| result.error).collect();
    assert_eq!(errors, ["", "a clone", "nobody knows what became of it"]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<SendReq>("SendReq", &bytes).and_then(send_request);
        let _ = decode::<ListFilesystemVersionsRes>("", &bytes).and_then(|read| versions(&read));
        if let Ok(read) = decode::<SendCompletedReq>("", &bytes) {
            prop_assert_eq!(SendCompletedReq::decode(read.encode_to_vec().as_slice()).unwrap(), read);
        }
    }
}
