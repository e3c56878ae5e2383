//! `CHECKPOINT` on a PostgreSQL server, so that a snapshot of its data needs little recovery.

use std::time::Duration;

use config::types::{PostgresDsn, PostgresSsl};
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

/// The statement, which is also what the log calls it.
pub(super) const CHECKPOINT: &str = "CHECKPOINT";

/// Why there was no checkpoint.
#[derive(Debug, Error)]
pub(super) enum PostgresError {
    /// The data source asks for TLS.
    #[error(
        "the connection must be encrypted, which this version of zrepl cannot do: connect through the server's Unix \
         socket and set `sslmode=disable` in `dsn` (it is `require` if not set)"
    )]
    Encryption,
    /// The server is not reached or does not let in.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The server refuses.
    #[error("{CHECKPOINT} failed: {0}")]
    Refused(String),
    /// It took too long.
    #[error("timed out after {0:?}; the server may still be writing")]
    TimedOut(Duration),
}

/// Connects, has the server write out what it holds in memory, and disconnects.
///
/// # Errors
/// See [`PostgresError`].
pub(super) async fn checkpoint(dsn: &PostgresDsn, limit: Duration) -> Result<(), PostgresError> {
    if dsn.ssl != PostgresSsl::Disable {
        return Err(PostgresError::Encryption);
    }
    timeout(limit, talk(dsn)).await.unwrap_or(Err(PostgresError::TimedOut(limit)))
}

async fn talk(dsn: &PostgresDsn) -> Result<(), PostgresError> {
    let connect = |error| PostgresError::Connect(words(&error));
    let (client, connection) = options(dsn).connect(NoTls).await.map_err(connect)?;
    // Both in one future: dropped, it closes the connection. It ends once the client is gone.
    let (result, closed) = tokio::join!(execute(client), connection);
    result?;
    closed.map_err(|error| PostgresError::Refused(words(&error)))
}

async fn execute(client: Client) -> Result<(), PostgresError> {
    client.batch_execute(CHECKPOINT).await.map_err(|error| PostgresError::Refused(words(&error)))
}

fn options(dsn: &PostgresDsn) -> Config {
    let PostgresDsn { host, port, user, password, database, ssl: _ } = dsn;
    let mut options = Config::new();
    options.host(host).port(*port).application_name("zrepl");
    if !user.is_empty() {
        options.user(user);
    }
    if !database.is_empty() {
        options.dbname(database);
    }
    if !password.is_empty() {
        options.password(password);
    }
    options
}

/// What the server or the system says; the driver keeps it in the error's source.
fn words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(said), _) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
