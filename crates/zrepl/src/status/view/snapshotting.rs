//! The snapshotter and its last round.

use jiff::Timestamp;

use super::job::labelled;
use super::{STEP, WORD, message};
use crate::status::look::{Look, Show};
use crate::status::progress::is_cause;
use crate::status::report::{Snapshotting, Taken};
use crate::status::text::{Line, Role, took};

/// The lines of a snapshotter.
pub(super) fn section(snapshotting: Option<&Snapshotting>, look: &Look<'_>) -> Vec<Line> {
    let head = Line::new(0).with(Role::Title, "Snapshotting").plain(": ");
    let Some(snapshotting) = snapshotting else { return vec![head.with(Role::Faint, "nothing is told")] };
    let mut lines = match (&snapshotting.periodic, &snapshotting.cron) {
        (Some(periodic), _) => {
            let (role, word) = state(periodic.state);
            let mut lines = vec![head.with(role, word)];
            lines.extend(message(STEP, Role::Plain, &periodic.error));
            lines.extend(next(periodic.sleep_until, look));
            lines
        }
        (None, Some(cron)) if cron.state == "running" => {
            let since = cron.wakeup_time.map(|at| format!(" since {}", look.time(at))).unwrap_or_default();
            let mut lines = vec![head.with(Role::Busy, "snapshotting").plain(since)];
            lines.extend(cron.errors.iter().flat_map(|error| message(STEP, Role::Plain, error)));
            lines
        }
        (None, Some(cron)) => {
            let head = head.plain("waits for its time");
            let mut lines = vec![match cron.errors.is_empty() {
                true => head,
                false => head.plain(", ").with(Role::Bad, "with errors"),
            }];
            lines.extend(cron.errors.iter().flat_map(|error| message(STEP, Role::Plain, error)));
            lines.extend(next(cron.wakeup_time, look));
            lines
        }
        (None, None) => return vec![head.plain("by others (`type: manual`)")],
    };
    lines.extend(rows(snapshotting.rows(), look));
    lines
}

/// zrepl's numbers.
fn state(number: u64) -> (Role, &'static str) {
    match number {
        1 => (Role::Plain, "waits to go on with the rhythm of earlier snapshots"),
        2 => (Role::Bad, "cannot see earlier snapshots, tries again"),
        4 => (Role::Busy, "planning"),
        8 => (Role::Busy, "snapshotting"),
        16 => (Role::Plain, "waits for its time"),
        32 => (Role::Bad, "failed, tries again"),
        64 => (Role::Warn, "stopped"),
        _ => (Role::Plain, "in a state that is unknown to this version"),
    }
}

fn next(at: Option<Timestamp>, look: &Look<'_>) -> Option<Line> {
    let at = at?;
    Some(labelled("next round").plain(format!("{} ({})", look.relative(at), look.time(at))))
}

fn rows(all: &[Taken], look: &Look<'_>) -> Vec<Line> {
    let failed = all.iter().filter(|one| one.has_failed()).count();
    let pending = all.iter().filter(|one| one.is_pending() || one.is_running()).count();
    let Some(newest) = all.iter().rfind(|one| !one.snap_name.is_empty()) else { return Vec::new() };
    let line = labelled("last round").plain(format!("{}: {} taken", newest.snap_name, all.len() - failed - pending));
    let part = |line: Line, number: usize, role, what: &str| match number {
        0 => line,
        number => line.plain(", ").with(role, format!("{number} {what}")),
    };
    let line = part(part(line, pending, Role::Busy, "to come"), failed, Role::Warn, "with errors");
    let all = all.iter().filter(|one| look.filter.matches(&one.path));
    let shown = all.filter(|one| match look.show {
        _ if one.has_failed() => true,
        Show::Problems => false,
        Show::All => true,
        Show::Relevant => look.wants_all() || one.is_running() || !one.hooks.is_empty(),
    });
    std::iter::once(line).chain(shown.flat_map(row_lines)).collect()
}

fn row_lines(one: &Taken) -> Vec<Line> {
    let (role, word) = match one {
        one if one.has_failed() => (Role::Bad, "! error"),
        one if one.is_running() => (Role::Busy, "* running"),
        one if one.is_pending() => (Role::Faint, "  to come"),
        _ => (Role::Good, "  taken"),
    };
    let since = |(start, done): (Timestamp, Timestamp)| done.duration_since(start).as_millis();
    let took = one.start_at.zip(one.done_at).map(since).and_then(|millis| i64::try_from(millis).ok()).map(took);
    let line = Line::new(STEP).hanging(STEP * 2).column(role, word, WORD);
    let line = line.plain(&one.path).plain("@").plain(&one.snap_name);
    let line = line.with(Role::Faint, took.map(|took| format!("  {took}")).unwrap_or_default());
    // What went well is of no interest beside what did not.
    let role = |text: &str| if is_cause(text) { Role::Plain } else { Role::Faint };
    let hooks = one.hooks.trim_end().lines().flat_map(|text| message(STEP * 2, role(text), text));
    std::iter::once(line).chain(hooks).collect()
}
