//! A file's text and the way from byte offsets to lines and columns.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::secrets;

/// A part of a source, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    /// As it was given on the command line or in `include`.
    pub(crate) name: String,
    pub(crate) text: String,
    line_starts: Vec<usize>,
    /// What nobody should see, in its order; known once the text has been parsed.
    hidden: OnceLock<Vec<Span>>,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), text, line_starts, hidden: OnceLock::new() }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub(crate) fn position(&self, byte: usize) -> (usize, usize) {
        let byte = (0..=byte.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        let line = self.line_starts.partition_point(|start| *start <= byte).max(1);
        let before = self.text.get(self.line_start(line)..byte).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The first byte of a line that counts from 1.
    pub(crate) fn line_start(&self, line: usize) -> usize {
        self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// The text of a line that counts from 1, without its end.
    pub(crate) fn line(&self, line: usize) -> &str {
        let rest = self.text.get(self.line_start(line)..).unwrap_or_default();
        rest.lines().next().unwrap_or_default()
    }

    /// Hides these parts, and what looks like one of them, from whoever is shown a line. If the text
    /// could not be read to its end, the last part may have more to it.
    pub(crate) fn hide(&self, parts: Vec<Span>, read_to_its_end: bool) {
        self.hidden.get_or_init(|| secrets::all(&self.text, parts, read_to_its_end));
    }

    /// The same with what is to be hidden replaced, one character for one.
    pub(crate) fn shown_line(&self, line: usize) -> Cow<'_, str> {
        self.shown(line, self.line(line))
    }

    /// The length in bytes of what is shown of the beginning of a line.
    pub(crate) fn shown_length(&self, line: usize, bytes: usize) -> usize {
        self.shown(line, self.line(line).get(..bytes).unwrap_or_default()).len()
    }

    fn shown<'a>(&self, line: usize, text: &'a str) -> Cow<'a, str> {
        let hidden = self.hidden.get().map_or(&[] as &[Span], Vec::as_slice);
        secrets::masked(text, self.line_start(line), hidden)
    }
}
