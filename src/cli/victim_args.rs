//! The options of every command that looks into a victim.

use super::exit::UsageError;
use super::guest_args::GuestArgs;
use crate::address::Gva;
use crate::guest::Guest;
use crate::inject::InjectError;
use crate::kernel::KernelError;
use crate::process::{ProcessError, ProcessTree, Task, executable, tasks};
use crate::site::SiteError;
use crate::victim::{self, Victim, VictimError, VictimMemory};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// How often a victim that is changing is looked at.
const TRIES: usize = 5;
/// An exec takes some ms.
const PAUSE: Duration = Duration::from_millis(10);

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
    /// The victim runs on meanwhile. Where it ends, forks or calls exec under our eyes, what we
    /// see is neither the old program nor the new one; so a failure that this could explain is
    /// looked at again before it is believed.
    pub fn with_victim<T>(
        &self,
        guest: &Guest,
        args: &GuestArgs,
        work: impl Fn(&Victim) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let first = self.choose(guest, args)?;
        let mut chosen = first.clone();
        for _ in 1..TRIES {
            match self.open(guest, &chosen).and_then(|victim| work(&victim)) {
                Err(error) if may_pass(&error) => log::debug!("looking again: {error}"),
                done => return done,
            }
            // Where RAM was moved away, looking again shows the old place.
            guest.ram_still_there()?;
            std::thread::sleep(PAUSE);
            chosen = self.choose(guest, args)?;
        }
        let done = self.open(guest, &chosen).and_then(|victim| work(&victim));
        let changes = chosen.task.mm != first.task.mm;
        match done {
            Err(error) if changes && may_pass(&error) => {
                Err(ProcessError::Replaced(chosen.task.pid).into())
            }
            done => done,
        }
    }

    fn choose(&self, guest: &Guest, args: &GuestArgs) -> anyhow::Result<Chosen> {
        let tree = ProcessTree::new(tasks(guest)?);
        let given = tree.process(self.pid)?;
        if self.direct {
            return Ok(Chosen { wrapper: None, task: given.clone() });
        }
        let task = tree.victim(self.pid, &args.wrapper_name, self.child)?.clone();
        Ok(Chosen { wrapper: Some(given.clone()), task })
    }

    fn open<'g>(&self, guest: &'g Guest, chosen: &Chosen) -> anyhow::Result<Victim<'g>> {
        let memory = VictimMemory::open(guest, chosen.task.clone())?;
        let exe = memory.executable()?;
        if let Some(wrapper) = &chosen.wrapper
            && executable(guest, wrapper)?.as_ref() == Some(&exe)
        {
            // Between fork and exec the child is a copy of the wrapper.
            return Err(ProcessError::NotStarted(chosen.task.pid).into());
        }
        let elf = victim::find(self.victim.as_deref(), &exe)?;
        Ok(Victim::open(memory, elf)?)
    }
}

/// The victim, and the wrapper that started it unless it was given itself.
#[derive(Clone)]
struct Chosen {
    wrapper: Option<Task>,
    task: Task,
}

/// Whether a process that is just changing could be the reason. Nothing has been written then.
fn may_pass(error: &anyhow::Error) -> bool {
    let site = error.is::<SiteError>();
    let inject = error.downcast_ref::<InjectError>().is_some_and(|error| {
        matches!(
            error,
            InjectError::Site(_) | InjectError::Process(_) | InjectError::MovedBefore(_)
        )
    });
    let victim = error
        .downcast_ref::<VictimError>()
        .is_some_and(|error| !matches!(error, VictimError::Symbol(_) | VictimError::OutOfSpace(_)));
    site || inject || victim || error.is::<ProcessError>() || error.is::<KernelError>()
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
