//! Walks along the kernel's lists.
//!
//! The guest changes a list while it is walked: each step checks the link back, and a walk that met
//! a change begins again.

use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::kernel::{KernelError, TaskLayout, ThreadsLayout, field};

/// How many links are followed: pid_max is at most 4 Mi, a list this long is a damaged one.
const LIMIT: usize = 4 << 20;
/// How often a look that met a change begins again.
const TRIES: usize = 20;

/// What `look` comes to when it meets no change.
pub fn settled<T>(look: impl Fn() -> Result<T, KernelError>) -> Result<T, KernelError> {
    (1..TRIES).find_map(|_| look().ok()).map_or_else(look, Ok)
}

/// What `visit` gives of each structure that is linked by its member `offset` bytes into it, in
/// the list `what` with its head at `first`.
pub fn each_linked<T>(
    view: &VirtualMemory,
    first: Gva,
    offset: u64,
    what: &'static str,
    visit: impl Fn(Gva) -> Result<T, KernelError>,
) -> Result<Vec<T>, KernelError> {
    let mut visited = Vec::new();
    let mut link = first;
    for _ in 0..LIMIT {
        let next = Gva(view.read_u64(link)?);
        // `struct list_head` is `next`, then `prev`.
        let back = Gva(view.read_u64(field(next, 8)?)?);
        if back != link {
            return Err(KernelError::Damaged { what, at: next });
        }
        if next == first {
            return Ok(visited);
        }
        let at = next.0.checked_sub(offset).map(Gva);
        visited.push(visit(at.ok_or(KernelError::Damaged { what, at: next })?)?);
        link = next;
    }
    Err(KernelError::Damaged { what, at: link })
}

/// What `visit` gives of each thread of the process that `leader` leads, itself among them.
pub fn each_thread<T>(
    view: &VirtualMemory,
    layout: &TaskLayout,
    leader: Gva,
    visit: impl Fn(Gva) -> Result<T, KernelError>,
) -> Result<Vec<T>, KernelError> {
    const WHAT: &str = "thread list";
    match layout.threads {
        ThreadsLayout::Listed { signal, head, node } => {
            let head = field(Gva(word(view, leader, signal)?), head)?;
            each_linked(view, head, node, WHAT, visit)
        }
        ThreadsLayout::Ring { group } => {
            let own = visit(leader)?;
            let mut all = each_linked(view, field(leader, group)?, group, WHAT, visit)?;
            all.push(own);
            Ok(all)
        }
    }
}

/// The word `offset` bytes into the structure at `at`.
pub fn word(view: &VirtualMemory, at: Gva, offset: u64) -> Result<u64, KernelError> {
    Ok(view.read_u64(field(at, offset)?)?)
}
