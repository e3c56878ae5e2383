//! What keys do, zrepl 0.7's and ours.

use super::stories::{failed, idle, large, reconnecting, report};
use super::*;
use serde_json::json;

fn idle_theatre() -> Theatre {
    Theatre::new(80, 24, &idle())
}

#[test]
fn leaving() {
    for letter in ['q', 'Q'] {
        assert_eq!(idle_theatre().press(KeyCode::Char(letter)), Some(Action::Quit));
    }
    let mut theatre = idle_theatre();
    theatre.press(KeyCode::Char('/'));
    assert_eq!(theatre.press(KeyCode::Char('q')), None, "a letter in a field");
    assert_eq!(theatre.control('c'), Some(Action::Quit), "everywhere");
    let mut theatre = idle_theatre();
    theatre.press(KeyCode::Char('S'));
    assert_eq!(theatre.press(KeyCode::Char('q')), None, "closes the dialog");
    assert!(theatre.screen.dialog.is_none());
    theatre.press(KeyCode::Char('S'));
    assert_eq!(theatre.control('c'), Some(Action::Quit));
}

#[test]
fn tab_goes_around() {
    let mut theatre = idle_theatre();
    let mut around = |key: KeyCode| {
        theatre.press(key);
        theatre.screen.focus
    };
    assert_eq!([(); 3].map(|()| around(KeyCode::Tab)), [Focus::Detail, Focus::Filter, Focus::Jobs]);
    assert_eq!(around(KeyCode::BackTab), Focus::Filter);
    assert_eq!(around(KeyCode::Enter), Focus::Detail);
    assert_eq!(around(KeyCode::Char('M')), Focus::Detail);
    assert_eq!([(); 2].map(|()| around(KeyCode::Tab)), [Focus::Filter, Focus::Detail], "the hidden list is left out");
}

/// What is chosen in the list after a key.
fn chosen_by(theatre: &mut Theatre, key: KeyCode) -> String {
    theatre.press(key);
    match &theatre.screen.selected {
        Some(Entry::Job { name, .. }) => name.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn choosing_a_job_shows_it_from_its_top() {
    let jobs = ["a", "b", "c"].map(|name| (name.to_owned(), json!({"type": "sink", "sink": {"Snapper": null}})));
    let text = report(serde_json::Value::Object(jobs.into_iter().collect()), json!(null));
    let mut theatre = Theatre::new(80, 24, &text);
    let mut chosen = |key| chosen_by(&mut theatre, key);
    let daemon = "Some(Daemon { daemon: 0 })";
    for (key, expected) in [
        (KeyCode::Null, "a"),
        (KeyCode::Char('j'), "b"),
        (KeyCode::Down, "c"),
        (KeyCode::Char('k'), "b"),
        (KeyCode::Up, "a"),
        (KeyCode::Up, "a"),
        (KeyCode::Char('J'), "b"),
        (KeyCode::Char('K'), "a"),
        (KeyCode::Char('G'), daemon),
        (KeyCode::Char('g'), "a"),
        (KeyCode::End, daemon),
        (KeyCode::Home, "a"),
        (KeyCode::PageDown, daemon),
        (KeyCode::PageUp, "a"),
    ] {
        assert_eq!(chosen(key), expected, "{key:?}");
    }
    theatre.press(KeyCode::Enter);
    assert_eq!(theatre.screen.focus, Focus::Detail);
}

#[test]
fn the_detail_scrolls() {
    let mut theatre = Theatre::new(40, 20, &large(200));
    theatre.press(KeyCode::Tab);
    let mut place = |key: KeyCode| {
        theatre.press(key);
        theatre.picture();
        (theatre.screen.pane.top, theatre.screen.pane.left)
    };
    assert_eq!(place(KeyCode::Char('j')), (1, 0));
    assert_eq!(place(KeyCode::Down), (2, 0));
    assert_eq!(place(KeyCode::Char('k')), (1, 0));
    assert_eq!(place(KeyCode::Char('l')), (1, 4));
    assert_eq!(place(KeyCode::Left), (1, 0));
    let (page, _) = place(KeyCode::PageDown);
    assert!(page > 5, "{page}");
    assert_eq!(place(KeyCode::PageUp), (1, 0));
    let (end, _) = place(KeyCode::Char('G'));
    assert!(end > 180, "{end}");
    assert_eq!(place(KeyCode::Down), (end, 0), "not beyond the end");
    assert_eq!(place(KeyCode::Char('g')), (0, 0));
    theatre.control('f');
    assert_eq!(theatre.screen.pane.top, page - 1);
    theatre.control('b');
    assert_eq!(theatre.screen.pane.top, 0);
}

#[test]
fn the_filter_holds_what_is_typed_and_says_what_is_no_pattern() {
    let mut theatre = Theatre::new(80, 24, &large(100));
    theatre.type_text("/0001[");
    let picture = theatre.picture();
    assert!(
        picture.starts_with("FILTER 0001[  no regular expression (unclosed character class), taken literally"),
        "{picture}"
    );
    assert!(picture.contains("none matches \"0001[\""), "{picture}");
    theatre.type_text("2-4]$");
    theatre.press(KeyCode::Enter);
    let picture = theatre.picture();
    assert_eq!((theatre.screen.focus, picture.matches("  done   ").count()), (Focus::Detail, 3), "{picture}");
    assert!(picture.contains("100: 1 failed, 99 done"), "the sums are those of all: {picture}");
    theatre.press(KeyCode::Esc);
    assert!(theatre.picture().matches("  done   ").count() > 3, "wider again without another report");
}

#[test]
fn text_is_found() {
    let mut theatre = Theatre::new(80, 24, &large(1000));
    theatre.press(KeyCode::Char('a'));
    theatre.type_text("fOUT OF");
    assert!(theatre.picture().contains("out of space"), "{}", theatre.picture());
    theatre.press(KeyCode::Enter);
    theatre.press(KeyCode::Char('g'));
    theatre.press(KeyCode::Tab);
    assert!(theatre.picture().contains("found \"OUT OF\" 1 times"), "{}", theatre.picture());
    theatre.press(KeyCode::BackTab);
    theatre.press(KeyCode::Char('g'));
    // The list tells it as well.
    let found = "\n    out of space";
    assert!(!theatre.picture().contains(found));
    theatre.press(KeyCode::Char('n'));
    assert!(theatre.picture().contains(found));
    theatre.press(KeyCode::Char('g'));
    theatre.press(KeyCode::Char('N'));
    assert!(theatre.picture().contains(found), "around the beginning");
}

#[test]
fn signals_are_sent_after_a_question_and_a_reset_after_two() {
    let signal = |operation| Some(Action::Signal { daemon: 0, job: "home_to_vault".to_owned(), operation });
    let asked = || {
        let mut theatre = idle_theatre();
        theatre.press(KeyCode::Char('S'));
        theatre
    };
    assert_eq!(asked().press(KeyCode::Enter), signal("wakeup"));
    let mut theatre = asked();
    theatre.press(KeyCode::Down);
    assert_eq!(theatre.press(KeyCode::Enter), None);
    assert!(theatre.picture().contains("Reset job \"home_to_vault\"?"), "{}", theatre.picture());
    let mut sure = theatre;
    sure.press(KeyCode::Down);
    assert_eq!(sure.press(KeyCode::Enter), signal("reset"));
    assert!(sure.screen.dialog.is_none());
    let mut theatre = asked();
    theatre.press(KeyCode::Tab);
    theatre.press(KeyCode::Enter);
    assert_eq!(theatre.press(KeyCode::Enter), None, "the answer that is offered is no");
    assert!(theatre.screen.dialog.is_none());
    let mut theatre = asked();
    theatre.press(KeyCode::Down);
    theatre.press(KeyCode::Down);
    assert_eq!(theatre.press(KeyCode::Enter), signal("snapshot"));
    for key in [KeyCode::Esc, KeyCode::Char('q')] {
        let mut theatre = asked();
        assert_eq!(theatre.press(key), None);
        assert!(theatre.screen.dialog.is_none());
    }
    let mut theatre = asked();
    theatre.press(KeyCode::Up);
    assert_eq!(theatre.press(KeyCode::Enter), None, "the last choice is to tell nothing");
}

#[test]
fn a_saved_report_takes_no_signals_and_says_what_it_is() {
    let mut theatre = idle_theatre();
    theatre.screen.daemons[0].saved = true;
    let picture = theatre.picture();
    assert!(picture.lines().next().unwrap().ends_with("saved report"), "{picture}");
    theatre.press(KeyCode::Char('S'));
    assert!(theatre.screen.dialog.is_none());
    assert!(theatre.picture().contains("this is a saved report: there is no daemon"), "{}", theatre.picture());
}

#[test]
fn the_next_job_with_errors_is_a_key_away() {
    let body = |text: &str, name: &str| {
        let report: serde_json::Value = serde_json::from_str(text).unwrap();
        report["Jobs"][name].clone()
    };
    let (well, bad, lost) =
        (body(&idle(), "home_to_vault"), body(&failed(), "home_to_vault"), body(&reconnecting(), "office"));
    let text = report(json!({"a": well, "b": bad, "c": well, "d": lost, "e": well}), json!(null));
    let mut theatre = Theatre::new(80, 24, &text);
    let mut chosen = |key| chosen_by(&mut theatre, key);
    assert_eq!(chosen(KeyCode::Null), "a");
    assert_eq!([(); 3].map(|()| chosen(KeyCode::Char('E'))), ["b", "d", "b"], "around the end");
    let mut theatre = idle_theatre();
    theatre.press(KeyCode::Char('E'));
    assert!(theatre.picture().contains("no job has errors"), "{}", theatre.picture());
}

#[test]
fn the_daemon_takes_no_signals() {
    let mut theatre = idle_theatre();
    theatre.press(KeyCode::Char('G'));
    theatre.press(KeyCode::Char('S'));
    assert!(theatre.screen.dialog.is_none());
}

#[test]
fn wrapping_is_toggled_wherever_the_focus_is() {
    let mut theatre = Theatre::new(50, 30, &failed());
    for letter in ['w', 'W'] {
        let before = theatre.screen.wrap;
        theatre.press(KeyCode::Char(letter));
        assert_ne!(theatre.screen.wrap, before);
        theatre.press(KeyCode::Tab);
    }
}

#[test]
fn a_job_that_vanishes_is_left_for_another() {
    let mut theatre = idle_theatre();
    theatre.press(KeyCode::Down);
    assert!(theatre.picture().contains("-- vault, sink ---"));
    let text = report(json!({"other": {"type": "sink", "sink": {"Snapper": null}}}), json!(null));
    theatre.report(1, &text);
    assert!(theatre.picture().contains("-- other, sink ---"), "{}", theatre.picture());
}

#[test]
fn all_jobs_below_each_other_have_no_list_and_one_job_is_all_there_is() {
    let options = |legacy, job: &str| Options { job: Some(job.to_owned()), colors: true, legacy, zone: TimeZone::UTC };
    let mut theatre = Theatre::with(80, 24, options(true, "vault"), vec![None]);
    assert!(theatre.picture().contains("waiting for the daemon's report"), "{}", theatre.picture());
    theatre.report(0, &idle());
    let picture = theatre.picture();
    assert!(picture.contains("== All jobs ===") && picture.contains("vault  sink"), "{picture}");
    assert!(!picture.contains("home_to_vault") && !picture.contains("STATE"), "{picture}");
    let mut theatre = Theatre::with(80, 24, options(false, "vault"), vec![None]);
    theatre.report(0, &idle());
    assert!(!theatre.picture().contains("home_to_vault"), "{}", theatre.picture());
    for legacy in [true, false] {
        let mut theatre = Theatre::with(80, 24, options(legacy, "other"), vec![None]);
        theatre.report(0, &idle());
        assert!(theatre.picture().contains("there is no job \"other\""), "{}", theatre.picture());
    }
}
