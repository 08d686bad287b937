//! Guest-virtual memory: guest-physical memory seen through one set of page tables.

use super::{Absence, AddressSpace, PageWalk, TranslateError};
use crate::address::Gva;
use crate::memory::{GuestMemory, WORD};

/// An address space of the guest, and the RAM under it. Each access walks the tables anew: the
/// guest changes them meanwhile.
#[derive(Clone, Copy)]
pub struct VirtualMemory<'m> {
    /// The RAM.
    pub memory: &'m dyn GuestMemory,
    /// The page tables.
    pub space: AddressSpace,
}

impl VirtualMemory<'_> {
    /// Translates `gva`.
    pub fn walk(&self, gva: Gva) -> Result<PageWalk, TranslateError> {
        self.space.walk(self.memory, gva)
    }

    /// Copies memory from `gva` on into `into`, across pages. The copy is not atomic.
    pub fn read(&self, gva: Gva, into: &mut [u8]) -> Result<(), TranslateError> {
        let mut at = gva;
        let mut rest = into;
        while !rest.is_empty() {
            let page = self.walk(at)?;
            let length = rest.len().min(page.length as usize);
            let (part, after) = rest.split_at_mut(length);
            let copied = self.memory.read(page.gpa, part);
            copied.map_err(|source| TranslateError::Memory { gva: at, source })?;
            rest = after;
            if !rest.is_empty() {
                at = next(at, length as u64)?;
            }
        }
        Ok(())
    }

    /// The little-endian word at `gva`, in one load where it is aligned.
    pub fn read_u64(&self, gva: Gva) -> Result<u64, TranslateError> {
        if gva.0.is_multiple_of(WORD) {
            let gpa = self.walk(gva)?.gpa;
            let loaded = self.memory.load(gpa);
            return loaded.map_err(|source| TranslateError::Memory { gva, source });
        }
        let mut bytes = [0; 8];
        self.read(gva, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The little-endian 32-bit value at `gva`.
    pub fn read_u32(&self, gva: Gva) -> Result<u32, TranslateError> {
        let mut bytes = [0; 4];
        self.read(gva, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The bytes from `gva` on up to a zero, or `limit` of them.
    pub fn read_string(&self, gva: Gva, limit: usize) -> Result<Vec<u8>, TranslateError> {
        let mut text = Vec::new();
        let mut at = gva;
        while text.len() < limit {
            // Only within the page: the next one need not be mapped.
            let page = self.walk(at)?;
            let mut part = [0; 64];
            let length = part.len().min(page.length as usize).min(limit - text.len());
            let part = &mut part[..length];
            let copied = self.memory.read(page.gpa, part);
            copied.map_err(|source| TranslateError::Memory { gva: at, source })?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&part[..end]);
                break;
            }
            text.extend_from_slice(part);
            at = next(at, length as u64)?;
        }
        Ok(text)
    }
}

/// `length` bytes on; past the end of the address space nothing is mapped.
fn next(gva: Gva, length: u64) -> Result<Gva, TranslateError> {
    let why = Absence::NotCanonical;
    gva.checked_add(length).ok_or(TranslateError::NotMapped { gva, why })
}
