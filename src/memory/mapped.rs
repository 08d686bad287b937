//! A RAM file that a VMM maps too, mapped into this process.
//!
//! Looking never makes a sparse file bigger: on tmpfs a load through the mapping from a hole
//! allocates the page (measured). So copies are made with `pread`, which sees the same bytes and
//! allocates nothing, and a page is asked for with `SEEK_DATA` before a word of it is loaded the
//! first time: in a hole it is zero.

use super::{GuestMemory, MemoryError, Region, RegionMap, word_offset};
use crate::address::Gpa;
use memmap2::{MmapOptions, MmapRaw};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Granularity of holes: the host's page.
const PAGE: u64 = 4096;

/// What may be done with the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only look: RAM is not even mapped writable.
    Read,
    /// Look and write.
    Write,
}

/// A RAM file, mapped whole.
pub struct MappedFile {
    path: PathBuf,
    file: File,
    mapping: MmapRaw,
    access: Access,
    regions: RegionMap,
    /// Runs of the file known to hold data, start to end, in bytes. Data never becomes a hole
    /// while the guest runs (without a balloon, and then reading allocates a page at worst).
    data: Mutex<BTreeMap<u64, u64>>,
}

impl MappedFile {
    /// Maps the RAM file at `path`; `RegionMap`s of later calls to [`Self::set_regions`] must fit
    /// into it. At first the whole file is one region from guest-physical 0.
    pub fn open(path: &Path, access: Access) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError::Open { path: path.to_owned(), source };
        let write = access == Access::Write;
        // The kind first: opening a FIFO would block, and some devices act on being opened.
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() {
            return Err(MemoryError::NotAFile { path: path.to_owned(), kind: describe(kind) });
        }
        let file = OpenOptions::new().read(true).write(write).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length == 0 {
            return Err(MemoryError::Empty { path: path.to_owned() });
        }
        let mapping = match access {
            Access::Read => MmapOptions::new().map_raw_read_only(&file),
            Access::Write => MmapOptions::new().map_raw(&file),
        }
        .map_err(failed)?;
        let regions = RegionMap::new(vec![Region { gpa: Gpa(0), length, offset: 0 }])?;
        let data = Mutex::new(BTreeMap::new());
        Ok(Self { path: path.to_owned(), file, mapping, access, regions, data })
    }

    /// Bytes in the file.
    pub fn length(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Says how guest-physical addresses lie in the file.
    pub fn set_regions(&mut self, regions: RegionMap) -> Result<(), MemoryError> {
        let needed = regions.source_length();
        if needed > self.length() {
            let actual = self.length();
            return Err(MemoryError::TooSmall { path: self.path.clone(), actual, needed });
        }
        self.regions = regions;
        Ok(())
    }

    /// Whether the byte at `offset` is data; else it lies in a hole.
    fn is_data(&self, offset: u64) -> bool {
        let mut data = self.data.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, &end)) = data.range(..=offset).next_back()
            && offset < end
        {
            return true;
        }
        let page = offset - offset % PAGE;
        match data_run(&self.file, page, self.length()) {
            Some(run) if run.start <= offset => {
                data.insert(page, run.end);
                true
            }
            _ => false,
        }
    }

    /// The word at `offset` of the file, which [`word_offset`] has checked.
    fn word(&self, offset: u64) -> &AtomicU64 {
        let bytes = self.mapping.as_mut_ptr().cast_const();
        // SAFETY: `offset` lies in a region, and `set_regions` keeps regions inside the mapping.
        let at = unsafe { bytes.add(offset as usize) };
        // SAFETY: the mapping is page-aligned and `offset` a multiple of 8, so `at` is aligned;
        // it stays mapped as long as `self`. The guest writes the word meanwhile, as another
        // thread would write an atomic; without PROT_WRITE only loads are made.
        unsafe { &*at.cast::<AtomicU64>() }
    }
}

/// The first run of data at or after `from` in a file of `length` bytes. A file system that knows
/// no holes counts as data throughout.
fn data_run(file: &File, from: u64, length: u64) -> Option<Range<u64>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    if from >= length {
        return None;
    }
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => {
            let end = seek(file, SeekFrom::Hole(start)).unwrap_or(length);
            Some(start..end.min(length))
        }
        Err(Errno::NXIO) => None,
        Err(_) => Some(from..length),
    }
}

fn describe(kind: std::fs::FileType) -> &'static str {
    if kind.is_dir() {
        "folder"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

impl GuestMemory for MappedFile {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        let offset = self.regions.locate(at, into.len() as u64)?;
        let read = self.file.read_exact_at(into, offset);
        read.map_err(|source| MemoryError::Read { path: self.path.clone(), source })
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        let offset = word_offset(&self.regions, at)?;
        Ok(if self.is_data(offset) { self.word(offset).load(Ordering::Acquire).to_le() } else { 0 })
    }

    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError> {
        if self.access != Access::Write {
            return Err(MemoryError::ReadOnly);
        }
        let word = self.word(word_offset(&self.regions, at)?);
        let exchanged =
            word.compare_exchange(current.to_le(), new.to_le(), Ordering::SeqCst, Ordering::SeqCst);
        Ok(exchanged.map(|_| ()).map_err(u64::from_le))
    }

    fn backed(&self) -> Vec<Range<Gpa>> {
        let mut runs = Vec::new();
        for region in self.regions.iter() {
            let end = region.offset + region.length;
            let mut from = region.offset;
            while let Some(run) = data_run(&self.file, from, end) {
                let gpa = |offset| Gpa(region.gpa.0 + (offset - region.offset));
                runs.push(gpa(run.start)..gpa(run.end));
                from = run.end;
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn looking_allocates_nothing() {
        let (_folder, path) = sparse();
        let before = std::fs::metadata(&path).unwrap().blocks();
        let memory = MappedFile::open(&path, Access::Read).unwrap();
        let mut all = vec![0xff; 64 << 20];
        memory.read(Gpa(0), &mut all).unwrap();
        assert_eq!(&all[8 << 20..][..14], b"Linux version\0");
        assert_eq!(all.iter().filter(|&&byte| byte != 0).count(), 13);
        assert_eq!(memory.load(Gpa(0x1000)).unwrap(), 0);
        assert_eq!(memory.backed(), [Gpa(8 << 20)..Gpa((8 << 20) + 4096)]);
        assert_eq!(std::fs::metadata(&path).unwrap().blocks(), before);
    }

    #[test]
    fn data_that_appears_later_is_seen() {
        let (_folder, path) = sparse();
        let memory = MappedFile::open(&path, Access::Read).unwrap();
        assert_eq!(memory.load(Gpa(0x3000)).unwrap(), 0);
        File::options().write(true).open(&path).unwrap().write_all_at(&[7], 0x3000).unwrap();
        assert_eq!(memory.load(Gpa(0x3000)).unwrap(), 7);
    }

    #[test]
    fn writes_only_when_opened_for_it() {
        let (_folder, path) = sparse();
        let reader = MappedFile::open(&path, Access::Read).unwrap();
        assert!(matches!(reader.compare_exchange(Gpa(0), 0, 1), Err(MemoryError::ReadOnly)));
        let writer = MappedFile::open(&path, Access::Write).unwrap();
        assert_eq!(writer.compare_exchange(Gpa(0), 0, 1).unwrap(), Ok(()));
        assert_eq!(writer.compare_exchange(Gpa(0), 0, 2).unwrap(), Err(1));
        assert_eq!(reader.load(Gpa(0)).unwrap(), 1);
    }

    #[test]
    fn refuses_what_cannot_be_ram() {
        let open = |path: &Path| MappedFile::open(path, Access::Read).err().unwrap().to_string();
        assert!(open(Path::new("/no/such/ram")).contains("-m"));
        assert!(open(Path::new("/dev/null")).contains("is a device"));
        assert!(open(Path::new("/")).contains("is a folder"));
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(open(empty.path()).contains("is empty"));
    }

    #[test]
    fn regions_must_fit_the_file() {
        let (_folder, path) = sparse();
        let mut memory = MappedFile::open(&path, Access::Read).unwrap();
        let region = Region { gpa: Gpa(0), length: 64 << 20, offset: 0x1000 };
        let regions = RegionMap::new(vec![region]).unwrap();
        assert!(matches!(memory.set_regions(regions), Err(MemoryError::TooSmall { .. })));
    }
}
