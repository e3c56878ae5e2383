//! The list of jobs: a line for each.

use unicode_width::UnicodeWidthStr;

use crate::status::health::{Health, Lag};
use crate::status::look::Look;
use crate::status::text::{Line, Role, shortened, span};

/// What is known of a job in the list.
pub(crate) struct Columns {
    name: String,
    kind: String,
    words: Vec<(Role, String)>,
    success: String,
    next: String,
    behind: (Role, String),
    age: String,
    problem: String,
    is_titles: bool,
    is_bad: bool,
}

impl Columns {
    pub(crate) fn new(name: &str, kind: &str, health: &Health, look: &Look<'_>) -> Columns {
        let problem = health.problems.first();
        let problem =
            problem.map(|problem| format!("{}: {}", problem.place, problem.what.lines().next().unwrap_or_default()));
        Columns {
            words: health.words.clone(),
            success: health.last_success.map(|at| span(look.since(at)) + " ago").unwrap_or_default(),
            next: health.next_run.map(|at| look.relative(at)).unwrap_or_default(),
            behind: behind(&health.lag),
            age: health.age.as_ref().map(|age| span(age.seconds)).unwrap_or_default(),
            is_bad: health.is_bad(),
            ..Columns::simple(name, kind, Role::Plain, "", &problem.unwrap_or_default())
        }
    }

    /// Of something that has only a state.
    pub(crate) fn simple(name: &str, kind: &str, role: Role, word: &str, problem: &str) -> Columns {
        Columns {
            name: name.to_owned(),
            kind: kind.to_owned(),
            words: vec![(role, word.to_owned())],
            success: String::new(),
            next: String::new(),
            behind: (Role::Plain, String::new()),
            age: String::new(),
            problem: problem.to_owned(),
            is_titles: false,
            is_bad: role == Role::Bad,
        }
    }

    /// Whether something is wrong.
    pub(crate) fn is_bad(&self) -> bool {
        self.is_bad
    }

    /// What the columns are called.
    pub(crate) fn titles() -> Columns {
        let text = str::to_owned;
        Columns {
            success: text("LAST OK"),
            next: text("NEXT"),
            behind: (Role::Label, text("LAG")),
            age: text("NEWEST"),
            is_titles: true,
            ..Columns::simple("JOB", "TYPE", Role::Label, "STATE", "ERROR")
        }
    }

    /// The columns as they follow one another, without the last one, the error.
    fn cells(&self) -> [Vec<(Role, String)>; COLUMNS] {
        let plain = |text: &str| vec![(Role::Plain, text.to_owned())];
        let mut words = Vec::new();
        for word in &self.words {
            if !words.is_empty() {
                words.push((Role::Plain, ", ".to_owned()));
            }
            words.push(word.clone());
        }
        [
            plain(&self.name),
            words,
            vec![self.behind.clone()],
            plain(&self.success),
            plain(&self.next),
            plain(&self.age),
            vec![(Role::Faint, self.kind.clone())],
        ]
    }
}

/// Name, state and what else there is, the most important first.
const COLUMNS: usize = 7;

/// The name and the state are always shown.
const ALWAYS: usize = 2;

/// Names may be so wide where there is no room for all columns.
const NAME: usize = 24;

/// Less of an error says nothing.
const ERROR: usize = 20;

/// Between two columns.
const GAP: usize = 2;

fn behind(lag: &Lag) -> (Role, String) {
    match (lag.without.number, lag.behind, lag.unknown.number) {
        (1.., ..) => (Role::Warn, format!("{} not sent", lag.without.number)),
        (0, _, 1..) => (Role::Plain, "unknown".to_owned()),
        (0, Some(0), 0) => (Role::Plain, "none".to_owned()),
        (0, Some(lag), 0) => (Role::Plain, span(lag)),
        (0, None, 0) => (Role::Plain, String::new()),
    }
}

/// How wide the columns are, so that they stand below each other in all lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Widths {
    /// Of those that are shown; 0 if there is nothing in it.
    columns: Vec<usize>,
    shows_error: bool,
}

impl Widths {
    /// Those of a list whose first line are the titles. The columns that do not fit into `width` are left out
    /// from the end, but never the name and the state.
    pub(crate) fn of(all: &[Columns], width: usize) -> Widths {
        let mut columns = [0; COLUMNS];
        let mut filled = [false; COLUMNS];
        for one in all {
            for ((cell, widest), filled) in one.cells().iter().zip(&mut columns).zip(&mut filled) {
                let wide: usize = cell.iter().map(|(_, text)| text.width()).sum();
                *widest = wide.max(*widest);
                *filled |= wide > 0 && !one.is_titles;
            }
        }
        // A title alone tells nothing.
        columns.iter_mut().zip(filled).for_each(|(wide, filled)| *wide *= usize::from(filled));
        let taken = |columns: &[usize]| columns.iter().filter(|wide| **wide > 0).map(|wide| wide + GAP).sum::<usize>();
        let is_narrow = width + GAP < taken(&columns);
        columns.iter_mut().take(usize::from(is_narrow)).for_each(|name| *name = NAME.min(*name));
        let fits = |number: &usize| columns.get(..*number).is_some_and(|shown| taken(shown) <= width + GAP);
        let number = (ALWAYS..=COLUMNS).rev().find(fits).unwrap_or(ALWAYS);
        let columns: Vec<usize> = columns.into_iter().take(number).collect();
        let has_error = all.iter().any(|one| !one.is_titles && !one.problem.is_empty());
        Widths { shows_error: has_error && taken(&columns) + ERROR <= width, columns }
    }
}

/// A line of the list.
pub(crate) fn row(one: &Columns, widths: &Widths) -> Line {
    let mut line = Line::new(0);
    for (index, (cell, wide)) in
        one.cells().into_iter().zip(&widths.columns).enumerate().filter(|(_, (_, wide))| **wide > 0)
    {
        let mut taken = 0;
        for (role, text) in cell {
            let text = if index == 0 { shortened(&text, *wide) } else { text };
            taken += text.width();
            line = line.with(if one.is_titles { Role::Label } else { role }, text);
        }
        line = line.plain(" ".repeat((wide + GAP).saturating_sub(taken)));
    }
    if widths.shows_error { line.plain(&one.problem) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(name: &str, state: &str, lag: &str, next: &str, problem: &str) -> Columns {
        let behind = (Role::Plain, lag.to_owned());
        Columns { behind, next: next.to_owned(), ..Columns::simple(name, "push", Role::Plain, state, problem) }
    }

    #[test]
    fn columns_are_left_out_from_the_end_and_names_are_shortened_before() {
        let all = [
            Columns::titles(),
            columns("office", "ok", "none", "in 5m", ""),
            columns("media_to_offsite_with_a_long_name", "1 error", "3h", "", "connection: broken"),
        ];
        let rows = |width| {
            let widths = Widths::of(&all, width);
            all.iter().map(|one| row(one, &widths).text()).collect::<Vec<_>>()
        };
        assert_eq!(
            rows(100),
            [
                "JOB                                STATE    LAG   NEXT   TYPE  ERROR",
                "office                             ok       none  in 5m  push",
                "media_to_offsite_with_a_long_name  1 error  3h           push  connection: broken",
            ]
        );
        assert_eq!(rows(62)[2], "media_to_offsite_with_a_long_name  1 error  3h           push");
        assert_eq!(rows(52)[2], "media_to_off…a_long_name  1 error  3h           push");
        assert_eq!(rows(51)[0], "JOB                       STATE    LAG   NEXT");
        assert_eq!(rows(44)[0], "JOB                       STATE    LAG");
        assert_eq!(rows(0)[1], "office                    ok");
    }
}
