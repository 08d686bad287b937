//! The victim's own symbols, as a file has them: the program itself, or what `nm` printed of it.

use crate::symbols::{ElfFile, Listed, MapFile, Seen, Symbol, SymbolError};
use std::path::Path;

/// A file with the victim's symbols.
pub enum Program {
    /// The program.
    Elf(ElfFile),
    /// What `nm` printed of it, or a map like System.map.
    Map(MapFile),
}

impl Program {
    /// The program itself, where it is more than a map.
    pub fn elf(&self) -> Option<&ElfFile> {
        if let Self::Elf(elf) = self { Some(elf) } else { None }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Elf(elf) => elf.path(),
            Self::Map(map) => map.path(),
        }
    }

    /// The symbol `name`, at the address that the program was linked to; none where it has no such.
    pub fn seen(&self, name: &str) -> Result<Option<&Symbol>, SymbolError> {
        match self {
            Self::Elf(elf) => elf.seen(name, Seen::Any),
            Self::Map(map) => map.seen(name),
        }
    }

    /// Whether all of its files mean one place by `name`.
    pub fn has_global(&self, name: &str) -> bool {
        match self {
            Self::Elf(elf) => elf.has_global(name),
            Self::Map(map) => map.has_global(name),
        }
    }

    /// The error for `name`, which it does not have.
    pub fn no_symbol(&self, name: &str) -> SymbolError {
        match self {
            Self::Elf(elf) => elf.no_symbol(name),
            Self::Map(map) => map.no_symbol(name),
        }
    }

    /// All of its symbols, by address.
    pub fn listed(&self) -> Vec<Listed> {
        match self {
            Self::Elf(elf) => elf.listed(),
            Self::Map(map) => map.listed(),
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
