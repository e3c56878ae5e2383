//! What is known of a sink: who sends to it, and what.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::event::{Event, Receiving, What};
use serde::{Serialize, Serializer};

use super::health::Health;
use super::json::optional_time;
use super::{FailedProtections, Listener};

/// A sink.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sink {
    /// A sink takes no snapshots.
    snapper: Option<()>,
    /// Not in zrepl's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    protections: Option<FailedProtections>,
    /// Not in zrepl's report. Those that have sent something since the daemon started.
    #[serde(serialize_with = "as_list")]
    clients: BTreeMap<String, Client>,
    /// Not in zrepl's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<Listener>,
    /// Not in zrepl's report.
    health: Health,
}

/// One that sends. Its name is in front of it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Client {
    /// Snapshots, under the client's names, that are received now.
    receiving: BTreeSet<String>,
    /// How many were received.
    received: u64,
    /// How many receipts failed.
    failed: u64,
    /// The last one that was received.
    last: String,
    #[serde(serialize_with = "optional_time")]
    last_at: Option<Timestamp>,
}

impl Sink {
    pub(super) fn apply(&mut self, event: &Event) {
        FailedProtections::count(&mut self.protections, &event.what);
        Listener::follow(&mut self.listener, &event.what);
        if let What::Stored { below, newest } = &event.what {
            self.health.ages.stored(below, newest);
        }
        let What::Receiving { client, filesystem, snapshot, target, created, what } = &event.what else { return };
        let client = self.clients.entry(client.to_string()).or_default();
        let name = format!("{filesystem}@{snapshot}");
        match what {
            Receiving::Started => {
                client.receiving.insert(name);
            }
            Receiving::Finished => {
                client.receiving.remove(&name);
                client.received += 1;
                (client.last, client.last_at) = (name, Some(event.at));
                self.health.ages.arrived(target, *created);
                self.health.succeeded(event.at);
            }
            Receiving::Failed(_) => {
                client.receiving.remove(&name);
                client.failed += 1;
            }
        }
    }
}

fn as_list<S: Serializer>(clients: &BTreeMap<String, Client>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Named<'a> {
        #[serde(rename = "Name")]
        name: &'a str,
        #[serde(flatten)]
        client: &'a Client,
    }
    serializer.collect_seq(clients.iter().map(|(name, client)| Named { name, client }))
}

#[cfg(test)]
mod tests {
    use model::{ClientIdentity, DatasetName, JobName, VersionName};
    use serde_json::json;

    use super::*;

    #[test]
    fn each_client_of_a_sink_is_there_with_what_it_sends() {
        let mut sink = Sink::default();
        let mut tell = |client: &str, snapshot: &str, what| {
            sink.apply(&Event {
                at: Timestamp::from_second(1_700_000_000).unwrap(),
                job: Some(JobName::parse("sink").unwrap()),
                about: model::event::About::Nothing,
                what: What::Receiving {
                    client: ClientIdentity::parse(client).unwrap(),
                    filesystem: DatasetName::parse("p/a").unwrap(),
                    snapshot: VersionName::parse(snapshot).unwrap(),
                    target: DatasetName::parse(&format!("q/{client}/p/a")).unwrap(),
                    created: model::UnixTime(1_600_000_000),
                    what,
                },
            });
        };
        tell("a", "s1", Receiving::Started);
        tell("b", "s1", Receiving::Started);
        tell("b", "s1", Receiving::Failed(None));
        tell("a", "s1", Receiving::Finished);
        tell("a", "s2", Receiving::Started);
        assert_eq!(
            serde_json::to_value(&sink).unwrap(),
            json!({"Snapper": null, "Clients": [
                {"Name": "a", "Receiving": ["p/a@s2"], "Received": 1, "Failed": 0, "Last": "p/a@s1",
                 "LastAt": "2023-11-14T22:13:20Z"},
                {"Name": "b", "Receiving": [], "Received": 0, "Failed": 1, "Last": "", "LastAt": "0001-01-01T00:00:00Z"},
            ], "Health": {
                "LastSuccess": "2023-11-14T22:13:20Z", "NextRun": "0001-01-01T00:00:00Z", "IntervalSeconds": null,
                "Cron": null, "Filesystems": [
                    {"Name": "q/a/p/a", "Newest": "0001-01-01T00:00:00Z", "Replicated": "2020-09-13T12:26:40Z"}]}})
        );
    }
}
