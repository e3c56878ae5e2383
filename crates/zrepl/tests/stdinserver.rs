//! `zrepl stdinserver` between a client's `ssh` and a daemon.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "of a test")]

use std::fs;
use std::io::Write;
use std::num::NonZeroU16;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use model::ClientIdentity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::handshake::{Banner, Label};
use wire::ssh::SshDialer;
use wire::stdinserver::StdinAcceptor;
use wire::transport::{Acceptor, Dialer, greet, welcome};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sockets = folder.path().join("sockets");
        let config = format!("global: {{serve: {{stdinserver: {{sockdir: {}}}}}}}\njobs: []\n", sockets.display());
        fs::write(folder.path().join("zrepl.yml"), config).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn acceptor(&self) -> StdinAcceptor {
        StdinAcceptor::bind(&self.path("sockets"), &[name("laptop")]).unwrap()
    }

    /// The program with closed input, to its end.
    fn run(&self, config: &str, identity: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zrepl"));
        command.arg("--config").arg(self.path(config)).args(["stdinserver", identity]);
        command.stdin(Stdio::piped()).output().unwrap()
    }

    /// A script in place of `ssh`, which runs the forced command on this machine.
    fn dialer(&self) -> SshDialer {
        let script = self.path("ssh");
        let (program, config) = (env!("CARGO_BIN_EXE_zrepl"), self.path("zrepl.yml"));
        let mut file = fs::File::create(&script).unwrap();
        writeln!(file, "#!/bin/sh\nexec {program} --config {} stdinserver laptop", config.display()).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        SshDialer {
            command: Some(script.to_str().unwrap().to_owned()),
            host: "there".to_owned(),
            user: "root".to_owned(),
            port: NonZeroU16::new(22).unwrap(),
            identity_file: "/nonexistent".into(),
            options: Vec::new(),
            dial_timeout: Duration::from_secs(60),
        }
    }
}

fn name(text: &str) -> ClientIdentity {
    ClientIdentity::parse(text).unwrap()
}

#[tokio::test]
async fn a_client_is_handed_over_and_each_direction_closes_by_itself() {
    let place = Place::new();
    let mut acceptor = place.acceptor();
    let banner = Banner::with_extensions(Vec::new());
    let client = async {
        let mut connection = place.dialer().dial().await.unwrap();
        greet(&mut connection, &banner.clone().into(), Label::Data, b"ask").await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let daemon = async {
        let (mut connection, identity) = acceptor.accept().await.unwrap().identify.await.unwrap();
        let (_, label) = welcome(&mut connection, &banner.clone().into()).await.unwrap();
        assert_eq!((identity, label), (name("laptop"), Label::Data));
        let mut asked = String::new();
        connection.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "ask");
        connection.write_all(&[b'y'; 300_000]).await.unwrap();
        connection.shutdown().await.unwrap();
        connection
    };
    let (answer, connection) = tokio::join!(client, daemon);
    // The end came while the daemon still had the connection.
    drop(connection);
    assert_eq!(answer, [b'y'; 300_000]);
}

#[tokio::test]
async fn it_ends_well_when_the_daemon_is_done() {
    let place = Place::new();
    let mut acceptor = place.acceptor();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_zrepl"));
    command.arg("--config").arg(place.path("zrepl.yml")).args(["stdinserver", "laptop"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let begin = [b"SSHCON_BEGIN".as_slice(), &[0; 19]].concat();
    child.stdin.as_mut().unwrap().write_all(&begin).await.unwrap();
    let (connection, _) = acceptor.accept().await.unwrap().identify.await.unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(connection);
    let mut heard = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, [b"SSHCON_HELO".as_slice(), &[0; 20]].concat());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[test]
fn who_cannot_be_served_is_told() {
    let place = Place::new();
    let told = [b"SSHCON_PROXY_ERROR".as_slice(), &[0; 13]].concat();
    let no_daemon = format!("cannot connect to the daemon at {}: ", place.path("sockets/laptop").display());
    for (config, identity, why) in [
        ("zrepl.yml", "laptop", no_daemon.as_str()),
        ("zrepl.yml", "../laptop", "bad client identity \"../laptop\": "),
        ("other.yml", "laptop", "other.yml"),
    ] {
        let output = place.run(config, identity);
        assert_eq!((output.status.code(), &output.stdout), (Some(1), &told), "{why}");
        let said = String::from_utf8(output.stderr).unwrap();
        let date = said.get(..20).unwrap_or_default();
        let digits = date.replace(|letter: char| letter.is_ascii_digit(), "0");
        assert!(digits == "0000/00/00 00:00:00 " && said.contains(why), "{said}");
    }
    let nobody = place.run("zrepl.yml", "");
    assert_eq!((nobody.status.code(), nobody.stdout.as_slice()), (Some(1), b"".as_slice()));
}
