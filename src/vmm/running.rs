//! The VMs that run on this host, whatever their VMM.
//!
//! A VMM is one file that says how it is recognized, and one line in [`VMMS`].

use super::host::{HostProcess, Mapping, PROC};
use super::{Layout, qemu};
use crate::address::Gpa;
use crate::memory::{Access, MemoryError, RamSource, Region, RegionMap};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Gives the VM that a process runs, where its VMM is the one known there.
type Recognize = fn(HostProcess) -> Option<Arc<dyn Vm>>;
/// One for each VMM.
const VMMS: [Recognize; 1] = [qemu::recognize];

/// A VM that runs on this host.
pub trait Vm: fmt::Debug + Send + Sync {
    /// Its VMM's process.
    fn process(&self) -> &HostProcess;

    /// What its VMM was told to call it, else its process's name.
    fn name(&self) -> String;

    /// What machine it is, as its VMM calls it.
    fn machine(&self) -> String;

    /// Bytes of RAM that it was given.
    fn ram_bytes(&self) -> u64;

    /// The socket at which its VMM answers.
    fn socket(&self) -> Option<&Path>;

    /// Where its RAM lies.
    fn ram(&self) -> Result<VmRam, VmError>;
}

impl fmt::Display for dyn Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, mib) = (self.process().pid, self.ram_bytes() >> 20);
        // What stands on a command line may hold what a terminal obeys.
        write!(f, "{pid} ({}, {mib} MiB)", self.name().escape_default())
    }
}

/// How `--qemu` names a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmTarget {
    /// By its process id.
    Pid(i32),
    /// By the socket at which its VMM answers.
    Socket(PathBuf),
}

/// Where the RAM of a running VM cannot be had from.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// There is no such process.
    #[error("there is no process {0}; 'vmfi guests' lists the VMs of this host")]
    NoProcess(i32),
    /// It is something else.
    #[error(
        "process {pid} ({name}) is no VM: not a qemu-system-... with RAM; 'vmfi guests' lists the VMs of this host"
    )]
    NotAVm {
        /// Its process id.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// It may not be looked at.
    #[error(
        "VM {pid}: cannot look into its process: {source}; run as the user who runs the VM, or as root"
    )]
    NotPermitted {
        /// Its process id.
        pid: i32,
        /// What the system says.
        source: io::Error,
    },
    /// It runs no more.
    #[error("the VM of process {0} has ended; nothing was written")]
    Ended(i32),
    /// Nothing in its memory is the RAM that it was given.
    #[error(
        "VM {pid}: no memory of {mib} MiB that could be its RAM; give --qemu its QMP socket, or -m the file that it maps"
    )]
    RamNotFound {
        /// Its process id.
        pid: i32,
        /// How much was looked for.
        mib: u64,
    },
    /// Nobody can tell which is which.
    #[error(
        "VM {pid}: its RAM is {pieces} pieces of equal size, which only QEMU can tell apart: give --qemu its QMP socket"
    )]
    TooManyWays {
        /// Its process id.
        pid: i32,
        /// How many.
        pieces: usize,
    },
    /// What it tells of its RAM cannot be.
    #[error("VM {pid}: what it tells of its RAM cannot be: {source}")]
    BadRegions {
        /// Its process id.
        pid: i32,
        /// What is wrong.
        source: MemoryError,
    },
    /// The socket cannot be reached.
    #[error(
        "cannot connect to the QMP socket {path}: {source}; give --qemu the path that QEMU's -qmp names, or its process id"
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error(
        "no answer from the QMP socket {path}: {why}; another client may hold it (libvirt does), or QEMU is stopped: give --qemu QEMU's process id"
    )]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        why: String,
    },
    /// Several VMs run.
    #[error("{} VMs run here, give --qemu one of these process ids, or -m: {}", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    /// None runs.
    #[error("no VM runs here")]
    None,
}

/// Where RAM lies, as far as its VMM tells: what is left open, the guest decides.
pub struct VmRam {
    /// What it lies in.
    pub sources: Vec<VmSource>,
    /// How it may be laid out, the likeliest first.
    pub candidates: Vec<(Layout, RegionMap)>,
}

/// What a part of a VM's RAM lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSource {
    /// A file that the VMM shares.
    File {
        /// Where it opens.
        path: PathBuf,
        /// What it was called when the VMM opened it.
        name: String,
    },
    /// The VMM's own memory.
    Process(i32),
    /// The same over a file, of which the VMM has its own copy.
    ProcessOver {
        /// The VMM.
        pid: i32,
        /// The file.
        file: PathBuf,
        /// The address at which its first byte would be.
        start: u64,
    },
}

impl VmSource {
    /// Opens it.
    pub fn open(&self, access: Access) -> Result<RamSource, MemoryError> {
        match self {
            Self::File { path, .. } => RamSource::open(path, access),
            Self::Process(pid) => RamSource::of_process(*pid, access),
            Self::ProcessOver { pid, file, start } => {
                RamSource::of_process_over(*pid, access, file, *start)
            }
        }
    }

    /// Whether it can be mapped here too, and so is written atomically.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// What `mapping` of `process` lies in, and the offset there of its first byte.
    fn of(process: &HostProcess, mapping: &Mapping) -> (Self, u64) {
        let (pid, start) = (process.pid, mapping.addresses.start);
        let file = mapping.has_file().then(|| process.file_behind(mapping)).flatten();
        match (file, mapping.shared) {
            (Some(path), true) => (Self::File { path, name: mapping.name.clone() }, mapping.offset),
            (Some(file), false) => {
                let first = start.wrapping_sub(mapping.offset);
                (Self::ProcessOver { pid, file, start: first }, start)
            }
            (None, _) => (Self::Process(pid), start),
        }
    }
}

impl fmt::Display for VmSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, .. } if name.starts_with("/memfd:") => f.write_str("memfd"),
            Self::File { name, .. } => write!(f, "file {}", name.escape_default()),
            Self::Process(_) => f.write_str("private"),
            Self::ProcessOver { file, .. } => {
                write!(f, "private, over file {}", file.display().to_string().escape_default())
            }
        }
    }
}

/// A run of a VMM's addresses that are RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the guest has it.
    pub gpa: Gpa,
    /// Bytes.
    pub length: u64,
    /// Where the VMM has it.
    pub address: u64,
}

/// Finds what `pieces` of a VMM's memory lie in.
pub struct Placing<'p> {
    process: &'p HostProcess,
    mappings: &'p [Mapping],
    /// What was found.
    pub sources: Vec<VmSource>,
}

impl<'p> Placing<'p> {
    /// In `mappings` of `process`.
    pub fn new(process: &'p HostProcess, mappings: &'p [Mapping]) -> Self {
        Self { process, mappings, sources: Vec::new() }
    }

    /// The regions that `pieces` are.
    pub fn place(&mut self, pieces: &[Piece]) -> Result<RegionMap, VmError> {
        let mut regions = Vec::new();
        for piece in pieces {
            let mut done = 0;
            while done < piece.length {
                let region = self.region(piece, done)?;
                done += region.length;
                regions.push(region);
            }
        }
        let pid = self.process.pid;
        RegionMap::new(regions).map_err(|source| VmError::BadRegions { pid, source })
    }

    /// As much of `piece` from `done` bytes on as lies in one mapping.
    fn region(&mut self, piece: &Piece, done: u64) -> Result<Region, VmError> {
        let address = piece.address.saturating_add(done);
        let holds = |mapping: &&Mapping| mapping.addresses.contains(&address);
        let gone = || VmError::RamNotFound { pid: self.process.pid, mib: piece.length >> 20 };
        let mapping = self.mappings.iter().find(holds).ok_or_else(gone)?;
        let into = address - mapping.addresses.start;
        let length = (piece.length - done).min(mapping.length() - into);
        let (source, offset) = VmSource::of(self.process, mapping);
        let source = self.number_of(source);
        Ok(Region { gpa: Gpa(piece.gpa.0 + done), length, source, offset: offset + into })
    }

    fn number_of(&mut self, source: VmSource) -> usize {
        let known = self.sources.iter().position(|other| *other == source);
        known.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        })
    }
}

/// Every VM whose process is in the folder `proc`.
pub fn running_in(proc: &Path) -> Vec<Arc<dyn Vm>> {
    HostProcess::all(proc).into_iter().filter_map(recognize).collect()
}

/// Every VM of this host.
pub fn running() -> Vec<Arc<dyn Vm>> {
    running_in(Path::new(PROC))
}

fn recognize(process: HostProcess) -> Option<Arc<dyn Vm>> {
    VMMS.iter().find_map(|vmm| vmm(process.clone()))
}

/// The VM that `target` names.
pub fn find(target: &VmTarget) -> Result<Arc<dyn Vm>, VmError> {
    match target {
        VmTarget::Pid(pid) => {
            let process = HostProcess::open(Path::new(PROC), *pid);
            let process = process.map_err(|_| VmError::NoProcess(*pid))?;
            let name = process.name().escape_default().to_string();
            recognize(process).ok_or(VmError::NotAVm { pid: *pid, name })
        }
        VmTarget::Socket(path) => qemu::at_socket(path),
    }
}

/// The only VM of this host. One that may not be looked into counts only where there is no other.
pub fn only() -> Result<Arc<dyn Vm>, VmError> {
    let all = running();
    let usable = |vm: &&Arc<dyn Vm>| vm.process().mappings().is_ok();
    let usable: Vec<_> = all.iter().filter(usable).cloned().collect();
    let mut left = if usable.is_empty() { all } else { usable };
    match left.len() {
        0 => Err(VmError::None),
        1 => Ok(left.remove(0)),
        _ => Err(VmError::Several(left.iter().map(ToString::to_string).collect())),
    }
}

/// The mappings of a VMM.
pub fn mappings(process: &HostProcess) -> Result<Vec<Mapping>, VmError> {
    process.mappings().map_err(|source| match process.still_runs() {
        true => VmError::NotPermitted { pid: process.pid, source },
        false => VmError::Ended(process.pid),
    })
}

/// `range` of guest-physical addresses at `address` of the VMM.
pub fn piece(range: Range<u64>, address: u64) -> Piece {
    Piece { gpa: Gpa(range.start), length: range.end - range.start, address }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A /proc with a process of each command line, numbered from 1 on.
    fn host(command_lines: &[&str]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::write(proc.path().join("uptime"), "1 1").unwrap();
        for (pid, line) in (1..).zip(command_lines) {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            let stat = format!("{pid} (a ) name) S 1 {} 4711 0", "0 ".repeat(17));
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(folder.join("comm"), "qemu\n").unwrap();
            fs::write(folder.join("cmdline"), line.replace(' ', "\0") + "\0").unwrap();
        }
        proc
    }

    #[test]
    fn vms_are_told_from_whatever_else_runs() {
        let proc = host(&[
            "/sbin/init",
            "/usr/bin/qemu-system-x86_64 -name one -m 1G",
            "qemu-system-x86_64 -machine none -qmp stdio",
            "qemu-img convert qemu-system-x86_64",
            "qemu-x86_64 program",
            "sh -c qemu-system-x86_64",
            "",
            "/usr/libexec/qemu-kvm -M q35 -m 512",
        ]);
        let all = running_in(proc.path());
        let shown: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["2 (one, 1024 MiB)", "8 (qemu, 512 MiB)"]);
        assert_eq!((all[0].machine(), all[1].machine()), ("pc".to_owned(), "q35".to_owned()));
        assert!(running_in(&proc.path().join("none")).is_empty());
        fs::remove_dir_all(proc.path().join("2")).unwrap();
        assert!(!all[0].process().still_runs() && all[1].process().still_runs());
    }

    #[test]
    fn pieces_are_placed_mapping_by_mapping() {
        let own = HostProcess::open(Path::new(PROC), std::process::id() as i32).unwrap();
        let maps = "1000-3000 rw-p 00000000 00:00 0\n3000-9000 rw-p 00000000 00:00 0";
        let mappings = Mapping::all(maps);
        let mut placing = Placing::new(&own, &mappings);
        let regions = placing.place(&[piece(0x10_0000..0x10_4000, 0x2000)]).unwrap();
        assert_eq!(regions.to_string(), "0x100000:0x1000@0x2000,0x101000:0x3000@0x3000");
        assert_eq!(placing.sources, [VmSource::Process(own.pid)]);
        let outside = placing.place(&[piece(0..0x2000, 0x8000)]);
        assert!(matches!(outside, Err(VmError::RamNotFound { .. })));
        let twice = placing.place(&[piece(0..0x1000, 0x4000), piece(0x8000..0x9000, 0x4000)]);
        assert!(matches!(twice, Err(VmError::BadRegions { .. })));
    }
}
