//! Hooks against real database servers, which `cargo xtask test databases` provides.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod server;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use config::types::{Hook, HookKind, MysqlAddress, MysqlDsn, MysqlTls, PostgresDsn, PostgresSsl};
use daemon::clock::Clock;
use daemon::events::Events;
use daemon::hooks::{HookOutcome, HookRunner, Status};
use model::filter::Pattern;
use model::{DatasetName, FilesystemFilter, VersionName};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use rustix::process::Signal;
use server::Server;

const AMPLE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

async fn around(kind: HookKind, timeout: Duration, take: impl Future<Output = Result<(), String>>) -> HookOutcome {
    let filesystems = FilesystemFilter::new([(Pattern::Everything, true)]);
    let hooks = vec![Hook { kind, timeout, filesystems, err_is_fatal: false }];
    let runner = HookRunner::new(hooks, Events::new(Clock::system(), Vec::new()));
    let (filesystem, snapshot) = (DatasetName::parse("p/a").unwrap(), VersionName::parse("s").unwrap());
    runner.run(&filesystem, &snapshot, take).await
}

fn statuses(outcome: &HookOutcome) -> Vec<Status> {
    outcome.steps.iter().map(|step| step.status).collect()
}

fn postgres(server: &Server) -> HookKind {
    let host = server.folder.path().display().to_string();
    let (user, database) = ("tester".to_owned(), "postgres".to_owned());
    let ssl = PostgresSsl::Disable;
    HookKind::PostgresCheckpoint {
        dsn: PostgresDsn { host, port: 5432, user, database, ssl, ..PostgresDsn::default() },
    }
}

async fn ask(server: &Server, question: &str) -> String {
    let mut options = tokio_postgres::Config::new();
    options.host_path(server.folder.path()).user("tester").dbname("postgres");
    let (client, connection) = options.connect(tokio_postgres::NoTls).await.unwrap();
    let talk = tokio::spawn(connection);
    let rows = client.simple_query(question).await.unwrap();
    drop(client);
    talk.await.unwrap().unwrap();
    let value = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.unwrap_or_default()
}

#[tokio::test]
async fn the_snapshot_is_taken_after_a_checkpoint() {
    const LAST: &str = "SELECT checkpoint_lsn FROM pg_control_checkpoint()";
    let server = Server::postgres();
    ask(&server, "CREATE TABLE goods AS SELECT generate_series(1, 1000) AS id").await;
    let written = ask(&server, "SELECT pg_current_wal_lsn()").await;
    let is_written = format!("SELECT checkpoint_lsn >= '{written}' FROM pg_control_checkpoint()");
    let before = ask(&server, LAST).await;
    assert_eq!(ask(&server, &is_written).await, "f", "{before} {written}");
    let outcome = around(postgres(&server), AMPLE, async {
        assert_eq!(ask(&server, &is_written).await, "t");
        Ok(())
    })
    .await;
    assert_eq!(statuses(&outcome), [Status::Ok; 3], "{outcome}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error() {
    let server = Server::postgres();
    server.signal(Signal::STOP);
    let late = around(postgres(&server), SHORT, async { Ok(()) }).await;
    assert_eq!(statuses(&late), [Status::Err, Status::Ok, Status::SkippedDueToPreErr]);
    assert!(late.steps[0].error.as_ref().unwrap().contains("timed out after 300ms"), "{late}");
    server.signal(Signal::CONT);
}

fn socket(server: &Server) -> PathBuf {
    server.folder.path().join("socket")
}

fn mysql(server: &Server, password: &str) -> HookKind {
    let address = MysqlAddress::Unix(socket(server));
    let (user, password, database) = ("tester".to_owned(), password.to_owned(), String::new());
    HookKind::MysqlLockTables { dsn: MysqlDsn { user, password, address, database, tls: MysqlTls::Off } }
}

/// A session of somebody who uses the database.
async fn session(server: &Server) -> Conn {
    let socket = socket(server).display().to_string();
    let options = OptsBuilder::default().socket(Some(socket)).user(Some("tester")).pass(Some("se cret"));
    Conn::new(options.db_name(Some("shop"))).await.unwrap()
}

/// A server with a table, and a session whose statements do not wait for locks.
async fn shop() -> (Server, Conn) {
    let server = Server::mariadb();
    let mut customer = session(&server).await;
    customer.query_drop("CREATE TABLE goods (id INT)").await.unwrap();
    customer.query_drop("SET SESSION lock_wait_timeout = 0").await.unwrap();
    (server, customer)
}

const INSERT: &str = "INSERT INTO goods VALUES (1)";

#[tokio::test]
async fn nobody_writes_while_the_snapshot_is_taken() {
    let (server, mut customer) = shop().await;
    let outcome = around(mysql(&server, "se cret"), AMPLE, async {
        let error = customer.query_drop(INSERT).await.unwrap_err().to_string();
        assert!(error.contains("Lock wait timeout"), "{error}");
        Ok(())
    })
    .await;
    assert_eq!(statuses(&outcome), [Status::Ok; 3], "{outcome}");
    customer.query_drop(INSERT).await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_not_to_be_had_times_out_and_leaves_no_one_waiting() {
    let (server, mut customer) = shop().await;
    let mut other = session(&server).await;
    other.query_drop("LOCK TABLES goods WRITE").await.unwrap();
    let outcome = around(mysql(&server, "se cret"), SHORT, async { Ok(()) }).await;
    assert_eq!(statuses(&outcome), [Status::Err, Status::Ok, Status::SkippedDueToPreErr]);
    assert!(outcome.steps[0].error.as_ref().unwrap().contains("timed out after 300ms"), "{outcome}");
    other.query_drop("UNLOCK TABLES").await.unwrap();
    // The server takes a moment to notice that the one who wanted the lock has gone.
    customer.query_drop("SET SESSION lock_wait_timeout = 30").await.unwrap();
    customer.query_drop(INSERT).await.unwrap();
}

#[tokio::test]
async fn a_session_that_ends_before_the_snapshot_is_done_has_lost_the_lock() {
    let (server, mut customer) = shop().await;
    let outcome = around(mysql(&server, "se cret"), AMPLE, async {
        let others = "SELECT id FROM information_schema.processlist WHERE user = 'tester' AND id <> CONNECTION_ID()";
        let sessions: Vec<u64> = customer.query(others).await.unwrap();
        assert_eq!(sessions.len(), 1);
        customer.query_drop(format!("KILL {}", sessions[0])).await.unwrap();
        Ok(())
    })
    .await;
    assert_eq!(statuses(&outcome), [Status::Ok, Status::Ok, Status::Err]);
    assert!(outcome.steps[2].error.as_ref().unwrap().contains("the lock was lost"), "{outcome}");
    assert!(outcome.had_error && outcome.snapshot.is_ok());
}

#[tokio::test]
async fn a_wrong_password_is_an_error_without_the_password() {
    let (server, _customer) = shop().await;
    let outcome = around(mysql(&server, "wrong-one"), AMPLE, async { Ok(()) }).await;
    assert!(outcome.steps[0].error.as_ref().unwrap().contains("Access denied"), "{outcome}");
    assert!(!outcome.to_string().contains("wrong-one"));
}
