//! Any symbol of the kernel, by its name: in the file that was given, or in the kernel's own tables.

use super::own_symbols::{OwnTables, ask_kernel};
use super::{Kernel, KernelError, sanitized};
use crate::address::Gva;
use crate::memory::GuestMemory;
use crate::symbols::{Place, SymbolError, kallsyms::IMAGE_SPACE, nearest_names, read_file};
use std::path::PathBuf;

/// A symbol of the kernel, where it is in this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbol {
    /// Its address; of a per-CPU variable, its offset.
    pub gva: Gva,
    /// What `nm` calls its kind.
    pub letter: char,
    /// Its name, fit for a terminal.
    pub name: String,
}

/// A symbol of the kernel could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is none of that name, or several.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
    /// The kernel's symbols are not to be had.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Kernel {
    /// Where its symbol `name` is. Names are not unique: several files may have one of their own.
    pub fn lookup(&self, memory: &dyn GuestMemory, name: &str) -> Result<Gva, LookupError> {
        let all = self.all_symbols(memory)?;
        let mut found: Vec<_> = all.iter().filter(|symbol| symbol.name == name).collect();
        found.dedup_by_key(|symbol| symbol.gva);
        let (name, path) = (name.to_owned(), PathBuf::from("the guest's kernel"));
        match found.as_slice() {
            [only] => Ok(only.gva),
            [] => {
                let near = nearest_names(&name, all.into_iter().map(|symbol| symbol.name));
                Err(SymbolError::NoSymbol { name, path, near }.into())
            }
            several => {
                let place = |symbol: &&KernelSymbol| Place { name: None, address: symbol.gva.0 };
                let places = several.iter().map(place).collect();
                Err(SymbolError::Ambiguous { name, path, places }.into())
            }
        }
    }

    /// All of its symbols, in the order of their addresses.
    pub fn all_symbols(&self, memory: &dyn GuestMemory) -> Result<Vec<KernelSymbol>, LookupError> {
        let mut all = match self.symbols.path().is_file() {
            true => self.of_file()?,
            false => self.own(memory)?,
        };
        all.sort_by_key(|symbol| symbol.gva);
        Ok(all)
    }

    /// Those of the file that was given: a line each, `ADDRESS LETTER NAME`.
    fn of_file(&self) -> Result<Vec<KernelSymbol>, LookupError> {
        let bytes = read_file(self.symbols.path())?;
        let symbol = |line: &[u8]| {
            let text = sanitized(line);
            let mut words = text.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let (letter, name) = (words.next()?.chars().next()?, words.next()?.to_owned());
            Some(KernelSymbol { gva: self.loaded(address), letter, name })
        };
        Ok(bytes.split(|byte| *byte == b'\n').filter_map(symbol).collect())
    }

    /// Where what was linked at `address` is; what is no address, as a per-CPU variable's offset,
    /// stays.
    fn loaded(&self, address: u64) -> Gva {
        match IMAGE_SPACE.contains(&address) {
            true => Gva(address.wrapping_add_signed(self.located.slide)),
            false => Gva(address),
        }
    }

    /// Those of its own tables.
    fn own(&self, memory: &dyn GuestMemory) -> Result<Vec<KernelSymbol>, KernelError> {
        let tables = |tables: &OwnTables| {
            self.agrees(&tables.symbols()?).then_some(())?;
            let mut all = Vec::new();
            tables.each(|address, letter, name| {
                let (letter, name) = (char::from(letter), sanitized(name));
                all.push(KernelSymbol { gva: Gva(address), letter, name });
            })?;
            Some(all)
        };
        ask_kernel(memory, self, tables).ok_or(KernelError::NoTables)
    }
}
