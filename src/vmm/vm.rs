//! A VM that runs on this host, whatever its VMM.

use super::Layout;
use super::host::HostProcess;
use super::pause::Stopped;
use super::placing::VmSource;
use crate::memory::{MemoryError, RegionMap};
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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

    /// What its VMM is. Where that answers at a socket it is asked, so not while the VM is paused
    /// through that.
    fn vmm(&self) -> VmmFacts;

    /// Stops its processors; `None` where they stand still already.
    fn stop(&self) -> Result<Option<Box<dyn Stopped>>, VmError>;
}

impl fmt::Display for dyn Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, mib) = (self.process().pid, self.ram_bytes() >> 20);
        // What stands on a command line may hold what a terminal obeys.
        write!(f, "{pid} ({}, {mib} MiB)", self.name().escape_default())
    }
}

/// What a VMM is, as far as is known; fit for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VmmFacts {
    /// Its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version, as it tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What runs the guest's code: `kvm`, or `tcg`, which translates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
}

/// Where RAM lies, as far as its VMM tells: what is left open, the guest decides.
pub struct VmRam {
    /// What it lies in.
    pub sources: Vec<VmSource>,
    /// How it may be laid out, the likeliest first.
    pub candidates: Vec<(Layout, RegionMap)>,
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
    /// What is said to be its RAM is a file that it may only read.
    #[error(
        "VM {pid}: it may not write its memory at {address:#x}, so that is no RAM; nothing was opened: do not trust this VM's QMP socket"
    )]
    NotItsRam {
        /// Its process id.
        pid: i32,
        /// Where its memory is.
        address: u64,
    },
    /// It is in more pieces than are looked at.
    #[error(
        "VM {pid}: its memory is in more than {pieces} pieces, which no VM's is; give -m the file that it maps"
    )]
    Scattered {
        /// Its process id.
        pid: i32,
        /// How many are looked at.
        pieces: usize,
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
    /// Who answers there has no process id here.
    #[error(
        "the process behind the QMP socket {0} has no process id here: it runs outside of this PID namespace; run vmfi on the host itself, or in QEMU's own container"
    )]
    NotHere(PathBuf),
    /// Nobody can be asked to stop it.
    #[error(
        "VM {0} has no QMP socket by which it could be stopped: start QEMU with -qmp unix:PATH,server,nowait, or leave out --pause"
    )]
    NoSocket(i32),
    /// Nobody would start it again if we were killed.
    #[error("VM {pid} was not stopped: cannot start the guard that would let it run on: {source}")]
    NoGuard {
        /// Its process id.
        pid: i32,
        /// What the system says.
        source: io::Error,
    },
    /// It is not known which process is the VM.
    #[error(
        "--pause needs a VM that can be stopped, and none is known that has this RAM: give --qemu its QMP socket"
    )]
    NoneToPause,
    /// Several VMs run.
    #[error("{} VMs run here, give --qemu one of these process ids, or -m: {}", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    /// None runs.
    #[error("no VM runs here")]
    None,
}
