//! What to write: pure functions from a seed and the form of a value to a change of its bits.
//!
//! Each model is a file of its own, and a line of [`MODELS`]: from that the options of `vmfi inject`
//! are made, and the text of `vmfi help faults`.
//!
//! Whatever the model, what comes out is a [`Fault`]: some bits are kept, some of these toggled. So
//! what is there at the instant of the write is what changes.

mod burst;
mod field;
mod fill;
mod flip;
mod flip_bits;
mod mask;
mod random;
mod random_bytes;
mod set;
mod special;

pub use flip_bits::FLIP_BITS;
pub use random::Bounds;
pub use set::{Set, bytes_of};

use crate::scalar::Scalar;
use rand_chacha::ChaCha8Rng;
use std::fmt;

/// The most bytes that one fault changes.
pub const LONGEST: u64 = 4096;
/// The most bytes of a plain value.
const VALUE: u64 = 8;

/// Every model that is an option of `vmfi inject`, in the order that people are shown.
pub const MODELS: [&Spec; 13] = [
    &random::RANDOM,
    &flip::FLIP,
    &FLIP_BITS,
    &burst::BURST,
    &mask::AND,
    &mask::OR,
    &mask::XOR,
    &fill::ZERO,
    &fill::ONES,
    &random_bytes::RANDOM_BYTES,
    &field::FIELD,
    &special::NAN,
    &special::INF,
];

/// What there is to know of a model.
#[derive(Debug)]
pub struct Spec {
    /// Its name, which is its option too.
    pub name: &'static str,
    /// What its argument is called, if it has one.
    pub argument: Option<&'static str>,
    /// What it does, in a line.
    pub about: &'static str,
    /// How it is typed, behind `vmfi inject`.
    pub example: &'static str,
    /// The model with the argument that was typed; an error says what is wrong with that.
    pub parse: fn(&str) -> Result<Box<dyn Model>, String>,
}

/// A fault model, as it was asked for.
pub trait Model: fmt::Debug + fmt::Display + Send + Sync {
    /// The change that it makes of a value of this `form`.
    fn change(&self, form: Form, numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError>;

    /// Whether it is of floating-point numbers alone.
    fn of_floats(&self) -> bool {
        false
    }

    /// Whether it draws anything: else the same form has the same change each time.
    fn draws(&self) -> bool {
        true
    }

    /// Which bit it flips, if that is all that it does.
    fn one_bit(&self) -> Option<OneBit> {
        None
    }
}

/// A bit that is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneBit {
    /// Each is as likely as the others.
    Any,
    /// This one: 0 is the lowest of the first byte.
    This(u64),
}

/// What is known of the value that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Bytes.
    pub size: u64,
    /// What they are taken for, where something tells.
    pub scalar: Option<Scalar>,
}

impl Form {
    /// Bytes of which nothing is known.
    pub fn bytes(size: u64) -> Self {
        Self { size, scalar: None }
    }

    fn bits(self) -> u64 {
        self.size.saturating_mul(8)
    }

    /// An error for what is longer than a plain value.
    fn plain(self) -> Result<Self, FaultError> {
        let plain = (1..=VALUE).contains(&self.size);
        plain.then_some(self).ok_or(FaultError::Size(self.size))
    }

    /// An error for more than can be written at once.
    fn whole(self) -> Result<Self, FaultError> {
        let short = (1..=LONGEST).contains(&self.size);
        short.then_some(self).ok_or(FaultError::TooLong(self.size))
    }
}

/// A fault that cannot be made of a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// More bytes than a value has, or none.
    #[error("NUM_BYTES is {0}; it must be 1 to 8")]
    Size(u64),
    /// More bytes than are changed at once, or none.
    #[error(
        "{0} bytes cannot be changed at once, only 1 to {LONGEST}: say how many with --bytes, or name an element"
    )]
    TooLong(u64),
    /// The value has more digits than the bytes hold.
    #[error("{value} does not fit NUM_BYTES {size}, which holds {low} to {high}")]
    DoesNotFit {
        /// The value.
        value: i128,
        /// Bytes.
        size: u64,
        /// The lowest that fits.
        low: i128,
        /// The highest.
        high: i128,
    },
    /// The value does not fit its own type.
    #[error("{value} does not fit {scalar}, which holds {low} to {high}")]
    DoesNotFitType {
        /// The value.
        value: i128,
        /// The type.
        scalar: Scalar,
        /// The lowest that fits.
        low: i128,
        /// The highest.
        high: i128,
    },
    /// A bit beyond the last.
    #[error("there is no bit {bit}: {size} bytes have bits 0 to {}", last_bit(*.size))]
    NoBit {
        /// The bit.
        bit: u64,
        /// Bytes.
        size: u64,
    },
    /// More bits than there are.
    #[error("{count} bits cannot be flipped: {what} {}", has(*.bits))]
    TooManyBits {
        /// How many were asked for.
        count: u64,
        /// What they are of.
        what: String,
        /// How many that has.
        bits: u64,
    },
    /// A float is needed, and nothing says that it is one.
    #[error("'{model}' is of floating-point numbers, {}", no_float(.form))]
    NoFloat {
        /// The fault model.
        model: &'static str,
        /// What the value is instead.
        form: Form,
    },
}

fn last_bit(size: u64) -> u64 {
    size.saturating_mul(8).saturating_sub(1)
}

fn has(bits: u64) -> String {
    format!("has {bits}")
}

fn no_float(form: &Form) -> String {
    match form.scalar {
        Some(scalar) => format!("and this is {scalar}; --type f64 says otherwise"),
        None => "and nothing tells that this is one: say so with --type f32 or f64".to_owned(),
    }
}

/// A change of some bytes in memory: of each, some bits are kept, and some of the outcome toggled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    start: u64,
    keep: Vec<u8>,
    toggle: Vec<u8>,
}

impl Fault {
    /// Sets these bytes, whatever was there.
    pub fn set(bytes: Vec<u8>) -> Self {
        Self { start: 0, keep: vec![0; bytes.len()], toggle: bytes }
    }

    /// Keeps the bits of the one, and toggles those of the other; as many bytes of both.
    pub fn masks(start: u64, keep: Vec<u8>, toggle: Vec<u8>) -> Option<Self> {
        let lengths = keep.len() == toggle.len() && (1..=LONGEST).contains(&(keep.len() as u64));
        lengths.then_some(Self { start, keep, toggle })
    }

    /// Toggles these `bits`, ascending, of a value of this `form`: all of a plain value counts as
    /// changed, of a longer one what lies between the first bit and the last.
    fn toggling(form: Form, bits: &[u64]) -> Result<Self, FaultError> {
        let (start, end) = match (bits.first(), bits.last()) {
            (Some(first), Some(last)) if form.size > VALUE => (first / 8, last / 8 + 1),
            _ => (0, form.size),
        };
        let size = Form::bytes(end - start).whole()?.size as usize;
        let mut toggle = vec![0; size];
        for bit in bits {
            if let Some(byte) = toggle.get_mut((bit / 8 - start) as usize) {
                *byte |= 1 << (bit % 8);
            }
        }
        Ok(Self { start, keep: vec![0xff; size], toggle })
    }

    /// How many bytes it changes.
    pub fn size(&self) -> usize {
        self.keep.len()
    }

    /// Where these start in the value.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Which bits are kept, and which of the outcome toggled.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.keep, &self.toggle)
    }

    /// The new bytes, as many as there are old ones.
    pub fn apply(&self, before: &[u8]) -> Vec<u8> {
        let masks = self.keep.iter().zip(&self.toggle);
        before.iter().zip(masks).map(|(old, (keep, toggle))| old & keep ^ toggle).collect()
    }

    /// What keeps the bits that it has changed as they are in `after`, and leaves all others alone:
    /// doing it again changes nothing.
    pub fn stuck(&self, after: &[u8]) -> Self {
        let own: Vec<_> = self.keep.iter().zip(&self.toggle).map(|(k, t)| !k | t).collect();
        Self {
            start: self.start,
            keep: own.iter().map(|own| !own).collect(),
            toggle: own.iter().zip(after).map(|(own, after)| own & after).collect(),
        }
    }

    /// The part of it that changes the bytes from `skip` on, `length` of them.
    pub fn part(&self, skip: usize, length: usize) -> Self {
        let part = |bytes: &[u8]| bytes.iter().skip(skip).take(length).copied().collect();
        let (keep, toggle) = (part(&self.keep), part(&self.toggle));
        Self { start: self.start + skip as u64, keep, toggle }
    }
}

/// A whole number of an option, from `low` on.
fn count(text: &str, low: u64) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count >= low);
    count.ok_or_else(|| format!("'{text}' is no whole number from {low} on"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Drawing, Seed};
    use proptest::prelude::*;

    fn parsed(name: &str, argument: &str) -> Box<dyn Model> {
        let spec = MODELS.iter().find(|spec| spec.name == name).unwrap();
        (spec.parse)(argument).unwrap()
    }

    fn fault(name: &str, argument: &str, form: Form, seed: u64) -> Result<Fault, FaultError> {
        parsed(name, argument).change(form, &mut Seed::first(seed).numbers(Drawing::Fault))
    }

    fn double() -> Form {
        Form { size: 8, scalar: Some(Scalar::Float(8)) }
    }

    fn ones(bytes: &[u8]) -> u32 {
        bytes.iter().map(|byte| byte.count_ones()).sum()
    }

    fn differing(before: &[u8], after: &[u8]) -> u32 {
        before.iter().zip(after).map(|(before, after)| (before ^ after).count_ones()).sum()
    }

    proptest! {
        #[test]
        fn a_flip_flips_so_many_bits(seed: u64, before: [u8; 8], count in 1u64..=64) {
            let fault = fault("flip", &count.to_string(), Form::bytes(8), seed).unwrap();
            let after = fault.apply(&before);
            prop_assert_eq!(u64::from(differing(&before, &after)), count);
            prop_assert_eq!(fault.apply(&after), before);
        }

        #[test]
        fn a_burst_flips_neighbours(seed: u64, count in 1u64..=64) {
            let after = fault("burst", &count.to_string(), double(), seed).unwrap().apply(&[0; 8]);
            let after = u64::from_le_bytes(after.try_into().unwrap());
            let (low, high) = (after.trailing_zeros(), 64 - after.leading_zeros());
            prop_assert_eq!((u64::from(after.count_ones()), u64::from(high - low)), (count, count));
        }

        #[test]
        fn bits_of_long_values_lie_where_they_were_drawn(seed: u64, size in 9u64..1 << 40) {
            let fault = fault("flip", "1", Form::bytes(size), seed).unwrap();
            prop_assert_eq!((fault.size(), ones(&fault.apply(&[0]))), (1, 1));
            prop_assert!(fault.start() < size);
        }

        #[test]
        fn masks_are_those_of_c(before: u32, mask: u32) {
            let after = |name| {
                let fault = fault(name, &format!("{mask:#x}"), Form::bytes(4), 0).unwrap();
                u32::from_le_bytes(fault.apply(&before.to_le_bytes()).try_into().unwrap())
            };
            prop_assert_eq!(after("and"), before & mask);
            prop_assert_eq!(after("or"), before | mask);
            prop_assert_eq!(after("xor"), before ^ mask);
        }

        #[test]
        fn what_is_stuck_stays(seed: u64, before: [u8; 8], now: [u8; 8], model in 0..MODELS.len()) {
            let spec = MODELS[model];
            let argument = match spec.name {
                "random" => "1..100",
                "flip-bits" => "3,17",
                "field" => "mantissa:3",
                _ => "5",
            };
            let argument = spec.argument.map_or("", |_| argument);
            let fault = fault(spec.name, argument, double(), seed).unwrap();
            let after = fault.apply(&before);
            let stuck = fault.stuck(&after);
            prop_assert_eq!(stuck.apply(&after), after.clone());
            let held = stuck.apply(&now);
            prop_assert_eq!(stuck.apply(&held), held.clone());
            // Only what the fault changes is held.
            let (keep, toggle) = fault.parts();
            for at in 0..8 {
                let own = !keep[at] | toggle[at];
                prop_assert_eq!(held[at] & own, after[at] & own);
                prop_assert_eq!(held[at] & !own, now[at] & !own);
            }
        }

        #[test]
        fn a_field_is_flipped_alone(seed: u64, bits: u64) {
            let fields = [("sign", 1 << 63), ("exponent", 0x7ff << 52), ("mantissa", (1 << 52) - 1)];
            for (name, mask) in fields {
                let fault = fault("field", name, double(), seed).unwrap();
                let after = fault.apply(&bits.to_le_bytes());
                let changed = u64::from_le_bytes(after.try_into().unwrap()) ^ bits;
                prop_assert_eq!((changed.count_ones(), changed & !mask), (1, 0));
            }
        }

        #[test]
        fn a_part_changes_its_bytes_as_the_whole_does(seed: u64, before: [u8; 8], cut in 1usize..8) {
            let fault = fault("random-bytes", "", double(), seed).unwrap();
            let mut parts = fault.part(0, cut).apply(&before[..cut]);
            parts.extend(fault.part(cut, 8 - cut).apply(&before[cut..]));
            prop_assert_eq!(parts, fault.apply(&before));
        }
    }

    #[test]
    fn a_seed_always_draws_the_same() {
        let drawn = |name, argument, form| {
            let after = |seed| fault(name, argument, form, seed).unwrap().apply(&[0; 8]);
            [after(1), after(2)].map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
        };
        let all = [
            drawn("random", "1..100", Form::bytes(8)),
            drawn("flip", "2", Form::bytes(8)),
            drawn("burst", "4", Form::bytes(8)),
            drawn("random-bytes", "", Form::bytes(8)),
            drawn("field", "exponent", double()),
        ];
        let pinned = [
            [9, 55],
            [33554464, 36028831378702336],
            [251658240, 135107988821114880],
            [7424550030962593201, 16257866876066601925],
            [1 << 56, 1 << 61],
        ];
        assert_eq!(all, pinned);
    }

    #[test]
    fn what_is_there_at_once() {
        let after = |name, form: Form| {
            fault(name, "", form, 0).unwrap().apply(&vec![0x5a; form.size as usize])
        };
        assert_eq!(after("zero", Form::bytes(3)), [0; 3]);
        assert_eq!(after("ones", Form::bytes(3)), [0xff; 3]);
        assert!(f64::from_le_bytes(after("nan", double()).try_into().unwrap()).is_nan());
        let single = Form { size: 4, scalar: Some(Scalar::Float(4)) };
        let infinite = f32::from_le_bytes(after("inf", single).try_into().unwrap());
        assert_eq!(infinite, f32::INFINITY);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fails = |name, argument: &str, form, part: &str| {
            let error = fault(name, argument, form, 0).unwrap_err().to_string();
            assert!(error.contains(part), "{name} {argument}: {error}");
        };
        let int = Form { size: 4, scalar: Some(Scalar::Signed(4)) };
        fails("flip", "33", int, "4 bytes has 32");
        fails("burst", "33", int, "4 bytes has 32");
        fails("flip-bits", "3,32", int, "no bit 32: 4 bytes have bits 0 to 31");
        fails("and", "0x100000000", int, "does not fit");
        fails("random", "1..256", Form::bytes(1), "256 does not fit NUM_BYTES 1");
        fails("random", "1..128", Form { size: 1, scalar: Some(Scalar::Signed(1)) }, "fit i8");
        fails("random", "1..2", Form::bytes(9), "1 to 8");
        fails("zero", "", Form::bytes(LONGEST + 1), "only 1 to 4096");
        fails("flip", "2", Form::bytes(LONGEST + 1), "only 1 to 4096");
        fails("nan", "", int, "this is i32");
        fails("field", "sign", Form::bytes(8), "--type f32 or f64");
        fails("field", "sign:2", double(), "the sign has 1");
        fails("flip", "1", Form::bytes(0), "4096");
        fails("flip-bits", "3", Form::bytes(0), "0 bytes cannot be changed");
        fails("flip-bits", "18446744073709551615", Form::bytes(u64::MAX), "no bit");
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        let fails = |name: &str, all: &[&str]| {
            let spec = MODELS.iter().find(|spec| spec.name == name).unwrap();
            all.iter().for_each(|bad| assert!((spec.parse)(bad).is_err(), "{name} {bad}"));
        };
        fails("flip", &["", "0", "-1", "x", "1.5"]);
        fails("burst", &["0", "", "1,2"]);
        fails("flip-bits", &["", "3,", "3,3", "3;4", "-1", "x"]);
        fails("and", &["", "x", "1.5"]);
        fails("random", &["", "1", "2..1"]);
        fails("field", &["", "exp", "sign:0", "sign:x", "mantissa:"]);
    }

    #[test]
    fn the_text_of_a_model_is_what_was_typed() {
        for (name, argument) in [("flip", "2"), ("flip-bits", "3,17"), ("random", "-1..16")] {
            assert_eq!(parsed(name, argument).to_string(), format!("{name} {argument}"));
        }
        assert_eq!(parsed("and", "0xff").to_string(), "and 0xff");
        assert_eq!(parsed("field", "exponent").to_string(), "field exponent");
        assert_eq!(parsed("zero", "").to_string(), "zero");
    }
}
