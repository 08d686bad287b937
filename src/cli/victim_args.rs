//! The options of every command that looks into a victim.

use super::guest_args::GuestArgs;
use crate::guest::Guest;
use crate::process::{ProcessTree, tasks};
use crate::victim::{self, Victim, VictimMemory};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct VictimArgs {
    /// The wrapper's process id, as 'vmfi list' shows it
    #[arg(value_name = "WRAPPER_PID")]
    pub pid: i32,
    /// The victim's program, or a folder to look in [default: the current one]
    #[arg(long, env = "VMFI_VICTIM", value_name = "PATH")]
    victim: Option<PathBuf>,
    /// Which descendant, where the wrapper has several
    #[arg(long, value_name = "PID", conflicts_with = "direct")]
    child: Option<i32>,
    /// WRAPPER_PID is the victim itself
    #[arg(long)]
    direct: bool,
}

impl VictimArgs {
    /// Finds the victim and proves its program.
    pub fn open<'g>(&self, guest: &'g Guest, args: &GuestArgs) -> anyhow::Result<Victim<'g>> {
        let tree = ProcessTree::new(tasks(guest)?);
        let task = if self.direct {
            tree.process(self.pid)?
        } else {
            tree.victim(self.pid, &args.wrapper_name, self.child)?
        };
        let memory = VictimMemory::open(guest, task.clone())?;
        let elf = victim::find(self.victim.as_deref(), &memory.executable()?)?;
        Ok(Victim::open(memory, elf)?)
    }
}
