//! A read lock on all tables of a MySQL or MariaDB server, held by one session from before the
//! snapshot until after it.

use std::time::Duration;

use config::types::{MysqlAddress, MysqlDsn, MysqlTls};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as DriverFailed, Opts, OptsBuilder, SslOpts};
use thiserror::Error;
use tokio::time::timeout;

use super::authorities::{self, NoAuthorities};

/// The statement that locks.
pub(super) const LOCK: &str = "FLUSH TABLES WITH READ LOCK";

/// The statement that unlocks.
pub(super) const UNLOCK: &str = "UNLOCK TABLES";

/// Why tables were not locked, or did not stay so.
#[derive(Debug, Error)]
pub(super) enum MysqlError {
    /// The server's certificate is to be checked, and there is nothing to check it with.
    #[error(transparent)]
    NoAuthorities(#[from] NoAuthorities),
    /// The data source name asks for TLS, and the server has none.
    #[error(
        "the server does not offer TLS, which `tls` asks for: give it a certificate (`ssl_cert` and `ssl_key` in its \
         configuration), or set `tls=preferred` in `dsn` if nobody can listen in"
    )]
    Unencrypted,
    /// The server is not reached or does not let in.
    #[error("cannot connect: {0}")]
    Connect(mysql_async::Error),
    /// The server refuses.
    #[error("{LOCK} failed: {0}")]
    Refused(mysql_async::Error),
    /// Locking took too long.
    #[error("timed out after {0:?}; a running statement or another lock may have been in the way")]
    TimedOut(Duration),
    /// The session that held the lock ended before the snapshot was done.
    #[error(
        "the lock was lost before the tables were unlocked, the snapshot may hold half-written tables: {0} (see \
         `wait_timeout` of the server and its log)"
    )]
    Lost(mysql_async::Error),
    /// The server does not answer; the lock ends with the connection, which is closed.
    #[error("{UNLOCK} timed out after {0:?}; the connection is closed, which ends the lock")]
    UnlockTimedOut(Duration),
}

/// The session that holds the lock. The server unlocks when it is dropped.
pub(super) struct Locked {
    session: Conn,
}

/// Connects and locks.
///
/// # Errors
/// See [`MysqlError`].
pub(super) async fn lock(dsn: &MysqlDsn, limit: Duration) -> Result<Locked, MysqlError> {
    let locked = timeout(limit, async {
        let mut session = connect(dsn).await?;
        // While it waits for its lock, the statement holds up all who write. A server that does not
        // notice that the client has given up must not go on with that.
        let seconds = limit.as_secs().saturating_add(1);
        let patience = format!("SET SESSION lock_wait_timeout = {seconds}");
        session.query_drop(patience).await.map_err(MysqlError::Refused)?;
        session.query_drop(LOCK).await.map_err(MysqlError::Refused)?;
        Ok(Locked { session })
    });
    locked.await.unwrap_or(Err(MysqlError::TimedOut(limit)))
}

impl Locked {
    /// Unlocks and disconnects.
    ///
    /// # Errors
    /// The session ended before, and with it the lock.
    pub(super) async fn unlock(mut self, limit: Duration) -> Result<(), MysqlError> {
        let unlocked = timeout(limit, async {
            self.session.query_drop(UNLOCK).await.map_err(MysqlError::Lost)?;
            // The lock was held to its end; how the session ends does not matter any more.
            let _ = self.session.disconnect().await;
            Ok(())
        });
        unlocked.await.unwrap_or(Err(MysqlError::UnlockTimedOut(limit)))
    }
}

async fn connect(dsn: &MysqlDsn) -> Result<Conn, MysqlError> {
    let tls = match dsn.tls {
        MysqlTls::Off => None,
        // What the driver would check against is of no matter then.
        MysqlTls::Preferred | MysqlTls::SkipVerify => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
        MysqlTls::Verify => {
            let trusted = authorities::of_system().await?.into_iter().map(|der| der.to_vec().into()).collect();
            Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(trusted))
        }
    };
    let connected = match Conn::new(options(dsn, tls)).await {
        Err(error) if is_unencrypted(&error) && dsn.tls == MysqlTls::Preferred => Conn::new(options(dsn, None)).await,
        connected => connected,
    };
    connected.map_err(|error| match is_unencrypted(&error) {
        true => MysqlError::Unencrypted,
        false => MysqlError::Connect(error),
    })
}

fn is_unencrypted(error: &DriverFailed) -> bool {
    matches!(error, DriverFailed::Driver(DriverError::NoClientSslFlagFromServer))
}

fn options(dsn: &MysqlDsn, tls: Option<SslOpts>) -> Opts {
    let MysqlDsn { user, password, address, database, tls: _ } = dsn;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let options = OptsBuilder::default().user(some(user)).pass(some(password)).db_name(some(database));
    match address {
        // Without `prefer_socket` the driver would go on with the socket that the server names.
        MysqlAddress::Tcp(host, port) => {
            options.ip_or_hostname(host).tcp_port(*port).prefer_socket(false).ssl_opts(tls)
        }
        MysqlAddress::Unix(path) => options.socket(Some(path.display().to_string())).prefer_socket(true),
    }
    .into()
}
