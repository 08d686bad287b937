//! Who else maps a page: by the page tables of every process, whatever the reason, since what the
//! kernel keeps to find them differs with the kind of page and from kernel to kernel.

use crate::address::{Gpa, Gva};
use crate::arch::MappedPage;
use crate::process::{ProcessError, Task, tasks};
use crate::victim::VictimMemory;
use serde::Serialize;
use std::ops::ControlFlow;

/// Addresses from here on are the kernel's, in all page-table formats.
const PROGRAMS_END: Gva = Gva(1 << 56);

/// A process that maps a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sharer {
    /// Its process id.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

/// The processes other than `victim` that map the page at `gpa`, by their ids.
pub fn of(victim: &VictimMemory, gpa: Gpa) -> Result<Vec<Sharer>, ProcessError> {
    let all = tasks(victim.guest)?;
    let others = all.into_iter().filter(|task| task.mm != victim.task.mm);
    let sharing = others.filter(|task| maps(victim, task, gpa));
    Ok(sharing.map(|task| Sharer { pid: task.pid, comm: task.comm }).collect())
}

/// Whether `task` maps the page at `gpa`. One whose tables cannot be read is just ending.
fn maps(victim: &VictimMemory, task: &Task, gpa: Gpa) -> bool {
    let Ok(memory) = VictimMemory::open(victim.guest, task.clone()) else { return false };
    let mut found = false;
    memory.view().space.pages(victim.guest.memory(), Gva(0)..PROGRAMS_END, |page: MappedPage| {
        found = gpa.checked_sub(page.gpa).is_some_and(|into| into < page.size);
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}
