//! The layout of structures: one model, and its readers.
//!
//! Members are asked for by name, never guessed from a kernel's version.

mod btf;
mod dwarf;
mod file;
mod profile;

pub use btf::Btf;
pub use dwarf::Dwarf;
pub use file::{TypesFileError, open};
pub use profile::{Profile, Recorder};

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
}
