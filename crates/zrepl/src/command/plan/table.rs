//! A preview as text.

use std::fmt::Write;

use daemon::preview::{
    FilesystemPreview, JobPreview, NextRound, Preview, PruningPreview, ReplicationPreview, ResolutionPreview, Side,
    Size, StepPreview, Summary,
};

/// Names longer than this push only their own line's columns to the right.
const MAX_COLUMN: usize = 48;

/// Every snapshot, send and decision.
pub(super) fn whole(preview: &Preview, colors: bool) -> String {
    let mut text = String::new();
    for (index, job) in preview.jobs.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        head(&mut text, job, colors);
        let lines: Vec<(&FilesystemPreview, Vec<Line>)> =
            job.filesystems.iter().map(|filesystem| (filesystem, lines(filesystem))).collect();
        let widths = widths(lines.iter().flat_map(|(_, lines)| lines));
        for (filesystem, lines) in &lines {
            let title = printable(&filesystem.filesystem);
            let _ = writeln!(text, "\n{}: {}", paint(&title, Tint::Title, colors), in_words(&filesystem.summary));
            lines.iter().for_each(|line| line.write(&mut text, &widths, colors));
        }
        total(&mut text, job);
    }
    text
}

/// A line per filesystem.
pub(super) fn summary(preview: &Preview, colors: bool) -> String {
    let mut text = String::new();
    for (index, job) in preview.jobs.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        head(&mut text, job, colors);
        let names = job.filesystems.iter().map(|filesystem| filesystem.filesystem.chars().count());
        let width = names.max().unwrap_or(0).min(MAX_COLUMN);
        for FilesystemPreview { filesystem, summary, .. } in &job.filesystems {
            let _ = writeln!(text, "  {:width$}  {}", printable(filesystem), in_words(summary));
        }
        total(&mut text, job);
    }
    text
}

fn head(text: &mut String, job: &JobPreview, colors: bool) {
    let _ = writeln!(text, "job {} ({}), planned at {}", paint(&job.job, Tint::Title, colors), job.kind, job.at);
    match &job.snapshot {
        Some(name) => {
            let _ = writeln!(text, "  takes snapshots now called @{name}; the rest is as if they had been taken");
        }
        None => text.push_str("  takes no snapshots by itself\n"),
    }
    let _ = writeln!(text, "  {}", printable(&next(job)));
    for side in &job.sides {
        let word = word(side.side);
        let rules = side.rules.iter().enumerate().map(|(index, rule)| format!("{}. {rule}", index + 1));
        let rules: Vec<String> = rules.collect();
        let keeps = if rules.is_empty() { "everything".to_owned() } else { rules.join(", ") };
        let _ = writeln!(text, "  {word} keeps: {}", printable(&keeps));
        if side.unknown.is_some() {
            let _ = writeln!(text, "  {}", paint(&format!("{word}: pruning is unknown"), Tint::Warning, colors));
        }
    }
    for problem in job.problems.iter().map(|problem| format!("problem: {problem}")) {
        let _ = writeln!(text, "  {}", paint(&problem, Tint::Warning, colors));
    }
    for warning in job.warnings.iter().map(|warning| format!("warning: {warning}")) {
        let _ = writeln!(text, "  {}", paint(&warning, Tint::Warning, colors));
    }
}

/// When it acts by itself.
fn next(job: &JobPreview) -> String {
    let fetches = job.kind == "pull";
    match &job.next {
        NextRound::OnRequest => format!("acts when asked: zrepl signal wakeup {}", job.job),
        NextRound::At { at } if fetches => format!("next invocation: {at}"),
        NextRound::At { at } if *at == job.at => "next round of snapshots: at once, then an invocation".to_owned(),
        NextRound::At { at } => format!("next round of snapshots: {at}, then an invocation"),
        NextRound::Unknown { why } => format!("next round of snapshots: unknown, because {why}"),
    }
}

fn total(text: &mut String, job: &JobPreview) {
    let filesystems = counted(job.filesystems.len(), "filesystem", "filesystems");
    let unknown = if job.problems.is_empty() { "" } else { "; the rest is unknown" };
    let _ = writeln!(text, "\ntotal of {filesystems}: {}{unknown}", in_words(&job.total));
}

/// What would happen, and nothing of what would not.
fn in_words(summary: &Summary) -> String {
    let Summary { snapshots, sends, bytes, sizes_unknown, destroys, blocked } = *summary;
    let mut parts = Vec::new();
    if snapshots > 0 {
        parts.push(counted(snapshots, "snapshot", "snapshots"));
    }
    if sends > 0 {
        let size = match (bytes, sizes_unknown) {
            (_, unknown) if unknown == sends => "of unknown size".to_owned(),
            (bytes, 0) => format!("of about {}", human(bytes)),
            (bytes, unknown) => format!("of about {} and {unknown} of unknown size", human(bytes)),
        };
        parts.push(format!("{} {size}", counted(sends, "send", "sends")));
    }
    if destroys > 0 {
        parts.push(format!("{} destroyed", counted(destroys, "snapshot", "snapshots")));
    }
    if blocked > 0 {
        parts.push(format!("{blocked} in need of a person"));
    }
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A line of the table: verb, side or base, version, size, why.
struct Line {
    tint: Tint,
    cells: [String; 4],
    why: String,
}

fn lines(filesystem: &FilesystemPreview) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(snapshot) = &filesystem.snapshot {
        let name = format!("@{}", snapshot.name);
        lines.extend(snapshot.hooks.iter().map(|hook| {
            let why = if hook.fatal { "no snapshot if it fails" } else { "its failure is only reported" };
            Line::new(Tint::Snapshot, ["hook", "around", &hook.name, ""], why)
        }));
        lines.push(match &snapshot.impossible {
            None => Line::new(Tint::Snapshot, ["snapshot", "", &name, ""], ""),
            Some(why) => Line::new(Tint::Warning, ["impossible", "", &name, ""], why),
        });
    }
    if let Some(replication) = &filesystem.replication {
        self::replication(replication, &mut lines);
    }
    filesystem.pruning.iter().for_each(|side| pruning(side, &mut lines));
    lines
}

fn replication(replication: &ReplicationPreview, lines: &mut Vec<Line>) {
    match replication {
        ReplicationPreview::Nothing { why } => lines.push(Line::new(Tint::Quiet, ["send", "nothing", "", ""], why)),
        ReplicationPreview::Confirm { why } => lines.push(Line::new(Tint::Send, ["confirm", "", "", ""], why)),
        ReplicationPreview::Conflict { why } => lines.push(Line::new(Tint::Warning, ["conflict", "", "", ""], why)),
        ReplicationPreview::Send { why, discard, resolution, steps } => {
            if let Some(why) = discard {
                lines.push(Line::new(Tint::Warning, ["discard", "partial", "", ""], why));
            }
            if let Some(how) = resolution {
                self::resolution(how, lines);
            }
            let whys = std::iter::once(why.as_str()).chain(std::iter::repeat(""));
            lines.extend(steps.iter().zip(whys).map(|(one, why)| step(one, why)));
        }
    }
}

fn resolution(how: &ResolutionPreview, lines: &mut Vec<Line>) {
    match how {
        ResolutionPreview::RollBack { to, destroys, why } => {
            let newer = format!("newer than {to}, the newest that both sides have ({why})");
            let destroys = destroys.iter();
            lines.extend(destroys.map(|name| Line::new(Tint::Destroy, ["destroy", "receiver", name, ""], &newer)));
            let lost = "what was written since is lost";
            lines.push(Line::new(Tint::Warning, ["roll back", "receiver", to, ""], lost));
        }
        ResolutionPreview::RenameAside { to, below, why } => {
            let renamed = format!("to {to}: no snapshot is on both sides ({why})");
            lines.push(Line::new(Tint::Warning, ["rename", "receiver", "", ""], &renamed));
            let below = below.iter();
            let along =
                |name: &String| Line::new(Tint::Warning, ["rename", "receiver", "", ""], &format!("with {name}"));
            lines.extend(below.map(along));
        }
    }
}

fn step(step: &StepPreview, why: &str) -> Line {
    let base = match &step.from {
        Some(from) => format!("from {from}"),
        None => "full".to_owned(),
    };
    let (size, unknown) = match &step.size {
        Size::Bytes(bytes) => (human(*bytes), ""),
        Size::Unknown(why) => ("?".to_owned(), why.as_str()),
    };
    let resumes = if step.resumes { "the rest of an interrupted send" } else { "" };
    let whys: Vec<&str> = [why, resumes, unknown].into_iter().filter(|why| !why.is_empty()).collect();
    Line::new(Tint::Send, ["send", &base, &step.to, &size], &whys.join("; "))
}

fn pruning(side: &PruningPreview, lines: &mut Vec<Line>) {
    let word = word(side.side);
    if let Some(why) = &side.skipped {
        lines.push(Line::new(Tint::Quiet, ["keep", word, "all", ""], why));
        return;
    }
    for verdict in &side.snapshots {
        let name = format!("@{}", verdict.name);
        let (tint, verb) = if verdict.destroy { (Tint::Destroy, "destroy") } else { (Tint::Quiet, "keep") };
        lines.push(Line::new(tint, [verb, word, &name, ""], &verdict.why));
    }
}

fn word(side: Side) -> &'static str {
    match side {
        Side::Sender => "sender",
        Side::Receiver => "receiver",
        Side::Local => "local",
    }
}

impl Line {
    fn new(tint: Tint, cells: [&str; 4], why: &str) -> Self {
        Self { tint, cells: cells.map(printable), why: printable(why) }
    }

    fn write(&self, text: &mut String, widths: &[usize; 4], colors: bool) {
        let [verb, base, version, size] = &self.cells;
        let [verb_width, base_width, version_width, size_width] = *widths;
        let line = format!(
            "  {verb:verb_width$}  {base:base_width$}  {version:version_width$}  {size:>size_width$}  {}",
            self.why
        );
        let _ = writeln!(text, "{}", paint(line.trim_end(), self.tint, colors));
    }
}

fn widths<'a>(lines: impl Iterator<Item = &'a Line>) -> [usize; 4] {
    let mut widths = [0; 4];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = cell.chars().count().min(MAX_COLUMN).max(*width);
        }
    }
    widths
}

/// Texts of peers and children must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// A size to three digits or so, in powers of 1024.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for larger in UNITS {
        if tenths < 10 * 1024 {
            break;
        }
        tenths = tenths.div_ceil(1024);
        unit = larger;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[derive(Clone, Copy)]
enum Tint {
    Title,
    Snapshot,
    Send,
    Destroy,
    Warning,
    Quiet,
}

fn paint(text: &str, tint: Tint, colors: bool) -> String {
    let text = printable(text);
    let code = match tint {
        _ if !colors => return text,
        Tint::Title => "1",
        Tint::Snapshot => "36",
        Tint::Send => "32",
        Tint::Destroy => "31",
        Tint::Warning => "33",
        Tint::Quiet => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use daemon::preview::{HookPreview, SidePreview, SnapshotPreview, VERSION, Verdict};
    use expect_test::expect;

    use super::*;

    fn verdict(name: &str, destroy: bool, why: &str) -> Verdict {
        let (name, why) = (name.to_owned(), why.to_owned());
        Verdict { name, creation: String::new(), destroy, why, kept_by: Vec::new(), rejected_by: Vec::new() }
    }

    fn example() -> Preview {
        let side = |side, unknown: Option<&str>| SidePreview {
            side,
            rules: vec!["not_replicated".to_owned(), "last_n 1".to_owned()],
            unknown: unknown.map(str::to_owned),
        };
        let step = |from: Option<&str>, to: &str, size| StepPreview {
            from: from.map(str::to_owned),
            to: to.to_owned(),
            resumes: false,
            size,
        };
        let not_yet = || Size::Unknown("the snapshot is not taken yet".to_owned());
        let pruned = PruningPreview {
            side: Side::Sender,
            skipped: None,
            snapshots: vec![
                verdict("old", true, "no rule keeps it"),
                verdict("z_20240514_120000_000", false, "rule 1, not_replicated"),
            ],
        };
        let filesystems = vec![
            FilesystemPreview {
                filesystem: "tank/home".to_owned(),
                snapshot: Some(SnapshotPreview {
                    name: "z_20240514_120000_000".to_owned(),
                    impossible: None,
                    hooks: vec![
                        HookPreview { name: "/etc/zrepl/quiesce".to_owned(), fatal: true },
                        HookPreview { name: "postgres-checkpoint me@db:5432/it".to_owned(), fatal: false },
                    ],
                }),
                replication: Some(ReplicationPreview::Send {
                    why: "send in full (all)".to_owned(),
                    discard: None,
                    resolution: None,
                    steps: vec![
                        step(None, "@old", Size::Bytes(5_000_000)),
                        step(Some("@old"), "@z_20240514_120000_000", not_yet()),
                    ],
                }),
                pruning: vec![pruned],
                summary: Summary {
                    snapshots: 1,
                    sends: 2,
                    bytes: 5_000_000,
                    sizes_unknown: 1,
                    destroys: 1,
                    blocked: 0,
                },
            },
            FilesystemPreview {
                filesystem: "tank/home/quiet".to_owned(),
                snapshot: None,
                replication: Some(ReplicationPreview::Nothing { why: "the receiver has @old".to_owned() }),
                pruning: Vec::new(),
                summary: Summary::default(),
            },
            FilesystemPreview {
                filesystem: "tank/odd".to_owned(),
                snapshot: None,
                replication: Some(ReplicationPreview::Send {
                    why: "send from @old".to_owned(),
                    discard: None,
                    resolution: Some(ResolutionPreview::RollBack {
                        to: "@old".to_owned(),
                        destroys: vec!["@own".to_owned(), "@own 2".to_owned()],
                        why: "diverged: rollback_receiver".to_owned(),
                    }),
                    steps: Vec::new(),
                }),
                pruning: Vec::new(),
                summary: Summary { destroys: 2, ..Summary::default() },
            },
            FilesystemPreview {
                filesystem: "tank/other".to_owned(),
                snapshot: None,
                replication: Some(ReplicationPreview::Send {
                    why: "send in full (most_recent)".to_owned(),
                    discard: None,
                    resolution: Some(ResolutionPreview::RenameAside {
                        to: "tank/other.zrepl.aside.TIME".to_owned(),
                        below: vec!["tank/other/child".to_owned()],
                        why: "no_common: rename_aside".to_owned(),
                    }),
                    steps: vec![step(None, "@new", Size::Bytes(42))],
                }),
                pruning: Vec::new(),
                summary: Summary { sends: 1, bytes: 42, ..Summary::default() },
            },
            FilesystemPreview {
                filesystem: "tank/torn".to_owned(),
                snapshot: None,
                replication: Some(ReplicationPreview::Conflict { why: "odd\x1b[2J\nnews".to_owned() }),
                pruning: Vec::new(),
                summary: Summary { blocked: 1, ..Summary::default() },
            },
        ];
        let push = JobPreview {
            job: "push".to_owned(),
            kind: "push".to_owned(),
            at: "2024-05-14T12:00:00Z".to_owned(),
            next: NextRound::At { at: "2024-05-14T12:10:00Z".to_owned() },
            snapshot: Some("z_20240514_120000_000".to_owned()),
            problems: Vec::new(),
            warnings: vec!["it rains".to_owned()],
            sides: vec![side(Side::Sender, None)],
            filesystems,
            total: Summary { snapshots: 1, sends: 2, bytes: 5_000_000, sizes_unknown: 1, destroys: 1, blocked: 1 },
        };
        let away = JobPreview {
            job: "away".to_owned(),
            next: NextRound::OnRequest,
            snapshot: None,
            problems: vec!["cannot look at the receiver: it sleeps".to_owned()],
            warnings: Vec::new(),
            sides: vec![side(Side::Receiver, Some("cannot look at the receiver: it sleeps"))],
            filesystems: Vec::new(),
            total: Summary::default(),
            ..push.clone()
        };
        Preview { version: VERSION, jobs: vec![push, away] }
    }

    #[test]
    fn a_table_has_every_decision_and_a_summary_has_a_line_per_filesystem() {
        expect![[r#"
            job push (push), planned at 2024-05-14T12:00:00Z
              takes snapshots now called @z_20240514_120000_000; the rest is as if they had been taken
              next round of snapshots: 2024-05-14T12:10:00Z, then an invocation
              sender keeps: 1. not_replicated, 2. last_n 1
              warning: it rains

            tank/home: 1 snapshot, 2 sends of about 4.8 MiB and 1 of unknown size, 1 snapshot destroyed
              hook       around     /etc/zrepl/quiesce                          no snapshot if it fails
              hook       around     postgres-checkpoint me@db:5432/it           its failure is only reported
              snapshot              @z_20240514_120000_000
              send       full       @old                               4.8 MiB  send in full (all)
              send       from @old  @z_20240514_120000_000                   ?  the snapshot is not taken yet
              destroy    sender     @old                                        no rule keeps it
              keep       sender     @z_20240514_120000_000                      rule 1, not_replicated

            tank/home/quiet: nothing to do
              send       nothing                                                the receiver has @old

            tank/odd: 2 snapshots destroyed
              destroy    receiver   @own                                        newer than @old, the newest that both sides have (diverged: rollback_receiver)
              destroy    receiver   @own 2                                      newer than @old, the newest that both sides have (diverged: rollback_receiver)
              roll back  receiver   @old                                        what was written since is lost

            tank/other: 1 send of about 42 B
              rename     receiver                                               to tank/other.zrepl.aside.TIME: no snapshot is on both sides (no_common: rename_aside)
              rename     receiver                                               with tank/other/child
              send       full       @new                                  42 B  send in full (most_recent)

            tank/torn: 1 in need of a person
              conflict                                                          odd?[2J?news

            total of 5 filesystems: 1 snapshot, 2 sends of about 4.8 MiB and 1 of unknown size, 1 snapshot destroyed, 1 in need of a person

            job away (push), planned at 2024-05-14T12:00:00Z
              takes no snapshots by itself
              acts when asked: zrepl signal wakeup away
              receiver keeps: 1. not_replicated, 2. last_n 1
              receiver: pruning is unknown
              problem: cannot look at the receiver: it sleeps

            total of 0 filesystems: nothing to do; the rest is unknown
        "#]].assert_eq(&whole(&example(), false));
        expect![[r#"
            job push (push), planned at 2024-05-14T12:00:00Z
              takes snapshots now called @z_20240514_120000_000; the rest is as if they had been taken
              next round of snapshots: 2024-05-14T12:10:00Z, then an invocation
              sender keeps: 1. not_replicated, 2. last_n 1
              warning: it rains
              tank/home        1 snapshot, 2 sends of about 4.8 MiB and 1 of unknown size, 1 snapshot destroyed
              tank/home/quiet  nothing to do
              tank/odd         2 snapshots destroyed
              tank/other       1 send of about 42 B
              tank/torn        1 in need of a person

            total of 5 filesystems: 1 snapshot, 2 sends of about 4.8 MiB and 1 of unknown size, 1 snapshot destroyed, 1 in need of a person

            job away (push), planned at 2024-05-14T12:00:00Z
              takes no snapshots by itself
              acts when asked: zrepl signal wakeup away
              receiver keeps: 1. not_replicated, 2. last_n 1
              receiver: pruning is unknown
              problem: cannot look at the receiver: it sleeps

            total of 0 filesystems: nothing to do; the rest is unknown
        "#]].assert_eq(&summary(&example(), false));
    }

    #[test]
    fn colours_only_add_escapes() {
        let colored = whole(&example(), true);
        let mut plain = String::new();
        for (index, part) in colored.split('\x1b').enumerate() {
            plain += if index == 0 { part } else { part.split_once('m').unwrap().1 };
        }
        assert_ne!(colored, plain);
        assert_eq!(plain, whole(&example(), false));
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (5_000_000, "4.8 MiB"),
            (1 << 40, "1.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
