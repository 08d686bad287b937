//! QEMU: where the RAM of a VM lies that runs already, however it was started.
//!
//! Its machine protocol tells all of it, where somebody answers there. Else its command line tells
//! what memory was asked for, and its memory map shows what there is of that size. Where several
//! arrangements are possible then, each is a candidate, and the guest's kernel proves one.

mod command_line;
mod mtree;
mod qmp;

pub use qmp::Qmp;

use super::host::{HostProcess, Mapping, PROC};
use super::pause::Stopped;
use super::placing::{Piece, Placing, mappings, piece};
use super::{Layout, Vm, VmError, VmRam, VmmFacts};
use crate::address::Gpa;
use crate::memory::RegionMap;
use command_line::{Backend, BackendKind, CommandLine, Dimm};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a program is called that is QEMU with a machine: not its tools, nor what runs programs of
/// other architectures.
const PROGRAMS: [&str; 3] = ["qemu-system-", "qemu-kvm", "kvm"];
/// Letters of such a name that are shown; real ones have some 20.
const LONGEST_NAME: usize = 64;
/// Machine types by how their names start, since they may end in a version; the first is what a
/// PC is where nothing is said.
const MACHINES: [(&str, Layout); 6] = [
    ("pc-q35", Layout::Q35),
    ("q35", Layout::Q35),
    ("pc-i440fx", Layout::Pc),
    ("pc", Layout::Pc),
    ("microvm", Layout::Microvm),
    ("virt", Layout::Virt),
];
const DEFAULT_MACHINE: &str = "pc";
/// A machine without anything, which management tools start to ask QEMU what it can.
const NO_MACHINE: &str = "none";

/// QEMU answers within some ms, unless another client holds the socket.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long that is tried where there is another way.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);
/// How long, and how often, a machine is told to run on that nobody else will.
const PERSISTENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(20);

/// Memory devices start at a multiple of this, above 4 GiB and all RAM.
const DEVICE_MEMORY_ALIGNMENT: u64 = 1 << 30;
const FOUR_GIB: u64 = 1 << 32;
/// A DIMM's own alignment: that of its memory.
const DIMM_ALIGNMENT: u64 = 2 << 20;
/// Arrangements of memory of equal sizes: those of five pieces.
const MOST_ARRANGEMENTS: usize = 120;
/// Below the first MiB RAM is hidden by firmware and video memory, and is RAM all the same.
const HIDDEN: u64 = 1 << 20;

#[derive(Debug)]
struct Qemu {
    process: HostProcess,
    /// Its program's name.
    program: String,
    line: CommandLine,
    socket: Option<PathBuf>,
    /// Whether the socket is all that was given, and so must answer.
    by_socket: bool,
}

/// The VM that `process` runs, if it is QEMU's.
pub fn recognize(process: HostProcess) -> Option<Arc<dyn Vm>> {
    Qemu::new(process).map(|qemu| Arc::new(qemu) as Arc<dyn Vm>)
}

/// The VM that answers at the socket `path`; where another client holds that, the VM that was told
/// to answer there.
pub fn at_socket(path: &Path) -> Result<Arc<dyn Vm>, VmError> {
    let told_to = told_to_answer(path, HostProcess::all(Path::new(PROC)));
    let patience = if told_to.is_some() { SHORT_PATIENCE } else { PATIENCE };
    match (Qmp::connect(path, patience), told_to) {
        (Ok(qmp), _) => answering(path, qmp.pid),
        (Err(error @ VmError::NoAnswer { .. }), told_to) => {
            // Who listens there is the kernel's word, where the socket still takes connections.
            let listens = qmp::listener(path, SHORT_PATIENCE).ok();
            let is_it = |qemu: &Qemu| listens.is_none_or(|pid| pid == qemu.process.pid);
            let qemu = told_to.filter(is_it).ok_or(error)?;
            log::debug!("{} is silent; taking process {}", path.display(), qemu.process.pid);
            Ok(Arc::new(qemu))
        }
        (Err(error), _) => Err(error),
    }
}

/// The only one of `processes` whose command line says that it answers at `path`: anybody may say
/// so, and of two it is not known who does.
fn told_to_answer(path: &Path, processes: Vec<HostProcess>) -> Option<Qemu> {
    let path = path.canonicalize().ok()?;
    let is_it = |socket: &PathBuf| socket.canonicalize().is_ok_and(|socket| socket == path);
    let all = processes.into_iter().filter_map(Qemu::new);
    let mut these = all.filter(|qemu| qemu.socket.as_ref().is_some_and(is_it));
    these.next().filter(|_| these.next().is_none())
}

/// The VM of the process `pid`, which answered at `path`.
fn answering(path: &Path, pid: i32) -> Result<Arc<dyn Vm>, VmError> {
    let process = HostProcess::open(Path::new(PROC), pid);
    let process = process.map_err(|_| VmError::NoProcess(pid))?;
    let name = process.name().escape_default().to_string();
    let qemu = Qemu::new(process).ok_or(VmError::NotAVm { pid, name })?;
    Ok(Arc::new(Qemu { socket: Some(path.to_owned()), by_socket: true, ..qemu }))
}

impl Qemu {
    fn new(process: HostProcess) -> Option<Self> {
        let words = process.command_line().ok()?;
        let program = Path::new(words.first()?).file_name()?.to_str()?;
        let system = PROGRAMS.iter().any(|name| match name.strip_suffix('-') {
            Some(_) => program.starts_with(name),
            None => program == *name,
        });
        let line = CommandLine::parse(&words);
        let named = line.socket().map(PathBuf::from);
        let socket = named.map(|path| process.path(&path));
        let program = program.to_owned();
        let new = Self { process, program, line, socket, by_socket: false };
        (system && new.machine() != NO_MACHINE).then_some(new)
    }

    /// The layout of the machine, where its type is known.
    fn layout(&self) -> Option<Layout> {
        let machine = self.machine();
        let known = MACHINES.iter().find(|(start, _)| machine.starts_with(start));
        known.map(|(_, layout)| layout.clone())
    }

    /// A connection to it. The path may be another's by now, whose word on this process counts
    /// nothing.
    fn connect(&self, socket: &Path, patience: Duration) -> Result<Qmp, VmError> {
        let qmp = Qmp::connect(socket, patience)?;
        let own = qmp.pid == self.process.pid && self.process.still_runs();
        let other = || qmp.confused(&format!("process {} answers there", qmp.pid));
        if own { Ok(qmp) } else { Err(other()) }
    }

    /// Its version, and whether it uses KVM, as far as it tells.
    fn facts(&self) -> (Option<String>, Option<bool>) {
        let connect = |socket: &PathBuf| self.connect(socket, SHORT_PATIENCE).ok();
        let Some(mut qmp) = self.socket.as_ref().and_then(connect) else { return (None, None) };
        (qmp.version().ok(), qmp.uses_kvm().ok())
    }

    /// As QEMU itself tells.
    fn told(&self, mut qmp: Qmp) -> Result<VmRam, VmError> {
        let mut pieces: Vec<Piece> = Vec::new();
        for range in mtree::ram(&qmp.human("info mtree -f")?) {
            let answer = qmp.human(&format!("gpa2hva {:#x}", range.start))?;
            let Some(address) = address(&answer) else { continue };
            add(&mut pieces, piece(range, address));
        }
        let mappings = mappings(&self.process)?;
        let mut placing = Placing::new(&self.process, &mappings);
        let regions = placing.place(&pieces)?;
        let candidates = vec![(Layout::Regions(regions.clone()), regions)];
        Ok(VmRam { sources: placing.sources, candidates })
    }

    /// As its command line and its memory map have it.
    fn inferred(&self) -> Result<VmRam, VmError> {
        let mappings = mappings(&self.process)?;
        let (ram, dimms) = (self.line.backends(), self.line.dimms());
        let all: Vec<_> = ram.iter().chain(dimms.iter().map(|dimm| &dimm.backend)).collect();
        let (runs, mut fitting) = (Runs::of(&mappings), Vec::new());
        for backend in &all {
            fitting.push(self.fitting(backend, &runs)?);
        }
        let layouts = self.layout().map_or_else(|| Layout::tried().collect(), |only| vec![only]);
        let mut placing = Placing::new(&self.process, &mappings);
        let mut candidates = Vec::new();
        for layout in layouts {
            let bad = |source| VmError::BadRegions { pid: self.process.pid, source };
            let layout = layout.below_4g(self.line.ram(), self.line.max_below_4g()).map_err(bad)?;
            let flat = layout.regions(self.line.ram()).map_err(bad)?;
            for addresses in arrangements(&fitting).ok_or_else(|| self.too_many(all.len()))? {
                let (of_ram, of_dimms) = addresses.split_at(ram.len());
                let mut pieces = spread(&flat, &ram, of_ram);
                pieces.extend(placed(&dimms, &flat, of_dimms));
                candidates.push((layout.clone(), placing.place(&pieces)?));
            }
        }
        Ok(VmRam { sources: placing.sources, candidates })
    }

    /// The addresses at which `backend` may lie. QEMU makes what it is asked for one by one, and
    /// the kernel places each below the one before: so the highest is the likeliest.
    fn fitting(&self, backend: &Backend, runs: &Runs) -> Result<Vec<u64>, VmError> {
        let starts = (0..runs.mappings.len()).rev();
        let of_size = starts.filter(|start| runs.has_length(*start, backend.size));
        let is_meant = self.meant(&backend.kind);
        let (meant, others): (Vec<_>, Vec<_>) =
            of_size.map(|start| &runs.mappings[start]).partition(|mapping| is_meant(mapping));
        let fitting = if meant.is_empty() { others } else { meant };
        let addresses: Vec<_> = fitting.iter().map(|mapping| mapping.addresses.start).collect();
        let (pid, mib) = (self.process.pid, backend.size >> 20);
        if addresses.is_empty() { Err(VmError::RamNotFound { pid, mib }) } else { Ok(addresses) }
    }

    /// Whether a mapping is what `kind` asks for.
    fn meant(&self, kind: &BackendKind) -> Box<dyn Fn(&Mapping) -> bool> {
        match kind {
            BackendKind::Ram => Box::new(Mapping::is_anonymous),
            BackendKind::Memfd => Box::new(|mapping| mapping.name.starts_with("/memfd:")),
            BackendKind::File(path) => {
                let path = std::fs::canonicalize(self.process.path(Path::new(path)));
                Box::new(move |mapping| {
                    path.as_ref().is_ok_and(|path| Path::new(&mapping.name).starts_with(path))
                })
            }
        }
    }

    fn too_many(&self, pieces: usize) -> VmError {
        VmError::TooManyWays { pid: self.process.pid, pieces }
    }
}

impl Stopped for Qmp {
    fn start(&mut self) -> Result<(), VmError> {
        self.order("cont", PATIENCE)
    }
}

/// Lets the machine that answers at `socket` run on, if it stands still. Tried again for as long as
/// other clients may hold the socket: nobody else will.
pub fn resume(socket: &Path) -> Result<(), VmError> {
    let started = Instant::now();
    loop {
        let done = Qmp::connect(socket, PATIENCE).and_then(|mut qmp| match qmp.runs()? {
            true => Ok(()),
            false => qmp.start(),
        });
        // Where nothing listens any more, the VM has ended.
        let again = matches!(done, Err(VmError::NoAnswer { .. }));
        if !again || started.elapsed() > PERSISTENCE {
            return done;
        }
        sleep(PAUSE);
    }
}

impl Vm for Qemu {
    fn process(&self) -> &HostProcess {
        &self.process
    }

    fn name(&self) -> String {
        self.line.name().map_or_else(|| self.process.name(), str::to_owned)
    }

    fn machine(&self) -> String {
        self.line.machine().unwrap_or(DEFAULT_MACHINE).to_owned()
    }

    fn ram_bytes(&self) -> u64 {
        let dimms = self.line.dimms().into_iter().map(|dimm| dimm.backend.size);
        dimms.fold(self.line.ram(), u64::saturating_add)
    }

    fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    fn vmm(&self) -> VmmFacts {
        let (version, kvm) = self.facts();
        let kvm = kvm.or_else(|| self.process.uses_kvm());
        let accelerator = kvm.map(|kvm| if kvm { "kvm" } else { "tcg" }.to_owned());
        let name: String = self.program.chars().take(LONGEST_NAME).collect();
        VmmFacts { name: Some(name.escape_default().to_string()), version, accelerator }
    }

    fn stop(&self) -> Result<Option<Box<dyn Stopped>>, VmError> {
        let socket = self.socket.as_ref().ok_or(VmError::NoSocket(self.process.pid))?;
        let mut qmp = self.connect(socket, PATIENCE)?;
        if !qmp.runs()? {
            return Ok(None);
        }
        qmp.order("stop", PATIENCE)?;
        Ok(Some(Box::new(qmp)))
    }

    fn ram(&self) -> Result<VmRam, VmError> {
        let Some(socket) = &self.socket else { return self.inferred() };
        if self.by_socket {
            return self.told(self.connect(socket, PATIENCE)?);
        }
        match self.connect(socket, SHORT_PATIENCE).and_then(|qmp| self.told(qmp)) {
            Err(
                error @ (VmError::Socket { .. } | VmError::NoAnswer { .. } | VmError::NotHere(_)),
            ) => {
                log::debug!("{error}; looking at its command line instead");
                self.inferred()
            }
            told => told,
        }
    }
}

/// Where the guest has the memory devices that lie at `addresses` (`hw/i386/pc.c`,
/// `hw/mem/memory-device.c`).
fn placed(dimms: &[Dimm], ram: &RegionMap, addresses: &[u64]) -> Vec<Piece> {
    let end = ram.iter().map(|region| region.end().0).max().unwrap_or(0);
    let above = end.max(FOUR_GIB).checked_next_multiple_of(DEVICE_MEMORY_ALIGNMENT);
    let mut next = above.unwrap_or(u64::MAX);
    let place = |(dimm, address): (&Dimm, &u64)| {
        let aligned = next.checked_next_multiple_of(DIMM_ALIGNMENT).unwrap_or(u64::MAX);
        let start = dimm.address.unwrap_or(aligned);
        let end = start.saturating_add(dimm.backend.size);
        next = next.max(end);
        piece(start..end, *address)
    };
    dimms.iter().zip(addresses).map(place).collect()
}

/// Mappings, and which of them are data that goes on from one to the next: the kernel keeps apart
/// what was one at first.
struct Runs<'m> {
    mappings: &'m [Mapping],
    /// The run of each that is data.
    numbers: Vec<Option<usize>>,
}

impl<'m> Runs<'m> {
    fn of(mappings: &'m [Mapping]) -> Self {
        let number = |number: &mut usize, index: usize| {
            let mapping = &mappings[index];
            let goes_on = index > 0 && mappings[index - 1].goes_on_in(mapping);
            *number += usize::from(!goes_on);
            let ours = mapping.data && (mapping.has_file() || mapping.is_anonymous());
            Some(ours.then_some(*number))
        };
        Self { mappings, numbers: (0..mappings.len()).scan(0, number).collect() }
    }

    /// Whether the mapping `start`, with others that follow in its run, is `length` bytes.
    fn has_length(&self, start: usize, length: u64) -> bool {
        let end = self.mappings[start].addresses.start.checked_add(length);
        let by_end = |end| self.mappings.binary_search_by_key(&end, |last| last.addresses.end);
        let last = end.and_then(|end| by_end(end).ok()).filter(|last| *last >= start);
        last.is_some_and(|last| {
            self.numbers[start].is_some() && self.numbers[start] == self.numbers[last]
        })
    }
}

/// The address in an answer to `gpa2hva`.
fn address(answer: &str) -> Option<u64> {
    let (_, address) = answer.trim().rsplit_once(" is 0x")?;
    u64::from_str_radix(address, 16).ok()
}

/// Adds `next` to `pieces`, as one with the last where it goes on there: next to it, or behind
/// what hides RAM below the first MiB.
fn add(pieces: &mut Vec<Piece>, next: Piece) {
    if let Some(last) = pieces.last_mut() {
        let gap = next.gpa.0.checked_sub(last.gpa.0);
        let skipped = next.address.checked_sub(last.address);
        let hidden = next.gpa.0 <= HIDDEN || gap == Some(last.length);
        let length = gap.and_then(|gap| gap.checked_add(next.length));
        if let Some(length) = length.filter(|_| gap == skipped && hidden) {
            last.length = length;
            return;
        }
    }
    pieces.push(next);
}

/// Every way to give each of `fitting` one of its addresses, none to two; the likeliest first.
/// `None` where there are too many.
fn arrangements(fitting: &[Vec<u64>]) -> Option<Vec<Vec<u64>>> {
    let mut all = vec![Vec::new()];
    for addresses in fitting {
        let further = |taken: &Vec<u64>| {
            let free = addresses.iter().filter(|address| !taken.contains(address));
            free.map(|address| [&taken[..], &[*address]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(further).take(MOST_ARRANGEMENTS + 1).collect();
        if all.len() > MOST_ARRANGEMENTS {
            return None;
        }
    }
    Some(all)
}

/// The pieces of RAM laid out as `flat`, if `backends`, which lie at `addresses`, follow one
/// another in it.
fn spread(flat: &RegionMap, backends: &[Backend], addresses: &[u64]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for region in flat.iter() {
        let mut start = 0;
        for (backend, address) in backends.iter().zip(addresses) {
            let from = region.offset.max(start);
            let to = (region.offset + region.length).min(start.saturating_add(backend.size));
            if from < to {
                let gpa = Gpa(region.gpa.0 + (from - region.offset));
                pieces.push(Piece { gpa, length: to - from, address: address + (from - start) });
            }
            start = start.saturating_add(backend.size);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(size: u64) -> Backend {
        Backend { size, kind: BackendKind::Ram }
    }

    #[test]
    fn nodes_are_spread_over_the_hole() {
        let flat = Layout::Q35.regions(3 << 30).unwrap();
        let (one, two) = (0x10_0000_0000, 0x20_0000_0000);
        let pieces = spread(&flat, &[backend(1 << 30), backend(2 << 30)], &[one, two]);
        let expected =
            [(0, 1 << 30, one), (1 << 30, 1 << 30, two), (1 << 32, 1 << 30, two + (1 << 30))];
        let plain = |piece: &Piece| (piece.gpa.0, piece.length, piece.address);
        assert_eq!(pieces.iter().map(plain).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn pieces_that_go_on_in_each_other_are_one() {
        let maps = "1000-3000 rw-p 00000000 00:00 0\n3000-4000 rw-p 00000000 00:00 0\n\
                    4000-5000 rwxp 00000000 00:00 0\n6000-7000 rw-s 00001000 00:01 7 /memfd:a\n\
                    7000-8000 rw-s 00002000 00:01 7 /memfd:a\n8000-9000 rw-s 0000 00:01 7 /memfd:a";
        let mappings = Mapping::all(maps);
        let runs = Runs::of(&mappings);
        let fits = |index: usize, length| runs.has_length(index, length);
        assert!(fits(0, 0x2000) && fits(0, 0x3000) && fits(1, 0x1000) && fits(3, 0x2000));
        assert!(!fits(0, 0x4000) && !fits(2, 0x1000) && !fits(3, 0x3000) && !fits(0, 0x2800));
        assert!(!fits(1, 0) && !fits(1, u64::MAX));
    }

    #[test]
    fn many_mappings_take_no_time() {
        let line = |index: u64| {
            let start = index << 12;
            format!("{start:x}-{:x} rw-p 00000000 00:00 0\n", start + 0x1000)
        };
        let mappings = Mapping::all(&(1..60_000).map(line).collect::<String>());
        let started = std::time::Instant::now();
        let runs = Runs::of(&mappings);
        let fits = (0..mappings.len()).filter(|start| runs.has_length(*start, 30_000 << 12));
        assert_eq!(fits.count(), 30_000);
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_silent_socket_is_that_of_the_only_vm_told_to_answer_there() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        std::fs::write(&socket, "").unwrap();
        let add = |pid: i32| {
            let process = folder.path().join(pid.to_string());
            std::fs::create_dir(&process).unwrap();
            let stat = format!("{pid} (qemu) S 1 {} 4711 0", "0 ".repeat(17));
            std::fs::write(process.join("stat"), stat).unwrap();
            let line = format!("qemu-system-x86_64\0-qmp\0unix:{},server\0", socket.display());
            std::fs::write(process.join("cmdline"), line).unwrap();
        };
        let found = |path: &Path| {
            let qemu = told_to_answer(path, HostProcess::all(folder.path()));
            qemu.map(|qemu| qemu.process.pid)
        };
        assert_eq!(found(&socket), None);
        add(7);
        assert_eq!((found(&socket), found(folder.path())), (Some(7), None));
        add(8);
        assert_eq!(found(&socket), None);
    }

    #[test]
    fn each_has_an_address_of_its_own() {
        let ways = arrangements(&[vec![3, 2, 1], vec![3, 2, 1]]).unwrap();
        assert_eq!(ways, [[3, 2], [3, 1], [2, 3], [2, 1], [1, 3], [1, 2]]);
        assert_eq!(arrangements(&[vec![1], vec![1]]), Some(vec![]));
        let equal: Vec<u64> = (0..6).collect();
        assert_eq!(arrangements(&vec![equal; 6]), None);
    }

    #[test]
    fn what_hides_ram_does_not_divide_it() {
        let mut pieces = Vec::new();
        add(&mut pieces, piece(0..0xa_0000, 0x7000_0000));
        add(&mut pieces, piece(0x10_0000..0x8000_0000, 0x7010_0000));
        add(&mut pieces, piece(1 << 32..0x1_4000_0000, 0xf000_0000));
        let whole = piece(0..0x8000_0000, 0x7000_0000);
        assert_eq!(pieces, [whole, piece(1 << 32..0x1_4000_0000, 0xf000_0000)]);
    }

    #[test]
    fn ranges_in_no_order_stay_what_they_are() {
        let (above, below) = (piece(0x1000..0x2000, 0x7000_1000), piece(0..0x1000, 0x7000_0000));
        let mut pieces = Vec::new();
        add(&mut pieces, above);
        add(&mut pieces, below);
        assert_eq!(pieces, [above, below]);
    }

    #[test]
    fn answers_of_gpa2hva() {
        let told = "Host virtual address for 0x0 (pc.ram) is 0x7f9e63e00000\r\n";
        assert_eq!(address(told), Some(0x7f9e_63e0_0000));
        assert_eq!(address("No memory is mapped at address 0x100000000"), None);
    }
}
