//! Listings in which a broken pool is not in the way of the others.

use std::collections::BTreeMap;

use futures::future::join_all;
use model::{DatasetName, RetryClass};
use tokio::time::sleep;
use zfs::{Error, ErrorKind, Listing, Scope, Zfs};

use crate::limits::{BACK_OFF_FIRST, LISTINGS_OF_POOL};

/// Lists a scope, each pool by itself if the whole cannot be listed; what could not be listed is named
/// with the reason.
///
/// # Errors
/// Nothing can be listed.
pub(crate) async fn list(zfs: &dyn Zfs, scope: &Scope) -> Result<(Listing, BTreeMap<DatasetName, String>), Error> {
    let error = match zfs.list(scope).await {
        Ok(listing) => return Ok((listing, BTreeMap::new())),
        Err(error) => error,
    };
    let (of_pool, names): (fn(Vec<DatasetName>) -> Scope, _) = match scope {
        Scope::Everything => return Err(error),
        Scope::Trees(names) => (Scope::Trees, names),
        Scope::Only(names) => (Scope::Only, names),
    };
    let mut pools: BTreeMap<&str, Vec<DatasetName>> = BTreeMap::new();
    for name in names {
        pools.entry(name.pool()).or_default().push(name.clone());
    }
    if pools.len() < 2 {
        return Err(error);
    }
    let list = |names: Vec<DatasetName>| async {
        let result = list_patiently(zfs, &of_pool(names.clone())).await;
        (names, result)
    };
    let (mut whole, mut unlisted) = (Listing::default(), BTreeMap::new());
    let mut any = false;
    for (names, result) in join_all(pools.into_values().map(list)).await {
        match result {
            Ok(listing) => {
                any = true;
                whole.datasets.extend(listing.datasets);
                whole.missing.extend(listing.missing);
                whole.skipped.extend(listing.skipped);
            }
            Err(error) => unlisted.extend(names.into_iter().map(|name| (name, error.kind.to_string()))),
        }
    }
    whole.datasets.sort_by(|a, b| a.name.cmp(&b.name));
    if any { Ok((whole, unlisted)) } else { Err(error) }
}

/// Lists one pool's, again after a pause if that may help: whoever asked gets the other pools' as a
/// success, and does not ask again soon. What took as long as it may is not waited for twice.
async fn list_patiently(zfs: &dyn Zfs, scope: &Scope) -> Result<Listing, Error> {
    let mut pause = BACK_OFF_FIRST;
    for _ in 1..LISTINGS_OF_POOL {
        match zfs.list(scope).await {
            Err(error) if may_pass(&error) => sleep(pause).await,
            listed => return listed,
        }
        pause *= 2;
    }
    zfs.list(scope).await
}

/// Whether a listing that failed may work a moment later.
fn may_pass(error: &Error) -> bool {
    error.class() == RetryClass::Transient && !matches!(error.kind, ErrorKind::Deadline(_))
}
