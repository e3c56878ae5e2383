//! `CHECKPOINT` on a PostgreSQL server, so that a snapshot of its data needs little recovery.

mod tls;

use std::time::Duration;

use config::types::{PostgresDsn, PostgresSsl};
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls, Socket};

use self::tls::{Tls, TlsError};

/// The statement, which is also what the log calls it.
pub(super) const CHECKPOINT: &str = "CHECKPOINT";

/// Why there was no checkpoint.
#[derive(Debug, Error)]
pub(super) enum PostgresError {
    /// TLS cannot be set up as the data source name has it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data source name asks for TLS, and the server has none.
    #[error(
        "the server does not offer TLS, which `sslmode` asks for (it is `require` if not set): set `ssl = on` in the \
         server's configuration, or `sslmode=disable` in `dsn` if nobody can listen in"
    )]
    Unencrypted,
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
    timeout(limit, connect(dsn)).await.unwrap_or(Err(PostgresError::TimedOut(limit)))
}

async fn connect(dsn: &PostgresDsn) -> Result<(), PostgresError> {
    match dsn.ssl {
        PostgresSsl::Disable => talk(dsn, NoTls).await,
        PostgresSsl::Require | PostgresSsl::VerifyCa | PostgresSsl::VerifyFull => talk(dsn, Tls::new(dsn).await?).await,
    }
}

async fn talk<T>(dsn: &PostgresDsn, tls: T) -> Result<(), PostgresError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: TlsStream,
{
    let (client, connection) = options(dsn).connect(tls).await.map_err(|error| unreached(&error))?;
    // Both in one future: dropped, it closes the connection. It ends once the client is gone.
    let (result, closed) = tokio::join!(execute(client), connection);
    result?;
    closed.map_err(|error| PostgresError::Refused(words(&error)))
}

/// The driver has no variant for a server without TLS, only words.
fn unreached(error: &tokio_postgres::Error) -> PostgresError {
    match std::error::Error::source(error).map(ToString::to_string).as_deref() {
        Some("server does not support TLS") => PostgresError::Unencrypted,
        _ => PostgresError::Connect(words(error)),
    }
}

async fn execute(client: Client) -> Result<(), PostgresError> {
    client.batch_execute(CHECKPOINT).await.map_err(|error| PostgresError::Refused(words(&error)))
}

fn options(dsn: &PostgresDsn) -> Config {
    let PostgresDsn { host, port, user, password, database, ssl, root_cert: _, client_cert: _, client_key: _ } = dsn;
    let mut options = Config::new();
    options.host(host).port(*port).application_name("zrepl");
    options.ssl_mode(match ssl {
        PostgresSsl::Disable => SslMode::Disable,
        PostgresSsl::Require | PostgresSsl::VerifyCa | PostgresSsl::VerifyFull => SslMode::Require,
    });
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
