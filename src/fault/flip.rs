//! Random bits flipped, none of them twice.

use super::{Fault, FaultError, Form, Model, OneBit, Spec, VALUE, count};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::fmt;

pub(super) const FLIP: Spec = Spec {
    name: "flip",
    argument: Some("N"),
    about: "Flip N random bits, all of them distinct",
    example: "191 rtrans --flip 1",
    parse: |text| Ok(Box::new(Flip { count: count(text, 1)? })),
};

#[derive(Debug)]
struct Flip {
    count: u64,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flip {}", self.count)
    }
}

impl Model for Flip {
    fn change(&self, form: Form, numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        // A single bit may lie anywhere in a value of any length.
        let form = if self.count == 1 && form.size > VALUE { form } else { form.whole()? };
        let what = || format!("a value of {} bytes", form.size);
        let bits = distinct(self.count, form.bits(), numbers).ok_or_else(|| {
            FaultError::TooManyBits { count: self.count, what: what(), bits: form.bits() }
        })?;
        Fault::toggling(form, &bits)
    }

    fn one_bit(&self) -> Option<OneBit> {
        (self.count == 1).then_some(OneBit::Any)
    }
}

/// `count` distinct numbers below `end`, ascending, each set of them as likely as the others
/// (Floyd's algorithm); `None` where there are not so many.
pub(super) fn distinct(count: u64, end: u64, numbers: &mut ChaCha8Rng) -> Option<Vec<u64>> {
    let mut drawn = BTreeSet::new();
    for highest in end.checked_sub(count)?..end {
        let number = numbers.random_range(0..=highest);
        if !drawn.insert(number) {
            drawn.insert(highest);
        }
    }
    Some(drawn.into_iter().collect())
}
