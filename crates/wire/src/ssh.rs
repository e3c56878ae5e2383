//! SSH: the program `ssh` is the connection, its standard input and output are the two directions.
//!
//! What runs at the other end is fixed there, in `authorized_keys`: `zrepl stdinserver IDENTITY`.

mod connection;
mod process;

#[cfg(test)]
mod tests;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroU16;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::service::CallError;
use crate::stdinserver::{BEGIN, GREETING_LENGTH, HELLO, PROXY_ERROR};
use crate::transport::{Connection, Dialer};
use connection::SshConnection;
use process::Process;

/// How long `ssh` may take to end and to say why after the connection has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way to `zrepl stdinserver` on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshDialer {
    /// The program instead of `ssh`, by its path or looked for in `PATH`.
    pub command: Option<String>,
    /// The other machine.
    pub host: String,
    /// The account there.
    pub user: String,
    /// The port of its SSH server.
    pub port: NonZeroU16,
    /// The private key.
    pub identity_file: PathBuf,
    /// Each becomes `-o OPTION`.
    pub options: Vec<String>,
    /// For the start of the program, the login and the other side's greeting.
    pub dial_timeout: Duration,
}

#[async_trait]
impl Dialer for SshDialer {
    async fn dial(&self) -> Result<Connection, CallError> {
        self.connect().await.map_err(|problem| {
            let Self { user, host, port, .. } = self;
            CallError::Connection(format!("cannot reach {user}@{host} port {port} over ssh: {problem}"))
        })
    }
}

impl SshDialer {
    async fn connect(&self) -> Result<Connection, String> {
        let deadline = Instant::now() + self.dial_timeout;
        let name = self.command.as_deref().unwrap_or("ssh");
        let path = env::var_os("PATH").unwrap_or_default();
        let program = find(name, &path).ok_or_else(|| {
            format!(
                "there is no program {name:?} in PATH={} (install it, on Debian the package openssh-client, or set \
                 `ssh_command`)",
                path.display()
            )
        })?;
        let (process, mut input, mut output) = Process::start(&program, &self.arguments())
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let problem = match timeout_at(deadline, greet(&mut output, &mut input)).await {
            Ok(Ok(())) => return Ok(Box::new(SshConnection::new(process, input, output))),
            Ok(Err(problem)) => problem,
            Err(_) => format!("dial_timeout of {:?} exceeded", self.dial_timeout),
        };
        Err(with_last_words(problem, &process, deadline).await)
    }

    fn arguments(&self) -> Vec<OsString> {
        let Self { user, host, port, .. } = self;
        let mut arguments: Vec<OsString> = vec!["-p".into(), port.to_string().into(), "-T".into(), "-i".into()];
        arguments.push(self.identity_file.clone().into());
        arguments.extend(["-o".into(), "BatchMode=yes".into()]);
        for option in &self.options {
            arguments.extend(["-o".into(), option.into()]);
        }
        arguments.push(format!("{user}@{host}").into());
        arguments
    }
}

/// By name as a shell finds it. The program itself gets no `PATH`, so the system could not look there.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let is_program = |file: &PathBuf| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path).map(|folder| folder.join(name)).find(is_program)
}

async fn greet(reader: &mut (impl AsyncRead + Unpin), writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), String> {
    let hello = read_greeting(reader).await?;
    if hello == PROXY_ERROR {
        return Err("proxy error, check remote configuration (`zrepl stdinserver` there reaches no daemon)".to_owned());
    }
    let begun = async {
        writer.write_all(&BEGIN).await?;
        writer.flush().await
    };
    begun.await.map_err(|error: io::Error| format!("the connection broke: {error}"))
}

/// One of the two that may come.
async fn read_greeting(reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, String> {
    let mut greeting = Vec::new();
    while greeting.len() < GREETING_LENGTH {
        let rest = GREETING_LENGTH.saturating_sub(greeting.len());
        let read = reader.take(rest as u64).read_buf(&mut greeting).await;
        match read {
            Ok(1..) => {}
            Ok(0) => return Err("the connection ended before the other side greeted".to_owned()),
            Err(error) => return Err(format!("the connection broke: {error}")),
        }
        if ![HELLO, PROXY_ERROR].iter().any(|known| known.starts_with(&greeting)) {
            return Err(format!(
                "unknown banner message {:?} (does the account there print something at login, and is `zrepl \
                 stdinserver` its forced command?)",
                String::from_utf8_lossy(&greeting)
            ));
        }
    }
    Ok(greeting)
}

/// Adds what `ssh` has to say, for which it gets some time if there is any left.
async fn with_last_words(problem: String, process: &Process, deadline: Instant) -> String {
    let patience = deadline.min(Instant::now() + LAST_WORDS);
    let ended = timeout_at(patience, process.ended()).await;
    let end = match ended {
        Ok(Some(status)) if !status.success() => format!("; ssh ended with {status}"),
        _ => String::new(),
    };
    match process.words() {
        words if words.is_empty() => format!("{problem}{end}"),
        words => format!("{problem}{end}: {words}"),
    }
}
