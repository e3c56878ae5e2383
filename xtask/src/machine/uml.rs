//! The command that boots a guest as a user-mode Linux process.

use super::guest::{Boot, Guest};
use anyhow::{Context as _, Result, bail};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Letters of disks after the root, `/dev/ubda`.
const LETTERS: std::ops::RangeInclusive<char> = 'b'..='p';

pub(super) fn command(guest: &Guest<'_>, boot: &Boot) -> Result<Command> {
    let mut command = Command::new("taskset");
    // Kernel and processes of a guest alternate; waking each other across processors makes it
    // more than twice as slow.
    command.args(["--cpu-list", &processor()?.to_string()]).arg(&guest.machine.kernel);
    command.arg(format!("mem={}M", guest.memory_mib));
    command.arg(format!("uml_dir={}/", boot.folder.display())).arg("umid=guest");
    command.arg(format!("ubd0r={}", guest.machine.root.display()));
    command.args(["root=/dev/ubda", "ro", "rootfstype=squashfs", "init=/sbin/guest-init"]);
    command.arg(format!("guest.ctl={}", boot.control.display()));
    command.arg("guest.out=/dev/tty1");
    if boot.interactive {
        command.args(["con0=null,fd:5", "con1=fd:6,fd:3"]);
    } else {
        command.args(["guest.err=/dev/tty2", "con0=null,fd:5", "con1=null,fd:3", "con2=null,fd:4"]);
    }
    command.args(["con=null", "ssl=null", "console=tty0", "panic=-1"]);
    for (letter, file) in LETTERS.zip(&boot.disks) {
        command.arg(format!("ubd{letter}={}", file.display()));
    }
    if boot.disks.len() > LETTERS.count() {
        bail!("a guest has at most {} disks", LETTERS.count());
    }
    // Its stub processes inherit glibc's rseq registration, which points into memory that they
    // unmap: without this the guest dies at once.
    command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
    command.env("TMPDIR", &boot.memory);
    Ok(command)
}

/// One of the processors that we may use: another one for each guest of this process, and not
/// the same first one for each process.
fn processor() -> Result<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let set = rustix::thread::sched_getaffinity(None).context("asking for our processors")?;
    let allowed: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id() as usize);
    let chosen = number.checked_rem(allowed.len()).and_then(|index| allowed.get(index));
    chosen.copied().context("no processor to run on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_take_turns_on_the_processors() {
        let count = std::thread::available_parallelism().unwrap().get();
        let (first, second) = (processor().unwrap(), processor().unwrap());
        assert_eq!(first == second, count == 1);
    }
}
