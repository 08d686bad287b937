//! The plain numbers of a machine, as bytes have them: `i8` to `u64`, `f32` and `f64`.

use std::fmt;
use std::str::FromStr;

/// What one to eight bytes, little-endian, are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A whole number of so many bytes, with a sign.
    Signed(u8),
    /// A whole number of so many bytes, without one.
    Unsigned(u8),
    /// An IEEE 754 number of so many bytes: 4 or 8.
    Float(u8),
}

/// A number that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole one.
    Whole(i128),
    /// A floating-point one.
    Real(f64),
}

/// Every scalar that has a name, by it.
const NAMES: [(&str, Scalar); 10] = [
    ("i8", Scalar::Signed(1)),
    ("i16", Scalar::Signed(2)),
    ("i32", Scalar::Signed(4)),
    ("i64", Scalar::Signed(8)),
    ("u8", Scalar::Unsigned(1)),
    ("u16", Scalar::Unsigned(2)),
    ("u32", Scalar::Unsigned(4)),
    ("u64", Scalar::Unsigned(8)),
    ("f32", Scalar::Float(4)),
    ("f64", Scalar::Float(8)),
];

impl FromStr for Scalar {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, scalar)| *scalar).ok_or(())
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().find(|(_, scalar)| scalar == self);
        match named {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{self:?}"),
        }
    }
}

impl Scalar {
    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Bytes.
    pub fn size(self) -> u8 {
        let (Self::Signed(size) | Self::Unsigned(size) | Self::Float(size)) = self;
        size
    }

    /// The number that the lowest bytes of `bits` are.
    pub fn number(self, bits: u64) -> Number {
        let unused = 64 - 8 * u32::from(self.size().clamp(1, 8));
        match self {
            Self::Signed(_) => Number::Whole(((bits << unused) as i64 >> unused).into()),
            Self::Float(4) => Number::Real(f32::from_bits(bits as u32).into()),
            Self::Float(_) => Number::Real(f64::from_bits(bits)),
            Self::Unsigned(_) => Number::Whole((bits << unused >> unused).into()),
        }
    }
}

impl Number {
    /// Whether both are the same, bit by bit: a NaN is itself.
    pub fn same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Real(own), Self::Real(other)) => own.to_bits() == other.to_bits(),
            _ => self == other,
        }
    }

    /// The nearest floating-point number.
    pub fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

/// The scalar that is called `text`.
pub fn named(text: &str) -> Result<Scalar, String> {
    let names = || Scalar::names().collect::<Vec<_>>().join(", ");
    text.parse().map_err(|()| format!("'{text}' is none of {}", names()))
}

/// The whole number that `text` is: decimal or 0x, which may be negative.
pub fn whole(text: &str) -> Result<i128, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((digits, 10), |digits| (digits, 16));
    // `from_str_radix` takes a sign of its own.
    let signed = digits.starts_with(['-', '+']);
    let value = i128::from_str_radix(digits, radix).ok().filter(|_| !signed);
    let value = value.ok_or_else(|| format!("'{text}' is not a number (decimal or 0x)"))?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        assert_eq!(whole("6"), Ok(6));
        assert_eq!(whole("-0x10"), Ok(-16));
        assert_eq!(whole("0xffffffffffffffff"), Ok(u64::MAX.into()));
        for bad in ["", "-", "0x", "--1", "-+1", "1.5", "six", "0x-1"] {
            assert!(whole(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_as_numbers() {
        let number = |name: &str, bits| name.parse::<Scalar>().unwrap().number(bits);
        assert_eq!(number("i8", 0x7ff), Number::Whole(-1));
        assert_eq!(number("u8", 0x7ff), Number::Whole(255));
        assert_eq!(number("i32", u64::from(u32::MAX)), Number::Whole(-1));
        assert_eq!(number("u64", u64::MAX), Number::Whole(u64::MAX.into()));
        assert_eq!(number("f32", 1.5f32.to_bits().into()), Number::Real(1.5));
        assert_eq!(number("f64", (-2.25f64).to_bits()), Number::Real(-2.25));
    }

    #[test]
    fn names_lead_there_and_back() {
        for (name, scalar) in NAMES {
            assert_eq!((name.parse(), scalar.to_string().as_str()), (Ok(scalar), name));
        }
        assert!("f16".parse::<Scalar>().is_err());
    }
}
