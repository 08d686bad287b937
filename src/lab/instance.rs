//! A machine that runs: its RAM is a file without a name, and QEMU answers at a socket that nobody
//! else can reach. Nothing of it is left behind, however we end.

use super::console::Console;
use super::recipe::{Places, Recipe, unnamed};
use super::{LabError, host};
use crate::guest::RamCopy;
use crate::vmm::{HostProcess, Qmp, VmError};
use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// QEMU answers within some ms, but the host may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a machine that says nothing is asked whether it is well.
const GLANCE: Duration = Duration::from_millis(250);
/// What the socket is called in errors.
const SOCKET: &str = "of the guest";
/// Letters of QEMU's complaint that are shown.
const SHOWN: usize = 300;
/// For as long as files are open to whatever is started, only one thing is.
static STARTING: Mutex<()> = Mutex::new(());

/// What the processors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// They run.
    Running,
    /// They were stopped by us, or have not been started yet.
    Paused,
    /// The guest has turned itself off, or was reset: its kernel has given up.
    Down,
}

/// A machine that runs. Dropped, it is ended.
pub struct Instance {
    recipe: Recipe,
    process: Child,
    qmp: Qmp,
    ram: File,
    shares: bool,
    console: Option<Console>,
    complaints: File,
}

impl Instance {
    /// Boots `recipe`, of which the console can be read.
    pub fn boot(recipe: &Recipe) -> Result<Self, LabError> {
        Starting::new(recipe, unnamed("ram", b"")?, true, &[])?.finish()
    }

    /// The file that is its RAM, as this process sees it; where it keeps its RAM to itself, what that
    /// was before it ran.
    pub fn ram(&self) -> PathBuf {
        own_path(&self.ram)
    }

    /// Whether its RAM is in that file, so that it can be mapped, and written atomically.
    pub fn shares_ram(&self) -> bool {
        self.shares
    }

    /// Where its RAM is, which was copied from another machine's.
    pub fn ram_copy(&self) -> Result<RamCopy, LabError> {
        if self.shares {
            return Ok(RamCopy::File(self.ram()));
        }
        let (pid, file) = (self.pid(), self.ram());
        let process = HostProcess::open(Path::new("/proc"), pid);
        let known = self.ram.metadata().and_then(|known| Ok((known, process?)));
        let (known, process) = known.map_err(host("cannot look at QEMU"))?;
        let start = process.own_copy_of(&known);
        let start = start.ok_or_else(|| LabError::Ended("its RAM is not mapped".to_owned()))?;
        Ok(RamCopy::Process { pid, file, start })
    }

    /// Waits for a line of its console that starts with `start`.
    pub fn wait_for(&mut self, start: &str, limit: Duration) -> Result<(), LabError> {
        let until = Instant::now() + limit;
        loop {
            let waited = self.console()?.wait_for(start, GLANCE, |line| line.starts_with(start));
            match waited {
                Err(LabError::Ended(_)) => return Err(self.why_ended()),
                Err(LabError::Silent { .. }) if self.status()? == Status::Down => {
                    return Err(self.console()?.ended());
                }
                Err(LabError::Silent { .. }) if Instant::now() < until => {}
                Err(LabError::Silent { .. }) => return Err(self.console()?.silent(start, limit)),
                waited => return waited.map(|_| ()),
            }
        }
    }

    fn console(&mut self) -> Result<&mut Console, LabError> {
        self.console.as_mut().ok_or_else(|| LabError::Ended("it has no console".to_owned()))
    }

    /// What its processors do. An error where QEMU has ended.
    pub fn status(&mut self) -> Result<Status, LabError> {
        let status = self.qmp.within(PATIENCE).status();
        Ok(match self.told(status)?.as_str() {
            "running" => Status::Running,
            "shutdown" | "guest-panicked" | "internal-error" | "io-error" => Status::Down,
            _ => Status::Paused,
        })
    }

    /// Stops the processors.
    pub fn stop(&mut self) -> Result<(), LabError> {
        let stopped = self.qmp.order("stop", PATIENCE);
        self.told(stopped)
    }

    /// Lets them run.
    pub fn go_on(&mut self) -> Result<(), LabError> {
        let started = self.qmp.order("cont", PATIENCE);
        self.told(started)
    }

    /// QEMU's version, as it prints it itself.
    pub fn version(&mut self) -> Result<String, LabError> {
        let version = self.qmp.within(PATIENCE).version();
        self.told(version)
    }

    /// Writes what its devices hold into a file; it stands still from then on.
    pub(super) fn save(&mut self) -> Result<File, LabError> {
        let state = unnamed("state", b"")?;
        self.stop()?;
        let saved = self.qmp.within(PATIENCE).leave_out_shared_ram();
        let saved = saved.and_then(|()| self.qmp.save(state.as_fd()));
        self.told(saved)?;
        Ok(state)
    }

    /// How much of the host's CPU time QEMU has used.
    pub fn cpu_time(&self) -> Duration {
        // A clock of its own: /proc tells it in ticks of 10 ms.
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.pid()));
        clock.and_then(ClockId::now).map(Duration::from).unwrap_or_default()
    }

    /// Whether it runs on a CPU of the host right now, or waits for one.
    pub fn wants_cpu(&self) -> bool {
        let process = HostProcess::open(Path::new("/proc"), self.pid());
        process.is_ok_and(|process| process.wants_cpu())
    }

    /// QEMU's process id.
    pub fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    /// Ends it, and gives its machine and its RAM.
    pub(super) fn into_parts(mut self) -> Result<(Recipe, File), LabError> {
        self.end();
        let ram = self.ram.try_clone().map_err(host("cannot keep the guest's RAM"))?;
        Ok((self.recipe.clone(), ram))
    }

    /// What QEMU told; where it ended, why.
    fn told<T>(&mut self, told: Result<T, VmError>) -> Result<T, LabError> {
        told.map_err(|error| match self.process.try_wait() {
            Ok(Some(_)) => self.why_ended(),
            _ => LabError::Vm(error),
        })
    }

    fn why_ended(&mut self) -> LabError {
        let status = self.process.wait().map(|status| status.to_string()).unwrap_or_default();
        LabError::Ended(format!("{status}{}", complaint(&mut self.complaints)))
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.end();
    }
}

/// QEMU, on its way to answer: meanwhile its RAM may be filled, where it waits for a state.
pub(super) struct Starting {
    recipe: Recipe,
    process: Child,
    socket: UnixStream,
    pub ram: File,
    shares: bool,
    complaints: File,
}

impl Starting {
    /// Starts `recipe` on `ram`, with these further words. Unless it `shares` its RAM, it keeps what
    /// it writes there to itself.
    pub fn new(
        recipe: &Recipe,
        ram: File,
        shares: bool,
        further: &[&str],
    ) -> Result<Self, LabError> {
        if !recipe.program_path().is_file() {
            return Err(LabError::NoQemu(recipe.program().to_owned()));
        }
        let (socket, other) = UnixStream::pair().map_err(host("cannot make a socket"))?;
        let complaints = unnamed("complaints", b"")?;
        let printed = complaints.try_clone().map_err(host("cannot keep what QEMU says"))?;
        let mut command = command(recipe, (&ram, shares), &other, further);
        command.stderr(printed);
        let mut shared = vec![ram.as_fd(), other.as_fd()];
        shared.extend(recipe.initramfs().map(|file| file.as_fd()));
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |flags| shared.iter().try_for_each(|file| fcntl_setfd(file, flags));
        set(FdFlags::empty()).map_err(|error| host("cannot share a file")(error.into()))?;
        let spawned = command.spawn();
        // The others that are started must not have them.
        let _ = set(FdFlags::CLOEXEC);
        let process = spawned.map_err(host("cannot start setpriv"))?;
        Ok(Self { recipe: recipe.clone(), process, socket, ram, shares, complaints })
    }

    /// Waits until it answers.
    pub fn finish(mut self) -> Result<Instance, LabError> {
        let pid = self.process.id().cast_signed();
        let console = self.process.stdout.take().map(|stdout| Console::new(move || Ok(stdout)));
        match Qmp::over(self.socket, SOCKET, pid, PATIENCE) {
            Ok(qmp) => {
                let Self { recipe, process, ram, shares, complaints, .. } = self;
                Ok(Instance { recipe, process, qmp, ram, shares, console, complaints })
            }
            Err(error) => {
                let _ = self.process.kill();
                let _ = self.process.wait();
                let said = complaint(&mut self.complaints);
                let why = match error {
                    VmError::NoAnswer { why, .. } => why,
                    other => other.to_string(),
                };
                Err(LabError::Ended(if said.is_empty() { why } else { said }))
            }
        }
    }

    /// The same, which then reads the state of its devices from `state`.
    pub fn load(self, state: &File) -> Result<Instance, LabError> {
        let mut instance = self.finish()?;
        // Opened anew: where it is read is not shared with others who are restored meanwhile.
        let state = File::open(own_path(state)).map_err(host("cannot read the snapshot"))?;
        let qmp = instance.qmp.within(PATIENCE);
        let loaded = qmp.leave_out_shared_ram().and_then(|()| qmp.load(state.as_fd()));
        instance.told(loaded)?;
        Ok(instance)
    }
}

/// Where this process sees an open file, which may have no name.
fn own_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// QEMU's command line. It dies with the thread that starts it; what is typed to end us is not meant
/// for it.
fn command(
    recipe: &Recipe,
    (ram, share): (&File, bool),
    socket: &UnixStream,
    further: &[&str],
) -> Command {
    // It has them under the same numbers.
    let path = |file: &File| own_path(file).display().to_string();
    let places = Places {
        ram: &path(ram),
        share,
        initramfs: &recipe.initramfs().map(path).unwrap_or_default(),
        console: further.is_empty(),
    };
    let (mark, socket) = (recipe.mark(), socket.as_raw_fd());
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .args(recipe.words(&places))
        // Where the guest's kernel gives up, what is in its RAM stays to be looked at.
        .args(["-no-reboot", "-no-shutdown"])
        .args(["-chardev", &format!("socket,id={mark},fd={socket}")])
        .args(["-mon", &format!("chardev={mark},mode=control")])
        .args(further)
        .current_dir(recipe.folder())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(if further.is_empty() { Stdio::piped() } else { Stdio::null() });
    command
}

/// What QEMU printed, on one line.
fn complaint(file: &mut File) -> String {
    let mut text = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(1 << 16).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(SHOWN).collect()
}

/// Ends the machines that bear `mark` and have lost their owner, which was killed; how many.
pub fn end_left_behind(mark: &str) -> usize {
    let id = format!("socket,id={mark},");
    let ours = |process: &HostProcess| {
        let line = process.command_line().unwrap_or_default();
        line.iter().any(|word| word.starts_with(&id))
    };
    let left = HostProcess::all(Path::new("/proc")).into_iter().filter(ours);
    left.filter(|process| process.kill().is_ok()).count()
}
