//! Whether all is well, in the convention of Nagios's plug-ins: a line with a verdict and figures, an exit
//! code, and below the line what is worst.

mod ages;
mod figures;

#[cfg(test)]
mod tests;

use anyhow::Error;
use jiff::Timestamp;

use super::health;
use super::progress::problems;
use super::report::{Job, Kind, Report};
use super::text::{count, span};
use crate::client::Unreachable;
use crate::command_line::status::Check;
use ages::{Age, Limits, ages, has_copies};
use figures::Figures;

/// Worst first in the order of plug-ins: what is known to be bad outweighs what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Ok,
    Unknown,
    Warning,
    Critical,
}

impl Level {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Level::Ok => 0,
            Level::Warning => 1,
            Level::Critical => 2,
            Level::Unknown => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    /// Without a final line feed.
    pub(crate) text: String,
}

impl Verdict {
    /// Nothing could be checked.
    pub(crate) fn unknown(why: &str) -> Verdict {
        let finding = Finding { level: Level::Unknown, weight: 0, text: why.to_owned() };
        verdict(vec![finding], "", &Figures::default(), &[])
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// More is worse, among those of a level.
    weight: i64,
    text: String,
}

/// Invocations that run for longer are worth a look, in seconds.
const RUN_TIME: i64 = 86_400;
/// An invocation of which nothing moves for longer hangs, in seconds: more than the limits by which it would give
/// up what stands still.
const STILL_TIME: i64 = 7200;
/// A run that is overdue by so many seconds will not come by itself: something hangs.
const OVERDUE: i64 = 600;
/// Findings below the line.
const SHOWN: usize = 20;

/// Checks what daemons reported, or why they did not.
pub(crate) fn check(
    reports: &[(Option<String>, Result<Report, Error>)],
    only: Option<&str>,
    check: &Check,
    now: Timestamp,
) -> Verdict {
    let (mut findings, mut figures, mut notes) = (Vec::new(), Figures::default(), Vec::new());
    let (mut jobs, mut filesystems) = (0, 0);
    for (source, report) in reports {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                findings.push(no_answer(source.as_deref(), error));
                continue;
            }
        };
        for (name, job) in report.jobs.iter().filter(|(_, job)| job.kind != Kind::Internal) {
            let full_name = source.as_ref().map_or_else(|| name.clone(), |source| format!("{source}:{name}"));
            if only.is_some_and(|only| only != name && only != full_name) {
                continue;
            }
            let ages = ages(job);
            jobs += 1;
            filesystems += ages.len();
            let one = OneJob { name: &full_name, job, report, check, now };
            one.failures(&mut findings, &mut figures);
            one.stuck(&mut findings);
            one.check_ages(&ages, &mut findings, &mut figures, &mut notes);
        }
    }
    if jobs == 0 && findings.is_empty() {
        let why = only.map_or_else(|| "there are no jobs".to_owned(), |only| format!("job {only:?} not found"));
        return Verdict::unknown(&why);
    }
    let summary = format!("{}, {}", count(jobs, "job"), count(filesystems as u64, "filesystem"));
    verdict(findings, &summary, &figures, &notes)
}

fn no_answer(source: Option<&str>, error: &Error) -> Finding {
    let stopped = error.downcast_ref::<Unreachable>().is_some_and(|error| error.stopped);
    let level = if stopped { Level::Critical } else { Level::Unknown };
    let source = source.map(|source| format!("{source}: ")).unwrap_or_default();
    Finding { level, weight: i64::MAX, text: format!("{source}{error:#}") }
}

struct OneJob<'a> {
    name: &'a str,
    job: &'a Job,
    report: &'a Report,
    check: &'a Check,
    now: Timestamp,
}

impl OneJob<'_> {
    fn finding(&self, level: Level, weight: i64, text: &str) -> Finding {
        Finding { level, weight, text: format!("{}: {text}", self.name) }
    }

    /// What went wrong in the last invocation and the last round of snapshots.
    fn failures(&self, findings: &mut Vec<Finding>, figures: &mut Figures) {
        let problems = problems(&self.job.body);
        figures.errors(self.name, problems.len());
        for problem in problems {
            let first = problem.what.lines().next().unwrap_or_default();
            findings.push(self.finding(Level::Warning, 0, &format!("{}: {first}", problem.place)));
        }
        if let Some(protections) = self.job.body.protections.as_ref().filter(|protections| protections.failed > 0) {
            let times = count(protections.failed, "time");
            let text = format!("holds or bookmarks failed {times}, the last one: {}", protections.last_error);
            findings.push(self.finding(Level::Warning, 0, &text));
        }
        if let Kind::Other(kind) = &self.job.kind {
            findings.push(self.finding(
                Level::Unknown,
                0,
                &format!("jobs of type {kind:?} are unknown to this version"),
            ));
        }
    }

    /// What does not go on.
    fn stuck(&self, findings: &mut Vec<Finding>) {
        let since = |at: Timestamp| self.now.duration_since(at).as_secs();
        let body = &self.job.body;
        let running = body.invocation.as_ref().filter(|invocation| invocation.finish_at.is_none());
        let limit = self.check.max_run_time.map_or(RUN_TIME, seconds);
        if let Some(runs) = running.and_then(|invocation| invocation.start_at).map(since).filter(|runs| *runs > limit) {
            let phase = health::phase(self.job).unwrap_or_else(|| "running".to_owned());
            let text = format!("one invocation runs since {} ({phase}), limit {}", span(runs), span(limit));
            findings.push(self.finding(Level::Warning, runs, &text));
        }
        let limit = self.check.max_still_time.map_or(STILL_TIME, seconds);
        if let Some(still) =
            running.and_then(|invocation| invocation.progress_at).map(since).filter(|still| *still > limit)
        {
            let phase = health::phase(self.job).unwrap_or_else(|| "running".to_owned());
            let text = format!("nothing has moved since {} ({phase}), limit {}", span(still), span(limit));
            findings.push(self.finding(Level::Warning, still, &text));
        }
        if let Some(since) = body
            .replication
            .as_ref()
            .filter(|replication| replication.wait_reconnect_error.is_none())
            .and_then(|replication| replication.wait_reconnect_since)
            .map(since)
        {
            findings.push(self.finding(
                Level::Warning,
                since,
                &format!("the other side is not reached since {}", span(since)),
            ));
        }
        let next = health::Health::of(self.job, self.now).next_run;
        if let Some(late) = next.map(since).filter(|late| *late > OVERDUE && running.is_none()) {
            findings.push(self.finding(Level::Critical, late, &format!("its next run is overdue by {}", span(late))));
        }
    }

    /// How old what is protected is.
    fn check_ages(
        &self,
        ages: &[Age<'_>],
        findings: &mut Vec<Finding>,
        figures: &mut Figures,
        notes: &mut Vec<String>,
    ) {
        let (snapshot, replication) = Limits::of(self.job, self.check);
        notes.extend(Limits::explain(self.name, self.job, &snapshot, &replication));
        let snapshots = ages.iter().map(|age| (age.name, age.newest));
        self.compare("snapshot", "its newest snapshot", snapshots, &snapshot, findings, figures);
        if has_copies(self.job) {
            let lags = Limits::measures_lag(self.job, self.check);
            let replicated = |age: &Age<'_>| match (lags, age.newest, age.replicated) {
                (true, Some(newest), Some(replicated)) => Some(self.now - newest.duration_since(replicated)),
                (_, _, replicated) => replicated,
            };
            let what = if lags { "the newest copy, behind the newest snapshot," } else { "what is replicated" };
            let replicated = ages.iter().map(|age| (age.name, replicated(age)));
            self.compare("replication", what, replicated, &replication, findings, figures);
        }
        let limited = snapshot.is_some() || replication.is_some();
        if ages.is_empty() && limited && !matches!(self.job.kind, Kind::Other(_)) {
            findings.extend(self.nothing_known(&snapshot, &replication));
        }
    }

    fn compare<'b>(
        &self,
        figure: &str,
        what: &str,
        ages: impl Iterator<Item = (&'b str, Option<Timestamp>)>,
        limits: &Option<Limits>,
        findings: &mut Vec<Finding>,
        figures: &mut Figures,
    ) {
        let mut worst = None;
        for (filesystem, at) in ages {
            let Some(at) = at else {
                if limits.is_some() {
                    let none = if figure == "snapshot" { "has no snapshot" } else { "is not replicated" };
                    // The first copy takes as long as it takes.
                    let runs = self.job.body.invocation.as_ref().is_some_and(|one| one.finish_at.is_none());
                    let level = if figure != "snapshot" && runs { Level::Warning } else { Level::Critical };
                    findings.push(self.finding(level, i64::MAX - 1, &format!("{filesystem} {none}")));
                }
                continue;
            };
            let age = self.now.duration_since(at).as_secs().max(0);
            worst = worst.max(Some(age));
            if let Some((level, limit)) = limits.as_ref().and_then(|limits| limits.exceeded(age)) {
                let text = format!("{filesystem}: {what} is {} old (limit {})", span(age), span(limit));
                findings.push(self.finding(level, age, &text));
            }
        }
        if let Some(worst) = worst {
            figures.age(self.name, figure, worst, limits.as_ref());
        }
    }

    /// A daemon that has just started has not looked yet.
    fn nothing_known(&self, snapshot: &Option<Limits>, replication: &Option<Limits>) -> Option<Finding> {
        let patience = [snapshot, replication].into_iter().flatten().map(|limits| limits.warning).max()?;
        let young = |at: Timestamp| self.now.duration_since(at).as_secs() <= patience;
        if self.report.global.daemon.started_at.is_some_and(young) {
            return None;
        }
        let text = match self.job.kind {
            Kind::Sink => "nothing was received as far as the daemon knows, or what there is cannot be listed",
            _ => {
                "the report tells no ages of snapshots: the job has not run yet, or is of a daemon that does not know them"
            }
        };
        Some(self.finding(Level::Unknown, 0, text))
    }
}

fn seconds(length: std::time::Duration) -> i64 {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX)
}

/// The line, with what is worst first, and below it everything as far as it is not too much.
fn verdict(mut findings: Vec<Finding>, summary: &str, figures: &Figures, notes: &[String]) -> Verdict {
    findings.sort_by(|a, b| b.level.cmp(&a.level).then(b.weight.cmp(&a.weight)).then_with(|| a.text.cmp(&b.text)));
    let level = findings.first().map_or(Level::Ok, |finding| finding.level);
    let headline = match findings.split_first() {
        None => format!("{summary}{}", figures.words()),
        Some((worst, [])) => worst.text.clone(),
        Some((worst, more)) => format!("{}; {} more", worst.text, more.len()),
    };
    let mut lines = vec![format!("ZREPL {} - {}{}", level.word(), one_line(&headline), figures.line())];
    if findings.len() > 1 {
        let line = |finding: &Finding| format!("{}: {}", finding.level.word(), one_line(&finding.text));
        lines.extend(findings.iter().take(SHOWN).map(line));
        if findings.len() > SHOWN {
            lines.push(format!("and {} more", findings.len() - SHOWN));
        }
    }
    lines.extend(notes.iter().map(|note| one_line(note)));
    Verdict { level, text: lines.join("\n") }
}

/// The bar would begin the figures.
fn one_line(text: &str) -> String {
    text.replace('|', "/").replace(|one: char| one.is_control(), " ")
}
