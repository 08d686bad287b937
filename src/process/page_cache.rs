//! Files as the guest has them in its page cache: what was read or run of a file lies there, also
//! the parts that no process has mapped. In an initramfs that is all of it.
//!
//! A file's pages hang in an xarray (include/linux/xarray.h, since 4.20), by their number.

use crate::address::{Gpa, Gva};
use crate::arch::VirtualMemory;
use crate::guest::Guest;
use crate::kernel::{KernelError, PageCacheLayout, field};

const PAGE: u64 = 4096;
/// The largest file that is read.
const LIMIT: u64 = 1 << 30;
/// Slots of a node.
const SLOTS: u64 = 64;
/// Levels that 64 bits of page number can have.
const DEPTH: usize = 11;
/// What an entry is shows from its low bits: 0 a page; these a node, or where it is small a sibling,
/// a slot that says in which other one the entry stands; else a number, of a page that was evicted.
const LOW_BITS: u64 = 3;
const INTERNAL: u64 = 2;
/// Up to here an internal entry is no node but a mark, such as XA_RETRY_ENTRY.
const SPECIAL: u64 = 4096;

/// A file as the page cache has it; each look finds what is there then.
pub struct CachedFile<'g> {
    guest: &'g Guest,
    view: VirtualMemory<'g>,
    layout: &'g PageCacheLayout,
    root: Gva,
    /// The `struct page` of guest-physical address 0.
    first_page: Gva,
    size: u64,
}

/// What the page cache has of the `struct file` at `file`; `None` where the kernel's layout of it
/// is not known, or the file is too large.
pub fn cached_file(guest: &Guest, file: Gva) -> Result<Option<CachedFile<'_>>, KernelError> {
    let Some(layout) = &guest.kernel().layouts.page_cache else { return Ok(None) };
    let view = guest.kernel_memory();
    let word = |at, offset| Ok::<_, KernelError>(view.read_u64(field(at, offset)?)?);
    let size = word(Gva(word(file, layout.inode)?), layout.size)?;
    if size > LIMIT {
        return Ok(None);
    }
    Ok(Some(CachedFile {
        guest,
        view,
        layout,
        root: field(Gva(word(file, layout.mapping)?), layout.root)?,
        first_page: guest.kernel().first_page(guest.memory())?,
        size,
    }))
}

impl CachedFile<'_> {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Copies the file's bytes from `offset` on, which lie in one page, into `into`; tells whether
    /// they are there. The page could be taken for something else meanwhile, so it is looked up
    /// again.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let find = || self.page(offset / PAGE).ok().flatten();
        let in_one_page = offset % PAGE + into.len() as u64 <= PAGE;
        let Some(page) = find().filter(|_| in_one_page) else { return false };
        let at = page.checked_add(offset % PAGE);
        at.is_some_and(|at| self.guest.memory().read(at, into).is_ok()) && find() == Some(page)
    }

    /// How many pages the file has, and how many of them are not there. A hole of a sparse file in
    /// tmpfs is one of those: it has no page, as a page has none that is in swap.
    pub fn pages(&self) -> (u64, u64) {
        let all = self.size.div_ceil(PAGE);
        let missing = (0..all).filter(|&index| !matches!(self.page(index), Ok(Some(_))));
        (all, missing.count() as u64)
    }

    /// Where the page of number `index` lies; `None` too while it is being read in.
    fn page(&self, index: u64) -> Result<Option<Gpa>, KernelError> {
        let Some(head) = self.entry(index)? else { return Ok(None) };
        if !self.uptodate(head)? {
            return Ok(None);
        }
        // A large folio stands there once, by its first page.
        let first = self.view.read_u64(field(head, self.layout.page_index)?)?;
        let number = head.checked_sub(self.first_page).map(|into| into / self.layout.page_size);
        let number = number.zip(index.checked_sub(first)).and_then(|(at, on)| at.checked_add(on));
        Ok(number.and_then(|number| number.checked_mul(PAGE)).map(Gpa))
    }

    fn uptodate(&self, head: Gva) -> Result<bool, KernelError> {
        let Some(flag) = self.layout.uptodate else { return Ok(true) };
        Ok(self.view.read_u64(field(head, flag.flags)?)? & flag.mask != 0)
    }

    /// The `struct page` that the xarray has for `index`. The root covers no more numbers than it
    /// must; without a node it is the entry of number 0.
    fn entry(&self, index: u64) -> Result<Option<Gva>, KernelError> {
        let mut entry = self.view.read_u64(self.root)?;
        let mut covered = 1;
        for _ in 0..DEPTH {
            if entry & LOW_BITS != INTERNAL || entry <= SPECIAL {
                break;
            }
            let node = Gva(entry - INTERNAL);
            let shift = self.view.read_u32(field(node, self.layout.node_shift)?)? & 0xff;
            let Some(slot) = index.checked_shr(shift) else { return Ok(None) };
            covered = covered.max(SLOTS.checked_shl(shift).unwrap_or(u64::MAX));
            entry = self.slot(node, slot % SLOTS)?;
            if entry & LOW_BITS == INTERNAL && entry < SLOTS << 2 {
                entry = self.slot(node, entry >> 2)?;
            }
        }
        let page = index < covered && entry != 0 && entry & LOW_BITS == 0;
        Ok(page.then_some(Gva(entry)))
    }

    fn slot(&self, node: Gva, slot: u64) -> Result<u64, KernelError> {
        Ok(self.view.read_u64(field(node, self.layout.node_slots + 8 * slot)?)?)
    }
}
