use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn version(kind: VersionKind, number: u64) -> Version {
    let name = format!("{}{number}", if kind == VersionKind::Bookmark { "b" } else { "s" });
    Version {
        kind,
        name: VersionName::parse(&name).unwrap(),
        guid: Guid(u64::MAX - number),
        createtxg: CreateTxg(number),
        creation: UnixTime(-1 + i64::try_from(number).unwrap()),
        userrefs: u32::try_from(number % 3).unwrap(),
    }
}

fn no_token(_: &str) -> Result<TokenContents, String> {
    Err("unreadable".to_owned())
}

fn filesystem(versions: u64) -> FilesystemView {
    FilesystemView {
        kind: DatasetKind::Filesystem,
        placeholder: Placeholder::Unset,
        encryption: Encryption::None,
        versions: Version::sorted((0..versions).map(|number| version(VersionKind::Snapshot, number)).collect()),
        partial: None,
        protections: vec![],
    }
}

fn all_protections() -> Vec<Protection> {
    let kinds = [
        ProtectionKind::StepHold,
        ProtectionKind::TentativeCursor,
        ProtectionKind::Cursor,
        ProtectionKind::LastReceivedHold,
    ];
    let protection = |(kind, number)| {
        let version = version(if number % 2 == 0 { VersionKind::Bookmark } else { VersionKind::Snapshot }, number);
        Protection { kind, version: version.to_ref(), createtxg: version.createtxg }
    };
    kinds.into_iter().zip(1..).map(protection).collect()
}

/// Everything that a view can say.
fn view() -> View {
    let partial = PartialReceive { token: "1-abc".into(), contents: no_token("1-abc") };
    let mixed = Version::sorted(vec![version(VersionKind::Snapshot, 4), version(VersionKind::Bookmark, 4)]);
    let key = |key_loaded| Encryption::Encrypted { key_loaded };
    let mut view = View::new(BTreeMap::from([
        (dataset("tank"), FilesystemView { placeholder: Placeholder::On, ..filesystem(0) }),
        (dataset("tank/a"), FilesystemView { protections: all_protections(), versions: mixed, ..filesystem(0) }),
        (dataset("tank/b"), FilesystemView { partial: Some(partial), encryption: key(true), ..filesystem(3) }),
        (dataset("tank/c"), FilesystemView { kind: DatasetKind::Volume, encryption: key(false), ..filesystem(1) }),
        (dataset("tank/d"), FilesystemView { placeholder: Placeholder::Off, ..filesystem(2) }),
    ]));
    view.sends_encrypted = Some(false);
    view.refuses_encrypted = true;
    view.unlisted.insert(dataset("tank/x"), "pool I/O is suspended".into());
    view
}

/// Through bytes; the view and the size of the largest part.
fn passed(view: View) -> (View, usize) {
    let (mut assembly, mut largest) = (Assembly::new(no_token), 0);
    for part in Parts::of(view) {
        let bytes = part.encode_to_vec();
        largest = largest.max(bytes.len());
        assembly.accept(ListPart::decode(bytes.as_slice()).unwrap()).unwrap();
    }
    (assembly.finish().unwrap(), largest)
}

#[test]
fn a_view_arrives_as_it_was() {
    for view in [view(), View::default(), View::without_protections(BTreeMap::new())] {
        assert_eq!(passed(view.clone()).0, view);
    }
}

#[test]
fn parts_are_small_however_large_the_view_is() {
    let mut view = view();
    view.filesystems.insert(dataset("tank/large"), filesystem(40_000));
    view.filesystems.extend((0..300).map(|number| (dataset(&format!("tank/many/{number}")), filesystem(100))));
    let (arrived, largest) = passed(view.clone());
    assert!(arrived == view, "another view");
    assert!(largest < 2 * PART, "{largest}");
    assert!(Parts::of(view).count() > 5);
}

#[test]
fn a_listing_that_is_not_whole_is_none() {
    let parts: Vec<ListPart> = Parts::of(view()).collect();
    let taken = |parts: &[ListPart]| {
        let mut assembly = Assembly::new(no_token);
        parts.iter().try_for_each(|part| assembly.accept(part.clone()))?;
        assembly.finish()
    };
    let cut = ListPart { summary: None, ..parts[0].clone() };
    assert_eq!(taken(std::slice::from_ref(&cut)).unwrap_err().problem, Problem::Missing("the end of the listing"));
    assert_eq!(taken(&[]).unwrap_err().problem, Problem::Missing("the end of the listing"));
    assert_eq!(taken(&[parts[0].clone(), cut.clone()]).unwrap_err().problem, Problem::AfterTheEnd);
    assert_eq!(taken(&[cut.clone(), cut]).unwrap_err().problem, Problem::Twice(dataset("tank")));
    let mut orphan = parts[0].clone();
    orphan.filesystems[2].continues = true;
    assert_eq!(taken(&[orphan]).unwrap_err().problem, Problem::Missing("what continues"));
    let mut odd = parts[0].clone();
    odd.filesystems[0].placeholder = 3;
    assert_eq!(taken(&[odd]).unwrap_err().problem, Problem::Unknown { field: "placeholder", value: 3 });
}

#[test]
fn a_listing_has_an_end_whatever_it_consists_of() {
    let taken = |part: ListPart, times: usize| {
        let mut assembly = Assembly::new(no_token);
        (0..times).try_for_each(|_| assembly.accept(part.clone())).map_err(|refused| refused.problem)
    };
    let why = Unlisted { path: "tank/x".into(), why: "x".repeat(4 << 20) };
    let texts = ListPart { unlisted: vec![why], ..ListPart::default() };
    assert_eq!(taken(texts.clone(), 127), Ok(()));
    assert_eq!(taken(texts, 128), Err(Problem::TooMany { what: "bytes", most: MAX_BYTES }));

    let mut protected = ListPart { summary: None, ..Parts::of(view()).next().unwrap() };
    protected.filesystems.truncate(2);
    protected.filesystems.remove(0);
    let one = protected.filesystems[0].protections[0].clone();
    protected.filesystems[0].protections = vec![one; MAX_VERSIONS];
    let most = Problem::TooMany { what: "versions and protections", most: MAX_VERSIONS };
    assert_eq!(taken(protected, 1), Err(most), "beside the two versions");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(part) = ListPart::decode(bytes.as_slice()) {
            let mut assembly = Assembly::new(no_token);
            if assembly.accept(part).is_ok() {
                let _ = assembly.finish();
            }
        }
    }
}
