//! The interactive screen: what a person sees and does. Its state changes by keys and reports alone, and
//! it draws into any terminal that ratatui knows, so that tests need none.

mod dialog;
mod draw;
mod keys;
mod pane;
mod run;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::layout::Rect;

use super::health::Health;
use super::look::{Filter, Look, Show};
use super::seen::Seen;
use super::text::{Line, Role};
use super::view::{self, Columns};
use dialog::Dialog;
use draw::Palette;
use pane::Pane;

pub(crate) use run::run;

/// How the screen begins.
pub(crate) struct Options {
    /// Only this job.
    pub(crate) job: Option<String>,
    pub(crate) colors: bool,
    /// All jobs below each other, without a list.
    pub(crate) legacy: bool,
    pub(crate) zone: TimeZone,
}

/// Where keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Jobs,
    Detail,
    Filter,
    Search,
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Job { daemon: usize, name: String },
    Daemon { daemon: usize },
}

/// What a key asks the outside for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Quit,
    Refresh,
    Signal { daemon: usize, job: String, operation: &'static str },
}

/// The whole screen.
struct Screen {
    options: Options,
    daemons: Vec<Seen>,
    now: Timestamp,
    focus: Focus,
    list_shown: bool,
    selected: Option<Entry>,
    /// Whether a person chose that.
    chosen: bool,
    /// The titles and the lines of the list, as of a second.
    columns: Vec<Columns>,
    columns_of: Option<i64>,
    /// First line of the list that is shown.
    list_top: usize,
    /// Lines of the list that fit.
    list_height: usize,
    filter: Filter,
    filter_text: String,
    search_text: String,
    show: Show,
    wrap: bool,
    pane: Pane,
    dialog: Option<Dialog>,
    /// What became of what was asked for.
    message: Option<(Role, String)>,
    /// Whether the pane's lines are of an earlier report, or of another job.
    stale: bool,
}

impl Screen {
    fn new(options: Options, sources: impl IntoIterator<Item = Option<String>>, now: Timestamp) -> Screen {
        Screen {
            list_shown: !options.legacy,
            focus: if options.legacy { Focus::Detail } else { Focus::Jobs },
            options,
            daemons: sources.into_iter().map(Seen::new).collect(),
            now,
            selected: None,
            chosen: false,
            columns: Vec::new(),
            columns_of: None,
            list_top: 0,
            list_height: 0,
            filter: Filter::default(),
            filter_text: String::new(),
            search_text: String::new(),
            show: Show::default(),
            wrap: false,
            pane: Pane::default(),
            dialog: None,
            message: None,
            stale: true,
        }
    }

    /// Nothing has changed but the time.
    fn note_same(&mut self, daemon: usize, elapsed: std::time::Duration, now: Timestamp) {
        self.now = now;
        if let Some(seen) = self.daemons.get_mut(daemon) {
            seen.note_same(elapsed, now);
        }
        self.stale = true;
    }

    /// Takes over the answer of a daemon.
    fn note(
        &mut self,
        daemon: usize,
        elapsed: std::time::Duration,
        now: Timestamp,
        answer: Result<super::report::Report, String>,
    ) {
        self.now = now;
        if let Some(seen) = self.daemons.get_mut(daemon) {
            seen.note(elapsed, now, answer);
        }
        (self.stale, self.columns_of) = (true, None);
        let entries = self.entries();
        if !self.chosen || self.selected.as_ref().is_none_or(|selected| !entries.contains(selected)) {
            let before = self.selected.take();
            self.selected = entries.into_iter().next();
            if self.selected != before {
                self.pane.go_to_top();
            }
        }
    }

    /// The lines of the list: all jobs by name, then the daemons.
    fn entries(&self) -> Vec<Entry> {
        let wanted = |seen: &Seen, name: &str| {
            self.options.job.as_deref().is_none_or(|only| only == name || only == seen.full_name(name))
        };
        let daemons = || self.daemons.iter().enumerate();
        let jobs = daemons().flat_map(|(daemon, seen)| {
            let jobs = seen.jobs().filter(move |(name, _)| wanted(seen, name));
            jobs.map(move |(name, _)| Entry::Job { daemon, name: name.to_owned() })
        });
        let all = self.options.job.is_none();
        jobs.chain(daemons().filter(|_| all).map(|(daemon, _)| Entry::Daemon { daemon })).collect()
    }

    /// Makes the list anew if its times or what it is about have changed.
    fn refresh_list(&mut self, entries: &[Entry]) {
        let second = Some(self.now.as_second());
        if self.columns_of != second {
            let lines = entries.iter().map(|entry| self.columns(entry));
            self.columns = std::iter::once(Columns::titles()).chain(lines).collect();
            self.columns_of = second;
        }
    }

    fn columns(&self, entry: &Entry) -> Columns {
        let rates = super::rate::JobRates::default();
        let look = self.look(&rates);
        match entry {
            Entry::Job { daemon, name } => {
                let seen = self.daemons.get(*daemon);
                let job = seen.and_then(|seen| seen.report.as_ref()?.jobs.get(name));
                let full_name = seen.map_or_else(|| name.clone(), |seen| seen.full_name(name));
                match job {
                    Some(job) => Columns::new(&full_name, job.kind.word(), &Health::of(job, self.now), &look),
                    None => Columns::simple(&full_name, "", Role::Warn, "gone", ""),
                }
            }
            Entry::Daemon { daemon } => {
                let seen = self.daemons.get(*daemon);
                let name = seen.and_then(|seen| seen.name.clone()).unwrap_or_else(|| "daemon".to_owned());
                let error = seen.and_then(|seen| seen.error.as_deref()).unwrap_or_default();
                let (role, word) = match seen {
                    _ if !error.is_empty() => (Role::Bad, "no answer"),
                    Some(Seen { report: Some(_), restarted: Some(_), .. }) => (Role::Warn, "restarted"),
                    Some(Seen { report: Some(_), .. }) => (Role::Faint, "answers"),
                    _ => (Role::Faint, "..."),
                };
                Columns::simple(&format!("({name})"), "daemon", role, word, error)
            }
        }
    }

    fn look<'a>(&'a self, rates: &'a super::rate::JobRates) -> Look<'a> {
        Look { now: self.now, zone: &self.options.zone, filter: &self.filter, show: self.show, rates }
    }

    /// The lines of the pane, as they are before they are folded.
    fn lines(&self) -> Vec<Line> {
        if self.options.legacy {
            let only = self.options.job.as_deref();
            let lines = super::dump::lines(&self.daemons, only, self.show, self.now, &self.options.zone);
            return lines.filter(|lines| !lines.is_empty()).unwrap_or_else(|| self.nothing());
        }
        match &self.selected {
            None => self.nothing(),
            Some(Entry::Job { daemon, name }) => {
                let Some(seen) = self.daemons.get(*daemon) else { return Vec::new() };
                let Some(report) = &seen.report else { return Vec::new() };
                let Some(job) = report.jobs.get(name) else { return self.nothing() };
                let rates = seen.rates(name);
                let mut lines =
                    view::job(&seen.full_name(name), job, &report.global.commands.active, &self.look(&rates));
                // The name stands in the rule above.
                lines.remove(0);
                lines
            }
            Some(Entry::Daemon { daemon }) => {
                let Some(seen) = self.daemons.get(*daemon) else { return Vec::new() };
                let name = seen.name.as_deref().unwrap_or("zrepl");
                let mut lines: Vec<Line> = seen.error.iter().map(|error| Line::prose(0).plain(error)).collect();
                let rates = super::rate::JobRates::default();
                let look = self.look(&rates);
                if let Some(at) = seen.restarted {
                    let text = format!("restarted while this ran, noticed {} ({})", look.relative(at), look.time(at));
                    lines.push(Line::prose(0).with(Role::Warn, text));
                }
                if let Some(report) = &seen.report {
                    lines.extend(view::daemon(name, &report.global, &look));
                }
                lines
            }
        }
    }

    fn nothing(&self) -> Vec<Line> {
        let errors = self.daemons.iter().filter_map(|seen| seen.error.as_deref());
        let lines: Vec<Line> = errors.map(|error| Line::prose(0).plain(error)).collect();
        let text = match &self.options.job {
            _ if !lines.is_empty() => return lines,
            Some(job) if self.daemons.iter().any(|seen| seen.report.is_some()) => format!("there is no job {job:?}"),
            _ => "waiting for the daemon's report".to_owned(),
        };
        vec![Line::prose(0).with(Role::Faint, text)]
    }

    /// Makes the pane's lines anew if they are not those of the last report.
    fn refresh(&mut self, area: Rect) {
        if std::mem::take(&mut self.stale) {
            self.pane.set(self.lines());
        }
        self.pane.fit(usize::from(area.width), usize::from(area.height), self.wrap);
    }

    fn palette(&self) -> Palette {
        if self.options.colors { Palette::Colors } else { Palette::Plain }
    }
}
