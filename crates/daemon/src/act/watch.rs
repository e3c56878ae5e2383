//! Limits on what a side may take, from the point of view of the job: whatever hangs is ended, named,
//! and tried again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::view::View;
use model::{DatasetName, VersionName};
use tokio::time::timeout;
use wire::{
    ByteStream, CallError, Connector, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RenameAsideRequest,
    RollBackRequest, SendReply, SendRequest,
};

use crate::limits::{CALL, NO_PROGRESS};

/// How long a job waits for a side that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the answer to a call; [`CALL`] unless somebody says otherwise.
    pub call: Duration,
    /// For the next byte of a step; [`NO_PROGRESS`] unless somebody says otherwise.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { call: CALL, stall: NO_PROGRESS }
    }
}

/// A side whose calls end. The future of a call that took too long is dropped, and with it whatever
/// works for it: here its children, at a peer the connection.
pub(super) struct Watched {
    side: &'static str,
    limit: Duration,
    endpoint: Arc<dyn Endpoint>,
}

/// The way to such a side.
struct WatchedConnector {
    side: &'static str,
    patience: Patience,
    connector: Arc<dyn Connector>,
}

#[async_trait]
impl Connector for WatchedConnector {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        let Self { side, patience, connector } = self;
        match timeout(patience.call, connector.connect()).await {
            Ok(endpoint) => Ok(Watched::endpoint(side, *patience, endpoint?)),
            Err(_elapsed) => Err(CallError::Connection(format!("no answer within {:?}", patience.call))),
        }
    }
}

impl Watched {
    pub(super) fn endpoint(side: &'static str, patience: Patience, endpoint: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        Arc::new(Self { side, limit: patience.call, endpoint })
    }

    pub(super) fn connector(
        side: &'static str,
        patience: Patience,
        connector: Arc<dyn Connector>,
    ) -> Arc<dyn Connector> {
        Arc::new(WatchedConnector { side, patience, connector })
    }

    async fn within<T>(&self, what: &str, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        match timeout(self.limit, call).await {
            Ok(answer) => answer,
            // As if the connection were gone: only a new one can be trusted to answer.
            Err(_elapsed) => {
                Err(CallError::Connection(format!("the {} did not answer within {:?}: {what}", self.side, self.limit)))
            }
        }
    }
}

#[async_trait]
impl Endpoint for Watched {
    async fn list(&self) -> Result<View, CallError> {
        self.within("list filesystems", self.endpoint.list()).await
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        self.within("list filesystems that failed", self.endpoint.list_some(filesystems)).await
    }

    fn expect_step(&self) {
        self.endpoint.expect_step();
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        let what = format!("start to send {}{}", request.filesystem, request.to);
        self.within(&what, self.endpoint.send(request)).await
    }

    /// Watched by the bytes that it moves instead.
    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.endpoint.receive(request, stream).await
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        let what = format!("move the cursor to {}{}", request.filesystem, request.to);
        self.within(&what, self.endpoint.send_completed(request)).await
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        let what = format!("hold {}{}", request.filesystem, request.to);
        self.within(&what, self.endpoint.confirm_received(request)).await
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let what = format!("destroy snapshots of {} filesystems", requests.len());
        self.within(&what, self.endpoint.destroy_snapshots(requests)).await
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        let what = format!("roll {} back to {}", request.filesystem, request.to);
        self.within(&what, self.endpoint.roll_back(request)).await
    }

    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        let what = format!("rename {}", request.filesystem);
        self.within(&what, self.endpoint.rename_aside(request)).await
    }
}
