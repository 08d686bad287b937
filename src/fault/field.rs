//! Random bits of one field of a floating-point number.

use super::flip::distinct;
use super::{Fault, FaultError, Form, Model, Spec, count};
use crate::scalar::Scalar;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::ops::Range;

pub(super) const FIELD: Spec = Spec {
    name: "field",
    argument: Some("FIELD[:N]"),
    about: "Flip a random bit of a float's sign, exponent or mantissa, or N of them",
    example: "191 rtrans --field exponent",
    parse: |text| Ok(Box::new(parse(text)?)),
};

/// Every field, by its name.
const FIELDS: [(&str, Field); 3] =
    [("sign", Field::Sign), ("exponent", Field::Exponent), ("mantissa", Field::Mantissa)];

#[derive(Clone, Copy, Debug)]
enum Field {
    Sign,
    Exponent,
    Mantissa,
}

impl Field {
    /// Its bits in a float of so many bytes (IEEE 754, binary32 and binary64).
    fn bits(self, bytes: u64) -> Range<u64> {
        let (sign, exponent) = if bytes == 4 { (31, 23) } else { (63, 52) };
        match self {
            Self::Sign => sign..sign + 1,
            Self::Exponent => exponent..sign,
            Self::Mantissa => 0..exponent,
        }
    }
}

#[derive(Debug)]
struct FlipField {
    text: String,
    name: &'static str,
    field: Field,
    count: u64,
}

fn parse(text: &str) -> Result<FlipField, String> {
    let (name, number) = text.split_once(':').unwrap_or((text, "1"));
    let found = FIELDS.iter().find(|(own, _)| *own == name);
    let (name, field) = found.ok_or("give sign, exponent or mantissa")?;
    Ok(FlipField { text: text.to_owned(), name, field: *field, count: count(number, 1)? })
}

impl fmt::Display for FlipField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {}", self.text)
    }
}

impl Model for FlipField {
    fn change(&self, form: Form, numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        let Some(Scalar::Float(_)) = form.scalar else {
            return Err(FaultError::NoFloat { model: FIELD.name, form });
        };
        let field = self.field.bits(form.size);
        let (count, bits) = (self.count, field.end - field.start);
        let what = || format!("the {}", self.name);
        let drawn = distinct(count, bits, numbers);
        let drawn = drawn.ok_or_else(|| FaultError::TooManyBits { count, what: what(), bits })?;
        Fault::toggling(form, &drawn.iter().map(|bit| field.start + bit).collect::<Vec<_>>())
    }

    fn of_floats(&self) -> bool {
        true
    }
}
