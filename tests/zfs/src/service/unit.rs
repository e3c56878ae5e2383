//! The life of the service under systemd, from its start to its end, with every line of the unit in force but
//! for a shorter watchdog and pause before a restart.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use super::systemd::Systemd;
use super::{CONFIGURATION, Place, told, until, write};
use crate::lab::{Bench, command};

const UNIT: &str = include_str!("../../../../dist/systemd/zrepl.service");

/// Beside the unit, in the way of an administrator: nobody wants to wait for two minutes here. Not
/// shorter, as a guest of a busy machine may get no processor for seconds.
const SHORTER: &str = "[Service]\nWatchdogSec=30\nRestartSec=1\n";

/// Mode of a process's filter of system calls, in `/proc/PID/status`: SECCOMP_MODE_FILTER of seccomp(2).
const FILTERED: &str = "2";

/// Numbers of capabilities, from capabilities(7).
const CAP_SYS_MODULE: u32 = 16;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_BOOT: u32 = 22;
const CAP_SYS_TIME: u32 = 25;

/// Tells what the limits of a hook are.
const TELL_LIMITS: &str = "$ZREPL_HOOKTYPE of $ZREPL_FS: \
    $(grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t' | tr '\\n' ' ')";

/// Asks for a system call that the unit's filter forbids, and that no capability which is left allows or
/// denies. Nothing is swapped to there: it fails elsewhere as well, in another way.
const ASK: &str = "said=$(swapoff /dev/null 2>&1); status=$?; said=\"$said; ended with $status\"";

pub(super) fn lives_under_systemd(bench: &Bench) -> Result<()> {
    let place = Place::new(bench)?;
    place.add_hook("allowed", TELL_LIMITS, "")?;
    place.add_hook("forbidden", "begins", &format!("{ASK}\necho \"$said\" >>\"$0.log\"; exit $status"))?;
    place.configure("")?;
    let systemd = Systemd::boot()?;
    // Not earlier: at its first boot, systemd starts whatever is installed.
    write("/etc/systemd/system/zrepl.service", UNIT)?;
    write("/etc/systemd/system/zrepl.service.d/shorter.conf", SHORTER)?;
    systemd.systemctl(&["daemon-reload"])?;
    let outcome = life(&systemd, &place);
    outcome.with_context(|| systemd.journal().unwrap_or_else(|error| format!("{error:#}")))
}

fn life(systemd: &Systemd, place: &Place<'_>) -> Result<()> {
    systemd.systemctl(&["start", "zrepl.service"])?;
    runs_since_it_is_ready(systemd)?;
    is_limited(systemd)?;
    place.wait_for_replication()?;
    mounts_where_everybody_sees_it(systemd, place)?;
    hooks_ran_within_the_limits(systemd, place)?;
    reload(systemd, place)?;
    refuses_a_broken_configuration(systemd, place)?;
    is_started_again_when_it_hangs(systemd, place)?;
    stop(systemd)?;
    place.common_version_is_left()
}

fn is(systemd: &Systemd, property: &str, expected: &str) -> Result<()> {
    let value = systemd.property(property)?;
    ensure!(value == expected, "{property} is {value:?} and not {expected:?}");
    Ok(())
}

/// `systemctl start` has waited for the daemon's own word.
fn runs_since_it_is_ready(systemd: &Systemd) -> Result<()> {
    is(systemd, "Type", "notify")?;
    is(systemd, "ActiveState", "active")?;
    is(systemd, "StatusText", "running")
}

/// The value of a line of `/proc/PID/status`.
fn status_line(systemd: &Systemd, pid: &str, name: &str) -> Result<String> {
    let status = systemd.checked("cat", &[&format!("/proc/{pid}/status")])?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name} in {status}"))?.trim().to_owned())
}

fn is_limited(systemd: &Systemd) -> Result<()> {
    let pid = systemd.property("MainPID")?;
    for (name, expected) in [("Seccomp", FILTERED), ("NoNewPrivs", "1"), ("Umask", "0077")] {
        let value = status_line(systemd, &pid, name)?;
        ensure!(value == expected, "{name} of the daemon is {value}");
    }
    let bounding = u64::from_str_radix(&status_line(systemd, &pid, "CapBnd")?, 16)?;
    let may = |capability: u32| bounding & (1 << capability) != 0;
    ensure!(may(CAP_SYS_ADMIN), "ZFS needs CAP_SYS_ADMIN");
    for capability in [CAP_SYS_MODULE, CAP_SYS_PTRACE, CAP_SYS_BOOT, CAP_SYS_TIME] {
        ensure!(!may(capability), "capability {capability} is left in {bounding:x}");
    }
    Ok(())
}

/// What the daemon mounts, it mounts for the system: it has the mount namespace of the first process.
fn mounts_where_everybody_sees_it(systemd: &Systemd, place: &Place<'_>) -> Result<()> {
    let namespace = |pid: &str| systemd.checked("readlink", &[&format!("/proc/{pid}/ns/mnt")]);
    let (daemon, system) = (namespace(&systemd.property("MainPID")?)?, namespace("1")?);
    ensure!(daemon == system, "the daemon is in {daemon}, the system in {system}");
    let copy = place.received_folder();
    let mounted = systemd.checked("findmnt", &["--noheadings", "--output", "SOURCE", &copy.to_string_lossy()])?;
    ensure!(mounted.trim() == place.received(), "{mounted}");
    let original = place.bench.mountpoint(&place.sent()).join("file");
    systemd.checked("cmp", &[&original.to_string_lossy(), &copy.join("file").to_string_lossy()])?;
    Ok(())
}

/// One hook does its work. The other one is denied what it asks for, which is told, and hurts nobody else.
fn hooks_ran_within_the_limits(systemd: &Systemd, place: &Place<'_>) -> Result<()> {
    let told = place.told_by("allowed")?;
    for edge in ["pre_snapshot", "post_snapshot"] {
        let expected = format!("{edge} of {}: NoNewPrivs:1 Seccomp:{FILTERED} ", place.sent());
        ensure!(told.lines().any(|line| line == expected), "{expected:?} is not in {told}");
    }
    let elsewhere = command("sh", &["-c", &format!("{ASK}\necho \"$said\"")])?;
    let denied = place.told_by("forbidden")?;
    let answer = denied.lines().find(|line| line.contains("ended with")).context("the other hook did not run")?;
    ensure!(answer != elsewhere.trim(), "nobody denied what it asked for: {denied}");
    let journal = systemd.journal()?;
    let complaint = journal.lines().find(|line| line.contains("[hook]") && line.contains("forbidden"));
    complaint.with_context(|| format!("nobody heard of the hook that failed: {journal}"))?;
    is(systemd, "ActiveState", "active")?;
    is(systemd, "NRestarts", "0")
}

fn reload(systemd: &Systemd, place: &Place<'_>) -> Result<()> {
    let pid = systemd.property("MainPID")?;
    place.configure(&place.another_job())?;
    systemd.systemctl(&["reload", "zrepl.service"])?;
    let journal = systemd.journal()?;
    ensure!(journal.contains("started another; 2 unchanged"), "{journal}");
    place.wait_for_another_job()?;
    is(systemd, "ActiveState", "active")?;
    is(systemd, "MainPID", &pid)
}

fn refuses_a_broken_configuration(systemd: &Systemd, place: &Place<'_>) -> Result<()> {
    let pid = systemd.property("MainPID")?;
    let good = fs::read_to_string(CONFIGURATION).context(CONFIGURATION)?;
    write(CONFIGURATION, &format!("{good}  no_such_key: 1\n"))?;
    let reloaded = systemd.run("systemctl", &["reload", "zrepl.service"])?;
    ensure!(!reloaded.status.success(), "a broken configuration was taken: {}", told(&reloaded));
    let journal = systemd.journal()?;
    ensure!(journal.contains("no_such_key"), "nobody heard what is wrong: {journal}");
    is(systemd, "MainPID", &pid)?;
    write(CONFIGURATION, &good)?;
    systemd.systemctl(&["reload", "zrepl.service"])?;
    is(systemd, "ActiveState", "active")?;
    place.wait_for_replication()
}

/// A daemon that gives no sign of life is killed, and its successor goes on where it was.
fn is_started_again_when_it_hangs(systemd: &Systemd, place: &Place<'_>) -> Result<()> {
    let hung = systemd.property("MainPID")?;
    is(systemd, "NRestarts", "0")?;
    systemd.checked("kill", &["-STOP", &hung])?;
    until("a restart by the watchdog", || {
        let restarted = systemd.property("NRestarts")? == "1" && systemd.property("ActiveState")? == "active";
        Ok(restarted.then_some(()))
    })?;
    let journal = systemd.journal()?;
    ensure!(journal.contains("Watchdog timeout"), "{journal}");
    if systemd.property("MainPID")? == hung {
        bail!("{hung} is still the daemon");
    }
    is_limited(systemd)?;
    place.wait_for_replication()
}

fn stop(systemd: &Systemd) -> Result<()> {
    systemd.systemctl(&["stop", "zrepl.service"])?;
    is(systemd, "ActiveState", "inactive")?;
    is(systemd, "Result", "success")?;
    is(systemd, "ExecMainStatus", "0")?;
    let left = systemd.run("pgrep", &["-x", "zrepl|zfs"])?;
    ensure!(!left.status.success(), "left: {}", told(&left));
    let runtime = systemd.run("ls", &["/run/zrepl"])?;
    ensure!(!runtime.status.success(), "its sockets are left: {}", told(&runtime));
    Ok(())
}
