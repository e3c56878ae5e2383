//! Replication of one invocation.

use super::job::labelled;
use super::{STEP, WORD, bar, message, names};
use crate::command::plan::table::human;
use crate::status::look::{Look, Show};
use crate::status::progress::{Bytes, Standing};
use crate::status::report::{Attempt, Filesystem, Replication, StepInfo};
use crate::status::text::{Line, Role, count, span};

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
    let waits = attempt.is_running() && replication.is_reconnecting();
    let mut lines = vec![state(head, attempt, waits, replication.attempts.len(), look)];
    lines.extend(earlier.iter().enumerate().flat_map(|(index, one)| earlier_attempt(index + 1, one, look)));
    lines.extend(connection(replication, look));
    lines.extend(replication.plan_error().into_iter().flat_map(|error| message(STEP, Role::Plain, &error.err)));
    if matches!(attempt.state.as_str(), "planning" | "planning-error") {
        return lines;
    }
    if attempt.is_running() && !waits {
        lines.push(progress(attempt, look));
    }
    lines.extend(counts(attempt));
    lines.extend(filesystems(attempt, look));
    lines
}

/// `waits`: for the connection; `number`: of the attempt.
fn state(head: Line, attempt: &Attempt, waits: bool, number: usize, look: &Look<'_>) -> Line {
    let all = &attempt.filesystems;
    let line = match attempt.state.as_str() {
        _ if waits => head.with(Role::Warn, "waiting for the connection"),
        "planning" => head.with(Role::Busy, "planning"),
        "planning-error" => head.with(Role::Bad, "planning failed"),
        "fan-out-filesystems" => head.with(Role::Busy, "sending"),
        "filesystem-error" => {
            let failed = all.iter().filter(|one| one.has_failed()).count();
            let line = head.with(Role::Bad, "failed");
            line.plain(" for ").figure(Role::Plain, &format!("{failed} of {}", count(all.len() as u64, "filesystem")))
        }
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
    let error = attempt.plan_error.iter().flat_map(|error| message(STEP * 2, Role::Plain, &error.err));
    std::iter::once(line).chain(error).collect()
}

fn connection(replication: &Replication, look: &Look<'_>) -> Vec<Line> {
    if let Some(error) = &replication.wait_reconnect_error {
        let line = labelled("connection").with(Role::Bad, "given up");
        return std::iter::once(line).chain(message(STEP * 2, Role::Plain, &error.err)).collect();
    }
    let Some(since) = replication.wait_reconnect_since else { return Vec::new() };
    let line = labelled("connection").with(Role::Warn, "lost, tries to reconnect");
    let line = line.plain(format!(" since {} ({})", look.time(since), span(look.since(since))));
    vec![match replication.wait_reconnect_until {
        Some(until) if until > look.now => line
            .plain(", gives up ")
            .figure(Role::Plain, &look.relative(until))
            .plain(format!(" ({})", look.time(until))),
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
        0 => line.figure(Role::Plain, &format!("{} / {}", human(bytes.done), human(bytes.expected))),
        _ => line.figure(Role::Plain, &human(bytes.done)),
    };
    let line = match look.rates.total.per_second() {
        Some(rate) => line.plain(", ").figure(Role::Plain, &format!("{}/s", human(rate))),
        None => line,
    };
    let left = match bytes.unknown {
        0 => look.rates.total.left(bytes.left()).map(|left| format!("{} left", span(left))),
        // By the steps so far, some of which may be far larger than others.
        _ => {
            attempt.start_at.and_then(|at| share.left(look.since(at))).map(|left| format!("about {} left", span(left)))
        }
    };
    let line = match left {
        Some(left) => line.plain(", ").figure(Role::Plain, &left),
        None => line,
    };
    let line = line.plain(", ").figure(Role::Plain, &format!("{done}/{all} steps"));
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
        (Standing::Failed, Role::Warn, "failed"),
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
            line = line.plain(separator).figure(role, &format!("{number} {what}"));
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
    let shown: Vec<&Filesystem> = all.into_iter().filter(shown).collect();
    let widths = Widths::of(&shown);
    let mut lines: Vec<Line> = shown.into_iter().flat_map(|one| row(one, &widths, look)).collect();
    if lines.is_empty() && !look.filter.is_empty() {
        lines.push(Line::new(STEP).with(Role::Faint, format!("none matches {:?}", look.filter.text())));
    }
    lines
}

/// Of the columns below each other.
struct Widths {
    name: usize,
    steps: usize,
    amount: usize,
}

impl Widths {
    fn of(shown: &[&Filesystem]) -> Widths {
        let widest = |text: fn(&Filesystem) -> String| shown.iter().map(|one| text(one).len()).max().unwrap_or(0);
        let name = names(shown.iter().map(|one| one.info.name.as_str()));
        Widths { name, steps: widest(steps), amount: widest(amount) }
    }
}

fn row(one: &Filesystem, widths: &Widths, look: &Look<'_>) -> Vec<Line> {
    let (role, word) = match one.standing() {
        Standing::Failed => (Role::Bad, "! failed"),
        Standing::FailedForNow => (Role::Warn, "! again"),
        Standing::Working if one.state == "planning" => (Role::Busy, "* plans"),
        Standing::Working => (Role::Busy, "* sends"),
        Standing::Waiting => (Role::Faint, "  waits"),
        Standing::Done => (Role::Good, "  done"),
        Standing::UpToDate => (Role::Faint, "  up to date"),
    };
    let line = Line::new(STEP).hanging(STEP * 2).column(role, word, WORD);
    let line = line.column(Role::Plain, &one.info.name, widths.name).plain(" ");
    let line = match one.standing() {
        Standing::Waiting if !reason(&one.blocked_on).is_empty() => {
            line.with(Role::Faint, format!("{}  ", reason(&one.blocked_on)))
        }
        _ => line,
    };
    let line = line.right(Role::Plain, &steps(one), widths.steps);
    let line = match widths.amount {
        0 => line,
        width => line.plain(" ").right(Role::Plain, &amount(one), width),
    };
    let line = match (one.standing(), current(one)) {
        (Standing::Working, step) => {
            let line = speed(line, one, look);
            line.with(Role::Faint, step.map(|step| format!(" {}", words(step))).unwrap_or_default())
        }
        (Standing::Waiting | Standing::FailedForNow, Some(step)) => line.with(Role::Faint, format!(" {}", words(step))),
        _ => line,
    };
    std::iter::once(line)
        .chain(one.error().into_iter().flat_map(|error| message(STEP * 2, Role::Plain, error)))
        .collect()
}

/// Steps done and all there are.
fn steps(one: &Filesystem) -> String {
    match one.steps.len() {
        0 => String::new(),
        all if one.state == "done" => format!("{all}/{all}"),
        all => format!("{}/{all}", one.current_step.min(all)),
    }
}

fn amount(one: &Filesystem) -> String {
    match (one.standing(), one.bytes()) {
        _ if one.steps.is_empty() => String::new(),
        (Standing::Done, bytes) => human(bytes.done),
        (Standing::Waiting, Bytes { done: 0, expected: 0, .. }) => String::new(),
        (_, Bytes { done, unknown: 0, expected }) => format!("{} / {}", human(done), human(expected)),
        (_, Bytes { done, expected, .. }) if expected > done => format!("{} / {}+", human(done), human(expected)),
        (_, Bytes { done, .. }) => format!("{}, size unknown", human(done)),
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

fn speed(line: Line, one: &Filesystem, look: &Look<'_>) -> Line {
    let Some(rate) = look.rates.of(&one.info.name) else { return line };
    let line = match rate.per_second() {
        Some(speed) => line.with(Role::Busy, format!(" {}/s", human(speed))),
        None => line,
    };
    let bytes = one.bytes();
    match rate.left(bytes.left()) {
        Some(left) if bytes.unknown == 0 => line.with(Role::Busy, format!(", {} left ", span(left))),
        _ => line.plain(" "),
    }
}

/// What it waits for, unless that is its turn.
fn reason(blocked_on: &str) -> &str {
    match blocked_on {
        "repl-queue" | "" => "",
        "plan-queue" => "to be planned",
        "parent-initial-repl" => "for the first send of its parent",
        other => other,
    }
}
