//! The life of the service under OpenRC.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use super::{CONFIGURATION, Place, told, write};
use crate::lab::{Bench, command};

const SCRIPT: &str = include_str!("../../../../dist/openrc/zrepl");

/// Stands in for the service of this name, which systems with OpenRC have: nothing is to be mounted here.
const LOCALMOUNT: &str = "#!/sbin/openrc-run\nstart() { :; }\n";

/// What `rc-service` says of a service that is stopped.
const STOPPED: i32 = 3;

pub(super) fn lives_under_openrc(bench: &Bench) -> Result<()> {
    let place = Place::new(bench)?;
    place.add_hook("allowed", "$ZREPL_HOOKTYPE", "")?;
    place.configure("")?;
    for (name, script) in [("zrepl", SCRIPT), ("localmount", LOCALMOUNT)] {
        let path = format!("/etc/init.d/{name}");
        write(&path, script)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    // Makes what it needs below /run, and reads which service needs which.
    command("openrc", &["sysinit"])?;
    command("openrc", &["default"])?;
    let outcome = life(&place);
    if outcome.is_err() {
        let _ = service("stop");
    }
    outcome
}

/// Runs `rc-service zrepl`.
fn service(action: &str) -> Result<Output> {
    Command::new("rc-service").args(["zrepl", action]).output().context("starting rc-service")
}

/// The same, with an error if it fails; returns what it says.
fn succeeds(action: &str) -> Result<String> {
    let output = service(action)?;
    ensure!(output.status.success(), "{action}: {}: {}", output.status, told(&output));
    Ok(told(&output))
}

fn life(place: &Place<'_>) -> Result<()> {
    succeeds("start")?;
    succeeds("status")?;
    place.wait_for_replication()?;
    ensure!(place.told_by("allowed")?.contains("post_snapshot"), "the hook did not run");

    let first = pid()?;
    place.configure(&place.another_job())?;
    let said = succeeds("reload")?;
    ensure!(said.contains("started another; 2 unchanged"), "{said}");
    place.wait_for_another_job()?;
    ensure!(pid()? == first, "reloading started another daemon");

    let good = std::fs::read_to_string(CONFIGURATION).context(CONFIGURATION)?;
    write(CONFIGURATION, &format!("{good}  no_such_key: 1\n"))?;
    for action in ["reload", "restart"] {
        let output = service(action)?;
        ensure!(!output.status.success() && told(&output).contains("no_such_key"), "{action}: {}", told(&output));
    }
    ensure!(pid()? == first, "a broken configuration ended the daemon");
    write(CONFIGURATION, &good)?;
    succeeds("restart")?;
    ensure!(pid()? != first, "nothing was restarted");
    place.wait_for_replication()?;

    succeeds("stop")?;
    let state = service("status")?;
    ensure!(state.status.code() == Some(STOPPED), "{}: {}", state.status, told(&state));
    let left = Command::new("pgrep").args(["-x", "zrepl|zfs"]).output()?;
    ensure!(!left.status.success(), "left: {}", told(&left));
    place.common_version_is_left()
}

/// The daemon's process.
fn pid() -> Result<String> {
    std::fs::read_to_string("/run/zrepl.pid").context("/run/zrepl.pid")
}
