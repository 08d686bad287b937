//! Which of a guest's processes is the victim: of a wrapper's descendants, the only one that has
//! the symbol. Launchers such as a shell or mpirun stand between the two.

use crate::guest::Guest;
use crate::inject::{InjectError, SeriesError};
use crate::kernel::KernelError;
use crate::process::{ProcessError, ProcessTree, Task, executable, still_runs, tasks};
use crate::site::{Place, SiteError, Target, TargetError};
use crate::victim::{Files, Victim, VictimError, VictimMemory};
use std::time::Duration;

/// How often a victim that is changing is looked at.
const TRIES: usize = 7;
/// An exec takes some ms, on a busy host far more: the pauses double.
const PAUSE: Duration = Duration::from_millis(5);

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
}

/// The victim, and what was asked for in it.
pub struct Found<'g> {
    /// The victim.
    pub victim: Victim<'g>,
    /// What the target means in it: not known where it leads through a pointer that is null now.
    target: Option<Target>,
    text: String,
}

impl Found<'_> {
    /// The place that the target means; an error for a region.
    pub fn place(&self) -> Result<Place, TargetError> {
        match &self.target {
            Some(target) => target.place().cloned(),
            None => Target::find(&self.victim, &self.text)?.place().cloned(),
        }
    }

    fn of_program(&self) -> bool {
        self.place().is_ok_and(|place| place.of_program)
    }
}

impl Choice {
    /// The process `pid` itself.
    pub fn direct(pid: i32) -> Self {
        let wrapper_name = String::new();
        Self { pid, wrapper_name, child: None, preferred: None, direct: true }
    }

    /// Finds the victim that has `target` in `files`, proves its program, and has `work` done with
    /// it.
    pub fn with_victim<T>(
        &self,
        guest: &Guest,
        files: &Files,
        target: &str,
        work: impl Fn(&Found) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let look = Look { guest, files, target };
        self.looking_again(guest, |candidates| {
            self.find(&look, candidates).and_then(|found| work(&found))
        })
    }

    /// The same with every process that has `target`.
    pub fn with_victims<T>(
        &self,
        guest: &Guest,
        files: &Files,
        target: &str,
        work: impl Fn(&[Found]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let look = Look { guest, files, target };
        self.looking_again(guest, |candidates| match self.all(&look, candidates)? {
            (found, missed) if found.is_empty() => Err(self.none_of(&look, candidates, missed)),
            (found, _) => work(&found),
        })
    }

    /// Finds the only process that could be meant, and has `work` done with its memory.
    pub fn with_memory<T>(
        &self,
        guest: &Guest,
        work: impl Fn(&VictimMemory) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.looking_again(guest, |candidates| {
            let preferred = |one: &&Candidate| Some(one.task.pid) == self.preferred;
            let Some(only) = candidates.only().or(candidates.all.iter().find(preferred)) else {
                let children = candidates.all.iter().map(|one| named(&one.task)).collect();
                return Err(ProcessError::Which { pid: self.pid, children }.into());
            };
            work(&VictimMemory::open(guest, only.task.clone())?)
        })
    }

    /// Does `attempt` with the processes that could be meant.
    ///
    /// The victim runs on meanwhile. Where it ends, forks or calls exec under our eyes, what we
    /// see is neither the old program nor the new one; so a failure that this could explain is
    /// looked at again before it is believed.
    fn looking_again<T>(
        &self,
        guest: &Guest,
        attempt: impl Fn(&Candidates) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut candidates = self.candidates(guest)?;
        let first = candidates.only().map(|only| only.task.program());
        let mut replaced = false;
        for pause in (0..).map(|doubled| PAUSE * (1 << doubled)).take(TRIES - 1) {
            match attempt(&candidates) {
                Err(error) if may_pass(&error) => log::debug!("looking again: {error:#}"),
                done => return done,
            }
            // Where RAM was moved away, looking again shows the old place.
            guest.ram_still_there()?;
            std::thread::sleep(pause);
            candidates = self.candidates(guest)?;
            replaced |= candidates.only().map(|only| only.task.program()) != first;
        }
        match (attempt(&candidates), candidates.only()) {
            (Err(error), Some(now)) if may_pass(&error) && first.is_some() => {
                if replaced {
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

    fn find<'g>(&self, look: &Look<'g, '_>, candidates: &Candidates) -> anyhow::Result<Found<'g>> {
        if let Some(only) = candidates.only() {
            return look.at(candidates, only);
        }
        let (mut found, missed) = self.all(look, candidates)?;
        let children: Vec<_> = found.iter().map(|one| named(&one.victim.memory.task)).collect();
        match found.pop() {
            Some(only) if children.len() == 1 => Ok(only),
            None => Err(self.none_of(look, candidates, missed)),
            _ => Err(ProcessError::SeveralChildren { pid: self.pid, children }.into()),
        }
    }

    /// Every process that has the target, and why another has not.
    fn all<'g>(
        &self,
        look: &Look<'g, '_>,
        candidates: &Candidates,
    ) -> anyhow::Result<(Vec<Found<'g>>, Option<anyhow::Error>)> {
        let (mut found, mut missed) = (Vec::new(), None);
        for candidate in &candidates.all {
            match look.at(candidates, candidate) {
                Ok(one) if Some(candidate.task.pid) == self.preferred => {
                    return Ok((vec![one], None));
                }
                Ok(one) => found.push(one),
                // One that is just becoming something else may have the symbol in a moment.
                Err(error) if !lacks_symbol(&error) => return Err(error),
                Err(error) => missed = Some(more_telling(missed, error)),
            }
        }
        // A launcher has libraries too, and often the same.
        if found.iter().any(Found::of_program) {
            found.retain(Found::of_program);
        }
        Ok((found, missed))
    }

    /// That no process has the target.
    fn none_of(
        &self,
        look: &Look,
        candidates: &Candidates,
        missed: Option<anyhow::Error>,
    ) -> anyhow::Error {
        let (pid, count, target) = (self.pid, candidates.all.len(), look.target);
        let missed = missed.unwrap_or_else(|| ProcessError::NoChild(pid).into());
        missed.context(format!("none of wrapper {pid}'s {count} descendants has '{target}'"))
    }
}

/// What is looked for, and where.
struct Look<'g, 'a> {
    guest: &'g Guest,
    files: &'a Files,
    target: &'a str,
}

impl<'g> Look<'g, '_> {
    /// Proves the program of `candidate` and looks for the target in it.
    fn at(&self, candidates: &Candidates, candidate: &Candidate) -> anyhow::Result<Found<'g>> {
        let memory = VictimMemory::open(self.guest, candidate.task.clone())?;
        let exe = memory.executable()?;
        if candidates.wrapper_exe.as_ref() == Some(&exe) && !candidate.launches {
            // Between fork and exec the child is a copy of the wrapper.
            return Err(ProcessError::NotStarted(candidate.task.pid).into());
        }
        let victim = Victim::open(memory, self.files)?;
        let target = match Target::find(&victim, self.target) {
            Err(error) if error.is_of_memory() => None,
            target => Some(target?),
        };
        Ok(Found { victim, target, text: self.target.to_owned() })
    }
}

/// The processes that could be meant, and the program of their wrapper.
struct Candidates {
    wrapper_exe: Option<String>,
    all: Vec<Candidate>,
}

/// A process, and whether it has started another.
struct Candidate {
    task: Task,
    launches: bool,
}

/// A process's id and its name.
fn named(task: &Task) -> (i32, String) {
    (task.pid, task.comm.clone())
}

impl Candidates {
    fn only(&self) -> Option<&Candidate> {
        if let [only] = self.all.as_slice() { Some(only) } else { None }
    }
}

/// What of `error` is about the victim's program and its symbols.
fn of_victim(error: &anyhow::Error) -> Option<&VictimError> {
    match error.downcast_ref() {
        Some(TargetError::Victim(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// Whether the error says that a process is not the one that has the symbol.
fn lacks_symbol(error: &anyhow::Error) -> bool {
    let victim = of_victim(error);
    victim.is_some_and(|error| !matches!(error, VictimError::Kernel(_) | VictimError::Process(_)))
}

/// Of two processes that lack the symbol, the one whose program at least was found tells more.
fn more_telling(before: Option<anyhow::Error>, now: anyhow::Error) -> anyhow::Error {
    let found = |error: &anyhow::Error| {
        of_victim(error).is_some_and(|error| {
            let symbol = matches!(error, VictimError::Symbol(_) | VictimError::NoSymbol { .. });
            symbol || matches!(error, VictimError::Outside { .. })
        })
    };
    match before {
        Some(before) if found(&before) || !found(&now) => before,
        _ => now,
    }
}

/// The same of an injection that was not made.
fn of_series(error: &SeriesError) -> bool {
    use InjectError as I;
    match error {
        SeriesError::Inject(error) => {
            matches!(error, I::Site(_) | I::Process(_) | I::MovedBefore(_))
        }
        SeriesError::Order(_) => false,
        SeriesError::Target(_) | SeriesError::Victim(_) | SeriesError::Process(_) => true,
    }
}

/// Whether a process that is just changing could be the reason. Nothing has been written then.
fn may_pass(error: &anyhow::Error) -> bool {
    let inject = error.downcast_ref::<SeriesError>().is_some_and(of_series);
    let victim = of_victim(error).is_some_and(|error| match error {
        VictimError::NoSymbol { loading, .. } | VictimError::NoLibrary { loading, .. } => *loading,
        VictimError::SeveralLibraries { .. } => false,
        VictimError::NoDebugInfo { .. } | VictimError::OtherDebugFile { .. } => false,
        VictimError::Types { .. } | VictimError::Untyped { .. } => false,
        error => !matches!(error, VictimError::Symbol(_) | VictimError::OutOfSpace(_)),
    });
    let path = error.downcast_ref::<TargetError>();
    let path = path.is_some_and(TargetError::is_of_memory);
    let process = error.downcast_ref::<ProcessError>().is_some_and(|error| {
        !matches!(error, ProcessError::SeveralChildren { .. } | ProcessError::Which { .. })
    });
    inject || victim || path || process || error.is::<SiteError>() || error.is::<KernelError>()
}
