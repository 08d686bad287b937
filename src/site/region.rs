//! The parts of a victim's memory that a place can be drawn from.

use std::fmt;
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
