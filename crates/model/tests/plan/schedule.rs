use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::filter::Pattern;
use model::naming::{SnapshotNaming, TimestampFormat, Zone};
use model::plan::snapshot::plan_snapshots;
use model::schedule::{next_round, sync_point};
use model::{DatasetName, FilesystemFilter, UnixTime, Version};

use crate::notation::{dataset, unsorted, versions};

const INTERVAL: Duration = Duration::from_secs(600);

fn at(time: &str) -> Timestamp {
    let text = if time.contains('T') { time.to_owned() } else { format!("2024-05-14T{time}:00Z") };
    text.parse().unwrap()
}

/// A filesystem whose newest snapshot of the job was taken at `time`.
fn taken(name: &str, time: &str) -> (DatasetName, Vec<Version>) {
    let mut list = unsorted(if time.is_empty() { "@manual" } else { "@zrepl_1 @zrepl_2 @manual" });
    if let Some(newest) = list.get_mut(1) {
        newest.creation = UnixTime(at(time).as_second());
    }
    (dataset(name), list)
}

/// Sync point at 12:00, then who waits and who is ignored.
fn sync(filesystems: &[(DatasetName, Vec<Version>)]) -> String {
    let list = filesystems.iter().map(|(name, versions)| (name, versions.as_slice()));
    match sync_point(at("12:00"), INTERVAL, "zrepl_", list) {
        Ok(point) => format!(
            "{} waiting {:?} ignored {:?}",
            point.at.strftime("%H:%M"),
            point.without_snapshot_until_then,
            point.from_the_future
        ),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_first_round_continues_the_rhythm() {
    let table = [
        ("11:55", "11:55", r#"12:05 waiting [] ignored []"#),
        ("11:55", "11:52", r#"12:02 waiting [] ignored []"#),
        ("11:55", "", r#"12:05 waiting ["b"] ignored []"#),
        ("", "", r#"12:00 waiting [] ignored []"#),
        ("11:55", "2024-05-11T12:00:00Z", r#"12:00 waiting [] ignored []"#),
        ("2024-05-11T12:00:00Z", "", r#"12:00 waiting [] ignored []"#),
        ("12:30", "11:55", r#"12:05 waiting [] ignored ["a"]"#),
        ("12:30", "", r#"12:00 waiting [] ignored ["a"]"#),
    ];
    for (a, b, expected) in table {
        assert_eq!(sync(&[taken("a", a), taken("b", b)]), expected, "{a} {b}");
    }
    assert_eq!(sync(&[]), "12:00 waiting [] ignored []");
    assert_eq!(
        sync(&[taken("a", "12:30")]),
        "the newest snapshot of every filesystem is from the future (a): check the clock"
    );
}

#[test]
fn rounds_follow_at_the_interval_or_at_once_if_late() {
    assert_eq!(next_round(at("12:01"), at("12:00"), INTERVAL), at("12:10"));
    assert_eq!(next_round(at("12:15"), at("12:00"), INTERVAL), at("12:15"));
    assert_eq!(next_round(at("12:00"), at("12:00"), Duration::MAX), Timestamp::MAX);
    assert_eq!(next_round(at("12:01"), at("18:00"), INTERVAL), at("12:11"), "the clock was set back");
}

#[test]
fn the_dense_format_ends_in_literal_zeros() {
    let name = |prefix, time: &str| naming(prefix).name(at(time));
    assert_eq!(name("zrepl_", "2024-05-14T21:16:23.004567890Z").unwrap().as_str(), "zrepl_20240514_211623_000");
    assert_eq!(name("x", "2024-05-14T23:16:23+02:00").unwrap().as_str(), "x20240514_211623_000");
    assert!(name("a/", "12:00").is_err());
    assert!(name(&"a".repeat(240), "12:00").is_err());
}

#[test]
fn a_round_has_one_name_and_leaves_out_what_would_fail() {
    let filter =
        FilesystemFilter::new([(Pattern::parse("p<").unwrap(), true), (Pattern::parse("p/skip").unwrap(), false)]);
    let long = format!("p/{}", "x".repeat(240));
    let listing: Vec<_> = [("q", ""), ("p/b", "@old"), ("p", "#x20240514_120000_000"), (&long, ""), ("p/skip", "")]
        .into_iter()
        .map(|(name, text)| (dataset(name), versions(text)))
        .chain([(dataset("p/twice"), versions("@x20240514_120000_000"))])
        .collect();
    let plan =
        plan_snapshots(at("12:00"), &naming("x"), &filter, listing.iter().map(|(name, list)| (name, &**list))).unwrap();
    assert_eq!(plan.name.as_str(), "x20240514_120001_000", "that of now is taken");
    assert_eq!(plan.filesystems, [dataset("p"), dataset("p/b"), dataset("p/twice")]);
    let impossible: Vec<String> =
        plan.impossible.iter().map(|(name, why)| format!("{} {why}", &name.as_str()[..3])).collect();
    assert_eq!(impossible, ["p/x the full name would be 263 bytes long, ZFS allows 255: use a shorter prefix"]);
}

#[test]
fn a_name_gives_way_to_that_of_the_next_free_second() {
    let filter = FilesystemFilter::new([(Pattern::parse("p<").unwrap(), true)]);
    let plan = |naming: &SnapshotNaming, taken: &[String]| {
        let listing = [(dataset("p"), versions("")), (dataset("p/a"), versions(&taken.join(" ")))];
        let plan = plan_snapshots(at("12:00"), naming, &filter, listing.iter().map(|(name, list)| (name, &**list)));
        let plan = plan.unwrap();
        format!("{} {} {}", plan.name, plan.filesystems.len(), plan.impossible.len())
    };
    let seconds = |count: i64| -> Vec<String> {
        (0..count)
            .map(|ahead| format!("@{}", naming("x").name(at("12:00") + SignedDuration::from_secs(ahead)).unwrap()))
            .collect()
    };
    assert_eq!(plan(&naming("x"), &seconds(0)), "x20240514_120000_000 2 0");
    assert_eq!(plan(&naming("x"), &seconds(3)), "x20240514_120003_000 2 0");
    assert_eq!(plan(&naming("x"), &seconds(60)), "x20240514_120100_000 2 0");
    // A name must not be far from the truth, nor change where the next one is a day away.
    assert_eq!(plan(&naming("x"), &seconds(61)), "x20240514_120000_000 1 1");
    let days = SnapshotNaming::new("x".to_owned(), TimestampFormat::new("2006-01-02", Zone::Utc).unwrap());
    assert_eq!(plan(&days, &["@x2024-05-14".to_owned()]), "x2024-05-14 1 1");
}

fn naming(prefix: &str) -> SnapshotNaming {
    SnapshotNaming::new(prefix.to_owned(), TimestampFormat::dense())
}
