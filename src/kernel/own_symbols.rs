//! The kernel's symbols from its own kallsyms tables in RAM, found through its VMCOREINFO.

use super::{Symbols, VmCoreInfo};
use crate::address::{Gpa, Gva};
use crate::memory::GuestMemory;
use crate::symbols::kallsyms::{Base, Tokens, walk_names};

/// Where the kernel's image starts in its address space (`__START_KERNEL_map`).
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// More notes than there are: a live one and stale copies. Hostile ones could be in each page.
const MOST_NOTES: usize = 16;
/// More symbols than any kernel has: those of today have some 150,000.
const MOST_SYMBOLS: u32 = 1 << 20;
/// A token table has some 1000 bytes.
const TOKEN_TABLE: usize = 16 << 10;
const TOKEN_INDEX: usize = 512;
/// Names have some 12 bytes, compressed; where they have more, that is seen and read.
const NAME: usize = 16;
const ALL_NAMES: usize = 64 << 20;

/// The symbols of every kernel in RAM that tells them.
pub fn all(memory: &dyn GuestMemory) -> Vec<Symbols> {
    let notes = VmCoreInfo::all(memory);
    notes.iter().take(MOST_NOTES).filter_map(|note| of_note(memory, note)).collect()
}

/// The symbols of the kernel that wrote `note`: `None` unless its tables are where it says.
fn of_note(memory: &dyn GuestMemory, note: &VmCoreInfo) -> Option<Symbols> {
    let tables = Tables { memory, note, phys_base: note.number("phys_base")? };
    let tokens = Tokens::new(
        &tables.read("kallsyms_token_table", TOKEN_TABLE)?,
        &tables.read("kallsyms_token_index", TOKEN_INDEX)?,
    )?;
    let count = tables.read("kallsyms_num_syms", 4)?.try_into().ok().map(u32::from_le_bytes)?;
    let count = (count <= MOST_SYMBOLS).then_some(count as usize)?;
    let offsets = tables.offsets(count)?;
    let base = tables.base().find(|base| base.fits(&offsets))?;
    let mut found = Symbols::none(&format!("kallsyms at {}", note.at));
    let keep = |index: usize, _: u8, name: &[u8]| {
        found.keep(name, || Gva(base.address(index, offsets[index])));
    };
    tables.names(count, &tokens, keep)?;
    Some(found)
}

/// The tables that a note tells of.
struct Tables<'m> {
    memory: &'m dyn GuestMemory,
    note: &'m VmCoreInfo,
    phys_base: i64,
}

impl Tables<'_> {
    /// Where the kernel's symbol `name` lies.
    fn at(&self, name: &str) -> Option<Gpa> {
        let into = self.note.symbol(name)?.checked_sub(IMAGE)?;
        Gpa(into).checked_offset(self.phys_base)
    }

    /// Up to `length` bytes from `name` on.
    fn read(&self, name: &str, length: usize) -> Option<Vec<u8>> {
        let at = self.at(name)?;
        let mut bytes = vec![0; length];
        self.memory.read(at, &mut bytes).ok()?;
        Some(bytes)
    }

    fn offsets(&self, count: usize) -> Option<Vec<i32>> {
        let bytes = self.read("kallsyms_offsets", 4 * count)?;
        let words = bytes.chunks_exact(4);
        Some(words.map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    }

    /// What the offsets may count from.
    fn base(&self) -> impl Iterator<Item = Base> {
        let base = self.read("kallsyms_relative_base", 8).and_then(|bytes| bytes.try_into().ok());
        let base = base.map(u64::from_le_bytes);
        let fixed = base.into_iter().flat_map(|base| [Base::PerCpu(base), Base::Fixed(base)]);
        fixed.chain(self.note.symbol("kallsyms_offsets").map(Base::Place))
    }

    fn names(
        &self,
        count: usize,
        tokens: &Tokens,
        mut each: impl FnMut(usize, u8, &[u8]),
    ) -> Option<()> {
        let mut size = NAME * count;
        while size <= ALL_NAMES {
            let names = self.read("kallsyms_names", size)?;
            if walk_names(&names, count, tokens, &mut each).is_some() {
                return Some(());
            }
            size *= 2;
        }
        None
    }
}
