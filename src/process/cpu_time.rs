//! How much CPU time a process has used.

use super::tasks::{Task, still_runs};
use super::walk::{each_thread, settled, word};
use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::guest::Guest;
use crate::kernel::{CpuTimeLayout, KernelError, TaskLayout};
use std::time::Duration;

/// The CPU time that the process of `task` has used, in all its threads, with those that have ended.
/// Of one that runs just now, the kernel counts it with each tick, of 1 to 10 ms. `None` where the
/// layouts do not tell, or the process has ended.
pub fn cpu_time(guest: &Guest, task: &Task) -> Option<Duration> {
    let (view, layout) = (guest.kernel_memory(), &guest.kernel().layouts.task);
    let times = layout.cpu_time.as_ref()?;
    let used = settled(|| used(&view, layout, times, task.at));
    let used = used.inspect_err(|error| log::debug!("process {}: CPU time: {error}", task.pid));
    // What was read is a process's only if it was there until now.
    used.ok().filter(|_| still_runs(guest, task).is_ok()).map(Duration::from_nanos)
}

fn used(
    view: &VirtualMemory,
    layout: &TaskLayout,
    times: &CpuTimeLayout,
    leader: Gva,
) -> Result<u64, KernelError> {
    let signal = Gva(word(view, leader, times.signal)?);
    let of_ended = || word(view, signal, times.of_ended);
    let before = of_ended()?;
    let living = each_thread(view, layout, leader, |at| word(view, at, times.of_thread))?;
    // A thread that ends meanwhile may count twice, or not at all.
    if of_ended()? != before {
        return Err(KernelError::Damaged { what: "thread list", at: leader });
    }
    Ok(living.into_iter().fold(before, u64::wrapping_add))
}
