//! Types: one model, its readers, typed paths, and values.
//!
//! Members are asked for by name, never guessed from a kernel's version. A [`TypeSource`] tells where
//! members lie, which is all that is needed of a kernel; [`Types`] tell everything of a type.

mod btf;
mod dwarf;
mod file;
mod model;
mod path;
mod plain;
mod profile;
mod value;

pub use btf::Btf;
pub use dwarf::Dwarf;
pub use file::{TypesFileError, open};
pub use model::{Bits, Field, POINTER, Shape, TypeId, Typed, Types};
pub use path::{Cast, Expression, PathError, Root, Start};
pub use plain::plain;
pub use profile::{Profile, Recorder};
pub use value::{Value, ValueError, bytes_of, value_of};

use crate::symbols::SectionError;
use serde::{Deserialize, Serialize};

/// A layout could not be read or does not hold what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TypesError {
    /// Not what it should be, or cut off.
    #[error("damaged {0}: {1}")]
    Damaged(&'static str, String),
    /// No structure or enumeration of that name.
    #[error("no structure '{0}'")]
    NoStructure(String),
    /// No member of that name.
    #[error("no member '{member}' in '{structure}'")]
    NoMember {
        /// The structure asked.
        structure: String,
        /// The member asked for.
        member: String,
    },
    /// A section of the file is damaged.
    #[error("damaged DWARF: {0}")]
    Section(#[from] SectionError),
    /// The compiler has put the types into files of their own.
    #[error("its types are in .dwo files (-gsplit-dwarf), which are not read: build it without")]
    Split,
    /// The compiler has put each type into a unit of its own.
    #[error(
        "its types are in units of their own (-fdebug-types-section), which are not read: build it without"
    )]
    TypeUnits,
    /// Types that several files share were taken out of this one.
    #[error(
        "its types are in a file that it shares with others (made by dwz), which is not read: give a debug file without"
    )]
    Supplementary,
}

/// Where a member lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Bytes from the start of the outermost structure.
    pub offset: u64,
    /// Bytes that it takes; for an array, all of it.
    pub size: u64,
}

/// The path of a structure itself.
pub const WHOLE: &str = "";

/// Something that knows the layouts of structures.
pub trait TypeSource {
    /// The member at `path` in `structure`: names joined by dots lead through structures that lie
    /// within; members of anonymous ones count as the outer one's own. [`WHOLE`] is the structure
    /// itself.
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError>;

    /// The value that the enumeration `enumeration` has under `name`.
    fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, TypesError>;

    /// The banner of the kernel whose layouts these are, where the source tells it.
    fn kernel(&self) -> Option<&str> {
        None
    }

    /// All that is known of the types; none where it is layouts alone.
    fn types(&self) -> Option<&dyn Types> {
        None
    }
}
