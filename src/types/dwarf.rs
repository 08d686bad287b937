//! DWARF, the types in a vmlinux built with CONFIG_DEBUG_INFO, through gimli.
//!
//! A kernel's has some thousand units with some million entries. Units are read one after another
//! until each structure asked for has been found; most are in the first few hundred.

use super::file::section;
use super::{Member, TypeSource, TypesError, WHOLE};
use flate2::read::ZlibDecoder;
use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, DwAt, DwarfSections, EndianSlice,
    LittleEndian, Operation, Unit, UnitOffset, constants as dw,
};
use goblin::elf::Elf;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

/// How deep types may lie within each other, and how long a chain of typedefs may be.
const DEPTH: usize = 32;
/// `struct Elf64_Chdr`: type, reserved, size, alignment; and the type of zlib.
const COMPRESSION_HEADER: usize = 24;
const COMPRESSED_BY_ZLIB: u32 = 1;
/// The flag of a section that is compressed (SHF_COMPRESSED).
const COMPRESSED: u64 = 0x800;

type Slice<'d> = EndianSlice<'d, LittleEndian>;
type Entry<'d> = DebuggingInformationEntry<Slice<'d>>;
type Result<T, E = gimli::Error> = std::result::Result<T, E>;

/// The types of a program's debugging information.
pub struct Dwarf {
    sections: DwarfSections<Vec<u8>>,
    index: RefCell<Index>,
}

/// Where a definition stands.
type Place = (DebugInfoOffset, UnitOffset);

/// Where the structures and enumerations of the units that have been read are defined.
#[derive(Default)]
struct Index {
    structures: HashMap<String, Place>,
    enumerations: HashMap<String, Place>,
    /// How many units have been read.
    units: usize,
}

impl Dwarf {
    /// Takes the sections out of the file `bytes`, which `elf` describes.
    pub(super) fn parse(elf: &Elf, bytes: &[u8]) -> Result<Self, TypesError> {
        let sections = DwarfSections::load(|id| plain(elf, bytes, id.name()))?;
        Ok(Self { sections, index: RefCell::default() })
    }

    fn view(&self) -> View<'_> {
        View(self.sections.borrow(|section| EndianSlice::new(section, LittleEndian)))
    }

    /// Where what `known` looks for in the index is defined; reads on until it has been met.
    fn defined(&self, known: impl Fn(&Index) -> Option<Place>) -> Result<Option<Place>> {
        let mut index = self.index.borrow_mut();
        let view = self.view();
        let mut headers = view.0.units();
        for _ in 0..index.units {
            headers.next()?;
        }
        loop {
            if let Some(found) = known(&index) {
                return Ok(Some(found));
            }
            let Some(header) = headers.next()? else { return Ok(None) };
            index.units += 1;
            if let Some(at) = header.debug_info_offset() {
                view.index(at, &view.0.unit(header)?, &mut index)?;
            }
        }
    }

    fn find(&self, structure: &str, path: &str) -> Result<Option<Member>, TypesError> {
        let defined = self.defined(|index| index.structures.get(structure).copied())?;
        let Some((unit, at)) = defined else {
            return Err(TypesError::NoStructure(structure.to_owned()));
        };
        let view = self.view();
        let mut die = view.die(unit, at)?;
        if path == WHOLE {
            let size = number(&die.entry, dw::DW_AT_byte_size);
            return Ok(size.map(|size| Member { offset: 0, size }));
        }
        let mut offset = 0u64;
        for name in path.split('.') {
            let Some((found, further)) = view.member(&die, name.as_bytes(), DEPTH)? else {
                return Ok(None);
            };
            die = found;
            offset = offset.saturating_add(further);
        }
        Ok(view.size(&die, DEPTH)?.map(|size| Member { offset, size }))
    }

    fn value(&self, enumeration: &str, name: &str) -> Result<Option<u64>, TypesError> {
        let defined = self.defined(|index| index.enumerations.get(enumeration).copied())?;
        let Some((unit, at)) = defined else {
            return Err(TypesError::NoStructure(enumeration.to_owned()));
        };
        let view = self.view();
        let die = view.die(unit, at)?;
        let mut tree = die.unit.entries_tree(Some(die.entry.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let own = view.name(&die.unit, child.entry())?;
            if own.is_some_and(|own| own.slice() == name.as_bytes()) {
                return Ok(number(child.entry(), dw::DW_AT_const_value));
            }
        }
        Ok(None)
    }
}

impl TypeSource for Dwarf {
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError> {
        self.find(structure, path)?.ok_or_else(|| TypesError::NoMember {
            structure: structure.to_owned(),
            member: path.to_owned(),
        })
    }

    fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, TypesError> {
        self.value(enumeration, name)?.ok_or_else(|| TypesError::NoMember {
            structure: enumeration.to_owned(),
            member: name.to_owned(),
        })
    }
}

impl From<gimli::Error> for TypesError {
    fn from(error: gimli::Error) -> Self {
        Self::Damaged("DWARF", error.to_string())
    }
}

/// The bytes of the section `name`, decompressed; none where there is no such section.
fn plain(elf: &Elf, bytes: &[u8], name: &str) -> Result<Vec<u8>, TypesError> {
    let Some(stored) = section(elf, bytes, name) else { return Ok(Vec::new()) };
    let mut headers = elf.section_headers.iter();
    let named = |at| elf.shdr_strtab.get_at(at) == Some(name);
    if headers.any(|header| named(header.sh_name) && header.sh_flags & COMPRESSED != 0) {
        return inflate(stored, name);
    }
    Ok(stored.to_vec())
}

fn inflate(stored: &[u8], name: &str) -> Result<Vec<u8>, TypesError> {
    let damaged = |what: &str| TypesError::Damaged("DWARF", format!("section {name} {what}"));
    let (header, packed) =
        stored.split_at_checked(COMPRESSION_HEADER).ok_or_else(|| damaged("is cut off"))?;
    if header[..4] != COMPRESSED_BY_ZLIB.to_le_bytes() {
        return Err(damaged("is not compressed by zlib: objcopy --decompress-debug-sections"));
    }
    let mut plain = Vec::new();
    let read = ZlibDecoder::new(packed).read_to_end(&mut plain);
    read.map_err(|error| damaged(&format!("does not decompress: {error}")))?;
    Ok(plain)
}

/// An entry, and the unit that it is in.
struct Die<'d> {
    unit: Rc<Unit<Slice<'d>>>,
    entry: Entry<'d>,
}

struct View<'d>(gimli::Dwarf<Slice<'d>>);

impl<'d> View<'d> {
    /// Adds the structures, unions and enumerations that `unit`, at `start`, defines at its top.
    /// The first of a name is the kernel's own.
    fn index(
        &self,
        start: DebugInfoOffset,
        unit: &Unit<Slice<'d>>,
        index: &mut Index,
    ) -> Result<()> {
        let mut entries = unit.entries();
        // Into the unit, then along its children.
        entries.next_dfs()?;
        let mut next = entries.next_dfs()?;
        while let Some(entry) = next {
            let kept = match entry.tag() {
                dw::DW_TAG_enumeration_type => Some(&mut index.enumerations),
                _ => composite(entry).then_some(&mut index.structures),
            };
            if let Some(kept) = kept
                && entry.attr_value(dw::DW_AT_declaration).is_none()
                && let Some(name) = self.name(unit, entry)?
            {
                let name = String::from_utf8_lossy(&name).into_owned();
                kept.entry(name).or_insert((start, entry.offset()));
            }
            next = entries.next_sibling()?;
        }
        Ok(())
    }

    fn name(&self, unit: &Unit<Slice<'d>>, entry: &Entry<'d>) -> Result<Option<Slice<'d>>> {
        let name = entry.attr_value(dw::DW_AT_name);
        name.map(|name| self.0.attr_string(unit, name)).transpose()
    }

    fn die(&self, unit: DebugInfoOffset, at: UnitOffset) -> Result<Die<'d>> {
        let unit = Rc::new(self.0.unit(self.0.unit_header(unit)?)?);
        let entry = unit.entry(at)?;
        Ok(Die { unit, entry })
    }

    /// What `die` says its type is; `None` for `void`.
    fn type_of(&self, die: &Die<'d>) -> Result<Option<Die<'d>>> {
        match die.entry.attr_value(dw::DW_AT_type) {
            Some(AttributeValue::UnitRef(at)) => {
                let unit = Rc::clone(&die.unit);
                let entry = unit.entry(at)?;
                Ok(Some(Die { unit, entry }))
            }
            Some(AttributeValue::DebugInfoRef(at)) => self.in_any_unit(at),
            _ => Ok(None),
        }
    }

    /// The entry at `at`, which link-time optimization may have put into another unit.
    fn in_any_unit(&self, at: DebugInfoOffset) -> Result<Option<Die<'d>>> {
        let mut headers = self.0.units();
        while let Some(header) = headers.next()? {
            let start = header.debug_info_offset();
            if let (Some(within), Some(unit)) = (at.to_unit_offset(&header), start) {
                return self.die(unit, within).map(Some);
            }
        }
        Ok(None)
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, die: &Die<'d>) -> Result<Option<Die<'d>>> {
        let mut found = self.type_of(die)?;
        for _ in 0..DEPTH {
            match &found {
                Some(die) if is_alias(&die.entry) => found = self.type_of(die)?,
                _ => break,
            }
        }
        Ok(found)
    }

    /// The member `name` of `within`, or of its type, also inside anonymous members; and its
    /// offset in bytes.
    fn member(
        &self,
        within: &Die<'d>,
        name: &[u8],
        depth: usize,
    ) -> Result<Option<(Die<'d>, u64)>> {
        let holder = if composite(&within.entry) { None } else { self.resolve(within)? };
        let holder = holder.as_ref().unwrap_or(within);
        if depth == 0 || !composite(&holder.entry) {
            return Ok(None);
        }
        let mut tree = holder.unit.entries_tree(Some(holder.entry.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() != dw::DW_TAG_member {
                continue;
            }
            let die = Die { unit: Rc::clone(&holder.unit), entry: entry.clone() };
            let Some(offset) = offset(&die)? else { continue };
            match self.name(&holder.unit, entry)? {
                Some(own) if own.slice() == name => return Ok(Some((die, offset))),
                Some(_) => {}
                None => {
                    if let Some((found, further)) = self.member(&die, name, depth - 1)? {
                        return Ok(Some((found, offset.saturating_add(further))));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Bytes of the type of `die`, a member or an array.
    fn size(&self, die: &Die<'d>, depth: usize) -> Result<Option<u64>> {
        let Some(found) = self.resolve(die)?.filter(|_| depth > 0) else { return Ok(None) };
        match found.entry.tag() {
            dw::DW_TAG_array_type => {
                let element = self.size(&found, depth - 1)?;
                let count = count(&found)?;
                Ok(element.and_then(|element| element.checked_mul(count)))
            }
            dw::DW_TAG_pointer_type => Ok(Some(8)),
            _ => Ok(number(&found.entry, dw::DW_AT_byte_size)),
        }
    }
}

fn composite(entry: &Entry) -> bool {
    matches!(entry.tag(), dw::DW_TAG_structure_type | dw::DW_TAG_union_type)
}

fn is_alias(entry: &Entry) -> bool {
    matches!(entry.tag(), dw::DW_TAG_typedef | dw::DW_TAG_const_type | dw::DW_TAG_volatile_type)
}

fn number(entry: &Entry, name: DwAt) -> Option<u64> {
    entry.attr_value(name)?.udata_value()
}

/// Where a member starts, in bytes: a number since DWARF 4, an expression before, and bits for a
/// bit field. Members of unions need not say.
fn offset(member: &Die) -> Result<Option<u64>> {
    if let Some(bits) = number(&member.entry, dw::DW_AT_data_bit_offset) {
        return Ok(Some(bits / 8));
    }
    let Some(place) = member.entry.attr_value(dw::DW_AT_data_member_location) else {
        return Ok(Some(0));
    };
    let AttributeValue::Exprloc(expression) = place else { return Ok(place.udata_value()) };
    match expression.operations(member.unit.encoding()).next()? {
        Some(Operation::PlusConstant { value }) => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// Elements of an array: the product of its dimensions.
fn count(array: &Die) -> Result<u64> {
    let mut tree = array.unit.entries_tree(Some(array.entry.offset()))?;
    let mut children = tree.root()?.children();
    let mut count = 1u64;
    while let Some(child) = children.next()? {
        let entry = child.entry();
        if entry.tag() == dw::DW_TAG_subrange_type {
            let last = number(entry, dw::DW_AT_upper_bound).map(|last| last.saturating_add(1));
            let own = number(entry, dw::DW_AT_count).or(last).unwrap_or(0);
            count = count.saturating_mul(own);
        }
    }
    Ok(count)
}
