//! Through OpenSSH's own server, with the lines in `authorized_keys` that zrepl's documentation has people write.
//!
//! `ssh` starts the server itself, so that it needs no port. The model of ZFS is left out: what is proven here is
//! ssh, which not every machine has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use model::DatasetName;

use super::certificates::Folder;
use super::transports::STAND_IN;
use super::{Machine, on_real_time};
use crate::body;
use crate::case::Case;
use crate::conformance::SMALL;
use crate::lab::command;
use crate::replication::rig::{JOB, Stage, on_real};

pub(super) fn case() -> Case {
    Case::real("remote::push_and_pull_through_an_ssh_server", |bench| on_real(bench, body!(through_sshd)))
}

/// Who may do what on the other machine.
const CLIENTS: [&str; 2] = ["pusher", "puller"];

const PRUNING: &str = "{keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 3}]}";

/// What is on the other machine for its clients' ssh, and on this one to reach it.
fn set_up(folder: &Folder) -> Result<()> {
    let path = folder.path().display();
    let suite = std::env::current_exe()?;
    let zrepl =
        format!("#!/bin/sh\n[ \"$1\" = stdinserver ] && exec '{}' {STAND_IN} {path}/run/\"$2\"\n", suite.display());
    let zrepl = folder.write("zrepl", &zrepl)?;
    fs::set_permissions(&zrepl, fs::Permissions::from_mode(0o755))?;
    for key in ["host"].iter().chain(&CLIENTS) {
        command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", &format!("{path}/{key}")])?;
    }
    let public = |key: &str| fs::read_to_string(folder.path().join(format!("{key}.pub"))).context("a public key");
    let mut authorized = String::new();
    for client in CLIENTS {
        let line = format!("command=\"{path}/zrepl stdinserver {client}\",restrict {}", public(client)?);
        authorized.push_str(&line);
    }
    folder.write("authorized_keys", &authorized)?;
    folder.write("known_hosts", &format!("there {}", public("host")?))?;
    let config = format!(
        "HostKey {path}/host\nAuthorizedKeysFile {path}/authorized_keys\nPermitRootLogin forced-commands-only\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nStrictModes no\n"
    );
    folder.write("sshd_config", &config)?;
    Ok(())
}

/// `connect` of one of the clients.
fn connect(folder: &Folder, client: &str) -> String {
    let path = folder.path().display();
    format!(
        "{{type: ssh+stdinserver, host: there, user: root, port: 22, identity_file: \"{path}/{client}\", options: [\
         \"ProxyCommand=/usr/sbin/sshd -i -f {path}/sshd_config -E {path}/log\", \
         \"UserKnownHostsFile={path}/known_hosts\", \"StrictHostKeyChecking=yes\"]}}"
    )
}

async fn through_sshd(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let folder = Folder::new(stage, "sshd")?;
    set_up(&folder)?;
    let [pushed, pulled] = [stage.fs_with("pushed fs", &["1"]).await?, stage.fs_with("pulled fs", &["1"]).await?];
    let [clients, own] = [stage.dst("clients")?, stage.dst("pulled")?];
    for root in [&clients, &own] {
        stage.world.create_filesystem(root)?;
    }
    let there = Machine::start_with(
        stage,
        &format!(", serve: {{stdinserver: {{sockdir: \"{}/run\"}}}}", folder.path().display()),
        &format!(
            r#"
  - name: sink job
    type: sink
    root_fs: "{clients}"
    serve: {{type: stdinserver, client_identities: [pusher]}}
    recv: {{placeholder: {{encryption: inherit}}}}
  - name: source job
    type: source
    serve: {{type: stdinserver, client_identities: [puller]}}
    filesystems: {{"{pulled}": true}}
    snapshotting: {{type: manual}}
"#
        ),
    )?;
    there.diary.wait_for("listening on stdinserver sockets in").await?;
    let here = Machine::start(
        stage,
        &format!(
            r#"
  - name: {JOB}
    type: push
    connect: {}
    filesystems: {{"{pushed}": true}}
    snapshotting: {{type: manual}}
    pruning: {PRUNING}
  - name: pull job
    type: pull
    connect: {}
    root_fs: "{own}"
    interval: manual
    recv: {{placeholder: {{encryption: inherit}}}}
    pruning: {PRUNING}
"#,
            connect(&folder, "pusher"),
            connect(&folder, "puller")
        ),
    )?;
    for job in [JOB, "pull job"] {
        let summary = here.invoke_well(job).await;
        let said = || format!("sshd says {:?}", fs::read_to_string(folder.path().join("log")));
        ensure!(summary.with_context(said)?.steps == 1, "{job}");
    }
    for fs in [&pushed, &pulled] {
        stage.snap(fs, SMALL, "2").await?;
    }
    for job in [JOB, "pull job"] {
        ensure!(here.invoke_well(job).await?.steps == 1, "{job}");
    }
    let arrived = [clients.join(&DatasetName::parse("pusher")?)?.join(&pushed)?, own.join(&pulled)?];
    stage.is(&arrived[0], &["@1", "@2 last"]).await?;
    let found = stage.state(&arrived[1]).await?;
    ensure!(found == ["@1", "@2 last of pull job"], "{found:?}");
    stage.same_files_mounted(&pushed, &arrived[0])?;
    stage.same_files_mounted(&pulled, &arrived[1])?;
    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}
