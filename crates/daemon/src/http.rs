//! What the daemon's HTTP listeners share: few connections at a time, one request each, which end soon.
//! What is served, and to whom, is not known here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::event::What;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::limits::{ACCEPT_PAUSE, HTTP_CONNECTION, HTTP_CONNECTIONS, HTTP_LAST, HTTP_REQUEST};

/// Whoever clients arrive at.
pub(crate) trait Listener {
    /// The way to a client.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpListener::accept(self).await?.0)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

/// Serves clients until `end`, and soon after it drops those that are left. `place` is where, for the log.
pub(crate) async fn serve(
    listener: impl Listener,
    place: &str,
    router: Router,
    events: &Events,
    end: &CancellationToken,
) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = end.run_until_cancelled(accept(&listener, &mut connections)).await {
        match accepted {
            Ok(stream) => {
                connections.spawn(connection(stream, router.clone()));
            }
            Err(error) => {
                let message = format!("cannot accept a connection on {place}: {error}");
                events.tell(What::Warning { subsystem: "job", message });
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // An answer may be a moment from its end, such as a trace that ends with the jobs.
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(HTTP_LAST, rest).await;
}

/// The next client, once there is room for it.
async fn accept<L: Listener>(listener: &L, connections: &mut JoinSet<()>) -> io::Result<L::Stream> {
    while connections.try_join_next().is_some() {}
    while connections.len() >= HTTP_CONNECTIONS {
        connections.join_next().await;
    }
    listener.accept().await
}

/// One request and its answer. What goes wrong on the way is the client's to notice.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let lasting = Lasting::default();
    let service = TowerToHyperService::new(router.layer(Extension(lasting.clone())));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = served => {}
        () = lasting.over(HTTP_CONNECTION) => {}
    }
}

/// Lets an answer last for as long as its client reads.
#[derive(Clone, Default)]
pub(crate) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    pub(crate) fn grant(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    async fn over(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}
