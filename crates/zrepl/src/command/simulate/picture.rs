//! A simulation drawn with characters, at most 80 in a line.

use std::fmt::Write;

use jiff::Timestamp;
use model::UnixTime;
use model::plan::prune::Decision;
use model::simulate::{Existing, SideRules, Timeline};

use super::Played;

/// A terminal's usual width.
const WIDTH: usize = 80;
/// What is left of it for bars.
const BAR: usize = 27;
/// Longest name that is not cut.
const NAME: usize = 44;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Ages up to so many seconds: how they are called and drawn. Each begins where the one before ends.
const AGES: [(i64, &str, char); 5] = [
    (DAY, "<=1d", '█'),
    (7 * DAY, "<=7d", '▓'),
    (30 * DAY, "<=30d", '▒'),
    (365 * DAY, "<=1y", '░'),
    (i64::MAX, ">1y", '·'),
];

/// One job: for each side how many snapshots of which age exist over time, then those at the end.
pub(super) fn draw(played: &Played) -> String {
    let Played { job, filesystem, from, to, timeline } = played;
    let mut text = String::new();
    let taken = timeline.rounds.iter().filter(|round| round.failed.is_none()).count();
    let failed = timeline.rounds.len() - taken;
    let failed = if failed > 0 { format!(", {failed} could not be taken") } else { String::new() };
    let start = filesystem.as_ref().map(|name| format!(", from what {name} has now on")).unwrap_or_default();
    wrapped(&mut text, "", &format!("job {job}{start}: {taken} snapshots from {from} to {to}{failed}"));
    if let Some(why) = timeline.rounds.iter().find_map(|round| round.failed.as_ref()) {
        wrapped(&mut text, "  ", &format!("problem: {why}"));
    }
    for (index, side) in timeline.sides.iter().enumerate() {
        rules(&mut text, side);
        rows(&mut text, timeline, index);
        let none = Vec::new();
        survivors(&mut text, side, timeline.end.at, timeline.end.existing.get(index).unwrap_or(&none));
    }
    text
}

fn rules(text: &mut String, side: &SideRules) {
    let _ = writeln!(text, "\n{} keeps", side.side);
    for (index, rule) in side.rules.iter().enumerate() {
        wrapped(text, "     ", &format!("{}. {rule}", index + 1));
    }
}

fn rows(text: &mut String, timeline: &Timeline, side: usize) {
    let counts: Vec<(Timestamp, [usize; 5])> = timeline
        .samples
        .iter()
        .chain([&timeline.end])
        .map(|sample| (sample.at, counts(sample.at, sample.existing.get(side).map_or(&[][..], Vec::as_slice))))
        .collect();
    let most = counts.iter().map(|(_, counts)| counts.iter().sum::<usize>()).max().unwrap_or(0);
    let _ = write!(text, "\n{:16} {:>5}", "UTC", "all");
    AGES.iter().for_each(|(_, name, _)| write!(text, " {name:>5}").unwrap_or_default());
    text.push('\n');
    for (at, counts) in &counts {
        let at = at.strftime("%Y-%m-%d %H:%M").to_string();
        let mut line = format!("{at:16} {:>5}", counts.iter().sum::<usize>());
        for count in counts {
            let count = if *count == 0 { ".".to_owned() } else { count.to_string() };
            let _ = write!(line, " {count:>5}");
        }
        let _ = writeln!(text, "{}", format!("{line} {}", bar(counts, most)).trim_end());
    }
}

/// How many are of which age.
fn counts(at: Timestamp, existing: &[Existing]) -> [usize; 5] {
    let mut counts = [0; 5];
    for one in existing {
        let age = age(at, one.creation);
        let bucket = AGES.iter().position(|(oldest, ..)| age <= *oldest);
        if let Some(count) = bucket.and_then(|bucket| counts.get_mut(bucket)) {
            *count += 1;
        }
    }
    counts
}

/// As long as there are snapshots, to the scale of the most there are; the youngest first.
fn bar(counts: &[usize; 5], most: usize) -> String {
    let scale = |count: usize| (count * BAR).div_ceil(most.max(BAR));
    let (mut bar, mut sum, mut drawn) = (String::new(), 0, 0);
    for (count, (_, _, character)) in counts.iter().zip(AGES) {
        sum += count;
        bar.extend(std::iter::repeat_n(character, scale(sum) - drawn));
        drawn = scale(sum);
    }
    bar
}

fn survivors(text: &mut String, side: &SideRules, end: Timestamp, existing: &[Existing]) {
    let _ = writeln!(text, "\nleft on the {} side at the end: {}", side.side, existing.len());
    let rows: Vec<[String; 3]> =
        existing.iter().map(|one| [in_words(age(end, one.creation)), cut(one.name.as_str()), reason(one)]).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (ages, names) = (width(0), width(1));
    for [age, name, reason] in &rows {
        let _ = writeln!(text, "  {age:>ages$}  {name:names$}  {reason}");
    }
}

/// What keeps it, in few words: the rules are listed above.
fn reason(existing: &Existing) -> String {
    match existing.decision {
        Decision::KeptByRule(_) => {
            let rules: Vec<String> = existing.kept_by.iter().map(|rule| (u32::from(*rule) + 1).to_string()).collect();
            format!("{} {}", if rules.len() == 1 { "rule" } else { "rules" }, rules.join(", "))
        }
        Decision::KeptAsBase => "base of the next send".to_owned(),
        Decision::KeptHeld => "held".to_owned(),
        Decision::NotConsidered => "not subject to rules".to_owned(),
        Decision::Destroy => "goes next".to_owned(),
    }
}

/// In seconds; none is younger than now.
fn age(at: Timestamp, creation: UnixTime) -> i64 {
    at.as_second().saturating_sub(creation.0).max(0)
}

fn in_words(age: i64) -> String {
    let (days, hours, minutes) = (age / DAY, age % DAY / HOUR, age % HOUR / 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{age}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        None => name.to_owned(),
        Some(_) => name.chars().take(NAME - 1).chain(['…']).collect(),
    }
}

/// Breaks at blanks; what follows is indented further. A word longer than a line is broken anywhere.
fn wrapped(text: &mut String, indent: &str, words: &str) {
    let mut line = String::new();
    let mut before = indent.to_owned();
    for word in words.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let room = WIDTH.saturating_sub(before.len() + 1 + line.chars().count());
            if word.len() <= room || line.is_empty() {
                let rest = word.split_off(word.len().min(WIDTH - before.len()));
                if !line.is_empty() {
                    line.push(' ');
                }
                line.extend(word);
                word = rest;
                if word.is_empty() {
                    break;
                }
            }
            let _ = writeln!(text, "{before}{line}");
            line.clear();
            before = format!("{indent}   ");
        }
    }
    let _ = writeln!(text, "{before}{line}");
}

#[cfg(test)]
mod tests;
