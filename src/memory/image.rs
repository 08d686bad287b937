//! A fake: RAM that is nothing but words in this process, for tests without a guest.

use super::{GuestMemory, MemoryError, RegionMap, WORD, word_offset};
use crate::address::Gpa;
use std::sync::atomic::{AtomicU64, Ordering};

/// RAM held in memory, all zero at first.
pub struct Image {
    regions: RegionMap,
    words: Vec<AtomicU64>,
}

impl Image {
    /// RAM of the given regions, all zero.
    pub fn new(regions: RegionMap) -> Self {
        let count = regions.source_length().div_ceil(WORD);
        let words = (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { regions, words }
    }

    /// Stores the aligned word `value` at `at`.
    pub fn store(&self, at: Gpa, value: u64) -> Result<(), MemoryError> {
        self.word(at)?.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Writes `bytes` at `at`.
    pub fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        for (address, byte) in (at.0..).zip(bytes) {
            let word = self.word(Gpa(address).align_down(WORD))?;
            let shift = address % WORD * 8;
            let kept = word.load(Ordering::SeqCst) & !(0xff << shift);
            word.store(kept | u64::from(*byte) << shift, Ordering::SeqCst);
        }
        Ok(())
    }

    fn word(&self, at: Gpa) -> Result<&AtomicU64, MemoryError> {
        let offset = word_offset(&self.regions, at)?;
        Ok(&self.words[(offset / WORD) as usize])
    }
}

impl GuestMemory for Image {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        self.regions.pieces(at, into.len() as u64)?;
        for (address, byte) in (at.0..).zip(into) {
            let word = self.load(Gpa(address).align_down(WORD))?;
            *byte = (word >> (address % WORD * 8)) as u8;
        }
        Ok(())
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        Ok(self.word(at)?.load(Ordering::SeqCst))
    }

    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError> {
        let exchanged =
            self.word(at)?.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
        Ok(exchanged.map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Region;

    #[test]
    fn reads_back_what_was_written() {
        let regions = vec![Region { gpa: Gpa(0x1000), length: 0x1000, source: 0, offset: 0 }];
        let image = Image::new(RegionMap::new(regions).unwrap());
        image.write(Gpa(0x1005), b"across two words").unwrap();
        let mut bytes = [0; 18];
        image.read(Gpa(0x1004), &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0across two words\0");
        assert!(image.read(Gpa(0xfff), &mut bytes).is_err());
    }

    #[test]
    fn exchanges_only_what_was_expected() {
        let regions = vec![Region { gpa: Gpa(0), length: 0x1000, source: 0, offset: 0 }];
        let image = Image::new(RegionMap::new(regions).unwrap());
        assert_eq!(image.compare_exchange(Gpa(8), 1, 2).unwrap(), Err(0));
        assert_eq!(image.compare_exchange(Gpa(8), 0, 2).unwrap(), Ok(()));
        assert_eq!(image.load(Gpa(8)).unwrap(), 2);
        assert!(image.load(Gpa(9)).is_err());
    }
}
