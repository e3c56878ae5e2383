//! In which order the edges of the hooks around one snapshot run, and which are left out. Pure: it
//! knows neither programs nor servers.

use std::fmt;

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Before the snapshot.
    Pre,
    /// The snapshot itself.
    Callback,
    /// After the snapshot.
    Post,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its turn has not come.
    Pending,
    /// It runs.
    Exec,
    /// It succeeded.
    Ok,
    /// It failed.
    Err,
    /// Left out: a hook before the snapshot failed, and its failure prevents the snapshot.
    SkippedDueToFatalErr,
    /// Left out: its own hook failed before the snapshot, so there is nothing to undo.
    SkippedDueToPreErr,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Edge::Pre => "Pre",
            Edge::Callback => "Callback",
            Edge::Post => "Post",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Pending => "Pending",
            Status::Exec => "Exec",
            Status::Ok => "Ok",
            Status::Err => "Err",
            Status::SkippedDueToFatalErr => "SkippedDueToFatalErr",
            Status::SkippedDueToPreErr => "SkippedDueToPreErr",
        })
    }
}

/// A step of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub edge: Edge,
    /// The hook's index; for the snapshot, the number of hooks.
    pub hook: usize,
    /// The failure of this step prevents the snapshot.
    pub fatal: bool,
    pub status: Status,
}

/// The steps around one snapshot: all hooks, the snapshot, all hooks in reverse.
#[derive(Debug, Clone)]
pub(super) struct Order {
    turns: Vec<Turn>,
}

impl Order {
    /// The order for hooks of which each says whether its failure is fatal.
    pub(super) fn new(fatal: &[bool]) -> Order {
        let turn = |edge, hook, fatal| Turn { edge, hook, fatal, status: Status::Pending };
        let pres = fatal.iter().enumerate().map(|(hook, fatal)| turn(Edge::Pre, hook, *fatal));
        let posts = (0..fatal.len()).rev().map(|hook| turn(Edge::Post, hook, false));
        let callback = turn(Edge::Callback, fatal.len(), false);
        Order { turns: pres.chain([callback]).chain(posts).collect() }
    }

    /// All steps with what became of them so far.
    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Begins the next step of `edge`, if there is one; with its index.
    pub(super) fn begin(&mut self, edge: Edge) -> Option<(usize, Turn)> {
        let next = |turn: &Turn| turn.edge == edge && turn.status == Status::Pending;
        let index = self.turns.iter().position(next)?;
        let turn = self.turns.get_mut(index)?;
        turn.status = Status::Exec;
        Some((index, *turn))
    }

    /// Ends a step, which may rule out others. A failure after the snapshot rules out nothing, nor
    /// does that of the snapshot: what was done before it is undone either way.
    pub(super) fn end(&mut self, index: usize, success: bool) {
        let Some(turn) = self.turns.get_mut(index) else { return };
        turn.status = if success { Status::Ok } else { Status::Err };
        let Turn { edge, hook: failed, fatal, .. } = *turn;
        if success || edge != Edge::Pre {
            return;
        }
        for turn in self.turns.iter_mut().filter(|turn| turn.status == Status::Pending) {
            turn.status = match turn.edge {
                // Hooks before the failed one have done something that has to be undone.
                Edge::Post if turn.hook < failed => continue,
                _ if fatal => Status::SkippedDueToFatalErr,
                Edge::Post if turn.hook == failed => Status::SkippedDueToPreErr,
                _ => continue,
            };
        }
    }

    /// Whether a step failed.
    pub(super) fn has_error(&self) -> bool {
        self.turns.iter().any(|turn| turn.status == Status::Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays an order. A hook is `ok`, `pre` or `post` for the edge that fails, with `!` if fatal.
    fn play(hooks: &[&str], snapshot: bool) -> String {
        let fatal: Vec<bool> = hooks.iter().map(|hook| hook.ends_with('!')).collect();
        let mut order = Order::new(&fatal);
        for edge in [Edge::Pre, Edge::Callback, Edge::Post] {
            while let Some((index, turn)) = order.begin(edge) {
                let fails = |edge: &str| hooks.get(turn.hook).is_some_and(|hook| hook.trim_end_matches('!') == edge);
                let success = match edge {
                    Edge::Pre => !fails("pre"),
                    Edge::Callback => snapshot,
                    Edge::Post => !fails("post"),
                };
                order.end(index, success);
            }
        }
        let steps = order.turns().iter().map(|turn| match turn.edge {
            Edge::Callback => format!("Callback {}", turn.status),
            edge => format!("{edge}{} {}", turn.hook + 1, turn.status),
        });
        let error = if order.has_error() { "; error" } else { "" };
        format!("{}{error}", steps.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_order_of_steps_and_what_failures_rule_out() {
        let table: &[(&[&str], &str)] = &[
            (&[], "Callback Ok"),
            (&["ok"], "Pre1 Ok, Callback Ok, Post1 Ok"),
            (&["pre"], "Pre1 Err, Callback Ok, Post1 SkippedDueToPreErr; error"),
            (
                &["pre!", "ok"],
                "Pre1 Err, Pre2 SkippedDueToFatalErr, Callback SkippedDueToFatalErr, Post2 SkippedDueToFatalErr, \
                 Post1 SkippedDueToFatalErr; error",
            ),
            (&["post!", "ok"], "Pre1 Ok, Pre2 Ok, Callback Ok, Post2 Ok, Post1 Err; error"),
            (&["ok", "pre"], "Pre1 Ok, Pre2 Err, Callback Ok, Post2 SkippedDueToPreErr, Post1 Ok; error"),
            (&["pre", "ok"], "Pre1 Err, Pre2 Ok, Callback Ok, Post2 Ok, Post1 SkippedDueToPreErr; error"),
            (&["ok", "post", "ok"], "Pre1 Ok, Pre2 Ok, Pre3 Ok, Callback Ok, Post3 Ok, Post2 Err, Post1 Ok; error"),
        ];
        for (hooks, expected) in table {
            assert_eq!(play(hooks, true), *expected, "{hooks:?}");
        }
    }

    #[test]
    fn what_ran_before_a_fatal_error_is_undone() {
        assert_eq!(
            play(&["ok", "pre!", "ok"], true),
            "Pre1 Ok, Pre2 Err, Pre3 SkippedDueToFatalErr, Callback SkippedDueToFatalErr, \
             Post3 SkippedDueToFatalErr, Post2 SkippedDueToFatalErr, Post1 Ok; error"
        );
        assert_eq!(
            play(&["pre", "ok", "pre!"], true),
            "Pre1 Err, Pre2 Ok, Pre3 Err, Callback SkippedDueToFatalErr, Post3 SkippedDueToFatalErr, Post2 Ok, \
             Post1 SkippedDueToPreErr; error"
        );
    }

    #[test]
    fn a_failed_snapshot_is_followed_by_all_that_undoes() {
        assert_eq!(play(&["ok", "ok!"], false), "Pre1 Ok, Pre2 Ok, Callback Err, Post2 Ok, Post1 Ok; error");
    }
}
