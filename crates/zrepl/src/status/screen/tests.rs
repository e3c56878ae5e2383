//! The screen as text, from reports as daemons write them, and what keys make of it.

mod grounds;
mod keys;
mod pictures;
mod stories;

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

/// A screen in a terminal of text.
struct Theatre {
    screen: Screen,
    terminal: Terminal<TestBackend>,
}

impl Theatre {
    fn new(width: u16, height: u16, report: &str) -> Theatre {
        let mut theatre = Theatre::waiting(width, height);
        theatre.report(0, report);
        theatre
    }

    /// No report has come yet.
    fn waiting(width: u16, height: u16) -> Theatre {
        let options = Options { job: None, colors: true, legacy: false, zone: TimeZone::UTC };
        Theatre::with(width, height, options, vec![None])
    }

    fn with(width: u16, height: u16, options: Options, names: Vec<Option<String>>) -> Theatre {
        let screen = Screen::new(options, names, stories::now());
        Theatre { screen, terminal: Terminal::new(TestBackend::new(width, height)).unwrap() }
    }

    /// A report that comes so many seconds after the first.
    fn report(&mut self, after: u64, report: &str) {
        let report = serde_json::from_str(report).unwrap();
        self.answer(after, Ok(report));
    }

    fn answer(&mut self, after: u64, answer: Result<crate::status::report::Report, String>) {
        let after = Duration::from_secs(after);
        self.screen.note(0, after, stories::now() + after, answer);
    }

    fn press(&mut self, code: KeyCode) -> Option<Action> {
        // Keys come to a screen that has been drawn.
        self.picture();
        self.screen.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn control(&mut self, letter: char) -> Option<Action> {
        self.picture();
        self.screen.key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL))
    }

    fn type_text(&mut self, text: &str) {
        for letter in text.chars() {
            assert_eq!(self.press(KeyCode::Char(letter)), None);
        }
    }

    /// What is to be seen, without blanks at the ends of lines.
    fn picture(&mut self) -> String {
        self.terminal.draw(|frame| self.screen.draw(frame)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let symbols: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        let line = |cells: &[&str]| cells.concat().trim_end().to_owned();
        symbols.chunks(width.max(1)).map(line).collect::<Vec<_>>().join("\n")
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.terminal.backend_mut().resize(width, height);
        self.terminal.resize(Rect::new(0, 0, width, height)).unwrap();
    }
}
