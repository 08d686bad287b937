//! BTF, the types that a kernel carries of itself (Documentation/bpf/btf.rst).
//!
//! One pass finds where each type lies; only what is asked for is looked at closer. Our own
//! reader: the well-kept crates build every type of some hundred thousand first, which takes
//! longer than all the rest of a command. All of it comes from guest RAM, so every length is
//! checked and every chase bounded.

use super::model::{DEPTH, POINTER, printable, spelling};
use super::{Bits, Field, Member, Shape, TypeId, TypeSource, Types, TypesError, WHOLE};
use std::ops::{Deref, Range};

const HEADER: usize = 24;
/// `struct btf_type`: name_off, info, size or type.
const TYPE: usize = 12;
/// What a type takes with its variable part, at least on average.
const USUAL_TYPE: usize = 18;
/// How many members one search may look at. The largest structures have some hundred; damaged
/// ones could nest so that each level multiplies the work.
const MEMBERS: usize = 100_000;

/// Kinds of `enum` in include/uapi/linux/btf.h that matter here.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
    pub const LAST: u32 = ENUM64;
}

/// How the number of an `INT` is meant, in the word behind its fixed part.
mod encoding {
    pub const SIGNED: u32 = 1;
    pub const BOOL: u32 = 4;
}

/// A kernel's types.
pub struct Btf<B = Vec<u8>> {
    raw: B,
    /// Where the two sections lie in `raw`, which holds them: [`Btf::parse`] has checked it.
    type_section: Range<usize>,
    string_section: Range<usize>,
    /// Where each type lies in its section; the type 0 is `void` and has no entry.
    positions: Vec<u32>,
    /// The name, as an offset into the strings, and the id of each structure, in their order.
    structures: Vec<(u32, u32)>,
    /// The same of each enumeration.
    enumerations: Vec<(u32, u32)>,
}

/// One type's fixed part.
struct Type {
    name: u32,
    kind: u32,
    count: usize,
    /// Members of a structure keep the size of bit fields beside their offsets; enumerations have
    /// values with a sign; a declaration is of a union.
    flag: bool,
    size_or_type: u32,
    /// Where the variable part starts.
    rest: usize,
}

impl Type {
    /// From its fixed part; `rest` is where that ends.
    fn new(fixed: &[u8; TYPE], rest: usize) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let info = word(4);
        Self {
            name: word(0),
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            flag: info >> 31 == 1,
            size_or_type: word(8),
            rest,
        }
    }
}

/// One member, with where it lies in bits, and how many it has if it is a bit field.
struct RawMember {
    name: u32,
    of_type: u32,
    bits: u64,
    count: u64,
}

/// What is left of the bounds of one search.
struct Search {
    members: usize,
    depth: usize,
}

impl Search {
    fn new() -> Self {
        Self { members: MEMBERS, depth: DEPTH }
    }
}

impl Btf {
    /// The first two bytes, as a little-endian number.
    pub const MAGIC: u16 = 0xeb9f;
    /// Bytes of its header.
    pub const HEADER: usize = HEADER;
    /// How BTF of a little-endian machine starts: magic, version 1, no flags, the header's length.
    pub const START: &[u8] = b"\x9f\xeb\x01\0\x18\0\0\0";

    /// How many bytes a whole takes, by its header.
    pub fn length(header: &[u8; HEADER]) -> u64 {
        let field = |index: usize| u64::from(word(header, index).unwrap_or(0));
        field(4) + (field(8) + field(12)).max(field(16) + field(20))
    }
}

impl<B: Deref<Target = [u8]>> Btf<B> {
    /// Reads the header and finds the types.
    pub fn parse(raw: B) -> Result<Self, TypesError> {
        let header = raw.get(..HEADER).ok_or(damaged("it ends within its header"))?;
        if u16::from_le_bytes([header[0], header[1]]) != Btf::MAGIC {
            return Err(damaged("its magic is not there"));
        }
        let field = |index: usize| word(header, index).unwrap_or(0) as usize;
        let section = |offset: usize, length: usize| {
            let start = field(4).checked_add(offset)?;
            let end = start.checked_add(length)?;
            (end <= raw.len()).then_some(start..end)
        };
        let type_section = section(field(8), field(12)).ok_or(damaged("its types are cut off"))?;
        let string_section =
            section(field(16), field(20)).ok_or(damaged("its strings are cut off"))?;
        let (positions, structures, enumerations) = (Vec::new(), Vec::new(), Vec::new());
        let mut btf =
            Self { raw, type_section, string_section, positions, structures, enumerations };
        btf.index()?;
        Ok(btf)
    }

    fn types(&self) -> &[u8] {
        &self.raw[self.type_section.clone()]
    }

    /// Finds where each type lies. On the path of every command, over some 100,000 types.
    fn index(&mut self) -> Result<(), TypesError> {
        let types = &self.raw[self.type_section.clone()];
        let mut positions = Vec::with_capacity(types.len() / USUAL_TYPE);
        let (mut structures, mut enumerations) = (Vec::new(), Vec::new());
        positions.push(0);
        let mut rest = types;
        while let Some((fixed, after)) = rest.split_first_chunk() {
            let found = Type::new(fixed, types.len() - after.len());
            let named = (found.name, positions.len() as u32);
            match found.kind {
                kind::STRUCT | kind::UNION if found.name != 0 => structures.push(named),
                kind::ENUM | kind::ENUM64 if found.name != 0 => enumerations.push(named),
                _ => {}
            }
            positions.push((found.rest - TYPE) as u32);
            rest = after.get(variable_part(&found)?..).ok_or(damaged("a type is cut off"))?;
        }
        (self.positions, self.structures, self.enumerations) =
            (positions, structures, enumerations);
        if rest.is_empty() { Ok(()) } else { Err(damaged("a type is cut off")) }
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let fixed = self.types().get(at..)?.first_chunk()?;
        Some(Type::new(fixed, at + TYPE))
    }

    fn type_of(&self, id: u32) -> Option<Type> {
        if id == 0 {
            return None;
        }
        self.type_at(*self.positions.get(id as usize)? as usize)
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..DEPTH {
            let found = self.type_of(id)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.size_or_type;
                }
                _ => return Some(found),
            }
        }
        None
    }

    fn size(&self, id: u32, depth: usize) -> Option<u64> {
        let found = self.resolve(id)?;
        match found.kind {
            kind::PTR => Some(POINTER),
            kind::ARRAY if depth > 0 => {
                let element = word(self.types(), found.rest)?;
                let count = word(self.types(), found.rest + 8)?;
                self.size(element, depth - 1)?.checked_mul(u64::from(count))
            }
            kind::INT | kind::ENUM | kind::ENUM64 | kind::FLOAT | kind::STRUCT | kind::UNION => {
                Some(u64::from(found.size_or_type))
            }
            _ => None,
        }
    }

    fn members<'a>(&'a self, of: &'a Type) -> impl Iterator<Item = RawMember> + 'a {
        (0..of.count).filter_map(move |index| {
            let at = of.rest + index * TYPE;
            let offset = word(self.types(), at + 8)?;
            let (bits, count) =
                if of.flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            let name = word(self.types(), at)?;
            let of_type = word(self.types(), at + 4)?;
            Some(RawMember { name, of_type, bits: bits.into(), count: count.into() })
        })
    }

    /// The member `name` of the structure `within`, also inside its anonymous members.
    fn find(&self, within: &Type, name: &[u8], search: &mut Search) -> Option<(u32, u64)> {
        if !matches!(within.kind, kind::STRUCT | kind::UNION) || search.depth == 0 {
            return None;
        }
        self.members(within).find_map(|member| {
            search.members = search.members.checked_sub(1)?;
            let offset = member.bits / 8;
            if member.name != 0 && self.is_string(member.name, name) {
                return Some((member.of_type, offset));
            }
            if member.name != 0 {
                return None;
            }
            let inner = self.resolve(member.of_type)?;
            search.depth -= 1;
            let found = self.find(&inner, name, search);
            search.depth += 1;
            let (of_type, further) = found?;
            Some((of_type, offset.checked_add(further)?))
        })
    }

    /// The first of `all` called `name` is the kernel's own; later ones come from odd corners.
    fn called(&self, name: &str, all: &[(u32, u32)]) -> Result<u32, TypesError> {
        let found = all.iter().find(|(own, _)| self.is_string(*own, name.as_bytes()));
        found.map(|(_, id)| *id).ok_or_else(|| TypesError::NoStructure(name.to_owned()))
    }

    /// The names of the enumeration `of`, as offsets into the strings, and their values.
    fn values<'a>(&'a self, of: &'a Type) -> impl Iterator<Item = (u32, u64)> + 'a {
        let entry = if of.kind == kind::ENUM64 { 12 } else { 8 };
        let count = if matches!(of.kind, kind::ENUM | kind::ENUM64) { of.count } else { 0 };
        (0..count).filter_map(move |index| {
            let at = of.rest + index * entry;
            let name = word(self.types(), at)?;
            let low = word(self.types(), at + 4)?;
            let high = if entry == 12 { word(self.types(), at + 8)? } else { 0 };
            Some((name, u64::from(high) << 32 | u64::from(low)))
        })
    }

    /// The text at `offset` of the strings; none where it is empty, or no text.
    fn text(&self, offset: u32) -> Option<&str> {
        let tail = self.raw[self.string_section.clone()].get(offset as usize..)?;
        let text = tail.get(..memchr::memchr(0, tail)?)?;
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }

    /// The type of the variable `name`. Of most kernels only those of each CPU are told.
    pub fn variable(&self, name: &str) -> Option<TypeId> {
        let all = (1..self.positions.len() as u32).filter_map(|id| self.type_of(id));
        let mut variables = all.filter(|found| found.kind == kind::VAR);
        let found = variables.find(|found| self.is_string(found.name, name.as_bytes()))?;
        Some(TypeId::new(found.size_or_type.into()))
    }

    /// The type of an id that this source has given, behind typedefs and qualifiers. What one file
    /// of the kernel only declares, another defines.
    fn type_behind(&self, id: TypeId) -> Option<Type> {
        let found = self.resolve(u32::try_from(id.at).ok()?)?;
        let declared = self.text(found.name).filter(|_| found.kind == kind::FWD);
        let defined = declared.and_then(|name| self.called(name, &self.structures).ok());
        Some(defined.and_then(|id| self.type_of(id)).unwrap_or(found))
    }

    /// What `found`, behind typedefs and qualifiers, is.
    fn shape_of(&self, found: &Type) -> Shape {
        let size = u64::from(found.size_or_type);
        let word = |at| word(self.types(), found.rest + at).unwrap_or(0);
        match found.kind {
            kind::INT if word(0) >> 24 & encoding::BOOL != 0 => Shape::Bool { size },
            kind::INT if self.is_string(found.name, b"char") => Shape::Char { size },
            kind::INT => Shape::Int { size, signed: word(0) >> 24 & encoding::SIGNED != 0 },
            kind::FLOAT => Shape::Float { size },
            kind::ENUM | kind::ENUM64 => Shape::Enumeration { size },
            kind::PTR => Shape::Pointer(TypeId::new(size)),
            kind::ARRAY => {
                let element = TypeId::new(word(0).into());
                Shape::Array { element, count: Some(word(8).into()) }
            }
            kind::STRUCT | kind::UNION => Shape::Structure { size: Some(size) },
            kind::FWD => Shape::Structure { size: None },
            kind::FUNC | kind::FUNC_PROTO => Shape::Function,
            _ => Shape::Other { size: None },
        }
    }

    /// The first type of any kind that is called `name`, as C spells numbers.
    fn any_called(&self, name: &str) -> Option<TypeId> {
        let spelled = spelling(name);
        let all = (1..self.positions.len() as u32).filter_map(|id| Some((id, self.type_of(id)?)));
        let mut found = all.filter(|(_, found)| match found.kind {
            kind::TYPEDEF => self.is_string(found.name, name.as_bytes()),
            kind::INT | kind::FLOAT => {
                self.text(found.name).is_some_and(|own| spelling(own) == spelled)
            }
            _ => false,
        });
        found.next().map(|(id, _)| TypeId::new(id.into()))
    }

    fn is_string(&self, offset: u32, text: &[u8]) -> bool {
        let tail = self.raw[self.string_section.clone()].get(offset as usize..);
        let rest = tail.and_then(|tail| tail.strip_prefix(text));
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(0)))
    }
}

impl<B: Deref<Target = [u8]>> TypeSource for Btf<B> {
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError> {
        let missing =
            || TypesError::NoMember { structure: structure.to_owned(), member: path.to_owned() };
        let mut id = self.called(structure, &self.structures)?;
        let mut offset = 0u64;
        for name in path.split('.').filter(|_| path != WHOLE) {
            let within = self.resolve(id).ok_or_else(missing)?;
            let (of_type, further) =
                self.find(&within, name.as_bytes(), &mut Search::new()).ok_or_else(missing)?;
            id = of_type;
            offset = offset.checked_add(further).ok_or_else(missing)?;
        }
        let size = self.size(id, DEPTH).ok_or_else(missing)?;
        Ok(Member { offset, size })
    }

    fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, TypesError> {
        let missing =
            || TypesError::NoMember { structure: enumeration.to_owned(), member: name.to_owned() };
        let found = self.type_of(self.called(enumeration, &self.enumerations)?);
        let found = found.ok_or_else(missing)?;
        let value = self.values(&found).find(|(own, _)| self.is_string(*own, name.as_bytes()));
        value.map(|(_, value)| value).ok_or_else(missing)
    }

    fn types(&self) -> Option<&dyn Types> {
        Some(self)
    }
}

impl<B: Deref<Target = [u8]>> Types for Btf<B> {
    fn named(&self, name: &str) -> Result<Option<TypeId>, TypesError> {
        let called = |name: &str, all| self.called(name.trim(), all).ok();
        let id = |id: u32| TypeId::new(id.into());
        Ok(match name.split_once(' ') {
            Some(("struct" | "union", name)) => called(name, &self.structures).map(id),
            Some(("enum", name)) => called(name, &self.enumerations).map(id),
            _ => {
                let structure = called(name, &self.structures);
                let found = structure.or_else(|| called(name, &self.enumerations)).map(id);
                found.or_else(|| self.any_called(name))
            }
        })
    }

    fn shape(&self, id: TypeId) -> Result<Shape, TypesError> {
        if let Some(to) = id.pointed() {
            return Ok(Shape::Pointer(to));
        }
        Ok(self.type_behind(id).map_or(Shape::Void, |found| self.shape_of(&found)))
    }

    fn own_name(&self, id: TypeId) -> Result<Option<String>, TypesError> {
        let mut at = u32::try_from(id.at).unwrap_or(0);
        if id.pointed().is_some() {
            return Ok(None);
        }
        for _ in 0..DEPTH {
            let Some(found) = self.type_of(at) else { return Ok(None) };
            let keyword = match found.kind {
                kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    at = found.size_or_type;
                    continue;
                }
                kind::INT | kind::FLOAT | kind::TYPEDEF => "",
                kind::STRUCT => "struct ",
                kind::UNION => "union ",
                kind::FWD => {
                    if found.flag {
                        "union "
                    } else {
                        "struct "
                    }
                }
                kind::ENUM | kind::ENUM64 => "enum ",
                _ => return Ok(None),
            };
            let name = self.text(found.name).and_then(printable);
            return Ok(Some(format!("{keyword}{}", name.as_deref().unwrap_or("{...}"))));
        }
        Ok(None)
    }

    fn members(&self, id: TypeId) -> Result<Vec<Field>, TypesError> {
        let structure = |found: &Type| matches!(found.kind, kind::STRUCT | kind::UNION);
        let found = self.type_behind(id).filter(structure).filter(|_| id.pointed().is_none());
        let Some(found) = found else { return Ok(Vec::new()) };
        let field = |RawMember { name, of_type, bits, count }| Field {
            name: self.text(name).and_then(printable),
            id: TypeId::new(of_type.into()),
            offset: bits / 8,
            bits: (count > 0).then_some(Bits { shift: bits % 8, count }),
        };
        Ok(self.members(&found).map(field).collect())
    }

    fn enumerators(&self, id: TypeId) -> Result<Vec<(String, i128)>, TypesError> {
        let Some(found) = self.type_behind(id) else { return Ok(Vec::new()) };
        let value = |value: u64| match (found.flag, found.kind) {
            (true, kind::ENUM) => i128::from(value as u32 as i32),
            (true, _) => i128::from(value as i64),
            (false, _) => i128::from(value),
        };
        let named = |(name, own)| Some((printable(self.text(name)?)?, value(own)));
        Ok(self.values(&found).filter_map(named).collect())
    }
}

fn damaged(what: &str) -> TypesError {
    TypesError::Damaged("BTF", what.to_owned())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// Bytes that follow a type's fixed part.
fn variable_part(of: &Type) -> Result<usize, TypesError> {
    Ok(match of.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * of.count,
        kind::ENUM | kind::FUNC_PROTO => 8 * of.count,
        0 => return Err(damaged("a type has no kind")),
        unknown if unknown > kind::LAST => {
            return Err(damaged("a type has a kind that is not known"));
        }
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Start;

    /// Builds BTF by hand: each type is its words, names are looked up in `strings`.
    fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let length = 4 * types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let words = header.iter().chain(types).flat_map(|word| word.to_le_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    const STRINGS: &[u8] = b"\0task\0pid\0comm\0inner\0x\0char\0list\0flags\0";
    const TASK: u32 = 1;
    const PID: u32 = 6;
    const COMM: u32 = 10;
    const INNER: u32 = 15;
    const X: u32 = 21;
    const CHAR: u32 = 23;
    const LIST: u32 = 28;
    const FLAGS: u32 = 33;

    fn example() -> Vec<u8> {
        let structure = |kind: u32, count: u32| kind << 24 | count;
        blob(
            &[
                // 1: int of 1 byte; 2: char[16]; 3: struct inner { char x (at 4) }
                CHAR,
                structure(kind::INT, 0),
                1,
                8,
                0,
                structure(kind::ARRAY, 0),
                0,
                1,
                1,
                16,
                INNER,
                structure(kind::STRUCT, 1),
                8,
                X,
                1,
                32,
                // 4: union { char pid; struct inner inner; }, anonymous
                0,
                structure(kind::UNION, 2),
                8,
                PID,
                1,
                0,
                INNER,
                3,
                0,
                // 5: struct task { char comm[16]; union; (at 24) }
                TASK,
                structure(kind::STRUCT, 2),
                32,
                COMM,
                2,
                0,
                0,
                4,
                24 * 8,
                // 6: enum flags { x = 0, list = 3 }; 7: the same of 64 bits, list = 1 << 32 | 2
                FLAGS,
                structure(kind::ENUM, 2),
                4,
                X,
                0,
                LIST,
                3,
                INNER,
                structure(kind::ENUM64, 1),
                8,
                LIST,
                2,
                1,
            ],
            STRINGS,
        )
    }

    #[test]
    fn finds_members_through_arrays_and_anonymous_unions() {
        let btf = Btf::parse(example()).unwrap();
        let member = |path| btf.member("task", path).unwrap();
        assert_eq!(member("comm"), Member { offset: 0, size: 16 });
        assert_eq!(member("pid"), Member { offset: 24, size: 1 });
        assert_eq!(member("inner.x"), Member { offset: 28, size: 1 });
        assert_eq!(member(WHOLE), Member { offset: 0, size: 32 });
    }

    #[test]
    fn finds_what_enumerations_hold() {
        let btf = Btf::parse(example()).unwrap();
        assert_eq!(btf.enumerator("flags", "list").unwrap(), 3);
        assert_eq!(btf.enumerator("inner", "list").unwrap(), 1 << 32 | 2);
        assert!(matches!(btf.enumerator("flags", "pid"), Err(TypesError::NoMember { .. })));
        assert!(matches!(btf.enumerator("task", "list"), Err(TypesError::NoStructure(_))));
    }

    #[test]
    fn says_what_is_missing() {
        let btf = Btf::parse(example()).unwrap();
        assert!(matches!(btf.member("mm", "pgd"), Err(TypesError::NoStructure(_))));
        assert!(matches!(btf.member("task", "mm"), Err(TypesError::NoMember { .. })));
        assert!(matches!(btf.member("task", "pid.x"), Err(TypesError::NoMember { .. })));
    }

    #[test]
    fn damage_never_panics() {
        let whole = example();
        for length in 0..whole.len() {
            let _ = Btf::parse(whole[..length].to_vec());
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0xff] {
                let mut bad = whole.clone();
                bad[at] = value;
                if let Ok(btf) = Btf::parse(bad) {
                    let _ = btf.member("task", "inner.x");
                    let _ = btf.member("task", "comm");
                    let _ = btf.enumerator("flags", "list");
                }
            }
        }
    }

    #[test]
    fn a_type_within_itself_is_no_endless_chase() {
        let typedef = kind::TYPEDEF << 24;
        let union = kind::UNION << 24 | 1;
        let raw = blob(&[TASK, union, 8, 0, 2, 0, INNER, typedef, 1], STRINGS);
        let btf = Btf::parse(raw).unwrap();
        assert!(btf.member("task", "pid").is_err());
    }

    /// What [`Types`] tell of the example.
    #[test]
    fn tells_what_types_are() {
        let btf = Btf::parse(example()).unwrap();
        let types: &dyn Types = &btf;
        let task = types.named("struct task").unwrap().unwrap();
        assert_eq!(types.named("task").unwrap(), Some(task));
        assert_eq!(types.name(task).unwrap(), "struct task");
        assert_eq!(types.size(task).unwrap(), Some(32));
        let member = |name| types.member(task, name).unwrap().unwrap();
        assert_eq!(types.name(member("comm").id).unwrap(), "char [16]");
        assert_eq!((member("pid").offset, member("inner").offset), (24, 24));
        assert_eq!(types.member_names(task).unwrap(), ["comm", "pid", "inner"]);
        assert_eq!(types.name(task.pointer().pointer()).unwrap(), "struct task **");
        assert_eq!(types.shape(task.pointer()).unwrap(), Shape::Pointer(task));
        assert_eq!(types.named("char").unwrap().unwrap(), TypeId::new(1));
        assert!(types.named("struct inne").unwrap().is_none());
        let flags = types.named("enum flags").unwrap().unwrap();
        assert_eq!(types.enumerators(flags).unwrap()[1], ("list".to_owned(), 3));
        assert_eq!(types.shape(TypeId::new(99)).unwrap(), Shape::Void);
    }

    #[test]
    fn paths_lead_through_it() {
        let btf = Btf::parse(example()).unwrap();
        let task = btf.named("task").unwrap().unwrap();
        let (at, far) = (crate::address::Gva(0x1000), crate::address::Gva(0x5000));
        let lead = |text: &str, start| {
            let all = crate::types::Expression::all(text);
            let way = all.last().unwrap();
            way.follow(&btf, start, &|gva| (gva == at).then_some(0x5000)).map(|(gva, _)| gva.0)
        };
        let (object, pointer) = (Start::Object(at, task), Start::Pointer(at, task));
        let at_pointer = Start::Object(at, task.pointer());
        assert_eq!(lead("t.comm[15]", object).unwrap(), 0x100f);
        assert_eq!(lead("t->inner.x", pointer).unwrap(), 0x101c);
        assert_eq!(lead("t->inner.x", at_pointer).unwrap(), 0x501c);
        assert_eq!(lead("t[2].pid", at_pointer).unwrap(), far.0 + 64 + 24);
        assert_eq!(lead("t[-1]", at_pointer).unwrap(), far.0 - 32);
        assert_eq!(lead("*t", at_pointer).unwrap(), 0x5000);
        assert_eq!(lead("*t.comm", object).unwrap(), 0x1000);
        let fails = |text: &str, start, word: &str| {
            let error = lead(text, start).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        fails("t.comm[16]", object, "'t.comm' is char [16]: there is no element 16, only 0 to 15");
        fails("t->comm", object, "'t' is struct task: type t.comm");
        fails("t.comm", pointer, "'t' is struct task *: type t->comm");
        fails("t.com", object, "'t' is struct task, which has no member 'com'; the nearest: comm");
        fails("t.comm.x", object, "'t.comm' is char [16], which has no members: type t.comm[0]");
        fails("t.pid[0]", object, "'t.pid' is char, which has no elements");
        fails("*t.pid", object, "'t.pid' is char, and leads nowhere");
        fails("t->comm", Start::Object(far, task.pointer()), "'t' is a pointer at 0x5000, where");
        fails("t[0x7fffffffffffffff]", at_pointer, "outside of the address space");
    }

    #[test]
    fn damage_leads_nowhere() {
        let whole = example();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0xff;
            let Ok(btf) = Btf::parse(bad) else { continue };
            let types: &dyn Types = &btf;
            for id in (0..10).map(TypeId::new) {
                let _ = (types.name(id), types.size(id), types.member_names(id));
                let _ = crate::types::value_of(types, id, &[0xa5; 64]).unwrap().to_string();
            }
        }
    }
}
