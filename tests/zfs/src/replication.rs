//! What replication does to real pools, and to the model alike: the engine and both endpoints as the
//! daemon runs them, in one process.
//!
//! Cases that zrepl's own platform tests have keep their names; `E`, `R` and `Z` with a number are the
//! scenarios of that id. Names of datasets, snapshots and jobs contain blanks on purpose.

mod conflicts;
mod encryption;
pub(crate) mod faults;
mod initial;
pub(crate) mod killed;
mod options;
mod order;
mod placeholders;
mod policies;
mod processes;
mod protection;
mod resume;
pub(crate) mod rig;
mod send_args;
mod undermined;
mod zrepl;

use crate::case::Case;

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    let tables = [
        initial::CASES,
        protection::CASES,
        resume::CASES,
        placeholders::CASES,
        send_args::CASES,
        conflicts::CASES,
        policies::CASES,
        encryption::CASES,
        options::CASES,
        order::CASES,
        processes::CASES,
        undermined::CASES,
        zrepl::CASES,
        killed::CASES,
    ];
    let mut cases = rig::cases("replication", &tables);
    cases.extend(send_args::encryption_and_raw());
    cases.push(send_args::without_encryption());
    cases.push(killed::daemon_case());
    cases
}
