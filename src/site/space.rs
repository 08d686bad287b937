//! What a site is a place in.

use crate::arch::VirtualMemory;
use crate::guest::Guest;
use crate::process::{self, ProcessError};
use crate::victim::VictimMemory;

/// The memory of a victim, or of the guest's kernel itself.
#[derive(Clone, Copy)]
pub enum Space<'s> {
    /// A victim's.
    Victim(&'s VictimMemory<'s>),
    /// The kernel's.
    Kernel(&'s Guest),
}

impl<'s> Space<'s> {
    /// The guest that it is in.
    pub fn guest(self) -> &'s Guest {
        match self {
            Self::Victim(memory) => memory.guest,
            Self::Kernel(guest) => guest,
        }
    }

    /// What is seen in it at each address.
    pub fn view(self) -> VirtualMemory<'s> {
        match self {
            Self::Victim(memory) => *memory.view(),
            Self::Kernel(guest) => guest.kernel_memory(),
        }
    }

    /// The victim's process id; the kernel is 0, as its first task is.
    pub fn pid(self) -> i32 {
        if let Self::Victim(memory) = self { memory.task.pid } else { 0 }
    }

    /// Its name.
    pub fn name(self) -> &'s str {
        if let Self::Victim(memory) = self { &memory.task.comm } else { "kernel" }
    }

    /// An error where it ended meanwhile, or is another program's by now.
    pub fn still_there(self) -> Result<(), ProcessError> {
        match self {
            Self::Victim(memory) => process::still_runs(memory.guest, &memory.task),
            Self::Kernel(_) => Ok(()),
        }
    }
}
