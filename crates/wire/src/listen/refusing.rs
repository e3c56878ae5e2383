//! An endpoint for a client that has none: it hears why.

use async_trait::async_trait;
use model::view::View;

use pump::ByteStream;

use crate::service::{CallError, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, SendReply, SendRequest};

/// Answers everything with one error.
pub(crate) struct Refusing(pub(crate) CallError);

#[async_trait]
impl Endpoint for Refusing {
    async fn list(&self) -> Result<View, CallError> {
        Err(self.0.clone())
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        Err(self.0.clone())
    }

    async fn receive(&self, _: &ReceiveRequest, _: ByteStream) -> Result<(), CallError> {
        Err(self.0.clone())
    }

    async fn receive_announced(&self, _: &ReceiveRequest, _: ByteStream) -> Result<(), CallError> {
        Err(self.0.clone())
    }

    async fn send_completed(&self, _: &SendRequest) -> Result<(), CallError> {
        Err(self.0.clone())
    }

    async fn confirm_received(&self, _: &ReceiveRequest) -> Result<(), CallError> {
        Err(self.0.clone())
    }

    async fn destroy_snapshots(&self, _: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        Err(self.0.clone())
    }
}
