//! All about one job.

use std::time::Duration;

use jiff::Timestamp;

use super::{STEP, message, pruning, replication, snapshotting};
use crate::command::plan::table::human;
use crate::status::health::{Age, Group, Health, phase};
use crate::status::look::Look;
use crate::status::report::{Ages, Client, Command, Invocation, Job, Kind, Protections};
use crate::status::text::{Line, Role, count, span, took as took_text};

/// The lines of a job; `commands` are the children of the whole daemon.
pub(crate) fn job(name: &str, job: &Job, commands: &[Command], look: &Look<'_>) -> Vec<Line> {
    let health = Health::of(job, look.now);
    let mut lines = vec![
        Line::new(0).with(Role::Title, name).plain("  ").with(Role::Label, job.kind.word()),
        summary(&health, look),
    ];
    let body = &job.body;
    lines.extend(body.invocation.as_ref().and_then(|invocation| last(invocation, look)));
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
        match (&body.pruning_sender, &body.pruning_receiver) {
            (None, None) => section(&mut lines, pruning::section("Pruning", None, look)),
            (sender, receiver) => {
                section(&mut lines, pruning::section("Pruning of the sender", sender.as_ref(), look));
                section(&mut lines, pruning::section("Pruning of the receiver", receiver.as_ref(), look));
            }
        }
    }
    if job.kind == Kind::Snap {
        section(&mut lines, pruning::section("Pruning", body.pruning.as_ref(), look));
    }
    if matches!(job.kind, Kind::Push | Kind::Snap | Kind::Source) {
        section(&mut lines, snapshotting::section(body.snapshotting.as_ref(), look));
    }
    section(&mut lines, body.protections.as_ref().map(protections).unwrap_or_default());
    section(&mut lines, children(job, commands, look));
    lines
}

/// What an operator may look at some time; nothing of it is lost.
fn protections(protections: &Protections) -> Vec<Line> {
    let line = Line::prose(0).hanging(STEP).with(Role::Warn, "! holds or bookmarks");
    vec![line.plain(format!(
        " could not be made or removed {} since the daemon started (the last one: {}); \
         `zrepl zfs-abstraction list` shows what there is",
        count(protections.failed, "time"),
        protections.last_error
    ))]
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
    let mut line = Line::prose(0);
    for (index, (role, word)) in health.words.iter().enumerate() {
        line = if index > 0 { line.plain(", ") } else { line }.figure(*role, word);
    }
    let mut fact = |label: &str, text: &str, role: Role, rest: &str| {
        line = std::mem::take(&mut line).plain("; ").with(Role::Label, label).figure(role, text).plain(rest);
    };
    if let Some(at) = health.last_success {
        fact("last success ", &look.relative(at), Role::Plain, &format!(" ({})", look.time(at)));
    }
    if let Some(at) = health.next_run {
        fact("next run ", &look.relative(at), Role::Plain, &format!(" ({})", look.time(at)));
    }
    let lag = &health.lag;
    let some = |group: &Group| {
        let all = count(lag.all as u64, "filesystem");
        match group.number {
            1 if lag.all == 1 => (group.first.clone(), String::new()),
            1 => (format!("1 of {all}"), format!(" ({})", group.first)),
            number => (format!("{number} of {all}"), format!(" ({} and {} more)", group.first, number - 1)),
        }
    };
    match lag.behind {
        Some(0) if lag.without.number + lag.unknown.number == 0 => {
            fact("the receiver is ", "up to date", Role::Plain, "");
        }
        Some(lag @ 1..) => fact("the receiver is behind by ", &span(lag), Role::Plain, ""),
        _ => {}
    }
    if lag.without.number > 0 {
        let (number, names) = some(&lag.without);
        fact("", "not replicated", Role::Warn, &format!(": {number}{names}"));
    }
    if lag.unknown.number > 0 {
        let (number, names) = some(&lag.unknown);
        fact("not known yet whether replicated: ", &number, Role::Plain, &names);
    }
    match &health.age {
        Some(Age { seconds, filesystem, filesystems: 1, .. }) => {
            fact("newest snapshot ", &span(*seconds), Role::Plain, &format!(" old ({filesystem})"));
        }
        Some(Age { seconds, is_of_all: true, .. }) => {
            fact("newest snapshots ", &span(*seconds), Role::Plain, " old");
        }
        Some(Age { seconds, filesystem, .. }) => {
            fact("newest snapshots up to ", &span(*seconds), Role::Plain, &format!(" old ({filesystem})"));
        }
        None => {}
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
    let took = Duration::try_from_secs_f64(summary.seconds).unwrap_or_default();
    let took = took_text(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
    let line = line.plain(format!("{at}, {took}: ")).figure(Role::Plain, &count(summary.filesystems, "filesystem"));
    let line = match summary.steps {
        0 => line,
        steps => {
            let line = line.plain(", ").figure(Role::Plain, &count(steps, "step"));
            line.plain(" with ").figure(Role::Plain, &human(summary.bytes))
        }
    };
    let line = line.plain(", ").figure(Role::Plain, &count(summary.destroyed, "snapshot")).plain(" destroyed");
    Some(match (summary.cancelled, summary.errors) {
        (true, _) => line.plain(", ").with(Role::Warn, "cancelled"),
        (false, 0) => line,
        // How many there are is said above, where those of snapshots count as well.
        (false, _) => line.plain(", with errors"),
    })
}

/// The `zfs` commands that name a filesystem of the job, or all of them for a sink of which nothing more is
/// known. Two jobs may be about the same filesystems, so there are none for a job that does not run.
fn children(job: &Job, commands: &[Command], look: &Look<'_>) -> Vec<Line> {
    let serves = matches!(job.kind, Kind::Sink | Kind::Source);
    if !serves && phase(job).is_none() {
        return Vec::new();
    }
    let body = &job.body;
    let attempts = body.replication.iter().flat_map(|replication| replication.attempts.last());
    let replicated = attempts.flat_map(|attempt| &attempt.filesystems).map(|one| one.info.name.as_str());
    let healthy = body.health.iter().flat_map(|facts| &facts.filesystems).map(|one| one.name.as_str());
    let clients = body.clients.iter().flatten();
    let received = clients.flat_map(|client| &client.receiving).filter_map(|one| one.split('@').next());
    let known: Vec<&str> = replicated.chain(healthy).chain(received).collect();
    let tells_nothing = job.kind == Kind::Sink && body.clients.is_none() && known.is_empty();
    let is_of_job = |command: &&Command| {
        let words = || command.args.iter().take(WORDS);
        tells_nothing || known.iter().any(|name| words().any(|word| is_about(word, name)))
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
