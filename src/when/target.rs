//! The targets of a trigger: where each is found, and how it is read.

use crate::address::{Gpa, Gva};
use crate::memory::WORD;
use crate::scalar::{Number, Scalar};
use crate::site::{Place, Space, TargetError};
use crate::types::{Shape, Typed, TypesError, Value};
use serde_json::Value as Json;
use std::sync::atomic::{AtomicU64, Ordering};

/// A trigger that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// No such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its type is damaged.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// Nothing tells what its bytes mean.
    #[error(
        "nothing tells the type of '{0}', so not its value either: say it, as (i32){0}, or (f64){0}"
    )]
    Untyped(String),
    /// It is no number.
    #[error("'{0}' is {1}, which is no number: name a member or an element of it")]
    NoNumber(String, String),
}

/// Where a target is found, and how it is read.
pub struct Seen {
    /// Where.
    pub place: Place,
    /// What its bytes are.
    pub scalar: Scalar,
}

impl Seen {
    /// The target `text` at `place`, whose `typed` tells what it is; `untyped` where whole bytes do
    /// as well.
    pub fn new(
        text: &str,
        place: Place,
        typed: Option<Typed>,
        untyped: bool,
    ) -> Result<Self, TriggerError> {
        let Some(typed) = typed else {
            let size = u8::try_from(place.size).ok().filter(|size| (1..=8).contains(size));
            let size = size.filter(|_| untyped);
            let size = size.ok_or_else(|| TriggerError::Untyped(text.to_owned()))?;
            return Ok(Self { place, scalar: Scalar::Unsigned(size) });
        };
        let name = typed.types.name(typed.id)?;
        let scalar = scalar(typed.types.shape(typed.id)?);
        let scalar = scalar.ok_or_else(|| TriggerError::NoNumber(text.to_owned(), name))?;
        Ok(Self { place, scalar })
    }
}

/// The plain number that a type of this `shape` is.
pub fn scalar(shape: Shape) -> Option<Scalar> {
    let plain = |size: u64| u8::try_from(size).ok().filter(|size| (1..=8).contains(size));
    match shape {
        Shape::Int { size, signed: true } => plain(size).map(Scalar::Signed),
        // Enumerations may have negative values; C has them as int.
        Shape::Enumeration { size } => plain(size).map(Scalar::Signed),
        Shape::Int { size, signed: false } | Shape::Bool { size } | Shape::Char { size } => {
            plain(size).map(Scalar::Unsigned)
        }
        Shape::Float { size: size @ (4 | 8) } => plain(size).map(Scalar::Float),
        Shape::Pointer(_) | Shape::Reference(_) => Some(Scalar::Unsigned(8)),
        _ => None,
    }
}

/// A number for programs, and how people are shown it.
pub fn json(scalar: Scalar, number: Number) -> Json {
    match (number, scalar) {
        (Number::Whole(whole), _) => Value::Number(whole),
        (Number::Real(real), Scalar::Float(4)) => Value::Single(real as f32),
        (Number::Real(real), _) => Value::Double(real),
    }
    .json()
}

/// Where a number lies, without what told its type: so other threads can have it.
#[derive(Clone, Debug)]
pub struct Spot {
    gva: Gva,
    scalar: Scalar,
    pointers: Vec<(Gva, u64)>,
}

impl Seen {
    /// The number by itself.
    pub fn spot(&self) -> Spot {
        let Place { gva, ref pointers, .. } = self.place;
        Spot { gva, scalar: self.scalar, pointers: pointers.clone() }
    }
}

impl Spot {
    /// The number now, in `space`; none where it has no page, or the way there has changed.
    pub fn number(&self, space: Space) -> Option<Number> {
        Aimed::new(space, self)?.number()
    }

    /// Whether pointers lead there, which may come to lead elsewhere.
    pub fn may_move(&self) -> bool {
        !self.pointers.is_empty()
    }
}

/// Finds a target anew: pointers on the way there may have changed.
pub type Find<'t> = dyn Fn(&str) -> Result<Seen, TriggerError> + 't;

/// A target, aimed at.
pub struct Aimed<'t> {
    /// What its bytes are.
    pub scalar: Scalar,
    value: Cell<'t>,
    /// The pointers that led there, and what each must still be.
    pointers: Vec<(Cell<'t>, u64)>,
}

/// Up to eight bytes of guest memory, and where they lie.
struct Cell<'t> {
    gva: Gva,
    gpa: Gpa,
    /// The word that holds all of it, where it can be had as it is.
    word: Option<&'t AtomicU64>,
    space: Space<'t>,
    size: u8,
}

impl<'t> Cell<'t> {
    fn new(space: Space<'t>, gva: Gva, size: u8) -> Option<Self> {
        let gpa = space.view().walk(gva).ok()?.gpa;
        let within = gpa.0 % WORD + u64::from(size) <= WORD;
        let word = within.then(|| space.guest().memory().word(gpa.align_down(WORD))).flatten();
        Some(Self { gva, gpa, word, space, size })
    }

    /// The bytes now, as the lowest of a number.
    #[inline]
    fn bits(&self) -> Option<u64> {
        match self.word {
            Some(word) => {
                Some(u64::from_le(word.load(Ordering::Acquire)) >> (8 * (self.gpa.0 % WORD)))
            }
            None => {
                let mut bytes = [0; 8];
                let part = bytes.get_mut(..self.size.into())?;
                self.space.view().read(self.gva, part).ok()?;
                Some(u64::from_le_bytes(bytes))
            }
        }
    }

    /// Whether it still lies where it did.
    fn in_place(&self) -> bool {
        self.space.view().walk(self.gva).is_ok_and(|walk| walk.gpa == self.gpa)
    }
}

impl<'t> Aimed<'t> {
    /// Aims at the `spot` in `space`, if it has a page.
    pub fn new(space: Space<'t>, spot: &Spot) -> Option<Self> {
        let pointer = |&(at, to): &(Gva, u64)| Some((Cell::new(space, at, 8)?, to));
        let pointers = spot.pointers.iter().map(pointer).collect::<Option<_>>()?;
        let value = Cell::new(space, spot.gva, spot.scalar.size())?;
        Some(Self { scalar: spot.scalar, value, pointers })
    }

    /// The value now; none where the way there has changed.
    #[inline]
    pub fn number(&self) -> Option<Number> {
        self.leads().then(|| Some(self.scalar.number(self.value.bits()?))).flatten()
    }

    /// Whether the pointers are as they were.
    #[inline]
    fn leads(&self) -> bool {
        self.pointers.iter().all(|(cell, to)| cell.bits() == Some(*to))
    }

    /// Whether all lies where it did.
    pub fn in_place(&self) -> bool {
        self.value.in_place() && self.pointers.iter().all(|(cell, _)| cell.in_place())
    }

    /// The same, and whether the way there is what it was.
    pub fn leads_there(&self) -> bool {
        self.in_place() && self.leads()
    }
}
