//! The old value and a mask, as `&=`, `|=` and `^=` do it.

use super::{Fault, FaultError, Form, Model, Spec, bytes_of};
use crate::scalar::whole;
use rand_chacha::ChaCha8Rng;
use std::fmt;

pub(super) const AND: Spec = Spec {
    name: "and",
    argument: Some("MASK"),
    about: "Set all bits but those of the mask to 0",
    example: "191 rtrans --and 0xffffffff00000000",
    parse: |text| mask(Operator::And, text),
};

pub(super) const OR: Spec = Spec {
    name: "or",
    argument: Some("MASK"),
    about: "Set the bits of the mask to 1",
    example: "191 niters --or 0x80",
    parse: |text| mask(Operator::Or, text),
};

pub(super) const XOR: Spec = Spec {
    name: "xor",
    argument: Some("MASK"),
    about: "Flip the bits of the mask",
    example: "191 niters --xor 0x81",
    parse: |text| mask(Operator::Xor, text),
};

#[derive(Clone, Copy, Debug)]
enum Operator {
    And,
    Or,
    Xor,
}

#[derive(Debug)]
struct Mask {
    operator: Operator,
    text: String,
    mask: i128,
}

fn mask(operator: Operator, text: &str) -> Result<Box<dyn Model>, String> {
    Ok(Box::new(Mask { operator, text: text.to_owned(), mask: whole(text)? }))
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.operator {
            Operator::And => AND.name,
            Operator::Or => OR.name,
            Operator::Xor => XOR.name,
        };
        write!(f, "{name} {}", self.text)
    }
}

impl Model for Mask {
    fn change(&self, form: Form, _numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        // Of a floating-point number, it is the bits that are meant.
        let mask = bytes_of(self.mask, Form::bytes(form.size))?;
        let inverse = |mask: &[u8]| mask.iter().map(|byte| !byte).collect();
        let (keep, toggle) = match self.operator {
            Operator::And => (mask.clone(), vec![0; mask.len()]),
            Operator::Or => (inverse(&mask), mask),
            Operator::Xor => (vec![0xff; mask.len()], mask),
        };
        Ok(Fault { start: 0, keep, toggle })
    }

    fn draws(&self) -> bool {
        false
    }
}
