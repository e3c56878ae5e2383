//! Counting tests by what test programs print at their end.

use std::io::{self, Write};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError};

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The counts in a line like `test result: ok. 5 passed; 0 failed; 0 ignored; …`.
fn parse(line: &str) -> Option<Tally> {
    let counts = line.trim().strip_prefix("test result: ")?;
    let count = |word: &str| {
        let mut words = counts.split([' ', ';', '.']).filter(|found| !found.is_empty()).peekable();
        while let Some(number) = words.next() {
            if words.peek() == Some(&word) {
                return number.parse().ok();
            }
        }
        None
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

/// A test program's output: shown line by line, and counted. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Counted {
    tally: Arc<Mutex<Tally>>,
    line: Vec<u8>,
}

impl Counted {
    /// The sum so far.
    pub(super) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_line(&mut self) -> io::Result<()> {
        if let Some(found) = parse(&String::from_utf8_lossy(&self.line)) {
            *self.tally.lock().unwrap_or_else(PoisonError::into_inner) += found;
        }
        // In one piece: two programs may be writing.
        let line = std::mem::take(&mut self.line);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()
    }
}

impl Write for Counted {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            // Nothing can be done about an output that is gone.
            let _ = self.end_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_understood() {
        let ok = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(parse(ok), Some(Tally { passed: 5, failed: 0 }));
        let bad = "test result: FAILED. 11 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(parse(bad), Some(Tally { passed: 11, failed: 2 }));
        assert_eq!(parse("test a ... ok"), None);
        assert_eq!(parse("test result: ok."), None);
    }

    #[test]
    fn pieces_and_clones_are_summed() {
        let mut one = Counted::default();
        let mut two = one.clone();
        one.write_all(b"test result: ok. 1 pas").unwrap();
        two.write_all(b"test result: FAILED. 2 passed; 3 failed; x\n").unwrap();
        one.write_all(b"sed; 0 failed;\n").unwrap();
        assert_eq!(one.tally(), Tally { passed: 3, failed: 3 });
    }
}
