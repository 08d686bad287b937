//! The guest's processes: the task list, the wrappers and their children, memory maps.

mod cpu_time;
mod exe;
mod maps;
mod page_cache;
mod shown;
mod state;
mod tasks;
mod tree;
mod walk;

pub use cpu_time::cpu_time;
pub use exe::{executable, path_of, removed};
pub use maps::{Mapping, mapping, maps};
pub use page_cache::{CachedFile, cached_file};
pub use shown::{Inode, Shown, shown};
pub use state::State;
pub use tasks::{Task, still_runs, tasks};
pub use tree::ProcessTree;

use crate::kernel::KernelError;

/// No process fits what was asked for, or more than one.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The kernel's structures could not be followed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No process has this id.
    #[error(
        "no process {0} in the guest; 'vmfi list' shows the wrappers, 'vmfi list --all' every process"
    )]
    NoProcess(i32),
    /// The process is there, but under another name.
    #[error(
        "process {pid} is '{comm}', not '{wanted}'; give the wrapper's process id (vmfi's --direct takes the victim's own)"
    )]
    NotAWrapper {
        /// The id given.
        pid: i32,
        /// The process's name.
        comm: String,
        /// A wrapper's name.
        wanted: String,
    },
    /// The wrapper has no child.
    #[error("wrapper {0} has no child: the victim has ended, or has not started yet")]
    NoChild(i32),
    /// The wrapper tells nothing of itself.
    #[error(
        "wrapper {0} has no gate, or its memory does not show it: start this version's wrapper as 'wrapper --gate PROGRAM'"
    )]
    NoGate(i32),
    /// The wrapper's child is still a copy of the wrapper.
    #[error("process {0}, the wrapper's child, has not started its program yet; try again")]
    NotStarted(i32),
    /// Several of the wrapper's descendants could be meant.
    #[error("wrapper {pid} has {} descendants with that symbol: {}; choose one with --child PID", .children.len(), named(.children))]
    SeveralChildren {
        /// The wrapper.
        pid: i32,
        /// Their ids and names.
        children: Vec<(i32, String)>,
    },
    /// Nothing tells which of the wrapper's descendants is meant.
    #[error("wrapper {pid} has {} descendants: {}; choose one with --child PID", .children.len(), named(.children))]
    Which {
        /// The wrapper.
        pid: i32,
        /// Their ids and names.
        children: Vec<(i32, String)>,
    },
    /// The process given is no descendant of the wrapper.
    #[error("process {child} is no descendant of wrapper {pid}")]
    NotItsChild {
        /// The wrapper.
        pid: i32,
        /// What was given.
        child: i32,
    },
    /// It ended meanwhile.
    #[error("process {0} has ended meanwhile; nothing was written")]
    Ended(i32),
    /// It runs another program meanwhile.
    #[error("process {0} runs another program meanwhile; nothing was written, try again")]
    Replaced(i32),
    /// It has no memory any more, or never had.
    #[error("process {pid} ('{comm}') has no memory of its own: {why}")]
    NoMemory {
        /// The process.
        pid: i32,
        /// Its name.
        comm: String,
        /// What it is instead.
        why: &'static str,
    },
}

impl ProcessError {
    /// What has happened to it, where something was written before.
    pub fn happened(&self) -> String {
        match self {
            Self::Ended(pid) => format!("process {pid} has ended"),
            Self::Replaced(pid) => format!("process {pid} runs another program"),
            other => other.to_string(),
        }
    }
}

fn named(children: &[(i32, String)]) -> String {
    let named: Vec<_> = children.iter().map(|(pid, comm)| format!("{pid} ({comm})")).collect();
    named.join(", ")
}
