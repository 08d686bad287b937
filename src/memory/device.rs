//! A character device that exports guest RAM.
//!
//! Only the regions given are mapped, each by itself: a device may refuse, or act on, anything
//! else. Devices know neither `pread` (EFAULT on /dev/mem, tried) nor holes, so all goes through
//! the mapping.

use super::mapped::{exchange, map_raw, word_at};
use super::{Access, GuestMemory, MemoryError, RegionMap, WORD, aligned, read_words};
use crate::address::Gpa;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The regions of a device, each mapped.
pub struct MappedDevice {
    access: Access,
    regions: RegionMap,
    /// In the order of the regions.
    mappings: Vec<MmapRaw>,
}

impl MappedDevice {
    /// Maps `regions` of `file`, which `path` names.
    pub(super) fn map(
        path: &Path,
        file: &File,
        access: Access,
        regions: RegionMap,
    ) -> Result<Self, MemoryError> {
        let one = |offset, length| {
            let mut options = MmapOptions::new();
            options.offset(offset).len(length as usize);
            map_raw(file, access, &options)
        };
        let mapped = regions.iter().map(|region| one(region.offset, region.length));
        let mappings = mapped.collect::<Result<_, _>>();
        let mappings =
            mappings.map_err(|source| MemoryError::Open { path: path.to_owned(), source })?;
        Ok(Self { access, regions, mappings })
    }

    fn at(&self, at: Gpa) -> Result<&AtomicU64, MemoryError> {
        aligned(at)?;
        let (index, into) = self.regions.holding(at, WORD)?;
        Ok(word_at(&self.mappings[index], into))
    }
}

impl GuestMemory for MappedDevice {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        self.regions.pieces(at, into.len() as u64)?;
        read_words(self, at, into)
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        Ok(u64::from_le(self.at(at)?.load(Ordering::Acquire)))
    }

    fn word(&self, at: Gpa) -> Option<&AtomicU64> {
        self.at(at).ok()
    }

    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError> {
        exchange(self.at(at)?, self.access, current, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Region;

    /// A file stands for the device: it is mapped just so.
    fn device(regions: &[(u64, u64)]) -> MappedDevice {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x10000).unwrap();
        let region = |&(gpa, offset): &(u64, u64)| Region {
            gpa: Gpa(gpa),
            length: 0x2000,
            source: 0,
            offset,
        };
        let regions = RegionMap::new(regions.iter().map(region).collect()).unwrap();
        MappedDevice::map(Path::new("device"), &file, Access::Write, regions).unwrap()
    }

    #[test]
    fn maps_each_region_by_itself() {
        let memory = device(&[(0, 0x8000), (0x10000, 0x4000)]);
        let written = memory.compare_exchange(Gpa(0x11ff8), 0, 0x0807_0605_0403_0201).unwrap();
        assert_eq!(written, Ok(()));
        assert_eq!(memory.load(Gpa(0x1ff8)).unwrap(), 0, "the other region is other memory");
        let mut bytes = [0; 5];
        memory.read(Gpa(0x11ff6), &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 1, 2, 3]);
        assert!(memory.load(Gpa(0x2000)).is_err());
        assert!(memory.read(Gpa(0x11ffc), &mut bytes).is_err());
    }

    #[test]
    fn reads_on_into_the_adjacent_region() {
        let memory = device(&[(0, 0x4000), (0x2000, 0)]);
        for (at, word) in [(0x1ff8, 0x0807_0605_0403_0201), (0x2000, 0x0a09)] {
            assert_eq!(memory.compare_exchange(Gpa(at), 0, word).unwrap(), Ok(()));
        }
        let mut bytes = [0; 10];
        memory.read(Gpa(0x1ff8), &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
}
