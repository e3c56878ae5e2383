//! Programs around snapshots: what they are told, when they run, and what their failure prevents.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use model::DatasetName;
use model::event::What;

use crate::body;
use crate::case::Case;
use crate::deeds::done;
use crate::invoked::Jobs;
use crate::replication::rig::{self, On, Stage, Table};

const CASES: &Table = &[("run_around_snapshots_and_a_fatal_failure_leaves_none", body!(around))];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("hooks", &[CASES])
}

/// The programs of a case, each with a log of its runs.
struct Programs {
    folder: PathBuf,
}

impl Programs {
    fn new(stage: &Stage<'_>) -> Result<Self> {
        let folder = match stage.on {
            On::Real(bench) => bench.folder().join("hooks"),
            On::Fake(_) => std::env::temp_dir().join(format!("zrepl-suite-hooks-{}", std::process::id())),
        };
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder })
    }

    /// A program that writes down what it is told and whether the snapshot is there, and ends so.
    fn add(&self, stage: &Stage<'_>, name: &str, exit: &str) -> Result<()> {
        let look = match stage.on {
            On::Real(_) => {
                r#"there=missing; zfs list -t snapshot "$ZREPL_FS@$ZREPL_SNAPNAME" >/dev/null 2>&1 && there=there"#
            }
            // A program cannot look into the model.
            On::Fake(_) => "there=unseen",
        };
        let script = format!(
            "#!/bin/sh\n{look}\n\
             echo \"$ZREPL_HOOKTYPE|$ZREPL_FS|$ZREPL_SNAPNAME|$ZREPL_TIMEOUT|$ZREPL_DRYRUN|$there\" >> \"$0.log\"\n{exit}\n"
        );
        let path = self.path(name);
        fs::write(&path, script)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn log(&self, name: &str) -> Result<Vec<String>> {
        let path = self.path(&format!("{name}.log"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn snap_job(stage: &Stage<'_>, hooks: &[String]) -> String {
    let [source, _] = stage.world.pools();
    format!(
        r#"
  - name: snap
    type: snap
    filesystems: {{"{source}<": true, "{source}": false}}
    snapshotting: {{type: periodic, prefix: z_, interval: 1h, hooks: [{}]}}
    pruning: {{keep: [{{type: last_n, count: 9}}]}}
"#,
        hooks.join(", ")
    )
}

fn hook(path: &Path, filesystems: &[&DatasetName], fatal: bool) -> String {
    let filesystems: Vec<String> = filesystems.iter().map(|name| format!("\"{name}\": true")).collect();
    format!(
        "{{type: command, path: \"{}\", timeout: 30s, filesystems: {{{}}}, err_is_fatal: {fatal}}}",
        path.display(),
        filesystems.join(", ")
    )
}

async fn around(stage: &Stage<'_>) -> Result<()> {
    // Programs take real time.
    if stage.is_fake() {
        tokio::time::resume();
    }
    let programs = Programs::new(stage)?;
    for (name, exit) in [("good", "exit 0"), ("fatal", "exit 3"), ("tolerated", "exit 4")] {
        programs.add(stage, name, exit)?;
    }
    let (good, refused) = (stage.fs("good fs")?, stage.fs("refused")?);
    let (tolerated, plain) = (stage.fs("tolerated")?, stage.fs("plain")?);
    let jobs = Jobs::new(
        stage,
        &snap_job(
            stage,
            &[
                hook(&programs.path("good"), &[&good, &refused], true),
                hook(&programs.path("fatal"), &[&refused], true),
                hook(&programs.path("tolerated"), &[&tolerated], false),
            ],
        ),
    )?;
    let said = jobs.preview("snap").await?;
    let name = said.snapshot.clone().context("a name")?;
    let listed = said.filesystems.iter().find(|one| one.filesystem == refused.as_str());
    let listed = listed.and_then(|one| one.snapshot.as_ref()).context("previewed")?;
    let hooks: Vec<&str> = listed.hooks.iter().map(|hook| hook.name.as_str()).collect();
    ensure!(hooks == [programs.path("good").to_string_lossy(), programs.path("fatal").to_string_lossy()], "{hooks:?}");
    ensure!(programs.log("good").is_err(), "a preview runs nothing");

    let events = jobs.round().await?;
    let all = done(&events);
    ensure!(all.contains(&format!("cannot take {refused}@{name}")), "{all:#?}");
    for (fs, expected) in [(&good, true), (&tolerated, true), (&plain, true), (&refused, false)] {
        let versions = stage.versions(fs).await?;
        let expected = if expected { vec![format!("@{name}")] } else { Vec::new() };
        ensure!(versions == expected, "{fs} has {versions:?}");
    }
    let run = |edge: &str, fs: &DatasetName, there: &str| {
        let there = if stage.is_fake() { "unseen" } else { there };
        format!("{edge}_snapshot|{fs}|{name}|30||{there}")
    };
    // What was done before the failure of another hook is undone, without a snapshot.
    let expected = [
        run("pre", &good, "missing"),
        run("post", &good, "there"),
        run("pre", &refused, "missing"),
        run("post", &refused, "missing"),
    ];
    ensure!(programs.log("good")? == expected, "{:#?}", programs.log("good")?);
    ensure!(programs.log("fatal")? == [run("pre", &refused, "missing")], "{:#?}", programs.log("fatal")?);
    ensure!(programs.log("tolerated")? == [run("pre", &tolerated, "missing")], "{:#?}", programs.log("tolerated")?);
    ensure!(events.iter().any(|what| matches!(what, What::Hook { .. })), "the log tells of hooks");
    Ok(())
}
