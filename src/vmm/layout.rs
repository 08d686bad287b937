//! How machine types split guest RAM round the PCI hole, as QEMU's `hw/i386/pc_q35.c`, `pc_piix.c`
//! and `microvm.c` do it with a single RAM backend: the part below the hole lies at the start of
//! the file, the rest follows it and starts at guest-physical 4 GiB.

use crate::address::Gpa;
use crate::memory::{MemoryError, Region, RegionMap};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

const FOUR_GIB: u64 = 1 << 32;

/// What is told about the layout of RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RamLayout {
    /// The layout itself.
    Known(Layout),
    /// The path of the list in which a Palacios host tells the regions.
    Palacios(PathBuf),
}

/// A way to lay out RAM: a machine type's, or one that is given region by region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// These regions, whatever the size.
    Regions(RegionMap),
    /// Guest-physical addresses are offsets.
    Flat,
    /// QEMU's q35.
    Q35,
    /// QEMU's pc (i440fx).
    Pc,
    /// QEMU's microvm.
    Microvm,
    /// QEMU's virt, of aarch64.
    Virt,
}

/// One machine type: its name on the command line, where its RAM starts, and how much of it is
/// kept below the hole, where no more than the second number may be (max-ram-below-4g).
struct Facts {
    layout: Layout,
    name: &'static str,
    start: Gpa,
    low: fn(u64, u64) -> u64,
}

/// Every layout, in the order of [`Layout::tried`].
const LAYOUTS: [Facts; 5] = [
    Facts {
        layout: Layout::Q35,
        name: "q35",
        start: Gpa(0),
        low: |ram, most| match if ram >= 0xb000_0000 { 0x8000_0000 } else { 0xb000_0000 } {
            low if ram >= most.min(low) => most.min(low),
            _ => ram,
        },
    },
    Facts {
        layout: Layout::Pc,
        name: "pc",
        start: Gpa(0),
        low: |ram, most| match most.min(0xe000_0000) {
            most if ram >= most => most.min(0xc000_0000),
            _ => ram,
        },
    },
    Facts { layout: Layout::Flat, name: "flat", start: Gpa(0), low: |ram, _| ram },
    Facts {
        layout: Layout::Microvm,
        name: "microvm",
        start: Gpa(0),
        low: |ram, _| ram.min(0xc000_0000),
    },
    Facts { layout: Layout::Virt, name: "virt", start: Gpa(0x4000_0000), low: |ram, _| ram },
];

impl Layout {
    /// Every layout, in the order in which they are tried when none is given. RAM that starts
    /// elsewhere than at 0 is no x86-64 machine's, and no other's kernel is understood yet.
    pub fn tried() -> impl Iterator<Item = Self> {
        let tried = LAYOUTS.iter().filter(|facts| facts.start == Gpa(0));
        tried.map(|facts| facts.layout.clone())
    }

    /// The regions of a guest with `ram` bytes.
    pub fn regions(&self, ram: u64) -> Result<RegionMap, MemoryError> {
        if let Self::Regions(regions) = self {
            return Ok(regions.clone());
        }
        self.split(ram, u64::MAX)
    }

    /// The layout of a guest with `ram` bytes, where no more than `most` of it may lie below 4 GiB
    /// if that is given: a machine's own, unless that makes a difference.
    pub fn below_4g(self, ram: u64, most: Option<u64>) -> Result<Self, MemoryError> {
        let Some(most) = most else { return Ok(self) };
        let split = self.split(ram, most)?;
        Ok(if split == self.regions(ram)? { self } else { Self::Regions(split) })
    }

    fn split(&self, ram: u64, most: u64) -> Result<RegionMap, MemoryError> {
        let facts = self.facts();
        let low = facts.map_or(ram, |facts| (facts.low)(ram, most));
        let gpa = facts.map_or(Gpa(0), |facts| facts.start);
        let mut regions = vec![Region { gpa, length: low, source: 0, offset: 0 }];
        if low < ram {
            regions.push(Region { gpa: Gpa(FOUR_GIB), length: ram - low, source: 0, offset: low });
        }
        RegionMap::new(regions)
    }

    fn facts(&self) -> Option<&'static Facts> {
        LAYOUTS.iter().find(|facts| facts.layout == *self)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regions(regions) => write!(f, "{regions}"),
            _ => f.write_str(self.facts().map_or("", |facts| facts.name)),
        }
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = LAYOUTS.iter().find(|facts| facts.name == name);
        known.map(|facts| facts.layout.clone()).ok_or_else(|| {
            let names: Vec<_> = LAYOUTS.iter().map(|facts| facts.name).collect();
            format!(
                "unknown layout; known: {}, palacios[:PATH], or GPA:LENGTH@OFFSET,...",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn low_and_high(layout: Layout, ram: u64) -> (u64, u64) {
        let regions = layout.regions(ram * MIB).unwrap();
        let lengths: Vec<_> = regions.iter().map(|region| region.length / MIB).collect();
        (lengths[0], lengths.get(1).copied().unwrap_or(0))
    }

    #[test]
    fn q35_keeps_two_gib_low_once_it_splits() {
        assert_eq!(low_and_high(Layout::Q35, 2048), (2048, 0));
        assert_eq!(low_and_high(Layout::Q35, 2815), (2815, 0));
        assert_eq!(low_and_high(Layout::Q35, 2816), (2048, 768));
        assert_eq!(low_and_high(Layout::Q35, 4608), (2048, 2560));
    }

    #[test]
    fn pc_keeps_three_gib_low_once_it_splits() {
        assert_eq!(low_and_high(Layout::Pc, 3583), (3583, 0));
        assert_eq!(low_and_high(Layout::Pc, 3584), (3072, 512));
        assert_eq!(low_and_high(Layout::Pc, 8192), (3072, 5120));
    }

    #[test]
    fn less_may_be_kept_low() {
        let low = |layout: Layout, ram: u64, most: u64| {
            low_and_high(layout.below_4g(ram * MIB, Some(most * MIB)).unwrap(), ram)
        };
        for layout in [Layout::Q35, Layout::Pc] {
            assert_eq!(low(layout.clone(), 2048, 1024), (1024, 1024));
            assert_eq!(low(layout.clone(), 512, 1024), (512, 0));
            assert_eq!(layout.clone().below_4g(512 * MIB, Some(1 << 30)).unwrap(), layout);
        }
        assert_eq!(low(Layout::Q35, 4096, 4096), (2048, 2048));
        assert_eq!(low(Layout::Pc, 4096, 3328), (3072, 1024));
    }

    #[test]
    fn microvm_keeps_three_gib_low_as_soon_as_there_are_more() {
        assert_eq!(low_and_high(Layout::Microvm, 3072), (3072, 0));
        assert_eq!(low_and_high(Layout::Microvm, 3073), (3072, 1));
        assert_eq!(Layout::Virt.regions(MIB).unwrap().locate(Gpa(0x4000_0000), 1).unwrap(), 0);
    }

    #[test]
    fn the_high_part_follows_the_low_one_in_the_file() {
        let regions = Layout::Q35.regions(4096 * MIB).unwrap();
        assert_eq!(regions.locate(Gpa(FOUR_GIB), 8).unwrap(), 2048 * MIB);
        assert!(regions.locate(Gpa(2048 * MIB), 8).is_err());
    }

    #[test]
    fn names_round_trip() {
        for layout in LAYOUTS.iter().map(|facts| &facts.layout) {
            assert_eq!(layout.to_string().parse(), Ok(layout.clone()));
        }
        assert!("nonsense".parse::<Layout>().unwrap_err().contains("q35, pc, flat"));
    }
}
