//! A value drawn uniformly from a range, as in the paper's experiment.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The lowest and the highest value, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lowest.
    pub low: i128,
    /// Highest; not below `low`.
    pub high: i128,
}

/// The value that `seed` draws: the same on every machine and in every version.
pub fn draw(bounds: Bounds, seed: u64) -> i128 {
    ChaCha8Rng::seed_from_u64(seed).random_range(bounds.low..=bounds.high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same() {
        let bounds = Bounds { low: 1, high: 100 };
        let drawn: Vec<_> = (0..8).map(|seed| draw(bounds, seed)).collect();
        assert_eq!(drawn, [47, 9, 55, 9, 7, 72, 49, 17]);
    }

    #[test]
    fn both_bounds_are_drawn_and_none_beyond() {
        let bounds = Bounds { low: -1, high: 1 };
        let mut drawn: Vec<_> = (0..100).map(|seed| draw(bounds, seed)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [-1, 0, 1]);
    }
}
