//! RAM that is private memory of the VMM's process, as QEMU has it when nobody asks for more.
//! Offsets in this source are the process's own addresses.
//!
//! `/proc/PID/mem` is read and written, for what is opened there stays the same address space: when
//! the process ends it reads as empty, even where another process has got its number. Measured,
//! it takes half the time of `process_vm_readv` for a word. That one is three times as fast for many
//! pages, or many words, and is used for these, unless it is forbidden. Neither is atomic.
//!
//! Looking never makes the VM bigger: to read a page that the VM never touched would map the zero
//! page and its tables into the process. `/proc/PID/pagemap` tells which pages are there.

use super::{Access, GuestMemory, MemoryError, RegionMap, WORD, word_offset};
use crate::address::Gpa;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

const PAGE: u64 = 4096;
/// Bytes of an entry of the page map.
const ENTRY: u64 = 8;
/// Present, or swapped out (Documentation/admin-guide/mm/pagemap.rst).
const THERE: u64 = 1 << 63 | 1 << 62;
/// Pages whose entries are read at once: those of 2 MiB.
const CHUNK: u64 = 512;
/// From here on the call for many pages pays.
const MANY: usize = 64 << 10;
/// The most pieces in one call (IOV_MAX).
const PIECES: usize = 1024;

/// The memory of a process, opened.
pub struct ProcessMemory {
    pid: i32,
    path: PathBuf,
    memory: File,
    pages: File,
    beneath: Option<Beneath>,
}

/// The file of a mapping that keeps its changes to itself: what the VM has not written is still
/// the file's.
pub struct Beneath {
    file: File,
    /// The address at which the file's byte 0 would be.
    start: u64,
}

impl ProcessMemory {
    /// Opens that of the process `pid`.
    pub fn open(pid: i32, access: Access) -> Result<Self, MemoryError> {
        let path = PathBuf::from(format!("/proc/{pid}/mem"));
        let pages = path.with_file_name("pagemap");
        let open = |path: &Path, write| {
            let opened = OpenOptions::new().read(true).write(write).open(path);
            opened.map_err(|source| MemoryError::Open { path: path.to_owned(), source })
        };
        let memory = open(&path, access == Access::Write)?;
        Ok(Self { pid, memory, pages: open(&pages, false)?, path, beneath: None })
    }

    /// What is opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, where `file` lies beneath, its byte 0 at the address `start` if it were mapped
    /// whole.
    pub fn over(self, file: &Path, start: u64) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError::Open { path: file.to_owned(), source };
        let beneath = Some(Beneath { file: File::open(file).map_err(failed)?, start });
        Ok(Self { beneath, ..self })
    }

    /// Its `regions`.
    pub fn map(&self, access: Access, regions: RegionMap) -> Result<ProcessRam, MemoryError> {
        let failed = |source| MemoryError::Open { path: self.path.clone(), source };
        let copy = |file: &File| file.try_clone().map_err(failed);
        let beneath = self.beneath.as_ref();
        let beneath = beneath
            .map(|beneath| Ok(Beneath { file: copy(&beneath.file)?, start: beneath.start }))
            .transpose()?;
        let (memory, pages) = (copy(&self.memory)?, copy(&self.pages)?);
        let of = Self { pid: self.pid, path: self.path.clone(), memory, pages, beneath };
        Ok(ProcessRam { of, access, regions, there: Mutex::default() })
    }

    /// Which of the pages from the address `from` on are there, to the end of `into`.
    fn look(&self, from: u64, into: &mut [bool]) -> Result<(), MemoryError> {
        let mut entries = vec![0; into.len() * ENTRY as usize];
        let read = self.pages.read_exact_at(&mut entries, from / PAGE * ENTRY);
        read.map_err(|source| self.unreadable(source))?;
        for (there, entry) in into.iter_mut().zip(entries.as_chunks().0) {
            *there = u64::from_ne_bytes(*entry) & THERE != 0;
        }
        Ok(())
    }

    /// Copies what is there at the address `from`.
    fn copy(&self, from: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        if into.len() >= MANY && self.copy_many(from, into) {
            return Ok(());
        }
        let read = self.memory.read_exact_at(into, from);
        read.map_err(|source| self.unreadable(source))
    }

    /// The same by the call for many pages, which may be forbidden.
    fn copy_many(&self, from: u64, into: &mut [u8]) -> bool {
        let pieces = [RemoteIoVec { base: from as usize, len: into.len() }];
        self.copy_pieces(&pieces, into)
    }

    /// Copies the pieces at those addresses, one behind the other; whether all could be.
    fn copy_pieces(&self, pieces: &[RemoteIoVec], into: &mut [u8]) -> bool {
        let (pid, length) = (Pid::from_raw(self.pid), into.len());
        process_vm_readv(pid, &mut [IoSliceMut::new(into)], pieces) == Ok(length)
    }

    /// The words at `addresses`, of which there are at most [`PIECES`] and all are there.
    fn words(&self, addresses: &[u64]) -> Option<Vec<u64>> {
        let piece = |address: &u64| RemoteIoVec { base: *address as usize, len: WORD as usize };
        let pieces: Vec<_> = addresses.iter().map(piece).collect();
        let mut bytes = vec![0; addresses.len() * WORD as usize];
        let copied = self.copy_pieces(&pieces, &mut bytes);
        copied.then(|| bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// What a page is that the VM never touched.
    fn copy_beneath(&self, from: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        into.fill(0);
        let Some(beneath) = &self.beneath else { return Ok(()) };
        let (mut offset, mut rest) = (from.wrapping_sub(beneath.start), into);
        while !rest.is_empty() {
            match beneath.file.read_at(rest, offset) {
                // Behind the file's end.
                Ok(0) => break,
                Ok(length) => (offset, rest) = (offset + length as u64, &mut rest[length..]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        Ok(())
    }

    fn unreadable(&self, source: io::Error) -> MemoryError {
        let path = self.path.clone();
        match source.kind() {
            // An address space that is gone has no bytes.
            ErrorKind::UnexpectedEof => MemoryError::Ended { pid: self.pid },
            _ => MemoryError::Read { path, source },
        }
    }
}

/// Regions of a process's memory.
pub struct ProcessRam {
    of: ProcessMemory,
    access: Access,
    regions: RegionMap,
    /// Pages seen to be there, by chunk. They stay (without a balloon, and then reading maps the
    /// zero page at worst); one that was not may be now, and is looked for again.
    there: Mutex<BTreeMap<u64, [bool; CHUNK as usize]>>,
}

impl ProcessRam {
    /// Whether the page of the address `at` is there.
    fn is_there(&self, at: u64) -> Result<bool, MemoryError> {
        let (chunk, page) = (at / PAGE / CHUNK, (at / PAGE % CHUNK) as usize);
        let mut known = self.known();
        if known.get(&chunk).is_some_and(|there| there[page]) {
            return Ok(true);
        }
        let mut there = [false; CHUNK as usize];
        self.of.look(chunk * CHUNK * PAGE, &mut there)?;
        known.insert(chunk, there);
        Ok(there[page])
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, [bool; CHUNK as usize]>> {
        self.there.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many bytes from the address `at` to `end` are alike: all there, or all not.
    fn alike(&self, at: u64, end: u64) -> Result<(bool, u64), MemoryError> {
        let there = self.is_there(at)?;
        let mut next = at - at % PAGE + PAGE;
        while next < end && self.is_there(next)? == there {
            next += PAGE;
        }
        Ok((there, next.min(end) - at))
    }

    fn copy(&self, range: Range<u64>, into: &mut [u8]) -> Result<(), MemoryError> {
        let (mut at, mut rest) = (range.start, into);
        while !rest.is_empty() {
            let (there, length) = self.alike(at, range.end)?;
            let (part, after) = rest.split_at_mut(length as usize);
            match there {
                true => self.of.copy(at, part)?,
                false => self.of.copy_beneath(at, part)?,
            }
            at += length;
            rest = after;
        }
        Ok(())
    }

    /// The runs of pages that are there in `range` of addresses.
    fn runs(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, MemoryError> {
        let mut there = vec![false; (64 * CHUNK) as usize];
        let mut runs: Vec<Range<u64>> = Vec::new();
        for start in range.clone().step_by(there.len() * PAGE as usize) {
            let pages = ((range.end - start) / PAGE).min(there.len() as u64) as usize;
            self.of.look(start, &mut there[..pages])?;
            let pages = (start..).step_by(PAGE as usize).zip(&there[..pages]);
            for (page, _) in pages.filter(|(_, there)| **there) {
                match runs.last_mut() {
                    Some(run) if run.end == page => run.end = page + PAGE,
                    _ => runs.push(page..page + PAGE),
                }
            }
        }
        Ok(runs)
    }
}

impl GuestMemory for ProcessRam {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        let mut rest = into;
        for piece in self.regions.pieces(at, rest.len() as u64)? {
            let (part, after) = rest.split_at_mut((piece.end - piece.start) as usize);
            self.copy(piece, part)?;
            rest = after;
        }
        Ok(())
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        let address = word_offset(&self.regions, at)?;
        let mut word = [0; WORD as usize];
        match self.is_there(address)? {
            true => self.of.copy(address, &mut word)?,
            false => self.of.copy_beneath(address, &mut word)?,
        }
        Ok(u64::from_le_bytes(word))
    }

    fn load_each(&self, at: &[Gpa]) -> Vec<Option<u64>> {
        let there = |at: &Gpa| {
            let address = word_offset(&self.regions, *at).ok()?;
            self.is_there(address).is_ok_and(|there| there).then_some(address)
        };
        let batch = |at: &[Gpa]| {
            let addresses: Option<Vec<_>> = at.iter().map(there).collect();
            match addresses.and_then(|addresses| self.of.words(&addresses)) {
                Some(words) => words.into_iter().map(Some).collect::<Vec<_>>(),
                None => at.iter().map(|at| self.load(*at).ok()).collect(),
            }
        };
        at.chunks(PIECES).flat_map(batch).collect()
    }

    /// Not at one instant: what the guest writes between the look and the write is lost, and so
    /// only the bytes that differ are written.
    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError> {
        if self.access != Access::Write {
            return Err(MemoryError::ReadOnly);
        }
        let address = word_offset(&self.regions, at)?;
        let found = self.load(at)?;
        if found != current {
            return Ok(Err(found));
        }
        let changed = (current ^ new).to_le_bytes();
        let differs = |byte: &u8| *byte != 0;
        let first = changed.iter().position(differs).unwrap_or(0);
        let end = changed.iter().rposition(differs).map_or(0, |last| last + 1);
        let bytes = &new.to_le_bytes()[first..end.max(first)];
        let written = self.of.memory.write_all_at(bytes, address + first as u64);
        written.map_err(|error| match error.kind() {
            ErrorKind::WriteZero => MemoryError::Ended { pid: self.of.pid },
            _ => self.of.unreadable(error),
        })?;
        Ok(Ok(()))
    }

    fn atomic(&self, _: Gpa) -> bool {
        false
    }

    fn backed(&self) -> Vec<Range<Gpa>> {
        // The file beneath has what the process has not.
        if self.of.beneath.is_some() {
            return self.regions.runs();
        }
        let runs = self.regions.iter().flat_map(|region| {
            let addresses = region.offset..region.offset + region.length;
            // What cannot be told is asked for.
            let runs = self.runs(addresses.clone()).unwrap_or(vec![addresses]);
            let gpa = |address: u64| Gpa(address - region.offset + region.gpa.0);
            runs.into_iter().map(move |run| gpa(run.start)..gpa(run.end))
        });
        super::region::joined(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Region;
    use memmap2::{MmapMut, MmapOptions};

    const LENGTH: u64 = 4 << 20;

    /// Memory of this process, as if it were another's.
    fn own(mapped: &MmapMut, access: Access) -> ProcessRam {
        let offset = mapped.as_ptr() as u64;
        let region = Region { gpa: Gpa(0x1000), length: LENGTH, source: 0, offset };
        let memory = ProcessMemory::open(std::process::id() as i32, access).unwrap();
        memory.map(access, RegionMap::new(vec![region]).unwrap()).unwrap()
    }

    #[test]
    fn reads_what_is_there_and_maps_nothing_else() {
        let mut mapped = MmapMut::map_anon(LENGTH as usize).unwrap();
        mapped[0x3ffe..0x4002].copy_from_slice(b"text");
        let memory = own(&mapped, Access::Read);
        let there = vec![Gpa(0x4000)..Gpa(0x6000)];
        assert_eq!(memory.backed(), there);
        let mut all = vec![1; LENGTH as usize];
        memory.read(Gpa(0x1000), &mut all).unwrap();
        assert_eq!(&all[0x3ffd..0x4003], b"\0text\0");
        assert_eq!(memory.load(Gpa(0x10_0000)).unwrap(), 0);
        let text = u64::from_le_bytes(*b"xt\0\0\0\0\0\0");
        let each = [Gpa(0x5000), Gpa(0x10_0000), Gpa(0), Gpa(0x5001)];
        assert_eq!(memory.load_each(&each), [Some(text), Some(0), None, None]);
        assert_eq!(memory.load_each(&[Gpa(0x5000); 3000]), [Some(text); 3000]);
        assert_eq!(memory.backed(), there, "looking mapped something");
        mapped[0x8000] = 7;
        assert_eq!(memory.load(Gpa(0x9000)).unwrap(), 7, "it appeared later");
        assert!(!memory.atomic(Gpa(0x9000)));
        assert!(matches!(memory.compare_exchange(Gpa(0x9000), 7, 8), Err(MemoryError::ReadOnly)));
    }

    #[test]
    fn writes_only_what_was_expected_and_differs() {
        let mut mapped = MmapMut::map_anon(LENGTH as usize).unwrap();
        mapped[8..16].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let memory = own(&mapped, Access::Write);
        let word = memory.load(Gpa(0x1008)).unwrap();
        let new = word ^ 0xff_0000;
        assert_eq!(memory.compare_exchange(Gpa(0x1008), 0, new).unwrap(), Err(word));
        assert_eq!(memory.compare_exchange(Gpa(0x1008), word, new).unwrap(), Ok(()));
        assert_eq!(mapped[8..16], [1, 2, 3 ^ 0xff, 4, 5, 6, 7, 8]);
        assert_eq!(memory.compare_exchange(Gpa(0x1008), new, new).unwrap(), Ok(()));
    }

    #[test]
    fn what_was_not_written_is_the_files_beneath() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LENGTH + 0x1000).unwrap();
        file.as_file().write_all_at(b"of the file", 0x3000).unwrap();
        #[allow(unsafe_code, reason = "only this test has the file")]
        // SAFETY: nobody else changes the file.
        let mapped = unsafe { MmapOptions::new().offset(0x1000).map_copy(file.as_file()) };
        let mut mapped = mapped.unwrap();
        mapped[0] = 9;
        let start = mapped.as_ptr() as u64;
        let region = Region { gpa: Gpa(0), length: LENGTH, source: 0, offset: start };
        let memory = ProcessMemory::open(std::process::id() as i32, Access::Read).unwrap();
        let memory = memory.over(file.path(), start - 0x1000).unwrap();
        let memory = memory.map(Access::Read, RegionMap::new(vec![region]).unwrap()).unwrap();
        let mut bytes = [1; 4];
        memory.read(Gpa(0x2000), &mut bytes).unwrap();
        assert_eq!(&bytes, b"of t");
        assert_eq!(memory.load(Gpa(0)).unwrap(), 9);
    }

    #[test]
    fn a_process_that_has_ended_is_told() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id() as i32;
        let memory = ProcessMemory::open(pid, Access::Write).unwrap();
        let region = Region { gpa: Gpa(0), length: LENGTH, source: 0, offset: 0x1000_0000 };
        let memory = memory.map(Access::Write, RegionMap::new(vec![region]).unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let error = memory.load(Gpa(0)).unwrap_err();
        assert!(matches!(error, MemoryError::Ended { .. }), "{error}");
        assert!(memory.read(Gpa(0), &mut vec![0; 1 << 20]).is_err());
    }
}
