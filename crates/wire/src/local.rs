//! The local transport: jobs of one daemon meet by listener name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::ClientIdentity;
use tokio::sync::watch;

use crate::service::{CallError, Connector, Endpoint, Service};

type Listeners = HashMap<String, Arc<dyn Service>>;

/// The listeners of one daemon.
#[derive(Clone)]
pub struct LocalNetwork {
    listeners: Arc<Mutex<watch::Sender<Listeners>>>,
}

impl Default for LocalNetwork {
    fn default() -> Self {
        Self { listeners: Arc::new(Mutex::new(watch::Sender::default())) }
    }
}

/// Another job serves the name already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another job serves the local listener {name:?} (give each sink and source its own `listener_name`)")]
pub struct NameTaken {
    /// The listener's name.
    pub name: String,
}

/// A name being served, until dropped.
pub struct Listener {
    network: LocalNetwork,
    name: String,
}

impl LocalNetwork {
    /// Serves `name` until the result is dropped.
    pub fn listen(&self, name: &str, service: Arc<dyn Service>) -> Result<Listener, NameTaken> {
        let taken = self.change(|listeners| match listeners.contains_key(name) {
            true => true,
            false => listeners.insert(name.to_owned(), service).is_some(),
        });
        match taken {
            true => Err(NameTaken { name: name.to_owned() }),
            false => Ok(Listener { network: self.clone(), name: name.to_owned() }),
        }
    }

    /// A way to the listener `name` for a client; waits for it to be served, at most `dial_timeout`
    /// (zero: no limit).
    pub fn connector(&self, name: &str, client: ClientIdentity, dial_timeout: Duration) -> LocalConnector {
        LocalConnector { network: self.clone(), name: name.to_owned(), client, dial_timeout }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Listeners) -> T) -> T {
        let sender = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = None;
        sender.send_modify(|listeners| result = Some(change(listeners)));
        #[allow(clippy::expect_used, reason = "send_modify always calls its closure")]
        result.expect("send_modify calls its closure")
    }

    fn watch(&self) -> watch::Receiver<Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).subscribe()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.network.change(|listeners| listeners.remove(&self.name));
    }
}

/// A client of a local listener.
pub struct LocalConnector {
    network: LocalNetwork,
    name: String,
    client: ClientIdentity,
    dial_timeout: Duration,
}

impl LocalConnector {
    async fn service(&self) -> Result<Arc<dyn Service>, CallError> {
        let gone = || CallError::Connection(format!("the local listener {:?} is gone", self.name));
        let mut listeners = self.network.watch();
        let listeners = listeners.wait_for(|all| all.contains_key(&self.name)).await.map_err(|_| gone())?;
        listeners.get(&self.name).cloned().ok_or_else(gone)
    }
}

#[async_trait]
impl Connector for LocalConnector {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        let service = match self.dial_timeout {
            Duration::ZERO => self.service().await?,
            limit => tokio::time::timeout(limit, self.service()).await.map_err(|_| {
                CallError::Connection(format!(
                    "no job serves the local listener {:?} (waited {limit:?}; is there a sink or source with this `listener_name`?)",
                    self.name
                ))
            })??,
        };
        service.endpoint_for(&self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;
    impl Service for Nobody {
        fn endpoint_for(&self, client: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError> {
            Err(CallError::permanent(format!("no endpoint for {client}")))
        }
    }

    fn connector(network: &LocalNetwork) -> LocalConnector {
        network.connector("x", ClientIdentity::parse("me").unwrap(), Duration::from_secs(2))
    }

    async fn answer(connector: &LocalConnector) -> CallError {
        connector.connect().await.err().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_waits_for_its_listener_and_no_longer_than_the_limit() {
        let network = LocalNetwork::default();
        let client = connector(&network);
        assert!(matches!(answer(&client).await, CallError::Connection(text) if text.contains("\"x\"")));

        let (listener, refused) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                network.listen("x", Arc::new(Nobody)).unwrap()
            },
            answer(&client)
        );
        assert_eq!(refused, CallError::permanent("no endpoint for me"));
        assert!(network.listen("x", Arc::new(Nobody)).is_err(), "one job per name");
        drop(listener);
        assert!(matches!(answer(&client).await, CallError::Connection(_)));
    }
}
