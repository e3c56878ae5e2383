//! `zrepl status`

use std::io::{StdoutLock, Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::command_line::StatusMode;

/// Prints the daemon's report.
pub(crate) fn run(config: Option<&Path>, mode: StatusMode) -> Result<()> {
    if mode != StatusMode::Raw {
        bail!("this version of zrepl can show the status as JSON only: use `zrepl status --mode raw`");
    }
    let client = Client::new(&super::load(config)?.config)?;
    let mut line = Line { out: stdout().lock(), line_feed_held_back: false };
    super::block_on(client.ask("/status", "{}".to_owned(), |piece| line.write(piece)))?;
    line.out.flush().context("cannot write to standard output")
}

/// Writes an answer without its final line feed.
struct Line {
    out: StdoutLock<'static>,
    line_feed_held_back: bool,
}

impl Line {
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        const FAILED: &str = "cannot write to standard output";
        if piece.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.line_feed_held_back) {
            self.out.write_all(b"\n").context(FAILED)?;
        }
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        self.line_feed_held_back = text.len() < piece.len();
        self.out.write_all(text).context(FAILED)
    }
}
