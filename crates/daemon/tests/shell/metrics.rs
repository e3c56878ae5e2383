//! Metrics as Prometheus fetches them. Real time, since real sockets are waited for.

use std::net::{Ipv4Addr, SocketAddr};

use model::event::What;
use regex::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Lab, push_and_sink};

fn yaml(listen: &str) -> String {
    let monitoring = format!("monitoring: [{{type: prometheus, listen: \"{listen}\"}}], control: {{");
    push_and_sink("{type: manual}").replace("control: {", &monitoring)
}

/// Where the daemon says that it listens.
async fn address(lab: &Lab) -> SocketAddr {
    lab.diary.wait_until(|whats| listening(whats).is_some()).await;
    listening(&lab.diary.whats()).unwrap()
}

fn listening(whats: &[What]) -> Option<SocketAddr> {
    whats.iter().find_map(|what| match what {
        What::Note { message, .. } => {
            message.strip_prefix("metrics are served on http://")?.strip_suffix("/metrics")?.parse().ok()
        }
        _ => None,
    })
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_scrape_tells_what_a_replication_did() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let daemon = lab.start(&yaml("127.0.0.1:0"));
    let address = address(&lab).await;
    let summary = daemon.wakeup_and_wait("push").await.unwrap().unwrap();
    assert_eq!((summary.errors, summary.steps), (0, 3));

    let (head, body) = get(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    for line in [
        r#"zrepl_replication_lag_seconds{filesystem="src/a",zrepl_job="push"} 0"#,
        r#"zrepl_replication_filesystem_errors{zrepl_job="push"} 0"#,
        r#"zrepl_replication_steps_total{zrepl_job="push",result="ok"} 3"#,
        r#"zrepl_pruning_time_count{prune_side="receiver",zrepl_job="push"} 1"#,
        r#"zrepl_pruning_kept_snapshots{prune_side="receiver",zrepl_job="push"} 3"#,
        "zrepl_config_last_reload_successful 1",
    ] {
        assert!(body.lines().any(|one| one == line), "no {line} in\n{body}");
    }
    let bytes = "\nzrepl_replication_bytes_replicated{filesystem=\"src\",zrepl_job=\"push\"} ";
    let bytes: u64 = body.split(bytes).nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(bytes > 0 && bytes <= summary.bytes);
    every_line_is_legal(&body);

    let (head, _) = get(address, "/").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    daemon.stop("test").await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// The grammar of the text format 0.0.4, with each family in one piece.
fn every_line_is_legal(text: &str) {
    let name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
    let label = r#"[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*""#;
    let sample =
        Regex::new(&format!(r"^({name})(?:\{{{label}(?:,{label})*\}})? (?:-?[0-9.e-]+|[+-]Inf|NaN)$")).unwrap();
    let comment = Regex::new(&format!("^# (HELP|TYPE) ({name}) (.+)$")).unwrap();
    let (mut family, mut seen) = (String::new(), std::collections::BTreeSet::new());
    for line in text.lines() {
        if let Some(comment) = comment.captures(line) {
            if &comment[1] == "HELP" {
                family = comment[2].to_owned();
                assert!(seen.insert(family.clone()), "{family} comes twice");
            }
            continue;
        }
        let found = sample.captures(line);
        assert!(found.is_some(), "illegal: {line}");
        let name = &found.unwrap()[1];
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(name == family || base == Some(&family), "{line} stands under {family}");
    }
    assert!(text.ends_with('\n'));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_jobs_run() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let lab = Lab::new();
    lab.snapshot("one").await;
    let daemon = lab.start(&yaml(&format!("127.0.0.1:{port}")));
    lab.diary.wait_for("cannot serve metrics on 127.0.0.1", 1).await;
    assert_eq!(lab.diary.count("another program has the port"), 1);
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);
    daemon.stop("test").await.unwrap();
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_keep_others_out() {
    let lab = Lab::new();
    let daemon = lab.start(&yaml("127.0.0.1:0"));
    let address = address(&lab).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    let (head, _) = get(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    daemon.stop("test").await.unwrap();
}
