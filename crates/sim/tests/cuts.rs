//! Every cut point of every kind of step, for every kind of protection.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test tells its failure by a panic")]

use model::protection::ProtectionStrategy::{self, Incremental, Nothing, Resumability};
use sim::cuts::{Case, Mischief, Scenario, enumerate, try_cut};
use sim::world::Direction;

fn cut_everywhere(strategy: ProtectionStrategy) {
    let mut tried = 0;
    let mut failures = Vec::new();
    let cases = Direction::BOTH
        .into_iter()
        .flat_map(|direction| Scenario::ALL.into_iter().map(move |scenario| Case { scenario, strategy, direction }));
    for case in cases {
        let cuts = enumerate(case).unwrap_or_else(|failure| panic!("{case:?}: {failure}"));
        let before = tried;
        let mischiefs = Mischief::after(case.direction);
        for (cut, mischief) in cuts.iter().flat_map(|cut| mischiefs.iter().map(move |mischief| (cut, *mischief))) {
            tried += 1;
            if let Err((failure, trace)) = try_cut(case, cut, mischief, false) {
                failures.push((format!("{case:?} {mischief:?} {cut}: {failure}"), trace));
            }
        }
        println!("{case:?}: {} cuts, {} runs", cuts.len(), tried - before);
    }
    assert!(tried > 5000, "only {tried} cuts");
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
