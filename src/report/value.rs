//! What the bytes of a target mean, so that people can read them.

use super::findings::Findings;
use crate::inject::Hex;
use crate::scalar::{Number, Scalar};

/// What a double of a program lies between: bytes that are something else are hardly ever taken for one
/// such number after the other.
const USUAL: std::ops::Range<f64> = 1e-100..1e100;

/// What the target `index` is taken for: what the plan says, or a double where it has 8 bytes and all that was
/// there before would be usual doubles. Stores do not hold the types of targets.
pub fn scalar(findings: &Findings, index: usize) -> Option<Scalar> {
    if let Some(scalar) = findings.plan.targets.get(index)?.scalar {
        return Some(scalar);
    }
    let injections = findings.injected().flat_map(|record| &record.injections);
    let of_target = injections.filter(|own| own.target == index);
    let before: Vec<_> =
        of_target.filter_map(|own| own.written.as_ref()).map(|own| double(&own.before)).collect();
    let usual = |value: &Option<f64>| {
        value.is_some_and(|value| value == 0.0 || USUAL.contains(&value.abs()))
    };
    let zero = before.iter().all(|value| *value == Some(0.0));
    (!zero && before.iter().all(usual)).then_some(Scalar::Float(8))
}

fn double(bytes: &Hex) -> Option<f64> {
    Some(f64::from_le_bytes(bytes.0.as_slice().try_into().ok()?))
}

/// `bytes`, which are in memory order, as the number that they are; without a type, in hexadecimal.
pub fn shown(bytes: &Hex, scalar: Option<Scalar>) -> String {
    let bits = |bytes: &[u8]| bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    match scalar.filter(|scalar| usize::from(scalar.size()) == bytes.0.len()) {
        Some(scalar) => match scalar.number(bits(&bytes.0)) {
            Number::Whole(number) => number.to_string(),
            Number::Real(number) => super::figure::exact(number),
        },
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_numbers() {
        let bytes = |number: f64| Hex(number.to_le_bytes().to_vec());
        assert_eq!(shown(&bytes(-1.5e300), Some(Scalar::Float(8))), "-1.5e+300");
        assert_eq!(shown(&Hex(vec![0xfe, 0xff]), Some(Scalar::Signed(2))), "-2");
        // Of a part of it, the number is not known.
        assert_eq!(shown(&Hex(vec![0xfe, 0xff]), Some(Scalar::Float(8))), "feff");
        assert_eq!(shown(&Hex(vec![0x0a, 0]), None), "0a00");
    }
}
