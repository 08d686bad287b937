//! Which of a guest's processes is the victim: of a wrapper's descendants, the only one that has
//! the symbol. Launchers such as a shell or mpirun stand between the two.

use crate::address::Gva;
use crate::guest::Guest;
use crate::inject::InjectError;
use crate::kernel::KernelError;
use crate::process::{ProcessError, ProcessTree, Task, executable, still_runs, tasks};
use crate::site::SiteError;
use crate::symbols::{ElfFile, MapFile};
use crate::victim::{self, Program, Victim, VictimError, VictimMemory};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How often a victim that is changing is looked at.
const TRIES: usize = 5;
/// An exec takes some ms.
const PAUSE: Duration = Duration::from_millis(10);

/// What tells the victim.
pub struct Choice {
    /// The wrapper's process id, or the victim's own.
    pub pid: i32,
    /// What wrappers are called.
    pub wrapper_name: String,
    /// Which of its descendants, where that was said.
    pub child: Option<i32>,
    /// Which of those that have the symbol, if it is one of them.
    pub preferred: Option<i32>,
    /// Whether `pid` is the victim's own.
    pub direct: bool,
    /// Where its symbols are.
    pub symbols: Symbols,
}

/// Where a victim's symbols are.
pub enum Symbols {
    /// In this file, read once for all that is looked at.
    File(Rc<Program>),
    /// In the program, a file of this folder.
    Folder(PathBuf),
    /// In the program as the guest has it, or else a file of the current folder.
    Guest,
}

/// The victim, and where it has the symbol asked for.
pub struct Found<'g> {
    /// The victim.
    pub victim: Victim<'g>,
    /// The symbol's address.
    pub symbol: Gva,
    /// Its bytes; 0 where that is not known.
    pub size: u64,
}

impl Choice {
    /// Finds the victim that has `symbol`, proves its program, and has `work` done with it.
    ///
    /// The victim runs on meanwhile. Where it ends, forks or calls exec under our eyes, what we
    /// see is neither the old program nor the new one; so a failure that this could explain is
    /// looked at again before it is believed.
    pub fn with_victim<T>(
        &self,
        guest: &Guest,
        symbol: &str,
        work: impl Fn(&Found) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let first = self.candidates(guest)?;
        let mut candidates = first.clone();
        for _ in 1..TRIES {
            match self.find(guest, &candidates, symbol).and_then(|found| work(&found)) {
                Err(error) if may_pass(&error) => log::debug!("looking again: {error:#}"),
                done => return done,
            }
            // Where RAM was moved away, looking again shows the old place.
            guest.ram_still_there()?;
            std::thread::sleep(PAUSE);
            candidates = self.candidates(guest)?;
        }
        let done = self.find(guest, &candidates, symbol).and_then(|found| work(&found));
        match (done, first.only(), candidates.only()) {
            (Err(error), Some(first), Some(now)) if may_pass(&error) => {
                if now.task.mm != first.task.mm {
                    return Err(ProcessError::Replaced(now.task.pid).into());
                }
                // One that is just ending is not to blame its file for it.
                still_runs(guest, &now.task)?;
                Err(error)
            }
            (done, ..) => done,
        }
    }

    /// The processes that could be meant.
    fn candidates(&self, guest: &Guest) -> anyhow::Result<Candidates> {
        let tree = ProcessTree::new(tasks(guest)?);
        let candidate = |task: Task| {
            let launches = tree.has_children(task.pid);
            Candidate { task, launches }
        };
        if self.direct {
            let all = vec![candidate(tree.process(self.pid)?.clone())];
            return Ok(Candidates { wrapper_exe: None, all });
        }
        let wrapper = tree.wrapper(self.pid, &self.wrapper_name)?;
        let mut tasks = match self.child {
            Some(child) => vec![tree.descendant(self.pid, child)?.clone()],
            None => tree.living_descendants(self.pid)?,
        };
        tasks.sort_by_key(|task| Some(task.pid) != self.preferred);
        let all = tasks.into_iter().map(candidate).collect();
        Ok(Candidates { wrapper_exe: executable(guest, wrapper)?, all })
    }

    fn find<'g>(
        &self,
        guest: &'g Guest,
        candidates: &Candidates,
        symbol: &str,
    ) -> anyhow::Result<Found<'g>> {
        if let Some(only) = candidates.only() {
            return self.look(guest, candidates, only, symbol);
        }
        let (mut found, mut missed) = (Vec::new(), None);
        for candidate in &candidates.all {
            match self.look(guest, candidates, candidate, symbol) {
                Ok(one) if Some(candidate.task.pid) == self.preferred => return Ok(one),
                Ok(one) => found.push(one),
                // One that is just becoming something else may have the symbol in a moment.
                Err(error) if !lacks_symbol(&error) => return Err(error),
                Err(error) => missed = Some(more_telling(missed, error)),
            }
        }
        let named = |found: &Found| {
            let task = &found.victim.memory.task;
            (task.pid, task.comm.clone())
        };
        let children: Vec<_> = found.iter().map(named).collect();
        match (found.pop(), missed) {
            (Some(only), _) if children.len() == 1 => Ok(only),
            (None, Some(missed)) => {
                let (pid, count) = (self.pid, candidates.all.len());
                Err(missed)
                    .context(format!("none of wrapper {pid}'s {count} descendants has '{symbol}'"))
            }
            _ => Err(ProcessError::SeveralChildren { pid: self.pid, children }.into()),
        }
    }

    /// Proves the program of `task` and looks for `symbol` in it.
    fn look<'g>(
        &self,
        guest: &'g Guest,
        candidates: &Candidates,
        candidate: &Candidate,
        symbol: &str,
    ) -> anyhow::Result<Found<'g>> {
        let memory = VictimMemory::open(guest, candidate.task.clone())?;
        let exe = memory.executable()?;
        if candidates.wrapper_exe.as_ref() == Some(&exe) && !candidate.launches {
            // Between fork and exec the child is a copy of the wrapper.
            return Err(ProcessError::NotStarted(candidate.task.pid).into());
        }
        let program = self.symbols.open(&memory, &exe)?;
        let victim = Victim::open(memory, program)?;
        let (symbol, size) = victim.symbol(symbol)?;
        Ok(Found { victim, symbol, size })
    }
}

impl Symbols {
    /// In `program`, a file or a folder, where it is given.
    pub fn of_program(program: Option<&Path>) -> Result<Self, VictimError> {
        Ok(match program {
            Some(folder) if folder.is_dir() => Self::Folder(folder.to_owned()),
            Some(file) => Self::File(Rc::new(Program::Elf(ElfFile::read(file)?))),
            None => Self::Guest,
        })
    }

    /// In the map file at `path`.
    pub fn of_map(path: &Path) -> Result<Self, VictimError> {
        Ok(Self::File(Rc::new(Program::Map(MapFile::read(path)?))))
    }

    /// The file for the program of `memory`, which the guest knows as `exe`.
    fn open(&self, memory: &VictimMemory, exe: &str) -> Result<Rc<Program>, VictimError> {
        let program = match self {
            Self::File(program) => return Ok(Rc::clone(program)),
            Self::Folder(folder) => victim::in_folder(folder, exe)?,
            Self::Guest => victim::of_guest(memory, exe)?,
        };
        Ok(Rc::new(Program::Elf(program)))
    }
}

/// The processes that could be meant, and the program of their wrapper.
#[derive(Clone)]
struct Candidates {
    wrapper_exe: Option<String>,
    all: Vec<Candidate>,
}

/// A process, and whether it has started another.
#[derive(Clone)]
struct Candidate {
    task: Task,
    launches: bool,
}

impl Candidates {
    fn only(&self) -> Option<&Candidate> {
        if let [only] = self.all.as_slice() { Some(only) } else { None }
    }
}

/// Whether the error says that a process is not the one that has the symbol.
fn lacks_symbol(error: &anyhow::Error) -> bool {
    let victim = error.downcast_ref::<VictimError>();
    victim.is_some_and(|error| !matches!(error, VictimError::Kernel(_) | VictimError::Process(_)))
}

/// Of two processes that lack the symbol, the one whose program at least was found tells more.
fn more_telling(before: Option<anyhow::Error>, now: anyhow::Error) -> anyhow::Error {
    let found = |error: &anyhow::Error| {
        matches!(error.downcast_ref(), Some(VictimError::Symbol(_) | VictimError::Outside { .. }))
    };
    match before {
        Some(before) if found(&before) || !found(&now) => before,
        _ => now,
    }
}

/// Whether a process that is just changing could be the reason. Nothing has been written then.
fn may_pass(error: &anyhow::Error) -> bool {
    let inject = error.downcast_ref::<InjectError>().is_some_and(|error| {
        matches!(
            error,
            InjectError::Site(_) | InjectError::Process(_) | InjectError::MovedBefore(_)
        )
    });
    let victim = error
        .downcast_ref::<VictimError>()
        .is_some_and(|error| !matches!(error, VictimError::Symbol(_) | VictimError::OutOfSpace(_)));
    let process = error
        .downcast_ref::<ProcessError>()
        .is_some_and(|error| !matches!(error, ProcessError::SeveralChildren { .. }));
    inject || victim || process || error.is::<SiteError>() || error.is::<KernelError>()
}
