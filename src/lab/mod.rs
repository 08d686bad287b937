//! Throw-away guests under QEMU: an initramfs built in memory, RAM of any kind, a root shell on
//! the console. Whatever happens, nothing stays behind but what was asked for.

mod accel;
mod console;
mod guest;
mod initramfs;
mod instance;
mod kit;
mod program;
mod recipe;
mod session;
mod snapshot;

pub use accel::Accel;
pub use guest::{Detached, LabGuest, Ram, Setup};
pub use initramfs::Initramfs;
pub use instance::{Instance, Status, end_left_behind};
pub use kit::{KernelImage, wrapper};
pub use program::{Program, ProgramError};
pub use recipe::{RAM, Recipe};
pub use session::{Event, Machine, Session};
pub use snapshot::Snapshot;

use crate::vmm::VmError;
use std::path::PathBuf;
use std::time::Duration;

/// A guest that could not be made, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file of the host is not there.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something on the host failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The program cannot be taken into a guest.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// What is to be added is no file and no folder.
    #[error("{0} is neither a file nor a folder, and cannot be taken into the guest")]
    NotAFile(PathBuf),
    /// The name of a file cannot be told to the guest.
    #[error("{} is not UTF-8, and cannot be taken into the guest", .0.display())]
    NotText(PathBuf),
    /// The guest's launcher is not there.
    #[error("no wrapper to start the program with: run 'make build'; looked for {}", list(.0))]
    NoWrapper(Vec<PathBuf>),
    /// There is no kernel to boot.
    #[error("no kernel to boot: give --kernel-image; looked for {}, and into /boot", list(.0))]
    NoKernel(Vec<PathBuf>),
    /// What is to be the kernel is something else.
    #[error(
        "{0} is no image of an x86-64 Linux kernel (vmlinuz, bzImage); give another --kernel-image"
    )]
    NotAKernel(PathBuf),
    /// The files do not fit.
    #[error(
        "{ram_mib} MiB of RAM are too little for a kernel and {files_mib} MiB of files: give it {least_mib}M or more"
    )]
    LittleRam {
        /// What there is.
        ram_mib: u64,
        /// What the files take.
        files_mib: u64,
        /// What is enough for a boot.
        least_mib: u64,
    },
    /// There is no busybox.
    #[error("cannot read /bin/busybox, which runs a guest; install Debian's busybox-static")]
    NoBusybox,
    /// There is no QEMU.
    #[error("{0} is not there, nor in PATH; install Debian's qemu-system-x86")]
    NoQemu(String),
    /// QEMU has ended.
    #[error("QEMU ended: {0}")]
    Ended(String),
    /// The guest's kernel has died.
    #[error("the guest's kernel has died: {0}")]
    Panic(String),
    /// The console did not say what was waited for.
    #[error("the guest did not print {what} within {} s; its last lines: {tail}", .limit.as_secs())]
    Silent {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The console's last lines.
        tail: String,
    },
    /// A command in the guest failed.
    #[error("'{command}' in the guest ended with status {status}: {output}")]
    Command {
        /// The command.
        command: String,
        /// Its exit status.
        status: i32,
        /// What it printed.
        output: String,
    },
    /// QEMU does not answer as it should.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// VMFI_ACCEL, or an option, is neither.
    #[error("'{0}' is no way to run a guest: it must be kvm or tcg")]
    BadAccel(String),
}

/// Names what was tried when the system says no.
fn host(what: &'static str) -> impl Fn(std::io::Error) -> LabError {
    move |source| LabError::Host { what, source }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
