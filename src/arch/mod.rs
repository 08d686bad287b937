//! Page tables: each architecture is a table of facts, and one walker serves them all.

mod virtual_memory;
mod walk;
pub mod x86_64;

pub use virtual_memory::VirtualMemory;
pub use walk::{Absence, AddressSpace, PageWalk, TranslateError};

use crate::address::Gpa;

/// What one page-table entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It leads to the next table.
    Table(Gpa),
    /// It maps a page.
    Page(Gpa),
    /// It maps nothing.
    Absent(Absence),
    /// It cannot be: a frame that is not aligned to its page's size.
    Malformed,
}

/// What an architecture's page tables look like.
#[derive(Debug)]
pub struct PagingFormat {
    /// How people call it.
    pub name: &'static str,
    /// The architecture, as `uname -m` has it.
    pub arch: &'static str,
    /// The lowest bit of each level's index, from the root down.
    pub index_shifts: &'static [u32],
    /// Index bits of each level.
    pub index_bits: u32,
    /// Virtual addresses are sign-extended from their lowest this many bits.
    pub virtual_bits: u32,
    /// Reads an entry of the level whose pages are `1 << shift` bytes; `leaf` at the last level.
    pub decode: fn(entry: u64, shift: u32, leaf: bool) -> Entry,
    /// Whether the entry lets programs write.
    pub writable: fn(entry: u64) -> bool,
}
