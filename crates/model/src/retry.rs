//! Whether trying again may help.

/// Carried by every error that a retry could concern, also between two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryClass {
    /// Again soon, as it is.
    Transient,
    /// Not before something else changes: a new plan, another snapshot.
    Permanent,
    /// Not before a person does something: space, keys, privileges, a pool to import.
    NeedsPerson,
}
