//! A guest, opened: RAM source, regions and kernel, each proved by the next. What every command
//! starts with.

use crate::address::Gpa;
use crate::arch::{TranslateError, VirtualMemory};
use crate::cache::{Cache, Shelf};
use crate::kernel::{self, Facts, Kernel, KernelError, Layouts, Placement, Symbols, Told};
use crate::memory::{self, Access, GuestMemory, MemoryError, RamSource, RegionMap};
use crate::vmm::{Layout, PalaciosError, PalaciosRam, RamLayout, Vm, VmError};
use serde::{Deserialize, Serialize};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

/// The firmware keeps the end of RAM below the hole to itself: some 200 KiB with SeaBIOS, some
/// MiB with others.
const FIRMWARE_RESERVES: u64 = 64 << 20;
/// How many kernels that are remembered are looked for in RAM that is not.
const MOST_KNOWN: usize = 8;

/// Where a guest's RAM is.
#[derive(Clone, Debug)]
pub enum RamOf {
    /// In this file, or on this character device.
    Path(PathBuf),
    /// Where this VM has it.
    Vm(Arc<dyn Vm>),
}

/// What is told about a guest.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// Where its RAM is.
    pub memory: RamOf,
    /// Bytes of RAM, where they are not the file's size. A VM knows how much it has.
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
    /// The layout given by itself.
    fn layout(&self) -> Option<&Layout> {
        match &self.layout {
            Some(RamLayout::Known(layout)) => Some(layout),
            _ => None,
        }
    }

    /// Whether what is remembered serves: files that are given count, and are looked into each
    /// time, as is a list of regions.
    fn may_recall(&self) -> bool {
        let listed = matches!(self.layout, Some(RamLayout::Palacios(_)));
        self.system_map.is_none() && self.layouts.is_none() && !listed
    }
}

/// What is remembered of a guest's RAM.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// How it is laid out, and where.
    layout: String,
    /// The name of its kernel's facts.
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
    /// The running VM does not tell where it is.
    #[error(transparent)]
    Vm(#[from] VmError),
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
    /// Several ways to put the VM's RAM together look right to the kernel.
    #[error(
        "the layout {0} is not proved: the VM has several pieces of RAM of equal size, and the guest's kernel does not tell them apart; give --qemu its QMP socket"
    )]
    Ambiguous(Layout),
}

/// A guest whose memory is mapped and whose kernel is understood.
pub struct Guest {
    memory: Box<dyn GuestMemory>,
    layout: Layout,
    kernel: Kernel,
    keeper: Keeper,
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
        let found = FoundRam::of(options)?;
        if let Some(guest) = Self::recall(options, &found) {
            return Ok(guest);
        }
        let opened = Self::prove(options, &found, findings);
        // Of a VM that ends meanwhile, whatever was read makes no sense.
        opened.map_err(|error| found.keeper.still_there().err().unwrap_or(error))
    }

    fn prove(
        options: &GuestOptions,
        ram: &FoundRam,
        findings: &mut Findings,
    ) -> Result<Self, GuestError> {
        let symbols = options.system_map.as_deref().map(Symbols::read).transpose()?.map(Arc::new);
        let members = options.layouts.as_deref().map(Layouts::read).transpose()?;
        let known = options.cache.latest(Shelf::Kernels, MOST_KNOWN);
        let told = Told { symbols: symbols.as_ref(), layouts: members.as_ref(), known: &known };
        let mut failed = None;
        let mut candidates = ram.candidates.iter();
        while let Some(candidate) = candidates.next() {
            match ram.understand(candidate, &told) {
                Ok(understood) => {
                    findings.kernel = understood.1.findings();
                    let rival = |other: &&_| ram.are_rivals(candidate, other);
                    let fits = |other| ram.also_fits(other, &understood.1);
                    if candidates.filter(rival).any(fits) {
                        return Err(GuestError::Ambiguous(candidate.0.clone()));
                    }
                    let guest = Self::of(ram, candidate, understood)?;
                    guest.remember(options, ram, candidate);
                    return Ok(guest);
                }
                Err(now) => failed = Some(further(failed, now)),
            }
            if failed.as_ref().is_some_and(|failed| failed.last) {
                break;
            }
        }
        Err(ram.refused(failed, &told, findings))
    }

    /// The guest whose kernel proves `candidate`, if that is as it was given.
    fn of(
        ram: &FoundRam,
        (layout, _): &Candidate,
        (memory, kernel): Understood,
    ) -> Result<Self, GuestError> {
        let layout = ram.keeper.named(layout, memory.regions());
        ram.accept(&layout, memory.regions())?;
        log::debug!("RAM: layout {layout}, proved by the kernel's resource tree");
        Ok(Self { memory, layout, kernel, keeper: ram.keeper.clone() })
    }

    /// The guest that was found in `ram` last, if it still is there as it was.
    fn recall(options: &GuestOptions, ram: &FoundRam) -> Option<Self> {
        let name = options.may_recall().then(|| ram.name())?;
        let last: Remembered = options.cache.recall(Shelf::Sources, &name)?;
        let facts: Facts = options.cache.recall(Shelf::Kernels, &last.kernel)?;
        let mut candidates = ram.candidates.iter();
        let candidate = candidates.find(|candidate| described(candidate) == last.layout)?;
        let memory = memory::map(&ram.sources, candidate.1.clone()).ok()?;
        let kernel = last.placement.prove(memory.as_ref(), &facts).map_err(GuestError::from);
        let understood = kernel.and_then(|kernel| ram.agreed(candidate, memory, kernel));
        let guest = understood.and_then(|understood| Self::of(ram, candidate, understood));
        let guest = guest.inspect_err(|why| log::debug!("what is remembered fails: {why}")).ok()?;
        log::debug!("kernel: {}, as remembered", guest.kernel.banner);
        Some(guest)
    }

    /// Remembers what was found.
    fn remember(&self, options: &GuestOptions, ram: &FoundRam, candidate: &Candidate) {
        let facts = Facts::of(&self.kernel, self.memory()).filter(|_| options.may_recall());
        let Some(facts) = facts else { return };
        let (layout, kernel) = (described(candidate), facts.name());
        if !self.kernel.recalled {
            options.cache.remember(Shelf::Kernels, &kernel, &facts);
        }
        let found = Remembered { layout, kernel, placement: Placement::of(&self.kernel) };
        options.cache.remember(Shelf::Sources, &ram.name(), &found);
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

    /// Asks the VMM anew, where one is known: an error unless RAM still is where it was mapped.
    pub fn ram_still_there(&self) -> Result<(), GuestError> {
        self.keeper.still_there()
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

/// Who may move or end the guest's RAM.
#[derive(Clone, Debug)]
enum Keeper {
    /// Nobody is known.
    Nobody,
    /// A Palacios host, whose list told what was mapped.
    Palacios(PalaciosRam),
    /// The VM.
    Vm(Arc<dyn Vm>),
}

impl Keeper {
    fn vm(&self) -> Option<&dyn Vm> {
        if let Self::Vm(vm) = self { Some(vm.as_ref()) } else { None }
    }

    fn still_there(&self) -> Result<(), GuestError> {
        match self {
            Self::Palacios(list) => Ok(list.still_holds()?),
            Self::Vm(vm) if !vm.process().still_runs() => {
                Err(VmError::Ended(vm.process().pid).into())
            }
            Self::Nobody | Self::Vm(_) => Ok(()),
        }
    }

    /// `layout` by its name, where QEMU told `regions` and a machine type has just these.
    fn named(&self, layout: &Layout, regions: &RegionMap) -> Layout {
        let of_vm = matches!(self, Self::Vm(_)) && matches!(layout, Layout::Regions(_));
        let has_these = |known: &Layout| {
            known.regions(regions.ram_length()).is_ok_and(|other| same_places(&other, regions))
        };
        Layout::tried().filter(|_| of_vm).find(has_these).unwrap_or(layout.clone())
    }
}

/// Whether both are the same guest-physical addresses, wherever those lie.
fn same_places(one: &RegionMap, other: &RegionMap) -> bool {
    one.runs() == other.runs()
}

/// RAM that was found, and how it may be laid out.
struct FoundRam {
    sources: Vec<RamSource>,
    candidates: Vec<Candidate>,
    /// What the user or a list says of the layout.
    given: Option<Layout>,
    keeper: Keeper,
}

/// A way to lay out RAM.
type Candidate = (Layout, RegionMap);
/// RAM, and the kernel that proves how it is laid out.
type Understood = (Box<dyn GuestMemory>, Kernel);

/// What tells `candidate` from others: two may have one name, or the same places.
fn described((layout, regions): &Candidate) -> String {
    let sources: Vec<_> = regions.iter().map(|region| region.source.to_string()).collect();
    format!("{layout}: {regions} of {}", sources.join(","))
}

impl FoundRam {
    fn of(options: &GuestOptions) -> Result<Self, GuestError> {
        let path = match &options.memory {
            RamOf::Vm(vm) => return Self::of_vm(vm, options),
            RamOf::Path(path) => path,
        };
        let listed = match &options.layout {
            Some(RamLayout::Palacios(list)) => Some(PalaciosRam::read(list, path)?),
            _ => None,
        };
        let source =
            RamSource::open(listed.as_ref().map_or(path, PalaciosRam::source), options.access)?;
        let given = listed.as_ref().map(PalaciosRam::layout).or(options.layout().cloned());
        let candidates = layouts(given.as_ref(), options.ram_size, &source)?;
        let keeper = listed.map_or(Keeper::Nobody, Keeper::Palacios);
        Ok(Self { sources: vec![source], candidates, given, keeper })
    }

    fn of_vm(vm: &Arc<dyn Vm>, options: &GuestOptions) -> Result<Self, GuestError> {
        let ram = vm.ram()?;
        let sources = ram.sources.iter().map(|source| source.open(options.access));
        let sources = sources.collect::<Result<_, _>>()?;
        let (given, keeper) = (options.layout().cloned(), Keeper::Vm(Arc::clone(vm)));
        Ok(Self { sources, candidates: ram.candidates, given, keeper })
    }

    /// The layout that is proved must be the one given, where one was. What a VM's lies in is the
    /// VM's affair: there the same places are the same layout.
    fn accept(&self, proved: &Layout, regions: &RegionMap) -> Result<(), GuestError> {
        let Some(given) = self.given.as_ref().filter(|given| *given != proved) else {
            return Ok(());
        };
        let of_vm = matches!(self.keeper, Keeper::Vm(_));
        if of_vm && same_places(&given.regions(regions.ram_length())?, regions) {
            return Ok(());
        }
        Err(GuestError::OtherLayout { given: given.clone(), proved: proved.clone() })
    }

    /// What RAM is remembered by: where it lies, whose it is, and what was given.
    fn name(&self) -> String {
        let sources: Vec<_> = self.sources.iter().map(RamSource::identity).collect();
        let given = self.given.as_ref().map(|given| format!(", {given}")).unwrap_or_default();
        let vm = self.keeper.vm().map(|vm| format!(", {:?}", vm.process())).unwrap_or_default();
        sources.join(", ") + &given + &vm
    }

    /// The kernel of RAM laid out as `candidate`, which it must prove.
    fn understand(&self, candidate: &Candidate, told: &Told) -> Result<Understood, Failed> {
        let memory = memory::map(&self.sources, candidate.1.clone())?;
        let kernel = Kernel::find(memory.as_ref(), told).map_err(|failure| {
            // Regions that are given need not be all of the source.
            let whole = !matches!(self.given, Some(Layout::Regions(_)));
            let last = failure.whatever_the_layout && whole;
            Failed { error: missing_ram(failure.error), findings: failure.findings, last }
        })?;
        let findings = Box::new(kernel.findings());
        let agreed = self.agreed(candidate, memory, kernel);
        agreed.map_err(|error| Failed { error, findings, last: false })
    }

    /// Why there is no guest, and how far it came.
    fn refused(&self, failed: Option<Failed>, told: &Told, findings: &mut Findings) -> GuestError {
        let first = self.candidates.first().map(|(_, regions)| regions.clone());
        let memory = first.and_then(|regions| memory::map(&self.sources, regions).ok());
        findings.ram = memory.as_deref().map(RamFindings::of);
        let Some(failed) = failed else { return KernelError::NoKernel.into() };
        let memory = memory.filter(|_| failed.by_ram());
        if let Some(banner) = memory.and_then(|memory| earlier(memory.as_ref(), told)) {
            findings.kernel.banner = Some(banner.clone());
            return KernelError::OnlyEarlier(banner).into();
        }
        findings.kernel = *failed.findings;
        failed.error
    }

    /// The same where `kernel` was found in `memory`.
    fn agreed(
        &self,
        (layout, regions): &Candidate,
        memory: Box<dyn GuestMemory>,
        kernel: Kernel,
    ) -> Result<Understood, GuestError> {
        let ram = kernel::system_ram(&kernel, memory.as_ref()).map_err(missing_ram)?;
        if ram.is_empty() {
            return Err(KernelError::Booting.into());
        }
        let used = self.used(regions, &ram);
        if !agrees(&used, &ram) {
            return Err(GuestError::LayoutNotProved(layout.clone()));
        }
        let memory = if used == *regions { memory } else { memory::map(&self.sources, used)? };
        Ok((memory, kernel))
    }

    /// Whether a VM would have the same places of the guest in different places of its own.
    fn are_rivals(&self, one: &(Layout, RegionMap), other: &(Layout, RegionMap)) -> bool {
        let of_vm = matches!(self.keeper, Keeper::Vm(_));
        of_vm && same_places(&one.1, &other.1) && one.1.merged() != other.1.merged()
    }

    /// Whether RAM laid out as `other` makes as much sense to `kernel`, which was proved already.
    fn also_fits(&self, other: &(Layout, RegionMap), kernel: &Kernel) -> bool {
        let Ok(memory) = memory::map(&self.sources, other.1.clone()) else { return false };
        let ram = kernel::system_ram(kernel, memory.as_ref());
        let agreed = ram.is_ok_and(|ram| agrees(&self.used(&other.1, &ram), &ram));
        agreed && kernel.also_in(memory.as_ref())
    }

    /// Those of `regions` that the kernel, to whom `ram` is RAM, uses. A VM may have more: video
    /// memory, or a DIMM that nobody has put to use.
    fn used(&self, regions: &RegionMap, ram: &[RangeInclusive<Gpa>]) -> RegionMap {
        let touches =
            |range: &RangeInclusive<Gpa>, start, end| *range.start() < end && *range.end() >= start;
        match self.keeper {
            Keeper::Vm(_) => regions
                .only(|region| ram.iter().any(|range| touches(range, region.gpa, region.end()))),
            _ => regions.clone(),
        }
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

impl From<MemoryError> for Failed {
    fn from(error: MemoryError) -> Self {
        Self { error: error.into(), findings: Box::default(), last: false }
    }
}

/// The banner of the guest's own kernel, where the one that proves itself in `memory` is an earlier
/// guest's, and the own one does not tell its symbols.
fn earlier(memory: &dyn GuestMemory, told: &Told) -> Option<String> {
    let kernel = Kernel::find(memory, told).ok().filter(|_| told.symbols.is_none())?;
    kernel::outlived(memory, &kernel)
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
/// of those is the one given.
fn further(before: Option<Failed>, now: Failed) -> Failed {
    let of_kernel = |failed: &Failed| matches!(failed.error, GuestError::Kernel(_));
    match before {
        Some(before) if of_kernel(&now) || !of_kernel(&before) => {
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
                source: region.source,
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
