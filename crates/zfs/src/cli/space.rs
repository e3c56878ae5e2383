//! How much the words of one command may take.
//!
//! The kernel has the last word: a command that it refuses is cut into halves. A good estimate saves
//! the refusals, and a generous one keeps together what belongs together, above all the snapshots of
//! one instant.

use rustix::process::{Resource, getrlimit};

/// Room for the words of one command. What it cannot take is spread over several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgumentSpace {
    /// All words together, in bytes: text, terminator and pointer of each.
    pub total: usize,
    /// The longest single word, in bytes, with its terminator.
    pub one: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What else is in the same area: the program's path twice, what is added to the environment, the
/// kernel's own strings.
const RESERVED: usize = 4 * KIB;

/// Linux limits the area to a quarter of the stack limit, and that to the usual stack of 8 MiB.
const LINUX_MOST: usize = 6 * MIB;

/// What Linux allows however small the stack limit is.
const LINUX_LEAST: usize = 128 * KIB;

/// Linux takes no longer word (`MAX_ARG_STRLEN`, 32 pages).
const LINUX_ONE: usize = 128 * KIB;

/// `ARG_MAX` of FreeBSD is fixed when its kernel is built.
const FREEBSD: usize = 512 * KIB;

/// For other systems: below what any of them is known to have.
const ELSEWHERE: usize = 256 * KIB;

impl ArgumentSpace {
    /// What this process can give its children now. Both the stack limit and the environment count,
    /// which children inherit.
    pub fn of_this_process() -> Self {
        let environment = environment(std::env::vars_os().map(|(name, value)| (name.len(), value.len())));
        if cfg!(target_os = "linux") {
            Self::linux(getrlimit(Resource::Stack).current, environment)
        } else {
            let area = if cfg!(target_os = "freebsd") { FREEBSD } else { ELSEWHERE };
            Self::fixed(area, environment)
        }
    }

    /// `stack` is the soft limit in bytes, none if there is no limit.
    fn linux(stack: Option<u64>, environment: usize) -> Self {
        let quarter = stack.and_then(|bytes| usize::try_from(bytes / 4).ok()).unwrap_or(usize::MAX);
        let whole = Self::fixed(quarter.clamp(LINUX_LEAST, LINUX_MOST), environment);
        Self { one: whole.one.min(LINUX_ONE), ..whole }
    }

    fn fixed(area: usize, environment: usize) -> Self {
        let total = area.saturating_sub(environment + RESERVED);
        Self { total, one: total }
    }
}

/// What variables take, given the lengths of their names and values: `NAME=VALUE`, terminator, pointer.
fn environment(variables: impl Iterator<Item = (usize, usize)>) -> usize {
    variables.map(|(name, value)| name + value + 2 + size_of::<usize>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_stack_limit_less_the_environment() {
        let total = |stack, environment| ArgumentSpace::linux(stack, environment).total;
        let mib = |n: u64| Some(n * 1024 * 1024);
        assert_eq!(total(mib(8), 0), 2 * MIB - RESERVED);
        assert_eq!(total(mib(8), 100_000), 2 * MIB - RESERVED - 100_000);
        assert_eq!(total(mib(4), 0), MIB - RESERVED);
        assert_eq!(total(mib(64), 0), LINUX_MOST - RESERVED, "not more than the kernel allows");
        assert_eq!(total(None, 0), LINUX_MOST - RESERVED, "no limit is not endless");
        assert_eq!(total(Some(4096), 0), LINUX_LEAST - RESERVED, "a small stack is not counted");
        assert_eq!(total(mib(8), usize::MAX / 2), 0, "an environment that leaves nothing");
    }

    #[test]
    fn one_word_is_limited_where_the_system_does() {
        assert_eq!(ArgumentSpace::linux(Some(8 << 20), 0).one, LINUX_ONE);
        assert_eq!(ArgumentSpace::linux(Some(4096), 0).one, LINUX_LEAST - RESERVED);
        let freebsd = ArgumentSpace::fixed(FREEBSD, 10_000);
        assert_eq!((freebsd.total, freebsd.one), (FREEBSD - RESERVED - 10_000, FREEBSD - RESERVED - 10_000));
    }

    #[test]
    fn the_environment_counts_with_its_pointers() {
        assert_eq!(environment([(4, 10), (1, 0)].into_iter()), 14 + 1 + 2 * (2 + size_of::<usize>()));
        assert_eq!(environment(std::iter::empty()), 0);
    }
}
