//! Looks at pools in which what is broken is not in the way of the rest.

use std::collections::BTreeMap;

use futures::future::join_all;
use model::{DatasetName, RetryClass};
use tokio::time::sleep;
use zfs::{Error, ErrorKind, Listing, Scope, Zfs};

use crate::limits::{BACK_OFF_FIRST, LISTINGS_OF_POOL, ROOTS_APART};

/// Trees that could not be looked at, and why.
pub(crate) type Unlisted = BTreeMap<DatasetName, Error>;

/// Lists a scope; if that fails as a whole, what of it can be listed.
///
/// # Errors
/// Nothing can be listed, or there is nothing that could be told apart.
pub(crate) async fn list(zfs: &dyn Zfs, scope: &Scope) -> Result<(Listing, Unlisted), Error> {
    let error = match zfs.list(scope).await {
        Ok(listing) => return Ok((listing, Unlisted::new())),
        Err(error) => error,
    };
    let roots = match scope {
        Scope::Trees(roots) | Scope::Only(roots) => roots.clone(),
        Scope::Everything => match zfs.pools().await {
            Ok(pools) => pools,
            Err(_) => return Err(error),
        },
    };
    let apart = if matches!(scope, Scope::Only(_)) { Scope::Only } else { Scope::Trees };
    let look = |roots: Vec<DatasetName>| async move { zfs.list(&apart(roots)).await };
    let (listings, unlisted) = one_by_one(roots, error, look).await?;
    let mut whole = Listing::default();
    for listing in listings {
        whole.datasets.extend(listing.datasets);
        whole.missing.extend(listing.missing);
        whole.skipped.extend(listing.skipped);
    }
    if *scope == Scope::Everything {
        // Nobody asked for the pool that went away meanwhile.
        whole.missing.clear();
    }
    whole.datasets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((whole, unlisted))
}

/// Looks at each pool by itself, and at each root of a pool that answers and still cannot be looked at;
/// what was seen, and where nothing could be.
///
/// # Errors
/// `error`, which is why all together could not be looked at: nothing can be, or there is one root only.
pub(crate) async fn one_by_one<T, Look>(
    roots: Vec<DatasetName>,
    error: Error,
    look: impl Fn(Vec<DatasetName>) -> Look,
) -> Result<(Vec<T>, Unlisted), Error>
where
    Look: Future<Output = Result<T, Error>>,
{
    if roots.len() < 2 {
        return Err(error);
    }
    let pools = by_pool(roots);
    let is_only = pools.len() == 1;
    let of_pool = |roots: Vec<DatasetName>| async {
        // Of the only pool that is known already.
        let result = if is_only { Err(error.clone()) } else { patiently(&look, &roots).await };
        match result {
            Err(error) if roots.len() > 1 && roots.len() <= ROOTS_APART && !is_of_the_pool(&error.kind) => {
                let mut results = Vec::with_capacity(roots.len());
                // The pool may stop to answer only now, and each that is asked may take minutes to say so.
                let mut dead: Option<Error> = None;
                for root in roots {
                    let result = match &dead {
                        Some(error) => Err(error.clone()),
                        None => look(vec![root.clone()]).await,
                    };
                    dead = result.as_ref().err().filter(|error| is_of_the_pool(&error.kind)).cloned();
                    results.push((vec![root], result));
                }
                results
            }
            result => vec![(roots, result)],
        }
    };
    let (mut seen, mut unseen) = (Vec::new(), Unlisted::new());
    for (roots, result) in join_all(pools.into_iter().map(of_pool)).await.into_iter().flatten() {
        match result {
            Ok(one) => seen.push(one),
            Err(error) => unseen.extend(roots.into_iter().map(|root| (root, error.clone()))),
        }
    }
    if seen.is_empty() { Err(error) } else { Ok((seen, unseen)) }
}

/// Looks again after a pause if that may help: whoever asked gets what others have as a success, and does
/// not ask again soon. What took as long as it may is not waited for twice.
async fn patiently<T, Look>(look: impl Fn(Vec<DatasetName>) -> Look, roots: &[DatasetName]) -> Result<T, Error>
where
    Look: Future<Output = Result<T, Error>>,
{
    let mut pause = BACK_OFF_FIRST;
    for _ in 1..LISTINGS_OF_POOL {
        match look(roots.to_vec()).await {
            Err(error) if may_pass(&error) => sleep(pause).await,
            looked => return looked,
        }
        pause *= 2;
    }
    look(roots.to_vec()).await
}

/// Whether what failed may work a moment later.
fn may_pass(error: &Error) -> bool {
    error.class() == RetryClass::Transient && !matches!(error.kind, ErrorKind::Deadline(_))
}

fn by_pool(mut roots: Vec<DatasetName>) -> Vec<Vec<DatasetName>> {
    // By pool and not by name: `p-x` sorts between `p` and `p/a`.
    roots.sort_by(|a, b| a.pool().cmp(b.pool()).then_with(|| a.cmp(b)));
    roots.chunk_by(|a, b| a.pool() == b.pool()).map(<[DatasetName]>::to_vec).collect()
}

/// Whether an error says that nothing else in the pool will answer either.
fn is_of_the_pool(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Deadline(_) | ErrorKind::PoolSuspended { .. } | ErrorKind::PoolMissing { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::UnixTime;
    use zfs::fake::{Action, FakeHost, FakeZfs, Verb};

    use super::*;

    fn name(text: &str) -> DatasetName {
        DatasetName::parse(text).unwrap()
    }

    /// Pools `p`, `p-x` and `q` with a filesystem `a` and `b` each; what begins with `broken` cannot be seen.
    fn pools(broken: &'static str, kind: ErrorKind) -> FakeZfs {
        let host = FakeHost::new(1, Arc::new(|| UnixTime(0)));
        for pool in ["p", "p-x", "q"] {
            host.create_pool(&name(pool)).unwrap();
            for filesystem in ["a", "b"] {
                host.create_filesystem(&name(&format!("{pool}/{filesystem}"))).unwrap();
            }
        }
        let zfs = host.zfs();
        let (faults, calls) = (zfs.faults().clone(), zfs.faults().clone());
        // The whole fails as well.
        faults.hook(move |point| {
            let first = calls.calls().get(&Verb::List) == Some(&1);
            match point.verb == Verb::List && (first || point.object.starts_with(broken)) {
                true => Action::Fail(kind.clone()),
                false => Action::Proceed,
            }
        });
        zfs
    }

    async fn seen(scope: Scope, broken: &'static str, kind: ErrorKind) -> (Vec<String>, Vec<String>, u64) {
        let zfs = pools(broken, kind);
        let (listing, unlisted) = list(&zfs, &scope).await.unwrap();
        let seen = listing.datasets.iter().map(|dataset| dataset.name.to_string()).collect();
        (seen, unlisted.keys().map(ToString::to_string).collect(), zfs.faults().calls()[&Verb::List])
    }

    fn suspended() -> ErrorKind {
        ErrorKind::PoolSuspended { pool: "p".to_owned() }
    }

    #[tokio::test]
    async fn a_broken_pool_is_left_out_also_of_everything() {
        let others = ["p-x", "p-x/a", "p-x/b", "q", "q/a", "q/b"].map(str::to_owned).to_vec();
        let everything = seen(Scope::Everything, "p", suspended()).await;
        assert_eq!(everything.1, ["p", "p-x"], "their names begin alike");
        let everything = seen(Scope::Everything, "q", suspended()).await;
        assert_eq!((everything.0.len(), everything.1, everything.2), (6, vec!["q".to_owned()], 4));
        let roots = ["p/a", "p/b", "p-x", "q"].map(name).to_vec();
        let (found, unlisted, calls) = seen(Scope::Trees(roots), "p/", suspended()).await;
        assert_eq!((found, calls), (others, 4), "what does not answer is not asked again");
        assert_eq!(unlisted, ["p/a", "p/b"]);
    }

    #[tokio::test]
    async fn a_broken_filesystem_is_left_out_of_a_pool_that_answers() {
        let odd = || ErrorKind::Output { command: "zfs get".to_owned(), problem: "odd".to_owned() };
        let of_one_pool = Scope::Trees(["p/a", "p/b"].map(name).to_vec());
        let (found, unlisted, _) = seen(of_one_pool, "p/a", odd()).await;
        assert_eq!((found, unlisted), (vec!["p/b".to_owned()], vec!["p/a".to_owned()]));
        let of_two = Scope::Only(["p/a", "p/b", "q/a"].map(name).to_vec());
        let (found, unlisted, _) = seen(of_two, "p/a", odd()).await;
        assert_eq!((found, unlisted), (vec!["p/b".to_owned(), "q/a".to_owned()], vec!["p/a".to_owned()]));
    }

    #[tokio::test]
    async fn a_pool_that_dies_meanwhile_is_not_asked_for_each_root() {
        let odd = || Error::new("list", "p", ErrorKind::PermissionDenied);
        let asked = std::cell::RefCell::new(Vec::new());
        let look = |roots: Vec<DatasetName>| {
            asked.borrow_mut().push(roots.iter().map(DatasetName::as_str).collect::<Vec<_>>().join(" "));
            let result = match roots.as_slice() {
                [root] if root.as_str() == "p/b" => Err(Error::new("list", "p/b", suspended())),
                [_] => Ok(()),
                _ => Err(odd()),
            };
            async { result }
        };
        let roots = ["p/a", "p/b", "p/c", "p/d", "q"].map(name).to_vec();
        let (seen, unlisted) = one_by_one(roots, odd(), look).await.unwrap();
        let unlisted: Vec<&str> = unlisted.keys().map(DatasetName::as_str).collect();
        assert_eq!((seen.len(), unlisted), (2, vec!["p/b", "p/c", "p/d"]));
        let mut asked = asked.into_inner();
        asked.sort();
        assert_eq!(asked, ["p/a", "p/a p/b p/c p/d", "p/b", "q"]);
    }

    #[tokio::test]
    async fn what_cannot_be_told_apart_is_an_error() {
        for scope in [Scope::Trees(vec![name("p")]), Scope::Trees(vec![name("p"), name("p-x")])] {
            assert!(list(&pools("p", suspended()), &scope).await.is_err(), "{scope:?}");
        }
        let many: Vec<DatasetName> = (0..=ROOTS_APART).map(|number| name(&format!("p/{number}"))).collect();
        let zfs = pools("p/0", ErrorKind::PermissionDenied);
        assert!(list(&zfs, &Scope::Only(many)).await.is_err());
        assert_eq!(zfs.faults().calls()[&Verb::List], 1);
    }
}
