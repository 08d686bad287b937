//! Page tables: each architecture is a table of facts, and one walker serves them all.

mod pages;
mod virtual_memory;
mod walk;
pub mod x86_64;

pub use pages::MappedPage;
pub use virtual_memory::VirtualMemory;
pub use walk::{Absence, AddressSpace, PageWalk, Step, TranslateError};

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
    /// What the entry allows.
    pub rights: fn(entry: u64) -> Rights,
}

/// What page-table entries allow; on the way to a page, every one of them must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Anything at all; a page that is there need not.
    pub access: bool,
    /// Writing.
    pub write: bool,
    /// Running what is there.
    pub execute: bool,
    /// All this to programs too, not to the kernel alone.
    pub user: bool,
}

impl Rights {
    const ALL: Self = Self { access: true, write: true, execute: true, user: true };

    fn and(self, other: Self) -> Self {
        Self {
            access: self.access && other.access,
            write: self.write && other.write,
            execute: self.execute && other.execute,
            user: self.user && other.user,
        }
    }

    /// Whether a program may write.
    pub fn user_write(self) -> bool {
        self.access && self.write && self.user
    }
}
