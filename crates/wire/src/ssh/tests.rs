use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::RetryClass;
use rustix::process::{Pid, test_kill_process};

use super::*;

/// A shell script in place of `ssh`, and where it may write to.
struct Script {
    folder: tempfile::TempDir,
    dialer: SshDialer,
}

/// What the other side says first, and what it takes then.
const GREETED: &str =
    r"printf 'SSHCON_HELO\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'; begin=$(/usr/bin/head -c 31 | /usr/bin/tr -d '\0')";

impl Script {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ssh");
        let text = text.replace("FOLDER", folder.path().to_str().unwrap()).replace("GREETED", GREETED);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        let dialer = SshDialer {
            command: Some(file.to_str().unwrap().to_owned()),
            host: "backups.example".to_owned(),
            user: "root".to_owned(),
            port: NonZeroU16::new(2222).unwrap(),
            identity_file: "/etc/zrepl/ssh/identity".into(),
            options: vec!["Compression=yes".to_owned(), "ConnectTimeout=5".to_owned()],
            dial_timeout: Duration::from_secs(60),
        };
        Self { folder, dialer }
    }

    async fn refused(&self) -> String {
        let error = self.dialer.dial().await.err().unwrap();
        assert_eq!(error.class(), RetryClass::Transient);
        error.to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Waits until a process is gone, and reaped if it is a child of this one.
async fn gone(pid: Pid) {
    while test_kill_process(pid).is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn ssh_gets_exactly_zrepl_s_arguments_and_no_environment() {
    let script = Script::new(
        r#"for argument in "$@"; do printf '%s\n' "$argument"; done >FOLDER/arguments
        /usr/bin/tr '\0' '\n' </proc/$$/environ >FOLDER/environment
        GREETED; printf '%s' "$begin"; exec /bin/cat"#,
    );
    let mut connection = script.dialer.dial().await.unwrap();
    let arguments = script.read("arguments");
    assert_eq!(
        arguments.lines().collect::<Vec<_>>(),
        [
            "-p",
            "2222",
            "-T",
            "-i",
            "/etc/zrepl/ssh/identity",
            "-o",
            "BatchMode=yes",
            "-o",
            "Compression=yes",
            "-o",
            "ConnectTimeout=5",
            "root@backups.example"
        ]
    );
    assert_eq!(script.read("environment"), "");
    // What is closed is the way out: the other one goes on.
    connection.write_all(&[b'x'; 300_000]).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn both_directions_work_and_close_by_themselves() {
    let script = Script::new("GREETED; printf '%s' \"$begin\"; /usr/bin/wc -c; printf after");
    let mut connection = script.dialer.dial().await.unwrap();
    connection.write_all(&[b'x'; 300_000]).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut heard = String::new();
    connection.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "SSHCON_BEGIN300000\nafter");
    assert_eq!(connection.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_goes_wrong_before_the_greeting_is_told_with_ssh_s_words() {
    let script = Script::new("printf 'Warning: 1\\nPermission denied (publickey).\\r\\n' >&2; exit 255");
    let told = "cannot reach root@backups.example port 2222 over ssh: the connection ended before the other side \
                greeted; ssh ended with exit status: 255: Warning: 1; Permission denied (publickey).";
    assert_eq!(script.refused().await, told);

    let script =
        Script::new(r"printf 'SSHCON_PROXY_ERROR\0\0\0\0\0\0\0\0\0\0\0\0\0'; echo 'no daemon here' >&2; exit 1");
    let refused = script.refused().await;
    assert!(refused.contains("proxy error, check remote configuration"), "{refused}");
    assert!(refused.ends_with("; ssh ended with exit status: 1: no daemon here"), "{refused}");

    let script = Script::new("echo Welcome; exec /bin/sleep 1000");
    let refused = script.refused().await;
    assert!(refused.contains("unknown banner message \"Welcome\\n\" (does the account there print"), "{refused}");

    let script = Script::new("/usr/bin/head -c 100000 /dev/zero | /usr/bin/tr '\\0' 'y' >&2; printf end >&2; exit 3");
    let refused = script.refused().await;
    let kept = refused.chars().filter(|letter| *letter == 'y').count();
    assert!(refused.ends_with("yend") && (32_000..33_000).contains(&kept), "{kept} kept");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let mut script = Script::new("");
    script.dialer.command = Some("no-such-ssh".to_owned());
    let refused = script.refused().await;
    assert!(refused.contains("there is no program \"no-such-ssh\" in PATH="), "{refused}");
    script.dialer.command = Some("/nonexistent/ssh".to_owned());
    let refused = script.refused().await;
    assert!(refused.contains("cannot start /nonexistent/ssh: No such file"), "{refused}");
    let found = find("sh", OsStr::new("/nonexistent:/bin"));
    assert_eq!(found.as_deref(), Some(Path::new("/bin/sh")));
}

#[tokio::test]
async fn who_says_nothing_is_killed_when_the_time_is_over() {
    let mut script = Script::new("echo $$ >FOLDER/pid; echo 'still trying' >&2; exec /bin/sleep 1000");
    script.dialer.dial_timeout = Duration::from_millis(300);
    let refused = script.refused().await;
    assert!(refused.contains("dial_timeout of 300ms exceeded: still trying"), "{refused}");
    gone(pid(&script.read("pid"))).await;
}

#[tokio::test]
async fn a_dropped_connection_ends_the_program_and_what_it_has_started() {
    let script = Script::new("/bin/sleep 1000 & echo $! >FOLDER/helper; echo $$ >FOLDER/pid; GREETED; printf x; wait");
    let mut connection = script.dialer.dial().await.unwrap();
    connection.read_u8().await.unwrap();
    drop(connection);
    gone(pid(&script.read("pid"))).await;
    // Nobody but init reaps it, and there may be none that does: it is dead all the same.
    let helper = script.read("helper");
    let status = || fs::read_to_string(format!("/proc/{}/status", helper.trim())).unwrap_or_default();
    while !(status().is_empty() || status().contains("State:\tZ")) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_order_is_not_interrupted() {
    // What is on the way is said before the program ends.
    let script = Script::new(
        "GREETED; printf x; trap 'echo killed >FOLDER/end; exit 1' TERM; /bin/cat >FOLDER/said; echo done >FOLDER/end",
    );
    let mut connection = script.dialer.dial().await.unwrap();
    connection.read_u8().await.unwrap();
    connection.write_all(b"the last words").await.unwrap();
    drop(connection);
    while !script.folder.path().join("end").exists() || script.read("end").is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((script.read("said").as_str(), script.read("end").as_str()), ("the last words", "done\n"));
}

#[tokio::test]
async fn a_program_that_ignores_the_request_is_killed() {
    let script = Script::new("trap '' TERM; echo $$ >FOLDER/pid; GREETED; printf x; while :; do /bin/sleep 1000; done");
    let mut connection = script.dialer.dial().await.unwrap();
    connection.read_u8().await.unwrap();
    drop(connection);
    gone(pid(&script.read("pid"))).await;
}

#[tokio::test]
async fn a_connection_that_breaks_says_why() {
    let script = Script::new("GREETED; printf half; echo 'Connection to backups.example closed.' >&2; exit 255");
    let mut connection = script.dialer.dial().await.unwrap();
    let mut heard = Vec::new();
    let broken = connection.read_to_end(&mut heard).await.unwrap_err().to_string();
    assert_eq!(heard, b"half");
    assert_eq!(broken, "ssh has failed: Connection to backups.example closed.");
}
