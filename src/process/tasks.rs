//! The task list, from `init_task` round.

use super::walk::{each_linked, each_thread, settled, word};
use super::{ProcessError, State};
use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::guest::Guest;
use crate::kernel::{KernelError, TaskLayout, field, sanitized};
use crate::types::Member;

/// A process: a thread group's leader. Threads are not listed.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its `struct task_struct`.
    pub at: Gva,
    /// Process id.
    pub pid: i32,
    /// The parent's process id; 0 for those that the kernel started.
    pub parent: i32,
    /// Its name, fit for a terminal.
    pub comm: String,
    /// What it does.
    pub state: State,
    /// When it started, in ns on a clock of the guest. With `pid` this tells a process
    /// from a later one of the same id.
    pub start_time: u64,
    /// How often it has called exec: the kernel soon gives the memory of the program before out
    /// again. 0 where that is not known.
    pub execs: u32,
    /// Its `struct mm_struct`; none for kernel threads and zombies. A leader that has ended before
    /// its other threads has theirs.
    pub mm: Option<Gva>,
}

impl Task {
    /// What changes whenever it runs another program.
    pub fn program(&self) -> (Option<Gva>, u32) {
        (self.mm, self.execs)
    }
}

/// Every process of the guest, in the list's order, which is that of their start.
pub fn tasks(guest: &Guest) -> Result<Vec<Task>, ProcessError> {
    Ok(settled(|| walk(guest))?)
}

/// Whether `task` still is the same process and runs the same program: an error where it ended,
/// or called exec, since it was read.
pub fn still_runs(guest: &Guest, task: &Task) -> Result<(), ProcessError> {
    let (view, layout) = (guest.kernel_memory(), &guest.kernel().layouts.task);
    let now = settled(|| read(&view, layout, task.at)).ok();
    let same = |now: &Task| now.pid == task.pid && now.start_time == task.start_time;
    match now.filter(same) {
        Some(now) if now.program() == task.program() => Ok(()),
        Some(now) if now.mm.is_some() => Err(ProcessError::Replaced(task.pid)),
        _ => Err(ProcessError::Ended(task.pid)),
    }
}

fn walk(guest: &Guest) -> Result<Vec<Task>, KernelError> {
    let view = guest.kernel_memory();
    let layout = &guest.kernel().layouts.task;
    let first = field(guest.kernel().symbol("init_task")?, layout.tasks)?;
    each_linked(&view, first, layout.tasks, "task list", |at| read(&view, layout, at))
}

fn read(view: &VirtualMemory, layout: &TaskLayout, at: Gva) -> Result<Task, KernelError> {
    let half = |offset| Ok::<_, KernelError>(view.read_u32(field(at, offset)?)?);
    let parent = Gva(word(view, at, layout.real_parent)?);
    let comm = view.read_string(field(at, layout.comm)?, layout.comm_size as usize)?;
    let state = State::new(half(layout.state)?, half(layout.exit_state)?);
    let mut mm = mm_of(view, layout, at)?;
    if mm.is_none() && state.zombie() {
        mm = threads_mm(view, layout, at)?;
    }
    Ok(Task {
        at,
        pid: half(layout.tgid)? as i32,
        // The parent may be a thread; its process is meant.
        parent: view.read_u32(field(parent, layout.tgid)?)? as i32,
        comm: sanitized(&comm),
        state,
        start_time: start_time(view, layout, at)?,
        execs: layout.execs.map_or(Ok(0), half)?,
        mm,
    })
}

fn mm_of(
    view: &VirtualMemory,
    layout: &TaskLayout,
    thread: Gva,
) -> Result<Option<Gva>, KernelError> {
    let mm = Gva(word(view, thread, layout.mm)?);
    Ok((mm.0 != 0).then_some(mm))
}

/// The memory of a process whose leader has ended: that of any thread that still has one.
fn threads_mm(
    view: &VirtualMemory,
    layout: &TaskLayout,
    leader: Gva,
) -> Result<Option<Gva>, KernelError> {
    let all = each_thread(view, layout, leader, |thread| mm_of(view, layout, thread))?;
    Ok(all.into_iter().flatten().next())
}

fn start_time(view: &VirtualMemory, layout: &TaskLayout, at: Gva) -> Result<u64, KernelError> {
    let Member { offset, size } = layout.start_time;
    let first = word(view, at, offset)?;
    if size == 8 {
        return Ok(first);
    }
    // Seconds, then nanoseconds.
    Ok(first.wrapping_mul(1_000_000_000).wrapping_add(word(view, at, offset.saturating_add(8))?))
}
