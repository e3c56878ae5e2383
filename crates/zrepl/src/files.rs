//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a daemon wants: all connections of several listeners, each with the pipes of its children. Not all
/// that may be allowed, which is a billion in some containers: children get the limit too, and there are
/// programs that close every file up to it when they start.
const WANTED: u64 = 65_536;

/// Raises the limit, which is 1024 on most systems unless somebody has raised it, as far as that is allowed.
///
/// Children keep it: without unsafe code it could only be lowered in a child that already runs. What they
/// inherit is three open files.
///
/// # Errors
/// The system refuses. The limit is as it was.
pub(crate) fn raise_limit() -> std::io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match higher(current, maximum) {
        Some(limit) => Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum })?),
        None => Ok(()),
    }
}

/// The limit to set, if that is more than the current one. None stands for infinity, in limits.
fn higher(current: Option<u64>, maximum: Option<u64>) -> Option<u64> {
    let limit = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    current.is_some_and(|current| current < limit).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_it_may_be_and_never_lowered() {
        assert_eq!(higher(Some(1024), Some(4096)), Some(4096));
        assert_eq!(higher(Some(1024), Some(1 << 20)), Some(WANTED));
        assert_eq!(higher(Some(1024), None), Some(WANTED));
        for enough in [(Some(4096), Some(4096)), (Some(1 << 20), Some(1 << 20)), (None, None)] {
            assert_eq!(higher(enough.0, enough.1), None, "{enough:?}");
        }
    }
}
