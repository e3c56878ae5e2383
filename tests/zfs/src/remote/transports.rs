//! The transports that say by themselves who a client is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use daemon::tuning::Tuning;
use model::DatasetName;
use wire::stdinserver::{proxy, standard_streams};

use super::certificates::{Folder, pair};
use super::{Machine, machine_that_pulls, on_real_time};
use crate::body;
use crate::conformance::SMALL;
use crate::replication::rig::{Stage, Table};

pub(super) const CASES: &Table = &[
    ("push_over_tls", body!(push_over_tls)),
    ("pull_over_tls", body!(pull_over_tls)),
    ("pull_over_ssh_and_stdinserver", body!(pull_over_ssh)),
];

/// The argument after which this program is what `zrepl stdinserver` is.
pub(super) const STAND_IN: &str = "stdinserver";

/// What a script in place of `ssh` runs: with the path of a socket instead of a configuration.
pub(super) fn stand_in() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let socket = arguments.next().filter(|first| first == STAND_IN).and_then(|_| arguments.next())?;
    let served = || {
        let (input, output) = standard_streams()?;
        Ok::<_, anyhow::Error>(proxy(Path::new(&socket), input, output)?)
    };
    Some(match served() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

async fn push_over_tls(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let folder = Folder::new(stage, "tls")?;
    for name in ["server", "client"] {
        pair(&folder, name)?;
    }
    let fs = stage.fs_with("sender fs", &["1", "2"]).await?;
    let root = stage.dst("clients")?;
    stage.world.create_filesystem(&root)?;
    let there = Machine::start(
        stage,
        &format!(
            r#"
  - name: sink job
    type: sink
    root_fs: "{root}"
    serve: {{type: tls, listen: "127.0.0.1:0", {}, client_cns: [client]}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#,
            folder.side("server", "client")
        ),
    )?;
    let here = Machine::start(
        stage,
        &format!(
            r#"
  - name: push job
    type: push
    connect: {{type: tls, address: "127.0.0.1:{}", server_cn: server, {}}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
    pruning:
      keep_sender: [{{type: last_n, count: 1}}]
      keep_receiver: [{{type: last_n, count: 2}}]
"#,
            there.port().await?,
            folder.side("client", "server")
        ),
    )?;
    let received = root.join(&DatasetName::parse("client")?)?.join(&fs)?;
    ensure!(here.invoke_well("push job").await?.steps == 1);
    stage.snap(&fs, SMALL, "3").await?;
    // A renewed certificate is used without a restart, by whoever shows it and by whoever trusts it.
    pair(&folder, "client")?;
    ensure!(here.invoke_well("push job").await?.steps == 1);
    stage.is(&fs, &["cursor 3", "@3"]).await?;
    stage.is(&received, &["@2", "@3 last"]).await?;
    stage.same_files_mounted(&fs, &received)?;
    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}

async fn pull_over_tls(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let folder = Folder::new(stage, "tls")?;
    for name in ["server", "client"] {
        pair(&folder, name)?;
    }
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let there = Machine::start(
        stage,
        &format!(
            r#"
  - name: source job
    type: source
    serve: {{type: tls, listen: "127.0.0.1:0", {}, client_cns: [client]}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
"#,
            folder.side("server", "client")
        ),
    )?;
    let connect = format!(
        "type: tls, address: \"127.0.0.1:{}\", server_cn: server, {}",
        there.port().await?,
        folder.side("client", "server")
    );
    pulls_from(stage, there, &fs, &connect).await
}

async fn pull_over_ssh(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let folder = Folder::new(stage, "ssh")?;
    let sockets = folder.path().join("run");
    let (program, socket) = (std::env::current_exe()?, sockets.join("client"));
    let ssh = format!("#!/bin/sh\nexec '{}' {STAND_IN} '{}'\n", program.display(), socket.display());
    let ssh = folder.write("ssh", &ssh)?;
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700))?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let there = Machine::start_with(
        stage,
        &format!(", serve: {{stdinserver: {{sockdir: \"{}\"}}}}", sockets.display()),
        &format!(
            r#"
  - name: source job
    type: source
    serve: {{type: stdinserver, client_identities: [client]}}
    filesystems: {{"{fs}": true}}
    snapshotting: {{type: manual}}
"#
        ),
    )?;
    there.diary.wait_for("listening on stdinserver sockets in").await?;
    let connect = format!(
        "type: ssh+stdinserver, host: there, user: root, port: 22, identity_file: /none, ssh_command: \"{}\"",
        ssh.display()
    );
    pulls_from(stage, there, &fs, &connect).await
}

/// A pull job gets the first snapshot of a filesystem and a second one, and nobody has a problem.
async fn pulls_from(stage: &Stage<'_>, there: Machine, fs: &DatasetName, connect: &str) -> Result<()> {
    let (here, received) = machine_that_pulls(stage, Tuning::default(), fs, connect)?;
    ensure!(here.invoke_well("pull job").await?.steps == 1);
    stage.snap(fs, SMALL, "2").await?;
    ensure!(here.invoke_well("pull job").await?.steps == 1);
    let found = stage.state(&received).await?;
    ensure!(found == ["@1", "@2 last of pull job"], "{found:?}");
    stage.same_files_mounted(fs, &received)?;
    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}
