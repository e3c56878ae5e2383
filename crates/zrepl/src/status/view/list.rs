//! The list of jobs: a line for each.

use crate::status::health::{Health, Lag};
use crate::status::look::Look;
use crate::status::text::{Line, Role, span};
use unicode_width::UnicodeWidthStr;

/// What is known of a job in the list.
pub(crate) struct Columns {
    name: String,
    kind: String,
    role: Role,
    word: String,
    success: String,
    next: String,
    behind: (Role, String),
    age: String,
    problem: String,
    is_titles: bool,
}

impl Columns {
    pub(crate) fn new(name: &str, kind: &str, health: &Health, look: &Look<'_>) -> Columns {
        Columns {
            name: name.to_owned(),
            kind: kind.to_owned(),
            role: health.role,
            word: health.word.clone(),
            success: health.last_success.map(|at| span(look.since(at)) + " ago").unwrap_or_default(),
            next: health.next_run.map(|at| look.relative(at)).unwrap_or_default(),
            behind: match health.lag {
                None => (Role::Plain, String::new()),
                Some(Lag::Seconds(0)) => (Role::Plain, "none".to_owned()),
                Some(Lag::Seconds(lag)) => (Role::Plain, span(lag)),
                Some(Lag::All) => (Role::Warn, "missing".to_owned()),
            },
            age: health.age.map(span).unwrap_or_default(),
            problem: health
                .problems
                .first()
                .map(|problem| format!("{}: {}", problem.place, problem.what.lines().next().unwrap_or_default()))
                .unwrap_or_default(),
            is_titles: false,
        }
    }

    /// Of something that has only a state.
    pub(crate) fn simple(name: &str, kind: &str, role: Role, word: &str, problem: &str) -> Columns {
        let (name, kind, word, problem) = (name.to_owned(), kind.to_owned(), word.to_owned(), problem.to_owned());
        let (success, next, age) = Default::default();
        Columns {
            name,
            kind,
            role,
            word,
            success,
            next,
            behind: (Role::Plain, String::new()),
            age,
            problem,
            is_titles: false,
        }
    }

    /// Whether something is wrong.
    pub(crate) fn is_bad(&self) -> bool {
        self.role == Role::Bad
    }

    /// What the columns are called.
    pub(crate) fn titles() -> Columns {
        let text = str::to_owned;
        Columns {
            name: text("JOB"),
            kind: text("TYPE"),
            role: Role::Label,
            word: text("STATE"),
            success: text("SUCCESS"),
            next: text("NEXT"),
            behind: (Role::Label, text("LAG")),
            age: text("AGE"),
            problem: String::new(),
            is_titles: true,
        }
    }
}

/// A line of the list; `all` are all its lines, so that columns stand below each other. What does not fit
/// into `width` is left out, but never the name and the state.
pub(crate) fn row(one: &Columns, all: &[Columns], width: usize) -> Line {
    type Text = fn(&Columns) -> &str;
    let widest = |of: Text| all.iter().map(|one| of(one).width()).max().unwrap_or(0);
    let columns: [(Text, Role, bool); 7] = [
        (|one| &one.name, Role::Plain, true),
        (|one| &one.word, one.role, true),
        (|one| &one.success, Role::Plain, false),
        (|one| &one.next, Role::Plain, false),
        (|one| &one.behind.1, one.behind.0, false),
        (|one| &one.age, Role::Plain, false),
        (|one| &one.kind, Role::Faint, false),
    ];
    let mut line = Line::new(0);
    for (text, role, always) in columns {
        let (wide, here) = (widest(text), text(one));
        if wide > 0 && (always || line.width() + wide <= width) {
            let role = if one.is_titles { Role::Label } else { role };
            line = line.column(role, here, wide).plain(" ");
        }
    }
    line.with(Role::Bad, &one.problem)
}
