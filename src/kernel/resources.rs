//! The kernel's resource tree: what it believes to be RAM, as /proc/iomem shows it.

use super::{Kernel, KernelError, field};
use crate::address::{Gpa, Gva};
use crate::arch::VirtualMemory;
use crate::memory::GuestMemory;
use std::ops::RangeInclusive;

/// How many resources are looked at; a machine has some hundred.
const LIMIT: usize = 4096;
const SYSTEM_RAM: &[u8] = b"System RAM";

/// The ranges that the kernel calls "System RAM", in its order, which is ascending.
pub fn system_ram(
    kernel: &Kernel,
    memory: &dyn GuestMemory,
) -> Result<Vec<RangeInclusive<Gpa>>, KernelError> {
    let view = VirtualMemory { memory, space: kernel.space() };
    let layout = &kernel.layouts.resource;
    let root = kernel.symbol("iomem_resource")?;
    let mut next = Gva(view.read_u64(field(root, layout.child)?)?);
    let mut ram = Vec::new();
    for _ in 0..LIMIT {
        if next.0 == 0 {
            break;
        }
        let name = Gva(view.read_u64(field(next, layout.name)?)?);
        if name.0 != 0 && view.read_string(name, SYSTEM_RAM.len() + 1)? == SYSTEM_RAM {
            let start = Gpa(view.read_u64(field(next, layout.start)?)?);
            let end = Gpa(view.read_u64(field(next, layout.end)?)?);
            ram.push(start..=end);
        }
        next = Gva(view.read_u64(field(next, layout.sibling)?)?);
    }
    Ok(ram)
}
