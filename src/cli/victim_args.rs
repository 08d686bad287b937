//! The options of every command that looks into a victim.

use super::exit::UsageError;
use super::guest_args::GuestArgs;
use crate::address::Gva;
use crate::guest::Guest;
use crate::inject::InjectError;
use crate::process::{ProcessTree, Task, still_runs, tasks};
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
    /// Finds the victim, proves its program, and has `work` done with it.
    ///
    /// The victim runs on meanwhile: where `work` fails and the victim has ended since, or runs
    /// another program, that is what is said.
    pub fn with_victim<T>(
        &self,
        guest: &Guest,
        args: &GuestArgs,
        work: impl FnOnce(&Victim) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let tree = ProcessTree::new(tasks(guest)?);
        let task = if self.direct {
            tree.process(self.pid)?
        } else {
            tree.victim(self.pid, &args.wrapper_name, self.child)?
        };
        let done = self.open(guest, task.clone()).and_then(|victim| work(&victim));
        // An error that tells of a write must stand, whatever came after.
        if done.as_ref().is_err_and(|error| !tells_of_a_write(error)) && task.mm.is_some() {
            still_runs(guest, task)?;
        }
        done
    }

    fn open<'g>(&self, guest: &'g Guest, task: Task) -> anyhow::Result<Victim<'g>> {
        let memory = VictimMemory::open(guest, task)?;
        let elf = victim::find(self.victim.as_deref(), &memory.executable()?)?;
        Ok(Victim::open(memory, elf)?)
    }
}

fn tells_of_a_write(error: &anyhow::Error) -> bool {
    let written = |error: &InjectError| {
        matches!(error, InjectError::MovedAfter { .. } | InjectError::Contended(..))
    };
    error.downcast_ref::<InjectError>().is_some_and(written)
}

/// An OFFSET of the command line.
pub fn offset_of(offset: i128) -> Result<i64, UsageError> {
    i64::try_from(offset).map_err(|_| UsageError(format!("OFFSET {offset} does not fit 64 bits")))
}

/// `offset` bytes from the symbol `name` at `symbol`.
pub fn at_offset(name: &str, symbol: Gva, offset: i64) -> Result<Gva, UsageError> {
    let gva = symbol.checked_offset(offset);
    gva.ok_or_else(|| UsageError(format!("{name} + {offset} is no address")))
}
