//! Every symbol of the kernel: in the file that was given, or in the kernel's own tables.

use super::own_symbols::{OwnTables, ask_kernel};
use super::{Kernel, KernelError, sanitized};
use crate::address::Gva;
use crate::memory::GuestMemory;
use crate::symbols::kallsyms::IMAGE_SPACE;
use crate::symbols::read_file;

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

impl Kernel {
    /// All of its symbols, in the order of their addresses.
    pub fn all_symbols(&self, memory: &dyn GuestMemory) -> Result<Vec<KernelSymbol>, KernelError> {
        let mut all = match self.symbols.path().is_file() {
            true => self.of_file()?,
            false => self.own(memory)?,
        };
        all.sort_by_key(|symbol| symbol.gva);
        Ok(all)
    }

    /// Those of the file that was given: a line each, `ADDRESS LETTER NAME`.
    fn of_file(&self) -> Result<Vec<KernelSymbol>, KernelError> {
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
