//! What is to be injected, as people say it: a target, and a value or a fault model. Which bytes
//! that is, the victim's symbols and types tell.

use super::{Drawn, Injection};
use crate::address::Gva;
use crate::fault::{Fault, FaultError, Form, Model, Set, bytes_of};
use crate::guest::Guest;
use crate::scalar::{Scalar, whole};
use crate::seed::{Drawing, Seed};
use crate::site::{Allow, Place, Region, RegionError, Space, Target, TargetError, find_in_kernel};
use crate::types::{self, Typed, TypesError, ValueError, plain};
use crate::victim::Victim;
use crate::when::scalar;

/// What is to be written where.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The target, or the region to draw a place from.
    pub target: &'a str,
    /// Bytes from there on.
    pub offset: i64,
    /// What to write.
    pub what: What<'a>,
    /// How many bytes; as the target's type has it, or all of it, where that is not given.
    pub size: Option<u64>,
    /// What they are taken for, whatever the target's type.
    pub scalar: Option<Scalar>,
    /// Which pages may be written.
    pub allow: Allow,
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// This value.
    Value(&'a str),
    /// What a fault model makes of the one that is there.
    Model(&'a dyn Model),
}

/// An order that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The fault cannot be done to so many bytes.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The value is none of the target's type.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The types are damaged.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// No place can be drawn.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Not a number.
    #[error("invalid value '{0}' for '<VALUE>': {1}")]
    NoNumber(String, String),
    /// The size is not known, or that of no plain value.
    #[error("NUM_BYTES is needed, 1 to 8: of the bytes of '{0}', {1}")]
    NoSize(String, String),
    /// The type that was given has another size than was given.
    #[error("NUM_BYTES is {size}, and --type {scalar} has {}", .scalar.size())]
    OtherSize {
        /// Bytes.
        size: u64,
        /// The type.
        scalar: Scalar,
    },
    /// Past the end of the address space.
    #[error("{0} + {1} is no address")]
    OutOfSpace(String, i64),
    /// The place was not found yet.
    #[error("'{0}' leads nowhere yet")]
    NotYet(String),
    /// The kernel has no regions.
    #[error("'{0}' is a region, and the kernel has none: name a symbol")]
    NoRegion(String),
}

/// An order, and the place that its target is.
#[derive(Clone, Debug)]
pub struct Aim<'a> {
    /// The order.
    pub order: Order<'a>,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    /// A byte of this is to be drawn.
    Region(Region),
    /// Here. Its type where that counts and is known.
    Place(Place, Option<Typed>),
    /// Where a path leads that leads nowhere yet.
    Later,
}

impl<'a> Order<'a> {
    /// Whether anything is drawn for it, unless its target turns out to be a symbol.
    pub fn draws(&self) -> bool {
        let model = matches!(self.what, What::Model(model) if model.draws());
        model || Target::may_be_region(self.target)
    }

    /// An error where it cannot be done, whatever the victim.
    pub fn check(&self) -> Result<(), OrderError> {
        if let (Some(size), Some(scalar)) = (self.size, self.scalar)
            && size != u64::from(scalar.size())
        {
            return Err(OrderError::OtherSize { size, scalar });
        }
        match (self.size.or(self.scalar.map(|scalar| scalar.size().into())), self.scalar) {
            // Its type may yet tell that it is a float.
            (Some(_), None) if self.of_floats() => Ok(()),
            (Some(size), _) => self.fault(size, None, Seed::first(0)).map(|_| ()),
            (None, _) => Ok(()),
        }
    }

    fn of_floats(&self) -> bool {
        matches!(self.what, What::Model(model) if model.of_floats())
    }

    /// Whether the target's own type counts.
    fn needs_type(&self) -> bool {
        let unknown = self.size.is_none() || self.of_floats();
        self.scalar.is_none() && self.offset == 0 && unknown
    }

    /// Aims at the place that the target is in `victim`.
    pub fn in_victim(self, victim: &Victim, target: &Target) -> Result<Aim<'a>, TargetError> {
        let place = match target {
            Target::Region(region) => return Ok(self.region(*region)),
            Target::Place(place) => place,
        };
        let typed = if self.needs_type() { type_of(victim, place)? } else { None };
        Ok(Aim { order: self, at: At::Place(place.clone(), typed) })
    }

    /// The same where no symbol is needed to tell the place.
    pub fn without_symbols(self) -> Option<Aim<'a>> {
        if let Some(region) = Target::region(self.target) {
            return Some(self.region(region));
        }
        let place = Target::plain_address(self.target)?;
        Some(Aim { order: self, at: At::Place(place, None) })
    }

    /// The same in the kernel of `guest`.
    pub fn in_kernel(self, guest: &Guest) -> Result<Aim<'a>, TargetError> {
        let place = find_in_kernel(guest, self.target)?;
        let typed = place.known_type().filter(|_| self.needs_type());
        Ok(Aim { order: self, at: At::Place(place, typed) })
    }

    /// Aims at a place that is only to be found when it counts.
    pub fn later(self) -> Aim<'a> {
        Aim { order: self, at: At::Later }
    }

    fn region(self, region: Region) -> Aim<'a> {
        Aim { order: self, at: At::Region(region) }
    }

    /// What to write where there are `own` bytes, 0 where nothing tells, of the type `typed`.
    fn fault(
        &self,
        own: u64,
        typed: Option<&Typed>,
        seed: Seed,
    ) -> Result<(Fault, String), OrderError> {
        let given = self.scalar.map(plain);
        let typed = given.as_ref().or(typed);
        match self.what {
            What::Value(text) => {
                let bytes = self.value(text, own, typed)?;
                let set = Set { text: text.to_owned(), bytes };
                Ok((Fault::set(set.bytes.clone()), set.to_string()))
            }
            What::Model(model) => {
                let form = self.form(own, typed)?;
                let fault = model.change(form, &mut seed.numbers(Drawing::Fault))?;
                Ok((fault, model.to_string()))
            }
        }
    }

    fn value(&self, text: &str, own: u64, typed: Option<&Typed>) -> Result<Vec<u8>, OrderError> {
        match (self.size, typed) {
            (None, Some(typed)) => Ok(types::bytes_of(&*typed.types, typed.id, text)?),
            (Some(_), Some(typed)) if self.scalar.is_some() => {
                Ok(types::bytes_of(&*typed.types, typed.id, text)?)
            }
            (size, _) => {
                let value =
                    whole(text).map_err(|why| OrderError::NoNumber(text.to_owned(), why))?;
                let size = size.map_or_else(|| self.plain_size(own), Ok)?;
                Ok(bytes_of(value, Form::bytes(size))?)
            }
        }
    }

    /// How many bytes to write where that was not said: all of the target.
    fn plain_size(&self, own: u64) -> Result<u64, OrderError> {
        let has = if own == 0 { "nothing tells how many".to_owned() } else { own.to_string() };
        let plain = Some(own).filter(|size| (1..=8).contains(size));
        plain.ok_or_else(|| OrderError::NoSize(self.target.to_owned(), has))
    }

    fn form(&self, own: u64, typed: Option<&Typed>) -> Result<Form, OrderError> {
        let of_type = typed.map(Typed::size).transpose()?.flatten();
        let size = match self.size.or(of_type) {
            Some(size) => size,
            None if own == 0 => self.plain_size(0)?,
            None => own,
        };
        let scalar = match typed {
            Some(typed) => scalar(typed.types.shape(typed.id)?),
            None => None,
        };
        let scalar = scalar.filter(|scalar| u64::from(scalar.size()) == size);
        Ok(Form { size, scalar })
    }
}

impl Aim<'_> {
    /// The injection, the one of `seed`, into `space`; `number` says which of several it is.
    pub fn injection<'s>(
        &'s self,
        space: Space<'s>,
        pid: i32,
        seed: Seed,
        number: Option<u64>,
    ) -> Result<Injection<'s>, OrderError> {
        let order = &self.order;
        let (at, size, typed, drawn) = match &self.at {
            At::Place(place, typed) => (place.gva, place.size, typed.as_ref(), None),
            At::Later => return Err(OrderError::NotYet(order.target.to_owned())),
            At::Region(region) => {
                let Space::Victim(victim) = space else {
                    return Err(OrderError::NoRegion(region.to_string()));
                };
                let draw = region.draw(victim, seed)?;
                (draw.gva, 1, None, Some(Drawn::of(*region, &draw)))
            }
        };
        let out = || OrderError::OutOfSpace(order.target.to_owned(), order.offset);
        let gva = at.checked_offset(order.offset).ok_or_else(out)?;
        let (fault, model) = order.fault(size, typed, seed)?;
        let draws = drawn.is_some() || matches!(order.what, What::Model(model) if model.draws());
        Ok(Injection {
            space,
            pid,
            symbol: order.target,
            offset: order.offset,
            gva,
            model,
            fault,
            seed: draws.then_some(seed),
            number,
            drawn,
            allow: order.allow,
        })
    }

    /// How many bytes the target has, where anything may lie outside of it.
    pub fn size(&self) -> Option<u64> {
        match &self.at {
            At::Region(_) | At::Later => None,
            At::Place(place, _) => Some(place.size).filter(|size| *size > 0),
        }
    }

    /// Whether a type was needed, and none was there.
    pub fn untyped(&self) -> bool {
        let untyped = matches!(self.at, At::Place(_, None));
        untyped && self.order.size.is_none() && self.order.scalar.is_none()
    }

    /// Whether its place still is where it was found: `held` tells whether a pointer on the way there
    /// holds what it did.
    pub fn leads_there(&self, held: impl Fn(&(Gva, u64)) -> bool) -> bool {
        match &self.at {
            At::Region(_) => true,
            At::Place(place, _) => place.pointers.iter().all(held),
            At::Later => false,
        }
    }
}

/// The type of what is at `place`. Of a symbol it is not needed, and many programs tell none; but a
/// file that was given for it must serve.
pub fn type_of(victim: &Victim, place: &Place) -> Result<Option<Typed>, TargetError> {
    match place.typed(victim) {
        Err(error) if !victim.has_debug_file() => {
            log::debug!("no type: {error}");
            Ok(None)
        }
        typed => typed,
    }
}
