//! What the kernel says of a page of RAM in its `struct page` (include/linux/mm_types.h).

use super::{Kernel, KernelError, PageLayout, field};
use crate::address::{Gpa, Gva};
use crate::arch::{VirtualMemory, x86_64};
use crate::memory::GuestMemory;

/// What `struct page` calls a page.
const PAGE: u64 = 4096;
/// The zero page of huge pages is one of them.
const HUGE_PAGE: u64 = 2 << 20;
/// The lowest bits of `mapping` (include/linux/page-flags.h): anonymous memory, and with the other
/// bit such as was merged.
const ANONYMOUS: u64 = 1;
const MERGED: u64 = 3;
/// The lowest bit of `compound_head` is that of a page which is a part of a larger one.
const TAIL: u64 = 1;
/// What `huge_zero_pfn` is while there is none.
const NO_FRAME: u64 = u64::MAX;

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A program's own data.
    Anonymous,
    /// A program's own data, merged with equal ones (KSM).
    Merged,
    /// A file's, or memory that is shared by way of one.
    File,
    /// Not a program's.
    Nobody,
}

/// What the kernel says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFacts {
    /// Whose it is.
    pub owner: Owner,
    /// What tells it from others of that owner: `mapping` of the page, or of the one that it is a
    /// part of.
    pub mapping: u64,
    /// How many page-table entries map it; `None` for a part of a larger page, where kernels count
    /// in different ways.
    pub mapped: Option<u32>,
    /// Whether swap has a copy of it: who has been swapped out may mean the same.
    pub in_swap_cache: bool,
    /// Whether nobody has it.
    pub free: bool,
}

impl Kernel {
    /// What the kernel says of the page at `gpa`; `None` where the layouts do not tell.
    pub fn page(
        &self,
        memory: &dyn GuestMemory,
        gpa: Gpa,
    ) -> Result<Option<PageFacts>, KernelError> {
        let Some(layout) = &self.layouts.page else { return Ok(None) };
        let view = VirtualMemory { memory, space: self.space() };
        let into = (gpa.0 / PAGE).checked_mul(layout.size);
        let at = into.and_then(|into| self.first_page(memory).ok()?.checked_add(into));
        let at = at.ok_or(KernelError::Damaged { what: "map of pages", at: Gva(gpa.0) })?;
        facts(&view, layout, at).map(Some)
    }

    /// Where the page lies that is read wherever nothing was written.
    pub fn zero_page(&self, memory: &dyn GuestMemory) -> Option<Gpa> {
        let page = self.symbol("empty_zero_page").ok()?;
        Some(self.space().walk(memory, page).ok()?.gpa)
    }

    /// Whether `gpa` lies in the huge page that is read wherever nothing was written.
    pub fn in_huge_zero_page(&self, memory: &dyn GuestMemory, gpa: Gpa) -> bool {
        let view = VirtualMemory { memory, space: self.space() };
        let frame = self.symbol("huge_zero_pfn").ok().and_then(|at| view.read_u64(at).ok());
        let start = frame.filter(|frame| *frame != NO_FRAME).and_then(|at| at.checked_mul(PAGE));
        start.is_some_and(|start| gpa.0.checked_sub(start).is_some_and(|into| into < HUGE_PAGE))
    }

    /// Whether the kernel knows that it runs under a hypervisor, which QEMU without KVM is not.
    pub fn sees_hypervisor(&self, memory: &dyn GuestMemory) -> bool {
        self.hypervisor(memory).is_some_and(|kind| kind != x86_64::NO_HYPERVISOR)
    }

    /// Whether the kernel knows that it runs under KVM.
    pub fn sees_kvm(&self, memory: &dyn GuestMemory) -> bool {
        self.hypervisor(memory) == Some(x86_64::KVM)
    }

    fn hypervisor(&self, memory: &dyn GuestMemory) -> Option<u32> {
        let view = VirtualMemory { memory, space: self.space() };
        view.read_u32(self.symbol("x86_hyper_type").ok()?).ok()
    }

    /// How many areas of swap there are or have been.
    pub fn swap_areas(&self, memory: &dyn GuestMemory) -> Option<u32> {
        let view = VirtualMemory { memory, space: self.space() };
        view.read_u32(self.symbol("nr_swapfiles").ok()?).ok()
    }
}

fn facts(view: &VirtualMemory, layout: &PageLayout, at: Gva) -> Result<PageFacts, KernelError> {
    let word = |at, offset| Ok::<_, KernelError>(view.read_u64(field(at, offset)?)?);
    let count = |at, offset| Ok::<_, KernelError>(view.read_u32(field(at, offset)?)?);
    let head = head(at, word(at, layout.head)?);
    let (flags, mapping) = (word(head, layout.flags)?, word(head, layout.mapping)?);
    let alone = head == at && flags & layout.is_head == 0;
    let mapped = if alone { Some(count(at, layout.mapcount)?.wrapping_add(1)) } else { None };
    Ok(PageFacts {
        owner: owner(mapping),
        mapping,
        mapped,
        in_swap_cache: flags & layout.in_swap_cache != 0 && owner(mapping) != Owner::File,
        free: count(head, layout.refcount)? == 0,
    })
}

/// The first `struct page` of the larger page that the one at `at` is a part of, by what it says of
/// that: a pointer, or in 7.x a mask, which is ones down to some bit and zeros below.
fn head(at: Gva, word: u64) -> Gva {
    let rest = word & !TAIL;
    match word & TAIL != 0 {
        false => at,
        true if rest.leading_ones() + rest.trailing_zeros() == u64::BITS => Gva(at.0 & rest),
        true => Gva(rest),
    }
}

fn owner(mapping: u64) -> Owner {
    match mapping & MERGED {
        MERGED => Owner::Merged,
        ANONYMOUS => Owner::Anonymous,
        _ if mapping == 0 => Owner::Nobody,
        _ => Owner::File,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_larger_pages_lead_to_the_first() {
        let first = Gva(0xffff_ea00_0040_0000);
        let third = Gva(first.0 + 3 * 64);
        assert_eq!(head(first, 0), first);
        assert_eq!(head(third, first.0 | TAIL), first);
        assert_eq!(head(third, 0xffff_ffff_ffff_8000 | TAIL), first);
        assert_eq!(head(Gva(first.0 + 64), 0xffff_ffff_ffff_ff81), first);
    }

    #[test]
    fn owners_are_told_by_the_lowest_bits() {
        let owners = [0x1001, 0x1003, 0x1000, 0].map(owner);
        assert_eq!(owners, [Owner::Anonymous, Owner::Merged, Owner::File, Owner::Nobody]);
    }
}
