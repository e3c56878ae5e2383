//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::dialog::{Dialog, SIGNALS};
use super::{Action, Entry, Focus, Screen};
use crate::status::look::{Filter, Show};
use crate::status::text::Role;

/// How far the arrows shift a text to the side.
const SIDE_STEP: isize = 4;

impl Screen {
    /// Does what a key stands for where it was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Some(Action::Quit);
        }
        if let Some(dialog) = self.dialog.take() {
            return self.dialog_key(dialog, key.code);
        }
        match (self.focus, key.code) {
            (_, KeyCode::Tab) => self.next_focus(),
            (_, KeyCode::BackTab) => (0..2).for_each(|_| self.next_focus()),
            (_, KeyCode::F(1)) => self.dialog = Some(Dialog::Help { top: 0 }),
            (Focus::Filter, code) => self.filter_key(code, control),
            (Focus::Search, code) => self.search_key(code, control),
            (_, KeyCode::Char(letter)) if !control => return self.letter(letter),
            (_, KeyCode::Esc) => self.clear(),
            (Focus::Jobs, code) => self.list_key(code, control),
            (Focus::Detail, code) => self.detail_key(code, control),
        }
        None
    }

    fn next_focus(&mut self) {
        self.focus = match self.focus {
            Focus::Jobs => Focus::Detail,
            Focus::Detail => Focus::Filter,
            Focus::Filter | Focus::Search if self.list_shown => Focus::Jobs,
            Focus::Filter | Focus::Search => Focus::Detail,
        };
    }

    /// What letters do outside of fields.
    fn letter(&mut self, letter: char) -> Option<Action> {
        match letter {
            'q' | 'Q' => return Some(Action::Quit),
            'r' => return Some(Action::Refresh),
            'w' | 'W' => self.wrap = !self.wrap,
            'M' | 'm' => {
                self.list_shown = !self.list_shown;
                if !self.list_shown && self.focus == Focus::Jobs {
                    self.focus = Focus::Detail;
                }
            }
            'S' | 's' => self.ask_for_signal(),
            '/' => self.focus = Focus::Filter,
            'f' => self.focus = Focus::Search,
            'n' => self.pane.next_hit(),
            'N' => self.pane.previous_hit(),
            'a' => self.toggle(Show::All),
            'e' => self.toggle(Show::Problems),
            'E' if !self.options.legacy => self.select_failing(),
            '?' => self.dialog = Some(Dialog::Help { top: 0 }),
            letter => match self.focus {
                Focus::Jobs => self.list_key(KeyCode::Char(letter), false),
                _ => self.detail_key(KeyCode::Char(letter), false),
            },
        }
        None
    }

    fn toggle(&mut self, show: Show) {
        self.show = if self.show == show { Show::Relevant } else { show };
        self.stale = true;
    }

    fn clear(&mut self) {
        self.message = None;
        self.search_text.clear();
        self.pane.search("");
        self.set_filter(String::new());
    }

    fn set_filter(&mut self, text: String) {
        self.filter = Filter::new(&text);
        self.filter_text = text;
        self.stale = true;
    }

    fn filter_key(&mut self, code: KeyCode, control: bool) {
        let mut text = std::mem::take(&mut self.filter_text);
        match code {
            KeyCode::Esc => {
                text.clear();
                self.focus = Focus::Detail;
            }
            KeyCode::Enter | KeyCode::Down => self.focus = Focus::Detail,
            code => edit(&mut text, code, control),
        }
        self.set_filter(text);
    }

    fn search_key(&mut self, code: KeyCode, control: bool) {
        match code {
            KeyCode::Esc => {
                self.search_text.clear();
                self.focus = Focus::Detail;
            }
            KeyCode::Enter | KeyCode::Down => {
                self.focus = Focus::Detail;
                return;
            }
            code => edit(&mut self.search_text, code, control),
        }
        self.pane.search(&self.search_text);
    }

    fn list_key(&mut self, code: KeyCode, control: bool) {
        let page = self.list_height.max(1).cast_signed();
        match code {
            KeyCode::Down | KeyCode::Right | KeyCode::Char('j' | 'J' | 'l') => self.select(1),
            KeyCode::Up | KeyCode::Left | KeyCode::Char('k' | 'K' | 'h') => self.select(-1),
            KeyCode::Home | KeyCode::Char('g') => self.select(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.select(isize::MAX),
            KeyCode::PageDown => self.select(page),
            KeyCode::PageUp => self.select(-page),
            KeyCode::Char('f') if control => self.select(page),
            KeyCode::Char('b') if control => self.select(-page),
            KeyCode::Enter | KeyCode::Char(' ') => self.focus = Focus::Detail,
            _ => {}
        }
    }

    /// Goes down in the list by so many lines, or up, at most to its ends.
    fn select(&mut self, lines: isize) {
        let entries = self.entries();
        let current = entries.iter().position(|entry| Some(entry) == self.selected.as_ref()).unwrap_or(0);
        let next = current.saturating_add_signed(lines).min(entries.len().saturating_sub(1));
        let next = entries.into_iter().nth(next);
        self.chosen = true;
        self.go_to(next);
    }

    /// Goes to the next line of the list with something wrong, around the end.
    fn select_failing(&mut self) {
        let entries = self.entries();
        let current = entries.iter().position(|entry| Some(entry) == self.selected.as_ref()).unwrap_or(0);
        let (before, after) = entries.split_at(entries.len().min(current + 1));
        let next = after.iter().chain(before).find(|entry| self.columns(entry).is_bad()).cloned();
        self.chosen = true;
        match next {
            None => self.message = Some((Role::Plain, "no job has errors".to_owned())),
            Some(next) => self.go_to(Some(next)),
        }
    }

    fn go_to(&mut self, entry: Option<Entry>) {
        if entry != self.selected {
            self.selected = entry;
            self.pane.go_to_top();
            self.stale = true;
        }
    }

    fn detail_key(&mut self, code: KeyCode, control: bool) {
        let page = self.pane.page();
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.pane.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.pane.scroll(-1),
            KeyCode::Right | KeyCode::Char('l') => self.pane.shift(SIDE_STEP),
            KeyCode::Left | KeyCode::Char('h') => self.pane.shift(-SIDE_STEP),
            KeyCode::Home | KeyCode::Char('g') => self.pane.go_to_top(),
            KeyCode::End | KeyCode::Char('G') => self.pane.go_to_end(),
            KeyCode::PageDown | KeyCode::Char(' ') => self.pane.scroll(page),
            KeyCode::PageUp => self.pane.scroll(-page),
            KeyCode::Char('f') if control => self.pane.scroll(page),
            KeyCode::Char('b') if control => self.pane.scroll(-page),
            KeyCode::Char('d') if control => self.pane.scroll(page / 2),
            KeyCode::Char('u') if control => self.pane.scroll(-page / 2),
            _ => {}
        }
    }

    fn ask_for_signal(&mut self) {
        if let Some(Entry::Job { daemon, name }) = &self.selected {
            let seen = self.daemons.get(*daemon);
            if seen.is_some_and(|seen| seen.saved) {
                let text = "this is a saved report: there is no daemon to tell anything to";
                self.message = Some((Role::Warn, text.to_owned()));
                return;
            }
            let full_name = seen.map_or_else(|| name.clone(), |seen| seen.full_name(name));
            self.dialog = Some(Dialog::Signal { daemon: *daemon, job: name.clone(), full_name, choice: 0 });
        }
    }

    fn dialog_key(&mut self, dialog: Dialog, code: KeyCode) -> Option<Action> {
        let forward = matches!(code, KeyCode::Down | KeyCode::Right | KeyCode::Tab | KeyCode::Char('j' | 'l'));
        let back = matches!(code, KeyCode::Up | KeyCode::Left | KeyCode::BackTab | KeyCode::Char('k' | 'h'));
        if matches!(code, KeyCode::Esc | KeyCode::Char('q' | 'Q')) {
            return None;
        }
        match dialog {
            Dialog::Signal { daemon, job, full_name, choice } => {
                let choice = match code {
                    _ if forward => (choice + 1) % SIGNALS.len(),
                    _ if back => (choice + SIGNALS.len() - 1) % SIGNALS.len(),
                    KeyCode::Enter => return self.chosen(daemon, job, full_name, choice),
                    _ => choice,
                };
                self.dialog = Some(Dialog::Signal { daemon, job, full_name, choice });
            }
            Dialog::ConfirmReset { daemon, job, full_name, yes } => match code {
                KeyCode::Char('y') => return Some(Action::Signal { daemon, job, operation: "reset" }),
                KeyCode::Enter if yes => return Some(Action::Signal { daemon, job, operation: "reset" }),
                KeyCode::Enter | KeyCode::Char('n') => {}
                _ => self.dialog = Some(Dialog::ConfirmReset { daemon, job, full_name, yes: yes ^ (forward || back) }),
            },
            Dialog::Failed { text } => {
                if !matches!(code, KeyCode::Enter | KeyCode::Char(' ')) {
                    self.dialog = Some(Dialog::Failed { text });
                }
            }
            Dialog::Help { top } => match code {
                _ if forward => self.dialog = Some(Dialog::Help { top: top + 1 }),
                _ if back => self.dialog = Some(Dialog::Help { top: top.saturating_sub(1) }),
                KeyCode::PageDown => self.dialog = Some(Dialog::Help { top: top + 10 }),
                KeyCode::PageUp => self.dialog = Some(Dialog::Help { top: top.saturating_sub(10) }),
                _ => {}
            },
        }
        None
    }

    fn chosen(&mut self, daemon: usize, job: String, full_name: String, choice: usize) -> Option<Action> {
        match SIGNALS.get(choice).map(|(word, _)| *word) {
            Some("reset") => {
                self.dialog = Some(Dialog::ConfirmReset { daemon, job, full_name, yes: false });
                None
            }
            Some(operation @ ("wakeup" | "snapshot")) => Some(Action::Signal { daemon, job, operation }),
            _ => None,
        }
    }
}

/// Types into a field.
fn edit(text: &mut String, code: KeyCode, control: bool) {
    match code {
        KeyCode::Char('u') if control => text.clear(),
        KeyCode::Char('w') if control => {
            let end = text.trim_end().rfind(' ').map_or(0, |blank| blank + 1);
            text.truncate(end);
        }
        KeyCode::Char(_) if control => {}
        KeyCode::Char(letter) => text.push(letter),
        KeyCode::Backspace => drop(text.pop()),
        _ => {}
    }
}
