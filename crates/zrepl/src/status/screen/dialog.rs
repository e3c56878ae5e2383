//! What lies over the screen and takes the keys: the choice of a signal, and help.

use crate::status::text::{Line, Role};

/// Something to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dialog {
    /// What to tell a job.
    Signal {
        daemon: usize,
        job: String,
        full_name: String,
        choice: usize,
    },
    /// What a reset interrupts is worth a second question.
    ConfirmReset {
        daemon: usize,
        job: String,
        full_name: String,
        yes: bool,
    },
    /// Something went wrong.
    Failed {
        text: String,
    },
    Help {
        top: usize,
    },
}

const KEYS: &str = "arrows: choose  Enter: do it  Esc: back";

/// What can be told, with what it does.
pub(super) const SIGNALS: [(&str, &str); 4] = [
    ("wakeup", "replicate and prune now, or after what runs"),
    ("reset", "cancel what runs; received data stays"),
    ("snapshot", "take snapshots now, then replicate and prune"),
    ("nothing", "leave it alone"),
];

impl Dialog {
    pub(super) fn title(&self) -> String {
        match self {
            Dialog::Signal { full_name, .. } => format!(" Send a signal to job {full_name:?} "),
            Dialog::ConfirmReset { full_name, .. } => format!(" Reset job {full_name:?}? "),
            Dialog::Failed { .. } => " Signal error ".to_owned(),
            Dialog::Help { .. } => " Keys and words ".to_owned(),
        }
    }

    /// The lines, and which of them is chosen.
    pub(super) fn lines(&self) -> (Vec<Line>, Option<usize>) {
        match self {
            Dialog::Signal { choice, .. } => {
                let line = |(word, what): &(&str, &str)| Line::new(1).column(Role::Title, word, 9).plain(*what);
                let mut lines: Vec<Line> = SIGNALS.iter().map(line).collect();
                lines.extend([Line::default(), Line::new(1).with(Role::Faint, KEYS)]);
                (lines, Some(*choice))
            }
            Dialog::ConfirmReset { yes, .. } => {
                let lines = vec![
                    Line::new(1).with(Role::Title, "no").plain(", let it run"),
                    Line::new(1)
                        .with(Role::Title, "yes")
                        .plain(", cancel it; what was received stays, and is resumed next time"),
                    Line::default(),
                    Line::new(1).with(Role::Faint, KEYS),
                ];
                (lines, Some(usize::from(*yes)))
            }
            Dialog::Failed { text } => {
                let mut lines: Vec<Line> = text.lines().map(|line| Line::prose(1).plain(line)).collect();
                lines.extend([Line::default(), Line::new(1).with(Role::Faint, "Enter or Esc: close")]);
                (lines, None)
            }
            Dialog::Help { .. } => (HELP.iter().map(|(key, what)| help(key, what)).collect(), None),
        }
    }
}

fn help(key: &str, what: &str) -> Line {
    match what {
        "" => Line::new(0).with(Role::Title, key),
        what => {
            Line::new(1).hanging(KEY + 3).with(Role::Plain, "").column(Role::Title, key, KEY).plain(" ").plain(what)
        }
    }
}

/// Columns of what is explained.
const KEY: usize = 15;

const HELP: [(&str, &str); 37] = [
    ("Everywhere", ""),
    ("Tab", "jobs, detail, filter, and around"),
    ("q, Q, Ctrl-C", "quit"),
    ("E", "next job with errors"),
    ("e", "list filesystems with errors only"),
    ("a", "list all filesystems, also those without work"),
    ("/", "filter filesystems by a regular expression"),
    ("f", "find text in the detail; n, N: next, previous"),
    ("S", "signal the job: wakeup, reset, snapshot"),
    ("M", "hide or show the list of jobs"),
    ("w, W", "wrap long lines"),
    ("r", "ask the daemon now"),
    ("Esc", "clear filter, search and messages"),
    ("?, F1", "this help"),
    ("Jobs", ""),
    ("j k, arrows", "choose; g, G, Home, End: first, last"),
    ("Enter, Space", "to the detail"),
    ("Detail", ""),
    ("j k h l, arrows", "scroll"),
    ("g G, Home End", "to the top, to the end"),
    ("PgUp PgDn", "by pages, as Ctrl-B, Ctrl-F; by halves Ctrl-U, Ctrl-D"),
    ("Columns", ""),
    ("STATE", "what the job does, or how its last run ended"),
    (" ok", "that was without errors"),
    (" serves", "it waits for other hosts, and never runs by itself"),
    (" answers", "the daemon does"),
    ("LAG", "how much older the receiver's newest snapshot is, at most"),
    (" not sent", "filesystems of which it has nothing that the sender has"),
    ("LAST OK", "when everything was last done without error"),
    ("NEXT", "when the job runs by itself"),
    ("NEWEST", "age of the newest snapshot, where it is oldest"),
    ("TYPE", "of the job, as in the configuration"),
    ("Signs", ""),
    ("!", "failed"),
    ("*", "happens now"),
    ("1/2", "steps done, and all; a step sends one snapshot"),
    ("\u{2026}", "more follows: wrap (w), or scroll to the side"),
];
