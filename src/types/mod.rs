//! The layout of structures: one model, and its readers.
//!
//! Members are asked for by name, never guessed from a kernel's version.

mod btf;

pub use btf::Btf;

/// A layout could not be read or does not hold what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TypesError {
    /// Not BTF, or damaged.
    #[error("the kernel's BTF is damaged: {0}")]
    Damaged(&'static str),
    /// No structure of that name.
    #[error("the kernel's BTF has no structure '{0}'")]
    NoStructure(String),
    /// No member of that name.
    #[error("the kernel's BTF has no member '{member}' in '{structure}'")]
    NoMember {
        /// The structure asked.
        structure: String,
        /// The member asked for.
        member: String,
    },
}

/// Where a member lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost structure.
    pub offset: u64,
    /// Bytes that it takes; for an array, all of it.
    pub size: u64,
}

/// Something that knows the layouts of structures.
pub trait TypeSource {
    /// The member at `path` in `structure`: names joined by dots lead through structures that lie
    /// within; members of anonymous ones count as the outer one's own.
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError>;

    /// Bytes of `structure`.
    fn size_of(&self, structure: &str) -> Result<u64, TypesError>;
}
