//! Lines of text whose parts say what they mean; colours come later, or never.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Role {
    #[default]
    Plain,
    /// The beginning of a part.
    Title,
    /// What the text after it is.
    Label,
    /// All is well.
    Good,
    /// At work.
    Busy,
    /// To look at, some time.
    Warn,
    /// Failed.
    Bad,
    /// Of little importance.
    Faint,
}

/// A blank at which no line is broken, and which is shown as any other.
const GLUE: &str = "\u{a0}";

/// Stands for what is left out.
const CUT: char = '\u{2026}';

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Columns before the text, also where a part of it goes on below.
    indent: usize,
    /// Whether it is always folded at the width of the screen, since it is prose.
    prose: bool,
    spans: Vec<(Role, String)>,
}

impl Line {
    pub(crate) fn new(indent: usize) -> Line {
        Line { indent, prose: false, spans: vec![(Role::Plain, " ".repeat(indent))] }
    }

    /// A sentence, or a message.
    pub(crate) fn prose(indent: usize) -> Line {
        Line { prose: true, ..Line::new(indent) }
    }

    /// Where it goes on below, in columns, if that is not where it begins.
    pub(crate) fn hanging(self, columns: usize) -> Line {
        Line { indent: columns, ..self }
    }

    /// Adds a piece. What would steer a terminal becomes harmless: names and messages come from outside.
    pub(crate) fn with(mut self, role: Role, text: impl AsRef<str>) -> Line {
        let text = text.as_ref();
        let text = match text.contains(|character: char| character.is_control()) {
            true => text.replace('\t', "    ").replace(|character: char| character.is_control(), "\u{fffd}"),
            false => text.to_owned(),
        };
        self.spans.push((role, text));
        self
    }

    /// Adds a number with what it counts, which stay on one line.
    pub(crate) fn figure(self, role: Role, text: &str) -> Line {
        self.with(role, text.replace(' ', GLUE))
    }

    /// The same without colours: what is important is bold.
    pub(crate) fn quiet(mut self) -> Line {
        for (role, _) in &mut self.spans {
            *role = match role {
                Role::Title | Role::Warn | Role::Bad => Role::Title,
                _ => Role::Plain,
            };
        }
        self
    }

    pub(crate) fn plain(self, text: impl AsRef<str>) -> Line {
        self.with(Role::Plain, text)
    }

    /// A piece of at least so many columns.
    pub(crate) fn column(self, role: Role, text: &str, width: usize) -> Line {
        let missing = width.saturating_sub(text.width());
        self.with(role, text).plain(" ".repeat(missing + 1))
    }

    /// A piece of at least so many columns, at their right.
    pub(crate) fn right(self, role: Role, text: &str, width: usize) -> Line {
        let missing = width.saturating_sub(text.width());
        self.plain(" ".repeat(missing)).with(role, text).plain(" ")
    }

    pub(crate) fn text(&self) -> String {
        let text: String = self.spans.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().replace(GLUE, " ")
    }

    /// The pieces as they are shown.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Role, String)> {
        self.spans.iter().map(|(role, text)| (*role, text.replace(GLUE, " ")))
    }

    pub(crate) fn is_prose(&self) -> bool {
        self.prose
    }

    /// Columns that it takes.
    pub(crate) fn width(&self) -> usize {
        self.spans.iter().map(|(_, text)| text.width()).sum()
    }

    /// The same in lines of at most `width` columns, broken between words where that is possible.
    pub(crate) fn fold(&self, width: usize) -> Vec<Line> {
        if self.width() <= width {
            return vec![self.clone()];
        }
        let width = width.max(2);
        let indent = if self.indent * 2 <= width { self.indent } else { 0 };
        let all: Vec<(Role, char)> =
            self.spans.iter().flat_map(|(role, text)| text.chars().map(|one| (*role, one))).collect();
        let (mut lines, mut rest, mut before) = (Vec::new(), all.as_slice(), 0);
        while !rest.is_empty() {
            let (line, left) = rest.split_at(break_at(rest, width - before, if lines.is_empty() { indent } else { 0 }));
            lines.push(Line { indent, prose: self.prose, spans: spans(before, line) });
            let blanks = left.iter().take_while(|(_, one)| *one == ' ').count();
            rest = left.get(blanks..).unwrap_or_default();
            before = indent;
        }
        lines
    }

    /// The columns from `from` on, at most `width` of them, with a sign at the end if more would follow.
    pub(crate) fn cut(&self, from: usize, width: usize) -> Vec<(Role, String)> {
        if width == 0 || self.text().width() <= from.saturating_add(width) {
            return self.window(from, width);
        }
        let mut shown = self.window(from, width - 1);
        let role = shown.last().map_or(Role::Plain, |(role, _)| *role);
        shown.push((role, CUT.to_string()));
        shown
    }

    /// The columns from `from` on, at most `width` of them.
    fn window(&self, from: usize, width: usize) -> Vec<(Role, String)> {
        let mut column = 0;
        let mut shown: Vec<(Role, String)> = Vec::new();
        for (role, text) in &self.spans {
            let mut piece = String::new();
            for one in text.chars() {
                let end = column + one.width().unwrap_or(0);
                if column >= from && end <= from + width {
                    piece.push(if GLUE.contains(one) { ' ' } else { one });
                } else if column < from && end > from {
                    // Half of a wide character.
                    piece.push(' ');
                }
                column = end;
            }
            shown.push((*role, piece));
            if column >= from + width {
                break;
            }
        }
        shown
    }
}

/// How many characters of `text` go on a line of `width` columns; not broken within the first `fixed`.
fn break_at(text: &[(Role, char)], width: usize, fixed: usize) -> usize {
    let mut column = 0;
    let mut last_blank = None;
    for (index, (_, one)) in text.iter().enumerate() {
        column += one.width().unwrap_or(0);
        if column > width {
            let at = if *one == ' ' { Some(index) } else { last_blank };
            return at.filter(|at| *at > 0).unwrap_or(index.max(1));
        }
        if *one == ' ' && index > fixed {
            last_blank = Some(index);
        }
    }
    text.len()
}

fn spans(before: usize, text: &[(Role, char)]) -> Vec<(Role, String)> {
    let mut spans = vec![(Role::Plain, " ".repeat(before))];
    for (role, one) in text {
        match spans.last_mut() {
            Some((last, piece)) if last == role => piece.push(*one),
            _ => spans.push((*role, one.to_string())),
        }
    }
    spans
}

/// A length of time in its two largest units: `3d 4h`, `12s`.
pub(crate) fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let seconds = seconds.max(0);
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (size, unit) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A length of time that may be short: `0.3s`, `59.9s`, `1m 2s`.
pub(crate) fn took(millis: i64) -> String {
    let millis = millis.max(0);
    match millis / 1000 {
        seconds @ 60.. => span(seconds),
        seconds => format!("{seconds}.{}s", millis % 1000 / 100),
    }
}

/// A name in at most `most` columns: what is left out is in the middle, since names differ at their ends.
pub(crate) fn shortened(name: &str, most: usize) -> String {
    if name.width() <= most {
        return name.to_owned();
    }
    let within = |limit: usize| {
        let mut column = 0;
        move |one: &char| {
            column += one.width().unwrap_or(0);
            column <= limit
        }
    };
    let tail = most.saturating_sub(1) / 2;
    let mut text: String = name.chars().take_while(within(most.saturating_sub(1) - tail)).collect();
    text.push(CUT);
    let end: Vec<char> = name.chars().rev().take_while(within(tail)).collect();
    text.extend(end.into_iter().rev());
    text
}

/// `1 step`, `2 steps`.
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(line: &Line, width: usize) -> Vec<String> {
        line.fold(width).iter().map(Line::text).collect()
    }

    #[test]
    fn lines_are_broken_between_words_by_the_columns_they_take() {
        let line = Line::new(2).with(Role::Bad, "cannot receive").plain(" into p/a");
        assert_eq!(folded(&line, 40), ["  cannot receive into p/a"]);
        assert_eq!(folded(&line, 12), ["  cannot", "  receive", "  into p/a"]);
        assert_eq!(folded(&Line::new(0).plain("\u{65e5}\u{672c}\u{8a9e}"), 5), ["\u{65e5}\u{672c}", "\u{8a9e}"]);
        assert_eq!(folded(&Line::new(0).plain("abcdefgh"), 3), ["abc", "def", "gh"]);
        assert_eq!(folded(&Line::new(9).plain("ab cd"), 0).join("").replace(' ', ""), "abcd", "no width at all");
    }

    #[test]
    fn a_number_stays_with_what_it_counts() {
        let line = Line::new(0).plain("sent ").figure(Role::Plain, "3 snapshots");
        assert_eq!(folded(&line, 8), ["sent", "3 snapsh", "ots"]);
        assert_eq!(line.fold(12).iter().map(Line::text).collect::<Vec<_>>(), ["sent", "3 snapshots"]);
        assert_eq!(line.text(), "sent 3 snapshots", "an ordinary blank for whoever copies it");
    }

    #[test]
    fn what_is_left_out_leaves_a_sign() {
        let cut = |text: &str, from, width| {
            Line::new(0).plain(text).cut(from, width).into_iter().map(|(_, text)| text).collect::<String>()
        };
        assert_eq!(
            (cut("abcd", 0, 4), cut("abcd", 0, 3), cut("abcd", 1, 3)),
            ("abcd".into(), "ab…".into(), "bcd".into())
        );
        assert_eq!(
            (cut("abcd  ", 0, 4), cut("a", 0, 0), cut("\u{65e5}\u{672c}", 0, 3)),
            ("abcd".into(), String::new(), "\u{65e5}…".into())
        );
        let all = [("office", 6), ("office_to_vault", 9), ("\u{65e5}\u{672c}\u{8a9e}", 5), ("ab", 1), ("ab", 0)];
        assert_eq!(
            all.map(|(name, most)| shortened(name, most)),
            ["office", "offi…ault", "\u{65e5}…\u{8a9e}", "…", "…"]
        );
    }

    #[test]
    fn a_window_cuts_wide_characters_in_halves() {
        let line = Line::new(0).plain("a\u{65e5}b\u{672c}");
        let window = |from, width| line.window(from, width).into_iter().map(|(_, text)| text).collect::<String>();
        assert_eq!((window(0, 3), window(2, 2), window(4, 1)), ("a\u{65e5}".into(), " b".into(), String::new()));
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_instead() {
        assert_eq!(Line::new(0).plain("a\u{1b}[2Jb\tc").text(), "a\u{fffd}[2Jb    c");
    }

    #[test]
    fn spans_have_two_units() {
        let all = [0, 59, 60, 61, 3600, 3661, 90_000, 86_400 * 400].map(span);
        assert_eq!(all, ["0s", "59s", "1m", "1m 1s", "1h", "1h 1m", "1d 1h", "400d"]);
        assert_eq!([-1, 999, 59_999, 62_000].map(took), ["0.0s", "0.9s", "59.9s", "1m 2s"]);
    }
}
