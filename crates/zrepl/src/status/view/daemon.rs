//! The daemon itself: its version, what runs in it, its settings.

use super::STEP;
use crate::status::look::Look;
use crate::status::report::{Command, Global};
use crate::status::text::{Line, Role, span};

/// Most words of a command line that are shown; there may be thousands.
const WORDS: usize = 24;

/// The lines of the daemon.
pub(crate) fn daemon(name: &str, global: &Global, look: &Look<'_>) -> Vec<Line> {
    let mut lines = vec![Line::new(0).with(Role::Title, name).plain("  ").with(Role::Label, "the daemon")];
    let version = match global.daemon.version.as_str() {
        "" => "of zrepl 0.7 or earlier, which does not tell more of itself",
        version => version,
    };
    lines.push(Line::prose(0).with(Role::Label, "version: ").plain(version));
    if let Some(at) = global.daemon.started_at {
        let text = format!("{} ({})", look.relative(at), look.time(at));
        lines.push(Line::prose(0).with(Role::Label, "started: ").plain(text));
    }
    lines.push(Line::default());
    lines.push(Line::new(0).with(Role::Title, "Running commands"));
    lines.extend(global.commands.active.iter().map(|one| command(one, look)));
    if global.commands.active.is_empty() {
        lines.push(Line::new(STEP).with(Role::Faint, "none"));
    }
    if !global.settings.entries.is_empty() {
        lines.push(Line::default());
        lines.push(Line::new(0).with(Role::Title, "Settings from the environment, or their defaults"));
        let setting = |var: &str, value: &str| Line::new(STEP).with(Role::Label, var).plain(" = ").plain(value);
        lines.extend(global.settings.entries.iter().map(|one| setting(&one.var, &one.value)));
    }
    lines
}

/// A child process.
pub(super) fn command(command: &Command, look: &Look<'_>) -> Line {
    let time = command.started_at.map(|at| span(look.since(at))).unwrap_or_default();
    let shown: Vec<&str> = command.args.iter().take(WORDS).map(String::as_str).collect();
    let words = if shown.is_empty() { command.path.clone() } else { shown.join(" ") };
    let line = Line::prose(STEP).hanging(STEP + 8).right(Role::Busy, &time, 7).plain(words);
    match command.args.len().saturating_sub(WORDS) {
        0 => line,
        more => line.with(Role::Faint, format!(" and {more} more")),
    }
}
