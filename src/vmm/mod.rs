//! Running virtual machines: where a VMM puts the RAM of its guest.

mod host;
mod layout;
mod palacios;
mod qemu;
mod running;

pub use host::HostProcess;
pub use layout::{Layout, RamLayout};
pub use palacios::{LIST as PALACIOS_LIST, PalaciosError, PalaciosRam};
pub use running::{Vm, VmError, VmRam, VmSource, VmTarget, find, only, running};
