//! Layouts from a file: what it is shows from its first bytes.

use super::{Btf, Dwarf, Profile, TypeSource, TypesError};
use crate::symbols::{Sections, SymbolError, read_file};
use std::path::{Path, PathBuf};

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// A file of layouts could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TypesFileError {
    /// It could not be read.
    #[error(transparent)]
    Unreadable(#[from] SymbolError),
    /// An ELF file that tells no types.
    #[error(
        "{0} has neither BTF nor DWARF: give a vmlinux that was built with CONFIG_DEBUG_INFO, a BTF file, or a profile"
    )]
    NoTypes(PathBuf),
    /// Neither ELF, nor BTF, nor text.
    #[error("{0} is neither a vmlinux, nor BTF, nor a profile (TOML)")]
    Unknown(PathBuf),
    /// It is damaged.
    #[error("{path}: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TypesError,
    },
}

/// The layouts in the file at `path`: a vmlinux with BTF or DWARF, raw BTF, or a profile.
pub fn open(path: &Path) -> Result<Box<dyn TypeSource>, TypesFileError> {
    let bytes = read_file(path)?;
    let damaged = |source| TypesFileError::Damaged { path: path.to_owned(), source };
    if bytes.starts_with(ELF_MAGIC) {
        return of_elf(path, &bytes);
    }
    if bytes.starts_with(&Btf::MAGIC.to_le_bytes()) {
        return Ok(Box::new(Btf::parse(bytes).map_err(damaged)?));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Box::new(Profile::parse(text).map_err(damaged)?)),
        Err(_) => Err(TypesFileError::Unknown(path.to_owned())),
    }
}

/// BTF where there is some: it is read in milliseconds, the DWARF of a kernel in seconds.
fn of_elf(path: &Path, bytes: &Vec<u8>) -> Result<Box<dyn TypeSource>, TypesFileError> {
    let damaged = |source| TypesFileError::Damaged { path: path.to_owned(), source };
    let none = || TypesFileError::NoTypes(path.to_owned());
    let not_elf = || TypesError::Damaged("ELF file", "its sections cannot be read".to_owned());
    let sections = Sections::read(bytes).map_err(|_| damaged(not_elf()))?;
    if let Some(btf) = sections.bytes(".BTF").map_err(|error| damaged(error.into()))? {
        return Ok(Box::new(Btf::parse(btf).map_err(damaged)?));
    }
    if !sections.has(".debug_info") {
        return Err(none());
    }
    Ok(Box::new(Dwarf::parse(&sections).map_err(damaged)?))
}
