//! The page-table walker against tables that another crate built: `x86_64`, which writes them as
//! an operating system would.
#![allow(unsafe_code, reason = "the other crate writes its tables through raw pointers")]

use std::ptr::NonNull;
use vmfi::address::{Gpa, Gva};
use vmfi::arch::x86_64::{FIVE_LEVELS, FOUR_LEVELS};
use vmfi::arch::{AddressSpace, TranslateError};
use vmfi::memory::{GuestMemory, MemoryError, Region, RegionMap};
use x86_64::structures::paging::mapper::{MappedPageTable, PageTableFrameMapping};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, Page, PageSize, PageTable, PageTableFlags as Flags, PageTableIndex,
    PhysFrame, Size1GiB, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

const FRAMES: usize = 64;
/// RAM as the walker sees it: tables in the first frames, pages anywhere below.
const RAM: u64 = 8 << 30;

/// Physical memory that holds nothing but page tables.
struct Tables {
    frames: Box<[PageTable; FRAMES]>,
    used: usize,
}

#[derive(Clone, Copy)]
struct Mapping(NonNull<PageTable>);

// SAFETY: frames are only taken from `Tables`, whose start this is.
unsafe impl PageTableFrameMapping for Mapping {
    fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
        // SAFETY: the frame's number is below FRAMES.
        unsafe { self.0.as_ptr().add((frame.start_address().as_u64() >> 12) as usize) }
    }
}

struct Allocator<'a>(&'a mut usize);

// SAFETY: each number is given once.
unsafe impl FrameAllocator<Size4KiB> for Allocator<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        *self.0 += 1;
        let frame = PhysFrame::containing_address(PhysAddr::new((*self.0 as u64 - 1) << 12));
        (*self.0 <= FRAMES).then_some(frame)
    }
}

impl Tables {
    /// Frame 0 is the root of four levels.
    fn new() -> Self {
        Self { frames: Box::new([const { PageTable::new() }; FRAMES]), used: 1 }
    }

    fn map<S: PageSize + std::fmt::Debug>(&mut self, gva: u64, gpa: u64, flags: Flags)
    where
        for<'a> MappedPageTable<'a, Mapping>: Mapper<S>,
    {
        let base = NonNull::from(&mut self.frames[0]);
        // SAFETY: frame 0 is there and nobody else's.
        let root = unsafe { &mut *base.as_ptr() };
        // SAFETY: `base` leads to every frame that the mapping gives.
        let mut mapper = unsafe { MappedPageTable::new(root, Mapping(base)) };
        let page = Page::<S>::from_start_address(VirtAddr::new(gva)).unwrap();
        let frame = PhysFrame::<S>::from_start_address(PhysAddr::new(gpa)).unwrap();
        let parents = Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE;
        let mut allocator = Allocator(&mut self.used);
        // SAFETY: nobody runs on these tables.
        let mapped =
            unsafe { mapper.map_to_with_table_flags(page, frame, flags, parents, &mut allocator) };
        mapped.unwrap().ignore();
    }

    /// A fifth level on top, whose entry `index` leads to the four below.
    fn add_level(&mut self, index: u16) -> Gpa {
        let root = self.used;
        self.used += 1;
        let flags = Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE;
        self.frames[root][PageTableIndex::new(index)].set_addr(PhysAddr::new(0), flags);
        Gpa((root as u64) << 12)
    }

    /// The tables as the walker finds them in guest RAM.
    fn in_ram(&self) -> TablesInRam {
        let ram = Region { gpa: Gpa(0), length: RAM, source: 0, offset: 0 };
        let words = |table: &PageTable| table.iter().map(entry_bits).collect::<Vec<_>>();
        let words = self.frames.iter().flat_map(words).collect();
        TablesInRam { regions: RegionMap::new(vec![ram]).unwrap(), words }
    }
}

fn entry_bits(entry: &PageTableEntry) -> u64 {
    entry.addr().as_u64() | entry.flags().bits()
}

/// RAM of which only the tables are ever looked at.
struct TablesInRam {
    regions: RegionMap,
    words: Vec<u64>,
}

impl GuestMemory for TablesInRam {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, _: &mut [u8]) -> Result<(), MemoryError> {
        panic!("the walker copied from {at}: entries are loaded");
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        self.regions.locate(at, 8)?;
        Ok(self.words.get(at.0 as usize / 8).copied().unwrap_or(0))
    }

    fn compare_exchange(&self, _: Gpa, _: u64, _: u64) -> Result<Result<(), u64>, MemoryError> {
        panic!("the walker writes nothing");
    }
}

fn user() -> Flags {
    Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE
}

/// Pages of every size, in both halves of the address space.
fn example() -> Tables {
    let mut tables = Tables::new();
    tables.map::<Size4KiB>(0x0000_0000_0040_1000, 0x1234_5000, user());
    tables.map::<Size4KiB>(0x0000_7fff_ffff_f000, 0x0000_7000, user() | Flags::NO_EXECUTE);
    tables.map::<Size4KiB>(0xffff_ffff_ffff_f000, 0x1_2345_6000, Flags::PRESENT);
    tables.map::<Size2MiB>(0x0000_7f00_0020_0000, 0x1_4020_0000, user());
    tables.map::<Size1GiB>(0xffff_8880_4000_0000, 0xc000_0000, Flags::PRESENT | Flags::WRITABLE);
    tables
}

/// Virtual address, guest-physical address, bytes to the page's end, writable by the program.
const EXPECTED: [(u64, u64, u64, bool); 7] = [
    (0x0000_0000_0040_1000, 0x1234_5000, 0x1000, true),
    (0x0000_0000_0040_1ff9, 0x1234_5ff9, 7, true),
    (0x0000_7fff_ffff_f008, 0x0000_7008, 0xff8, true),
    (0xffff_ffff_ffff_f000, 0x1_2345_6000, 0x1000, false),
    (0x0000_7f00_0023_4567, 0x1_4023_4567, 0x1c_ba99, true),
    (0xffff_8880_4000_0000, 0xc000_0000, 1 << 30, false),
    (0xffff_8880_7fff_ffff, 0xffff_ffff, 1, false),
];

#[test]
fn four_levels() {
    let memory = example().in_ram();
    let space = AddressSpace { root: Gpa(0), format: &FOUR_LEVELS };
    for (gva, gpa, length, writable) in EXPECTED {
        let walk = space.walk(&memory, Gva(gva)).unwrap();
        assert_eq!(
            (walk.gpa, walk.length, walk.rights.user_write()),
            (Gpa(gpa), length, writable),
            "{gva:#x}"
        );
    }
}

#[test]
fn five_levels() {
    // Index 0x12 of the fifth level holds what four levels would have at 0.
    let mut tables = example();
    let root = tables.add_level(0x12);
    let memory = tables.in_ram();
    let space = AddressSpace { root, format: &FIVE_LEVELS };
    for (gva, gpa, length, writable) in EXPECTED {
        let gva = gva & 0x0000_ffff_ffff_ffff | 0x12 << 48;
        let walk = space.walk(&memory, Gva(gva)).unwrap();
        assert_eq!(
            (walk.gpa, walk.length, walk.rights.user_write()),
            (Gpa(gpa), length, writable),
            "{gva:#x}"
        );
    }
    assert!(space.walk(&memory, Gva(EXPECTED[0].0)).is_err(), "not under index 0");
}

#[test]
fn what_the_crate_does_not_map_is_absent() {
    let memory = example().in_ram();
    let space = AddressSpace { root: Gpa(0), format: &FOUR_LEVELS };
    for gva in [0, 0x0040_0fff, 0x0040_2000, 0x7f00_0040_0000, 0xffff_8880_8000_0000] {
        let walk = space.walk(&memory, Gva(gva));
        assert!(matches!(walk, Err(TranslateError::NotMapped { .. })), "{gva:#x}: {walk:?}");
    }
    for gva in [0x0000_8000_0000_0000, 0x00ff_ffff_ffff_ffff, 0xffff_7fff_ffff_ffff] {
        assert!(space.walk(&memory, Gva(gva)).is_err(), "{gva:#x} is not canonical");
    }
}

#[test]
fn pages_outside_of_ram_are_errors() {
    let mut tables = Tables::new();
    tables.map::<Size4KiB>(0x1000, RAM, user());
    let space = AddressSpace { root: Gpa(0), format: &FOUR_LEVELS };
    let walk = space.walk(&tables.in_ram(), Gva(0x1000));
    assert!(matches!(walk, Err(TranslateError::Memory { .. })), "{walk:?}");
}
