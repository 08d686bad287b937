//! What is drawn at random: always the same from the same seed, on every machine.
//!
//! One seed serves a whole command. Each of its injections has streams of its own, one for each
//! thing that is drawn, so that none depends on how many numbers another took.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Streams of one injection.
const STREAMS: u64 = 16;

/// A seed, and which of the injections that it serves is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// The injection, from 0 on.
    pub injection: u64,
}

/// What is drawn for an injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// The value, or the bits.
    Fault = 0,
    /// The place.
    Place = 1,
    /// The moment.
    Moment = 2,
    /// Which of several targets, and which of several faults.
    Choice = 3,
    /// The seed of a campaign's trial.
    Trial = 4,
}

impl Seed {
    /// That of the first injection.
    pub fn first(seed: u64) -> Self {
        Self { seed, injection: 0 }
    }

    /// The numbers that `what` is drawn from.
    pub fn numbers(self, what: Drawing) -> ChaCha8Rng {
        let mut numbers = ChaCha8Rng::seed_from_u64(self.seed);
        numbers.set_stream(self.injection.wrapping_mul(STREAMS).wrapping_add(what as u64));
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_stream_is_the_same_for_ever() {
        let first = |injection, what| {
            let mut numbers = Seed { seed: 1, injection }.numbers(what);
            [numbers.next_u64(), numbers.next_u64()]
        };
        let all = [
            first(0, Drawing::Fault),
            first(0, Drawing::Place),
            first(0, Drawing::Moment),
            first(1, Drawing::Fault),
        ];
        let pinned = [
            [7424550030962593201, 1482817706323250795],
            [15715005604373573095, 939185832570518534],
            [16166618085559792950, 12594345941331415253],
            [6228410255025953695, 2343522417893481839],
        ];
        assert_eq!(all, pinned);
    }
}
