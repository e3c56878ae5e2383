//! Colours, and where things are, rather than what they say.

use expect_test::expect;

use super::stories::{failed, idle, large, reconnecting, sending};
use super::*;

/// The terminal's 16 colours differ, and so do their grounds: only some can be read on all of them.
#[test]
fn colours_can_be_read_on_light_and_on_dark_grounds() {
    use ratatui::style::{Color, Modifier};
    for report in [idle(), sending(1), failed(), reconnecting(), large(50)] {
        let mut theatre = Theatre::new(120, 40, &report);
        theatre.picture();
        let buffer = theatre.terminal.backend().buffer().clone();
        for cell in &buffer.content {
            match (cell.bg, cell.fg) {
                (Color::Reset, Color::Reset | Color::LightBlue) => {}
                (Color::Red, Color::White) => assert!(!cell.modifier.contains(Modifier::REVERSED)),
                other => panic!("{other:?} of {:?}", cell.symbol()),
            }
        }
        let chosen = (0..120).map(|column| &buffer[(column, 3)]);
        let grounds = |cell: &ratatui::buffer::Cell| {
            assert_eq!((cell.bg, cell.fg), (Color::Reset, Color::Reset));
            assert!(cell.modifier.contains(Modifier::REVERSED) && !cell.modifier.contains(Modifier::DIM));
        };
        chosen.for_each(grounds);
    }
}

#[test]
fn a_list_of_many_jobs_keeps_its_columns_and_goes_beside_the_detail_only_when_it_must() {
    let job = |text: &str, name: &str| {
        let report: serde_json::Value = serde_json::from_str(text).unwrap();
        report["Jobs"][name].clone()
    };
    let names = (0..20).map(|index| (format!("vm_host_{index:02}"), job(&idle(), "home_to_vault")));
    let mut jobs: serde_json::Map<String, serde_json::Value> = names.collect();
    jobs.insert("media_to_offsite_with_a_long_name".to_owned(), job(&failed(), "home_to_vault"));
    let text = stories::report(jobs.into(), serde_json::json!(null));
    let lines = |width, height| {
        let picture = Theatre::new(width, height, &text).picture();
        picture.lines().skip(1).take(3).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        == Jobs, 1 with errors ================================================= 1-5/22
          JOB                       STATE     LAG         LAST OK     NEXT       NEWEST
        > media_to_off…a_long_name  6 errors  1 not sent  1d 1h ago   in 5m      4m 4s

        == Jobs, 1 with errors =========================================================================================================================================
          JOB                                STATE     LAG         LAST OK     NEXT       NEWEST  TYPE    ERROR
        > media_to_offsite_with_a_long_name  6 errors  1 not sent  1d 1h ago   in 5m      4m 4s   push    tank/home/mail: the two sides have diverged: the newest commo…

        == Jobs, 1 with errors ======================================== -- media_to_offsite_with_a_long_name, push -----------------------------------------------------
          JOB                       STATE     LAG         LAST OK       6 errors; last success 1d 1h ago (2099-02-02 03:05:06); next run in 5m (04:10:06); the receiver
        > media_to_off…a_long_name  6 errors  1 not sent  1d 1h ago     is behind by 1d; not replicated: 1 of 2 filesystems (tank/home/mail); newest snapshots 4m 4s old"#]].assert_eq(&[lines(80, 24), lines(160, 70), lines(160, 40)].join("\n\n"));
}

/// Two jobs may be about the same filesystems.
#[test]
fn commands_are_shown_with_the_job_that_runs() {
    let report: serde_json::Value = serde_json::from_str(&sending(0)).unwrap();
    let waiting: serde_json::Value = serde_json::from_str(&idle()).unwrap();
    let jobs = serde_json::json!({"a": report["Jobs"]["home_to_vault"], "b": waiting["Jobs"]["home_to_vault"]});
    let text = stories::report(jobs, report["Global"]["ZFSCmds"]["Active"].clone());
    let mut theatre = Theatre::new(120, 60, &text);
    assert!(theatre.picture().contains("zfs send -vP -i @b tank/home@c"), "{}", theatre.picture());
    theatre.press(KeyCode::Char('j'));
    let picture = theatre.picture();
    assert!(picture.contains("-- b, push") && !picture.contains("zfs send"), "{picture}");
}

#[test]
fn without_colours_nothing_has_one() {
    for (colors, some) in [(true, true), (false, false)] {
        let options = Options { job: None, colors, legacy: false, zone: TimeZone::UTC };
        let mut theatre = Theatre::with(120, 40, options, vec![None]);
        theatre.report(0, &failed());
        theatre.picture();
        let cells = &theatre.terminal.backend().buffer().content;
        assert_eq!(cells.iter().any(|cell| cell.fg != ratatui::style::Color::Reset), some);
    }
}
