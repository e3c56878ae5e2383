//! Replication of one invocation.

use super::job::labelled;
use super::{STEP, bar, message};
use crate::command::plan::table::human;
use crate::status::look::{Look, Show};
use crate::status::progress::{Bytes, Standing};
use crate::status::report::{Attempt, Filesystem, Replication, StepInfo};
use crate::status::text::{Line, Role, span};

const BAR: usize = 30;

/// The lines of replication.
pub(super) fn section(replication: Option<&Replication>, look: &Look<'_>) -> Vec<Line> {
    let head = Line::new(0).with(Role::Title, "Replication").plain(": ");
    let Some(replication) = replication else { return vec![head.with(Role::Faint, "not started")] };
    let Some((attempt, earlier)) = replication.attempts.split_last() else {
        let mut lines = vec![head.with(Role::Faint, "no attempt yet")];
        lines.extend(connection(replication, look));
        return lines;
    };
    let mut lines = vec![state(head, attempt, replication.attempts.len(), look)];
    lines.extend(earlier.iter().enumerate().flat_map(|(index, one)| earlier_attempt(index + 1, one, look)));
    lines.extend(connection(replication, look));
    lines.extend(attempt.plan_error.iter().flat_map(|error| message(STEP, Role::Bad, &error.err)));
    if matches!(attempt.state.as_str(), "planning" | "planning-error") {
        return lines;
    }
    if attempt.is_running() {
        lines.push(progress(attempt, look));
    }
    lines.extend(counts(attempt));
    lines.extend(filesystems(attempt, look));
    lines
}

fn state(head: Line, attempt: &Attempt, number: usize, look: &Look<'_>) -> Line {
    let line = match attempt.state.as_str() {
        "planning" => head.with(Role::Busy, "planning"),
        "planning-error" => head.with(Role::Bad, "planning failed"),
        "fan-out-filesystems" => head.with(Role::Busy, "sending"),
        "filesystem-error" => head.with(Role::Bad, "failed for some filesystems"),
        "done" => head.with(Role::Good, "done"),
        other => head.plain(other),
    };
    let line = match number {
        1 => line,
        number => line.plain(format!(", attempt {number}")),
    };
    match (attempt.start_at, attempt.finish_at) {
        (Some(start), Some(end)) => {
            let took = span(end.duration_since(start).as_secs());
            line.with(Role::Faint, format!(", {} to {} ({took})", look.time(start), look.time(end)))
        }
        (Some(start), None) => {
            line.with(Role::Faint, format!(", since {} ({})", look.time(start), span(look.since(start))))
        }
        (None, _) => line,
    }
}

fn earlier_attempt(number: usize, attempt: &Attempt, look: &Look<'_>) -> Vec<Line> {
    let at = attempt.finish_at.or(attempt.start_at).map(|at| look.time(at)).unwrap_or_default();
    let line = labelled(&format!("attempt {number}")).with(Role::Warn, &attempt.state).plain(format!(" at {at}"));
    let error = attempt.plan_error.iter().flat_map(|error| message(STEP * 2, Role::Warn, &error.err));
    std::iter::once(line).chain(error).collect()
}

fn connection(replication: &Replication, look: &Look<'_>) -> Vec<Line> {
    if let Some(error) = &replication.wait_reconnect_error {
        let line = labelled("connection").with(Role::Bad, "given up");
        return std::iter::once(line).chain(message(STEP * 2, Role::Bad, &error.err)).collect();
    }
    let Some(since) = replication.wait_reconnect_since else { return Vec::new() };
    let line = labelled("connection").with(Role::Warn, "lost, tries to reconnect");
    let line = line.plain(format!(" since {} ({})", look.time(since), span(look.since(since))));
    vec![match replication.wait_reconnect_until {
        Some(until) if until > look.now => {
            line.plain(format!(", gives up {} ({})", look.relative(until), look.time(until)))
        }
        Some(_) => line.plain(", the time for that is over"),
        None => line.plain(", indefinitely"),
    }]
}

/// How far all of it is, how fast, and how long it takes.
fn progress(attempt: &Attempt, look: &Look<'_>) -> Line {
    let bytes = attempt.bytes();
    let (done, all) = attempt.steps();
    let share = attempt.share();
    let line = Line::prose(STEP).with(Role::Busy, bar(share.done, share.all, BAR)).plain(" ");
    let line = match bytes.unknown {
        0 => line.plain(format!("{} / {}", human(bytes.done), human(bytes.expected))),
        _ => line.plain(human(bytes.done)),
    };
    let line = match look.rates.total.per_second() {
        Some(rate) => line.plain(format!(", {}/s", human(rate))),
        None => line,
    };
    let left = match bytes.unknown {
        0 => look.rates.total.left(bytes.left()).map(|left| format!(", {} left", span(left))),
        // By the steps so far, some of which may be far larger than others.
        _ => attempt
            .start_at
            .and_then(|at| share.left(look.since(at)))
            .map(|left| format!(", about {} left", span(left))),
    };
    let line = line.plain(left.unwrap_or_default());
    let line = line.plain(format!(", step {done} of {all}"));
    match bytes.unknown {
        0 => line,
        unknown => line.with(Role::Faint, format!(" (the size of {unknown} is not known yet)")),
    }
}

/// `14 filesystems: 3 done, 1 failed, 10 up to date`
fn counts(attempt: &Attempt) -> Option<Line> {
    let all = &attempt.filesystems;
    if all.is_empty() {
        return Some(
            Line::prose(STEP).with(Role::Warn, "no filesystem: look at `filesystems` of the job, or the source"),
        );
    }
    let number = |wanted: Standing| all.iter().filter(|one| one.standing() == wanted).count();
    let parts = [
        (Standing::Failed, Role::Bad, "failed"),
        (Standing::FailedForNow, Role::Warn, "to be tried again"),
        (Standing::Working, Role::Busy, "working"),
        (Standing::Waiting, Role::Plain, "waiting"),
        (Standing::Done, Role::Good, "done"),
        (Standing::UpToDate, Role::Plain, "up to date"),
    ];
    let mut line = labelled("filesystems").plain(format!("{}:", all.len()));
    let mut separator = " ";
    for (wanted, role, what) in parts {
        let number = number(wanted);
        if number > 0 {
            line = line.plain(separator).with(role, format!("{number} {what}"));
            separator = ", ";
        }
    }
    Some(line)
}

fn filesystems(attempt: &Attempt, look: &Look<'_>) -> Vec<Line> {
    let mut all: Vec<&Filesystem> =
        attempt.filesystems.iter().filter(|one| look.filter.matches(&one.info.name)).collect();
    // What happens now is at the top, however many others wait; the list of all keeps its order.
    let rank = |one: &Filesystem| match (look.show, one.standing()) {
        (Show::All, _) | (_, Standing::Working) => 0,
        (_, Standing::Failed | Standing::FailedForNow) => 1,
        (_, Standing::Waiting | Standing::Done | Standing::UpToDate) => 2,
    };
    all.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.info.name.cmp(&b.info.name)));
    let shown = |one: &&Filesystem| match (look.show, one.standing()) {
        (Show::All, _) | (_, Standing::Failed | Standing::FailedForNow) => true,
        (Show::Problems, _) => false,
        (Show::Relevant, Standing::UpToDate) => look.wants_all(),
        (Show::Relevant, _) => true,
    };
    let mut lines: Vec<Line> = all.into_iter().filter(shown).flat_map(|one| row(one, look)).collect();
    if lines.is_empty() && !look.filter.is_empty() {
        lines.push(Line::new(STEP).with(Role::Faint, format!("none matches {:?}", look.filter.text())));
    }
    lines
}

fn row(one: &Filesystem, look: &Look<'_>) -> Vec<Line> {
    let (role, word) = match (one.standing(), one.blocked_on.as_str()) {
        (Standing::Failed, _) => (Role::Bad, "! failed"),
        (Standing::FailedForNow, _) => (Role::Warn, "! again"),
        (Standing::Working, _) if one.state == "planning" => (Role::Busy, "* plans"),
        (Standing::Working, _) => (Role::Busy, "* sends"),
        (Standing::Waiting, _) => (Role::Faint, "  waits"),
        (Standing::Done, _) => (Role::Good, "  done"),
        (Standing::UpToDate, _) => (Role::Faint, "  even"),
    };
    let bytes = one.bytes();
    let line = Line::new(STEP).hanging(STEP * 2).column(role, word, 8);
    let line = line.right(Role::Plain, &step_number(one), 5).right(Role::Plain, &amount(one, bytes), 21);
    let line = line.plain(&one.info.name);
    let line = match one.standing() {
        Standing::Working => speed(line, one, bytes, look),
        Standing::Waiting | Standing::FailedForNow => line.with(Role::Faint, format!("  {}", reason(&one.blocked_on))),
        Standing::Failed | Standing::Done | Standing::UpToDate => line,
    };
    let line = match (one.standing(), current(one)) {
        (Standing::Working | Standing::Waiting | Standing::FailedForNow, Some(step)) => {
            line.with(Role::Faint, format!("  {}", words(step)))
        }
        _ => line,
    };
    let failed = if one.standing() == Standing::FailedForNow { Role::Warn } else { Role::Bad };
    std::iter::once(line).chain(one.error().into_iter().flat_map(|error| message(STEP * 2, failed, error))).collect()
}

fn step_number(one: &Filesystem) -> String {
    match one.steps.len() {
        0 => String::new(),
        all if one.state == "done" => format!("{all}/{all}"),
        all => format!("{}/{all}", (one.current_step + 1).min(all)),
    }
}

fn amount(one: &Filesystem, bytes: Bytes) -> String {
    match (one.standing(), bytes) {
        _ if one.steps.is_empty() => String::new(),
        (Standing::Done, bytes) => human(bytes.done),
        (Standing::Waiting, Bytes { done: 0, expected: 0, .. }) => String::new(),
        (_, Bytes { done, unknown: 0, expected }) => format!("{} / {}", human(done), human(expected)),
        (_, Bytes { done, expected, .. }) if expected > done => format!("{} / {}+", human(done), human(expected)),
        (_, Bytes { done, .. }) => format!("{} / ?", human(done)),
    }
}

fn current(one: &Filesystem) -> Option<&StepInfo> {
    one.steps.get(one.current_step).map(|step| &step.info)
}

fn words(step: &StepInfo) -> String {
    let resumed = if step.resumed { ", resumed" } else { "" };
    match step.from.as_str() {
        "" => format!("in full {}{resumed}", step.to),
        from => format!("{from} => {}{resumed}", step.to),
    }
}

fn speed(line: Line, one: &Filesystem, bytes: Bytes, look: &Look<'_>) -> Line {
    let Some(rate) = look.rates.of(&one.info.name) else { return line };
    let line = match rate.per_second() {
        Some(speed) => line.with(Role::Busy, format!("  {}/s", human(speed))),
        None => line,
    };
    match rate.left(bytes.left()) {
        Some(left) if bytes.unknown == 0 => line.with(Role::Busy, format!(", {} left", span(left))),
        _ => line,
    }
}

fn reason(blocked_on: &str) -> &str {
    match blocked_on {
        "plan-queue" => "until it is planned",
        "parent-initial-repl" => "for the first send of its parent",
        "repl-queue" => "for its turn",
        other => other,
    }
}
