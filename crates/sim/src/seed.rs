//! A number is a world.

use crate::{campaign, chaos};

pub use crate::chaos::{Failed, Rest};

/// One world out of so many has whole daemons: it takes several times as long as one without.
const FLEET_EVERY: u64 = 4;

/// Whether whole daemons run in the world of a seed.
pub fn has_fleet(seed: u64) -> bool {
    seed % FLEET_EVERY == FLEET_EVERY - 1
}

/// Runs the world of a seed.
///
/// # Errors
/// Something unsafe happened, or it did not come to rest.
pub fn run_seed(seed: u64, print: bool) -> Result<Rest, Box<Failed>> {
    if has_fleet(seed) { campaign::run(seed, print) } else { chaos::run(seed, print) }
}
