//! One suite for the model and for real ZFS: what every operation answers, in success and in failure.
//!
//! Cases that zrepl's own platform tests have keep their names; a `Z` with a number is the scenario of
//! that id. Names of datasets and snapshots contain blanks on purpose.

mod datasets;
mod encryption;
mod pools;
mod receive;
mod resolve;
mod send;
mod snapshots;
mod tokens;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::LocalBoxFuture;
use model::view::TokenContents;
use model::{DatasetName, HoldTag, Version, VersionKind, VersionName, VersionRef};
use tokio::io::AsyncReadExt as _;
use zfs::{
    ByteStream, Dataset, Error, ErrorKind, ReceiveArgs, ReceiveTarget, SendArgs, SendFlags, SendSource, Snapshot, Zfs,
};

use crate::backend::{FakeWorld, RealWorld, World};
use crate::case::Case;

/// The body of a case.
pub(crate) type Body = for<'a> fn(&'a Ground<'a>) -> LocalBoxFuture<'a, Result<()>>;

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [
        datasets::CASES,
        snapshots::CASES,
        resolve::CASES,
        send::CASES,
        receive::CASES,
        tokens::CASES,
        encryption::CASES,
        pools::CASES,
    ];
    tables.iter().flat_map(|cases| cases.iter()).flat_map(|(name, body)| both(name, *body)).collect()
}

fn both(name: &str, body: Body) -> [Case; 2] {
    let name = format!("conformance::{name}");
    let fake = Case::fake(name.clone(), move || run(&FakeWorld::new(1)?, body));
    let real = Case::real(name, move |bench| run(&RealWorld::new(bench)?, body));
    [fake, real]
}

/// Runs async code of a case.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

fn run(world: &dyn World, body: Body) -> Result<()> {
    block_on(async { body(&Ground { world }).await })?
}

/// A world with shorthands.
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a dyn World,
}

/// Names a case's function in its table.
#[macro_export]
macro_rules! body {
    ($function:ident) => {
        |ground| Box::pin($function(ground))
    };
}

/// A dataset name that is a literal of the suite.
pub(crate) fn version(text: &str) -> Result<VersionName> {
    VersionName::parse(text).context("a literal")
}

pub(crate) fn tag(text: &str) -> Result<HoldTag> {
    HoldTag::parse(text).context("a literal")
}

/// Bytes that do not compress, equal for equal seeds.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| word().to_le_bytes()).take(len).collect()
}

/// The name of an error's variant.
pub(crate) fn variant(kind: &ErrorKind) -> String {
    format!("{kind:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// The variant of a result: `ok`, or that of its error.
pub(crate) fn outcome<T>(result: &Result<T, Error>) -> String {
    result.as_ref().map_or_else(|error| variant(&error.kind), |_| "ok".into())
}

/// Fails unless the result is an error of this variant that names this object.
#[track_caller]
pub(crate) fn expect<T>(result: Result<T, Error>, expected: &str, object: impl ToString) -> Result<Error> {
    let here = std::panic::Location::caller();
    match result {
        Ok(_) => bail!("{here}: {expected} was expected, but it succeeded"),
        Err(error) if variant(&error.kind) != expected => bail!("{here}: {expected} was expected, got {error:?}"),
        Err(error) if error.object != object.to_string() => {
            bail!("{here}: the error names {:?}, not {:?}", error.object, object.to_string())
        }
        Err(error) => Ok(error),
    }
}

pub(crate) const SMALL: usize = 100_000;
/// Some records long, so that a cut leaves something to resume.
pub(crate) const LARGE: usize = 1_000_000;

impl Ground<'_> {
    pub(crate) fn zfs(&self) -> std::sync::Arc<dyn Zfs> {
        self.world.zfs()
    }

    /// A dataset of the first pool.
    pub(crate) fn src(&self, path: &str) -> Result<DatasetName> {
        self.below(0, path)
    }

    /// A dataset of the second pool.
    pub(crate) fn dst(&self, path: &str) -> Result<DatasetName> {
        self.below(1, path)
    }

    fn below(&self, pool: usize, path: &str) -> Result<DatasetName> {
        let pools = self.world.pools();
        let pool = pools.get(pool).context("there are two")?;
        Ok(DatasetName::parse(&format!("{pool}/{path}"))?)
    }

    /// A new filesystem of the first pool.
    pub(crate) fn fs(&self, path: &str) -> Result<DatasetName> {
        let name = self.src(path)?;
        self.world.create_filesystem(&name)?;
        Ok(name)
    }

    pub(crate) async fn dataset(&self, name: &DatasetName) -> Result<Dataset> {
        Ok(self.zfs().dataset(name).await?)
    }

    pub(crate) async fn versions(&self, name: &DatasetName) -> Result<Vec<String>> {
        Ok(self.dataset(name).await?.versions.iter().map(Version::to_string).collect())
    }

    pub(crate) async fn find(&self, dataset: &DatasetName, kind: VersionKind, name: &str) -> Result<Version> {
        let dataset = self.dataset(dataset).await?;
        let mut versions = dataset.versions.iter();
        let found = versions.find(|version| version.kind == kind && version.name.as_str() == name);
        found.cloned().with_context(|| format!("{}{}{name} is missing", dataset.name, kind.delimiter()))
    }

    /// Takes a snapshot.
    pub(crate) async fn take(&self, dataset: &DatasetName, name: &str) -> Result<VersionRef> {
        let snapshot = Snapshot { dataset: dataset.clone(), name: version(name)? };
        self.zfs().snapshot(&[snapshot]).await.pop().context("one result")??;
        Ok(self.find(dataset, VersionKind::Snapshot, name).await?.to_ref())
    }

    /// Writes a file and takes a snapshot.
    pub(crate) async fn write_take(&self, dataset: &DatasetName, len: usize, name: &str) -> Result<VersionRef> {
        self.world.write_file(dataset, &format!("file {name}"), &noise(name.len() as u64 + len as u64, len))?;
        self.take(dataset, name).await
    }

    /// Bookmarks a snapshot.
    pub(crate) async fn mark(&self, dataset: &DatasetName, source: &VersionRef, name: &str) -> Result<VersionRef> {
        self.zfs().bookmark(dataset, source, &version(name)?).await?;
        Ok(self.find(dataset, VersionKind::Bookmark, name).await?.to_ref())
    }

    pub(crate) async fn hold(&self, text: &str, dataset: &DatasetName, name: &str) -> Result<()> {
        let snapshot = Snapshot { dataset: dataset.clone(), name: version(name)? };
        Ok(self.zfs().hold(&tag(text)?, &[snapshot]).await.pop().context("one result")??)
    }

    pub(crate) async fn destroy(&self, dataset: &DatasetName, name: &str) -> Result<(), Error> {
        let names = version(name).map(|name| vec![name]).unwrap_or_default();
        self.zfs().destroy_snapshots(dataset, &names).await.pop().unwrap_or(Ok(()))
    }

    pub(crate) async fn send(&self, args: &SendArgs) -> Result<ByteStream> {
        Ok(self.zfs().send(args).await?.bytes)
    }

    /// The stream's first bytes only, ending cleanly.
    pub(crate) async fn cut(&self, args: &SendArgs, bytes: u64) -> Result<ByteStream> {
        Ok(Box::pin(self.send(args).await?.take(bytes)))
    }

    pub(crate) async fn receive(&self, args: &ReceiveArgs, stream: ByteStream) -> Result<(), Error> {
        self.zfs().receive(args, stream).await
    }

    pub(crate) async fn transfer(&self, send: &SendArgs, receive: &ReceiveArgs) -> Result<(), Error> {
        let stream = self.zfs().send(send).await?;
        self.receive(receive, stream.bytes).await
    }

    /// A receive that was cut after `bytes`, with the token that it left.
    pub(crate) async fn interrupt(&self, send: &SendArgs, receive: &ReceiveArgs, bytes: u64) -> Result<String> {
        let stream = self.cut(send, bytes).await?;
        let error = expect(self.receive(receive, stream).await, "Interrupted", target(receive))?;
        let token = error.resume_token().context("a token")?.to_owned();
        let listed = self.dataset(&receive.dataset).await?.resume_token;
        ensure!(listed.as_deref() == Some(&token), "the error has {token}, the dataset {listed:?}");
        Ok(token)
    }

    pub(crate) fn same_files(&self, a: &DatasetName, b: &DatasetName) -> Result<()> {
        let (a_files, b_files) = (self.world.files(a)?, self.world.files(b)?);
        let names = |files: &crate::backend::Files| files.keys().cloned().collect::<Vec<_>>();
        ensure!(names(&a_files) == names(&b_files), "{a} has {:?}, {b} has {:?}", names(&a_files), names(&b_files));
        ensure!(a_files == b_files, "files of {a} and {b} have different contents");
        Ok(())
    }
}

pub(crate) fn full(dataset: &DatasetName, to: &VersionRef) -> SendArgs {
    send_args(dataset, None, to, SendFlags::default())
}

pub(crate) fn incremental(dataset: &DatasetName, from: &VersionRef, to: &VersionRef) -> SendArgs {
    send_args(dataset, Some(from), to, SendFlags::default())
}

pub(crate) fn send_args(
    dataset: &DatasetName,
    from: Option<&VersionRef>,
    to: &VersionRef,
    flags: SendFlags,
) -> SendArgs {
    let source = SendSource::Snapshot { from: from.cloned(), to: to.clone(), flags };
    SendArgs { dataset: dataset.clone(), source }
}

pub(crate) fn resume(dataset: &DatasetName, token: &str) -> SendArgs {
    SendArgs { dataset: dataset.clone(), source: SendSource::Resume { token: token.to_owned() } }
}

pub(crate) fn into(dataset: &DatasetName, snapshot: &str) -> Result<ReceiveArgs> {
    Ok(ReceiveArgs {
        dataset: dataset.clone(),
        snapshot: version(snapshot)?,
        target: ReceiveTarget::Continue,
        resumable: true,
        set: Vec::new(),
        inherit: Vec::new(),
        stall_limit: Duration::from_secs(60),
    })
}

pub(crate) fn replacing(dataset: &DatasetName, snapshot: &str) -> Result<ReceiveArgs> {
    Ok(ReceiveArgs { target: ReceiveTarget::Replace, ..into(dataset, snapshot)? })
}

/// What errors of a receive name.
pub(crate) fn target(receive: &ReceiveArgs) -> String {
    receive.dataset.to_string()
}

pub(crate) fn decode(token: &str) -> Result<TokenContents> {
    zfs::token::decode(token).context("decoding a token")
}
