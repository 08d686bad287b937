//! One combination: booted, and proved with nothing given but the guest's memory. The truth is
//! what the guest itself says.

use super::Outcome;
use super::axes::{Cell, Held, Kernel};
use crate::common::{Live, boot, number};
use crate::proofs::{
    FOUR_GIB, NOT_CLEARED, both_sides_of_four_gib_are_reached, injection_lands,
    injection_lands_where, processes_agree, wrapper_is_listed,
};
use memchr::memmem;
use serde_json::Value;
use std::any::Any;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use vmfi::lab::{LabGuest, Setup};
use vmfi::vmm::Layout;

/// Where x86-64 kernels are linked to start, with Debian's CONFIG_PHYSICAL_START.
const LINKED_AT: u64 = 0xffff_ffff_8100_0000;
/// MiB of RAM of which no machine type puts any above 4 GiB.
const NEVER_SPLIT: u64 = 2048;
/// More than the firmware keeps for its tables at the end of RAM below 4 GiB.
const FIRMWARE: u64 = 1 << 20;

/// What the guest was, beyond what was asked for.
#[derive(Debug)]
pub struct Proved {
    /// Levels of page tables that its kernel uses.
    pub levels: u64,
    /// Whether faults landed above 4 GiB too.
    pub above: bool,
}

/// Boots `cell` and proves it, or tells what did not hold.
pub fn prove(cell: &Cell) -> Outcome {
    let mut live = holds("boot", || booted(cell))?;
    holds("position-independent victim", || victim_loaded_anywhere(&mut live))?;
    let (pid, child) = holds("victim", || live.start("/holder"))?;
    holds("list", || {
        wrapper_is_listed(&live, pid, child, "/holder");
        processes_agree(&mut live);
    })?;
    let told = holds("probe", || live.vmfi(&["probe", "--json"]).json())?;
    holds("kernel", || kernel_is_told(&mut live, &told, cell))?;
    let parts = holds("layout of RAM", || layout_is_told(&mut live, &told, cell))?;
    holds("inject", || injection_lands(&mut live, pid, child))?;
    let above = parts.iter().any(|part| part.end > FOUR_GIB);
    holds("sides of 4 GiB", || match above {
        true => both_sides_of_four_gib_are_reached(&mut live, pid, child),
        false => injection_lands_where(&mut live, pid, child, |gpa| gpa < FOUR_GIB),
    })?;
    Ok(Proved { levels: told["paging_levels"].as_u64().unwrap(), above })
}

/// A proof that does not hold panics, as in every test; here the other cells go on.
fn holds<T>(what: &str, proof: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(proof)).map_err(|panic| format!("{what}: {}", why(&*panic)))
}

/// What a panic said, in a line.
fn why(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

fn victim_loaded_anywhere(live: &mut Live) {
    let (pid, child) = live.start("/holder-pie");
    wrapper_is_listed(live, pid, child, "/holder-pie");
    injection_lands(live, pid, child);
    live.guest.run(&format!("kill {child}; wait")).unwrap();
}

/// A guest of `cell`. Now and then KASLR draws no slide at all, or a place over the kernel that was
/// there before: then one more is booted.
fn booted(cell: &Cell) -> Live {
    let earlier = earlier(cell.held);
    let setup = Setup {
        machine: cell.machine,
        ram_mib: cell.ram_mib,
        ram: cell.held.ram(),
        five_levels: cell.levels == 5,
        append: words(cell),
        earlier_ram: earlier.as_ref().map(|earlier| earlier.ram()),
        ..Setup::new(&cell.kernel.image())
    };
    let mut boots = (0..8).map(|_| Live::unknown(&setup));
    let found = boots.find_map(|mut live| is_as_asked(&mut live, cell).then_some(live));
    found.expect("of 8 boots none was as asked for")
}

/// For the kernel's command line.
fn words(cell: &Cell) -> String {
    let slide = if cell.kaslr { "" } else { "nokaslr" };
    let clearing = if cell.ram_mib > NEVER_SPLIT { NOT_CLEARED } else { "" };
    [slide, clearing].join(" ")
}

/// The guest that used the RAM before; halted, so that its kernel's image is all there.
fn earlier(held: Held) -> Option<LabGuest> {
    let Held::FileUsedBy(kernel) = held else { return None };
    let guest = boot(&Setup::new(&kernel.image()));
    guest.halt(true).unwrap();
    Some(guest)
}

fn is_as_asked(live: &mut Live, cell: &Cell) -> bool {
    let remains = match cell.held {
        Held::FreshFile | Held::Memfd | Held::Private => true,
        Held::FileUsedBy(kernel) => has_banner_of(live, kernel),
    };
    remains && cell.kaslr == (slide(live) != 0)
}

fn has_banner_of(live: &Live, kernel: &Kernel) -> bool {
    let banner = format!("Linux version {} (", kernel.release());
    memmem::find(&fs::read(live.guest.ram()).unwrap(), banner.as_bytes()).is_some()
}

/// How far KASLR moved the kernel in its address space.
fn slide(live: &mut Live) -> u64 {
    let text = live.guest.run("grep -m 1 ' _text$' /proc/kallsyms").unwrap().concat();
    u64::from_str_radix(text.split(' ').next().unwrap(), 16).unwrap() - LINKED_AT
}

fn kernel_is_told(live: &mut Live, told: &Value, cell: &Cell) {
    let release = live.guest.run("uname -r").unwrap().concat();
    assert_eq!(release, cell.kernel.release());
    assert_eq!(told["release"], release);
    assert_eq!(number(&told["kaslr_offset"]), slide(live));
    // The kernel takes the flag away where it does not use five levels.
    let five = live.guest.run("grep -c -w la57 /proc/cpuinfo; true").unwrap().concat() != "0";
    let levels = if five { 5 } else { 4 };
    let can = cell.levels.min(cell.kernel.most_levels);
    assert_eq!(levels, can, "the guest has other levels of page tables than it can");
    assert_eq!(told["paging_levels"], levels);
}

/// What the guest has as RAM.
fn parts_of_ram(live: &mut Live) -> Vec<Range<u64>> {
    let lines = live.guest.run("grep 'System RAM' /proc/iomem").unwrap();
    let part = |line: &String| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(number(start)?..number(end)? + 1)
    };
    lines.iter().map(|line| part(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// All that the guest has as RAM lies in the regions that were found out, and fills each but for
/// what the firmware keeps. Gives that RAM.
fn layout_is_told(live: &mut Live, told: &Value, cell: &Cell) -> Vec<Range<u64>> {
    let parts = parts_of_ram(live);
    let size = told["ram_bytes"].as_u64().unwrap();
    assert_eq!(size, cell.ram_mib << 20);
    let layout = told["ram_layout"].as_str().unwrap();
    let mut inside = 0;
    for bounds in regions(layout, size) {
        let within = |part: &&Range<u64>| bounds.start <= part.start && part.end <= bounds.end;
        let end = parts.iter().filter(within).map(|part| part.end).max();
        assert!(end.is_some_and(|end| end + FIRMWARE > bounds.end), "{layout}: {parts:x?}");
        inside += parts.iter().filter(within).count();
    }
    assert_eq!(inside, parts.len(), "{layout}: {parts:x?}");
    parts
}

/// Where `layout` has RAM of `size` bytes: it is a machine type's name or, where QEMU was asked, a
/// list of GPA:LENGTH@OFFSET.
fn regions(layout: &str, size: u64) -> Vec<Range<u64>> {
    if let Ok(known) = layout.parse::<Layout>() {
        let regions = known.regions(size).unwrap();
        return regions.iter().map(|region| region.gpa.0..region.end().0).collect();
    }
    let number = |digits: &str| u64::from_str_radix(digits.strip_prefix("0x")?, 16).ok();
    let region = |text: &str| {
        let (start, rest) = text.split_once(':')?;
        let start = number(start)?;
        Some(start..start + number(rest.split('@').next()?)?)
    };
    layout.split(',').map(|text| region(text).unwrap_or_else(|| panic!("{layout}"))).collect()
}

impl Proved {
    /// Where faults landed.
    pub fn sides(&self) -> &'static str {
        if self.above { "below and above 4 GiB" } else { "below 4 GiB" }
    }
}
