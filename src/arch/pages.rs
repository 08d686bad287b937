//! All pages that an address space has in a range of addresses, found by going through its tables
//! rather than by one walk for each address.

use super::{AddressSpace, Entry, Rights};
use crate::address::{Gpa, Gva};
use crate::memory::GuestMemory;
use std::ops::{ControlFlow, Range};

/// Entries of a table.
const ENTRIES: u64 = 512;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Tables that are looked at: enough for 128 GiB in small pages. Hostile ones may lead in circles.
const MOST_TABLES: usize = 1 << 16;

/// A page that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPage {
    /// Its first address.
    pub gva: Gva,
    /// Where it lies.
    pub gpa: Gpa,
    /// Its bytes.
    pub size: u64,
    /// What every level allows.
    pub rights: Rights,
}

/// What is left of one search, and whom to show what it finds.
struct Search<'s, F> {
    memory: &'s dyn GuestMemory,
    wanted: Range<Gva>,
    tables: usize,
    each: F,
}

impl AddressSpace {
    /// Shows `each` page that has an address in `wanted`, in ascending order, until it has had
    /// enough. What cannot be read counts as absent.
    pub fn pages(
        &self,
        memory: &dyn GuestMemory,
        wanted: Range<Gva>,
        each: impl FnMut(MappedPage) -> ControlFlow<()>,
    ) {
        let mut search = Search { memory, wanted, tables: MOST_TABLES, each };
        // Whoever had enough has what it wanted.
        let _ = self.table(&mut search, self.root, 0, Gva(0), Rights::ALL);
    }

    /// Goes through the table at `at`, of the level `depth` down from the root, which is for the
    /// addresses from `start` on.
    fn table<F: FnMut(MappedPage) -> ControlFlow<()>>(
        &self,
        search: &mut Search<F>,
        at: Gpa,
        depth: usize,
        start: Gva,
        rights: Rights,
    ) -> ControlFlow<()> {
        let Some(&shift) = self.format.index_shifts.get(depth) else {
            return ControlFlow::Continue(());
        };
        let mut bytes = [0; (ENTRIES * ENTRY) as usize];
        search.tables = search.tables.saturating_sub(1);
        if search.tables == 0 || search.memory.read(at, &mut bytes).is_err() {
            return ControlFlow::Continue(());
        }
        let (entries, _) = bytes.as_chunks();
        for (index, entry) in entries.iter().map(|entry| u64::from_le_bytes(*entry)).enumerate() {
            let gva = self.sign_extended(start.0 | (index as u64) << shift);
            let last = gva.0 | ((1 << shift) - 1);
            if entry == 0 || last < search.wanted.start.0 || gva >= search.wanted.end {
                continue;
            }
            let rights = rights.and((self.format.rights)(entry));
            match (self.format.decode)(entry, shift, self.is_last(shift)) {
                Entry::Table(next) => self.table(search, next, depth + 1, gva, rights)?,
                Entry::Page(gpa) => {
                    (search.each)(MappedPage { gva, gpa, size: 1 << shift, rights })?
                }
                Entry::Absent(_) | Entry::Malformed => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// The canonical address with the given lowest bits.
    fn sign_extended(&self, address: u64) -> Gva {
        let unused = 64 - self.format.virtual_bits;
        Gva(((address << unused) as i64 >> unused) as u64)
    }
}
