//! Programs that are not there, are none, or die: errors that say so, and nothing remembered of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use model::{DatasetName, HoldTag, VersionName};
use zfs::cli::{CliConfig, ZfsCli};
use zfs::{Error, Scope, SendArgs, SendFlags, SendSource, Snapshot, Zfs as _};

use crate::case::Case;
use crate::conformance::{block_on, into, variant};
use crate::lab::{Bench, command};

/// The cases of this module.
pub(crate) fn cases() -> Vec<Case> {
    let name = "programs::Z5_missing_not_executable_and_killed_programs";
    vec![Case::real(name, |bench| block_on(async { broken(bench).await })?)]
}

/// What takes the place of `zfs` and `zpool`, one after the other, and what that is reported as.
const BROKEN: [(&str, &str, u32, &str); 4] = [
    ("missing", "", 0, "NotStarted"),
    ("not executable", "#!/bin/sh\nexit 0\n", 0o644, "NotStarted"),
    ("killed", "#!/bin/sh\nkill -KILL $$\n", 0o755, "Killed"),
    ("out of its mind", "#!/bin/sh\nkill -SEGV $$\n", 0o755, "Killed"),
];

async fn broken(bench: &Bench) -> Result<()> {
    let pool = bench.pool("a")?;
    bench.bash(&format!("zfs create '{pool}/f s'; zfs snapshot '{pool}/f s@1'"))?;
    let dataset = DatasetName::parse(&format!("{pool}/f s"))?;
    let programs = ["zfs", "zpool"].map(|name| bench.folder().join(name));
    let [zfs, zpool] = programs.clone().map(Into::into);
    // One handle sees all of it.
    let handle = ZfsCli::new(CliConfig { zfs, zpool, ..CliConfig::default() });
    for (what, script, mode, expected) in BROKEN {
        for program in &programs {
            place(program, script, mode)?;
        }
        for (call, error) in calls(&handle, &dataset).await? {
            let error = error.with_context(|| format!("{call} with a program that is {what} succeeded"))?;
            ensure!(variant(&error.kind) == expected, "{call} with a program that is {what}: {error}");
            ensure!(error.to_string().contains("zfs") || error.to_string().contains("zpool"), "{error}");
        }
        ensure!(handle.running().is_empty(), "{:?}", handle.running());
    }
    for program in &programs {
        let _ = fs::remove_file(program);
        let name = program.file_name().context("it has a name")?.to_string_lossy().into_owned();
        let real = command("bash", &["-c", &format!("command -v {name}")])?;
        std::os::unix::fs::symlink(real.trim(), program)?;
    }
    for (call, error) in calls(&handle, &dataset).await? {
        // It was given no stream.
        let fine = error.as_ref().is_none_or(|error| call == "receive" && variant(&error.kind) == "Truncated");
        ensure!(fine, "{call} with the programs in their places: {error:?}");
    }
    Ok(())
}

fn place(program: &Path, script: &str, mode: u32) -> Result<()> {
    let _ = fs::remove_file(program);
    if mode != 0 {
        fs::write(program, script)?;
        fs::set_permissions(program, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A call of each kind, and how it failed.
async fn calls(zfs: &ZfsCli, dataset: &DatasetName) -> Result<Vec<(&'static str, Option<Error>)>> {
    let snapshot = [Snapshot { dataset: dataset.clone(), name: VersionName::parse("1")? }];
    let tag = HoldTag::parse("t")?;
    let to = zfs.dataset(dataset).await.map(|dataset| dataset.versions.first().map(model::Version::to_ref));
    let to = to.ok().flatten().unwrap_or(model::VersionRef {
        kind: model::VersionKind::Snapshot,
        name: VersionName::parse("1")?,
        guid: model::Guid(1),
    });
    let source = SendSource::Snapshot { from: None, to, flags: SendFlags::default() };
    let send = SendArgs { dataset: dataset.clone(), source };
    let nowhere = into(&DatasetName::parse("no-such-pool/r")?, "1")?;
    let stream: zfs::ByteStream = Box::pin(std::io::Cursor::new(vec![0; 10]));
    let one = |mut results: Vec<zfs::ItemResult>| results.pop().and_then(Result::err);
    Ok(vec![
        ("list", zfs.list(&Scope::Trees(vec![dataset.clone()])).await.err()),
        ("hold", one(zfs.hold(&tag, &snapshot).await)),
        ("holds", zfs.holds(&snapshot).await.err()),
        ("release", one(zfs.release(&tag, &snapshot).await)),
        ("set", zfs.set_property(dataset, "a:b", "c").await.err()),
        ("can_resume", zfs.can_resume(dataset.pool()).await.err()),
        ("estimate", zfs.estimate_send(&send).await.err()),
        ("send", zfs.send(&send).await.err()),
        ("receive", zfs.receive(&nowhere, stream).await.err()),
    ])
}
