//! Running virtual machines: where a VMM puts the RAM of its guest.

mod host;
mod layout;
mod palacios;
mod pause;
mod placing;
mod qemu;
mod running;
mod vm;

pub use host::{
    HostProcess, available_memory as host_available_memory, cpu_model as host_cpu_model,
    uptime as host_uptime,
};
pub use layout::{Layout, RamLayout};
pub use palacios::{LIST as PALACIOS_LIST, PalaciosError, PalaciosRam};
pub use pause::{GUARD, Paused, Pauser, Stopped, guard};
pub use placing::VmSource;
pub use qemu::{Qmp, resume};
pub use running::{VmTarget, find, of_file, only, running};
pub use vm::{Vm, VmError, VmRam, VmmFacts};
