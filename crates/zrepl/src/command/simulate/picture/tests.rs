use std::num::NonZeroU64;
use std::time::Duration;

use expect_test::expect;
use model::naming::{SnapshotNaming, TimestampFormat};
use model::plan::prune::{GridInterval, KeepRule, RetentionGrid};
use model::simulate::{Horizon, Keep, Policy, Rhythm};

use super::super::{only, played};
use super::*;
use crate::command_line::PruneSide;

fn hourly(keep: Keep) -> Policy {
    let naming = SnapshotNaming::new("z_".to_owned(), TimestampFormat::dense());
    Policy { rhythm: Rhythm::Periodic(Duration::from_secs(3600)), naming, keep }
}

fn grid() -> Vec<KeepRule> {
    let interval = |repeat, seconds, keep| GridInterval { repeat, length: Duration::from_secs(seconds), keep };
    let one = NonZeroU64::new(1);
    let grid = vec![interval(1, 3600, None), interval(24, 3600, one), interval(14, 86_400, one)];
    let grid = RetentionGrid::new(grid).unwrap();
    let regex = regex("^z_");
    vec![KeepRule::Grid { grid, regex }]
}

fn regex(text: &str) -> regex::Regex {
    regex::Regex::new(text).unwrap()
}

fn drawn(policy: &Policy, days: u64, side: Option<PruneSide>) -> String {
    let from = "2024-05-14T00:00:00Z".parse().unwrap();
    let played = played("job", policy, Horizon::new(from, Duration::from_secs(days * 86_400))).unwrap();
    let text = draw(&only(played, side).unwrap());
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert_eq!(line, line.trim_end());
    }
    text
}

#[test]
fn a_grid_fills_up_and_then_stays_as_it_is() {
    expect![[r#"
        job job: 961 snapshots from 2024-05-14T00:00:00Z to 2024-06-23T00:00:00Z

        local keeps
             1. grid `1x1h(keep=all) | 24x1h | 14x1d` of `^z_`

        UTC                all  <=1d  <=7d <=30d  <=1y   >1y
        2024-05-14 00:00     1     1     .     .     .     . █
        2024-05-16 00:00    26    25     1     .     .     . ██████████████████
        2024-05-18 00:00    28    25     3     .     .     . ██████████████████▓▓
        2024-05-20 00:00    30    25     5     .     .     . ██████████████████▓▓▓
        2024-05-22 00:00    32    25     6     1     .     . ██████████████████▓▓▓▓▒
        2024-05-24 00:00    34    25     6     3     .     . ██████████████████▓▓▓▓▒▒
        2024-05-26 00:00    36    25     6     5     .     . ██████████████████▓▓▓▓▒▒▒
        2024-05-28 00:00    38    25     6     7     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-05-30 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-01 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-03 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-05 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-07 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-09 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-11 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-13 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-15 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-17 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-19 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-21 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒
        2024-06-23 00:00    39    25     6     8     .     . ██████████████████▓▓▓▓▒▒▒▒▒

        left on the local side at the end: 39
          15d  z_20240608_000000_000  rule 1
          14d  z_20240609_000000_000  rule 1
          13d  z_20240610_000000_000  rule 1
          12d  z_20240611_000000_000  rule 1
          11d  z_20240612_000000_000  rule 1
          10d  z_20240613_000000_000  rule 1
           9d  z_20240614_000000_000  rule 1
           8d  z_20240615_000000_000  rule 1
           7d  z_20240616_000000_000  rule 1
           6d  z_20240617_000000_000  rule 1
           5d  z_20240618_000000_000  rule 1
           4d  z_20240619_000000_000  rule 1
           3d  z_20240620_000000_000  rule 1
           2d  z_20240621_000000_000  rule 1
           1d  z_20240622_000000_000  rule 1
          23h  z_20240622_010000_000  rule 1
          22h  z_20240622_020000_000  rule 1
          21h  z_20240622_030000_000  rule 1
          20h  z_20240622_040000_000  rule 1
          19h  z_20240622_050000_000  rule 1
          18h  z_20240622_060000_000  rule 1
          17h  z_20240622_070000_000  rule 1
          16h  z_20240622_080000_000  rule 1
          15h  z_20240622_090000_000  rule 1
          14h  z_20240622_100000_000  rule 1
          13h  z_20240622_110000_000  rule 1
          12h  z_20240622_120000_000  rule 1
          11h  z_20240622_130000_000  rule 1
          10h  z_20240622_140000_000  rule 1
           9h  z_20240622_150000_000  rule 1
           8h  z_20240622_160000_000  rule 1
           7h  z_20240622_170000_000  rule 1
           6h  z_20240622_180000_000  rule 1
           5h  z_20240622_190000_000  rule 1
           4h  z_20240622_200000_000  rule 1
           3h  z_20240622_210000_000  rule 1
           2h  z_20240622_220000_000  rule 1
           1h  z_20240622_230000_000  rule 1
           0s  z_20240623_000000_000  rule 1
    "#]]
    .assert_eq(&drawn(&hourly(Keep::Local(grid())), 40, None));
}

#[test]
fn a_side_of_a_replication_can_be_looked_at_alone() {
    let sender = vec![
        KeepRule::NotReplicated { keep_snapshot_at_cursor: true },
        KeepRule::Regex { regex: regex(&format!("^({})$", "a very long expression|".repeat(8))), negate: false },
        KeepRule::LastN { count: 3, regex: None },
    ];
    let policy = hourly(Keep::Replicated { sender, receiver: grid() });
    let (both, one) = (drawn(&policy, 1, None), drawn(&policy, 1, Some(PruneSide::Sender)));
    assert!(both.contains("receiver keeps") && !one.contains("receiver"));
    expect![[r#"
        job job: 25 snapshots from 2024-05-14T00:00:00Z to 2024-05-15T00:00:00Z

        sender keeps
             1. not_replicated
             2. regex `^(a very long expression|a very long expression|a very long
                expression|a very long expression|a very long expression|a very long
                expression|a very long expression|a very long expression|)$`
             3. last_n 3

        UTC                all  <=1d  <=7d <=30d  <=1y   >1y
        2024-05-14 00:00     1     1     .     .     .     . █
        2024-05-14 01:00     2     2     .     .     .     . ██
        2024-05-14 02:00     3     3     .     .     .     . ███
        2024-05-14 03:00     3     3     .     .     .     . ███
        2024-05-14 04:00     3     3     .     .     .     . ███
        2024-05-14 05:00     3     3     .     .     .     . ███
        2024-05-14 06:00     3     3     .     .     .     . ███
        2024-05-14 07:00     3     3     .     .     .     . ███
        2024-05-14 08:00     3     3     .     .     .     . ███
        2024-05-14 09:00     3     3     .     .     .     . ███
        2024-05-14 10:00     3     3     .     .     .     . ███
        2024-05-14 11:00     3     3     .     .     .     . ███
        2024-05-14 12:00     3     3     .     .     .     . ███
        2024-05-14 13:00     3     3     .     .     .     . ███
        2024-05-14 14:00     3     3     .     .     .     . ███
        2024-05-14 15:00     3     3     .     .     .     . ███
        2024-05-14 16:00     3     3     .     .     .     . ███
        2024-05-14 17:00     3     3     .     .     .     . ███
        2024-05-14 18:00     3     3     .     .     .     . ███
        2024-05-14 19:00     3     3     .     .     .     . ███
        2024-05-14 20:00     3     3     .     .     .     . ███
        2024-05-14 21:00     3     3     .     .     .     . ███
        2024-05-14 22:00     3     3     .     .     .     . ███
        2024-05-14 23:00     3     3     .     .     .     . ███
        2024-05-15 00:00     3     3     .     .     .     . ███

        left on the sender side at the end: 3
          2h  z_20240514_220000_000  rule 3
          1h  z_20240514_230000_000  rule 3
          0s  z_20240515_000000_000  rules 1, 3
    "#]]
    .assert_eq(&one);
}

#[test]
fn bars_have_a_scale_and_the_youngest_first() {
    assert_eq!(bar(&[1, 0, 0, 0, 0], 1), "█");
    assert_eq!(bar(&[2, 1, 0, 1, 1], 5), "██▓░·");
    assert_eq!(bar(&[100, 100, 0, 0, 0], 200).chars().count(), BAR);
    assert_eq!(bar(&[0; 5], 0), "");
}

#[test]
fn ages_are_for_people() {
    let hours = |hours: i64| hours * HOUR;
    for (age, text) in [(0, "0s"), (59, "59s"), (90, "1m"), (hours(2), "2h"), (hours(2) + 60, "2h 1m")] {
        assert_eq!(in_words(age), text);
    }
    assert_eq!((in_words(hours(48)), in_words(hours(51) + 60)), ("2d".to_owned(), "2d 3h".to_owned()));
}
