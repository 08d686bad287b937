//! Layouts from a file: what it is shows from its first bytes.

use super::{Btf, Dwarf, Profile, TypeSource, TypesError};
use crate::symbols::{SymbolError, read_file};
use goblin::elf::Elf;
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
fn of_elf(path: &Path, bytes: &[u8]) -> Result<Box<dyn TypeSource>, TypesFileError> {
    let damaged = |source| TypesFileError::Damaged { path: path.to_owned(), source };
    let elf = Elf::parse(bytes);
    let elf = elf.map_err(|error| damaged(TypesError::Damaged("ELF file", error.to_string())))?;
    if let Some(btf) = section(&elf, bytes, ".BTF") {
        return Ok(Box::new(Btf::parse(btf.to_vec()).map_err(damaged)?));
    }
    if section(&elf, bytes, ".debug_info").is_none() {
        return Err(TypesFileError::NoTypes(path.to_owned()));
    }
    Ok(Box::new(Dwarf::parse(&elf, bytes).map_err(damaged)?))
}

/// The bytes of the section `name`, as they are in the file.
pub(super) fn section<'f>(elf: &Elf, bytes: &'f [u8], name: &str) -> Option<&'f [u8]> {
    let mut headers = elf.section_headers.iter();
    let header = headers.find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(name))?;
    bytes.get(header.file_range()?)
}
