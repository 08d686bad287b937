//! Given bits flipped.

use super::{Fault, FaultError, Form, Model, OneBit, Spec};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::fmt;

/// Flips the bits that it names.
pub const FLIP_BITS: Spec = Spec {
    name: "flip-bits",
    argument: Some("BITS"),
    about: "Flip these bits, as in 3,17: bit 0 is the lowest of the first byte",
    example: "191 rtrans --flip-bits 3,17",
    parse: |text| Ok(Box::new(FlipBits { bits: parse(text)? })),
};

#[derive(Debug)]
struct FlipBits {
    bits: BTreeSet<u64>,
}

fn parse(text: &str) -> Result<BTreeSet<u64>, String> {
    let mut bits = BTreeSet::new();
    for word in text.split(',') {
        let bit = word.parse().map_err(|_| format!("'{word}' is no bit's number"))?;
        if !bits.insert(bit) {
            return Err(format!("bit {bit} is named twice"));
        }
    }
    Ok(bits)
}

impl fmt::Display for FlipBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits: Vec<_> = self.bits.iter().map(ToString::to_string).collect();
        write!(f, "flip-bits {}", bits.join(","))
    }
}

impl Model for FlipBits {
    fn change(&self, form: Form, _numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        let bits: Vec<_> = self.bits.iter().copied().collect();
        match bits.last() {
            _ if form.size == 0 => Err(FaultError::TooLong(0)),
            Some(&bit) if bit >= form.bits() => Err(FaultError::NoBit { bit, size: form.size }),
            _ => Fault::toggling(form, &bits),
        }
    }

    fn draws(&self) -> bool {
        false
    }

    fn one_bit(&self) -> Option<OneBit> {
        let mut bits = self.bits.iter().copied();
        bits.next().filter(|_| bits.next().is_none()).map(OneBit::This)
    }
}
