//! Pruning of one side.

use super::{STEP, bar, message};
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
        "ExecErr" => head.with(Role::Bad, "failed").plain(format!(", {}", count(done as u64, "snapshot") + " tried")),
        "Done" if all == 0 => head.with(Role::Good, "done").plain(", nothing to destroy"),
        "Done" => head.with(Role::Good, "done").plain(format!(", {destroyed}")),
        other => head.plain(other),
    };
    let mut lines = vec![head];
    lines.extend(message(STEP, Role::Bad, &pruning.error));
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
    lines.extend(shown.flat_map(|(one, completed)| row(one, *completed)));
    lines
}

fn row(one: &Pruned, completed: bool) -> Vec<Line> {
    let (gone, all) = (one.destroy_list.count, one.snapshot_list.count);
    let line = Line::new(STEP);
    let of_all = format!("{gone} of {}", count(all as u64, "snapshot"));
    if !one.last_error.is_empty() {
        let line = line.with(Role::Bad, "! failed  ").plain(&one.filesystem);
        return std::iter::once(line).chain(message(STEP * 2, Role::Bad, &one.last_error)).collect();
    }
    let line = match (one.skip_reason.as_str(), gone, completed) {
        ("", 0, _) => line
            .with(Role::Faint, "  keeps   ")
            .plain(&one.filesystem)
            .with(Role::Faint, "  all ")
            .with(Role::Faint, count(all as u64, "snapshot")),
        ("", 1, _) => {
            let name = one.destroy_list.first.as_deref().unwrap_or_default();
            let line = if completed { line.plain("  done    ") } else { line.with(Role::Busy, "* destroys ") };
            line.plain(&one.filesystem).plain("  @").plain(name).with(Role::Faint, format!(", {of_all}"))
        }
        ("", _, true) => line.plain("  done    ").plain(&one.filesystem).plain("  ").plain(of_all),
        ("", _, false) => line.with(Role::Busy, "* destroys ").plain(&one.filesystem).plain("  ").plain(of_all),
        (reason, ..) => {
            line.with(Role::Faint, "  skipped ").plain(&one.filesystem).with(Role::Faint, format!("  {reason}"))
        }
    };
    vec![line]
}
