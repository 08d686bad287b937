//! Typed paths, such as `A->list_of_vals[17]`: how they are written, and where they lead.
//!
//! ```text
//! [*...][(TYPE)]ROOT[.MEMBER | ->MEMBER | [INDEX]]...[+N | -N]
//! ```
//!
//! As in C, `*` counts for all that follows it. ROOT is a symbol or an address. Names of C++ hold
//! dots, brackets and arrows too, so a text can be taken apart in several ways: which one is meant,
//! the program's symbols decide.

use super::{Field, Shape, TypeId, Types, TypesError};
use crate::address::Gva;
use crate::scalar::whole;
use crate::symbols::{nearest, nearest_names};

/// Longer texts are no paths.
const LONGEST: usize = 4096;

/// A text, taken apart in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression<'t> {
    /// How many `*` stand before it.
    stars: usize,
    /// The type that its root is to have.
    pub cast: Option<Cast<'t>>,
    /// Where it starts.
    pub root: Root<'t>,
    /// Where it goes from there.
    steps: Vec<Step<'t>>,
    /// Bytes from where that leads.
    pub offset: i64,
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root<'t> {
    /// At a symbol.
    Symbol(&'t str),
    /// At an address.
    Address(Gva),
}

/// The type that a root is said to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast<'t> {
    /// What it is called.
    pub name: &'t str,
    /// How many pointers lead to that.
    pub pointers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'t> {
    /// `.NAME`
    Member(&'t str),
    /// `->NAME`
    Arrow(&'t str),
    /// `[INDEX]`
    Index(i64),
    /// A `*` before all of it.
    Star,
}

impl<'t> Expression<'t> {
    /// Every way to take `text` apart, that with the longest root first; the whole text is a root
    /// too.
    pub fn all(text: &'t str) -> Vec<Self> {
        let whole =
            Self { stars: 0, cast: None, root: Root::Symbol(text), steps: Vec::new(), offset: 0 };
        if text.len() > LONGEST {
            return vec![whole];
        }
        let body = text.trim_start_matches('*');
        let stars = text.len() - body.len();
        let (cast, body) =
            Cast::split(body).map_or((None, body), |(cast, body)| (Some(cast), body));
        let ends = body.char_indices().map(|(at, _)| at).chain([body.len()]).rev();
        let ways = ends.filter_map(|end| {
            let (root, rest) = body.split_at(end);
            let (steps, offset) = parse_steps(rest)?;
            let root = Root::parse(root)?;
            Some(Self { stars, cast: cast.clone(), root, steps, offset })
        });
        let mut all: Vec<_> = ways.collect();
        if !all.contains(&whole) && !matches!(Root::parse(text), Some(Root::Address(_))) {
            all.insert(0, whole);
        }
        all
    }

    /// Whether types are needed to follow it.
    pub fn is_typed(&self) -> bool {
        self.stars > 0 || self.cast.is_some() || !self.steps.is_empty()
    }

    /// Where it leads from `start`, which its root is, or is said to be. `read` gives the pointer at
    /// an address, where that is mapped.
    pub fn follow(
        &self,
        types: &dyn Types,
        start: Start,
        read: &dyn Fn(Gva) -> Option<u64>,
    ) -> Result<(Gva, TypeId), PathError> {
        let stars = std::iter::repeat_n(Step::Star, self.stars);
        let mut at = Walk { types, read, start, text: self.root.to_string() };
        for step in self.steps.iter().copied().chain(stars) {
            at.go(step)?;
        }
        at.behind_references()?;
        // What is in no memory has no address; what it points to has.
        let (Start::Object(gva, id) | Start::Pointer(gva, id)) = at.start;
        Ok((gva, id))
    }
}

impl<'t> Cast<'t> {
    /// `(TYPE)` at the start of `text`, and what follows it. C++ names can start with
    /// `(anonymous namespace)::`.
    fn split(text: &'t str) -> Option<(Self, &'t str)> {
        let (name, rest) = text.strip_prefix('(')?.split_once(')')?;
        let bare = name.trim_end_matches(|letter: char| letter == '*' || letter.is_whitespace());
        let pointers = name[bare.len()..].matches('*').count();
        let name = bare.trim_start();
        let is = !name.is_empty() && !rest.is_empty() && !rest.starts_with("::");
        is.then_some((Self { name, pointers }, rest))
    }
}

impl<'t> Root<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        match digits.map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(address)) => Some(Self::Address(Gva(address))),
            _ => (!text.is_empty()).then_some(Self::Symbol(text)),
        }
    }
}

impl std::fmt::Display for Root<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Address(gva) => write!(f, "{gva}"),
        }
    }
}

/// The steps that all of `text` is, and the offset at its end.
fn parse_steps(mut text: &str) -> Option<(Vec<Step<'_>>, i64)> {
    let mut steps = Vec::new();
    loop {
        if text.is_empty() {
            return Some((steps, 0));
        }
        let (step, rest) = if let Some(rest) = text.strip_prefix("->") {
            let (name, rest) = identifier(rest)?;
            (Step::Arrow(name), rest)
        } else if let Some(rest) = text.strip_prefix('.') {
            let (name, rest) = identifier(rest)?;
            (Step::Member(name), rest)
        } else if let Some(rest) = text.strip_prefix('[') {
            let (index, rest) = rest.split_once(']')?;
            (Step::Index(integer(index)?), rest)
        } else {
            let (_, number) = text.split_at_checked(1)?;
            let positive = number.starts_with(|letter: char| letter.is_ascii_digit());
            let signed = text.strip_prefix('+').unwrap_or(text);
            let offset = integer(signed).filter(|_| positive && text.starts_with(['+', '-']))?;
            return Some((steps, offset));
        };
        steps.push(step);
        text = rest;
    }
}

/// The name at the start of `text`, and what follows it.
fn identifier(text: &str) -> Option<(&str, &str)> {
    let letter = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
    let end = text.find(|own| !letter(own)).unwrap_or(text.len());
    let first = text.chars().next()?;
    (end > 0 && !first.is_ascii_digit()).then(|| text.split_at(end))
}

/// A whole number of 64 bits, decimal or 0x, which may be negative.
fn integer(text: &str) -> Option<i64> {
    i64::try_from(whole(text).ok()?).ok()
}

/// Something typed that a path starts at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// What lies at an address.
    Object(Gva, TypeId),
    /// A pointer that is itself in no memory, as `task(198)`: where it leads, and to what.
    Pointer(Gva, TypeId),
}

/// A path that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The types are damaged.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// What is before the member has none.
    #[error("'{part}' is {name}, which has no members{}", instead(.hint))]
    NoMembers {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
        /// What could be meant.
        hint: Option<String>,
    },
    /// `->` after something that is no pointer, or `.` after one.
    #[error("'{part}' is {name}: type {hint}")]
    WrongStep {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
        /// What is meant.
        hint: String,
    },
    /// A structure that is nowhere defined.
    #[error(
        "'{part}' is {name}, which the debugging information only declares: nothing tells its members"
    )]
    OnlyDeclared {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
    },
    /// No such member.
    #[error("'{part}' is {name}, which has no member '{member}'{}", nearest(.near))]
    NoMember {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
        /// The member asked for.
        member: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// Less than a byte, or across bytes.
    #[error("'{0}' is a bit field, which has no address: name the structure that it is in")]
    BitField(String),
    /// What has no elements.
    #[error("'{part}' is {name}, which has no elements")]
    NoElements {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
    },
    /// Past the end of an array.
    #[error("'{part}' is {name}: there is no element {index}{}", elements(*.count))]
    OutOfRange {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
        /// The element asked for.
        index: i64,
        /// How many there are.
        count: u64,
    },
    /// What a `*` is before is no pointer.
    #[error("'{part}' is {name}, and leads nowhere: only a pointer does")]
    NoPointer {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
    },
    /// A pointer to something that nothing is known of.
    #[error("'{part}' is {name}: nothing tells what it leads to; say it, as (struct NAME)ADDRESS")]
    Untyped {
        /// The path up to there.
        part: String,
        /// The type.
        name: String,
    },
    /// A null pointer.
    #[error("'{0}' is a null pointer now")]
    Null(String),
    /// A pointer that cannot be read.
    #[error("'{part}' is a pointer at {at}, where the victim has no page now")]
    Unmapped {
        /// The path up to there.
        part: String,
        /// Where it lies.
        at: Gva,
    },
    /// Past the end of the address space.
    #[error("'{0}' lies outside of the address space")]
    OutOfSpace(String),
}

impl PathError {
    /// Whether it is for what the memory holds now, not for the types.
    pub fn is_of_memory(&self) -> bool {
        matches!(self, Self::Null(_) | Self::Unmapped { .. })
    }
}

fn instead(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(": type {hint}")).unwrap_or_default()
}

fn elements(count: u64) -> String {
    match count.checked_sub(1) {
        None => ", for it has none".to_owned(),
        Some(last) => format!(", only 0 to {last}"),
    }
}

/// A path, as far as it has been followed.
struct Walk<'w> {
    types: &'w dyn Types,
    read: &'w dyn Fn(Gva) -> Option<u64>,
    start: Start,
    /// What was typed of it.
    text: String,
}

impl Walk<'_> {
    fn go(&mut self, step: Step) -> Result<(), PathError> {
        self.behind_references()?;
        match step {
            Step::Member(name) => self.dot(name),
            Step::Arrow(name) => self.arrow(name),
            Step::Index(index) => self.index(index),
            Step::Star => {
                self.star()?;
                self.text.insert(0, '*');
                Ok(())
            }
        }
    }

    /// The type where the path is.
    fn id(&self) -> TypeId {
        match self.start {
            Start::Object(_, id) => id,
            Start::Pointer(_, to) => to.pointer(),
        }
    }

    fn shape(&self) -> Result<Shape, TypesError> {
        self.types.shape(self.id())
    }

    /// The path up to here, and what its type is called, for messages.
    fn so_far(&self) -> Result<(String, String), TypesError> {
        Ok((self.text.clone(), self.types.name(self.id())?))
    }

    fn dot(&mut self, member: &str) -> Result<(), PathError> {
        if let Shape::Pointer(to) = self.shape()? {
            let (part, name) = self.so_far()?;
            return Err(match self.types.shape(to)? {
                Shape::Structure { .. } => {
                    let hint = format!("{part}->{member}");
                    PathError::WrongStep { part, name, hint }
                }
                _ => {
                    let hint = Some(format!("{part}[0] for what it leads to"));
                    PathError::NoMembers { part, name, hint }
                }
            });
        }
        let Start::Object(gva, id) = self.start else { return Ok(()) };
        let field = self.member(&self.text, id, member)?;
        self.start = self.within(gva, &field)?;
        self.text = format!("{}.{member}", self.text);
        Ok(())
    }

    fn arrow(&mut self, member: &str) -> Result<(), PathError> {
        let (part, name) = self.so_far()?;
        match self.shape()? {
            Shape::Pointer(to) => {
                let field = self.member(&format!("*{part}"), to, member)?;
                self.start = self.within(self.pointer()?, &field)?;
            }
            Shape::Structure { .. } => {
                let hint = format!("{part}.{member}");
                return Err(PathError::WrongStep { part, name, hint });
            }
            Shape::Array { element, .. } => {
                let step = match self.types.shape(element)? {
                    Shape::Structure { .. } => ".",
                    _ => "->",
                };
                let hint = format!("{part}[0]{step}{member}");
                return Err(PathError::WrongStep { part, name, hint });
            }
            _ => return Err(PathError::NoMembers { part, name, hint: None }),
        }
        self.text = format!("{}->{member}", self.text);
        Ok(())
    }

    /// The member `member` of the type `id`, which `part` has.
    fn member(&self, part: &str, id: TypeId, member: &str) -> Result<Field, PathError> {
        let (part, name) = (part.to_owned(), self.types.name(id)?);
        match self.types.shape(id)? {
            Shape::Structure { size: Some(_) } => {}
            Shape::Structure { .. } => return Err(PathError::OnlyDeclared { part, name }),
            Shape::Array { .. } => {
                let hint = Some(format!("{part}[0] for an element"));
                return Err(PathError::NoMembers { part, name, hint });
            }
            _ => return Err(PathError::NoMembers { part, name, hint: None }),
        }
        let Some(field) = self.types.member(id, member)? else {
            let near = nearest_names(member, self.types.member_names(id)?.into_iter());
            return Err(PathError::NoMember { part, name, member: member.to_owned(), near });
        };
        match field.bits {
            Some(_) => Err(PathError::BitField(member.to_owned())),
            None => Ok(field),
        }
    }

    /// The member `field` of what lies at `gva`.
    fn within(&self, gva: Gva, field: &Field) -> Result<Start, PathError> {
        let gva = gva.checked_add(field.offset);
        let gva = gva.ok_or_else(|| PathError::OutOfSpace(self.text.clone()))?;
        Ok(Start::Object(gva, field.id))
    }

    fn index(&mut self, index: i64) -> Result<(), PathError> {
        let (part, name) = self.so_far()?;
        let (element, count) = match self.shape()? {
            Shape::Array { element, count } => (element, count),
            Shape::Pointer(to) => (to, None),
            _ => return Err(PathError::NoElements { part, name }),
        };
        let within = |count: u64| u64::try_from(index).is_ok_and(|index| index < count);
        if let Some(count) = count.filter(|&count| !within(count)) {
            return Err(PathError::OutOfRange { part, name, index, count });
        }
        let size = self.types.size(element)?.filter(|&size| size > 0);
        let size = size.ok_or(PathError::Untyped { part, name })?;
        let text = format!("{}[{index}]", self.text);
        let far = i64::try_from(size).ok().and_then(|size| size.checked_mul(index));
        let first = self.first()?;
        let gva = far.and_then(|far| first.checked_offset(far));
        let gva = gva.ok_or_else(|| PathError::OutOfSpace(text.clone()))?;
        (self.start, self.text) = (Start::Object(gva, element), text);
        Ok(())
    }

    /// Where the first element of an array lies, or of what a pointer leads to.
    fn first(&self) -> Result<Gva, PathError> {
        match (self.shape()?, self.start) {
            (Shape::Array { .. }, Start::Object(gva, _)) => Ok(gva),
            _ => self.pointer(),
        }
    }

    fn star(&mut self) -> Result<(), PathError> {
        let (part, name) = self.so_far()?;
        let to = match self.shape()? {
            Shape::Pointer(to) | Shape::Array { element: to, .. } => to,
            _ => return Err(PathError::NoPointer { part, name }),
        };
        if self.types.shape(to)? == Shape::Void {
            return Err(PathError::Untyped { part, name });
        }
        self.start = Start::Object(self.first()?, to);
        Ok(())
    }

    /// To what a reference of C++ stands for.
    fn behind_references(&mut self) -> Result<(), PathError> {
        if let Shape::Reference(to) = self.shape()? {
            self.start = Start::Object(self.pointer()?, to);
        }
        Ok(())
    }

    /// Where the pointer leads that the path is at.
    fn pointer(&self) -> Result<Gva, PathError> {
        let part = || self.text.clone();
        match self.start {
            Start::Pointer(gva, _) => Ok(gva),
            Start::Object(at, _) => match (self.read)(at) {
                None => Err(PathError::Unmapped { part: part(), at }),
                Some(0) => Err(PathError::Null(part())),
                Some(gva) => Ok(Gva(gva)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(text: &str) -> Vec<(String, i64)> {
        let all = Expression::all(text);
        all.iter().map(|way| (way.root.to_string(), way.offset)).collect()
    }

    #[track_caller]
    fn roots(text: &str, expected: &[&str]) {
        let roots: Vec<_> = ways(text).into_iter().map(|(root, _)| root).collect();
        assert_eq!(roots, expected, "{text}");
    }

    #[test]
    fn every_start_of_a_text_may_be_the_symbol() {
        roots("x", &["x"]);
        roots("A->vals[17].re", &["A->vals[17].re", "A->vals[17]", "A->vals", "A"]);
        roots("count.0", &["count.0"]);
        roots("app::Pool::operator->", &["app::Pool::operator->"]);
        roots("libm.so.6:signgam", &["libm.so.6:signgam"]);
        roots("holder.c:twin", &["holder.c:twin"]);
        roots(
            "(anonymous namespace)::a.b",
            &["(anonymous namespace)::a.b", "(anonymous namespace)::a"],
        );
        roots("**p[1]", &["**p[1]", "p[1]", "p"]);
        roots("a[1", &["a[1"]);
        roots("a.", &["a."]);
        roots("a[x]", &["a[x]"]);
        roots("", &[""]);
    }

    #[test]
    fn an_offset_stands_at_the_end() {
        assert_eq!(ways("x+8")[1], ("x".to_owned(), 8));
        assert_eq!(ways("x.y-0x10").last().unwrap(), &("x".to_owned(), -16));
        assert_eq!(ways("0x4c1008+4"), [("0x4c1008+4".to_owned(), 0), ("0x4c1008".to_owned(), 4)]);
        for text in ["x+", "x+-8", "x+8.y", "x-+8", "x--8", "x+0x", "x+8+8"] {
            assert!(!ways(text).iter().any(|(root, _)| root == "x"), "{text}");
        }
    }

    #[test]
    fn a_cast_and_an_address() {
        let all = Expression::all("(struct config *)0x4c1000->dims[1]");
        let way = all.last().unwrap();
        assert_eq!(way.root, Root::Address(Gva(0x4c1000)));
        assert_eq!(way.cast, Some(Cast { name: "struct config", pointers: 1 }));
        assert_eq!(way.steps, [Step::Arrow("dims"), Step::Index(1)]);
        assert_eq!(Expression::all("0x4c1008").len(), 1);
        assert_eq!(Expression::all("4198408")[0].root, Root::Symbol("4198408"));
        assert!(Expression::all("(double)")[0].cast.is_none());
        assert!(!Expression::all("x")[0].is_typed() && way.is_typed());
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(integer("-0x10"), Some(-16));
        assert_eq!(integer("17"), Some(17));
        for bad in ["", "-", "0x", "--1", "-+1", "1.5", "9223372036854775808"] {
            assert_eq!(integer(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_text_is_taken_apart() {
        let long = "a.".repeat(LONGEST);
        assert_eq!(Expression::all(&long).len(), 1);
        for text in ["é[0]", "a->é", "[", "]", "*", "()", "(a)b", "->", "a[0]é", "+1", "(*)x"] {
            assert!(!Expression::all(text).is_empty(), "{text}");
        }
    }
}
