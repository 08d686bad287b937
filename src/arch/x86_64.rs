//! x86-64: four or five levels, pages of 4 KiB, 2 MiB and 1 GiB (Intel SDM volume 3, chapter 4),
//! and what Linux puts into entries that the hardware ignores.

use super::{Absence, Entry, PagingFormat, Rights};
use crate::address::{Gpa, Gva};

/// Where Linux has the GiB that holds its kernel (`__START_KERNEL_map`).
pub const KERNEL_IMAGE: Gva = Gva(0xffff_ffff_8000_0000);
/// Where it has its `struct page`s, if it does not move them (`__VMEMMAP_BASE_L4`).
pub const VMEMMAP: Gva = Gva(0xffff_ea00_0000_0000);
/// What Linux notes of the hypervisor that it runs under (`enum x86_hypervisor_type`, since 4.15).
pub const NO_HYPERVISOR: u32 = 0;
/// The same of KVM.
pub const KVM: u32 = 5;
/// What Linux knows of the CPU that it booted on.
pub const BOOT_CPU: &str = "boot_cpu_data";
/// The member there that names the CPU's model, and the structure that has it.
pub const CPU_MODEL: (&str, &str) = ("cpuinfo_x86", "x86_model_id");

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
/// Linux uses the Global bit of a non-present entry for PROT_NONE (`_PAGE_BIT_PROTNONE` in
/// arch/x86/include/asm/pgtable_types.h): the page is there, the program may not touch it.
const PROT_NONE: u64 = 1 << 8;
/// Bits 12 to 51 hold the frame.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// The highest bit of a frame.
const INVERTED: u64 = 1 << 51;
/// What is there may not be run.
const NO_EXECUTE: u64 = 1 << 63;
/// A swap entry holds which area of swap in its highest 5 bits (arch/x86/include/asm/pgtable_64.h,
/// since 4.18).
const SWAP_AREA_SHIFT: u32 = 59;
/// In a large entry bit 12 is PAT, not part of the frame.
const LARGE_PAT: u64 = 1 << 12;
/// The largest page is 1 GiB; entries of higher levels are always tables.
const LARGEST_PAGE: u32 = 30;

/// Four levels, 48-bit addresses.
pub static FOUR_LEVELS: PagingFormat = PagingFormat {
    name: "x86-64, four levels",
    arch: "x86_64",
    index_shifts: &[39, 30, 21, 12],
    index_bits: 9,
    virtual_bits: 48,
    decode,
    rights,
};

/// Five levels (CR4.LA57), 57-bit addresses.
pub static FIVE_LEVELS: PagingFormat = PagingFormat {
    name: "x86-64, five levels",
    arch: "x86_64",
    index_shifts: &[48, 39, 30, 21, 12],
    index_bits: 9,
    virtual_bits: 57,
    decode,
    rights,
};

fn decode(entry: u64, shift: u32, leaf: bool) -> Entry {
    if entry & PRESENT == 0 {
        return decode_non_present(entry, shift, leaf);
    }
    if leaf {
        return Entry::Page(Gpa(entry & FRAME));
    }
    if entry & LARGE == 0 {
        return Entry::Table(Gpa(entry & FRAME));
    }
    if shift > LARGEST_PAGE {
        return Entry::Malformed;
    }
    large_page(entry & FRAME & !LARGE_PAT, shift)
}

fn large_page(frame: u64, shift: u32) -> Entry {
    let aligned = frame & ((1 << shift) - 1) == 0;
    if aligned { Entry::Page(Gpa(frame)) } else { Entry::Malformed }
}

/// A nonzero entry without the present bit holds its frame inverted, against L1TF
/// (arch/x86/include/asm/pgtable-invert.h). Kernels before 4.18 hold it as it is: no RAM reaches up
/// to the highest bit, so that bit tells.
fn decode_non_present(entry: u64, shift: u32, leaf: bool) -> Entry {
    if entry == 0 {
        return Entry::Absent(Absence::NeverTouched);
    }
    if entry & PROT_NONE == 0 || !(leaf || entry & LARGE != 0) {
        return Entry::Absent(Absence::Elsewhere { area: (entry >> SWAP_AREA_SHIFT) as u8 });
    }
    let frame = if entry & INVERTED == 0 { entry } else { !entry } & FRAME;
    if leaf { Entry::Page(Gpa(frame)) } else { large_page(frame & !LARGE_PAT, shift) }
}

/// PROT_NONE pages nobody may touch.
fn rights(entry: u64) -> Rights {
    Rights {
        access: entry & PRESENT != 0,
        write: entry & WRITABLE != 0,
        execute: entry & NO_EXECUTE == 0,
        user: entry & USER != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_masked_by_page_size() {
        let noise = 1 << 63 | 0x9e0 | PRESENT;
        assert_eq!(decode(0x1234_5000 | noise, 12, true), Entry::Page(Gpa(0x1234_5000)));
        let large = 0x4020_0000 | LARGE_PAT | LARGE | noise;
        assert_eq!(decode(large, 21, false), Entry::Page(Gpa(0x4020_0000)));
        assert_eq!(decode(0x5000 | PRESENT, 39, false), Entry::Table(Gpa(0x5000)));
    }

    #[test]
    fn malformed_entries_are_told() {
        assert_eq!(decode(0x3000 | LARGE | PRESENT, 21, false), Entry::Malformed);
        assert_eq!(decode(0x4020_0000 | LARGE | PRESENT, 30, false), Entry::Malformed);
        assert_eq!(decode(LARGE | PRESENT, 39, false), Entry::Malformed);
    }

    #[test]
    fn prot_none_pages_are_found_through_the_inversion() {
        let entry = (!0x1234_5000 & FRAME) | PROT_NONE;
        assert_eq!(decode(entry, 12, true), Entry::Page(Gpa(0x1234_5000)));
        let large = (!0x4020_0000 & FRAME) | PROT_NONE | LARGE;
        assert_eq!(decode(large, 21, false), Entry::Page(Gpa(0x4020_0000)));
        assert!(!rights(entry | WRITABLE | USER).user_write());
    }

    #[test]
    fn prot_none_pages_of_older_kernels_are_not_inverted() {
        assert_eq!(decode(0x1234_5000 | PROT_NONE, 12, true), Entry::Page(Gpa(0x1234_5000)));
        let large = 0x4020_0000 | PROT_NONE | LARGE | LARGE_PAT;
        assert_eq!(decode(large, 21, false), Entry::Page(Gpa(0x4020_0000)));
    }

    #[test]
    fn absent_pages_are_told_apart() {
        assert_eq!(decode(0, 12, true), Entry::Absent(Absence::NeverTouched));
        let elsewhere = |area| Entry::Absent(Absence::Elsewhere { area });
        assert_eq!(decode(!0 << 20 & !LARGE & !(31 << SWAP_AREA_SHIFT), 12, true), elsewhere(0));
        assert_eq!(decode(30 << SWAP_AREA_SHIFT | 0x1234_000e, 12, true), elsewhere(30));
    }
}
