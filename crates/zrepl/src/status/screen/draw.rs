//! What the screen looks like.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Shown, Span};
use ratatui::widgets::{Block, Clear, Paragraph};
use unicode_width::UnicodeWidthStr;

use super::dialog::Dialog;
use super::{Entry, Focus, Screen};
use crate::status::look::Show;
use crate::status::text::{Line, Role};
use crate::status::view::{Widths, row};

/// From so many columns on, list and detail are side by side if the list is long.
const WIDE: u16 = 150;

/// Whether colours say what text means, or only bold and faint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Palette {
    Colors,
    Plain,
}

impl Palette {
    /// Colours that can be read on dark and on light grounds: what is worst has a ground of its own, warnings
    /// are bold, and what is well needs no colour.
    fn style(self, role: Role) -> Style {
        let style = Style::new();
        match (self, role) {
            (_, Role::Plain) => style,
            (_, Role::Title) => style.add_modifier(Modifier::BOLD),
            (_, Role::Faint) => style.add_modifier(Modifier::DIM),
            (_, Role::Warn) => style.add_modifier(Modifier::BOLD),
            (_, Role::Label | Role::Good) => style,
            (Palette::Plain, Role::Bad) => style.add_modifier(Modifier::BOLD),
            (Palette::Plain, Role::Busy) => style,
            (Palette::Colors, Role::Busy) => style.fg(Color::LightBlue),
            (Palette::Colors, Role::Bad) => style.fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn line(self, spans: Vec<(Role, String)>) -> Shown<'static> {
        Shown::from_iter(spans.into_iter().map(|(role, text)| Span::styled(text, self.style(role))))
    }
}

impl Screen {
    /// Draws everything. Lines out of sight cost nothing, however many there are.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let [top, middle, bottom] = rows(area);
        self.draw_top(frame, top);
        let (list, detail) = self.split(middle);
        if let Some(list) = list {
            self.draw_list(frame, list);
        }
        self.draw_detail(frame, detail);
        self.draw_bottom(frame, bottom);
        if let Some(dialog) = self.dialog.take() {
            self.dialog = Some(self.draw_dialog(frame, area, dialog));
        }
    }

    /// The line with the fields while there is something in them, otherwise with which daemon this is.
    fn draw_top(&self, frame: &mut Frame<'_>, area: Rect) {
        if area.is_empty() {
            return;
        }
        let (label, text, typing) = match self.focus {
            Focus::Search => ("FIND ", &self.search_text, true),
            focus => ("FILTER ", &self.filter_text, focus == Focus::Filter),
        };
        let mut line = Line::new(0);
        if typing || !text.is_empty() {
            line = line.with(Role::Title, label);
        }
        let cursor = line.width() + text.width();
        line = line.plain(text);
        if let (Some(problem), false) = (self.filter.problem(), self.focus == Focus::Search) {
            line = line.with(Role::Warn, format!("  no regular expression ({problem}), taken literally"));
        }
        if let Some(hits) = self.pane.hit_count() {
            let shown = if self.focus == Focus::Search { String::new() } else { format!(" {:?}", self.search_text) };
            line = line.with(Role::Label, format!("  found{shown} {hits} times"));
        }
        let shown = match self.show {
            Show::Relevant => "",
            Show::All => "all filesystems",
            Show::Problems => "errors only",
        };
        line = match line.width() {
            _ if shown.is_empty() => line,
            0 => line.with(Role::Title, shown),
            _ => line.with(Role::Title, format!("  {shown}")),
        };
        if line.width() == 0 && !typing {
            line = self.daemon_line();
        }
        let clock = self.clock();
        let missing = usize::from(area.width).saturating_sub(line.width() + clock.width());
        if missing > 1 {
            line = line.plain(" ".repeat(missing)).plain(clock);
        }
        self.put(frame, area, &line, 0);
        if typing {
            let column = area.x.saturating_add(u16::try_from(cursor).unwrap_or(u16::MAX));
            frame.set_cursor_position(Position::new(column.min(area.right().saturating_sub(1)), area.y));
        }
    }

    /// Which daemon is shown.
    fn daemon_line(&self) -> Line {
        let [seen] = self.daemons.as_slice() else {
            return Line::new(0).plain(format!("{} daemons", self.daemons.len()));
        };
        let Some(daemon) = seen.report.as_ref().map(|report| &report.global.daemon) else {
            return Line::new(0).plain("zrepl");
        };
        let version = if daemon.version.is_empty() { "0.7 or earlier" } else { daemon.version.as_str() };
        let rates = super::super::rate::JobRates::default();
        let started = daemon.started_at.filter(|_| !seen.saved);
        let started = started.map(|at| format!(", started {}", self.look(&rates).relative(at))).unwrap_or_default();
        Line::new(0).plain(format!("zrepl {version}")).with(Role::Faint, started)
    }

    /// When the report came that is shown.
    fn clock(&self) -> String {
        let rates = super::super::rate::JobRates::default();
        match self.daemons.iter().filter(|seen| !seen.saved).filter_map(|seen| seen.at).max() {
            Some(at) => self.look(&rates).time(at),
            None if self.daemons.iter().any(|seen| seen.saved) => "saved report".to_owned(),
            None => String::new(),
        }
    }

    /// Where list and detail go.
    fn split(&self, area: Rect) -> (Option<Rect>, Rect) {
        let entries = u16::try_from(self.entries().len()).unwrap_or(u16::MAX);
        // Rule, titles and entries.
        let wanted = entries.saturating_add(2);
        if !self.list_shown || area.height < 4 {
            return (None, area);
        }
        let is_wide = area.width >= WIDE;
        // What is wide has few lines, which leaves more of them to the list.
        let most = if is_wide { area.height / 5 * 2 } else { area.height / 3 };
        if is_wide && wanted > most {
            let width = area.width * 2 / 5;
            let list = Rect { width: width - 1, ..area };
            return (Some(list), Rect { x: area.x + width, width: area.width - width, ..area });
        }
        let height = wanted.min(most.max(4)).min(area.height - 1);
        let list = Rect { height, ..area };
        (Some(list), Rect { y: area.y + height, height: area.height - height, ..area })
    }

    fn draw_list(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let entries = self.entries();
        self.refresh_list(&entries);
        // Rule and titles.
        let height = usize::from(area.height.saturating_sub(2));
        let selected = entries.iter().position(|entry| Some(entry) == self.selected.as_ref());
        self.list_height = height;
        self.list_top = list_top(self.list_top, selected.unwrap_or(0), height, entries.len());
        let columns = &self.columns;
        let place = match entries.len() {
            all if all <= height => String::new(),
            all => format!("{}-{}/{all}", self.list_top + 1, (self.list_top + height).min(all)),
        };
        let title = Line::new(0).with(Role::Title, "Jobs");
        let title = match columns.iter().filter(|one| one.is_bad()).count() {
            0 => title,
            bad => title.with(Role::Title, ", ").with(Role::Bad, format!("{bad} with errors")),
        };
        let text = self.rule(frame, area, &title, &place, Focus::Jobs);
        let widths = Widths::of(columns, usize::from(text.width.saturating_sub(2)));
        if let Some(titles) = columns.first() {
            let line = prefixed("  ", &row(titles, &widths));
            self.put(frame, Rect { height: text.height.min(1), ..text }, &line, 0);
        }
        for (index, one) in columns.iter().skip(1).enumerate().skip(self.list_top).take(height) {
            let offset = u16::try_from(index - self.list_top + 1).unwrap_or(u16::MAX);
            let area = Rect { y: text.y + offset, height: 1, ..text };
            let chosen = Some(index) == selected;
            let line = prefixed(if chosen { "> " } else { "  " }, &row(one, &widths));
            match (chosen, self.focus) {
                (true, Focus::Jobs) => self.put_reversed(frame, area, &line, 0),
                (true, _) => {
                    self.put(frame, area, &line, 0);
                    frame.buffer_mut().set_style(area, Style::new().add_modifier(Modifier::BOLD));
                }
                (false, _) => self.put(frame, area, &line, 0),
            }
        }
    }

    fn draw_detail(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let title = match &self.selected {
            _ if self.options.legacy => "All jobs".to_owned(),
            Some(Entry::Job { daemon, name }) => {
                let seen = self.daemons.get(*daemon);
                let kind =
                    seen.and_then(|seen| Some(format!(", {}", seen.report.as_ref()?.jobs.get(name)?.kind.word())));
                let name = seen.map_or_else(|| name.clone(), |seen| seen.full_name(name));
                name + &kind.unwrap_or_default()
            }
            Some(Entry::Daemon { .. }) => "Daemon".to_owned(),
            None => "Detail".to_owned(),
        };
        let inner = Rect { y: area.y + area.height.min(1), height: area.height.saturating_sub(1), ..area };
        self.refresh(inner);
        let title = Line::new(0).with(Role::Title, title);
        let text = self.rule(frame, area, &title, &self.pane.place(), Focus::Detail);
        for (offset, line) in (0..text.height).zip(self.pane.visible()) {
            let area = Rect { y: text.y + offset, height: 1, ..text };
            match self.pane.is_hit(self.pane.top + usize::from(offset)) {
                true => self.put_reversed(frame, area, line, self.pane.left),
                false => self.put(frame, area, line, self.pane.left),
            }
        }
    }

    /// The line above a part of the screen; gives what is left for the part.
    fn rule(&self, frame: &mut Frame<'_>, area: Rect, title: &Line, place: &str, of: Focus) -> Rect {
        if area.height == 0 {
            return area;
        }
        let focused = self.focus == of;
        let (dash, role) = if focused { ("=", Role::Title) } else { ("-", Role::Faint) };
        let width = usize::from(area.width);
        let taken = title.width() + if place.is_empty() { 4 } else { place.width() + 6 };
        let line = prefixed_by(Line::new(0).with(role, dash.repeat(2)).plain(" "), title).plain(" ");
        let line = line.with(role, dash.repeat(width.saturating_sub(taken)));
        let line = if place.is_empty() { line } else { line.with(Role::Faint, format!(" {place} ")) };
        self.put(frame, Rect { height: 1, ..area }, &line, 0);
        Rect { y: area.y + 1, height: area.height - 1, ..area }
    }

    /// The last line: what went wrong, or which keys there are.
    fn draw_bottom(&self, frame: &mut Frame<'_>, area: Rect) {
        if area.is_empty() {
            return;
        }
        let failing = self.daemons.iter().find_map(|seen| Some((seen, seen.error.as_ref()?)));
        let restarted = self.daemons.iter().filter_map(|seen| seen.restarted).max();
        let line = match (failing, &self.message) {
            (Some((seen, error)), _) => {
                let of = seen.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
                let rates = super::super::rate::JobRates::default();
                let age =
                    seen.at.map(|at| format!(", shown is {}", self.look(&rates).relative(at))).unwrap_or_default();
                Line::new(0).with(Role::Bad, format!("no status{of}")).plain(format!(": {error}{age}"))
            }
            (None, Some((role, text))) => Line::new(0).with(*role, text),
            (None, None) => {
                let rates = super::super::rate::JobRates::default();
                let look = self.look(&rates);
                match restarted.filter(|at| look.since(*at) < 60) {
                    Some(_) => Line::new(0).with(Role::Warn, "the daemon was restarted"),
                    None => keys(usize::from(area.width), self.options.legacy),
                }
            }
        };
        self.put(frame, area, &line, 0);
    }

    fn draw_dialog(&self, frame: &mut Frame<'_>, area: Rect, dialog: Dialog) -> Dialog {
        let (lines, chosen) = dialog.lines();
        let title = dialog.title();
        let most = usize::from(area.width.saturating_sub(2));
        let lines: Vec<Line> = lines.iter().flat_map(|line| line.fold(most.max(1))).collect();
        // A blank before the right border.
        let width = (lines.iter().map(Line::width).max().unwrap_or(0) + 1).max(title.width()).min(most) + 2;
        let (width, height) = (fitting(width, area.width), fitting(lines.len() + 2, area.height));
        let place =
            Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
        frame.render_widget(Clear, place);
        let block = Block::bordered().title(title);
        let inner = block.inner(place);
        let last = lines.len().saturating_sub(usize::from(inner.height));
        let (dialog, top) = match dialog {
            Dialog::Help { top } => (Dialog::Help { top: top.min(last) }, top.min(last)),
            other => (other, 0),
        };
        frame.render_widget(
            match dialog {
                Dialog::Help { .. } => block.title_bottom(scroll_keys(top, inner.height, lines.len())),
                _ => block,
            },
            place,
        );
        for (offset, (index, line)) in (0..inner.height).zip(lines.iter().enumerate().skip(top)) {
            let area = Rect { y: inner.y + offset, height: 1, ..inner };
            match chosen == Some(index) {
                true => self.put_reversed(frame, area, line, 0),
                false => self.put(frame, area, line, 0),
            }
        }
        dialog
    }

    fn put(&self, frame: &mut Frame<'_>, area: Rect, line: &Line, from: usize) {
        let shown = self.palette().line(line.cut(from, usize::from(area.width)));
        frame.render_widget(Paragraph::new(shown), area.intersection(frame.area()));
    }

    /// A chosen line: on one ground throughout, which colours would tear apart.
    fn put_reversed(&self, frame: &mut Frame<'_>, area: Rect, line: &Line, from: usize) {
        self.put(frame, area, &line.clone().quiet(), from);
        frame.buffer_mut().set_style(area, Style::new().add_modifier(Modifier::REVERSED));
    }
}

/// The first line, what is between, and the last line, as far as there is room.
fn rows(area: Rect) -> [Rect; 3] {
    let line = |y: u16, height: u16| Rect { y, height, ..area };
    match area.height {
        0..=2 => [line(area.y, 0), area, line(area.y, 0)],
        height => [line(area.y, 1), line(area.y + 1, height - 2), line(area.bottom() - 1, 1)],
    }
}

fn fitting(wanted: usize, most: u16) -> u16 {
    u16::try_from(wanted).unwrap_or(u16::MAX).min(most)
}

/// The first line of a list that keeps the chosen one in sight.
fn list_top(top: usize, chosen: usize, height: usize, all: usize) -> usize {
    let last = all.saturating_sub(height);
    let top = top.min(chosen).max((chosen + 1).saturating_sub(height));
    top.min(last)
}

fn prefixed(prefix: &str, line: &Line) -> Line {
    prefixed_by(Line::new(0).plain(prefix), line)
}

fn prefixed_by(prefix: Line, line: &Line) -> Line {
    line.spans().fold(prefix, |whole, (role, text)| whole.with(role, text))
}

/// The keys that fit, the most important first; `legacy`: there is no list.
fn keys(width: usize, legacy: bool) -> Line {
    const KEYS: [&str; 12] = [
        "? help",
        "q quit",
        "Tab focus",
        "/ filter",
        "f find",
        "S signal",
        "E failed job",
        "e errors",
        "a all",
        "w wrap",
        "M list",
        "r refresh",
    ];
    let mut line = Line::new(0);
    for key in KEYS.into_iter().filter(|key| !legacy || !matches!(key.chars().next(), Some('E' | 'M' | 'S'))) {
        let gap = if line.width() > 0 { "  " } else { "" };
        if line.width() + gap.len() + key.len() > width {
            break;
        }
        line = line.with(Role::Faint, gap).with(Role::Faint, key);
    }
    line
}

/// What is below a text of so many lines that may be longer than what is shown of it.
fn scroll_keys(top: usize, height: u16, all: usize) -> String {
    let end = top + usize::from(height);
    if top == 0 && end >= all {
        " Esc: close ".to_owned()
    } else {
        format!(" {}-{}/{all}  j k: scroll  Esc: close ", top + 1, end.min(all))
    }
}
