//! RAM that was found, the ways in which it may be laid out, and the proof of one of them.

use super::{Failed, GuestError, GuestOptions, RamFindings, RamOf};
use crate::address::Gpa;
use crate::arch::TranslateError;
use crate::kernel::{self, Diagnosis, Kernel, KernelError, Told};
use crate::memory::{self, GuestMemory, MemoryError, RamSource, RegionMap};
use crate::vmm::{self, Layout, PalaciosRam, RamLayout, Vm, VmError};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The firmware keeps the end of RAM below the hole to itself: some 200 KiB with SeaBIOS, some
/// MiB with others.
const FIRMWARE_RESERVES: u64 = 64 << 20;
/// No Linux runs in less; a file that is smaller is something else.
const SMALLEST_RAM: u64 = 4 << 20;
/// By how much the clocks of host and guest may differ.
const SLACK: Duration = Duration::from_secs(1);
/// An idle kernel may stop its tick for some seconds.
pub const LONGEST_STILL: Duration = Duration::from_secs(5);

/// Who may move or end the guest's RAM.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// Nobody is known.
    Nobody,
    /// A Palacios host, whose list told what was mapped.
    Palacios(PalaciosRam),
    /// The VM.
    Vm(Arc<dyn Vm>),
}

impl Keeper {
    pub fn vm(&self) -> Option<&Arc<dyn Vm>> {
        if let Self::Vm(vm) = self { Some(vm) } else { None }
    }

    /// The VM, which may be known by nothing but the `file` that it has its RAM in.
    pub fn vm_of(&self, file: Option<&Path>) -> Option<Arc<dyn Vm>> {
        match self {
            Self::Vm(vm) => Some(Arc::clone(vm)),
            Self::Nobody => vmm::of_file(file?),
            Self::Palacios(_) => None,
        }
    }

    pub fn still_there(&self) -> Result<(), GuestError> {
        match self {
            Self::Palacios(list) => Ok(list.still_holds()?),
            Self::Vm(vm) if !vm.process().still_runs() => {
                Err(VmError::Ended(vm.process().pid).into())
            }
            Self::Nobody | Self::Vm(_) => Ok(()),
        }
    }

    /// `layout` by its name, where QEMU told `regions` and a machine type has just these.
    pub fn named(&self, layout: &Layout, regions: &RegionMap) -> Layout {
        let of_vm = matches!(self, Self::Vm(_)) && matches!(layout, Layout::Regions(_));
        let has_these = |known: &Layout| {
            known.regions(regions.ram_length()).is_ok_and(|other| same_places(&other, regions))
        };
        Layout::tried().filter(|_| of_vm).find(has_these).unwrap_or(layout.clone())
    }
}

/// A way to lay out RAM.
pub type Candidate = (Layout, RegionMap);
/// RAM, and the kernel that proves how it is laid out.
pub type Understood = (Box<dyn GuestMemory>, Kernel);

/// RAM that was found, and how it may be laid out.
pub struct FoundRam {
    pub sources: Vec<RamSource>,
    /// What they are, for people.
    pub shown: Vec<String>,
    pub candidates: Vec<Candidate>,
    /// What the user or a list says of the layout.
    given: Option<Layout>,
    pub keeper: Keeper,
}

impl FoundRam {
    pub fn of(options: &GuestOptions) -> Result<Self, GuestError> {
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
        let shown = vec![source.path().display().to_string()];
        Ok(Self { sources: vec![source], shown, candidates, given, keeper })
    }

    fn of_vm(vm: &Arc<dyn Vm>, options: &GuestOptions) -> Result<Self, GuestError> {
        let ram = vm.ram()?;
        let sources = ram.sources.iter().map(|source| source.open(options.access));
        let sources = sources.collect::<Result<_, _>>()?;
        let (given, keeper) = (options.layout().cloned(), Keeper::Vm(Arc::clone(vm)));
        let shown = ram.sources.iter().map(ToString::to_string).collect();
        Ok(Self { sources, shown, candidates: ram.candidates, given, keeper })
    }

    /// The layout that is proved must be the one given, where one was. What a VM's lies in is the
    /// VM's affair: there the same places are the same layout.
    pub fn accept(&self, proved: &Layout, regions: &RegionMap) -> Result<(), GuestError> {
        let Some(given) = self.given.as_ref().filter(|given| *given != proved) else {
            return Ok(());
        };
        let of_vm = matches!(self.keeper, Keeper::Vm(_));
        if of_vm && same_places(&given.regions(regions.ram_length())?, regions) {
            return Ok(());
        }
        Err(GuestError::OtherLayout { given: given.clone(), proved: proved.clone() })
    }

    /// What it lies in, and whose it is.
    pub fn source(&self) -> String {
        let shown = self.shown.join(", ");
        self.keeper.vm().map_or(shown.clone(), |vm| format!("VM {vm}, {shown}"))
    }

    /// What RAM is remembered by: where it lies, whose it is, and what was given.
    pub fn name(&self) -> String {
        let sources: Vec<_> = self.sources.iter().map(RamSource::identity).collect();
        let given = self.given.as_ref().map(|given| format!(", {given}")).unwrap_or_default();
        let vm = self.keeper.vm().map(|vm| format!(", {:?}", vm.process())).unwrap_or_default();
        sources.join(", ") + &given + &vm
    }

    /// The kernel of RAM laid out as `candidate`, which it must prove.
    pub fn understand(&self, candidate: &Candidate, told: &Told) -> Result<Understood, Failed> {
        let memory = memory::map(&self.sources, candidate.1.clone())?;
        let kernel = Kernel::find(memory.as_ref(), told).map_err(|failure| {
            // Regions that are given need not be all of the source.
            let regions = matches!(candidate.0, Layout::Regions(_));
            let last = failure.whatever_the_layout && !regions;
            Failed { error: missing_ram(failure.error), findings: failure.findings, last }
        })?;
        let findings = kernel.findings();
        let agreed = self.agreed(candidate, memory, kernel);
        agreed.map_err(|error| Failed::of(error, findings))
    }

    /// Refuses a kernel that has run for longer than its VM, unless its clock ticks: it is what an
    /// earlier VM left in this RAM, which stays until the guest's own has come up.
    pub fn accept_age(&self, (memory, kernel): &Understood) -> Result<(), GuestError> {
        if kernel.ticks {
            return Ok(());
        }
        let memory = memory.as_ref();
        let ages = self.vm_age().zip(kernel.uptime(memory));
        let older = ages.is_some_and(|(vm, kernel)| kernel > vm + SLACK);
        if older && !kernel.ticks_within(memory, LONGEST_STILL) {
            return Err(KernelError::OlderThanVm(kernel.banner.clone()).into());
        }
        Ok(())
    }

    /// How long the VM has run that this RAM is of, where that is known.
    fn vm_age(&self) -> Option<Duration> {
        let file = self.sources.first().map(RamSource::path);
        Some(self.keeper.vm_of(file)?.process().age())
    }

    /// What `failed` comes to where the kernel that proves itself is an earlier guest's, and the
    /// guest's own does not tell its symbols.
    pub fn earlier(&self, failed: &Failed, told: &Told) -> Option<Failed> {
        let (_, regions) =
            self.candidates.first().filter(|_| failed.by_ram() && told.symbols.is_none())?;
        let memory = memory::map(&self.sources, regions.clone()).ok()?;
        let kernel = Kernel::find(memory.as_ref(), told).ok()?;
        let banner = kernel::outlived(memory.as_ref(), &kernel)?;
        let findings = kernel::Findings { banner: Some(banner.clone()), ..Default::default() };
        Some(Failed::of(KernelError::OnlyEarlier(banner).into(), findings))
    }

    /// What there is to say where it is too small to be any guest's, and `error` does not tell what
    /// it is instead.
    pub fn too_small(&self, error: &GuestError) -> Option<GuestError> {
        let told =
            |error: &KernelError| matches!(error, KernelError::Diagnosed(Diagnosis::NotRam(_)));
        let [source] = self.sources.as_slice() else { return None };
        let actual = source.size().filter(|size| *size < SMALLEST_RAM)?;
        match error {
            GuestError::Kernel(error) if !told(error) => {
                Some(MemoryError::NoGuests { path: source.path().to_owned(), actual }.into())
            }
            _ => None,
        }
    }

    /// What there is of it, laid out in the likeliest way.
    pub fn findings(&self) -> Option<RamFindings> {
        let (_, regions) = self.candidates.first()?;
        let memory = memory::map(&self.sources, regions.clone()).ok()?;
        Some(RamFindings::of(self.source(), memory.as_ref()))
    }

    /// The same where `kernel` was found in `memory`.
    pub fn agreed(
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
    pub fn are_rivals(&self, one: &(Layout, RegionMap), other: &(Layout, RegionMap)) -> bool {
        let of_vm = matches!(self.keeper, Keeper::Vm(_));
        of_vm && same_places(&one.1, &other.1) && one.1.merged() != other.1.merged()
    }

    /// Whether RAM laid out as `other` makes as much sense to `kernel`, which was proved already.
    pub fn also_fits(&self, other: &(Layout, RegionMap), kernel: &Kernel) -> bool {
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

/// Whether both are the same guest-physical addresses, wherever those lie.
fn same_places(one: &RegionMap, other: &RegionMap) -> bool {
    one.runs() == other.runs()
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
