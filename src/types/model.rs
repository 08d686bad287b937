//! One model of types, whichever source tells them: what a type is, and what it consists of.
//!
//! A source gives types as handles and answers about one at a time; nothing is built that is not
//! asked for. What it says may be damaged or made up: types may contain themselves and be of any
//! size, so every chase is bounded here.

use super::TypesError;
use std::rc::Rc;

/// How deep types may lie within each other.
pub(super) const DEPTH: usize = 32;
/// How many members one search may look at. The largest structures have some hundred; damaged
/// ones could nest so that each level multiplies the work.
const MEMBERS: usize = 100_000;
/// Bytes of a name.
const LONGEST_NAME: usize = 4096;
/// Bytes of a pointer.
pub const POINTER: u64 = 8;
/// The type that is none.
pub(super) const VOID: u64 = 0;

/// A type of one source; to another it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId {
    /// Where the source has it.
    pub(super) at: u64,
    /// Of an array that has several dimensions in one, how many have been indexed.
    pub(super) dimension: u32,
    /// How many pointers lead to it, which the source need not know.
    pub(super) pointers: u32,
}

impl TypeId {
    pub(super) fn new(at: u64) -> Self {
        Self { at, dimension: 0, pointers: 0 }
    }

    /// The type of a pointer to this one.
    pub fn pointer(self) -> Self {
        Self { pointers: self.pointers.saturating_add(1), ..self }
    }

    /// What it points to, where it was made by [`TypeId::pointer`].
    pub(super) fn pointed(self) -> Option<Self> {
        Some(Self { pointers: self.pointers.checked_sub(1)?, ..self })
    }
}

/// What a type is, behind typedefs and qualifiers. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No value at all.
    Void,
    /// A whole number.
    Int {
        /// Its size.
        size: u64,
        /// Whether it may be negative.
        signed: bool,
    },
    /// True or false.
    Bool {
        /// Its size.
        size: u64,
    },
    /// A letter of a text.
    Char {
        /// Its size.
        size: u64,
    },
    /// A floating-point number.
    Float {
        /// Its size.
        size: u64,
    },
    /// One of some named numbers.
    Enumeration {
        /// Its size.
        size: u64,
    },
    /// The address of something.
    Pointer(TypeId),
    /// The same, but used as if it were what it leads to (C++).
    Reference(TypeId),
    /// Elements side by side.
    Array {
        /// The type of each.
        element: TypeId,
        /// How many; none where only the program knows.
        count: Option<u64>,
    },
    /// A structure, union or class.
    Structure {
        /// Its size; none where it is only declared.
        size: Option<u64>,
    },
    /// A function.
    Function,
    /// Something else.
    Other {
        /// Its size, where that is told.
        size: Option<u64>,
    },
}

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; none of an anonymous structure within, whose members count as the outer one's own.
    pub name: Option<String>,
    /// Its type.
    pub id: TypeId,
    /// Bytes from the start of the structure.
    pub offset: u64,
    /// Which bits from there on, if it is a bit field.
    pub bits: Option<Bits>,
}

/// The bits of a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The first one, counted from the lowest of the first byte.
    pub shift: u64,
    /// How many.
    pub count: u64,
}

/// A source of types that can be looked into.
pub trait Types {
    /// The type that is called `name`: `double`, `struct config`, `config`, `app::Config`.
    fn named(&self, name: &str) -> Result<Option<TypeId>, TypesError>;

    /// What `id` is.
    fn shape(&self, id: TypeId) -> Result<Shape, TypesError>;

    /// What `id` itself is called; none for pointers, arrays and the like, whose names are made of
    /// others.
    fn own_name(&self, id: TypeId) -> Result<Option<String>, TypesError>;

    /// The members of the structure `id`.
    fn members(&self, id: TypeId) -> Result<Vec<Field>, TypesError>;

    /// The values that the enumeration `id` has, each with its name.
    fn enumerators(&self, id: TypeId) -> Result<Vec<(String, i128)>, TypesError>;
}

impl dyn Types + '_ {
    /// Bytes of `id`; none where that is not told, or there are none.
    pub fn size(&self, id: TypeId) -> Result<Option<u64>, TypesError> {
        let (mut id, mut elements) = (id, 1u64);
        for _ in 0..DEPTH {
            let size = match self.shape(id)? {
                Shape::Array { element, count: Some(count) } => {
                    elements = elements.saturating_mul(count);
                    id = element;
                    continue;
                }
                Shape::Int { size, .. }
                | Shape::Bool { size }
                | Shape::Char { size }
                | Shape::Float { size }
                | Shape::Enumeration { size } => Some(size),
                Shape::Pointer(_) | Shape::Reference(_) => Some(POINTER),
                Shape::Structure { size } | Shape::Other { size } => size,
                Shape::Void | Shape::Function | Shape::Array { count: None, .. } => None,
            };
            return Ok(size.and_then(|size| size.checked_mul(elements)));
        }
        Ok(None)
    }

    /// What people call `id`: `double`, `struct config`, `int [4]`, `double *`.
    pub fn name(&self, id: TypeId) -> Result<String, TypesError> {
        let (mut id, mut declarator) = (id, String::new());
        for _ in 0..DEPTH {
            if let Some(own) = self.own_name(id)? {
                let blank = if declarator.is_empty() { "" } else { " " };
                return Ok(format!("{own}{blank}{declarator}"));
            }
            (id, declarator) = match self.shape(id)? {
                Shape::Pointer(to) => (to, format!("*{declarator}")),
                Shape::Reference(to) => (to, format!("&{declarator}")),
                Shape::Array { element, count } => (element, array(&declarator, count)),
                Shape::Function => {
                    return Ok(format!("function {declarator}").trim_end().to_owned());
                }
                Shape::Void => return Ok(format!("void {declarator}").trim_end().to_owned()),
                _ => break,
            };
        }
        Ok(format!("? {declarator}").trim_end().to_owned())
    }

    /// The member `name` of the structure `id`, also inside its anonymous members, with its offset
    /// from the start of `id`.
    pub fn member(&self, id: TypeId, name: &str) -> Result<Option<Field>, TypesError> {
        let found = self.search(id, &mut |field| field.name.as_deref() == Some(name))?;
        Ok(found)
    }

    /// The names of all members of `id`, those of its anonymous members included.
    pub fn member_names(&self, id: TypeId) -> Result<Vec<String>, TypesError> {
        let mut names = Vec::new();
        self.search(id, &mut |field| {
            names.extend(field.name.clone());
            false
        })?;
        Ok(names)
    }

    /// The first member of `id` that is `wanted`, in the order of the declarations.
    fn search(
        &self,
        id: TypeId,
        wanted: &mut dyn FnMut(&Field) -> bool,
    ) -> Result<Option<Field>, TypesError> {
        // What is still to be looked at: structures, where each lies, and how deep.
        let mut open = vec![Field { name: None, id, offset: 0, bits: None }];
        let (mut looked_at, mut structures) = (0, 0);
        while let Some(within) = open.pop() {
            structures += 1;
            let fields = self.members(within.id)?;
            looked_at += fields.len();
            if looked_at > MEMBERS || structures > MEMBERS / DEPTH {
                break;
            }
            let mut anonymous = Vec::new();
            for mut field in fields {
                field.offset = field.offset.saturating_add(within.offset);
                if wanted(&field) {
                    return Ok(Some(field));
                }
                if field.name.is_none() && matches!(self.shape(field.id)?, Shape::Structure { .. })
                {
                    anonymous.push(field);
                }
            }
            open.extend(anonymous.into_iter().rev());
        }
        Ok(None)
    }
}

/// The declarator of an array of what `declarator` says.
fn array(declarator: &str, count: Option<u64>) -> String {
    let count = count.map(|count| count.to_string()).unwrap_or_default();
    match declarator.starts_with(['*', '&']) {
        true => format!("({declarator})[{count}]"),
        false => format!("{declarator}[{count}]"),
    }
}

/// A type, and the source that knows it.
#[derive(Clone)]
pub struct Typed {
    /// The source.
    pub types: Rc<dyn Types>,
    /// The type.
    pub id: TypeId,
}

impl Typed {
    /// What people call it.
    pub fn name(&self) -> Result<String, TypesError> {
        self.types.name(self.id)
    }

    /// Its bytes; none where that is not told.
    pub fn size(&self) -> Result<Option<u64>, TypesError> {
        self.types.size(self.id)
    }
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Typed").field(&self.id).finish()
    }
}

/// `text` as people may see it: what a source says may hold what a terminal obeys. None for what is
/// too long for a name.
pub(super) fn printable(text: &str) -> Option<String> {
    let printable = |own: char| {
        if own == ' ' || own.is_alphanumeric() || own.is_ascii_punctuation() { own } else { '?' }
    };
    (text.len() <= LONGEST_NAME).then(|| text.chars().map(printable).collect())
}

/// `name` in the order and with the words that all spellings of a number's type share: C has
/// `unsigned long` where compilers note `long unsigned int`.
pub(super) fn spelling(name: &str) -> String {
    const NUMBER: [&str; 6] = ["unsigned", "signed", "long", "short", "int", "char"];
    let mut words: Vec<_> = name.split_whitespace().collect();
    if words.len() > 1 && words.iter().all(|word| NUMBER.contains(word)) {
        let other = |word: &&str| !["int", "signed"].contains(word);
        let char = words.contains(&"char");
        match words.iter().any(other) {
            true => words.retain(|word| *word != "int" && (char || *word != "signed")),
            false => words = vec!["int"],
        }
        words.sort_unstable();
    } else if words == ["signed"] {
        words = vec!["int"];
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_numbers() {
        for (one, other) in [
            ("unsigned long", "long unsigned int"),
            ("long", "long int"),
            ("unsigned", "unsigned int"),
            ("signed", "int"),
            ("signed int", "int"),
            ("short int", "short"),
            ("long long", "long long int"),
            ("char unsigned", "unsigned  char"),
        ] {
            assert_eq!(spelling(one), spelling(other), "{one}");
        }
        assert_ne!(spelling("signed char"), spelling("char"));
        assert_ne!(spelling("long long"), spelling("long"));
        assert_eq!(spelling("app::Config"), "app::Config");
    }

    #[test]
    fn declarators() {
        assert_eq!(array("", Some(4)), "[4]");
        assert_eq!(array("[2]", Some(3)), "[2][3]");
        assert_eq!(array("*", None), "(*)[]");
    }
}
