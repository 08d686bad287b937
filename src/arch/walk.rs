//! The one page-table walker.

use super::{Entry, PagingFormat, Rights};
use crate::address::{Gpa, Gva};
use crate::memory::{GuestMemory, MemoryError};
use std::fmt;

/// Bytes of a page-table entry.
const ENTRY: u64 = 8;

/// Why an entry maps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The entry is zero: nobody has touched the page yet, or nothing is mapped there.
    NeverTouched,
    /// The entry is a note of the kernel's: the page is swapped out, or on its way elsewhere.
    Elsewhere {
        /// Which area of swap; beyond those in use, another reason.
        area: u8,
    },
    /// The address is not one that the page tables can hold.
    NotCanonical,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverTouched => "no page is there",
            Self::Elsewhere { .. } => "its page is swapped out or migrating",
            Self::NotCanonical => "not a canonical address",
        })
    }
}

/// A virtual address could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// Nothing is mapped there now.
    #[error("{gva} is not mapped: {why}")]
    NotMapped {
        /// The address.
        gva: Gva,
        /// What the entry says.
        why: Absence,
    },
    /// An entry that cannot be.
    #[error("the page table entry {entry:#x} at {at} for {gva} is malformed")]
    Malformed {
        /// The address.
        gva: Gva,
        /// Where the entry lies.
        at: Gpa,
        /// The entry.
        entry: u64,
    },
    /// A table or page that is not in RAM.
    #[error("the page tables for {gva} lead out of guest RAM")]
    Memory {
        /// The address.
        gva: Gva,
        /// What was not there.
        source: MemoryError,
    },
}

/// Where a virtual address lies, as the page tables said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWalk {
    /// The guest-physical address of the byte.
    pub gpa: Gpa,
    /// Bytes from there to the end of the page.
    pub length: u64,
    /// Bytes of the page.
    pub size: u64,
    /// What every level allows.
    pub rights: Rights,
    /// The entry that maps the page.
    pub entry: u64,
}

impl PageWalk {
    /// Where the page starts in guest-physical memory.
    pub fn page(&self) -> Gpa {
        self.gpa.align_down(self.size)
    }
}

/// One level of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Pages of this level have `1 << shift` bytes.
    pub shift: u32,
    /// Where the entry lies.
    pub at: Gpa,
    /// The entry.
    pub entry: u64,
}

/// The root of a set of page tables, and their format.
#[derive(Clone, Copy, Debug)]
pub struct AddressSpace {
    /// Guest-physical address of the root table.
    pub root: Gpa,
    /// What the tables look like.
    pub format: &'static PagingFormat,
}

impl AddressSpace {
    /// Walks the tables for `gva`. Each entry is one aligned 8-byte load, so it is never seen
    /// half written.
    pub fn walk(&self, memory: &dyn GuestMemory, gva: Gva) -> Result<PageWalk, TranslateError> {
        self.trace(memory, gva, |_| ())
    }

    /// The same, and shows `each` level.
    pub fn trace(
        &self,
        memory: &dyn GuestMemory,
        gva: Gva,
        mut each: impl FnMut(Step),
    ) -> Result<PageWalk, TranslateError> {
        let not_mapped = |why| TranslateError::NotMapped { gva, why };
        if !self.canonical(gva) {
            return Err(not_mapped(Absence::NotCanonical));
        }
        let mut table = self.root;
        let mut rights = Rights::ALL;
        for &shift in self.format.index_shifts {
            let at = table.checked_add(ENTRY * self.index(gva, shift));
            let at = at.ok_or(not_mapped(Absence::NotCanonical))?;
            let entry = memory.load(at).map_err(|source| TranslateError::Memory { gva, source })?;
            each(Step { shift, at, entry });
            rights = rights.and((self.format.rights)(entry));
            match (self.format.decode)(entry, shift, self.is_last(shift)) {
                Entry::Table(next) => table = next,
                Entry::Page(page) => return in_page(memory, gva, page, shift, rights, entry),
                Entry::Absent(why) => return Err(not_mapped(why)),
                Entry::Malformed => return Err(TranslateError::Malformed { gva, at, entry }),
            }
        }
        Err(not_mapped(Absence::NotCanonical))
    }

    pub(super) fn is_last(&self, shift: u32) -> bool {
        self.format.index_shifts.last() == Some(&shift)
    }

    pub(super) fn index(&self, gva: Gva, shift: u32) -> u64 {
        gva.0 >> shift & ((1 << self.format.index_bits) - 1)
    }

    /// The bits above the highest index all repeat its top bit.
    fn canonical(&self, gva: Gva) -> bool {
        let unused = 64 - self.format.virtual_bits;
        ((gva.0 << unused) as i64 >> unused) as u64 == gva.0
    }
}

/// The walk has ended at a page of `1 << shift` bytes; it counts only if it is RAM.
fn in_page(
    memory: &dyn GuestMemory,
    gva: Gva,
    page: Gpa,
    shift: u32,
    rights: Rights,
    entry: u64,
) -> Result<PageWalk, TranslateError> {
    let size = 1u64 << shift;
    let into = gva.0 & (size - 1);
    // Below the mask of the frame, so it cannot wrap.
    let gpa = Gpa(page.0 + into);
    let in_ram = memory.regions().locate(gpa, 1);
    in_ram.map_err(|source| TranslateError::Memory { gva, source })?;
    Ok(PageWalk { gpa, length: size - into, size, rights, entry })
}
