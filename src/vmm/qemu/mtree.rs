//! `info mtree -f`: what a machine's address space consists of (`system/memory.c`, there
//! `mtree_print_flatview`).
//!
//! ```text
//! FlatView #3
//!  AS "memory", root: system
//!  AS "cpu-memory-0", root: system
//!  Root memory region: system
//!   0000000000000000-000000000009ffff (prio 0, ram): pc.ram
//!   00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
//!   0000000100000000-000000019fffffff (prio 0, ram): pc.ram @0000000080000000 KVM
//! ```
//!
//! The name of a range says nothing: RAM is called as its backend is. Its kind does. Firmware is
//! `rom`, and what the guest may change only through a device is `romd`; neither is RAM to a kernel.
//! Video memory and the like are `ram` too: the kernel knows.

use std::ops::Range;

/// More than machines have; they have some ten.
const MOST: usize = 4096;
const SPACE: &str = "AS \"memory\",";

/// The ranges of guest-physical addresses that are RAM, as `text` lists them.
pub fn ram(text: &str) -> Vec<Range<u64>> {
    let views = text.split("FlatView").filter(|view| view.contains(SPACE));
    let lines = views.take(1).flat_map(str::lines);
    lines.filter_map(|line| range(line.trim())).take(MOST).collect()
}

fn range(line: &str) -> Option<Range<u64>> {
    let (addresses, rest) = line.split_once(" (prio ")?;
    let (_, kind) = rest.split_once("): ").map_or(rest, |(kind, _)| kind).split_once(", ")?;
    let (first, last) = addresses.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (first, last) = (number(first)?, number(last)?);
    let end = last.checked_add(1)?;
    (kind == "ram" && first < end).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEWS: &str = r#"FlatView #0
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000bffff (prio 0, ram): m

FlatView #1
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #2
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): /objects/ram, as it is called @0000000000000000
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  0000000000100000-000000007fffffff (prio 0, ram): m @0000000000100000 KVM
  00000000b0000000-00000000b0ffffff (prio 1, romd): flash
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000019fffffff (prio 0, ram): m @0000000080000000
  0000000200000000-000000020fffffff (prio 0, nv-ram): nvdimm
  0000000300000000-0000000200000000 (prio 0, ram): wrong
  0000000300000000-ffffffffffffffff (prio 0, ram): wrong

"#;

    #[test]
    fn ram_is_told_by_its_kind() {
        assert_eq!(ram(VIEWS), [0..0xa_0000, 0x10_0000..0x8000_0000, 1 << 32..0x1_a000_0000]);
        assert_eq!(ram("FlatView #0\n AS \"I/O\", root: io\n"), []);
        assert_eq!(ram(""), []);
    }
}
