//! A kernel's symbols as System.map has them, from its own tables in RAM.
//!
//! Addresses are as linked, without what KASLR added in this boot: the file is the same in every
//! boot of the kernel, and serves each.

use super::own_symbols::{OwnTables, ask_kernel};
use super::{Kernel, KernelError, Symbols, sanitized};
use crate::memory::GuestMemory;
use crate::symbols::kallsyms::IMAGE_SPACE;
use std::fmt::Write;

/// Every symbol of a kernel, in the order of their addresses.
pub struct SystemMap {
    /// Where the tables were found.
    pub from: String,
    /// Its lines, `ADDRESS LETTER NAME`.
    pub text: String,
}

impl Kernel {
    /// All of its symbols by its own tables, whatever those in use came from.
    pub fn system_map(&self, memory: &dyn GuestMemory) -> Result<SystemMap, KernelError> {
        let own = |tables: &OwnTables| self.lines(tables);
        ask_kernel(memory, self, own).ok_or(KernelError::NoTables)
    }

    /// The lines of `tables`, if they are of this kernel in this boot.
    fn lines(&self, tables: &OwnTables) -> Option<SystemMap> {
        self.agrees(&tables.symbols()?).then_some(())?;
        let (mut symbols, slide) = (Vec::new(), self.kaslr_offset().unwrap_or(0));
        let linked = |address| match IMAGE_SPACE.contains(&address) {
            true => address.wrapping_sub(slide),
            // Offsets of per-CPU variables, and numbers: KASLR does not move them.
            false => address,
        };
        tables.each(|address, letter, name| {
            symbols.push((linked(address), sanitized(&[letter]) + " " + &sanitized(name)));
        })?;
        // Of several names of one place, the first stays the first.
        symbols.sort_by_key(|(address, _)| *address);
        let mut text = String::new();
        for (address, rest) in symbols {
            // A string takes all.
            let _ = writeln!(text, "{address:016x} {rest}");
        }
        Some(SystemMap { from: tables.from().to_owned(), text })
    }

    /// Whether `symbols`, as they are now, are where this kernel has them.
    pub(super) fn agrees(&self, symbols: &Symbols) -> bool {
        let both = symbols.all().filter_map(|(name, at)| Some((at, self.symbol(name).ok()?)));
        let mut same = both.map(|(own, known)| own == known).peekable();
        same.peek().is_some() && same.all(|same| same)
    }
}
