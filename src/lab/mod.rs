//! Throw-away guests under QEMU: an initramfs built in memory, RAM of any kind, a root shell on
//! the console. Whatever happens, nothing stays behind but what was asked for.

mod accel;
mod console;
mod guest;
mod initramfs;
mod instance;
mod machine;
mod snapshot;

pub use accel::Accel;
pub use guest::{Detached, LabGuest, Ram, Setup};
pub use initramfs::Initramfs;
pub use instance::{Instance, Status, end_left_behind};
pub use machine::{Machine, RAM};
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
    /// There is no QEMU.
    #[error("qemu-system-x86_64 is not in PATH; install Debian's qemu-system-x86")]
    NoQemu,
    /// QEMU has ended.
    #[error("QEMU ended: {0}")]
    Ended(String),
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
    /// VMFI_ACCEL is neither.
    #[error("VMFI_ACCEL is '{0}'; it must be kvm or tcg")]
    BadAccel(String),
}

/// Names what was tried when the system says no.
fn host(what: &'static str) -> impl Fn(std::io::Error) -> LabError {
    move |source| LabError::Host { what, source }
}
