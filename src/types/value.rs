//! Values: bytes read by their type, for people and for programs, and text written as bytes.

use super::{Bits, Field, POINTER, Shape, TypeId, Types, TypesError};
use crate::scalar::whole;
use serde_json::{Map, Number, Value as Json};
use std::fmt;

/// How many values, members and names of values one look may take: types may be made so that each
/// byte is shown many times.
const MOST: usize = 1 << 24;
/// How deep values may lie within each other.
const DEEPEST: usize = 32;
/// How many elements of an array people are shown.
const SHOWN: usize = 32;
/// Bytes of the largest number.
const LARGEST: usize = 8;

/// A value, read by its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Number(i128),
    /// A floating-point number of 32 bits.
    Single(f32),
    /// One of 64 bits.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A letter.
    Letter(char),
    /// A value of an enumeration that has this name.
    Name(String),
    /// An address.
    Pointer(u64),
    /// A text, up to its zero.
    Text(String),
    /// The elements of an array.
    List(Vec<Value>),
    /// The members of a structure; anonymous ones have no name.
    Fields(Vec<(Option<String>, Value)>),
    /// Bytes of a type that has no other form here.
    Bytes(Vec<u8>),
}

/// The value that `bytes` are as `id`.
pub fn value_of(types: &dyn Types, id: TypeId, bytes: &[u8]) -> Result<Value, TypesError> {
    Reader { types, left: MOST }.value(id, bytes, DEEPEST)
}

struct Reader<'t> {
    types: &'t dyn Types,
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value, TypesError> {
        let other = || Value::Bytes(bytes.to_vec());
        if !self.take(1) || depth == 0 {
            return Ok(other());
        }
        let shape = self.types.shape(id)?;
        Ok(match shape {
            Shape::Array { element, .. } => self.array(element, bytes, depth)?,
            Shape::Structure { .. } => self.structure(id, bytes, depth)?,
            Shape::Enumeration { .. } => self.enumeration(id, bytes)?.unwrap_or_else(other),
            shape => scalar(shape, bytes).unwrap_or_else(other),
        })
    }

    /// Whether so much may still be looked at.
    fn take(&mut self, count: usize) -> bool {
        self.left = self.left.saturating_sub(count);
        self.left > 0
    }

    fn enumeration(&mut self, id: TypeId, bytes: &[u8]) -> Result<Option<Value>, TypesError> {
        let (Some(plain), Some(signed)) = (number(bytes, false), number(bytes, true)) else {
            return Ok(None);
        };
        let all = self.types.enumerators(id)?;
        self.take(all.len());
        let signs = all.iter().any(|(_, value)| *value < 0);
        let value = if signs { signed } else { plain };
        let named = all.into_iter().find(|(_, own)| *own == value);
        Ok(Some(named.map_or(Value::Number(value), |(name, _)| Value::Name(name))))
    }

    fn array(&mut self, element: TypeId, bytes: &[u8], depth: usize) -> Result<Value, TypesError> {
        let size = self.types.size(element)?.and_then(|size| usize::try_from(size).ok());
        let Some(size) = size.filter(|&size| size > 0) else {
            return Ok(Value::List(Vec::new()));
        };
        if size == 1 && matches!(self.types.shape(element)?, Shape::Char { .. }) {
            let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            return Ok(Value::Text(String::from_utf8_lossy(&bytes[..end]).into_owned()));
        }
        let elements = bytes.chunks_exact(size);
        let values: Result<_, _> =
            elements.map(|element_bytes| self.value(element, element_bytes, depth - 1)).collect();
        Ok(Value::List(values?))
    }

    fn structure(&mut self, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value, TypesError> {
        let mut values = Vec::new();
        for field in self.types.members(id)? {
            let value = match field.bits {
                Some(bits) => self.bit_field(&field, bits, bytes)?,
                None => self.member(&field, bytes, depth)?,
            };
            values.push((field.name, value));
        }
        Ok(Value::Fields(values))
    }

    fn member(&mut self, field: &Field, bytes: &[u8], depth: usize) -> Result<Value, TypesError> {
        let size = self.types.size(field.id)?.unwrap_or(0);
        let start = usize::try_from(field.offset).unwrap_or(usize::MAX);
        let own = bytes.get(start..).and_then(|rest| rest.get(..usize::try_from(size).ok()?));
        self.value(field.id, own.unwrap_or_default(), depth - 1)
    }

    fn bit_field(&self, field: &Field, bits: Bits, bytes: &[u8]) -> Result<Value, TypesError> {
        let signed = matches!(self.types.shape(field.id)?, Shape::Int { signed: true, .. });
        let start = usize::try_from(field.offset).unwrap_or(usize::MAX);
        let value = bytes.get(start..).and_then(|rest| bit_value(rest, bits, signed));
        Ok(value.map_or(Value::Bytes(Vec::new()), Value::Number))
    }
}

/// The number that `bits` of `bytes` are.
fn bit_value(bytes: &[u8], bits: Bits, signed: bool) -> Option<i128> {
    let end = bits.shift.checked_add(bits.count)?;
    if bits.count == 0 || bits.count > 64 || end > 8 * bytes.len() as u64 || end > 120 {
        return None;
    }
    let mut word = [0; 16];
    let length = bytes.len().min(15);
    word[..length].copy_from_slice(&bytes[..length]);
    let value = u128::from_le_bytes(word) >> bits.shift & ((1 << bits.count) - 1);
    let negative = signed && value >> (bits.count - 1) == 1;
    Some(value as i128 - if negative { 1 << bits.count } else { 0 })
}

fn scalar(shape: Shape, bytes: &[u8]) -> Option<Value> {
    let size = bytes.len() as u64;
    match shape {
        Shape::Int { size: own, signed } if own == size => number(bytes, signed).map(Value::Number),
        Shape::Bool { size: own } if own == size => match number(bytes, false)? {
            0 => Some(Value::Bool(false)),
            1 => Some(Value::Bool(true)),
            other => Some(Value::Number(other)),
        },
        Shape::Char { size: own } if own == size => {
            let code = u32::try_from(number(bytes, false)?).ok()?;
            // Beyond ASCII, a single byte is a part of a letter.
            let letter = char::from_u32(code).filter(|letter| size > 1 || letter.is_ascii());
            Some(letter.map_or(Value::Number(code.into()), Value::Letter))
        }
        Shape::Float { size: 4 } => Some(Value::Single(f32::from_le_bytes(bytes.try_into().ok()?))),
        Shape::Float { size: 8 } => Some(Value::Double(f64::from_le_bytes(bytes.try_into().ok()?))),
        Shape::Pointer(_) | Shape::Reference(_) => {
            Some(Value::Pointer(u64::from_le_bytes(bytes.try_into().ok()?)))
        }
        _ => None,
    }
}

/// The little-endian number that `bytes` are.
fn number(bytes: &[u8], signed: bool) -> Option<i128> {
    let mut word = [0; 16];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let bits = 8 * bytes.len() as u32;
    let value = (bits > 0 && bits <= 8 * LARGEST as u32).then(|| i128::from_le_bytes(word))?;
    let negative = signed && value >> (bits - 1) & 1 == 1;
    Some(if negative { value - (1 << bits) } else { value })
}

impl Value {
    /// For programs. Numbers that JSON has none for are texts: `"nan"`, `"inf"`.
    pub fn json(&self) -> Json {
        match self {
            Self::Number(number) => {
                Number::from_i128(*number).map_or_else(|| number.to_string().into(), Json::Number)
            }
            // As the shortest digits of 32 bits, not those of the same number in 64.
            Self::Single(single) if single.is_finite() => {
                single.to_string().parse::<f64>().map_or(Json::Null, Json::from)
            }
            Self::Double(double) if double.is_finite() => Json::from(*double),
            Self::Bool(bool) => Json::Bool(*bool),
            Self::Letter(letter) => letter.to_string().into(),
            Self::Name(text) | Self::Text(text) => text.clone().into(),
            Self::List(values) => values.iter().map(Self::json).collect(),
            Self::Fields(fields) => Json::Object(object(fields)),
            other => other.to_string().into(),
        }
    }

    /// Whether it is made of others.
    pub fn is_composite(&self) -> bool {
        matches!(self, Self::List(_) | Self::Fields(_) | Self::Text(_))
    }
}

/// The members of anonymous structures are the outer one's own, as in C.
fn object(fields: &[(Option<String>, Value)]) -> Map<String, Json> {
    let mut members = Map::new();
    for (name, value) in fields {
        match (name, value) {
            (Some(name), value) => drop(members.insert(name.clone(), value.json())),
            (None, Value::Fields(inner)) => members.extend(object(inner)),
            (None, _) => {}
        }
    }
    members
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Single(single) if single.is_nan() => f.write_str("nan"),
            Self::Double(double) if double.is_nan() => f.write_str("nan"),
            Self::Single(single) => write!(f, "{single:?}"),
            Self::Double(double) => write!(f, "{double:?}"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Letter(letter) => write!(f, "{letter:?}"),
            Self::Name(name) => f.write_str(name),
            Self::Pointer(pointer) => write!(f, "{pointer:#x}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(values) => list(f, values, |f, value| write!(f, "{value}")),
            Self::Fields(fields) => list(f, fields, |f, (name, value)| match name {
                Some(name) => write!(f, "{name} = {value}"),
                None => write!(f, "{value}"),
            }),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// The first of `all` in braces, and how many more there are.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    all: &[T],
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str("{")?;
    for (index, one) in all.iter().take(SHOWN).enumerate() {
        f.write_str(if index > 0 { ", " } else { "" })?;
        show(f, one)?;
    }
    match all.len().saturating_sub(SHOWN) {
        0 => f.write_str("}"),
        more => write!(f, ", ... {more} more}}"),
    }
}

/// A text that is no value of the type asked for.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The types are damaged.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// Not a number, name or letter of the type.
    #[error("'{text}' is no {name}: give {wanted}")]
    NoValue {
        /// The text.
        text: String,
        /// The type.
        name: String,
        /// What one is.
        wanted: String,
    },
    /// Too large, or too small.
    #[error("{text} does not fit {name}, which holds {low} to {high}")]
    DoesNotFit {
        /// The text.
        text: String,
        /// The type.
        name: String,
        /// The lowest value.
        low: i128,
        /// The highest value.
        high: i128,
    },
    /// The type has no values that are written as one text.
    #[error("a value of {0} cannot be given: name a member or an element of it, or how many bytes")]
    NotScalar(String),
}

/// The bytes of the value that `text` is of the type `id`: `1.5`, `-3`, `0x10`, `true`, `'a'`, or
/// the name of an enumeration's.
pub fn bytes_of(types: &dyn Types, id: TypeId, text: &str) -> Result<Vec<u8>, ValueError> {
    let typed = Text { text, name: types.name(id)? };
    match types.shape(id)? {
        Shape::Int { size, signed } => typed.in_range(typed.whole()?, size, signed),
        Shape::Bool { size } => typed.in_range(typed.bool()?, size, false),
        Shape::Char { size } => {
            let value = typed.letter(size)?;
            typed.in_range(value, size, value < 0)
        }
        Shape::Enumeration { size } => {
            let value = typed.enumerator(&types.enumerators(id)?)?;
            typed.in_range(value, size, value < 0)
        }
        Shape::Pointer(_) | Shape::Reference(_) => typed.in_range(typed.whole()?, POINTER, false),
        Shape::Float { size: 4 } => Ok(typed.float::<f32>()?.to_le_bytes().to_vec()),
        Shape::Float { size: 8 } => Ok(typed.float::<f64>()?.to_le_bytes().to_vec()),
        _ => Err(ValueError::NotScalar(typed.name)),
    }
}

/// A text that is to be a value, and the name of its type.
struct Text<'t> {
    text: &'t str,
    name: String,
}

impl Text<'_> {
    fn wrong(&self, wanted: &str) -> ValueError {
        let (text, name, wanted) = (self.text.to_owned(), self.name.clone(), wanted.to_owned());
        ValueError::NoValue { text, name, wanted }
    }

    fn whole(&self) -> Result<i128, ValueError> {
        whole(self.text).map_err(|_| self.wrong("a whole number, decimal or 0x"))
    }

    fn bool(&self) -> Result<i128, ValueError> {
        match self.text {
            "true" | "1" => Ok(1),
            "false" | "0" => Ok(0),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A letter of `size` bytes. Beyond ASCII, a single byte is a part of a letter.
    fn letter(&self, size: u64) -> Result<i128, ValueError> {
        let letter = letter(self.text).filter(|own| size > 1 || own.is_ascii());
        let value = letter.map(|own| i128::from(u32::from(own))).or_else(|| whole(self.text).ok());
        value.ok_or_else(|| self.wrong("a letter, as 'a', or a number"))
    }

    /// One of `all`, by its name or its number.
    fn enumerator(&self, all: &[(String, i128)]) -> Result<i128, ValueError> {
        let named = all.iter().find(|(own, _)| own == self.text).map(|(_, value)| *value);
        let names = || all.iter().take(SHOWN).map(|(own, _)| own.as_str()).collect::<Vec<_>>();
        named.or_else(|| whole(self.text).ok()).ok_or_else(|| self.wrong(&names().join(", ")))
    }

    /// A number that stays finite, unless the text says otherwise.
    fn float<F: std::str::FromStr + Copy + Into<f64>>(&self) -> Result<F, ValueError> {
        let digits = self.text.contains(|letter: char| letter.is_ascii_digit());
        let value = self.text.parse().ok();
        let value = value.filter(|value: &F| !digits || (*value).into().is_finite());
        value.ok_or_else(|| self.wrong("a number that fits it, nan or inf"))
    }

    /// `value` as `size` bytes.
    fn in_range(&self, value: i128, size: u64, signed: bool) -> Result<Vec<u8>, ValueError> {
        let (text, name) = (self.text.to_owned(), self.name.clone());
        if !(1..=LARGEST as u64).contains(&size) {
            return Err(ValueError::NotScalar(name));
        }
        let bits = 8 * size - u64::from(signed);
        let (low, high) = (if signed { -(1 << bits) } else { 0 }, (1 << bits) - 1);
        if !(low..=high).contains(&value) {
            return Err(ValueError::DoesNotFit { text, name, low, high });
        }
        Ok(value.to_le_bytes()[..size as usize].to_vec())
    }
}

fn letter(text: &str) -> Option<char> {
    let mut letters = text.strip_prefix('\'')?.strip_suffix('\'')?.chars();
    letters.next().filter(|_| letters.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TypeId;

    /// One type of each number: an int, an enumeration, an array of four, and a structure of the
    /// first two.
    struct Made(Shape);

    const SELF: u64 = 1;
    const MADE: u64 = 2;

    impl Types for Made {
        fn named(&self, _: &str) -> Result<Option<TypeId>, TypesError> {
            Ok(None)
        }

        fn shape(&self, id: TypeId) -> Result<Shape, TypesError> {
            let element = TypeId::new(MADE);
            Ok(match id.at {
                SELF => Shape::Array { element: TypeId::new(SELF), count: Some(2) },
                MADE => self.0,
                _ => Shape::Array { element, count: Some(40) },
            })
        }

        fn own_name(&self, _: TypeId) -> Result<Option<String>, TypesError> {
            Ok(Some("made".to_owned()))
        }

        fn members(&self, _: TypeId) -> Result<Vec<Field>, TypesError> {
            let field = |name: &str, id, offset, bits| Field {
                name: Some(name.to_owned()),
                id: TypeId::new(id),
                offset,
                bits,
            };
            let bits = Some(Bits { shift: 4, count: 6 });
            Ok(vec![field("own", MADE, 0, None), field("bits", 0, 0, bits)])
        }

        fn enumerators(&self, _: TypeId) -> Result<Vec<(String, i128)>, TypesError> {
            Ok(vec![("LOW".to_owned(), -1), ("HIGH".to_owned(), 5)])
        }
    }

    #[track_caller]
    fn shows(shape: Shape, bytes: &[u8], text: &str, json: Json) {
        let value = value_of(&Made(shape), TypeId::new(MADE), bytes).unwrap();
        assert_eq!((value.to_string().as_str(), value.json()), (text, json));
    }

    #[test]
    fn values_are_shown_by_their_types() {
        let int = |size, signed| Shape::Int { size, signed };
        shows(int(4, true), &[0xff; 4], "-1", (-1).into());
        shows(int(8, false), &[0xff; 8], "18446744073709551615", u64::MAX.into());
        shows(
            int(16, false),
            &[1; 16],
            &format!("0x{}", "01".repeat(16)),
            format!("0x{}", "01".repeat(16)).into(),
        );
        let double = Shape::Float { size: 8 };
        shows(double, &0.1f64.to_le_bytes(), "0.1", 0.1.into());
        shows(double, &f64::NEG_INFINITY.to_le_bytes(), "-inf", "-inf".into());
        shows(double, &[0xff; 8], "nan", "nan".into());
        shows(Shape::Float { size: 4 }, &0.1f32.to_le_bytes(), "0.1", 0.1.into());
        shows(Shape::Bool { size: 1 }, &[1], "true", true.into());
        shows(Shape::Bool { size: 1 }, &[2], "2", 2.into());
        shows(Shape::Char { size: 1 }, b"\x1b", "'\\u{1b}'", "\x1b".into());
        shows(Shape::Char { size: 1 }, &[0x9b], "155", 155.into());
        shows(Shape::Enumeration { size: 4 }, &[0xff; 4], "LOW", "LOW".into());
        shows(Shape::Enumeration { size: 4 }, &[7, 0, 0, 0], "7", 7.into());
        shows(Shape::Pointer(TypeId::new(0)), &[1, 0, 0, 0, 0, 0, 0, 0], "0x1", "0x1".into());
        // What is not all there, or has no form.
        shows(int(4, true), &[1], "0x01", "0x01".into());
        shows(Shape::Other { size: Some(2) }, &[1, 2], "0x0201", "0x0201".into());
    }

    #[test]
    fn what_is_long_is_cut_for_people_alone() {
        let types = Made(Shape::Int { size: 1, signed: false });
        let value = value_of(&types, TypeId::new(3), &[7; 40]).unwrap();
        assert!(value.to_string().ends_with("7, ... 8 more}"), "{value}");
        assert_eq!(value.json().as_array().unwrap().len(), 40);
    }

    #[test]
    fn types_within_themselves_end() {
        let types = Made(Shape::Structure { size: Some(8) });
        let value = value_of(&types, TypeId::new(MADE), &[0xff; 8]).unwrap();
        assert!(value.to_string().starts_with("{own = {own = "), "{value}");
        assert_eq!(value_of(&types, TypeId::new(SELF), &[1; 8]).unwrap(), Value::List(Vec::new()));
    }

    #[test]
    fn texts_of_values() {
        let bytes = |shape, text: &str| bytes_of(&Made(shape), TypeId::new(MADE), text);
        let int = |size, signed| Shape::Int { size, signed };
        assert_eq!(bytes(int(2, true), "-2").unwrap(), [0xfe, 0xff]);
        assert_eq!(bytes(int(1, false), "0xff").unwrap(), [0xff]);
        assert_eq!(bytes(Shape::Float { size: 8 }, "1.5").unwrap(), 1.5f64.to_le_bytes());
        assert_eq!(
            bytes(Shape::Float { size: 4 }, "-inf").unwrap(),
            f32::NEG_INFINITY.to_le_bytes()
        );
        assert!(
            f64::from_le_bytes(bytes(Shape::Float { size: 8 }, "nan").unwrap().try_into().unwrap())
                .is_nan()
        );
        assert_eq!(bytes(Shape::Enumeration { size: 4 }, "HIGH").unwrap(), [5, 0, 0, 0]);
        assert_eq!(bytes(Shape::Enumeration { size: 4 }, "-1").unwrap(), [0xff; 4]);
        assert_eq!(bytes(Shape::Bool { size: 1 }, "true").unwrap(), [1]);
        assert_eq!(bytes(Shape::Char { size: 1 }, "'a'").unwrap(), [b'a']);
        assert_eq!(bytes(Shape::Pointer(TypeId::new(0)), "0x10").unwrap()[..2], [0x10, 0]);
        let fails = |shape, text: &str, word: &str| {
            let error = bytes(shape, text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        fails(int(1, true), "128", "-128 to 127");
        fails(int(1, false), "-1", "0 to 255");
        fails(int(4, true), "1.5", "a whole number");
        fails(Shape::Float { size: 4 }, "1e300", "a number that fits");
        fails(Shape::Float { size: 8 }, "six", "a number that fits");
        fails(Shape::Enumeration { size: 4 }, "MID", "LOW, HIGH");
        fails(Shape::Bool { size: 1 }, "2", "true or false");
        fails(Shape::Char { size: 1 }, "'é'", "a letter");
        fails(Shape::Structure { size: Some(8) }, "1", "name a member");
        fails(int(16, true), "1", "how many bytes");
    }

    #[test]
    fn bits() {
        let value =
            |shift, count, signed| bit_value(&[0b1010_0000, 0b10], Bits { shift, count }, signed);
        assert_eq!(value(4, 6, false), Some(0b10_1010));
        assert_eq!(value(4, 6, true), Some(0b10_1010 - 64));
        assert_eq!(value(10, 6, false), Some(0));
        for (shift, count) in [(11, 6), (0, 0), (u64::MAX, 1), (0, 65)] {
            assert_eq!(value(shift, count, false), None, "{shift} {count}");
        }
    }
}
