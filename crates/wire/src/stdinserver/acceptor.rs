//! The daemon's side: a socket for each client.

use std::io;
use std::path::Path;
use std::task::Poll;

use async_trait::async_trait;
use futures::future::poll_fn;
use model::ClientIdentity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connection::Passed;
use super::descriptors;
use super::{BEGIN, GREETING_LENGTH, HELLO};
use crate::socket_file::{SocketError, SocketFile};
use crate::transport::{Acceptor, Arrival, Connection, HANDSHAKE, Stranger};

/// What a person can change.
const SETTING: &str = "global.serve.stdinserver.sockdir";

/// Clients by the socket that they come to.
#[derive(Debug)]
pub struct StdinAcceptor {
    sockets: Vec<(ClientIdentity, SocketFile)>,
    /// Whose turn it is to be asked first.
    next: usize,
}

impl StdinAcceptor {
    /// Makes a socket for each of them, and the folder if that is missing; they go with this.
    ///
    /// # Errors
    /// Names the socket and what is in the way of it.
    pub fn bind(folder: &Path, clients: &[ClientIdentity]) -> Result<Self, SocketError> {
        let bind = |client: &ClientIdentity| {
            let socket = SocketFile::bind(&folder.join(client.as_str()), SETTING)?;
            Ok((client.clone(), socket))
        };
        Ok(Self { sockets: clients.iter().map(bind).collect::<Result<_, _>>()?, next: 0 })
    }

    fn poll_accept(&mut self, context: &mut std::task::Context<'_>) -> Poll<io::Result<Arrival>> {
        let count = self.sockets.len();
        for offset in 0..count {
            let turn = (self.next + offset) % count;
            let Some((client, socket)) = self.sockets.get(turn) else { continue };
            if let Poll::Ready(accepted) = socket.listener().poll_accept(context) {
                let (stream, _) = accepted?;
                let arrival = arrival(client.clone(), socket.path(), stream);
                self.next = turn + 1;
                return Poll::Ready(Ok(arrival));
            }
        }
        Poll::Pending
    }
}

#[async_trait]
impl Acceptor for StdinAcceptor {
    async fn accept(&mut self) -> io::Result<Arrival> {
        poll_fn(|context| self.poll_accept(context)).await
    }
}

fn arrival(client: ClientIdentity, socket: &Path, stream: UnixStream) -> Arrival {
    let identify = async {
        match timeout(HANDSHAKE, greet(stream)).await {
            Ok(Ok(connection)) => Ok((connection, client)),
            Ok(Err(error)) => Err(Stranger(format!("`zrepl stdinserver {client}` or its SSH client failed: {error}"))),
            Err(_) => {
                Err(Stranger(format!("the SSH client of `zrepl stdinserver {client}` said nothing for {HANDSHAKE:?}")))
            }
        }
    };
    Arrival { from: socket.display().to_string(), identify: Box::pin(identify) }
}

async fn greet(stream: UnixStream) -> io::Result<Connection> {
    let descriptors = descriptors::receive(&stream).await?;
    let mut passed = Passed::new(descriptors, stream)?;
    passed.write_all(&HELLO).await?;
    let mut answer = [0; GREETING_LENGTH];
    passed.read_exact(&mut answer).await?;
    match answer == BEGIN {
        true => Ok(Box::new(passed.greeted())),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "unknown banner message (is it a zrepl daemon?)")),
    }
}
