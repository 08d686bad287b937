//! A guest, opened: RAM source, regions and kernel, each proved by the next. What every command
//! starts with.

use crate::address::Gpa;
use crate::arch::{TranslateError, VirtualMemory};
use crate::cache::{Cache, Shelf};
use crate::kernel::{self, Facts, Kernel, KernelError, Layouts, Placement, Symbols, Told};
use crate::memory::{Access, GuestMemory, MemoryError, RamSource, RegionMap};
use crate::vmm::{Layout, PalaciosError, PalaciosRam, RamLayout};
use serde::{Deserialize, Serialize};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

/// The firmware keeps the end of RAM below the hole to itself: some 200 KiB with SeaBIOS, some
/// MiB with others.
const FIRMWARE_RESERVES: u64 = 64 << 20;
/// How many kernels that are remembered are looked for in RAM that is not.
const MOST_KNOWN: usize = 8;

/// What is told about a guest.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// The RAM file, or the character device.
    pub memory: PathBuf,
    /// Bytes of RAM, where they are not the file's size.
    pub ram_size: Option<u64>,
    /// How RAM is laid out; found out where it is not given.
    pub layout: Option<RamLayout>,
    /// The kernel's symbols, where they are not its own kallsyms.
    pub system_map: Option<PathBuf>,
    /// The layouts of its structures, where they are not its own BTF's.
    pub layouts: Option<PathBuf>,
    /// Whether anything will be written.
    pub access: Access,
    /// What is remembered.
    pub cache: Cache,
}

impl GuestOptions {
    /// What the VMM's list says, where one is named.
    fn listed(&self) -> Result<Option<PalaciosRam>, PalaciosError> {
        match &self.layout {
            Some(RamLayout::Palacios(list)) => PalaciosRam::read(list, &self.memory).map(Some),
            _ => Ok(None),
        }
    }

    /// What `source` is remembered by; `None` where files are given, which count and are looked
    /// into each time.
    fn remembered(&self, source: &RamSource) -> Option<String> {
        let found_out = self.system_map.is_none() && self.layouts.is_none();
        found_out.then(|| format!("{}, {:?} bytes", source.identity(), self.ram_size))
    }

    /// Whether RAM may be laid out so.
    fn allow(&self, layout: &Layout) -> bool {
        match &self.layout {
            None => true,
            Some(RamLayout::Known(given)) => given == layout,
            Some(RamLayout::Palacios(_)) => false,
        }
    }
}

/// What is remembered of a RAM source.
#[derive(Serialize, Deserialize)]
struct Remembered {
    layout: String,
    /// The name of its facts.
    kernel: String,
    placement: Placement,
}

/// What was found out about a guest.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// About its RAM.
    pub ram: Option<RamFindings>,
    /// How that is laid out, proved.
    pub layout: Option<Layout>,
    /// About its kernel.
    pub kernel: kernel::Findings,
}

/// What was found out about a guest's RAM.
#[derive(Clone, Copy, Debug)]
pub struct RamFindings {
    /// Bytes of it.
    pub bytes: u64,
    /// Bytes that the host backs with memory; all of them, where the source knows no holes.
    pub in_use: u64,
}

impl RamFindings {
    fn of(memory: &dyn GuestMemory) -> Self {
        let in_use = memory.backed().iter().map(|run| run.end.0 - run.start.0).sum();
        Self { bytes: memory.regions().ram_length(), in_use }
    }
}

/// A guest could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Its RAM cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The VMM's list does not tell where it is.
    #[error(transparent)]
    Palacios(#[from] PalaciosError),
    /// Its kernel is not understood.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel uses RAM that the source does not have.
    #[error("the guest's kernel uses RAM that is not there ({0}): check -m and --ram-size")]
    MissingRam(TranslateError),
    /// What the kernel takes for RAM is not where the layout has it.
    #[error(
        "the layout {0} is not proved: the guest kernel has RAM elsewhere; give the right --ram-layout and --ram-size"
    )]
    LayoutNotProved(Layout),
    /// The layout given is wrong, and another one is proved.
    #[error("--ram-layout {given} is wrong: the guest's RAM is laid out as {proved}")]
    OtherLayout {
        /// What was given.
        given: Layout,
        /// What the kernel says.
        proved: Layout,
    },
}

/// A guest whose memory is mapped and whose kernel is understood.
pub struct Guest {
    memory: Box<dyn GuestMemory>,
    layout: Layout,
    kernel: Kernel,
    /// What was mapped, where a list told it.
    listed: Option<PalaciosRam>,
}

impl Guest {
    /// Maps the RAM, finds the kernel in it and proves the layout by the kernel's resource tree.
    pub fn open(options: &GuestOptions) -> Result<Self, GuestError> {
        Self::open_and_tell(options, &mut Findings::default())
    }

    /// The same; where it fails, `findings` tell how far it came.
    pub fn open_and_tell(
        options: &GuestOptions,
        findings: &mut Findings,
    ) -> Result<Self, GuestError> {
        let listed = options.listed()?;
        let memory = listed.as_ref().map_or(options.memory.as_path(), PalaciosRam::source);
        let source = RamSource::open(memory, options.access)?;
        if let Some(guest) = Self::recall(options, &source) {
            return Ok(guest);
        }
        let given = match &options.layout {
            Some(RamLayout::Known(layout)) => Some(layout.clone()),
            _ => listed.as_ref().map(PalaciosRam::layout),
        };
        let symbols = options.system_map.as_deref().map(Symbols::read).transpose()?.map(Arc::new);
        let members = options.layouts.as_deref().map(Layouts::read).transpose()?;
        let known = options.cache.latest(Shelf::Kernels, MOST_KNOWN);
        let told = Told { symbols: symbols.as_ref(), layouts: members.as_ref(), known: &known };
        let mut failed = None;
        for (layout, regions) in layouts(given.as_ref(), options.ram_size, &source)? {
            let memory = source.map(regions)?;
            findings.ram = Some(RamFindings::of(memory.as_ref()));
            match attempt(memory.as_ref(), &told, given.as_ref(), &layout) {
                Ok(kernel) => {
                    let guest = Self { memory, layout, kernel, listed };
                    guest.remember(options, &source);
                    return Ok(guest);
                }
                Err(now) => failed = Some(further(failed, now)),
            }
            if failed.as_ref().is_some_and(|failed| failed.last) {
                break;
            }
        }
        let none = GuestError::Kernel(KernelError::NoKernel);
        let Some(failed) = failed else { return Err(none) };
        let tried = layouts(given.as_ref(), options.ram_size, &source)?.into_iter().next();
        let memory = tried.filter(|_| failed.by_ram()).map(|(_, regions)| source.map(regions));
        if let Some(banner) = memory.and_then(|memory| earlier(&*memory.ok()?, &told)) {
            findings.kernel.banner = Some(banner.clone());
            return Err(KernelError::OnlyEarlier(banner).into());
        }
        findings.kernel = *failed.findings;
        Err(failed.error)
    }

    /// The guest that was found in `source` last, if it still is there as it was. What is given
    /// beforehand counts, so it is looked into anew.
    fn recall(options: &GuestOptions, source: &RamSource) -> Option<Self> {
        let remembered = options.remembered(source)?;
        let cached: Remembered = options.cache.recall(Shelf::Sources, &remembered)?;
        let facts: Facts = options.cache.recall(Shelf::Kernels, &cached.kernel)?;
        let layout = cached.layout.parse().ok().filter(|layout| options.allow(layout))?;
        let regions = layout.regions(options.ram_size.or(source.size())?).ok()?;
        let memory = source.map(regions).ok()?;
        let kernel = cached.placement.prove(memory.as_ref(), &facts).map_err(GuestError::from);
        let kernel = kernel.and_then(|kernel| understood(memory.as_ref(), kernel, &layout));
        let kernel = kernel.inspect_err(|why| log::debug!("what is remembered fails: {why}"));
        let kernel = kernel.ok()?;
        log::debug!("kernel: {}, as remembered", kernel.banner);
        Some(Self { memory, layout, kernel, listed: None })
    }

    /// Remembers what was found.
    fn remember(&self, options: &GuestOptions, source: &RamSource) {
        let facts = Facts::of(&self.kernel, self.memory());
        let Some((remembered, facts)) = options.remembered(source).zip(facts) else { return };
        let (layout, kernel) = (self.layout.to_string(), facts.name());
        if !self.kernel.recalled {
            options.cache.remember(Shelf::Kernels, &kernel, &facts);
        }
        let found = Remembered { layout, kernel, placement: Placement::of(&self.kernel) };
        options.cache.remember(Shelf::Sources, &remembered, &found);
    }

    /// What was found out about it.
    pub fn findings(&self) -> Findings {
        let ram = Some(RamFindings::of(self.memory()));
        Findings { ram, layout: Some(self.layout.clone()), kernel: self.kernel.findings() }
    }

    /// Guest-physical memory.
    pub fn memory(&self) -> &dyn GuestMemory {
        self.memory.as_ref()
    }

    /// How RAM is laid out, proved.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Asks the VMM anew, where a list told where RAM lies: an error unless RAM still is where it
    /// was mapped.
    pub fn ram_still_there(&self) -> Result<(), PalaciosError> {
        self.listed.as_ref().map_or(Ok(()), PalaciosRam::still_holds)
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Memory as the kernel sees it.
    pub fn kernel_memory(&self) -> VirtualMemory<'_> {
        VirtualMemory { memory: self.memory.as_ref(), space: self.kernel.space() }
    }
}

/// The layouts to try, each with its regions; those that come out alike only once. The one given
/// comes first: the others tell why it fails. Of a device nothing but what is given is touched.
fn layouts(
    given: Option<&Layout>,
    ram_size: Option<u64>,
    source: &RamSource,
) -> Result<Vec<(Layout, RegionMap)>, MemoryError> {
    if let (Some(layout @ Layout::Regions(regions)), true) = (given, source.is_device()) {
        return Ok(vec![(layout.clone(), regions.clone())]);
    }
    let ram = ram_size.or(source.size()).ok_or_else(|| source.unknown_size())?;
    let others = Layout::tried().filter(|_| given.is_none() || !source.is_device());
    let mut different: Vec<(Layout, RegionMap)> = Vec::new();
    for layout in given.cloned().into_iter().chain(others) {
        let regions = layout.regions(ram)?;
        if different.iter().all(|(_, other)| *other != regions) {
            different.push((layout, regions));
        }
    }
    Ok(different)
}

/// Why a layout does not serve, and how far it came.
struct Failed {
    error: GuestError,
    findings: Box<kernel::Findings>,
    /// Whether no other layout will.
    last: bool,
}

impl Failed {
    /// Whether it is a kernel that is proved itself whose RAM is not there.
    fn by_ram(&self) -> bool {
        use GuestError as E;
        let layout = matches!(self.error, E::MissingRam(_) | E::LayoutNotProved(_));
        layout || matches!(self.error, E::Kernel(KernelError::Booting))
    }
}

/// The banner of the guest's own kernel, where the one that proves itself in `memory` is an earlier
/// guest's, and the own one does not tell its symbols.
fn earlier(memory: &dyn GuestMemory, told: &Told) -> Option<String> {
    let kernel = Kernel::find(memory, told).ok().filter(|_| told.symbols.is_none())?;
    kernel::outlived(memory, &kernel)
}

/// The kernel in `memory`, which is laid out as `layout` if that is proved.
fn attempt(
    memory: &dyn GuestMemory,
    told: &Told,
    given: Option<&Layout>,
    layout: &Layout,
) -> Result<Kernel, Failed> {
    let kernel = Kernel::find(memory, told).map_err(|failure| {
        // Regions that are given need not be all of the source.
        let last = failure.whatever_the_layout && !matches!(layout, Layout::Regions(_));
        Failed { error: missing_ram(failure.error), findings: failure.findings, last }
    })?;
    let findings = Box::new(kernel.findings());
    let understood = understood(memory, kernel, layout);
    let understood = understood.and_then(|kernel| accept(given, layout).map(|()| kernel));
    understood.map_err(|error| {
        let last = matches!(error, GuestError::OtherLayout { .. });
        Failed { error, findings, last }
    })
}

/// The layout that is proved must be the one given, where one was.
fn accept(given: Option<&Layout>, proved: &Layout) -> Result<(), GuestError> {
    match given {
        Some(given) if given != proved => {
            let (given, proved) = (given.clone(), proved.clone());
            Err(GuestError::OtherLayout { given, proved })
        }
        _ => Ok(()),
    }
}

/// `kernel`, if the layout agrees with what it has for RAM.
fn understood(
    memory: &dyn GuestMemory,
    kernel: Kernel,
    layout: &Layout,
) -> Result<Kernel, GuestError> {
    let ram = kernel::system_ram(&kernel, memory).map_err(missing_ram)?;
    if ram.is_empty() {
        return Err(KernelError::Booting.into());
    }
    if !agrees(memory.regions(), &ram) {
        return Err(GuestError::LayoutNotProved(layout.clone()));
    }
    log::debug!("RAM: layout {layout}, proved by the kernel's resource tree");
    Ok(kernel)
}

/// A kernel whose proved page tables lead out of RAM has more of it than we were given.
fn missing_ram(error: KernelError) -> GuestError {
    match error {
        KernelError::Unreadable(out @ TranslateError::Memory { .. }) => GuestError::MissingRam(out),
        error => error.into(),
    }
}

/// Whether all that the kernel takes for RAM lies in a run of regions without a gap, and each run
/// ends about where some of it does.
fn agrees(regions: &RegionMap, ram: &[RangeInclusive<Gpa>]) -> bool {
    let runs = regions.runs();
    let inside = ram.iter().all(|range| {
        let holds = |run: &Range<Gpa>| run.contains(range.start()) && run.contains(range.end());
        range.start() <= range.end() && runs.iter().any(holds)
    });
    let filled = runs.iter().all(|run| {
        let short = |range: &RangeInclusive<Gpa>| run.end.checked_sub(*range.end());
        ram.iter().filter_map(short).any(|short| short <= FIRMWARE_RESERVES)
    });
    inside && filled && !ram.is_empty()
}

/// The error of the layout that came further: one whose kernel was found tells more, and the first
/// of those is the one given; one that is proved tells most.
fn further(before: Option<Failed>, now: Failed) -> Failed {
    let of_kernel = |failed: &Failed| matches!(failed.error, GuestError::Kernel(_));
    let other = |failed: &Failed| matches!(failed.error, GuestError::OtherLayout { .. });
    match before {
        Some(before) if !other(&now) && (of_kernel(&now) || !of_kernel(&before)) => {
            Failed { last: now.last, ..before }
        }
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Region;

    const GIB: u64 = 1 << 30;

    /// What a kernel reports on a machine with `ram` bytes in `layout`.
    fn reported(layout: &Layout, ram: u64) -> Vec<RangeInclusive<Gpa>> {
        let regions = layout.regions(ram).unwrap();
        let mut ranges = Vec::new();
        for region in regions.iter() {
            if region.gpa.0 == 0 {
                ranges.push(Gpa(0x1000)..=Gpa(0x9_fbff));
            }
            let start = region.gpa.0.max(0x10_0000);
            let reserved = if region.gpa.0 == 0 { 0x2_1000 } else { 0 };
            ranges.push(Gpa(start)..=Gpa(region.end().0 - reserved - 1));
        }
        ranges
    }

    #[test]
    fn only_the_right_layout_agrees() {
        for ram in [3 * GIB, GIB / 2 * 7, 8 * GIB] {
            for truth in Layout::tried() {
                let ram_ranges = reported(&truth, ram);
                for tried in Layout::tried() {
                    let regions = tried.regions(ram).unwrap();
                    let same = regions == truth.regions(ram).unwrap();
                    assert_eq!(agrees(&regions, &ram_ranges), same, "{truth} as {tried}, {ram}");
                }
            }
        }
    }

    /// The same RAM in blocks of 128 MiB.
    fn in_blocks(regions: &RegionMap) -> RegionMap {
        const BLOCK: u64 = 128 << 20;
        let blocks = regions.iter().flat_map(|region| {
            (0..region.length).step_by(BLOCK as usize).map(|into| Region {
                gpa: Gpa(region.gpa.0 + into),
                length: BLOCK.min(region.length - into),
                offset: region.offset + into,
            })
        });
        RegionMap::new(blocks.collect()).unwrap()
    }

    #[test]
    fn blocks_agree_as_the_run_that_they_form() {
        let ranges = reported(&Layout::Q35, 3 * GIB);
        let whole = in_blocks(&Layout::Q35.regions(3 * GIB).unwrap());
        assert!(agrees(&whole, &ranges));
        let all_but = |missing: usize| {
            let kept = whole.iter().enumerate().filter(|(index, _)| *index != missing);
            RegionMap::new(kept.map(|(_, block)| *block).collect()).unwrap()
        };
        for missing in 0..whole.iter().count() {
            assert!(!agrees(&all_but(missing), &ranges), "without block {missing}");
        }
    }

    #[test]
    fn nothing_proves_nothing() {
        assert!(!agrees(&Layout::Flat.regions(GIB).unwrap(), &[]));
    }
}
