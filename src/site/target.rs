//! From what a user types to a place in the victim: the one grammar of all commands, which
//! docs/targets.md explains.

use super::Region;
use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::kernel::KernelError;
use crate::process::ProcessError;
use crate::symbols::SymbolError;
use crate::types::{Expression, PathError, Root, Start, TypeId, Typed, Types, TypesError, plain};
use crate::victim::{self, Victim, VictimError};
use std::cell::RefCell;
use std::rc::Rc;

/// What stands before a region's name, where a symbol has the same.
const REGION: &str = "region:";

/// A text that means nothing in the victim, or several things.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No such symbol, or nothing tells its type.
    #[error(transparent)]
    Victim(#[from] VictimError),
    /// No such symbol of the kernel.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
    /// The kernel's symbols or types are not to be had.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No such process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A variable of which each CPU has its own.
    #[error(
        "'{0}' is a variable of each CPU, {1} into that CPU's part: give the address itself, which is that far behind the CPU's word of '__per_cpu_offset'"
    )]
    PerCpu(String, Gva),
    /// The path leads nowhere.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The types are damaged.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// No such type.
    #[error("the debugging information has no type '{0}'")]
    NoType(String),
    /// An address tells no type.
    #[error("nothing tells what is at {0}: say it, as (struct NAME){0}.MEMBER")]
    Untyped(Gva),
    /// A region's name that is a symbol's too.
    #[error(
        "'{name}' is a region and a symbol of the victim: say region:{name}, or {program}:{name} for the symbol"
    )]
    Ambiguous {
        /// The name.
        name: String,
        /// What the program is called.
        program: String,
    },
    /// A region where a place is needed.
    #[error("'{0}' is a region, no place: only 'vmfi inject' draws a place from one")]
    Region(Region),
    /// Past the end of the address space.
    #[error("'{0}' lies outside of the address space")]
    OutOfSpace(String),
}

impl TargetError {
    /// Whether it is for what the victim's memory holds now.
    pub fn is_of_memory(&self) -> bool {
        matches!(self, Self::Path(error) if error.is_of_memory())
    }
}

/// What a user has typed, found in a victim.
#[derive(Clone, Debug)]
pub enum Target {
    /// A place is to be drawn from this.
    Region(Region),
    /// This place.
    Place(Place),
}

/// A place in a victim.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address.
    pub gva: Gva,
    /// Its bytes; 0 where nothing tells.
    pub size: u64,
    /// Whether it starts in the program, not in a library.
    pub of_program: bool,
    /// The pointers that led there: where each lies, and what it held.
    pub pointers: Vec<(Gva, u64)>,
    kind: Kind,
}

/// What tells the type of a place.
#[derive(Clone, Debug)]
enum Kind {
    /// It is a symbol: the debugging information does, which is not read before it is asked for.
    Symbol(victim::Place),
    /// The path to it has.
    Typed(Typed),
    /// Nothing.
    Untyped,
}

impl Target {
    /// What `text` means in `victim`.
    pub fn find(victim: &Victim, text: &str) -> Result<Self, TargetError> {
        if let Some(region) = region(victim, text)? {
            return Ok(Self::Region(region));
        }
        let ways = Expression::all(text);
        if let Some((way, gva)) = ways.iter().find_map(address) {
            return Place::of_address(victim, text, way, gva).map(Self::Place);
        }
        let names = ways.iter().filter_map(|way| match way.root {
            Root::Symbol(name) => Some(name),
            Root::Address(_) => None,
        });
        let names: Vec<_> = names.collect();
        let Some((chosen, symbol)) = victim.first_of(&names)? else {
            // The shortest is what was meant as the symbol, if anything was.
            return Err(victim.nowhere(names.last().unwrap_or(&text))?.into());
        };
        Place::of_symbol(victim, text, &ways[chosen], symbol).map(Self::Place)
    }

    /// The region that `text` is sure to name.
    pub fn region(text: &str) -> Option<Region> {
        text.strip_prefix(REGION)?.parse().ok()
    }

    /// The place that `text` is the address of, and no more: no symbol is needed for it.
    pub fn plain_address(text: &str) -> Option<Place> {
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'))?;
        u64::from_str_radix(digits, 16).ok().map(|at| Place::untyped(Gva(at)))
    }

    /// Whether `text` names a region unless the victim has such a symbol.
    pub fn may_be_region(text: &str) -> bool {
        text.strip_prefix(REGION).unwrap_or(text).parse::<Region>().is_ok()
    }

    /// The place; an error for a region.
    pub fn place(&self) -> Result<&Place, TargetError> {
        match self {
            Self::Place(place) => Ok(place),
            Self::Region(region) => Err(TargetError::Region(*region)),
        }
    }
}

/// The address that `way` starts at, if it does at one.
pub(super) fn address<'w, 't>(way: &'w Expression<'t>) -> Option<(&'w Expression<'t>, Gva)> {
    match way.root {
        Root::Address(gva) => Some((way, gva)),
        Root::Symbol(_) => None,
    }
}

/// The region that `text` names, unless a symbol could be meant: one that all of the program knows.
/// What a file keeps to itself has that file's name before it; every static program has such.
fn region(victim: &Victim, text: &str) -> Result<Option<Region>, TargetError> {
    if let Some(name) = text.strip_prefix(REGION) {
        return Ok(name.parse().ok());
    }
    let Ok(region) = text.parse() else { return Ok(None) };
    if victim.has_global(text) {
        let (name, program) = (text.to_owned(), victim.short_name().to_owned());
        return Err(TargetError::Ambiguous { name, program });
    }
    Ok(Some(region))
}

impl Place {
    /// A place of which nothing but the address is known.
    pub(super) fn untyped(gva: Gva) -> Self {
        Self { gva, size: 0, of_program: true, pointers: Vec::new(), kind: Kind::Untyped }
    }

    /// A place whose type is known.
    pub(super) fn of_type(gva: Gva, typed: Typed) -> Result<Self, TargetError> {
        let size = typed.size()?.unwrap_or(0);
        Ok(Self { size, kind: Kind::Typed(typed), ..Self::untyped(gva) })
    }

    /// The type of what is there, where the way to it told.
    pub fn known_type(&self) -> Option<Typed> {
        if let Kind::Typed(typed) = &self.kind { Some(typed.clone()) } else { None }
    }

    fn of_address(
        victim: &Victim,
        text: &str,
        way: &Expression,
        gva: Gva,
    ) -> Result<Self, TargetError> {
        let place = Self::untyped(gva);
        if !way.is_typed() {
            return place.moved(text, way.offset);
        }
        let typed = cast(way, || Ok(victim.types_of(None)?))?;
        place.along(victim, text, way, typed.ok_or(TargetError::Untyped(gva))?)
    }

    fn of_symbol(
        victim: &Victim,
        text: &str,
        way: &Expression,
        symbol: victim::Place,
    ) -> Result<Self, TargetError> {
        let victim::Place { gva, size, of_program, .. } = symbol;
        let place = Self { size, of_program, ..Self::untyped(gva) };
        if !way.is_typed() {
            return Self { kind: Kind::Symbol(symbol), ..place }.moved(text, way.offset);
        }
        let typed = match cast(way, || Ok(victim.types_of(Some(&symbol))?))? {
            None => victim.type_of(&symbol)?,
            Some(typed) => typed,
        };
        place.along(victim, text, way, typed)
    }

    /// Where `way` leads from here, which is `typed`.
    fn along(
        self,
        victim: &Victim,
        text: &str,
        way: &Expression,
        typed: Typed,
    ) -> Result<Self, TargetError> {
        let start = Start::Object(self.gva, typed.id);
        let found = follow(victim.memory.view(), way, &typed, start)?;
        Self { of_program: self.of_program, ..found }.moved(text, way.offset)
    }

    /// `offset` bytes on, where nothing tells of a type any more.
    pub(super) fn moved(self, text: &str, offset: i64) -> Result<Self, TargetError> {
        if offset == 0 {
            return Ok(self);
        }
        let gva = self.gva.checked_offset(offset);
        let gva = gva.ok_or_else(|| TargetError::OutOfSpace(text.to_owned()))?;
        let left = u64::try_from(offset).ok().and_then(|offset| self.size.checked_sub(offset));
        Ok(Self { gva, size: left.unwrap_or(0), kind: Kind::Untyped, ..self })
    }

    /// The type of what is there: what a path told, or for a symbol what the debugging information
    /// tells. None for an address alone, and where an offset leads away.
    pub fn typed(&self, victim: &Victim) -> Result<Option<Typed>, TargetError> {
        match &self.kind {
            Kind::Symbol(symbol) => Ok(Some(victim.type_of(symbol)?)),
            Kind::Typed(typed) => Ok(Some(typed.clone())),
            Kind::Untyped => Ok(None),
        }
    }
}

/// Where `way` leads from `start`, which is `typed`, in what `view` shows.
pub(super) fn follow(
    view: &VirtualMemory,
    way: &Expression,
    typed: &Typed,
    start: Start,
) -> Result<Place, TargetError> {
    let pointers = RefCell::new(Vec::new());
    let read = |gva| {
        let to = view.read_u64(gva).ok()?;
        pointers.borrow_mut().push((gva, to));
        Some(to)
    };
    let (gva, id) = way.follow(&*typed.types, start, &read)?;
    let place = Place::of_type(gva, Typed { types: Rc::clone(&typed.types), id })?;
    Ok(Place { pointers: pointers.into_inner(), ..place })
}

/// The type that `way` says its root has.
pub(super) fn cast(
    way: &Expression,
    types: impl FnOnce() -> Result<Rc<dyn Types>, TargetError>,
) -> Result<Option<Typed>, TargetError> {
    let Some(cast) = &way.cast else { return Ok(None) };
    let pointers = |id| (0..cast.pointers).fold(id, |id: TypeId, _| id.pointer());
    // These names need nothing that tells them.
    if let Ok(scalar) = cast.name.parse() {
        let Typed { types, id } = plain(scalar);
        return Ok(Some(Typed { types, id: pointers(id) }));
    }
    let types = types()?;
    let found = types.named(cast.name)?;
    let id = found.ok_or_else(|| TargetError::NoType(cast.name.to_owned()))?;
    Ok(Some(Typed { types, id: pointers(id) }))
}
