//! VMCOREINFO: what a kernel writes down of itself for those who read its memory after a crash
//! (Documentation/admin-guide/kdump/vmcoreinfo.rst). An ELF note at the start of a page.
//!
//! Stale copies lie about in RAM too, so what one says is tried, and not believed.

use crate::address::{Gpa, Gva};
use crate::arch::x86_64::KERNEL_IMAGE;
use crate::memory::{GuestMemory, MemoryError};
use std::collections::HashMap;
use std::thread;

const PAGE: u64 = 4096;
/// `struct elf_note`: the name's length, the text's, the type; then the name, padded to 4 bytes.
const HEADER: &[u8] = b"\x0b\0\0\0";
const NAME: &[u8] = b"\0\0\0\0VMCOREINFO\0\0";
const TEXT: usize = 24;
/// More notes than a guest has: a live one and stale copies. Hostile ones could be in each page.
const MOST: usize = 64;
/// Pages that are looked at together.
const BATCH: usize = 8192;
/// More threads hinder each other.
const MOST_THREADS: usize = 4;

/// The lines of one note.
pub struct VmCoreInfo {
    /// Where the note lies.
    pub at: Gpa,
    lines: HashMap<String, String>,
}

impl VmCoreInfo {
    /// Every note in RAM, those of some MiB at a time, from the top on: the kernel allocates its
    /// note early, and so mostly high. Reads the start of each page that the host backs. A flood of
    /// notes ends it: a kernel whose own lies below is not found by that, but still by the form of
    /// its tables.
    pub fn from_top(memory: &dyn GuestMemory) -> impl Iterator<Item = Vec<Self>> {
        let runs = memory.backed().into_iter().rev();
        let pages = runs.flat_map(|run| (run.start.0 / PAGE..run.end.0.div_ceil(PAGE)).rev());
        let mut pages = pages.map(|page| Gpa(page * PAGE));
        let mut left = MOST;
        std::iter::from_fn(move || {
            let batch: Vec<_> = pages.by_ref().take(if left > 0 { BATCH } else { 0 }).collect();
            let notes = Self::among(memory, &batch).take(left).collect::<Vec<_>>();
            left -= notes.len();
            (!batch.is_empty()).then_some(notes)
        })
    }

    /// The notes that start one of `pages`.
    fn among(memory: &dyn GuestMemory, pages: &[Gpa]) -> impl Iterator<Item = Self> {
        // One load tells that nearly every page holds none.
        let words = words(memory, pages);
        let starts = |word: u64| word.to_le_bytes()[..4] == *HEADER;
        let hits = pages.iter().zip(words).filter(move |(_, word)| word.is_some_and(starts));
        hits.filter_map(move |(page, _)| Self::read(memory, *page).ok().flatten())
    }

    fn read(memory: &dyn GuestMemory, at: Gpa) -> Result<Option<Self>, MemoryError> {
        let mut page = [0; PAGE as usize];
        memory.read(at, &mut page)?;
        let (header, text) = page.split_at(TEXT);
        if header[8..] != *NAME {
            return Ok(None);
        }
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let text = String::from_utf8_lossy(&text[..length.min(text.len())]).into_owned();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let lines = lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(Some(Self { at, lines }))
    }

    /// What is added to an address of the kernel's image, from the image space's start on, to get
    /// the guest-physical one.
    pub fn phys_base(&self) -> Option<i64> {
        self.number("phys_base")
    }

    /// The kernel's page-table root.
    pub fn page_table_root(&self) -> Option<Gva> {
        self.symbol("init_top_pgt").or_else(|| self.symbol("swapper_pg_dir")).map(Gva)
    }

    /// Where the kernel's symbol `name` lies.
    pub fn place(&self, name: &str) -> Option<Gpa> {
        let into = self.symbol(name)?.checked_sub(KERNEL_IMAGE.0)?;
        Gpa(into).checked_offset(self.phys_base()?)
    }

    /// The address of the kernel's symbol `name`, where it was loaded.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.lines.get(&format!("SYMBOL({name})"))?, 16).ok()
    }

    /// The kernel's release, as `uname -r` has it.
    pub fn release(&self) -> Option<&str> {
        self.lines.get("OSRELEASE").map(String::as_str)
    }

    /// Where the kernel's text starts.
    pub fn text(&self) -> Option<Gva> {
        self.symbol("_stext").map(Gva)
    }

    /// The number `name`.
    fn number(&self, name: &str) -> Option<i64> {
        self.lines.get(&format!("NUMBER({name})"))?.parse().ok()
    }
}

/// The first word of each of `pages`. Most of the time goes into the faults of pages that are looked
/// at the first time, which the host's CPUs take side by side.
fn words(memory: &dyn GuestMemory, pages: &[Gpa]) -> Vec<Option<u64>> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let (own, others) = pages.split_at(pages.len().div_ceil(cpus.min(MOST_THREADS)));
    let share = own.len().max(1);
    thread::scope(|scope| {
        let spawn = |part| (part, scope.spawn(move || memory.load_each(part)));
        let others: Vec<_> = others.chunks(share).map(spawn).collect();
        let mut words = memory.load_each(own);
        for (part, other) in others {
            words.extend(other.join().unwrap_or_else(|_| vec![None; part.len()]));
        }
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Image, Region, RegionMap};

    fn image(notes: &[(u64, &[u8])]) -> Image {
        let region = Region { gpa: Gpa(0), length: 0x8000, source: 0, offset: 0 };
        let image = Image::new(RegionMap::new(vec![region]).unwrap());
        for (at, text) in notes {
            let header = [&[11, 0, 0, 0][..], &(text.len() as u32).to_le_bytes(), NAME].concat();
            image.write(Gpa(*at), &[&header, *text].concat()).unwrap();
        }
        image
    }

    #[test]
    fn every_note_is_found() {
        let text = b"OSRELEASE=6.1.0\nSYMBOL(_stext)=ffffffff81000000\nNUMBER(phys_base)=-4096\n";
        let image = image(&[(0x1000, text), (0x5000, b"x"), (0x6008, text)]);
        let notes: Vec<_> = VmCoreInfo::from_top(&image).flatten().collect();
        assert_eq!(notes.iter().map(|note| note.at.0).collect::<Vec<_>>(), [0x5000, 0x1000]);
        assert_eq!(notes[1].symbol("_stext"), Some(0xffff_ffff_8100_0000));
        assert_eq!(notes[1].number("phys_base"), Some(-4096));
        assert_eq!((notes[1].symbol("_text"), notes[0].number("phys_base")), (None, None));
    }

    #[test]
    fn a_flood_of_notes_ends_the_search() {
        let pages = 2 * MOST as u64;
        let length = pages * PAGE;
        let region = Region { gpa: Gpa(0), length, source: 0, offset: 0 };
        let image = Image::new(RegionMap::new(vec![region]).unwrap());
        let note = [HEADER, &[0; 4], NAME].concat();
        (0..pages).for_each(|page| image.write(Gpa(page * PAGE), &note).unwrap());
        let notes: Vec<_> = VmCoreInfo::from_top(&image).flatten().collect();
        assert_eq!((notes.len(), notes[0].at), (MOST, Gpa(length - PAGE)));
    }

    #[test]
    fn a_hostile_length_ends_with_the_page() {
        let hostile = image(&[(0x7000, b"SYMBOL(a)=12")]);
        hostile.write(Gpa(0x7004), &[0xff; 4]).unwrap();
        let notes = VmCoreInfo::from_top(&hostile).flatten();
        assert_eq!(notes.map(|note| note.number("a")).collect::<Vec<_>>(), [None]);
    }
}
