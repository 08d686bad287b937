//! A value drawn uniformly from a range, as in the paper's experiment.

use super::{Fault, FaultError, Form, Model, Spec, bytes_of};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::str::FromStr;

pub(super) const RANDOM: Spec = Spec {
    name: "random",
    argument: Some("LOW..HIGH"),
    about: "Write a whole number drawn uniformly from LOW to HIGH",
    example: "191 rtrans --random 1..100 --bytes 4",
    parse: |text| Ok(Box::new(text.parse::<Bounds>()?)),
};

/// The lowest and the highest value, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lowest.
    pub low: i128,
    /// Highest; not below `low`.
    pub high: i128,
}

impl FromStr for Bounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").ok_or("give LOW..HIGH, such as 1..100")?;
        let (low, high) = (crate::scalar::whole(low)?, crate::scalar::whole(high)?);
        if low > high {
            return Err(format!("{low} is above {high}"));
        }
        Ok(Self { low, high })
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "random {}..{}", self.low, self.high)
    }
}

impl Model for Bounds {
    fn change(&self, form: Form, numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        // Both ends must fit, not just the value that happens to be drawn.
        bytes_of(self.low, form)?;
        bytes_of(self.high, form)?;
        let value = numbers.random_range(self.low..=self.high);
        Ok(Fault::set(bytes_of(value, form)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Drawing, Seed};

    fn draw(bounds: Bounds, seed: u64) -> i8 {
        let mut numbers = Seed::first(seed).numbers(Drawing::Fault);
        let fault = bounds.change(Form::bytes(1), &mut numbers).unwrap();
        fault.apply(&[0])[0] as i8
    }

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

    #[test]
    fn bounds() {
        assert_eq!("-1..0x10".parse(), Ok(Bounds { low: -1, high: 16 }));
        for bad in ["", "1", "1..", "..2", "2..1", "a..b"] {
            assert!(bad.parse::<Bounds>().is_err(), "{bad}");
        }
    }
}
