//! All about one job.

use jiff::Timestamp;

use super::{STEP, message, pruning, replication, snapshotting};
use crate::command::plan::table::human;
use crate::status::health::{Health, Lag};
use crate::status::look::Look;
use crate::status::report::{Ages, Client, Command, Invocation, Job, Kind};
use crate::status::text::{Line, Role, count, span};

/// The lines of a job; `commands` are the children of the whole daemon.
pub(crate) fn job(name: &str, job: &Job, commands: &[Command], look: &Look<'_>) -> Vec<Line> {
    let health = Health::of(job, look.now);
    let mut lines = vec![
        Line::new(0).with(Role::Title, name).plain("  ").with(Role::Label, job.kind.word()),
        summary(&health, look),
    ];
    let body = &job.body;
    lines.extend(body.invocation.as_ref().and_then(|invocation| last(invocation, look)));
    if let Some(protections) = &body.protections {
        let text = format!(
            "holds or bookmarks could not be made or removed {} since the daemon started (the last one: {}); \
             `zrepl zfs-abstraction list` shows what there is",
            count(protections.failed, "time"),
            protections.last_error
        );
        lines.extend(message(0, Role::Warn, &text));
    }
    match &job.kind {
        Kind::Sink => lines.extend(message(0, Role::Faint, SINK)),
        Kind::Other(kind) => {
            let text = format!("jobs of type {kind:?} are unknown to this version of zrepl (see `zrepl version`)");
            lines.extend(message(0, Role::Warn, &text));
        }
        _ => {}
    }
    section(&mut lines, clients(body.clients.as_deref().unwrap_or_default(), look));
    if job.kind == Kind::Sink {
        section(&mut lines, stored(body.health.as_ref().map_or(&[][..], |facts| &facts.filesystems), look));
    }
    if job.kind.replicates() {
        section(&mut lines, replication::section(body.replication.as_ref(), look));
        section(&mut lines, pruning::section("Pruning of the sender", body.pruning_sender.as_ref(), look));
        section(&mut lines, pruning::section("Pruning of the receiver", body.pruning_receiver.as_ref(), look));
    }
    if job.kind == Kind::Snap {
        section(&mut lines, pruning::section("Pruning", body.pruning.as_ref(), look));
    }
    if matches!(job.kind, Kind::Push | Kind::Snap | Kind::Source) {
        section(&mut lines, snapshotting::section(body.snapshotting.as_ref(), look));
    }
    section(&mut lines, children(job, commands, look));
    lines
}

/// A command may name thousands of snapshots, and a job thousands of filesystems.
const WORDS: usize = 16;

const SINK: &str = "a sink waits for push jobs of other hosts; what they are doing is in their status, and below \
                    is what has come here";

fn section(lines: &mut Vec<Line>, section: Vec<Line>) {
    if !section.is_empty() {
        lines.push(Line::default());
        lines.extend(section);
    }
}

/// One sentence.
fn summary(health: &Health, look: &Look<'_>) -> Line {
    let mut line = Line::prose(0).with(health.role, &health.word);
    let mut fact = |label: &str, text: &str, role: Role| {
        line = std::mem::take(&mut line).plain("; ").with(Role::Label, label).plain(" ").with(role, text);
    };
    if let Some(at) = health.last_success {
        fact("last success", &format!("{} ({})", look.relative(at), look.time(at)), Role::Plain);
    }
    if let Some(at) = health.next_run {
        fact("next run", &format!("{} ({})", look.relative(at), look.time(at)), Role::Plain);
    }
    match health.lag {
        Some(Lag::Seconds(0)) => fact("the receiver is", "up to date", Role::Plain),
        Some(Lag::Seconds(lag)) => fact("the receiver is behind by", &span(lag), Role::Plain),
        Some(Lag::All) => fact("the receiver", "lacks filesystems", Role::Warn),
        None => {}
    }
    if let Some(age) = health.age {
        fact("snapshots are at most", &format!("{} old", span(age)), Role::Plain);
    }
    line
}

/// Who sends to a sink, and what.
fn clients(clients: &[Client], look: &Look<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    if !clients.is_empty() {
        lines.push(Line::new(0).with(Role::Title, "Clients since the daemon started"));
    }
    for client in clients {
        let mut line = labelled(&client.name).plain(format!("{} received", count(client.received, "snapshot")));
        if client.failed > 0 {
            line = line.plain(", ").with(Role::Warn, format!("{} broken off", client.failed));
        }
        if let Some(at) = client.last_at {
            line = line.plain(format!(", the last one {} ({}): {}", look.relative(at), look.time(at), client.last));
        }
        lines.push(line);
        lines.extend(client.receiving.iter().map(|one| Line::prose(2 * STEP).plain("receiving ").plain(one)));
    }
    lines
}

/// How old what a sink has is, the oldest first.
fn stored(filesystems: &[Ages], look: &Look<'_>) -> Vec<Line> {
    let selected = |ages: &&Ages| look.filter.matches(&ages.name);
    let mut found: Vec<(Timestamp, &str)> = filesystems
        .iter()
        .filter(selected)
        .filter_map(|Ages { name, replicated, .. }| Some(((*replicated)?, name.as_str())))
        .collect();
    found.sort_unstable();
    let mut lines = Vec::new();
    if !found.is_empty() {
        let title = format!("Newest snapshots of {}, the oldest first", count(found.len() as u64, "filesystem"));
        lines.push(Line::new(0).with(Role::Title, title));
    }
    let shown = if look.wants_all() { found.len() } else { STORED };
    for (at, name) in found.iter().take(shown) {
        lines.push(labelled(name).plain(format!("{} ({})", look.relative(*at), look.time(*at))));
    }
    if found.len() > shown {
        lines.push(Line::prose(STEP).with(Role::Faint, format!("and {} that are newer", found.len() - shown)));
    }
    lines
}

/// Filesystems of a sink that are listed unless all are wanted.
const STORED: usize = 10;

/// What the last invocation did.
fn last(invocation: &Invocation, look: &Look<'_>) -> Option<Line> {
    let line = Line::prose(0).with(Role::Label, format!("invocation {}: ", invocation.number));
    let Some(summary) = &invocation.summary else {
        let started = invocation.start_at?;
        return Some(line.plain(format!("since {}, for {}", look.time(started), span(look.since(started)))));
    };
    let at = invocation.start_at.or(invocation.finish_at).map(|at| look.time(at)).unwrap_or_default();
    let sent = match summary.steps {
        0 => String::new(),
        steps => format!(", {} with {}", count(steps, "step"), human(summary.bytes)),
    };
    let text = format!(
        "{at}, {:.1} s: {}{sent}, {} destroyed",
        summary.seconds,
        count(summary.filesystems, "filesystem"),
        count(summary.destroyed, "snapshot"),
    );
    let line = line.plain(text);
    Some(match (summary.cancelled, summary.errors) {
        (true, _) => line.plain(", ").with(Role::Warn, "cancelled"),
        (false, 0) => line,
        (false, errors) => line.plain(", ").with(Role::Bad, count(errors, "error")),
    })
}

/// The `zfs` commands that name a filesystem of the job, or all of them for a job that does not know its
/// filesystems.
fn children(job: &Job, commands: &[Command], look: &Look<'_>) -> Vec<Line> {
    let known = || {
        let attempts = job.body.replication.iter().flat_map(|replication| replication.attempts.last());
        let replicated = attempts.flat_map(|attempt| &attempt.filesystems).map(|one| one.info.name.as_str());
        let healthy = job.body.health.iter().flat_map(|facts| &facts.filesystems).map(|one| one.name.as_str());
        replicated.chain(healthy)
    };
    let is_of_job = |command: &&Command| {
        let named = |name: &str| command.args.iter().take(WORDS).any(|word| is_about(word, name));
        job.kind == Kind::Sink || known().any(named)
    };
    let mut lines: Vec<Line> =
        commands.iter().filter(is_of_job).map(|command| super::daemon::command(command, look)).collect();
    if !lines.is_empty() {
        lines.insert(0, Line::new(0).with(Role::Title, "Running commands"));
    }
    lines
}

/// Whether a word of a command line is a filesystem, its counterpart below a receiver's root, or a version of it.
fn is_about(word: &str, filesystem: &str) -> bool {
    let name = word.split(['@', '#']).next().unwrap_or_default();
    name == filesystem || name.strip_suffix(filesystem).is_some_and(|root| root.ends_with('/'))
}

/// Set in by one step.
pub(super) fn labelled(label: &str) -> Line {
    Line::prose(STEP).with(Role::Label, label).plain(" ")
}
