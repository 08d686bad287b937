//! Adjacent bits flipped, as one particle or one bad line does.

use super::{Fault, FaultError, Form, Model, Spec, count};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fmt;

pub(super) const BURST: Spec = Spec {
    name: "burst",
    argument: Some("N"),
    about: "Flip N adjacent bits somewhere in the value",
    example: "191 rtrans --burst 3",
    parse: |text| Ok(Box::new(Burst { count: count(text, 1)? })),
};

#[derive(Debug)]
struct Burst {
    count: u64,
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "burst {}", self.count)
    }
}

impl Model for Burst {
    fn change(&self, form: Form, numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        let (count, bits) = (self.count, form.bits());
        let what = format!("a value of {} bytes", form.size);
        let last = bits.checked_sub(count);
        let last = last.ok_or(FaultError::TooManyBits { count, what, bits })?;
        let first = numbers.random_range(0..=last);
        // A burst is at most one bit longer than its bytes: no more than these are looked at.
        Form::bytes(count.div_ceil(8)).whole()?;
        Fault::toggling(form, &(first..first + count).collect::<Vec<_>>())
    }
}
