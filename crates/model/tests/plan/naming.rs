use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::naming::{FormatError, SnapshotNaming, TimestampFormat, Zone};

const MOMENT: &str = "2024-05-14T21:16:23.004567890Z";

fn zone(name: &str) -> Zone {
    match name {
        "UTC" => Zone::Utc,
        name => Zone::Named(TimeZone::get(name).unwrap()),
    }
}

fn written(layout: &str, place: &str, moment: &str) -> String {
    TimestampFormat::new(layout, zone(place)).unwrap().format(moment.parse::<Timestamp>().unwrap())
}

#[test]
fn times_are_written_as_ever() {
    let table = [
        ("dense", "UTC", "20240514_211623_000"),
        ("DENSE", "UTC", "20240514_211623_000"),
        ("human", "UTC", "2024-05-14_21:16:23"),
        ("unix-seconds", "UTC", "1715721383"),
        ("iso-8601", "UTC", "2024-05-14T21:16:23.004Z"),
        ("ISO-8601", "Europe/Berlin", "2024-05-14T23:16:23.004_0200"),
        ("iso-8601", "America/New_York", "2024-05-14T17:16:23.004-0400"),
        ("iso-8601", "Asia/Kolkata", "2024-05-15T02:46:23.004_0530"),
        ("2006-01-02", "UTC", "2024-05-14"),
        ("2006-01-02T15:04:05.000Z07:00", "UTC", "2024-05-14T21:16:23.004Z"),
        ("2006-01-02T15:04:05.000Z07:00", "Europe/Berlin", "2024-05-14T23:16:23.004_02:00"),
        ("2006-01-02T15:04:05.000Z07:00", "America/New_York", "2024-05-14T17:16:23.004-04:00"),
        ("2006-01-02_15:04:05-07:00", "Europe/Berlin", "2024-05-14_23:16:23_02:00"),
        ("2006-01-02_15:04:05-07:00", "America/New_York", "2024-05-14_17:16:23-04:00"),
        ("2006-01-02_15:04:05-07:00:00", "Europe/Berlin", "2024-05-14_23:16:23_02:00:00"),
        ("2006-01-02_MST", "UTC", "2024-05-14_UTC"),
        ("2006-01-02_MST", "Europe/Berlin", "2024-05-14_CEST"),
        ("Mon Jan _2 15:04:05 2006", "UTC", "Tue May 14 21:16:23 2024"),
        ("Monday January 2 2006", "UTC", "Tuesday May 14 2024"),
        ("2006-002", "UTC", "2024-135"),
        ("06-1-2_3:4:5PM", "UTC", "24-5-14_9:16:23PM"),
        ("2006_03.04pm", "UTC", "2024_09.16pm"),
        ("15h04m05s.000000000", "UTC", "21h16m23s.004567890"),
        // not in the tables of zrepl's behaviour, but what the layout language says
        ("05.999999", "UTC", "23.004567"),
        ("05.99", "UTC", "23"),
        ("05,000", "UTC", "23,004"),
        ("05.0001", "UTC", "23.0005"),
        ("2006_2006", "UTC", "2024_2024"),
        ("__2 2006", "UTC", "135 2024"),
        ("Janet 2006", "UTC", "Janet 2024"),
        ("Monk 2006", "UTC", "Monk 2024"),
        ("2006 Z07 -07 Z070000", "Asia/Kolkata", "2024 _05 _05 _053000"),
        ("2006-0700", "UTC", "2024_0000"),
        ("2006-01-02-07:00", "Africa/Abidjan", "2024-05-14_00:00"),
        ("2006 MST", "Asia/Almaty", "2024 _05"),
    ];
    for (layout, place, expected) in table {
        assert_eq!(written(layout, place, MOMENT), expected, "{layout} in {place}");
    }
}

#[test]
fn small_numbers_are_filled_up_as_the_layout_says() {
    let table = [
        ("2 _2 02", "5  5 05"),
        ("002 __2", "005   5"),
        ("1 01 3 03 15", "1 01 12 12 00"),
        ("4 04 5 05", "7 07 9 09"),
        ("PM pm", "AM am"),
        ("05.999 .999", "09 "),
        ("05.000", "09.000"),
    ];
    for (layout, expected) in table {
        assert_eq!(written(layout, "UTC", "2024-01-05T00:07:09Z"), expected, "{layout}");
    }
    assert_eq!(written("2006 06", "UTC", "0033-01-01T00:00:00Z"), "0033 33");
}

#[test]
fn an_offset_has_no_plus_in_any_season() {
    for place in ["Europe/London", "Europe/Lisbon", "UTC", "Africa/Abidjan", "Europe/Berlin", "Pacific/Auckland"] {
        for layout in ["iso-8601", "2006-01-02T15-0700", "2006-01-02T15-07:00:00 -07"] {
            let format = TimestampFormat::new(layout, zone(place)).unwrap();
            assert_eq!(SnapshotNaming::new("zrepl_".to_owned(), format).check(), Ok(()), "{layout} in {place}");
        }
    }
    assert_eq!(written("iso-8601", "Europe/London", "2020-06-01T00:00:00Z"), "2020-06-01T01:00:00.000_0100");
    assert_eq!(written("iso-8601", "Europe/London", "2020-12-01T00:00:00Z"), "2020-12-01T00:00:00.000Z");
}

#[test]
fn formats_without_a_zone_are_in_utc() {
    let berlin = || TimeZone::get("Europe/Berlin").unwrap();
    for keyword in ["dense", "human", "unix-seconds", "Dense"] {
        for zone in [Zone::Local(TimeZone::UTC), Zone::Local(berlin()), Zone::Named(berlin())] {
            let refused = TimestampFormat::new(keyword, zone).unwrap_err();
            assert!(matches!(refused, FormatError::NeedsUtc { .. }), "{keyword}");
        }
    }
    assert_eq!(
        TimestampFormat::new("Dense", Zone::Local(TimeZone::UTC)).unwrap_err().to_string(),
        "timestamp format `dense` is for UTC only: leave out `timestamp_location`, or use `iso-8601`"
    );
    assert!(TimestampFormat::new("iso-8601", Zone::Local(berlin())).is_ok());
}

#[test]
fn layouts_that_cannot_name_snapshots_are_refused() {
    for constant in ["foo", "", "_", "MST", "-0700"] {
        let refused = TimestampFormat::new(constant, Zone::Utc).unwrap_err();
        assert_eq!(refused, FormatError::Constant { layout: constant.to_owned() });
    }
    for plus in ["2006+1", "+", "2006-01-02+07:00"] {
        let refused = TimestampFormat::new(plus, Zone::Utc).unwrap_err();
        assert_eq!(refused, FormatError::Plus { layout: plus.to_owned() });
    }
    assert!(refused_prefix_or_layout("z_", "2006/01/02").contains("'/' is not allowed"));
}

fn refused_prefix_or_layout(prefix: &str, layout: &str) -> String {
    let format = TimestampFormat::new(layout, Zone::Utc).unwrap();
    match SnapshotNaming::new(prefix.to_owned(), format).check() {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_prefix_is_tried_before_it_is_needed() {
    for good in ["zrepl_", "a b", "a:b", ".", "123"] {
        assert_eq!(refused_prefix_or_layout(good, "dense"), "ok", "{good}");
    }
    for bad in ["zrepl@", "zre/pl", "zre+", "%", "a#", "ä"] {
        assert!(refused_prefix_or_layout(bad, "dense").contains("is not allowed"), "{bad}");
    }
    assert!(refused_prefix_or_layout(&"a".repeat(240), "dense").contains("259 bytes"));
}

#[test]
fn a_format_tells_how_close_times_may_be() {
    const DAY: u64 = 24 * 3600;
    let seconds = Duration::from_secs;
    let table = [
        // layout, resolution, comes again after
        ("dense", seconds(1), None),
        ("unix-seconds", seconds(1), None),
        ("iso-8601", Duration::from_millis(1), None),
        ("2006-01-02", seconds(DAY), None),
        ("2006-002", seconds(DAY), None),
        ("2006-01-02_15", seconds(3600), None),
        ("2006-01-02_03PM", seconds(3600), None),
        ("2006-01-02_15:04", seconds(60), None),
        ("2006-01", seconds(31 * DAY), None),
        ("2006", seconds(366 * DAY), None),
        ("15:04", seconds(60), Some(seconds(DAY))),
        ("03:04", seconds(60), Some(seconds(DAY / 2))),
        ("15h04m05s.000000000", Duration::from_nanos(1), Some(seconds(DAY))),
        ("2006-01-02 04", seconds(60), Some(seconds(3600))),
        ("01-02", seconds(DAY), Some(seconds(366 * DAY))),
        ("Mon", seconds(DAY), Some(seconds(7 * DAY))),
        ("Mon 15:04", seconds(60), Some(seconds(7 * DAY))),
        ("2006-01-02 Mon", seconds(DAY), None),
        ("PM", seconds(DAY / 2), Some(seconds(DAY))),
    ];
    for (layout, resolution, again) in table {
        let format = TimestampFormat::new(layout, Zone::Utc).unwrap();
        assert_eq!(format.resolution(), Some(resolution), "{layout}");
        assert_eq!(format.comes_again_after(), again, "{layout}");
        assert!(!format.repeats_within(resolution), "{layout}");
        assert!(format.repeats_within(resolution - Duration::from_nanos(1)), "{layout}");
    }
}
