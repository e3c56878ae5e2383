//! Worlds by seed: whatever users do and whatever goes wrong, nothing unsafe happens, and when nothing
//! goes wrong any longer, both sides get level.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test tells its failure by a panic")]

use sim::seed::{Rest, has_fleet, run_seed};

fn run(seeds: std::ops::Range<u64>) -> Vec<Rest> {
    let rest = seeds.map(|seed| {
        run_seed(seed, false).unwrap_or_else(|failed| {
            panic!("{}\n{}", failed.trace.join("\n"), failed.tell(seed));
        })
    });
    rest.collect()
}

#[test]
fn worlds_of_many_seeds_are_safe_and_come_to_rest() {
    let worlds = run(0..2000);
    let stuck = worlds.iter().filter(|world| world.stuck > 0).count();
    let (faults, ops) = worlds.iter().fold((0, 0), |(f, o), world| (f + world.faults, o + world.ops));
    println!("{} worlds, {faults} faults, {ops} operations; {stuck} need a person", worlds.len());
    assert!(faults > 5 * worlds.len(), "too little goes wrong: {faults} faults");
    assert!(stuck < worlds.len() / 4, "too many worlds end early: {stuck}");
}

/// What has to come up in some world with whole daemons.
const EVENTS: [&str; 17] = [
    " Push",
    " Pull",
    " FanOut",
    " FanIn",
    " PullFromTwo",
    " PushAndPull",
    " Chain",
    "daemon is killed",
    "daemon is stopped",
    "is cut off",
    "signal reset",
    "cancelled: true",
    "Reconnecting",
    "(resumed)",
    "pool of A is exported",
    "the clocks jump",
    "Snapshotting(RoundStarted",
];

#[test]
fn fleets_see_everything_that_can_happen_to_them() {
    let mut missing = EVENTS.to_vec();
    for seed in (0..400).filter(|seed| has_fleet(*seed)) {
        let worlds = run(seed..seed + 1);
        let lines = worlds.iter().flat_map(|world| &world.trace);
        lines.for_each(|line| missing.retain(|event| !line.contains(event)));
    }
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..60 {
        let (one, two) = (run(seed..seed + 1), run(seed..seed + 1));
        assert_eq!(one, two, "seed {seed}");
    }
}
