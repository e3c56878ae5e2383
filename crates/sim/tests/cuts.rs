//! Every cut point of every kind of step, for every kind of protection.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test tells its failure by a panic")]

use model::protection::ProtectionStrategy::{self, Incremental, Nothing, Resumability};
use sim::cuts::{Mischief, Scenario, enumerate, try_cut};

fn cut_everywhere(strategy: ProtectionStrategy) {
    let mut tried = 0;
    let mut failures = Vec::new();
    for scenario in Scenario::ALL {
        let cuts =
            enumerate(scenario, strategy).unwrap_or_else(|failure| panic!("{scenario:?} {strategy:?}: {failure}"));
        let before = tried;
        for (cut, mischief) in cuts.iter().flat_map(|cut| Mischief::ALL.map(|mischief| (cut, mischief))) {
            tried += 1;
            if let Err((failure, trace)) = try_cut(scenario, strategy, cut, mischief, false) {
                failures.push((format!("{scenario:?} {strategy:?} {mischief:?} {cut}: {failure}"), trace));
            }
        }
        println!("{scenario:?} {strategy:?}: {} cuts, {} runs", cuts.len(), tried - before);
    }
    assert!(tried > 1000, "only {tried} cuts");
    for (failure, _) in failures.iter().take(40) {
        println!("{failure}");
    }
    if let Some((failure, trace)) = failures.first() {
        panic!("{} of {tried} cuts fail, the first: {failure}\n{}", failures.len(), trace.join("\n"));
    }
}

#[test]
fn a_step_that_guarantees_resumability_survives_every_cut() {
    cut_everywhere(Resumability);
}

#[test]
fn a_step_that_guarantees_incrementals_survives_every_cut() {
    cut_everywhere(Incremental);
}

#[test]
fn a_step_without_guarantee_recovers_from_every_cut() {
    cut_everywhere(Nothing);
}
