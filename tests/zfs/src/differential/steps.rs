//! One side of a comparison: does the steps, and tells its state without the numbers of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::{DatasetName, Guid, HoldTag, PropertyName, Version, VersionName, VersionRef};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use zfs::{
    Dataset, Error, Hold, ItemResult, ReceiveArgs, ReceiveTarget, Scope, SendArgs, SendFlags, SendSource, Snapshot,
};

use super::history::{Cut, DATASETS, Step};
use crate::backend::World;
use crate::conformance::{decode, noise, outcome, variant};

pub(super) struct Side<'a> {
    world: &'a dyn World,
    /// Three of each pool; the second of each is below the first.
    datasets: Vec<DatasetName>,
    /// Guids in the order in which they were first seen.
    guids: BTreeMap<Guid, usize>,
}

impl<'a> Side<'a> {
    pub(super) fn new(world: &'a dyn World) -> Result<Self> {
        let mut datasets = Vec::new();
        for pool in world.pools() {
            for path in ["a b", "a b/c", "d"] {
                datasets.push(DatasetName::parse(&format!("{pool}/{path}"))?);
            }
        }
        assert_eq!(datasets.len(), DATASETS);
        Ok(Self { world, datasets, guids: BTreeMap::new() })
    }

    fn name(&self, dataset: usize) -> Result<DatasetName> {
        self.datasets.get(dataset).cloned().context("there are so many")
    }

    async fn dataset(&self, name: &DatasetName) -> Option<Dataset> {
        self.world.zfs().dataset(name).await.ok()
    }

    /// Whether the dataset's files can be touched: it is there, and not the state of a receive.
    async fn is_usable(&self, name: &DatasetName) -> bool {
        self.dataset(name).await.is_some_and(|dataset| is_whole(&dataset))
    }

    /// Does a step; a short text says how it ended.
    pub(super) async fn act(&mut self, step: &Step) -> Result<String> {
        Ok(match step {
            Step::Create { dataset } => worked(&self.world.create_filesystem(&self.name(*dataset)?)),
            Step::Write { dataset, file, size, seed } => {
                let name = self.name(*dataset)?;
                if !self.is_usable(&name).await {
                    return Ok("skipped".into());
                }
                worked(&self.world.write_file(&name, &format!("file {file}"), &noise(*seed, *size)))
            }
            Step::Remove { dataset, file } => {
                let name = self.name(*dataset)?;
                let file = format!("file {file}");
                // Removing what is not there is no change for ZFS.
                let there = self.is_usable(&name).await && self.world.files(&name).is_ok_and(|f| f.contains_key(&file));
                if !there {
                    return Ok("skipped".into());
                }
                worked(&self.world.remove_file(&name, &file))
            }
            Step::Clone { dataset, snapshot, number } => {
                let snapshot = self.snapshot(*dataset, *snapshot)?;
                let clone = DatasetName::parse(&format!("{}/clone {number}", snapshot.dataset.pool()))?;
                worked(&self.world.clone_snapshot(&snapshot, &clone))
            }
            Step::Rollback { dataset, snapshot } => {
                let snapshot = self.snapshot(*dataset, *snapshot)?;
                // A rollback below a partial receive, or with clones, asks more than zrepl ever does.
                let partial = self.dataset(&snapshot.dataset).await.is_some_and(|found| found.resume_token.is_some());
                if partial { "skipped".into() } else { worked(&self.world.rollback(&snapshot)) }
            }
            Step::Transfer { .. } | Step::Resume { .. } => self.stream(step).await?,
            other => self.call(other).await?,
        })
    }

    fn snapshot(&self, dataset: usize, name: u8) -> Result<Snapshot> {
        Ok(Snapshot { dataset: self.name(dataset)?, name: snapshot_name(name)? })
    }

    /// The steps that are calls of the trait.
    async fn call(&mut self, step: &Step) -> Result<String> {
        let zfs = self.world.zfs();
        Ok(match step {
            Step::Snapshot { dataset, name } => outcomes(&zfs.snapshot(&[self.snapshot(*dataset, *name)?]).await),
            Step::Bookmark { dataset, version, name } => {
                let name = VersionName::parse(&format!("mark {name}"))?;
                let dataset = self.name(*dataset)?;
                let Some(found) = self.dataset(&dataset).await else { return Ok("skipped".into()) };
                let Some(version) = pick(&found.versions, *version) else { return Ok("skipped".into()) };
                outcome(&zfs.bookmark(&dataset, &version, &name).await)
            }
            Step::Hold { dataset, snapshot, tag } => {
                outcomes(&zfs.hold(&hold_tag(*tag)?, &[self.snapshot(*dataset, *snapshot)?]).await)
            }
            Step::Release { dataset, snapshot, tag } => {
                outcomes(&zfs.release(&hold_tag(*tag)?, &[self.snapshot(*dataset, *snapshot)?]).await)
            }
            Step::Destroy { dataset, snapshots } => {
                let names = snapshots.iter().map(|name| snapshot_name(*name)).collect::<Result<Vec<_>>>()?;
                outcomes(&zfs.destroy_snapshots(&self.name(*dataset)?, &names).await)
            }
            Step::DestroyBookmark { dataset, name } => {
                let name = VersionName::parse(&format!("mark {name}"))?;
                outcome(&zfs.destroy_bookmark(&self.name(*dataset)?, &name).await)
            }
            Step::DestroyDataset { dataset } => outcome(&zfs.destroy_dataset(&self.name(*dataset)?).await),
            Step::SetProperty { dataset, value } => {
                outcome(&zfs.set_property(&self.name(*dataset)?, "t:property", &format!("value {value}")).await)
            }
            Step::Abort { dataset } => outcome(&zfs.abort_receive(&self.name(*dataset)?).await),
            _ => "not a call".into(),
        })
    }

    async fn stream(&mut self, step: &Step) -> Result<String> {
        let (send, receive, cut) = match step {
            Step::Transfer { dataset, from, to, target, name, force, resumable, properties, cut } => {
                let dataset = self.name(*dataset)?;
                let Some(found) = self.dataset(&dataset).await else { return Ok("skipped".into()) };
                let snapshots: Vec<Version> = found.versions.iter().filter(|v| v.is_snapshot()).cloned().collect();
                let Some(to) = pick(&snapshots, *to) else { return Ok("skipped".into()) };
                // The number after the last version stands for a full stream.
                let from = found.versions.get(from % (found.versions.len() + 1)).map(Version::to_ref);
                let flags = SendFlags { properties: *properties, ..SendFlags::default() };
                let source = SendSource::Snapshot { from, to, flags };
                let receive = receive_args(&self.name(*target)?, *name, *force, *resumable)?;
                (SendArgs { dataset, source }, receive, *cut)
            }
            Step::Resume { target, into, name, force, cut } => {
                let target = self.name(*target)?;
                let token = self.dataset(&target).await.and_then(|dataset| dataset.resume_token);
                let Some(token) = token else { return Ok("skipped".into()) };
                let receive = receive_args(&self.name(*into)?, *name, *force, true)?;
                (SendArgs { dataset: target, source: SendSource::Resume { token } }, receive, *cut)
            }
            _ => return Ok("no stream".into()),
        };
        Ok(self.transfer(&send, &receive, cut).await)
    }

    async fn transfer(&self, send: &SendArgs, receive: &ReceiveArgs, cut: Option<Cut>) -> String {
        let stream = match self.world.zfs().send(send).await {
            Ok(stream) => stream,
            Err(error) => return format!("send: {}", variant(&error.kind)),
        };
        let bytes: zfs::ByteStream = match cut {
            Some(Cut::Bytes(bytes)) => Box::pin(stream.bytes.take(bytes)),
            Some(Cut::Share(thousandths)) => match share(stream.bytes, thousandths).await {
                Ok(part) => Box::pin(std::io::Cursor::new(part)),
                Err(problem) => return format!("send: {problem}"),
            },
            None => stream.bytes,
        };
        let result = self.world.zfs().receive(receive, bytes).await;
        result.map_or_else(
            |error: Error| format!("receive: {} {}", variant(&error.kind), error.resume_token().is_some()),
            |()| "received".into(),
        )
    }

    /// Everything that can be seen, with the guids numbered in order of appearance.
    pub(super) async fn state(&mut self) -> Result<String> {
        let pools = self.world.pools().to_vec();
        let mut datasets = self.world.zfs().list(&Scope::Trees(pools.clone())).await?.datasets;
        datasets.sort_by(|a, b| a.name.cmp(&b.name));
        // Pools are named differently on both sides, but sorted by role.
        datasets.sort_by_key(|dataset| pools.iter().position(|pool| dataset.name.is_within(pool)));
        let names: Vec<DatasetName> = datasets.iter().map(|dataset| dataset.name.clone()).collect();
        let seen = Seen {
            properties: self.world.properties(&names, "t:property")?,
            holds: self.world.zfs().holds(&held(&datasets)).await?,
        };
        let mut text = String::new();
        for dataset in &datasets {
            let role = pools.iter().position(|pool| dataset.name.is_within(pool)).unwrap_or_default();
            let path: Vec<&str> = dataset.name.components().skip(1).collect();
            writeln!(text, "{role}/{} {:?} {:?}", path.join("/"), dataset.kind, dataset.placeholder)?;
            self.describe(dataset, &seen, &mut text)?;
        }
        Ok(text)
    }

    fn describe(&mut self, dataset: &Dataset, seen: &Seen, text: &mut String) -> Result<()> {
        let mut versions: Vec<&Version> = dataset.versions.iter().collect();
        // Versions of one transaction group have no order among them but by kind.
        versions.sort_by(|a, b| a.order().cmp(&b.order()).then(a.name.cmp(&b.name)));
        for version in &versions {
            let holds = seen.tags(&dataset.name, version);
            let guid = self.number(version.guid);
            writeln!(text, "  {version} guid {guid} holds {holds:?} refs {}", version.userrefs)?;
        }
        if let Some(token) = &dataset.resume_token {
            let contents = decode(token)?;
            let from = contents.from.map(|guid| self.number(guid));
            writeln!(text, "  partial {from:?} to {} {:?}", self.number(contents.to), contents.flags)?;
        }
        writeln!(text, "  property {:?}", seen.properties.get(&dataset.name))?;
        if is_whole(dataset) {
            for (name, bytes) in self.world.files(&dataset.name)? {
                writeln!(text, "  {name} {} bytes {}", bytes.len(), sum(&bytes))?;
            }
        }
        Ok(())
    }

    fn number(&mut self, guid: Guid) -> usize {
        let next = self.guids.len();
        *self.guids.entry(guid).or_insert(next)
    }
}

/// The first part of a stream.
async fn share(mut stream: zfs::ByteStream, thousandths: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    bytes.truncate(usize::try_from(bytes.len() as u64 * thousandths / 1000).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// What is asked for all datasets at once.
struct Seen {
    properties: BTreeMap<DatasetName, String>,
    holds: Vec<Hold>,
}

impl Seen {
    fn tags(&self, dataset: &DatasetName, version: &Version) -> Vec<&str> {
        let here = self.holds.iter().filter(|hold| hold.dataset == *dataset && hold.snapshot == version.name);
        let mut tags: Vec<&str> = here.filter(|_| version.is_snapshot()).map(|hold| hold.tag.as_str()).collect();
        tags.sort_unstable();
        tags
    }
}

fn held(datasets: &[Dataset]) -> Vec<Snapshot> {
    let of = |dataset: &Dataset| {
        let held = dataset.versions.iter().filter(|version| version.userrefs > 0);
        held.map(|version| Snapshot { dataset: dataset.name.clone(), name: version.name.clone() }).collect::<Vec<_>>()
    };
    datasets.iter().flat_map(of).collect()
}

/// Whether a dataset has files of its own: it is not only the state of a receive.
fn is_whole(dataset: &Dataset) -> bool {
    dataset.resume_token.is_none() || !dataset.versions.is_empty()
}

fn worked<T>(result: &Result<T>) -> String {
    if result.is_ok() { "ok".into() } else { "refused".into() }
}

fn outcomes(results: &[ItemResult]) -> String {
    results.iter().map(outcome).collect::<Vec<_>>().join(" ")
}

fn pick(versions: &[Version], number: usize) -> Option<VersionRef> {
    versions.get(number.checked_rem(versions.len())?).map(Version::to_ref)
}

fn snapshot_name(number: u8) -> Result<VersionName> {
    Ok(VersionName::parse(&format!("snap {number}"))?)
}

fn hold_tag(number: u8) -> Result<HoldTag> {
    Ok(HoldTag::parse(&format!("tag {number}"))?)
}

fn receive_args(dataset: &DatasetName, name: u8, force: bool, resumable: bool) -> Result<ReceiveArgs> {
    Ok(ReceiveArgs {
        dataset: dataset.clone(),
        snapshot: snapshot_name(name)?,
        target: if force { ReceiveTarget::Replace } else { ReceiveTarget::Continue },
        resumable,
        set: Vec::new(),
        inherit: vec![PropertyName::parse("mountpoint")?],
        stall_limit: Duration::from_secs(60),
    })
}

/// Tells contents apart in a report.
fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
