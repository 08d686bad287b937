//! The victim's own symbols, as a file has them: the program itself, or what `nm` printed of it.

use crate::symbols::{ElfFile, MapFile, Symbol, SymbolError};
use std::path::Path;

/// A file with the victim's symbols.
pub enum Program {
    /// The program.
    Elf(ElfFile),
    /// What `nm` printed of it, or a map like System.map.
    Map(MapFile),
}

impl Program {
    /// The file's path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Elf(elf) => elf.path(),
            Self::Map(map) => map.path(),
        }
    }

    /// The symbol `name`, at the address that the program was linked to.
    pub fn symbol(&self, name: &str) -> Result<&Symbol, SymbolError> {
        match self {
            Self::Elf(elf) => elf.symbol(name),
            Self::Map(map) => map.symbol(name),
        }
    }

    /// The names of all its symbols.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Elf(elf) => elf.names().collect(),
            Self::Map(map) => map.names().collect(),
        }
    }
}
