//! The way to a side in another process: a control connection for as long as it is needed, and a data
//! connection for each step.

use std::sync::Arc;

use async_trait::async_trait;

use crate::control::client::TokenDecoder;
use crate::control::{Remote, Role};
use crate::data::DataClient;
use crate::frame::Limits;
use crate::service::{CallError, Connector, Endpoint};
use crate::transport::{Dialer, Greeting};

/// The way to a peer. Every [`Connector::connect`] opens a control connection of its own, which ends when
/// the endpoint is dropped.
pub struct Peer {
    control: Arc<dyn Dialer>,
    data: DataClient,
    greeting: Greeting,
    role: Role,
    decode_token: TokenDecoder,
}

impl Peer {
    /// A peer that is reached by these dialers.
    pub fn new(
        control: Arc<dyn Dialer>,
        data: Arc<dyn Dialer>,
        greeting: Greeting,
        role: Role,
        decode_token: TokenDecoder,
    ) -> Self {
        // Who replicates sees himself whether bytes move, and waits longer than the peer's own limits.
        let limits = Limits { stuck: None, ..Limits::default() };
        let data = DataClient::new(data, greeting.clone(), limits);
        Self { control, data, greeting, role, decode_token }
    }
}

#[async_trait]
impl Connector for Peer {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        let Self { control, data, greeting, role, decode_token } = self;
        let remote = Remote::connect(&**control, greeting, data.anew(), *role, *decode_token).await?;
        Ok(Arc::new(remote))
    }
}
