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

/// The word by which a program is told to be the guard ([`guard`]) of the socket named next.
pub const GUARD: &str = "resume-guard";
/// What the guard is told last decides what it does.
const STOPPING: u8 = b's';
const RUNNING: u8 = b'r';

/// How a VM is stopped for a moment.
#[derive(Clone, Copy, Debug)]
pub struct Pause<'a> {
    /// The VM.
    pub vm: &'a dyn Vm,
    /// The program that guards it, called with [`GUARD`]; none where nobody does.
    pub guard: Option<&'a Path>,
}

/// A VM's processors, stopped by us.
pub trait Stopped: fmt::Debug {
    /// Lets them go on.
    fn start(&mut self) -> Result<(), VmError>;
}

/// A VM that stands still as long as this lives.
pub struct Paused {
    stopped: Option<Box<dyn Stopped>>,
    guard: Option<Guard>,
}

impl Pause<'_> {
    /// Stops the VM; one that stands still already is left so afterwards too.
    pub fn begin(self) -> Result<Paused, VmError> {
        let pid = self.vm.process().pid;
        let socket = self.vm.socket().ok_or(VmError::NoSocket(pid))?;
        let start = |program| Guard::start(program, socket);
        let guard = self.guard.map(start).transpose();
        let guard = guard.map_err(|source| VmError::NoGuard { pid, source })?;
        Ok(Paused { stopped: self.vm.stop()?, guard })
    }
}

impl Paused {
    /// Lets it run on.
    pub fn resume(mut self) -> Result<(), VmError> {
        self.start()
    }

    fn start(&mut self) -> Result<(), VmError> {
        self.stopped.take().map_or(Ok(()), |mut stopped| stopped.start())?;
        // From here on the guard has nothing to do.
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        Ok(())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Err(error) = self.start() {
            log::error!("the VM may stand still: {error}");
        }
    }
}

struct Guard(Child);

impl Guard {
    fn start(program: &Path, socket: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(GUARD).arg(socket).stdin(Stdio::piped()).stdout(Stdio::null());
        // What is typed to end us must not end it.
        let mut child = command.stderr(Stdio::null()).process_group(0).spawn()?;
        child.stdin.as_mut().map_or(Ok(()), |pipe| pipe.write_all(&[STOPPING]))?;
        Ok(Self(child))
    }

    fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // One that is gone already needs no word.
            let _ = pipe.write_all(&[RUNNING]);
        }
        let _ = self.0.wait();
    }
}

/// Waits until whoever started it ends, and has the VM that `vm` finds run on then, unless it does.
pub fn guard(told: &mut dyn Read, vm: impl Fn() -> Result<(), VmError>) -> Result<(), VmError> {
    // A name of its own, so that who ends programs by their names does not end both.
    let _ = set_name(c"resume-guard");
    let mut words = Vec::new();
    let whole = told.read_to_end(&mut words);
    match words.last() {
        Some(&RUNNING) if whole.is_ok() => Ok(()),
        _ => vm(),
    }
}
