//! The control socket, spoken to in plain HTTP. Real time, since real sockets are waited for.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use daemon::{Daemon, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::world::{Lab, push_and_sink};

struct Served {
    _directory: tempfile::TempDir,
    path: PathBuf,
    lab: Lab,
    daemon: Daemon,
}

impl Served {
    fn new() -> Served {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("control");
        let lab = Lab::new();
        let daemon = lab.start(&yaml(&path));
        Served { _directory: directory, path, lab, daemon }
    }

    /// What comes back for a whole request: status line and body.
    async fn raw(&self, request: &str) -> (String, String) {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.to_lowercase().contains("content-type: text/plain; charset=utf-8"), "{head}");
        let body = if head.contains("chunked") { unchunk(body) } else { body.to_owned() };
        (head.lines().next().unwrap().to_owned(), body)
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let length = body.len();
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: unix\r\nContent-Length: {length}\r\n\r\n{body}")).await
    }
}

fn yaml(path: &std::path::Path) -> String {
    push_and_sink("{type: manual}").replace("sockpath: \"\"", &format!("sockpath: {}", path.display()))
}

fn unchunk(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &after[..size];
        rest = &after[size + 2..];
        if size == 0 {
            break;
        }
    }
    whole
}

const OK: &str = "HTTP/1.1 200 OK";
const BAD: &str = "HTTP/1.1 400 Bad Request";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error";

#[tokio::test]
async fn a_report_that_has_not_changed_is_not_sent_again() {
    let served = Served::new();
    let ask = async |tag: &str| {
        let mut stream = UnixStream::connect(&served.path).await.unwrap();
        let request =
            format!("POST /status HTTP/1.1\r\nHost: unix\r\nIf-None-Match: {tag}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        (head.lines().next().unwrap().to_owned(), tag, body.len())
    };
    let (status, mut tag, length) = ask("\"none\"").await;
    assert!(status == OK && length > 100, "{status} {length}");
    // The daemon may still tell how it started.
    while ask(&tag).await.0 == OK {
        tag = ask(&tag).await.1;
    }
    assert_eq!(ask(&tag).await, ("HTTP/1.1 304 Not Modified".to_owned(), tag.clone(), 0));
    let outcome = served.daemon.wakeup_and_wait("push").await.unwrap();
    assert!(outcome.is_some());
    let (status, newer, _) = ask(&tag).await;
    assert!(status == OK && newer != tag, "{status} {newer}");
}

#[tokio::test]
async fn version_and_status_are_answered_whatever_the_method() {
    let served = Served::new();
    for method in ["GET", "POST", "PUT"] {
        let (status, body) = served.ask(method, "/version", "\"\"").await;
        assert_eq!(status, OK);
        let version: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(version["Version"], daemon::VERSION);
        let keys: Vec<&String> = version.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["RUNTIMECompiler", "RuntimeGOARCH", "RuntimeGOOS", "RuntimeGo", "Version"]);

        let (status, body) = served.ask(method, "/status", "{}").await;
        assert_eq!(status, OK);
        assert!(body.ends_with("}\n"));
        let report: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(report["Jobs"]["_control"]["type"], "internal");
        assert_eq!(report["Jobs"]["push"]["type"], "push");
    }
}

#[tokio::test]
async fn signals_are_carried_out_or_refused_in_zrepl_s_words() {
    let served = Served::new();
    let signal = |body: &'static str| served.ask("POST", "/signal", body);
    let answer = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    assert_eq!(signal("{\"Name\":\"push\",\"Op\":\"wakeup\"}\n").await, answer(OK, "{}\n"));
    served.lab.diary.wait_for("finished 1", 1).await;
    assert_eq!(signal(r#"{"name":"push","OP":"wakeup","More":1}"#).await, answer(OK, "{}\n"), "case does not matter");
    served.lab.diary.wait_for("finished 2", 1).await;
    for (body, text) in [
        (r#"{"Name":"x y","Op":"wakeup"}"#, "Job x y does not exist"),
        (
            r#"{"Name":"sink","Op":"wakeup"}"#,
            "already woken up: job sink serves others and does nothing by itself (signal the job that replicates)",
        ),
        (
            r#"{"Name":"_control","Op":"wakeup"}"#,
            "already woken up: job _control serves others and does nothing by itself (signal the job that replicates)",
        ),
        (
            r#"{"Name":"sink","Op":"reset"}"#,
            "already reset: job sink serves others and does nothing by itself (signal the job that replicates)",
        ),
        (r#"{"Name":"push","Op":"foo"}"#, "operation \"foo\" is invalid"),
        (r#"{}"#, "operation \"\" is invalid"),
    ] {
        assert_eq!(signal(body).await, answer(FAILED, text));
    }
    for body in ["x", "", "[]", r#"{"Name":1,"Op":"wakeup"}"#] {
        let (status, text) = signal(body).await;
        assert_eq!(status, BAD, "{body}");
        assert!(!text.is_empty());
    }
}

#[tokio::test]
async fn an_invocation_can_be_followed_to_its_end() {
    let served = Served::new();
    served.lab.snapshot("s1").await;
    let (status, body) = served.ask("POST", "/wakeup", r#"{"Name":"push"}"#).await;
    assert_eq!(status, OK, "{body}");
    let ticket: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(ticket["Invocation"], 1);
    let ask = |number: u64, daemon: &serde_json::Value| {
        let request = serde_json::json!({"Name": "push", "Invocation": number, "Daemon": daemon});
        let served = &served;
        async move { served.ask("POST", "/outcome", &request.to_string()).await }
    };
    // Once while it runs and once when it has long ended.
    for _ in 0..2 {
        let (status, body) = ask(1, &ticket["Daemon"]).await;
        let outcome: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status.as_str(), &outcome["Finished"]), (OK, &true.into()), "{body}");
        assert_eq!((&outcome["Summary"]["Steps"], &outcome["Summary"]["Errors"]), (&3.into(), &0.into()), "{body}");
    }
    let (status, body) = ask(1, &"another".into()).await;
    assert_eq!(status, FAILED);
    assert!(body.starts_with("the daemon was started anew"), "{body}");
    let (status, body) = ask(0, &ticket["Daemon"]).await;
    assert_eq!((status.as_str(), body.contains("forgotten")), (FAILED, true), "{body}");
    let (status, body) = served.ask("POST", "/wakeup", r#"{"Name":"sink"}"#).await;
    assert_eq!((status.as_str(), body.starts_with("already woken up: job sink")), (FAILED, true), "{body}");
    assert_eq!(served.ask("POST", "/wakeup", r#"{"Op":"wakeup"}"#).await.0, BAD);
    assert_eq!(served.ask("POST", "/outcome", r#"{"Name":"push"}"#).await.0, BAD);
}

#[tokio::test]
async fn plans_are_made_for_a_job_or_for_all() {
    let served = Served::new();
    served.lab.snapshot("s1").await;
    for body in [r#"{"Job":"push","Estimate":true}"#, r#"{"Job":""}"#] {
        let (status, body) = served.ask("POST", "/plan", body).await;
        assert_eq!(status, OK, "{body}");
        let plan: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&plan["version"], &plan["jobs"][0]["total"]["sends"]), (&1.into(), &3.into()));
    }
    let (status, text) = served.ask("POST", "/plan", r#"{"Job":"nobody"}"#).await;
    assert_eq!((status.as_str(), text.as_str()), (FAILED, "job \"nobody\" not defined in config"));
    for body in ["x", "{}", r#"{"Job":1}"#] {
        assert_eq!(served.ask("POST", "/plan", body).await.0, BAD, "{body}");
    }
    assert_eq!(served.lab.zfs.faults().processes().get("snapshot"), Some(&1), "only the test's own");
}

#[tokio::test]
async fn other_paths_and_too_large_requests_are_refused() {
    let served = Served::new();
    let (status, body) = served.ask("GET", "/metrics", "").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 404 Not Found", "404 page not found\n"));
    // Announced, not sent: the daemon does not wait for it.
    let (status, _) = served
        .raw(&format!(
            "POST /signal HTTP/1.1\r\nHost: unix\r\nContent-Length: {}\r\n\r\n{}",
            1 << 30,
            "x".repeat(100_000)
        ))
        .await;
    assert_eq!(status, BAD);
}

#[tokio::test]
async fn a_client_that_says_nothing_keeps_nobody_else_out_nor_the_daemon_from_stopping() {
    let served = Served::new();
    let _silent = UnixStream::connect(&served.path).await.unwrap();
    assert_eq!(served.ask("GET", "/version", "").await.0, OK);
    served.daemon.stop("test").await.unwrap();
    assert!(!served.path.exists(), "the socket's file is removed");
}

#[tokio::test]
async fn a_second_daemon_does_not_start_on_the_same_socket() {
    let served = Served::new();
    let config = config::parse("zrepl.yml", &yaml(&served.path)).unwrap().config;
    let refused = Daemon::start(config, served.lab.world.clone()).err().unwrap();
    let StartError::Control(error) = &refused else { panic!("{refused}") };
    assert_eq!(error.path, served.path);
    assert!(refused.to_string().contains("another zrepl daemon or job uses it"), "{refused}");
    assert_eq!(served.ask("GET", "/version", "").await.0, OK, "the first one goes on");
}
