//! A network link that fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A way to another port, until dropped.
pub(super) struct Link {
    port: u16,
    serving: JoinHandle<()>,
}

impl Link {
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Bytes until the cut.
struct Budget {
    left: AtomicU64,
    cut: CancellationToken,
}

impl Budget {
    fn spend(&self, bytes: usize) {
        let spent = |left: u64| Some(left.saturating_sub(bytes as u64));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
        if before.is_ok_and(|left| left <= bytes as u64) {
            self.cut.cancel();
        }
    }
}

/// Passes connections on. When so many bytes have passed, all that there are break; later ones do not.
pub(super) async fn cut_after(bytes: u64, to: u16) -> Result<Link> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let budget = Arc::new(Budget { left: AtomicU64::new(bytes), cut: CancellationToken::new() });
    let serving = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
            tokio::spawn(pass_on(client, server, Arc::clone(&budget)));
        }
    });
    Ok(Link { port, serving })
}

async fn pass_on(client: TcpStream, server: TcpStream, budget: Arc<Budget>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let both = async {
        tokio::join!(pump(from_client, to_server, &budget), pump(from_server, to_client, &budget));
    };
    if budget.cut.is_cancelled() {
        both.await;
    } else {
        budget.cut.run_until_cancelled(both).await;
    }
}

async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, budget: &Budget) {
    // Whichever end broke, its peer hears of it when both are dropped.
    let _ = try_pump(from, to, budget).await;
}

async fn try_pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, budget: &Budget) -> io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        match from.read(&mut piece).await? {
            0 => return to.shutdown().await,
            length => {
                to.write_all(&piece[..length]).await?;
                budget.spend(length);
            }
        }
    }
}
