//! Random histories, done to the model and to real ZFS side by side, which must answer alike.
//!
//! Compared after every step: the kind of the result, and what the two pools then show – names, order,
//! holds, which guids are equal to which, partial receives, properties, and the files. Numbers that
//! each side makes up for itself (guids, transaction groups, times) are compared only by their
//! relations. A history that tells them apart is shrunk and printed.

mod history;
mod steps;

use anyhow::{Result, bail};

use crate::backend::{FakeWorld, RealWorld, World};
use crate::case::Case;
use crate::conformance::block_on;
use history::Step;
use steps::Side;

/// How long one history is.
const LENGTH: usize = 60;

/// Seeds that the suite always tries. `ZFS_SUITE_SEED` tries another instead.
const SEEDS: [u64; 4] = [1, 2, 5, 6];

/// The cases of this module.
pub(crate) fn cases() -> Vec<Case> {
    let chosen = std::env::var("ZFS_SUITE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = chosen.map_or_else(|| SEEDS.to_vec(), |seed| vec![seed]);
    seeds
        .into_iter()
        .flat_map(|seed| {
            [
                Case::fake(format!("differential::model_against_model_with_other_guids_{seed}"), move || {
                    compare(seed, || FakeWorld::new(1), || FakeWorld::new(2))
                }),
                Case::real(format!("differential::model_against_zfs_{seed}"), move |bench| {
                    let mut number = 0;
                    compare(
                        seed,
                        || FakeWorld::new(1),
                        || {
                            number += 1;
                            RealWorld::numbered(bench, number)
                        },
                    )
                }),
            ]
        })
        .collect()
}

/// Runs a history on fresh worlds of both kinds.
fn compare<A: World, B: World>(
    seed: u64,
    mut one: impl FnMut() -> Result<A>,
    mut other: impl FnMut() -> Result<B>,
) -> Result<()> {
    let steps = history::random(seed, LENGTH);
    let mut run = |steps: &[Step]| -> Result<Option<Difference>> { difference(steps, &one()?, &other()?) };
    let Some(found) = run(&steps)? else { return Ok(()) };
    // Shrinking takes its time on real pools.
    eprintln!(
        "seed {seed}: they differ after step {}, {:?}; shrinking\n{}",
        found.after,
        steps.get(found.after - 1),
        found.text
    );
    let (steps, found) = shrink(steps, found, &mut run)?;
    let listed: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    bail!("seed {seed}: these {} steps tell them apart:\n{}\n{}", steps.len(), listed.join("\n"), found.text)
}

/// Where two worlds differ.
struct Difference {
    /// After how many steps.
    after: usize,
    text: String,
}

fn difference(steps: &[Step], one: &dyn World, other: &dyn World) -> Result<Option<Difference>> {
    let (mut one, mut other) = (Side::new(one)?, Side::new(other)?);
    block_on(async {
        for (index, step) in steps.iter().enumerate() {
            let (a, b) = (one.act(step).await?, other.act(step).await?);
            let (a, b) = (format!("{a}\n{}", one.state().await?), format!("{b}\n{}", other.state().await?));
            if a != b {
                let text = format!("one answers {a}\nthe other {b}");
                return Ok(Some(Difference { after: index + 1, text }));
            }
        }
        Ok(None)
    })?
}

/// Leaves out what is not needed for a difference: first the rest after it, then halves, then single
/// steps, until none can go.
fn shrink(
    mut steps: Vec<Step>,
    mut found: Difference,
    run: &mut impl FnMut(&[Step]) -> Result<Option<Difference>>,
) -> Result<(Vec<Step>, Difference)> {
    /// Each try makes two pools.
    const MOST_TRIES: usize = 25;
    steps.truncate(found.after);
    let (mut tries, mut width) = (0, steps.len() / 2);
    while width > 0 {
        let mut start = 0;
        while start < steps.len() && tries < MOST_TRIES {
            let mut fewer = steps.clone();
            fewer.drain(start..(start + width).min(steps.len()));
            tries += 1;
            match run(&fewer)? {
                Some(difference) => {
                    fewer.truncate(difference.after);
                    (steps, found) = (fewer, difference);
                }
                None => start += width,
            }
        }
        width /= 2;
    }
    Ok((steps, found))
}
