//! The parts of a victim's memory that a place can be drawn from.

use crate::address::Gva;
use crate::arch::MappedPage;
use crate::kernel::KernelError;
use crate::process::{Mapping, Shown};
use crate::seed::{Drawing, Seed};
use crate::victim::{Loaded, Part, VictimError, VictimMemory};
use rand::RngExt;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::str::FromStr;

/// A part of a victim's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// What `brk` grows, where small allocations are.
    Heap,
    /// The first thread's stack.
    Stack,
    /// The program's variables that the file has values for.
    Data,
    /// The program's variables that start as zeros.
    Bss,
    /// The program's code.
    Text,
    /// What is no file's, and neither heap nor stack: large allocations, stacks of threads.
    Anon,
    /// All that is mapped, but for what is a device's or the kernel's own.
    Any,
}

/// Every region, by its name.
const REGIONS: [(&str, Region); 7] = [
    ("heap", Region::Heap),
    ("stack", Region::Stack),
    ("data", Region::Data),
    ("bss", Region::Bss),
    ("text", Region::Text),
    ("anon", Region::Anon),
    ("any", Region::Any),
];

impl FromStr for Region {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        REGIONS.iter().find(|(name, _)| *name == text).map(|(_, region)| *region).ok_or(())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = REGIONS.iter().find(|(_, region)| region == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

/// A place could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The kernel's structures could not be followed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The program's own header does not tell where its parts are.
    #[error(transparent)]
    Victim(#[from] VictimError),
    /// There is none, or nothing of it in RAM.
    #[error(
        "process {pid} has nothing of the region '{region}' in guest RAM; 'vmfi maps' shows what it has"
    )]
    Empty {
        /// The process.
        pid: i32,
        /// The region.
        region: Region,
    },
}

/// A byte drawn from a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Where it is.
    pub gva: Gva,
    /// How many bytes it was drawn from, each as likely as the others.
    pub sampled_from: u64,
    /// How many bytes behind the region's first address it is.
    pub offset: u64,
}

impl Region {
    /// The byte of this region of `victim` that `seed` draws, from those that are in RAM now.
    pub fn draw(self, victim: &VictimMemory, seed: Seed) -> Result<Draw, RegionError> {
        let ranges = self.ranges(victim)?;
        let runs = resident(victim, &ranges);
        let sampled_from = runs.iter().map(|run| run.end.0 - run.start.0).sum();
        if sampled_from == 0 {
            return Err(RegionError::Empty { pid: victim.task.pid, region: self });
        }
        let drawn = seed.numbers(Drawing::Place).random_range(0..sampled_from);
        let gva = nth(&runs, drawn);
        let start = ranges.iter().map(|range| range.start).min().unwrap_or(gva);
        Ok(Draw { gva, sampled_from, offset: gva.0 - start.0 })
    }

    /// Where it lies, in ascending order.
    fn ranges(self, victim: &VictimMemory) -> Result<Vec<Range<Gva>>, RegionError> {
        if matches!(self, Self::Data | Self::Bss | Self::Text) {
            return Ok(self.of_program(&Loaded::read(victim)?));
        }
        // Behind the victim's own mappings a page of the kernel's is shown.
        let shown = victim.shown()?.into_iter().take(victim.mappings.len());
        let own = shown.filter(|shown| self.has(shown));
        Ok(own.map(|Shown { mapping: Mapping { start, end, .. }, .. }| start..end).collect())
    }

    fn has(self, shown: &Shown) -> bool {
        let named = |name| shown.name.as_deref() == Some(name);
        let mapping = &shown.mapping;
        match self {
            Self::Heap => named("[heap]"),
            Self::Stack => named("[stack]"),
            Self::Anon => mapping.file.is_none() && !mapping.shared && shown.name.is_none(),
            _ => !mapping.device,
        }
    }

    fn of_program(self, program: &Loaded) -> Vec<Range<Gva>> {
        let parts = program.parts();
        let of = |part: &Part| match self {
            Self::Data => part.writable.then_some(part.start..part.data_end),
            Self::Bss => part.writable.then_some(part.data_end..part.end),
            _ => part.executable.then_some(part.start..part.end),
        };
        parts.iter().filter_map(of).collect()
    }
}

/// What of `ranges` is in RAM, in ascending order.
fn resident(victim: &VictimMemory, ranges: &[Range<Gva>]) -> Vec<Range<Gva>> {
    let mut runs = Vec::new();
    let view = victim.view();
    for range in ranges.iter().filter(|range| range.start < range.end) {
        view.space.pages(view.memory, range.clone(), |page: MappedPage| {
            let end = Gva(page.gva.0.saturating_add(page.size));
            // A wrong frame in a table may lead anywhere.
            if view.memory.regions().locate(page.gpa, 1).is_ok() {
                runs.push(page.gva.max(range.start)..end.min(range.end));
            }
            ControlFlow::Continue(())
        });
    }
    runs
}

/// The byte of number `index` in `runs`.
fn nth(runs: &[Range<Gva>], mut index: u64) -> Gva {
    for run in runs {
        let length = run.end.0 - run.start.0;
        if index < length {
            return Gva(run.start.0 + index);
        }
        index -= length;
    }
    Gva(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_regions_and_back() {
        for (name, region) in REGIONS {
            assert_eq!(name.parse(), Ok(region));
            assert_eq!(region.to_string(), name);
        }
        assert_eq!("Heap".parse::<Region>(), Err(()));
    }

    #[test]
    fn every_byte_of_all_runs_has_its_number() {
        let runs = [Gva(0x1000)..Gva(0x1002), Gva(0x3000)..Gva(0x3001)];
        let all: Vec<_> = (0..3).map(|index| nth(&runs, index).0).collect();
        assert_eq!(all, [0x1000, 0x1001, 0x3000]);
    }
}
