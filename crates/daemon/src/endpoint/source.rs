//! A source's one sender, as each of its clients sees it.
//!
//! All clients share the cursors and holds of the job, which are made for one client: a step of one
//! replaces what protects the base of another. Several clients of one filesystem are therefore told
//! about, and as long as the daemon runs no client destroys what another is known to need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use model::event::What;
use model::view::View;
use model::{ClientIdentity, DatasetName, Guid, VersionRef};
use tokio_util::sync::CancellationToken;
use wire::{
    ByteStream, CallError, DestroyOutcome, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, SendReply,
    SendRequest, Service,
};

use super::sender::Sender;
use crate::events::Events;

/// How many clients of one filesystem are known. Whose step is longest ago is forgotten, as everybody is when
/// the daemon restarts; so whoever has many identities does not fill the memory.
const CLIENTS: usize = 64;

/// The service of a source.
pub struct Source(Arc<Shared>);

struct Shared {
    sender: Arc<Sender>,
    events: Events,
    /// Cancelled once the job's stale protections are gone.
    cleaned: CancellationToken,
    clients: Mutex<Clients>,
}

/// What the clients need, since the daemon started.
#[derive(Default)]
struct Clients {
    needs: HashMap<DatasetName, BTreeMap<ClientIdentity, Needs>>,
    /// Who is known to share filesystems with others.
    told: BTreeSet<ClientIdentity>,
    /// How often something was noted.
    notes: u64,
}

/// What a client needs of a filesystem.
#[derive(Default)]
struct Needs {
    /// The newest version that it is known to have.
    base: Option<Guid>,
    /// The ends of the step that it began last and has not completed.
    step: Vec<Guid>,
    /// Which note was the last about this.
    noted: u64,
}

impl Source {
    /// Serves what `sender` sends; steps begin when `cleaned` is cancelled.
    pub fn new(sender: Arc<Sender>, events: Events, cleaned: CancellationToken) -> Arc<Self> {
        Arc::new(Self(Arc::new(Shared { sender, events, cleaned, clients: Mutex::default() })))
    }
}

impl Service for Source {
    fn endpoint_for(&self, client: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError> {
        Ok(Arc::new(Client { name: client.clone(), source: Arc::clone(&self.0) }))
    }
}

/// The source for one client.
struct Client {
    name: ClientIdentity,
    source: Arc<Shared>,
}

impl Clients {
    /// Notes what a client needs; another client of the same filesystem, the first time.
    fn note(
        &mut self,
        filesystem: &DatasetName,
        client: &ClientIdentity,
        change: impl FnOnce(&mut Needs),
    ) -> Option<ClientIdentity> {
        self.notes += 1;
        let all = self.needs.entry(filesystem.clone()).or_default();
        let needs = all.entry(client.clone()).or_default();
        change(needs);
        needs.noted = self.notes;
        if all.len() > CLIENTS
            && let Some(oldest) = all
                .iter()
                .min_by_key(|(_, needs)| (!needs.step.is_empty(), needs.noted))
                .map(|(oldest, _)| oldest.clone())
        {
            all.remove(&oldest);
            self.told.remove(&oldest);
        }
        let other = all.keys().find(|other| *other != client)?.clone();
        self.told.insert(client.clone()).then_some(other)
    }

    /// Who else needs a snapshot.
    fn needed_by(&self, filesystem: &DatasetName, client: &ClientIdentity, guid: Guid) -> Option<&ClientIdentity> {
        let mut others = self.needs.get(filesystem)?.iter().filter(|(other, _)| *other != client);
        others.find(|(_, needs)| needs.base == Some(guid) || needs.step.contains(&guid)).map(|(other, _)| other)
    }
}

impl Client {
    fn note(&self, filesystem: &DatasetName, change: impl FnOnce(&mut Needs)) {
        let other = self.clients(|clients| clients.note(filesystem, &self.name, change));
        if let Some(other) = other {
            self.source.events.tell_of(filesystem, What::Warning {
                subsystem: "endpoint",
                message: format!(
                    "clients {:?} and {:?} both replicate {filesystem}: they share one replication cursor, which protects the base of one of them only (give each client a source job of its own)",
                    other.as_str(),
                    self.name.as_str()
                ),
            });
        }
    }

    fn clients<T>(&self, act: impl FnOnce(&mut Clients) -> T) -> T {
        act(&mut self.source.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why a snapshot is not destroyed for this client.
    fn needed_by_other(&self, filesystem: &DatasetName, snapshot: &VersionRef) -> Option<String> {
        self.clients(|clients| {
            let other = clients.needed_by(filesystem, &self.name, snapshot.guid)?;
            Some(format!("client {:?} of the same source still needs it", other.as_str()))
        })
    }
}

#[async_trait]
impl Endpoint for Client {
    async fn list(&self) -> Result<View, CallError> {
        let view = self.source.sender.list().await?;
        // What is gone needs nothing, and must not pile up. What cannot be seen is not gone.
        let stays = |name: &DatasetName| view.filesystems.contains_key(name) || !view.tells_of(name);
        self.clients(|clients| clients.needs.retain(|name, _| stays(name)));
        Ok(view)
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        self.source.sender.list_some(filesystems).await
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        self.source.cleaned.cancelled().await;
        let reply = self.source.sender.send(request).await?;
        let ends = request.from.iter().chain([&request.to]).map(|version| version.guid).collect();
        self.note(&request.filesystem, |needs| needs.step = ends);
        Ok(reply)
    }

    async fn estimate(&self, request: &SendRequest) -> Result<Option<u64>, CallError> {
        self.source.sender.estimate(request).await
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.source.sender.receive(request, stream).await
    }

    async fn receive_announced(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.source.sender.receive_announced(request, stream).await
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        self.source.sender.send_completed(request).await?;
        self.note(&request.filesystem, |needs| (needs.base, needs.step) = (Some(request.to.guid), Vec::new()));
        Ok(())
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.source.sender.confirm_received(request).await
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let decide = |request: &DestroyRequest| -> Vec<Option<String>> {
            request.snapshots.iter().map(|snapshot| self.needed_by_other(&request.filesystem, snapshot)).collect()
        };
        let needed: Vec<_> = requests.iter().map(decide).collect();
        let free = std::iter::zip(requests, &needed).map(|(request, needed)| {
            let snapshots = std::iter::zip(&request.snapshots, needed).filter(|(_, needed)| needed.is_none());
            let snapshots = snapshots.map(|(snapshot, _)| snapshot.clone()).collect();
            DestroyRequest { filesystem: request.filesystem.clone(), snapshots }
        });
        let mut results = self.source.sender.destroy_snapshots(&free.collect::<Vec<_>>()).await?;
        for ((request, needed), result) in requests.iter().zip(needed).zip(&mut results) {
            let mut done = std::mem::take(&mut result.results).into_iter();
            let outcomes = std::iter::zip(&request.snapshots, needed).filter_map(|(snapshot, needed)| match needed {
                Some(why) => Some((snapshot.name.clone(), DestroyOutcome::Kept(why))),
                None => done.next(),
            });
            result.results = outcomes.collect();
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_clients_the_one_whose_step_is_longest_ago_is_forgotten() {
        let filesystem = DatasetName::parse("p/a").unwrap();
        let client = |number: u64| ClientIdentity::parse(&format!("c{number}")).unwrap();
        let mut clients = Clients::default();
        for number in 0..10_000 {
            clients.note(&filesystem, &client(number), |needs| needs.base = Some(Guid(number)));
            // One that comes again and again.
            clients.note(&filesystem, &client(0), |needs| needs.base = Some(Guid(0)));
        }
        assert_eq!(clients.needs.values().map(BTreeMap::len).sum::<usize>(), CLIENTS);
        assert!(clients.told.len() <= CLIENTS);
        let needed = |number| clients.needed_by(&filesystem, &client(20_000), Guid(number)).is_some();
        assert!(needed(0) && needed(9_999) && !needed(1));
    }
}
