//! A VM that stands still for a moment, and runs on whatever becomes of us.
//!
//! Whoever stops a VM starts it again; where it is killed before, a guard does: another process,
//! which waits for the end of a pipe that the one who stops has the other end of.

use super::{Vm, VmError};
use rustix::thread::set_name;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// The word by which a program is told to be the guard ([`guard`]) of the socket named next.
pub const GUARD: &str = "resume-guard";
/// What the guard is told last decides what it does.
const STOPPING: u8 = b's';
const RUNNING: u8 = b'r';

/// What stops a VM for a moment, as often as it is asked to. All that takes time is made ready
/// before.
pub struct Pauser {
    vm: Arc<dyn Vm>,
    guard: Option<Mutex<Guard>>,
}

/// A VM's processors, stopped by us.
pub trait Stopped: fmt::Debug {
    /// Lets them go on.
    fn start(&mut self) -> Result<(), VmError>;
}

/// A VM that stands still as long as this lives.
pub struct Paused<'p> {
    stopped: Option<Box<dyn Stopped>>,
    guard: Option<&'p Mutex<Guard>>,
}

impl Pauser {
    /// One for `vm`; `program`, called with [`GUARD`], is to guard it, if anything is.
    pub fn new(vm: Arc<dyn Vm>, program: Option<&Path>) -> Result<Self, VmError> {
        let pid = vm.process().pid;
        let socket = vm.socket().ok_or(VmError::NoSocket(pid))?;
        let guard = program.map(|program| Guard::start(program, socket)).transpose();
        let guard = guard.map_err(|source| VmError::NoGuard { pid, source })?;
        Ok(Self { vm, guard: guard.map(Mutex::new) })
    }

    /// Stops the VM; one that stands still already is left so afterwards too.
    pub fn pause(&self) -> Result<Paused<'_>, VmError> {
        let guard = self.guard.as_ref();
        let told = guard.map_or(Ok(()), |guard| Guard::tell(guard, STOPPING));
        let pid = self.vm.process().pid;
        told.map_err(|source| VmError::NoGuard { pid, source })?;
        Ok(Paused { stopped: self.vm.stop()?, guard })
    }
}

impl Paused<'_> {
    /// Lets it run on.
    pub fn resume(mut self) -> Result<(), VmError> {
        self.start()
    }

    fn start(&mut self) -> Result<(), VmError> {
        self.stopped.take().map_or(Ok(()), |mut stopped| stopped.start())?;
        // From here on the guard has nothing to do; one that is gone needs no word.
        if let Some(guard) = self.guard.take() {
            let _ = Guard::tell(guard, RUNNING);
        }
        Ok(())
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.start() {
            log::error!("the VM may stand still: {error}");
        }
    }
}

struct Guard {
    child: Child,
    /// What it was told last.
    word: u8,
}

impl Guard {
    fn start(program: &Path, socket: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(GUARD).arg(socket).stdin(Stdio::piped()).stdout(Stdio::null());
        // What is typed to end us must not end it.
        let child = command.stderr(Stdio::null()).process_group(0).spawn()?;
        Ok(Self { child, word: RUNNING })
    }

    fn tell(guard: &Mutex<Self>, word: u8) -> std::io::Result<()> {
        let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.word = word;
        guard.child.stdin.as_mut().map_or(Ok(()), |pipe| pipe.write_all(&[word]))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The end of the pipe: what it was told last counts.
        drop(self.child.stdin.take());
        // Where it has to start the VM, it may have to wait for others; nobody waits for it then.
        if self.word == RUNNING {
            let _ = self.child.wait();
        }
    }
}

/// Waits until whoever started it ends, and has the VM that `vm` finds run on then, unless it does.
pub fn guard(told: &mut dyn Read, vm: impl Fn() -> Result<(), VmError>) -> Result<(), VmError> {
    // A name of its own, so that who ends programs by their names does not end both.
    let _ = set_name(c"resume-guard");
    let mut words = Vec::new();
    let whole = told.read_to_end(&mut words);
    match words.last() {
        None | Some(&RUNNING) if whole.is_ok() => Ok(()),
        _ => vm(),
    }
}
