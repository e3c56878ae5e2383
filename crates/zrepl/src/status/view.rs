//! A report as lines of text. No clock, no terminal: what is shown depends on the arguments alone.

mod daemon;
mod job;
mod list;
mod pruning;
mod replication;
mod snapshotting;

pub(crate) use daemon::daemon;
pub(crate) use job::job;
pub(crate) use list::{Columns, Widths, row};

use unicode_width::UnicodeWidthStr;

use super::text::{Line, Role};

/// Columns by which the parts of a section are set in.
const STEP: usize = 2;

/// Columns of the word that says how a filesystem stands, so that their names are below each other in all
/// sections.
const WORD: usize = 12;

/// Names up to this width are followed by what stands in a column of its own; longer ones push it to the right.
const NAME: usize = 24;

/// The column for these names.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> usize {
    all.map(UnicodeWidthStr::width).filter(|width| *width <= NAME).max().unwrap_or(0)
}

/// A message from outside, which may have several lines.
fn message(indent: usize, role: Role, text: &str) -> Vec<Line> {
    text.trim_end().lines().map(|line| Line::prose(indent).with(role, line.trim_end())).collect()
}

/// `[=====>-----]`
fn bar(done: u64, all: u64, width: usize) -> String {
    let filled = match all {
        0 => width,
        all => usize::try_from(u128::from(done.min(all)) * width as u128 / u128::from(all)).unwrap_or(width),
    };
    let head = if filled < width { ">" } else { "" };
    format!("[{}{head}{}]", "=".repeat(filled), "-".repeat((width - filled).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_wide_as_it_shall_be_whatever_it_shows() {
        for (done, all, expected) in [
            (0, 10, "[>----]"),
            (5, 10, "[==>--]"),
            (10, 10, "[=====]"),
            (0, 0, "[=====]"),
            (11, 10, "[=====]"),
            (u64::MAX, u64::MAX, "[=====]"),
        ] {
            assert_eq!(bar(done, all, 5), expected, "{done}/{all}");
        }
    }
}
