use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::schedule::{Cron, CronError};
use proptest::prelude::*;

fn parse(spec: &str) -> Result<Cron, CronError> {
    Cron::parse(spec, |name| TimeZone::get(name).ok(), TimeZone::UTC)
}

fn berlin(spec: &str) -> Cron {
    Cron::parse(spec, |_| None, TimeZone::get("Europe/Berlin").unwrap()).unwrap()
}

/// The next times, as the clock of the spec's zone shows them.
fn next(cron: &Cron, from: &str, count: usize, format: &str) -> String {
    let from: DateTime = from.parse().unwrap();
    let mut at = cron.zone().to_timestamp(from).unwrap();
    let mut shown = Vec::new();
    for _ in 0..count {
        at = cron.next(at).unwrap();
        shown.push(at.to_zoned(cron.zone().clone()).strftime(format).to_string());
    }
    shown.join(" ")
}

#[test]
fn what_zrepl_accepts_is_accepted() {
    for spec in [
        "* * * * *",
        "0-10 * * * *",
        "* 0-5,8,12 * * *",
        "*/5 * * * *",
        "5/15 * * * *",
        "1-10/2 * * * *",
        "0 3 * JAN-MAR Mon",
        "? ? ? ? ?",
        "* * * * * *",
        "*/10 * * * * *",
        "CRON_TZ=Europe/Berlin 0 3 * * *",
        "TZ=Europe/Berlin 0 3 * * *",
        "TZ=UTC * * * * *",
        "TZ= * * * * *",
        "TZ=Local   0 3 * * *",
        "1,,2 * * * *",
        "*-5 * * * *",
        "  0   3 *\t* * ",
        // and more
        "0 3 * * 7",
        "0 3 * * 5-7",
        "@hourly",
        "@Daily",
        "@weekly",
        "@monthly",
        "@yearly",
        "CRON_TZ=Europe/Berlin @daily",
    ] {
        let cron = parse(spec).unwrap_or_else(|error| panic!("{spec}: {error}"));
        assert_eq!(cron.text(), spec.trim());
        assert_eq!(cron.to_string(), spec.trim());
    }
}

#[test]
fn errors_say_what_to_write() {
    let table = [
        ("", "the cron spec is empty: write `minute hour day month weekday`, such as `0 3 * * *`"),
        (
            "* * * *",
            "a cron spec has 5 fields (minute hour day month weekday), or 6 with seconds before them: `* * * *` has 4",
        ),
        ("23", "… `23` has 1"),
        ("* * * * * * *", "… has 7"),
        ("TZ=UTC", "… `` has 0"),
        ("TZ=Mars/Base 0 3 * * *", "unknown time zone \"Mars/Base\" in cron spec: …"),
        ("@reboot", "unknown cron word `@reboot`: use `@hourly`, …"),
        ("@every 1h30m", "… (for a fixed distance use `type: periodic` with `interval`)"),
        ("60 * * * *", "cannot use `60` as minute of a cron spec: 60 is not between 0 and 59"),
        ("0 3 * * 8", "cannot use `8` as weekday of a cron spec: 8 is not between 0 and 7"),
        ("0 0 0 * *", "cannot use `0` as day of month of a cron spec: 0 is not between 1 and 31"),
        ("10-1 * * * *", "… `10-1` as minute of a cron spec: the range ends before it begins: write `10-59,0-1`"),
        ("*/0 * * * *", "… a step must be at least 1"),
        ("*/x * * * *", "… a step is a number: write for example `*/5`"),
        ("*/2/3 * * * *", "… write one `/` only"),
        ("0 0 L * *", "cannot use `L` as day of month of a cron spec: write `*`, a number from 1 to 31, or a …"),
        ("0 0 * * 1#2", "cannot use `1#2` as weekday … a name such as `mon`, or a range of them"),
        ("-1 * * * *", "cannot use `-1` as minute …"),
        ("1-2-3 * * * *", "cannot use `1-2-3` as minute …"),
        (", * * * *", "the minute `,` of the cron spec matches nothing: write `*` for every value"),
        ("0 3 31 2 *", "cron spec `0 3 31 2 *` never fires, as no month of the spec has such a day: check …"),
        ("0 3 31 4,6,9,11 *", "… never fires …"),
    ];
    for (spec, expected) in table {
        let error = parse(spec).unwrap_err().to_string();
        for part in expected.split('…') {
            assert!(error.contains(part.trim()), "{spec}: {error}");
        }
    }
}

#[test]
fn the_next_time_is_later_and_in_whole_seconds() {
    let table = [
        ("0-10 * * * *", "2024-05-17T01:10", "17 02:00"),
        ("0-10 * * * *", "2024-05-17T23:10", "18 00:00"),
        ("1,3,5 * * * *", "2024-05-17T01:05", "17 02:01"),
        ("* 0-5,8,12 * * *", "2024-05-17T05:59", "17 08:00"),
        ("* 0-5,8,12 * * *", "2024-05-17T08:59", "17 12:00"),
        ("53 17,18,19 * * *", "2024-05-23T19:53", "24 17:53"),
        ("* * * * *", "2024-05-17T00:00:30.9", "17 00:01"),
        ("* * * * *", "2024-05-17T00:01:00", "17 00:02"),
        ("*-5 * * * *", "2024-05-17T00:31:00", "17 00:32"),
        ("5/15 * * * *", "2024-05-17T00:50", "17 01:05"),
        ("0 0 1 1 *", "2024-12-31T23:59:59.999999999", "01 00:00"),
    ];
    for (spec, from, expected) in table {
        assert_eq!(next(&parse(spec).unwrap(), from, 1, "%d %H:%M"), expected, "{spec} after {from}");
    }
    let table = [
        ("*/40 * * * *", "2024-05-17T00:00", 3, "%H:%M", "00:40 01:00 01:40"),
        ("*/20 * * * * *", "2024-05-17T00:00:00.5", 4, "%M:%S", "00:20 00:40 01:00 01:20"),
        ("1/3 5 0 * * *", "2024-05-17T00:05:57", 2, "%d %H:%M:%S", "17 00:05:58 18 00:05:01"),
        // the 13th or a Friday
        ("0 0 13 * 5", "2024-09-01T00:00", 5, "%m-%d", "09-06 09-13 09-20 09-27 10-04"),
        ("0 0 */2 * 1", "2024-09-01T00:00", 5, "%m-%d", "09-02 09-03 09-05 09-07 09-09"),
        ("0 0 1-7 * MON", "2024-09-01T00:00", 4, "%m-%d", "09-02 09-03 09-04 09-05"),
        ("0 0 */1 * MON", "2024-09-01T00:00", 3, "%m-%d", "09-02 09-09 09-16"),
        ("0 0 29 2 *", "2024-03-31T00:00", 2, "%Y-%m-%d", "2028-02-29 2032-02-29"),
        ("0 0 29 2 *", "2096-03-01T00:00", 1, "%Y-%m-%d", "2104-02-29"),
        ("0 0 * * 7", "2024-09-02T00:00", 2, "%m-%d", "09-08 09-15"),
        ("0 0 * * 6-7", "2024-09-02T00:00", 3, "%m-%d", "09-07 09-08 09-14"),
        ("0 0 * * 1/2", "2024-09-01T00:00", 4, "%a", "Mon Wed Fri Mon"),
        ("@hourly", "2024-09-01T00:30", 2, "%H:%M", "01:00 02:00"),
        ("@weekly", "2024-09-02T00:00", 1, "%m-%d %H:%M", "09-08 00:00"),
        ("@monthly", "2024-09-02T00:00", 1, "%m-%d %H:%M", "10-01 00:00"),
        ("@yearly", "2024-09-02T00:00", 1, "%Y-%m-%d", "2025-01-01"),
        ("CRON_TZ=Asia/Kolkata 0 3 * * *", "2024-09-02T00:00", 1, "%H:%M%z", "03:00+0530"),
    ];
    for (spec, from, count, format, expected) in table {
        assert_eq!(next(&parse(spec).unwrap(), from, count, format), expected, "{spec} after {from}");
    }
}

#[test]
fn given_times_of_a_day_fire_once_when_the_clock_changes() {
    const FORMAT: &str = "%d:%H:%M%z";
    let table = [
        // set forward on 2024-03-31 from 02:00 to 03:00
        ("30 2 * * *", "2024-03-30T12:00", "31:03:00+0200 01:02:30+0200"),
        ("0,30 2 * * *", "2024-03-30T12:00", "31:03:00+0200 01:02:00+0200"),
        ("0 1,2,3,4 * * *", "2024-03-31T00:30", "31:01:00+0100 31:03:00+0200 31:04:00+0200"),
        ("30 2,3 * * *", "2024-03-31T00:30", "31:03:00+0200 31:03:30+0200 01:02:30+0200"),
        ("0 3 * * *", "2024-03-30T12:00", "31:03:00+0200 01:03:00+0200"),
        // only on that day: the time that is left out decides the date
        ("30 2 31 3 *", "2024-03-30T12:00", "31:03:00+0200 31:02:30+0200"),
        // set back on 2024-10-27 from 03:00 to 02:00
        ("30 2 * * *", "2024-10-26T12:00", "27:02:30+0200 28:02:30+0100"),
        ("0 1,2,3 * * *", "2024-10-27T00:30", "27:01:00+0200 27:02:00+0200 27:03:00+0100"),
        ("0 3 * * *", "2024-10-26T12:00", "27:03:00+0100 28:03:00+0100"),
    ];
    for (spec, from, expected) in table {
        let count = expected.split(' ').count();
        let cron = berlin(spec);
        assert_eq!(next(&cron, from, count, FORMAT), expected, "{spec} after {from}");
    }
    // From the second 02:45 on, the second 02:50 does not count.
    let second_pass: Timestamp = "2024-10-27T01:45:00Z".parse().unwrap();
    assert_eq!(berlin("50 2 * * *").next(second_pass), Some("2024-10-28T01:50:00Z".parse().unwrap()));
}

#[test]
fn a_rhythm_goes_on_by_the_time_that_passes() {
    const FORMAT: &str = "%H:%M%z";
    let table = [
        ("0 * * * *", "2024-03-31T00:30", "01:00+0100 03:00+0200 04:00+0200"),
        ("0 * * * *", "2024-10-27T00:30", "01:00+0200 02:00+0200 02:00+0100 03:00+0100"),
        ("*/30 * * * *", "2024-03-31T01:00", "01:30+0100 03:00+0200"),
        ("*/30 * * * *", "2024-10-27T01:45", "02:00+0200 02:30+0200 02:00+0100 02:30+0100 03:00+0100"),
        ("30 */2 * * *", "2024-10-27T00:30", "02:30+0200 02:30+0100 04:30+0100"),
        ("30 0-23 * * *", "2024-03-31T00:00", "00:30+0100 01:30+0100 03:30+0200"),
        // of a rhythm within one hour nothing is left when the hour is left out
        ("*/20 2 * * *", "2024-03-30T12:00", "02:00+0200 02:20+0200 02:40+0200"),
    ];
    for (spec, from, expected) in table {
        let count = expected.split(' ').count();
        assert_eq!(next(&berlin(spec), from, count, FORMAT), expected, "{spec} after {from}");
    }
}

#[test]
fn the_end_of_the_calendar_has_no_next_time() {
    let cron = parse("0 3 * * *").unwrap();
    assert_eq!(cron.next(Timestamp::MAX), None);
    assert_eq!(berlin("* * * * *").next(Timestamp::MAX), None);
    assert!(cron.next(Timestamp::MIN).is_some());
    let before_1970: Timestamp = "1969-12-31T23:59:59.5Z".parse().unwrap();
    assert_eq!(parse("* * * * * *").unwrap().next(before_1970), Some(Timestamp::UNIX_EPOCH));
}

/// A field and what it means.
type Choice = (&'static str, fn(i8) -> bool);

const MINUTES: [Choice; 4] = [
    ("*", |_| true),
    ("*/7", |minute| minute % 7 == 0),
    ("5,50-52", |m| m == 5 || (50..53).contains(&m)),
    ("0", |m| m == 0),
];
const HOURS: [Choice; 3] = [("*", |_| true), ("3", |hour| hour == 3), ("22-23,1/9", |hour| hour > 21 || hour % 9 == 1)];
const DAYS: [Choice; 3] = [("*", |_| true), ("13", |day| day == 13), ("*/2", |day| day % 2 == 1)];
const WEEKDAYS: [Choice; 3] = [("?", |_| true), ("mon-wed", |day| (1..4).contains(&day)), ("7", |day| day == 0)];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_the_first_minute_that_matches(
        minute in prop::sample::select(&MINUTES[..]),
        hour in prop::sample::select(&HOURS[..]),
        day in prop::sample::select(&DAYS[..]),
        weekday in prop::sample::select(&WEEKDAYS[..]),
        after in 0_i64..4_000_000_000,
    ) {
        let cron = parse(&format!("{} {} {} * {}", minute.0, hour.0, day.0, weekday.0)).unwrap();
        let either = day.0 != "*" && weekday.0 != "?";
        let matches = |at: &Timestamp| {
            let time = TimeZone::UTC.to_datetime(*at);
            let days = (day.1(time.day()), weekday.1(time.weekday().to_sunday_zero_offset()));
            minute.1(time.minute()) && hour.1(time.hour()) && if either { days.0 || days.1 } else { days.0 && days.1 }
        };
        let minutes = (after / 60 + 1..).map(|minute| Timestamp::from_second(minute * 60).unwrap());
        let first = minutes.take(40 * 24 * 60).find(matches);
        prop_assert!(first.is_some());
        prop_assert_eq!(cron.next(Timestamp::from_second(after).unwrap()), first);
    }
}
