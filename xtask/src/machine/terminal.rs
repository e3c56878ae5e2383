//! Our terminal, while a guest has it.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How the terminal was before.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Rows and columns.
pub(super) fn size() -> (u16, u16) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// While this lives, every key goes to the guest: its terminal echoes and makes signals.
pub(super) struct Raw;

impl Raw {
    pub(super) fn enter() -> Self {
        if io::stdin().is_terminal()
            && let Ok(before) = tcgetattr(io::stdin())
        {
            let mut raw = before.clone();
            raw.make_raw();
            *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
            // A terminal that refuses stays usable line by line.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &raw);
        }
        Self
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal as it was.
pub(crate) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Passes on what is typed, and the end of it as Ctrl-D.
pub(super) fn relay(mut guest: impl Write) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
        let typed = buffer.get(..count).unwrap_or_default();
        if guest.write_all(typed).and_then(|()| guest.flush()).is_err() {
            return;
        }
    }
    // More than once: a Ctrl-D that is typed ahead is lost when a shell changes terminal modes.
    while guest.write_all(b"\x04").is_ok() {
        std::thread::sleep(Duration::from_secs(1));
    }
}
