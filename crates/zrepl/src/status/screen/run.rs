//! The screen on a real terminal, with reports from threads of their own, so that no daemon and no long
//! report keeps a key waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::event::{self, Event};
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGTERM};

use super::dialog::Dialog;
use super::{Action, Options, Screen};
use crate::status::report::Report;
use crate::status::source::Source;
use crate::status::text::Role;

/// Longest wait for a key before reports are looked at: less than a person notices.
const BEAT: Duration = Duration::from_millis(50);

/// What a thread has to tell.
enum News {
    /// None: as before.
    Report {
        daemon: usize,
        answer: Result<Option<Report>, String>,
    },
    Signal {
        what: String,
        answer: Result<(), String>,
    },
}

/// Shows the screen until the person has seen enough.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) fn run(sources: Vec<Source>, delay: Duration, options: Options) -> Result<()> {
    let sources: Arc<[Source]> = sources.into();
    let mut screen = Screen::new(options, sources.iter().map(|source| source.name.clone()), Timestamp::now());
    screen.daemons.iter_mut().zip(sources.iter()).for_each(|(seen, source)| seen.saved = source.is_saved());
    // A terminal that takes nothing holds the screen up: reports must not pile up meanwhile.
    let (tell, news) = sync_channel(1);
    let polls = (0..sources.len()).map(|daemon| poll(daemon, &sources, delay, &tell)).collect::<Vec<_>>();
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        // The second one ends what hangs in a write to such a terminal.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&ended))
            .context("cannot listen to signals")?;
        signal_hook::flag::register(signal, Arc::clone(&ended)).context("cannot listen to signals")?;
    }
    let mut terminal = ratatui::try_init().context("cannot use the terminal (try `zrepl status --mode dump`)")?;
    let result = Running { screen, sources, tell, news, polls, ended, began: Instant::now() }.run(&mut terminal);
    ratatui::restore();
    result
}

struct Running {
    screen: Screen,
    sources: Arc<[Source]>,
    tell: SyncSender<News>,
    news: Receiver<News>,
    /// Wakes up the thread of a source.
    polls: Vec<Sender<()>>,
    ended: Arc<AtomicBool>,
    began: Instant,
}

impl Running {
    fn run(mut self, terminal: &mut ratatui::DefaultTerminal) -> Result<()> {
        const LOST: &str = "cannot use the terminal";
        let mut drawn = Instant::now();
        terminal.draw(|frame| self.screen.draw(frame)).context(LOST)?;
        while !self.ended.load(Ordering::Relaxed) {
            let mut changed = drawn.elapsed() >= Duration::from_secs(1);
            if event::poll(BEAT).context(LOST)? {
                changed = true;
                // Anything else is a resize, which drawing alone takes care of.
                if let Event::Key(key) = event::read().context(LOST)? {
                    match self.screen.key(key) {
                        Some(Action::Quit) => return Ok(()),
                        Some(action) => self.act(action),
                        None => {}
                    }
                }
            }
            while let Ok(news) = self.news.try_recv() {
                changed = true;
                self.note(news);
            }
            // Keys that wait already come first: held down, they repeat faster than a slow terminal draws.
            if changed && !event::poll(Duration::ZERO).context(LOST)? {
                self.screen.now = Timestamp::now();
                terminal.draw(|frame| self.screen.draw(frame)).context(LOST)?;
                drawn = Instant::now();
            }
        }
        Ok(())
    }

    fn note(&mut self, news: News) {
        match news {
            News::Report { daemon, answer } => {
                let (elapsed, now) = (self.began.elapsed(), Timestamp::now());
                match answer.transpose() {
                    Some(answer) => self.screen.note(daemon, elapsed, now, answer),
                    None => self.screen.note_same(daemon, elapsed, now),
                }
            }
            News::Signal { what, answer: Ok(()) } => self.screen.message = Some((Role::Good, what)),
            News::Signal { what, answer: Err(error) } => {
                self.screen.message = None;
                self.screen.dialog = Some(Dialog::Failed { text: format!("{what}: {error}") });
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Quit => {}
            Action::Refresh => self.polls.iter().for_each(wake),
            Action::Signal { daemon, job, operation } => {
                let (sources, tell, poll) =
                    (Arc::clone(&self.sources), self.tell.clone(), self.polls.get(daemon).cloned());
                self.screen.message = Some((Role::Faint, format!("telling {job}: {operation}")));
                std::thread::spawn(move || {
                    let Some(source) = sources.get(daemon) else { return };
                    let answer = crate::command::block_on(source.signal(&job, operation));
                    let answer = answer.map_err(|error| format!("{error:#}"));
                    let _ = tell.send(News::Signal { what: format!("{operation} of {job}"), answer });
                    // What it brought is seen at once.
                    poll.iter().for_each(wake);
                });
            }
        }
    }
}

/// Has a source asked at once; its thread may be at that already.
fn wake(poll: &Sender<()>) {
    let _ = poll.send(());
}

/// How long to wait before a source is asked again. A report of ten thousand filesystems is megabytes, and
/// another one several times a second while a job is busy: who looks must not cost more than what is looked at.
fn pause(delay: Duration, took: Duration) -> Duration {
    /// Of the time, one part is for asking.
    const PARTS: u32 = 10;
    /// However slow a daemon is, a person wants to see that it lives.
    const LONGEST: Duration = Duration::from_secs(10);
    delay.max(took.saturating_mul(PARTS - 1).min(LONGEST))
}

/// Asks a source again and again, in a thread that ends with the program.
fn poll(daemon: usize, sources: &Arc<[Source]>, delay: Duration, tell: &SyncSender<News>) -> Sender<()> {
    let (sources, tell) = (Arc::clone(sources), tell.clone());
    let (wake, woken) = channel();
    std::thread::spawn(move || {
        let mut tag = None;
        loop {
            let Some(source) = sources.get(daemon) else { return };
            let asked = Instant::now();
            let answer = crate::command::block_on(source.newer(&mut tag)).map_err(|error| format!("{error:#}"));
            let took = asked.elapsed();
            if tell.send(News::Report { daemon, answer }).is_err() {
                return;
            }
            let _ = woken.recv_timeout(pause(delay, took));
        }
    });
    wake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_takes_a_tenth_of_the_time_at_most() {
        let (second, millis) = (Duration::from_secs(1), Duration::from_millis);
        assert_eq!(pause(second, millis(20)), second);
        assert_eq!(pause(second, millis(300)), millis(2700));
        assert_eq!(pause(second, Duration::from_secs(30)), Duration::from_secs(10));
        assert_eq!(pause(Duration::from_secs(60), Duration::from_secs(30)), Duration::from_secs(60));
    }
}
