//! A given value.

/// A value or a number of bytes that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// More bytes than a value has, or none.
    #[error("NUM_BYTES is {0}; it must be 1 to 8")]
    Size(u64),
    /// The value has more digits than the bytes hold.
    #[error("{value} does not fit NUM_BYTES {size}, which holds {} to {}", low(.size), high(.size))]
    DoesNotFit {
        /// The value.
        value: i128,
        /// Bytes.
        size: u64,
    },
}

fn low(size: &u64) -> i128 {
    -(1 << (8 * size - 1))
}

fn high(size: &u64) -> i128 {
    (1 << (8 * size)) - 1
}

/// `value` as `size` bytes, little-endian; a negative one as two's complement.
pub fn bytes_of(value: i128, size: u64) -> Result<Vec<u8>, SetError> {
    if !(1..=8).contains(&size) {
        return Err(SetError::Size(size));
    }
    if !(low(&size)..=high(&size)).contains(&value) {
        return Err(SetError::DoesNotFit { value, size });
    }
    Ok(value.to_le_bytes()[..size as usize].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_little_endian() {
        assert_eq!(bytes_of(6, 4).unwrap(), [6, 0, 0, 0]);
        assert_eq!(bytes_of(-2, 2).unwrap(), [0xfe, 0xff]);
        assert_eq!(bytes_of(u64::MAX.into(), 8).unwrap(), [0xff; 8]);
        assert_eq!(bytes_of(i64::MIN.into(), 8).unwrap(), i64::MIN.to_le_bytes());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(bytes_of(1, 0), Err(SetError::Size(0)));
        assert_eq!(bytes_of(1, 9), Err(SetError::Size(9)));
        for (value, size) in [(256, 1), (-129, 1), (1 << 64, 8), (-(1 << 63) - 1, 8)] {
            assert_eq!(bytes_of(value, size), Err(SetError::DoesNotFit { value, size }));
        }
        let message = bytes_of(256, 1).unwrap_err().to_string();
        assert_eq!(message, "256 does not fit NUM_BYTES 1, which holds -128 to 255");
    }
}
