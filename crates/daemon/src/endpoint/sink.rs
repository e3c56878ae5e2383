//! A receiver for every client of a sink.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::ClientIdentity;
use wire::{CallError, Endpoint, Service};
use zfs::Zfs;

use super::abandoned::ConfiguredJobs;
use super::receiver::{Receiver, ReceiverConfig};
use crate::events::Events;
use crate::limits::STALL;

/// How many clients there are before those that are not connected are forgotten. What a receiver knows saves
/// a warning or a process the next time, and is not needed. With a map of networks, whoever owns one of their
/// machines may come under as many identities as the network has addresses.
const REMEMBERED: usize = 256;

/// The service of a sink. A client has one receiver however often it connects, so that two of its
/// connections cannot work on one filesystem at a time.
pub struct Sink {
    zfs: Arc<dyn Zfs>,
    events: Events,
    config: ReceiverConfig,
    stall: Duration,
    receivers: Mutex<HashMap<ClientIdentity, Arc<Receiver>>>,
}

impl Sink {
    /// A sink below `config.root`; `config.client` is replaced by the identity of each client.
    pub fn new(zfs: Arc<dyn Zfs>, events: Events, config: ReceiverConfig) -> Arc<Self> {
        Self::with_stall(zfs, events, config, STALL)
    }

    /// The same; a stream that stands still for longer than `stall` is given up.
    pub fn with_stall(zfs: Arc<dyn Zfs>, events: Events, config: ReceiverConfig, stall: Duration) -> Arc<Self> {
        Arc::new(Self { zfs, events, config, stall, receivers: Mutex::default() })
    }

    fn receiver(&self, config: ReceiverConfig) -> Arc<Receiver> {
        Receiver::with_stall(Arc::clone(&self.zfs), self.events.clone(), config, self.stall)
    }

    /// Releases what no receive of any client can need any longer; how many. Warns of what nobody looks
    /// after. One listing, however many clients there are. Receives may go on meanwhile: only holds older
    /// than another one are released.
    ///
    /// # Errors
    /// The listing failed.
    pub async fn clean_and_warn(&self, jobs: &ConfiguredJobs) -> Result<usize, CallError> {
        self.of_all_clients().clean_and_warn(jobs).await
    }

    /// The same without releasing anything: later than at the start, clients may roll back what they have
    /// received, and hold what is older.
    ///
    /// # Errors
    /// The listing failed.
    pub async fn look_and_warn(&self, jobs: &ConfiguredJobs) -> Result<(), CallError> {
        self.of_all_clients().look_and_warn(jobs).await.map(drop)
    }

    fn of_all_clients(&self) -> Arc<Receiver> {
        self.receiver(ReceiverConfig { client: None, ..self.config.clone() })
    }
}

impl Service for Sink {
    fn endpoint_for(&self, client: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError> {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = receivers.get(client) {
            return Ok(Arc::clone(receiver) as Arc<dyn Endpoint>);
        }
        self.config.root.join(&client.component()).map_err(|error| {
            CallError::permanent(format!("client identity {:?} cannot be a dataset: {error}", client.as_str()))
        })?;
        let config = ReceiverConfig { client: Some(client.clone()), ..self.config.clone() };
        let receiver = self.receiver(config);
        if receivers.len() >= REMEMBERED {
            // Whoever has an endpoint got it from here, under this lock.
            receivers.retain(|_, receiver| Arc::strong_count(receiver) > 1);
        }
        receivers.insert(client.clone(), Arc::clone(&receiver));
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use model::{DatasetName, JobName, UnixTime};
    use zfs::fake::FakeHost;

    use super::*;
    use crate::bandwidth::Bandwidth;
    use crate::clock::Clock;

    #[test]
    fn clients_who_have_left_are_forgotten_when_there_are_many() {
        let config = ReceiverConfig {
            job: JobName::parse("sink").unwrap(),
            root: DatasetName::parse("p").unwrap(),
            client: None,
            placeholders: None,
            inherit: Vec::new(),
            set: Vec::new(),
            bandwidth: Bandwidth::unlimited(),
        };
        let zfs = Arc::new(FakeHost::new(1, Arc::new(|| UnixTime(0))).zfs());
        let sink = Sink::new(zfs, Events::new(Clock::system(), Vec::new()), config);
        let endpoint = |name: &str| sink.endpoint_for(&ClientIdentity::parse(name).unwrap()).unwrap();
        let stays = endpoint("stays");
        drop(endpoint("returns"));
        let again = endpoint("returns");
        for number in 0..10_000 {
            drop(endpoint(&format!("passer-by-{number}")));
        }
        assert!(sink.receivers.lock().unwrap().len() <= REMEMBERED);
        for (client, known) in [("stays", &stays), ("returns", &again)] {
            assert!(Arc::ptr_eq(&endpoint(client), known), "two connections of {client} share a receiver");
        }
    }
}
