//! A given value.

use super::{Fault, FaultError, Form, Model};
use crate::scalar::Scalar;
use rand_chacha::ChaCha8Rng;
use std::fmt;

/// These bytes, whatever was there.
#[derive(Clone, Debug)]
pub struct Set {
    /// The value, as it was typed.
    pub text: String,
    /// What it is in memory.
    pub bytes: Vec<u8>,
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {}", self.text)
    }
}

impl Model for Set {
    fn change(&self, _form: Form, _numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        Ok(Fault::set(self.bytes.clone()))
    }

    fn draws(&self) -> bool {
        false
    }
}

/// `value` as bytes of this `form`, little-endian; a negative one as two's complement.
pub fn bytes_of(value: i128, form: Form) -> Result<Vec<u8>, FaultError> {
    let Form { size, scalar } = form.plain()?;
    match scalar {
        Some(Scalar::Float(4)) => return Ok((value as f32).to_le_bytes().to_vec()),
        Some(Scalar::Float(8)) => return Ok((value as f64).to_le_bytes().to_vec()),
        _ => {}
    }
    let bits = 8 * size;
    let (signed, unsigned) = (-(1i128 << (bits - 1)), (1i128 << bits) - 1);
    let (low, high) = match scalar {
        Some(Scalar::Signed(_)) => (signed, -signed - 1),
        Some(Scalar::Unsigned(_)) => (0, unsigned),
        _ => (signed, unsigned),
    };
    match (scalar, (low..=high).contains(&value)) {
        (_, true) => Ok(value.to_le_bytes().into_iter().take(size as usize).collect()),
        (Some(scalar), _) => Err(FaultError::DoesNotFitType { value, scalar, low, high }),
        (None, _) => Err(FaultError::DoesNotFit { value, size, low, high }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: i128, size: u64) -> Result<Vec<u8>, FaultError> {
        bytes_of(value, Form::bytes(size))
    }

    #[test]
    fn values_are_little_endian() {
        assert_eq!(bytes(6, 4).unwrap(), [6, 0, 0, 0]);
        assert_eq!(bytes(-2, 2).unwrap(), [0xfe, 0xff]);
        assert_eq!(bytes(u64::MAX.into(), 8).unwrap(), [0xff; 8]);
        assert_eq!(bytes(i64::MIN.into(), 8).unwrap(), i64::MIN.to_le_bytes());
        let single = Form { size: 4, scalar: Some(Scalar::Float(4)) };
        assert_eq!(bytes_of(6, single).unwrap(), 6f32.to_le_bytes());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(bytes(1, 0), Err(FaultError::Size(0)));
        assert_eq!(bytes(1, 9), Err(FaultError::Size(9)));
        for (value, size) in [(256, 1), (-129, 1), (1 << 64, 8), (-(1 << 63) - 1, 8)] {
            assert!(matches!(bytes(value, size), Err(FaultError::DoesNotFit { .. })));
        }
        let message = bytes(256, 1).unwrap_err().to_string();
        assert_eq!(message, "256 does not fit NUM_BYTES 1, which holds -128 to 255");
        let signed = Form { size: 1, scalar: Some(Scalar::Signed(1)) };
        let message = bytes_of(200, signed).unwrap_err().to_string();
        assert_eq!(message, "200 does not fit i8, which holds -128 to 127");
    }
}
