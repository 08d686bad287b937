//! A guest, opened: RAM source, regions and kernel, each proved by the next. What every command
//! starts with.

mod ram;
mod remembered;

use ram::{Candidate, FoundRam, Keeper, LONGEST_STILL, Understood};

use crate::address::Gpa;
use crate::arch::{TranslateError, VirtualMemory};
use crate::cache::{Cache, Shelf};
use crate::kernel::{self, Kernel, KernelError, Layouts, Symbols, Told};
use crate::memory::{Access, GuestMemory, MemoryError, RamSource, Region, RegionMap};
use crate::vmm::{Layout, PalaciosError, RamLayout, Vm, VmError};
use std::path::PathBuf;
use std::sync::Arc;

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

/// Where a copy of a guest's RAM is, all of which lies in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RamCopy {
    /// In this file.
    File(PathBuf),
    /// In the memory of a process, over the file, whose first byte would be at the address `start`.
    Process {
        /// Its process id.
        pid: i32,
        /// The file, as it was before the process changed its copy.
        file: PathBuf,
        /// See there.
        start: u64,
    },
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
    /// Nothing but where its RAM is; nothing is recalled or remembered.
    pub fn unknown(memory: RamOf, access: Access) -> Self {
        Self {
            memory,
            ram_size: None,
            layout: None,
            system_map: None,
            layouts: None,
            access,
            cache: Cache::none(),
        }
    }

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
#[derive(Clone, Debug)]
pub struct RamFindings {
    /// What it lies in, and whose it is.
    pub source: String,
    /// Bytes of it.
    pub bytes: u64,
    /// Bytes that the host backs with memory; all of them, where the source knows no holes.
    pub in_use: u64,
}

impl RamFindings {
    fn of(source: String, memory: &dyn GuestMemory) -> Self {
        let in_use = memory.backed().iter().map(|run| run.end.0 - run.start.0).sum();
        Self { source, bytes: memory.regions().ram_length(), in_use }
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
    /// What its RAM lies in, for people; and each of its sources.
    source: String,
    sources: Vec<String>,
    /// The file or device that it lies in, where it is one.
    path: Option<PathBuf>,
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
        Self::prove(options, &found).map_err(|failed| {
            findings.kernel = *failed.findings;
            findings.ram = found.findings();
            // Of a VM that ends meanwhile, whatever was read makes no sense.
            let ended = found.keeper.still_there().err();
            ended.or_else(|| found.too_small(&failed.error)).unwrap_or(failed.error)
        })
    }

    fn prove(options: &GuestOptions, ram: &FoundRam) -> Result<Self, Failed> {
        let symbols = options.system_map.as_deref().map(Symbols::read).transpose()?.map(Arc::new);
        let members = options.layouts.as_deref().map(Layouts::read).transpose()?;
        let known = options.cache.latest(Shelf::Kernels, MOST_KNOWN);
        let told = Told { symbols: symbols.as_ref(), layouts: members.as_ref(), known: &known };
        let mut failed = None;
        let mut candidates = ram.candidates.iter();
        while let Some(candidate) = candidates.next() {
            match ram.understand(candidate, &told) {
                Ok(understood) => {
                    let rival = |other: &&_| ram.are_rivals(candidate, other);
                    let fits = |other| ram.also_fits(other, &understood.1);
                    if candidates.filter(rival).any(fits) {
                        return Err(GuestError::Ambiguous(candidate.0.clone()).into());
                    }
                    let findings = understood.1.findings();
                    let guest = ram.accept_age(&understood);
                    let guest = guest.and_then(|()| Self::of(ram, candidate, understood));
                    let guest = guest.map_err(|error| Failed::of(error, findings))?;
                    guest.remember(options, ram, candidate);
                    return Ok(guest);
                }
                Err(now) if now.last => return Err(further(failed, now)),
                Err(now) => failed = Some(further(failed, now)),
            }
        }
        let failed = failed.unwrap_or(KernelError::NoKernel.into());
        Err(ram.earlier(&failed, &told).unwrap_or(failed))
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
        let (source, sources) = (ram.source(), ram.shown.clone());
        let keeper = ram.keeper.clone();
        let path = ram.sources.first().map(|source| source.path().to_owned());
        Ok(Self { source, sources, path, memory, layout, kernel, keeper })
    }

    /// The same guest in a copy of its RAM: what was proved of the one holds for the other. Its clock
    /// has not been seen to tick, and no VM is looked for that has it.
    pub fn copied_to(&self, copy: &RamCopy, access: Access) -> Result<Self, GuestError> {
        let (source, start) = match copy {
            RamCopy::File(path) => (RamSource::open(path, access)?, 0),
            RamCopy::Process { pid, file, start } => {
                (RamSource::of_process_over(*pid, access, file, *start)?, *start)
            }
        };
        let moved = |region: &Region| Region { offset: region.offset + start, ..*region };
        let regions = RegionMap::new(self.memory.regions().iter().map(moved).collect())?;
        let memory = source.map(regions)?;
        if !self.kernel.also_in(memory.as_ref()) {
            return Err(KernelError::NoKernel.into());
        }
        let shown = source.path().display().to_string();
        let mut kernel = self.kernel.clone();
        kernel.ticks = false;
        let layout = self.layout.clone();
        let (source, sources) = (shown.clone(), vec![shown]);
        Ok(Self { source, sources, path: None, memory, layout, kernel, keeper: Keeper::Nobody })
    }

    /// What was found out about it.
    pub fn findings(&self) -> Findings {
        let ram = Some(RamFindings::of(self.source.clone(), self.memory()));
        Findings { ram, layout: Some(self.layout.clone()), kernel: self.kernel.findings() }
    }

    /// Guest-physical memory.
    pub fn memory(&self) -> &dyn GuestMemory {
        self.memory.as_ref()
    }

    /// Where `gpa` lies on the host: in which source, and how many bytes into it.
    pub fn host_place(&self, gpa: Gpa) -> Option<(String, u64)> {
        let (source, offset) = self.memory.regions().place(gpa)?;
        Some((self.sources.get(source)?.clone(), offset))
    }

    /// How RAM is laid out, proved.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Asks the VMM anew, where one is known: an error unless RAM still is where it was mapped.
    pub fn ram_still_there(&self) -> Result<(), GuestError> {
        self.keeper.still_there()
    }

    /// An error where `vm`, which it ran in, has ended: a RAM file outlives that.
    pub fn vm_still_there(&self, vm: &Option<Arc<dyn Vm>>) -> Result<(), GuestError> {
        match vm {
            Some(vm) if !vm.process().still_runs() => Err(VmError::Ended(vm.process().pid).into()),
            _ => Ok(()),
        }
    }

    /// Whether its kernel runs: its clock was seen to tick, or does so within some seconds, as that
    /// of an idle one. One whose clock is not known is taken to.
    pub fn runs(&self) -> bool {
        let (kernel, memory) = (&self.kernel, self.memory());
        kernel.ticks || !kernel.has_clock(memory) || kernel.ticks_within(memory, LONGEST_STILL)
    }

    /// The VM that it runs in, where that is known.
    pub fn vm(&self) -> Option<Arc<dyn Vm>> {
        self.keeper.vm_of(self.path.as_deref())
    }

    /// Whether its code is run by the host's CPUs as it is, and not translated first by something
    /// that need not see it change; `None` where nothing tells.
    pub fn runs_natively(&self) -> Option<bool> {
        let told = self.vm().and_then(|vm| vm.process().uses_kvm());
        told.or_else(|| self.kernel.sees_hypervisor(self.memory()).then_some(true))
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

/// Why a layout does not serve, and how far its kernel came.
struct Failed {
    error: GuestError,
    findings: Box<kernel::Findings>,
    /// Whether no other layout will.
    last: bool,
}

impl Failed {
    fn of(error: GuestError, findings: kernel::Findings) -> Self {
        Self { error, findings: Box::new(findings), last: false }
    }

    /// Whether it is a kernel that is proved itself whose RAM is not there.
    fn by_ram(&self) -> bool {
        use GuestError as E;
        let layout = matches!(self.error, E::MissingRam(_) | E::LayoutNotProved(_));
        layout || matches!(self.error, E::Kernel(KernelError::Booting))
    }
}

impl<E: Into<GuestError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::of(error.into(), kernel::Findings::default())
    }
}

/// The failure of the layout that came further: one whose kernel was found tells more, and the first
/// of those is the one given.
fn further(before: Option<Failed>, now: Failed) -> Failed {
    let of_kernel = |failed: &Failed| matches!(failed.error, GuestError::Kernel(_));
    match before {
        Some(before) if of_kernel(&now) || !of_kernel(&before) => before,
        _ => now,
    }
}
