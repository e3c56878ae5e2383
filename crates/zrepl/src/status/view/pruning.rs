//! Pruning of one side.

use super::{STEP, WORD, bar, message, names};
use crate::status::look::{Look, Show};
use crate::status::report::{Pruned, Pruning};
use crate::status::text::{Line, Role, count};

/// The lines of one side.
pub(super) fn section(title: &str, pruning: Option<&Pruning>, look: &Look<'_>) -> Vec<Line> {
    let head = Line::new(0).with(Role::Title, title).plain(": ");
    let Some(pruning) = pruning else { return vec![head.with(Role::Faint, "not started")] };
    let (done, all) = pruning.destroyed();
    let destroyed = count(done as u64, "snapshot") + " destroyed";
    let head = match pruning.state.as_str() {
        "Plan" => head.with(Role::Busy, "planning"),
        "PlanErr" => head.with(Role::Bad, "planning failed"),
        "Exec" => head.with(Role::Busy, "destroying"),
        "ExecErr" => head
            .with(Role::Bad, "failed")
            .plain(", ")
            .figure(Role::Plain, &count(done as u64, "snapshot"))
            .plain(" tried"),
        "Done" if all == 0 => head.with(Role::Good, "done").plain(", nothing to destroy"),
        "Done" => head.with(Role::Good, "done").plain(format!(", {destroyed}")),
        other => head.plain(other),
    };
    let mut lines = vec![head];
    lines.extend(message(STEP, Role::Plain, &pruning.error));
    if pruning.state == "Exec" {
        let text = format!("{} {done} of {}", bar(done as u64, all as u64, 30), count(all as u64, "snapshot"));
        lines.push(Line::new(STEP).with(Role::Busy, text));
    }
    let mut rows: Vec<(&Pruned, bool)> = pruning.completed.iter().map(|one| (one, true)).collect();
    rows.extend(pruning.pending.iter().map(|one| (one, false)));
    rows.sort_by(|(a, _), (b, _)| a.filesystem.cmp(&b.filesystem));
    let matching = rows.iter().filter(|(one, _)| look.filter.matches(&one.filesystem));
    let shown = matching.filter(|(one, _)| match look.show {
        _ if !one.last_error.is_empty() => true,
        Show::Problems => false,
        Show::All => true,
        Show::Relevant => look.wants_all() || one.destroy_list.count > 0,
    });
    let shown: Vec<&(&Pruned, bool)> = shown.collect();
    let width = names(shown.iter().map(|(one, _)| one.filesystem.as_str()));
    lines.extend(shown.into_iter().flat_map(|(one, completed)| row(one, *completed, width)));
    lines
}

/// `name` is the width of the column of names.
fn row(one: &Pruned, completed: bool, name: usize) -> Vec<Line> {
    let (gone, all) = (one.destroy_list.count, one.snapshot_list.count);
    let all = count(all as u64, "snapshot");
    let line = Line::new(STEP).hanging(STEP * 2);
    if !one.last_error.is_empty() {
        let line = line.column(Role::Bad, "! failed", WORD).plain(&one.filesystem);
        return std::iter::once(line).chain(message(STEP * 2, Role::Plain, &one.last_error)).collect();
    }
    let (role, word) = match (one.skip_reason.as_str(), gone, completed) {
        ("", 0, _) => (Role::Faint, "  keeps"),
        ("", _, true) => (Role::Good, "  done"),
        ("", _, false) => (Role::Busy, "* destroys"),
        _ => (Role::Faint, "  skipped"),
    };
    let line = line.column(role, word, WORD).column(Role::Plain, &one.filesystem, name).plain(" ");
    vec![match (one.skip_reason.as_str(), gone) {
        ("", 0) if one.snapshot_list.count == 0 => line.with(Role::Faint, "nothing: it has no snapshots"),
        ("", 0) => line.with(Role::Faint, format!("all {all}")),
        ("", 1) => {
            let first = one.destroy_list.first.as_deref().unwrap_or_default();
            line.plain("@").plain(first).with(Role::Faint, format!(", 1 of {all}"))
        }
        ("", _) => line.plain(format!("{gone} of {all}")),
        (reason, _) => line.with(Role::Faint, reason),
    }]
}
