//! Which guest-physical addresses are RAM, and where each lies in its source. Most guests have one
//! source; NUMA nodes and DIMMs may have one each.

use super::MemoryError;
use crate::address::Gpa;
use std::fmt;
use std::ops::Range;

const PAGE: u64 = 4096;

/// One run of guest-physical addresses that lies in one piece in a RAM source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Guest-physical start.
    pub gpa: Gpa,
    /// Bytes.
    pub length: u64,
    /// Which of the guest's sources, counted from 0.
    pub source: usize,
    /// Where the region starts in the source, in bytes.
    pub offset: u64,
}

impl Region {
    /// The first guest-physical address past the region. [`RegionMap::new`] has checked it.
    pub fn end(&self) -> Gpa {
        Gpa(self.gpa.0 + self.length)
    }
}

/// The regions of a guest, ascending, none overlapping another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionMap(Vec<Region>);

impl RegionMap {
    /// Orders and checks `regions`.
    pub fn new(mut regions: Vec<Region>) -> Result<Self, MemoryError> {
        regions.sort_by_key(|region| region.gpa);
        let mut free_from = Gpa(0);
        for region in &regions {
            let end = region.gpa.checked_add(region.length);
            let fits = region.offset.checked_add(region.length).is_some();
            // Words are aligned where they are loaded only if pages are.
            let aligned = (region.gpa.0 | region.offset).is_multiple_of(PAGE);
            match end {
                Some(end) if fits && aligned && region.length > 0 && region.gpa >= free_from => {
                    free_from = end;
                }
                _ => return Err(MemoryError::BadRegion { gpa: region.gpa }),
            }
        }
        // Two places of the guest on one of the source would each change with the other.
        let mut by_offset: Vec<_> = regions.iter().collect();
        by_offset.sort_by_key(|region| (region.source, region.offset));
        let twice = by_offset.windows(2).find(|two| {
            two[0].source == two[1].source && two[0].offset + two[0].length > two[1].offset
        });
        match twice {
            Some(two) => Err(MemoryError::BadRegion { gpa: two[1].gpa }),
            None => Ok(Self(regions)),
        }
    }

    /// The regions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }

    /// Those regions that `kept` says.
    pub fn only(&self, kept: impl Fn(&Region) -> bool) -> Self {
        Self(self.0.iter().filter(|region| kept(region)).copied().collect())
    }

    /// The same, where regions that go on in each other in their source too are one.
    pub fn merged(&self) -> Self {
        let mut merged: Vec<Region> = Vec::new();
        for region in &self.0 {
            match merged.last_mut() {
                Some(last)
                    if last.end() == region.gpa
                        && last.source == region.source
                        && last.offset + last.length == region.offset =>
                {
                    last.length += region.length;
                }
                _ => merged.push(*region),
            }
        }
        Self(merged)
    }

    /// The regions that lie in the source `source`, as a map of their own, whose only source it is.
    pub fn of_source(&self, source: usize) -> Self {
        let own = self.0.iter().filter(|region| region.source == source);
        Self(own.map(|region| Region { source: 0, ..*region }).collect())
    }

    /// Which source holds `gpa`, and where in it; `None` where that is no RAM.
    pub fn place(&self, gpa: Gpa) -> Option<(usize, u64)> {
        let region = self.0.iter().find(|region| (region.gpa..region.end()).contains(&gpa))?;
        Some((region.source, region.offset + (gpa.0 - region.gpa.0)))
    }

    /// Bytes that the only source must have for every region to lie in it.
    pub fn source_length(&self) -> u64 {
        let ends = self.0.iter().map(|region| region.offset + region.length);
        ends.max().unwrap_or(0)
    }

    /// Bytes of RAM in all regions.
    pub fn ram_length(&self) -> u64 {
        self.0.iter().map(|region| region.length).sum()
    }

    /// The runs of RAM without a gap, ascending, whatever the regions that they consist of.
    pub fn runs(&self) -> Vec<Range<Gpa>> {
        joined(self.0.iter().map(|region| region.gpa..region.end()))
    }

    /// Where `length` bytes at `gpa` lie in the only source; an error unless one region holds them
    /// all.
    pub fn locate(&self, gpa: Gpa, length: u64) -> Result<u64, MemoryError> {
        let (index, into) = self.holding(gpa, length)?;
        Ok(self.0[index].offset + into)
    }

    /// Where `length` bytes at `gpa` lie in the only source, a piece for each of the adjacent regions
    /// that hold them.
    pub fn pieces(&self, gpa: Gpa, length: u64) -> Result<Vec<Range<u64>>, MemoryError> {
        let mut pieces = Vec::new();
        let (mut gpa, mut left) = (gpa, length);
        while left > 0 {
            let (index, into) = self.holding(gpa, 1)?;
            let region = self.0[index];
            let piece = left.min(region.length - into);
            pieces.push(region.offset + into..region.offset + into + piece);
            gpa = Gpa(gpa.0 + piece);
            left -= piece;
        }
        Ok(pieces)
    }

    /// The region that holds all of the `length` bytes at `gpa`, and how far into it they start.
    pub fn region(&self, gpa: Gpa, length: u64) -> Result<(Region, u64), MemoryError> {
        self.holding(gpa, length).map(|(index, into)| (self.0[index], into))
    }

    /// Which region holds all of the `length` bytes at `gpa`, and how far into it they start.
    pub(super) fn holding(&self, gpa: Gpa, length: u64) -> Result<(usize, u64), MemoryError> {
        let after = self.0.partition_point(|region| region.gpa <= gpa);
        let held = after.checked_sub(1).and_then(|index| {
            let into = gpa.0 - self.0[index].gpa.0;
            let end = into.checked_add(length)?;
            (end <= self.0[index].length).then_some((index, into))
        });
        held.ok_or(MemoryError::NotRam { gpa, length })
    }
}

/// `ranges`, which ascend, with those that touch as one.
pub(super) fn joined(ranges: impl Iterator<Item = Range<Gpa>>) -> Vec<Range<Gpa>> {
    let mut runs: Vec<Range<Gpa>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(run) if run.end == range.start => run.end = range.end,
            _ => runs.push(range),
        }
    }
    runs
}

/// As `--ram-layout` has it: GPA:LENGTH@OFFSET,... Of several sources, all but the first have
/// their number after `#`.
impl fmt::Display for RegionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, region) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}:{:#x}@{:#x}", region.gpa, region.length, region.offset)?;
            if region.source > 0 {
                write!(f, "#{}", region.source)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split() -> RegionMap {
        let low = Region { gpa: Gpa(0), length: 0x1000, source: 0, offset: 0 };
        let high = Region { gpa: Gpa(0x8000), length: 0x2000, source: 0, offset: 0x1000 };
        RegionMap::new(vec![high, low]).unwrap()
    }

    #[test]
    fn locates_on_both_sides_of_the_hole() {
        assert_eq!(split().locate(Gpa(0xff8), 8).unwrap(), 0xff8);
        assert_eq!(split().locate(Gpa(0x8000), 8).unwrap(), 0x1000);
        assert_eq!(split().locate(Gpa(0x9ff8), 8).unwrap(), 0x2ff8);
        assert_eq!(split().source_length(), 0x3000);
        assert_eq!(split().ram_length(), 0x3000);
    }

    #[test]
    fn refuses_what_is_not_ram() {
        for (gpa, length) in [(0xff9, 8), (0x1000, 1), (0x7fff, 2), (0x9ff9, 8), (u64::MAX, 2)] {
            assert!(split().locate(Gpa(gpa), length).is_err(), "{gpa:#x} + {length}");
        }
    }

    #[test]
    fn adjacent_regions_are_one_run() {
        let blocks = [(0, 0x5000), (0x1000, 0x9000), (0x8000, 0x1000)];
        let blocks =
            blocks.map(|(gpa, offset)| Region { gpa: Gpa(gpa), length: 0x1000, source: 0, offset });
        let regions = RegionMap::new(blocks.to_vec()).unwrap();
        assert_eq!(regions.runs(), [Gpa(0)..Gpa(0x2000), Gpa(0x8000)..Gpa(0x9000)]);
        assert_eq!(regions.pieces(Gpa(0xffe), 5).unwrap(), [0x5ffe..0x6000, 0x9000..0x9003]);
        assert!(regions.pieces(Gpa(0x1fff), 2).is_err());
        assert_eq!(regions.merged(), regions);
        let one = Region { gpa: Gpa(0), length: 0x2000, source: 0, offset: 0x4000 };
        let halves = [
            Region { length: 0x1000, ..one },
            Region { gpa: Gpa(0x1000), length: 0x1000, offset: 0x5000, ..one },
        ];
        assert_eq!(RegionMap::new(halves.to_vec()).unwrap().merged().0, [one]);
        assert!(regions.locate(Gpa(0xffe), 5).is_err());
    }

    #[test]
    fn refuses_bad_regions() {
        let region = |gpa, length| Region { gpa: Gpa(gpa), length, source: 0, offset: 0 };
        assert!(RegionMap::new(vec![region(0, 0)]).is_err());
        assert!(RegionMap::new(vec![region(8, 0x1000)]).is_err());
        assert!(RegionMap::new(vec![region(0, 0x2000), region(0x1000, 0x1000)]).is_err());
        assert!(RegionMap::new(vec![region(!0xfff, 0x1001)]).is_err());
        let apart = vec![region(0, 0x2000), region(0x8000, 0x1000)];
        assert!(RegionMap::new(apart.clone()).is_err(), "both lie at offset 0");
        let of_two = [apart[0], Region { source: 1, ..apart[1] }];
        let of_two = RegionMap::new(of_two.to_vec()).unwrap();
        assert_eq!(of_two.to_string(), "0x0:0x2000@0x0,0x8000:0x1000@0x0#1");
        assert_eq!(of_two.of_source(1).to_string(), "0x8000:0x1000@0x0");
    }
}
