//! DWARF, what compilers note of a program's types and variables, through gimli. Versions 2 to 5.
//!
//! A kernel's has some thousand units with some million entries. Units are read one after another
//! until what is asked for has been found; of a kernel, most is in the first few hundred.
//!
//! A type is told by where its entry lies in `.debug_info`.

use super::model::{DEPTH, VOID, printable, spelling};
use super::{Bits, Field, Member, Shape, TypeId, TypeSource, Types, TypesError, WHOLE};
use crate::symbols::Sections;
use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, DwAt, DwTag, EndianRcSlice,
    EntriesTreeNode, LittleEndian, Operation, Reader as _, SectionId, UnitHeader, UnitOffset,
    constants as dw,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The sections that tell of types. (A unit is not read without its lines.)
const SECTIONS: [SectionId; 7] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// How long all of it is looked at, for a variable or for names: units can be made to share what is read for
/// each. The time between two questions does not count: a program may be asked about for days.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many units are kept.
const KEPT: usize = 256;

type Slice = EndianRcSlice<LittleEndian>;
type Unit = gimli::Unit<Slice>;
type Entry = DebuggingInformationEntry<Slice>;
type Node<'a, 'me> = EntriesTreeNode<'a, 'me, Slice>;
type Result<T, E = gimli::Error> = std::result::Result<T, E>;

/// The types of a program's debugging information.
pub struct Dwarf {
    dwarf: gimli::Dwarf<Slice>,
    headers: Vec<UnitHeader<Slice>>,
    /// Units in which something was looked up.
    units: RefCell<HashMap<usize, Rc<Unit>>>,
    index: RefCell<Index>,
}

/// Where the types of the units that have been read are defined, by their names, those of
/// namespaces included.
#[derive(Default)]
struct Index {
    structures: HashMap<String, u64>,
    enumerations: HashMap<String, u64>,
    /// Typedefs and what the language has itself.
    others: HashMap<String, u64>,
    /// How many units have been read,
    units: usize,
    /// and how long that took.
    took: Duration,
}

/// An entry, and the unit that it is in.
struct Die {
    unit: Rc<Unit>,
    entry: Entry,
}

impl Die {
    /// Where it lies in all of `.debug_info`.
    fn at(&self) -> u64 {
        place(&self.unit, self.entry.offset())
    }
}

impl Dwarf {
    /// Takes the sections out of a file that has these.
    pub fn parse(sections: &Sections) -> Result<Self, TypesError> {
        let dwarf = gimli::Dwarf::load(|id| {
            let wanted = SECTIONS.contains(&id).then(|| sections.bytes(id.name())).transpose()?;
            Ok::<_, TypesError>(Slice::new(
                wanted.flatten().unwrap_or_default().into(),
                LittleEndian,
            ))
        })?;
        let (mut headers, mut next) = (Vec::new(), dwarf.units());
        while let Some(header) = next.next()? {
            headers.push(header);
        }
        let (units, index) = Default::default();
        Ok(Self { dwarf, headers, units, index })
    }

    /// The type of the variable that lies at the link-time `address`. Where none is told to be
    /// there, as of what was moved out of a library, that of the declaration of `name`.
    pub fn variable(&self, name: &str, address: u64) -> Result<Option<TypeId>, TypesError> {
        let (mut declared, mut split) = (None, false);
        let begun = Instant::now();
        for header in &self.headers {
            is_soon_enough(begun.elapsed())?;
            let unit = Rc::new(self.read(header)?);
            split |= unit.dwo_name().is_ok_and(|name| name.is_some());
            if let Some(found) = self.variable_of(&unit, name, address, &mut declared)? {
                return self.variable_type(Die { unit, entry: found });
            }
        }
        match declared {
            Some(declared) => self.variable_type(declared),
            None if split => Err(TypesError::Split),
            None => Ok(None),
        }
    }

    fn variable_of(
        &self,
        unit: &Rc<Unit>,
        name: &str,
        address: u64,
        declared: &mut Option<Die>,
    ) -> Result<Option<Entry>> {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if entry.tag() != dw::DW_TAG_variable {
                continue;
            }
            if self.address(unit, entry)? == Some(address) {
                return Ok(Some(entry.clone()));
            }
            let declares = entry.attr(dw::DW_AT_declaration).is_some();
            if declares && declared.is_none() && self.is_called(unit, entry, name) {
                *declared = Some(Die { unit: Rc::clone(unit), entry: entry.clone() });
            }
        }
        Ok(None)
    }

    /// The one address that a variable has, if it has one.
    fn address(&self, unit: &Unit, entry: &Entry) -> Result<Option<u64>> {
        let Some(AttributeValue::Exprloc(place)) = entry.attr_value(dw::DW_AT_location) else {
            return Ok(None);
        };
        Ok(match place.operations(unit.encoding()).next()? {
            Some(Operation::Address { address }) => Some(address),
            Some(Operation::AddressIndex { index }) => self.dwarf.address(unit, index).ok(),
            _ => None,
        })
    }

    fn is_called(&self, unit: &Unit, entry: &Entry, name: &str) -> bool {
        [dw::DW_AT_name, dw::DW_AT_linkage_name]
            .into_iter()
            .any(|own| self.text(unit, entry, own).is_some_and(|own| own == name))
    }

    /// The type of a variable, which its definition may leave to a declaration before it.
    fn variable_type(&self, mut die: Die) -> Result<Option<TypeId>, TypesError> {
        for _ in 0..DEPTH {
            if die.entry.attr(dw::DW_AT_type).is_some() {
                return Ok(Some(self.type_id(&die)?));
            }
            let before = self.leads_to(&die, dw::DW_AT_specification)?;
            let before = match before {
                None => self.leads_to(&die, dw::DW_AT_abstract_origin)?,
                found => found,
            };
            let Some(before) = before else { return Ok(None) };
            die = self.die(before)?;
        }
        Ok(None)
    }

    fn read(&self, header: &UnitHeader<Slice>) -> Result<Unit, TypesError> {
        Ok(self.dwarf.unit(header.clone())?)
    }

    fn unit(&self, index: usize) -> Result<Rc<Unit>, TypesError> {
        if let Some(unit) = self.units.borrow().get(&index) {
            return Ok(Rc::clone(unit));
        }
        let unit = Rc::new(self.read(&self.headers[index])?);
        let mut kept = self.units.borrow_mut();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(index, Rc::clone(&unit));
        Ok(unit)
    }

    /// The entry at `at`, which may be in any unit.
    fn die(&self, at: u64) -> Result<Die, TypesError> {
        let offset = DebugInfoOffset(usize::try_from(at).unwrap_or(usize::MAX));
        let after = |header: &UnitHeader<Slice>| {
            header.debug_info_offset().is_some_and(|start| start <= offset)
        };
        let index = self.headers.partition_point(after).checked_sub(1);
        let index = index.ok_or(gimli::Error::NoEntryAtGivenOffset(at))?;
        let unit = self.unit(index)?;
        let within = offset.to_unit_offset(&unit.header);
        let entry = unit.entry(within.ok_or(gimli::Error::NoEntryAtGivenOffset(at))?)?;
        Ok(Die { unit, entry })
    }

    /// Where the attribute `name` of `die` leads.
    fn leads_to(&self, die: &Die, name: DwAt) -> Result<Option<u64>, TypesError> {
        match die.entry.attr_value(name) {
            Some(AttributeValue::UnitRef(at)) => Ok(Some(place(&die.unit, at))),
            Some(AttributeValue::DebugInfoRef(at)) => Ok(Some(at.0 as u64)),
            Some(AttributeValue::DebugTypesRef(_)) => Err(TypesError::TypeUnits),
            Some(AttributeValue::DebugInfoRefSup(_)) => Err(TypesError::Supplementary),
            _ => Ok(None),
        }
    }

    /// What `die` says its type is.
    fn type_id(&self, die: &Die) -> Result<TypeId, TypesError> {
        Ok(TypeId::new(self.leads_to(die, dw::DW_AT_type)?.unwrap_or(VOID)))
    }

    /// The type at `at` behind qualifiers, and where `typedefs` says so behind typedefs; `None` for
    /// `void`.
    fn resolve(&self, mut at: u64, typedefs: bool) -> Result<Option<Die>, TypesError> {
        for _ in 0..DEPTH {
            if at == VOID {
                return Ok(None);
            }
            let die = self.die(at)?;
            let tag = die.entry.tag();
            if !(is_qualifier(tag) || typedefs && tag == dw::DW_TAG_typedef) {
                return Ok(Some(die));
            }
            at = self.leads_to(&die, dw::DW_AT_type)?.unwrap_or(VOID);
        }
        Err(damaged("a type is made of itself"))
    }

    /// The same; of a structure that is only declared there, its definition, if there is one.
    fn defined(&self, at: u64) -> Result<Option<Die>, TypesError> {
        let die = self.resolve(at, true)?;
        let Some(declared) = die.as_ref().filter(|die| is_declaration(&die.entry)) else {
            return Ok(die);
        };
        let Some(name) = self.text(&declared.unit, &declared.entry, dw::DW_AT_name) else {
            return Ok(die);
        };
        match self.structure(&name)? {
            Some(at) => Ok(Some(self.die(at)?)),
            None => Ok(die),
        }
    }

    fn structure(&self, name: &str) -> Result<Option<u64>, TypesError> {
        self.indexed(|index| index.structures.get(name).copied())
    }

    fn enumeration(&self, name: &str) -> Result<Option<u64>, TypesError> {
        self.indexed(|index| index.enumerations.get(name).copied())
    }

    /// What `known` finds in the index; reads on until it does.
    fn indexed(&self, known: impl Fn(&Index) -> Option<u64>) -> Result<Option<u64>, TypesError> {
        let mut index = self.index.borrow_mut();
        loop {
            if let Some(found) = known(&index) {
                return Ok(Some(found));
            }
            let Some(header) = self.headers.get(index.units) else { return Ok(None) };
            index.units += 1;
            is_soon_enough(index.took)?;
            let begun = Instant::now();
            let unit = self.read(header)?;
            let mut tree = unit.entries_tree(None)?;
            self.add(&unit, tree.root()?, "", DEPTH, &mut index)?;
            index.took += begun.elapsed();
        }
    }

    /// Adds the types that stand right in the scope `node`, and in the namespaces there. The first
    /// of a name is a kernel's own.
    fn add(
        &self,
        unit: &Unit,
        node: Node,
        scope: &str,
        depth: usize,
        index: &mut Index,
    ) -> Result<()> {
        let mut children = node.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let tag = entry.tag();
            let kept = match tag {
                dw::DW_TAG_enumeration_type => &mut index.enumerations,
                dw::DW_TAG_typedef | dw::DW_TAG_base_type => &mut index.others,
                dw::DW_TAG_namespace if depth > 0 => {
                    let name = self.text(unit, entry, dw::DW_AT_name);
                    let name = name.unwrap_or_else(|| "(anonymous namespace)".to_owned());
                    let scope = format!("{scope}{name}::");
                    self.add(unit, child, &scope, depth - 1, index)?;
                    continue;
                }
                _ if is_structure(tag) => &mut index.structures,
                _ => continue,
            };
            if is_declaration(entry) {
                continue;
            }
            if let Some(name) = self.text(unit, entry, dw::DW_AT_name) {
                let at = place(unit, entry.offset());
                if !scope.is_empty() {
                    kept.entry(format!("{scope}{name}")).or_insert(at);
                }
                let name = if tag == dw::DW_TAG_base_type { spelling(&name) } else { name };
                kept.entry(name).or_insert(at);
            }
        }
        Ok(())
    }

    /// The text of the attribute `name`, if it has one that can be read.
    fn text(&self, unit: &Unit, entry: &Entry, name: DwAt) -> Option<String> {
        let text = self.dwarf.attr_string(unit, entry.attr_value(name)?).ok()?;
        printable(&text.to_string_lossy().ok()?)
    }

    fn array(&self, die: &Die, dimension: u32) -> Result<Shape, TypesError> {
        let dimensions = dimensions(die)?;
        let count = dimensions.get(dimension as usize).copied().flatten();
        let element = if dimension as usize + 1 < dimensions.len() {
            TypeId { dimension: dimension + 1, ..TypeId::new(die.at()) }
        } else {
            self.type_id(die)?
        };
        Ok(Shape::Array { element, count })
    }

    fn fields(&self, die: &Die) -> Result<Vec<Field>, TypesError> {
        let mut tree = die.unit.entries_tree(Some(die.entry.offset()))?;
        let mut children = tree.root()?.children();
        let mut fields = Vec::new();
        while let Some(child) = children.next()? {
            let entry = child.entry().clone();
            let base = entry.tag() == dw::DW_TAG_inheritance;
            // What C++ shares between all objects of a class is declared there.
            if !(base || entry.tag() == dw::DW_TAG_member) || is_declaration(&entry) {
                continue;
            }
            let member = Die { unit: Rc::clone(&die.unit), entry };
            let Some((offset, bits)) = offset(&member)? else { continue };
            let name = self.text(&member.unit, &member.entry, dw::DW_AT_name);
            let id = self.type_id(&member)?;
            fields.push(Field { name: name.filter(|_| !base), id, offset, bits });
        }
        Ok(fields)
    }
}

impl Types for Dwarf {
    fn named(&self, name: &str) -> Result<Option<TypeId>, TypesError> {
        let found = match name.split_once(' ') {
            Some(("struct" | "union" | "class", name)) => self.structure(name.trim())?,
            Some(("enum", name)) => self.enumeration(name.trim())?,
            _ => {
                let other = spelling(name);
                self.indexed(|index| {
                    let typed = index.others.get(&other).or_else(|| index.structures.get(name));
                    typed.or_else(|| index.enumerations.get(name)).copied()
                })?
            }
        };
        Ok(found.map(TypeId::new))
    }

    fn shape(&self, id: TypeId) -> Result<Shape, TypesError> {
        if let Some(to) = id.pointed() {
            return Ok(Shape::Pointer(to));
        }
        let Some(die) = self.defined(id.at)? else { return Ok(Shape::Void) };
        let size = number(&die.entry, dw::DW_AT_byte_size);
        Ok(match die.entry.tag() {
            dw::DW_TAG_base_type => self.base(&die, size.unwrap_or(0)),
            dw::DW_TAG_pointer_type => Shape::Pointer(self.type_id(&die)?),
            dw::DW_TAG_reference_type | dw::DW_TAG_rvalue_reference_type => {
                Shape::Reference(self.type_id(&die)?)
            }
            dw::DW_TAG_array_type => self.array(&die, id.dimension)?,
            dw::DW_TAG_enumeration_type => Shape::Enumeration { size: size.unwrap_or(0) },
            dw::DW_TAG_subroutine_type => Shape::Function,
            tag if is_structure(tag) => {
                Shape::Structure { size: size.filter(|_| !is_declaration(&die.entry)) }
            }
            _ => Shape::Other { size },
        })
    }

    fn own_name(&self, id: TypeId) -> Result<Option<String>, TypesError> {
        if id.pointed().is_some() {
            return Ok(None);
        }
        let Some(die) = self.resolve(id.at, false)? else { return Ok(None) };
        let name = self.text(&die.unit, &die.entry, dw::DW_AT_name);
        let keyword = match die.entry.tag() {
            dw::DW_TAG_structure_type => "struct",
            dw::DW_TAG_union_type => "union",
            dw::DW_TAG_class_type => "class",
            dw::DW_TAG_enumeration_type => "enum",
            _ => return Ok(name),
        };
        Ok(Some(
            name.map_or_else(|| format!("{keyword} {{...}}"), |name| format!("{keyword} {name}")),
        ))
    }

    fn members(&self, id: TypeId) -> Result<Vec<Field>, TypesError> {
        match self.defined(id.at)? {
            Some(die) if id.pointed().is_none() && is_structure(die.entry.tag()) => {
                self.fields(&die)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn enumerators(&self, id: TypeId) -> Result<Vec<(String, i128)>, TypesError> {
        let Some(die) = self.resolve(id.at, true)? else { return Ok(Vec::new()) };
        let mut tree = die.unit.entries_tree(Some(die.entry.offset()))?;
        let mut children = tree.root()?.children();
        let mut all = Vec::new();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let value = entry.attr_value(dw::DW_AT_const_value).and_then(|value| whole(&value));
            let name = self.text(&die.unit, entry, dw::DW_AT_name);
            if let (dw::DW_TAG_enumerator, Some(name), Some(value)) = (entry.tag(), name, value) {
                all.push((name, value));
            }
        }
        Ok(all)
    }
}

impl Dwarf {
    fn base(&self, die: &Die, size: u64) -> Shape {
        let encoding = match die.entry.attr_value(dw::DW_AT_encoding) {
            Some(AttributeValue::Encoding(encoding)) => encoding,
            _ => return Shape::Other { size: Some(size) },
        };
        match encoding {
            dw::DW_ATE_boolean => Shape::Bool { size },
            dw::DW_ATE_float => Shape::Float { size },
            dw::DW_ATE_UTF => Shape::Char { size },
            dw::DW_ATE_signed_char | dw::DW_ATE_unsigned_char => {
                let name = self.text(&die.unit, &die.entry, dw::DW_AT_name);
                match name.as_deref() {
                    Some("char") => Shape::Char { size },
                    _ => Shape::Int { size, signed: encoding == dw::DW_ATE_signed_char },
                }
            }
            dw::DW_ATE_signed => Shape::Int { size, signed: true },
            dw::DW_ATE_unsigned => Shape::Int { size, signed: false },
            _ => Shape::Other { size: Some(size) },
        }
    }
}

impl TypeSource for Dwarf {
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError> {
        let missing =
            || TypesError::NoMember { structure: structure.to_owned(), member: path.to_owned() };
        let found = self.structure(structure)?;
        let found = found.ok_or_else(|| TypesError::NoStructure(structure.to_owned()))?;
        let (mut id, mut offset) = (TypeId::new(found), 0u64);
        let types: &dyn Types = self;
        for name in path.split('.').filter(|_| path != WHOLE) {
            let field = types.member(id, name)?.ok_or_else(missing)?;
            id = field.id;
            offset = offset.checked_add(field.offset).ok_or_else(missing)?;
        }
        // What only the program knows the length of ends structures, and counts for nothing there.
        Ok(Member { offset, size: types.size(id)?.unwrap_or(0) })
    }

    fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, TypesError> {
        let found = self.enumeration(enumeration)?;
        let found = found.ok_or_else(|| TypesError::NoStructure(enumeration.to_owned()))?;
        let all = self.enumerators(TypeId::new(found))?;
        let value = all.into_iter().find(|(own, _)| own == name);
        value.map(|(_, value)| value as u64).ok_or_else(|| TypesError::NoMember {
            structure: enumeration.to_owned(),
            member: name.to_owned(),
        })
    }

    fn types(&self) -> Option<&dyn Types> {
        Some(self)
    }
}

impl From<gimli::Error> for TypesError {
    fn from(error: gimli::Error) -> Self {
        damaged(&error.to_string())
    }
}

/// An error where reading took longer than there is patience for.
fn is_soon_enough(took: Duration) -> Result<(), TypesError> {
    (took <= PATIENCE).then_some(()).ok_or_else(|| damaged("it takes too long to read"))
}

fn damaged(what: &str) -> TypesError {
    TypesError::Damaged("DWARF", what.to_owned())
}

/// Where the entry at `within` of `unit` lies in all of `.debug_info`.
fn place(unit: &Unit, within: UnitOffset) -> u64 {
    within.to_debug_info_offset(&unit.header).map_or(VOID, |at| at.0 as u64)
}

fn is_structure(tag: DwTag) -> bool {
    matches!(tag, dw::DW_TAG_structure_type | dw::DW_TAG_union_type | dw::DW_TAG_class_type)
}

fn is_qualifier(tag: DwTag) -> bool {
    matches!(
        tag,
        dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type
    )
}

fn is_declaration(entry: &Entry) -> bool {
    entry.attr(dw::DW_AT_declaration).is_some()
}

fn number(entry: &Entry, name: DwAt) -> Option<u64> {
    entry.attr_value(name)?.udata_value()
}

/// A constant, with a sign only where its form has one.
fn whole(value: &AttributeValue<Slice>) -> Option<i128> {
    match value {
        AttributeValue::Sdata(value) => Some(i128::from(*value)),
        value => value.udata_value().map(i128::from),
    }
}

/// Where a member starts, in bytes, and its bits if it is a bit field: a number since DWARF 4, an
/// expression before. Members of unions need not say. None for what only the object itself tells,
/// such as a virtual base.
fn offset(member: &Die) -> Result<Option<(u64, Option<Bits>)>> {
    let entry = &member.entry;
    let count = number(entry, dw::DW_AT_bit_size);
    if let Some(bits) = number(entry, dw::DW_AT_data_bit_offset) {
        return Ok(Some((bits / 8, count.map(|count| Bits { shift: bits % 8, count }))));
    }
    let place = match entry.attr_value(dw::DW_AT_data_member_location) {
        None => 0,
        Some(AttributeValue::Exprloc(place)) => {
            match place.operations(member.unit.encoding()).next()? {
                Some(Operation::PlusConstant { value }) => value,
                _ => return Ok(None),
            }
        }
        Some(place) => match place.udata_value() {
            Some(place) => place,
            None => return Ok(None),
        },
    };
    // Before DWARF 4, bits were counted from the highest one of where they are kept.
    let kept = number(entry, dw::DW_AT_byte_size).unwrap_or(0).saturating_mul(8);
    let before = number(entry, dw::DW_AT_bit_offset).unwrap_or(0);
    let bits = count.map(|count| {
        let shift = kept.saturating_sub(before.saturating_add(count));
        Bits { shift, count }
    });
    Ok(Some((place, bits)))
}

/// How many elements an array has in each of its dimensions, where that is told.
fn dimensions(array: &Die) -> Result<Vec<Option<u64>>> {
    let mut tree = array.unit.entries_tree(Some(array.entry.offset()))?;
    let mut children = tree.root()?.children();
    let mut dimensions = Vec::new();
    while let Some(child) = children.next()? {
        let entry = child.entry();
        if entry.tag() == dw::DW_TAG_subrange_type {
            let last = entry.attr_value(dw::DW_AT_upper_bound).and_then(|last| whole(&last));
            // Of no elements the last one has the number -1.
            let last = last.and_then(|last| u64::try_from(last.checked_add(1)?).ok());
            dimensions.push(number(entry, dw::DW_AT_count).or(last));
        }
    }
    Ok(dimensions)
}
