//! A RAM file that a VMM maps too, mapped into this process.
//!
//! Looking never makes a sparse file bigger: on tmpfs a load through the mapping from a hole
//! allocates the page (measured). So copies are made with `pread`, which sees the same bytes and
//! allocates nothing, and a page is asked for with `SEEK_DATA` before a word of it is loaded the
//! first time: in a hole it is zero.

use super::{Access, GuestMemory, MemoryError, RegionMap, WORD, read_words, word_offset};
use crate::address::Gpa;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Granularity of holes: the host's page.
const PAGE: u64 = 4096;
/// Up to so many bytes, loads are faster than a system call.
const SHORT: usize = 64;

/// A RAM file, mapped whole.
pub struct MappedFile {
    path: PathBuf,
    file: File,
    mapping: MmapRaw,
    access: Access,
    regions: RegionMap,
    /// Pages of the file known to hold data. Data never becomes a hole while the guest runs
    /// (without a balloon, and then reading allocates a page at worst).
    data: PageSet,
}

impl MappedFile {
    /// Maps `file`, which `path` names; `regions` must lie in it.
    pub(super) fn map(
        path: &Path,
        file: File,
        access: Access,
        regions: RegionMap,
    ) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError::Open { path: path.to_owned(), source };
        let mapping = map_raw(&file, access, &MmapOptions::new()).map_err(failed)?;
        let (actual, needed) = (mapping.len() as u64, regions.source_length());
        if needed > actual {
            return Err(MemoryError::TooSmall { path: path.to_owned(), actual, needed });
        }
        let data = PageSet::new(actual);
        Ok(Self { path: path.to_owned(), file, mapping, access, regions, data })
    }

    fn length(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Whether the byte at `offset` is data; else it lies in a hole. Asked page by page: where the
    /// run of data ends takes long to find out.
    fn is_data(&self, offset: u64) -> bool {
        let page = offset - offset % PAGE;
        let data =
            self.data.holds(page) || data_from(&self.file, page, self.length()) == Some(page);
        if data {
            self.data.insert(page..page + PAGE);
        }
        data
    }

    /// The word at `offset` of the file, which [`word_offset`] has checked.
    fn at(&self, offset: u64) -> &AtomicU64 {
        word_at(&self.mapping, offset)
    }
}

/// A set of pages of a file, which grows only.
struct PageSet(Vec<AtomicU64>);

impl PageSet {
    /// The empty set of pages of a file of `length` bytes.
    fn new(length: u64) -> Self {
        let words = length.div_ceil(PAGE).div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn holds(&self, offset: u64) -> bool {
        let (word, bit) = Self::place(offset / PAGE);
        self.0.get(word).is_some_and(|word| word.load(Ordering::Relaxed) >> bit & 1 == 1)
    }

    /// Adds the pages that lie in `run`, given in bytes.
    fn insert(&self, run: Range<u64>) {
        let (mut page, end) = (run.start.div_ceil(PAGE), run.end / PAGE);
        while page < end {
            let (word, bit) = Self::place(page);
            let count = (64 - bit).min(end - page);
            let bits = (u64::MAX >> (64 - count)) << bit;
            if let Some(word) = self.0.get(word) {
                word.fetch_or(bits, Ordering::Relaxed);
            }
            page += count;
        }
    }

    fn place(page: u64) -> (usize, u64) {
        ((page / 64) as usize, page % 64)
    }
}

/// Maps as `options` say, writable or not.
pub(super) fn map_raw(
    file: &File,
    access: Access,
    options: &MmapOptions,
) -> std::io::Result<MmapRaw> {
    match access {
        Access::Read => options.map_raw_read_only(file),
        Access::Write => options.map_raw(file),
    }
}

/// The word `offset` bytes, a multiple of 8, into `mapping`, which must hold all of it.
pub(super) fn word_at(mapping: &MmapRaw, offset: u64) -> &AtomicU64 {
    assert!(offset.is_multiple_of(WORD) && offset + WORD <= mapping.len() as u64);
    let bytes = mapping.as_mut_ptr().cast_const();
    // SAFETY: the word lies inside the mapping.
    let at = unsafe { bytes.add(offset as usize) };
    // SAFETY: the mapping is page-aligned and `offset` a multiple of 8, so `at` is aligned; it
    // stays mapped as long as `mapping`. The guest writes the word meanwhile, as another thread
    // would write an atomic; without PROT_WRITE only loads are made.
    unsafe { &*at.cast::<AtomicU64>() }
}

/// Replaces `current` by `new` in `word`, both as the guest, a little-endian machine, has them.
/// Refused where RAM was mapped for reading: the page would fault.
pub(super) fn exchange(
    word: &AtomicU64,
    access: Access,
    current: u64,
    new: u64,
) -> Result<Result<(), u64>, MemoryError> {
    if access != Access::Write {
        return Err(MemoryError::ReadOnly);
    }
    let (current, new) = (current.to_le(), new.to_le());
    let exchanged = word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
    Ok(exchanged.map(|_| ()).map_err(u64::from_le))
}

/// Where the first data at or after `from` starts in a file of `length` bytes. A file system that
/// knows no holes counts as data throughout.
fn data_from(file: &File, from: u64, length: u64) -> Option<u64> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    if from >= length {
        return None;
    }
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Some(start),
        Err(Errno::NXIO) => None,
        Err(_) => Some(from),
    }
}

/// The first run of data at or after `from`.
fn data_run(file: &File, from: u64, length: u64) -> Option<Range<u64>> {
    use rustix::fs::{SeekFrom, seek};
    let start = data_from(file, from, length).filter(|start| *start < length)?;
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(length);
    Some(start..end.min(length))
}

impl GuestMemory for MappedFile {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        if into.len() <= SHORT {
            return read_words(self, at, into);
        }
        let mut rest = into;
        for piece in self.regions.pieces(at, rest.len() as u64)? {
            let (part, after) = rest.split_at_mut((piece.end - piece.start) as usize);
            let read = self.file.read_exact_at(part, piece.start);
            read.map_err(|source| MemoryError::Read { path: self.path.clone(), source })?;
            rest = after;
        }
        Ok(())
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        let offset = word_offset(&self.regions, at)?;
        Ok(if self.is_data(offset) { self.at(offset).load(Ordering::Acquire).to_le() } else { 0 })
    }

    fn word(&self, at: Gpa) -> Option<&AtomicU64> {
        let offset = word_offset(&self.regions, at).ok()?;
        self.is_data(offset).then(|| self.at(offset))
    }

    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError> {
        exchange(self.at(word_offset(&self.regions, at)?), self.access, current, new)
    }

    fn backed(&self) -> Vec<Range<Gpa>> {
        let mut runs = Vec::new();
        for region in self.regions.iter() {
            let end = region.offset + region.length;
            let mut from = region.offset;
            while let Some(run) = data_run(&self.file, from, end) {
                let gpa = |offset| Gpa(region.gpa.0 + (offset - region.offset));
                runs.push(gpa(run.start)..gpa(run.end));
                self.data.insert(run.clone());
                from = run.end;
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{RamSource, Region};
    use std::os::unix::fs::MetadataExt;

    /// 64 MiB with one page of data at 8 MiB, on tmpfs where the host has one: there a load from
    /// a hole through the mapping allocates.
    fn sparse() -> (tempfile::TempDir, PathBuf) {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(base).unwrap();
        let path = folder.path().join("ram");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"Linux version", 8 << 20).unwrap();
        (folder, path)
    }

    /// The file at `path`, from guest-physical 0 on.
    fn mapped(path: &Path, access: Access) -> Box<dyn GuestMemory> {
        let source = RamSource::open(path, access).unwrap();
        let region = Region { gpa: Gpa(0), length: source.size().unwrap(), source: 0, offset: 0 };
        source.map(RegionMap::new(vec![region]).unwrap()).unwrap()
    }

    #[test]
    fn looking_allocates_nothing() {
        let (_folder, path) = sparse();
        let before = std::fs::metadata(&path).unwrap().blocks();
        let memory = mapped(&path, Access::Read);
        let mut all = vec![0xff; 64 << 20];
        memory.read(Gpa(0), &mut all).unwrap();
        assert_eq!(&all[8 << 20..][..14], b"Linux version\0");
        assert_eq!(all.iter().filter(|&&byte| byte != 0).count(), 13);
        assert_eq!(memory.load(Gpa(0x1000)).unwrap(), 0);
        assert_eq!(memory.backed(), [Gpa(8 << 20)..Gpa((8 << 20) + 4096)]);
        assert_eq!(std::fs::metadata(&path).unwrap().blocks(), before);
    }

    #[test]
    fn pages_are_kept_in_runs() {
        let pages = |run: Range<u64>| run.start * PAGE..run.end * PAGE;
        let all = PageSet::new(200 * PAGE);
        all.insert(pages(3..4));
        all.insert(pages(60..140));
        all.insert(5 * PAGE + 1..7 * PAGE);
        let held: Vec<_> = (0..300).filter(|page| all.holds(page * PAGE)).collect();
        let expected: Vec<_> = [3, 6].into_iter().chain(60..140).collect();
        assert_eq!(held, expected);
        all.insert(pages(199..400));
        assert!(all.holds(199 * PAGE));
    }

    #[test]
    fn data_that_appears_later_is_seen() {
        let (_folder, path) = sparse();
        let memory = mapped(&path, Access::Read);
        assert_eq!(memory.load(Gpa(0x3000)).unwrap(), 0);
        File::options().write(true).open(&path).unwrap().write_all_at(&[7], 0x3000).unwrap();
        assert_eq!(memory.load(Gpa(0x3000)).unwrap(), 7);
    }

    #[test]
    fn writes_only_when_opened_for_it() {
        let (_folder, path) = sparse();
        let reader = mapped(&path, Access::Read);
        assert!(matches!(reader.compare_exchange(Gpa(0), 0, 1), Err(MemoryError::ReadOnly)));
        let writer = mapped(&path, Access::Write);
        assert_eq!(writer.compare_exchange(Gpa(0), 0, 1).unwrap(), Ok(()));
        assert_eq!(writer.compare_exchange(Gpa(0), 0, 2).unwrap(), Err(1));
        assert_eq!(reader.load(Gpa(0)).unwrap(), 1);
    }

    #[test]
    fn reads_across_adjacent_regions() {
        let (_folder, path) = sparse();
        let source = RamSource::open(&path, Access::Read).unwrap();
        let (length, data) = (0x1000, 8 << 20);
        let before = Region { gpa: Gpa(0), length, source: 0, offset: 0 };
        let after = Region { gpa: Gpa(length), length, source: 0, offset: data };
        let memory = source.map(RegionMap::new(vec![before, after]).unwrap()).unwrap();
        let mut bytes = [1; 7];
        memory.read(Gpa(length - 2), &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0Linux");
    }

    #[test]
    fn regions_must_fit_the_file() {
        let (_folder, path) = sparse();
        let source = RamSource::open(&path, Access::Read).unwrap();
        let region = Region { gpa: Gpa(0), length: 64 << 20, source: 0, offset: 0x1000 };
        let regions = RegionMap::new(vec![region]).unwrap();
        assert!(matches!(source.map(regions), Err(MemoryError::TooSmall { .. })));
    }
}
