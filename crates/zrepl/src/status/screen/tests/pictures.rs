//! Screens, to be read.

use expect_test::{Expect, expect};

use super::stories::{failed, idle, large, planning_error, reconnecting, sending};
use super::*;

fn looks(mut theatre: Theatre, expected: &Expect) {
    expected.assert_eq(&theatre.picture());
}

#[test]
fn all_is_well() {
    looks(Theatre::new(80, 24, &idle()), &expect![[""]]);
    looks(Theatre::new(120, 40, &idle()), &expect![[""]]);
    looks(Theatre::new(200, 60, &idle()), &expect![[""]]);
}

#[test]
fn bytes_come() {
    let mut theatre = Theatre::new(80, 24, &sending(20 << 20));
    theatre.report(10, &sending(40 << 20));
    looks(theatre, &expect![[""]]);
    let mut theatre = Theatre::new(120, 40, &sending(20 << 20));
    theatre.report(10, &sending(40 << 20));
    looks(theatre, &expect![[""]]);
}

#[test]
fn much_failed() {
    looks(Theatre::new(120, 40, &failed()), &expect![[""]]);
    let mut narrow = Theatre::new(60, 30, &failed());
    narrow.press(KeyCode::Char('M'));
    narrow.press(KeyCode::Char('w'));
    looks(narrow, &expect![[""]]);
}

#[test]
fn nothing_could_be_planned() {
    looks(Theatre::new(80, 24, &planning_error()), &expect![[""]]);
}

#[test]
fn the_connection_is_gone() {
    looks(Theatre::new(80, 24, &reconnecting()), &expect![[""]]);
}

#[test]
fn the_daemon_does_not_answer_before_and_after_it_did() {
    let mut theatre = Theatre::waiting(80, 12);
    theatre.answer(0, Err("cannot reach the daemon on /run/zrepl/control".to_owned()));
    let before = theatre.picture();
    expect![[""]].assert_eq(&before);
    theatre.report(5, &idle());
    theatre.answer(65, Err("cannot reach the daemon on /run/zrepl/control".to_owned()));
    looks(theatre, &expect![[""]]);
}

#[test]
fn the_daemon_itself() {
    let mut theatre = Theatre::new(80, 16, &sending(0));
    theatre.press(KeyCode::Char('G'));
    looks(theatre, &expect![[""]]);
}

#[test]
fn ten_thousand_filesystems() {
    let mut theatre = Theatre::new(80, 16, &large(10_000));
    theatre.press(KeyCode::Tab);
    theatre.press(KeyCode::Char('G'));
    looks(theatre, &expect![[""]]);
    let mut theatre = Theatre::new(80, 16, &large(10_000));
    theatre.press(KeyCode::Char('e'));
    looks(theatre, &expect![[""]]);
}

#[test]
fn scrolling_among_ten_thousand_makes_no_lines_anew() {
    let mut theatre = Theatre::new(120, 40, &large(10_000));
    theatre.press(KeyCode::Tab);
    for _ in 0..300 {
        theatre.press(KeyCode::PageDown);
        assert!(!theatre.screen.stale);
    }
    assert!(theatre.picture().contains("/10004"), "{}", theatre.picture());
}

#[test]
fn dialogs() {
    let mut theatre = Theatre::new(80, 24, &idle());
    theatre.press(KeyCode::Char('S'));
    looks(theatre, &expect![[""]]);
    let mut theatre = Theatre::new(80, 24, &idle());
    theatre.press(KeyCode::Char('?'));
    looks(theatre, &expect![[""]]);
}

#[test]
fn several_daemons() {
    let options = Options { job: None, colors: true, legacy: false, zone: TimeZone::UTC };
    let mut theatre = Theatre::with(100, 14, options, vec![Some("here".to_owned()), Some("there".to_owned())]);
    theatre.report(0, &idle());
    let report = serde_json::from_str(&planning_error()).unwrap();
    theatre.screen.note(1, Duration::ZERO, stories::now(), Ok(report));
    looks(theatre, &expect![[""]]);
}

#[test]
fn no_size_is_too_small_or_too_large() {
    for report in [idle(), sending(1), failed(), reconnecting(), large(50)] {
        for (width, height) in
            [(0, 0), (1, 1), (2, 2), (3, 3), (5, 4), (10, 5), (20, 6), (39, 9), (400, 3), (1, 200), (500, 150)]
        {
            let mut theatre = Theatre::new(80, 24, &report);
            for key in [
                KeyCode::Null,
                KeyCode::Char('w'),
                KeyCode::Char('M'),
                KeyCode::Char('S'),
                KeyCode::Esc,
                KeyCode::Char('?'),
            ] {
                theatre.press(key);
                theatre.resize(width, height);
                theatre.picture();
                theatre.press(KeyCode::Tab);
                theatre.press(KeyCode::Right);
                theatre.press(KeyCode::End);
                theatre.resize(80, 24);
            }
        }
    }
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
