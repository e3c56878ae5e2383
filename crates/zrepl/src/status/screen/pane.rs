//! A scrolling text that may have many lines, of which only those in sight are drawn.

use crate::status::text::Line;

/// Text, and which part of it is in sight.
#[derive(Debug, Default)]
pub(super) struct Pane {
    /// As they are.
    lines: Vec<Line>,
    /// As they are shown in this width.
    folded: Vec<Line>,
    fold: Option<(usize, bool)>,
    width: usize,
    height: usize,
    pub(super) top: usize,
    pub(super) left: usize,
    needle: String,
    /// Lines with the text that is searched.
    hits: Vec<usize>,
    /// The one that was gone to last.
    current: Option<usize>,
}

impl Pane {
    /// Another text; the place in it stays.
    pub(super) fn set(&mut self, lines: Vec<Line>) {
        self.lines = lines;
        self.fold = None;
    }

    /// Folds the text for a pane of this size: prose always, everything else if it shall wrap.
    pub(super) fn fit(&mut self, width: usize, height: usize, wrap: bool) {
        (self.width, self.height) = (width, height);
        if self.fold != Some((width, wrap)) {
            self.fold = Some((width, wrap));
            let fold = |line: &Line| if wrap || line.is_prose() { line.fold(width) } else { vec![line.clone()] };
            self.folded = self.lines.iter().flat_map(fold).collect();
            self.find();
        }
        self.top = self.top.min(self.folded.len().saturating_sub(height.max(1)));
        let widest = || self.visible().iter().map(Line::width).max().unwrap_or(0);
        self.left = if self.left == 0 { 0 } else { self.left.min(widest().saturating_sub(width)) };
    }

    /// What is in sight.
    pub(super) fn visible(&self) -> &[Line] {
        let end = (self.top + self.height).min(self.folded.len());
        self.folded.get(self.top.min(end)..end).unwrap_or_default()
    }

    pub(super) fn go_to_top(&mut self) {
        (self.top, self.left) = (0, 0);
    }

    pub(super) fn go_to_end(&mut self) {
        self.top = self.folded.len().saturating_sub(self.height);
    }

    /// Down by so many lines, or up.
    pub(super) fn scroll(&mut self, lines: isize) {
        let last = self.folded.len().saturating_sub(self.height);
        self.top = self.top.saturating_add_signed(lines).min(last);
    }

    /// To the right by so many columns, or to the left; as far as there is something.
    pub(super) fn shift(&mut self, columns: isize) {
        let widest = self.visible().iter().map(Line::width).max().unwrap_or(0);
        self.left = self.left.saturating_add_signed(columns).min(widest.saturating_sub(self.width));
    }

    /// Lines that fit, but for one that stays in sight.
    pub(super) fn page(&self) -> isize {
        isize::try_from(self.height.saturating_sub(1).max(1)).unwrap_or(1)
    }

    /// `12-40/200`, or nothing if all is in sight.
    pub(super) fn place(&self) -> String {
        let all = self.folded.len();
        if all <= self.height {
            String::new()
        } else {
            format!("{}-{}/{all}", self.top + 1, (self.top + self.height).min(all))
        }
    }

    /// Looks for a text, letter case aside, and goes to the first hit from here on.
    pub(super) fn search(&mut self, needle: &str) {
        self.needle = needle.to_lowercase();
        self.find();
        if let Some(hit) = self.hits.iter().find(|hit| **hit >= self.top).or(self.hits.first()) {
            self.show(*hit);
        }
    }

    /// To the next hit, around the end.
    pub(super) fn next_hit(&mut self) {
        let after = self.hits.iter().find(|hit| self.current.is_none_or(|at| **hit > at));
        if let Some(hit) = after.or(self.hits.first()) {
            self.show(*hit);
        }
    }

    /// To the one before, around the beginning.
    pub(super) fn previous_hit(&mut self) {
        let before = self.hits.iter().rfind(|hit| self.current.is_some_and(|at| **hit < at));
        if let Some(hit) = before.or(self.hits.last()) {
            self.show(*hit);
        }
    }

    fn find(&mut self) {
        let is_hit = |line: &Line| !self.needle.is_empty() && line.text().to_lowercase().contains(&self.needle);
        self.hits = self.folded.iter().enumerate().filter(|(_, line)| is_hit(line)).map(|(index, _)| index).collect();
    }

    /// Brings a line into sight.
    fn show(&mut self, line: usize) {
        self.current = Some(line);
        if line < self.top || line >= self.top + self.height {
            self.top = line.saturating_sub(self.height / 3).min(self.folded.len().saturating_sub(self.height));
        }
    }

    /// Whether a line is a hit.
    pub(super) fn is_hit(&self, line: usize) -> bool {
        self.hits.binary_search(&line).is_ok()
    }

    pub(super) fn hit_count(&self) -> Option<usize> {
        (!self.needle.is_empty()).then_some(self.hits.len())
    }
}
