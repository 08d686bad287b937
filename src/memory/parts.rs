//! RAM that lies in several sources: NUMA nodes and DIMMs have a backend each.

use super::region::joined;
use super::{GuestMemory, MemoryError, RamSource, RegionMap, WORD};
use crate::address::Gpa;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

/// Maps `regions` of `sources`, which their numbers count.
pub fn map(sources: &[RamSource], regions: RegionMap) -> Result<Box<dyn GuestMemory>, MemoryError> {
    if let [only] = sources {
        return only.map(regions);
    }
    let each = sources.iter().enumerate();
    let parts = each.map(|(index, source)| source.map(regions.of_source(index)));
    Ok(Box::new(Parts { parts: parts.collect::<Result<_, _>>()?, regions }))
}

/// The parts, each of which knows where its own regions are in the guest.
struct Parts {
    regions: RegionMap,
    /// In the order of the sources.
    parts: Vec<Box<dyn GuestMemory>>,
}

impl Parts {
    /// The part that holds the byte at `at`, and how many bytes of it follow in its region.
    fn holding(&self, at: Gpa) -> Result<(&dyn GuestMemory, u64), MemoryError> {
        let (region, into) = self.regions.region(at, 1)?;
        Ok((self.parts[region.source].as_ref(), region.length - into))
    }
}

impl GuestMemory for Parts {
    fn regions(&self) -> &RegionMap {
        &self.regions
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        let (mut at, mut rest) = (at, into);
        while !rest.is_empty() {
            let (part, left) = self.holding(at)?;
            let length = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (piece, after) = rest.split_at_mut(length);
            part.read(at, piece)?;
            at = Gpa(at.0 + length as u64);
            rest = after;
        }
        Ok(())
    }

    fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
        self.holding(at)?.0.load(at)
    }

    fn load_each(&self, at: &[Gpa]) -> Vec<Option<u64>> {
        let source = |at: &Gpa| self.regions.region(*at, 1).ok().map(|(region, _)| region.source);
        let alike = at.chunk_by(|one, other| source(one) == source(other));
        let each = alike.map(|at| match source(&at[0]) {
            Some(source) => self.parts[source].load_each(at),
            None => vec![None; at.len()],
        });
        each.flatten().collect()
    }

    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError> {
        self.holding(at)?.0.compare_exchange(at, current, new)
    }

    fn word(&self, at: Gpa) -> Option<&AtomicU64> {
        self.holding(at).ok()?.0.word(at)
    }

    fn atomic(&self, at: Gpa) -> bool {
        self.regions.region(at, WORD).is_ok_and(|(region, _)| self.parts[region.source].atomic(at))
    }

    fn backed(&self) -> Vec<Range<Gpa>> {
        let mut all: Vec<_> = self.parts.iter().flat_map(|part| part.backed()).collect();
        all.sort_by_key(|range| range.start);
        joined(all.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Access, Region};
    use std::os::unix::fs::FileExt;

    #[test]
    fn each_region_is_its_own_sources() {
        let file = |bytes: &[u8], at| {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(0x4000).unwrap();
            file.as_file().write_all_at(bytes, at).unwrap();
            file
        };
        let files = [file(b"one", 0x0ffd), file(b"two, and more", 0x2000)];
        let open = |file: &tempfile::NamedTempFile| RamSource::open(file.path(), Access::Write);
        let sources: Vec<_> = files.iter().map(|file| open(file).unwrap()).collect();
        let region = |gpa, length, source, offset| Region { gpa: Gpa(gpa), length, source, offset };
        let regions = vec![region(0, 0x1000, 0, 0), region(0x1000, 0x1000, 1, 0x2000)];
        let memory = map(&sources, RegionMap::new(regions).unwrap()).unwrap();
        let mut bytes = [0; 6];
        memory.read(Gpa(0xffd), &mut bytes).unwrap();
        assert_eq!(&bytes, b"onetwo");
        let word = memory.load(Gpa(0x1000)).unwrap();
        assert_eq!(&word.to_le_bytes(), b"two, and");
        assert_eq!(memory.compare_exchange(Gpa(0x1000), word, 0).unwrap(), Ok(()));
        assert_eq!(memory.load(Gpa(0x1000)).unwrap(), 0);
        assert!(memory.read(Gpa(0x1ffe), &mut bytes).is_err());
        let each = memory.load_each(&[Gpa(0xff8), Gpa(0x1000), Gpa(0x2000)]);
        assert_eq!(each, [Some(0x656e_6f00_0000_0000), Some(0), None]);
        assert_eq!(memory.backed(), [Gpa(0)..Gpa(0x2000)]);
        assert!(memory.atomic(Gpa(0)));
    }
}
