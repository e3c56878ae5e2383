//! Numbers from a seed.

/// A small generator (SplitMix64): the same seed gives the same numbers on every machine and with
/// every version of every library.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers of their own for a part of the world, so that a change of one part does not change
    /// what the others draw.
    pub fn part(&mut self) -> Self {
        Self(self.number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            // The bias of a remainder does not matter at these sizes.
            end => (self.number() % end as u64) as usize,
        }
    }

    /// True `permille` times out of a thousand.
    pub fn chance(&mut self, permille: usize) -> bool {
        self.below(1000) < permille
    }

    /// One of some things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        things.get(self.below(things.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut dice = Dice::new(1);
        assert_eq!([dice.number(), dice.number()], [10_451_216_379_200_822_465, 13_757_245_211_066_428_519]);
        assert_eq!(Dice::new(7).below(0), 0);
        assert!((0..1000).all(|_| dice.below(3) < 3));
    }
}
