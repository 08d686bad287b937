//! Where all runs of a campaign begin: a guest that was booted once, whose wrapper stands at the gate,
//! or whose program has come to the moment that the plan names.

use super::attempt::{AttemptError, Run};
use super::plan::{self, Plan, Start};
use crate::address::Gva;
use crate::environment::Environment;
use crate::guest::{Guest, GuestError, GuestOptions, RamOf};
use crate::lab::{
    Accel, Instance, KernelImage, LabError, Machine, Program, Recipe, Snapshot, Status,
};
use crate::memory::Access;
use crate::process::{ProcessError, ProcessTree, Task, executable, tasks};
use crate::victim::{Files, StatusBlock, Victim, VictimError, VictimMemory, WrapperState};
use crate::vmm::host_available_memory;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the launcher is called in a guest.
const WRAPPER: &str = "wrapper";
/// How long a boot may take until the gate.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// How often the gate is looked for.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of memory that a copy of a guest's RAM must leave.
const SPARE: u64 = 128 << 20;
/// The line after which the launcher is started.
const READY: &str = "vmfi-lab-ready";

/// The guest's first process, but for the line that starts the launcher.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/shm
exec </dev/null >/dev/ttyS0 2>&1
echo vmfi-lab-ready
";
/// Ends that line: what is printed there is kept by the launcher.
const REST: &str = " >/dev/null 2>&1
while :; do /bin/busybox sleep 1000; done
";
/// More words for the kernel: a bug of it ends the guest, at once, and a busy host is no reason to
/// complain.
const KERNEL: &str = "oops=panic reboot=t nosoftlockup rcupdate.rcu_cpu_stall_suppress=1";

/// A guest that trials cannot begin from.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// It cannot be made.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Its kernel gave up.
    #[error("the guest's kernel gave up before a wrapper stood at its gate")]
    Down,
    /// Nobody came to the gate.
    #[error("no wrapper stood at its gate within {} s{}; the guest must start 'wrapper --gate PROGRAM'", .limit.as_secs(), because(.why))]
    NoGate {
        /// How long was waited.
        limit: Duration,
        /// What was the matter at last.
        why: String,
    },
    /// The program was started at once.
    #[error(
        "wrapper {0} has started its program already: start it as 'wrapper --gate --hold-exit PROGRAM'"
    )]
    PastTheGate(i32),
    /// The program did not come to where trials are to begin.
    #[error("the program did not come to '{when}', the 'start' of [program]: {why}")]
    NoStart {
        /// What was waited for.
        when: String,
        /// Why it did not come.
        why: String,
    },
    /// The program was not found.
    #[error(transparent)]
    Attempt(#[from] Box<AttemptError>),
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

/// What a campaign's guests are made from.
pub struct Making {
    /// What starts them.
    pub recipe: Recipe,
    /// The victim's program, where its symbols are had from.
    pub program: PathBuf,
    /// The kernel's image, where it is known.
    pub kernel: Option<PathBuf>,
    /// How QEMU runs them, where that is known.
    pub accel: Option<Accel>,
}

impl Making {
    /// That of `plan`; the processes of its guests bear `mark`.
    pub fn new(plan: &Plan, mark: &str) -> Result<Self, LabError> {
        let (name, arguments) = plan.program.command.split_first().unzip();
        let program = plan.beside(name.map_or("", String::as_str));
        let machine = match &plan.guest {
            plan::Guest::Lab(machine) => machine,
            plan::Guest::Own(words) => {
                let recipe = Recipe::of_command(words, &plan.beside("."), mark);
                return Ok(Self { recipe, program, kernel: None, accel: None });
            }
        };
        let kernel = match &machine.kernel_image {
            Some(path) => KernelImage::open(&plan.beside(path))?,
            None => KernelImage::find()?,
        };
        let add: Vec<_> = plan.program.add.iter().map(|path| plan.beside(path)).collect();
        let packed = Program::in_folder(&program, &add, &plan.beside("."))?;
        let accel = machine.accel.map_or_else(|| Accel::choose(&kernel.path), Ok)?;
        let path = kernel.path.clone();
        let own =
            Machine { kernel, ram_mib: machine.ram_mib, cpus: machine.smp, accel: Some(accel) };
        let mut files = packed.files().clone();
        files.init(init(plan, &packed, arguments.unwrap_or_default()));
        own.has_room_for(&files)?;
        let append = format!("{KERNEL} {}", machine.append);
        let recipe = Recipe::of_machine(&own, accel, &append, &files.build()?, mark)?;
        Ok(Self { recipe, program, kernel: Some(path), accel: Some(accel) })
    }
}

fn init(plan: &Plan, program: &Program, arguments: &[String]) -> Vec<u8> {
    let mut options = vec!["--gate", "--hold-exit"];
    if !plan.program.randomize_addresses {
        options.push("--no-aslr");
    }
    [INIT.as_bytes(), &program.line(&options, arguments), REST.as_bytes()].concat()
}

/// Where runs begin.
pub struct Base {
    snapshot: Snapshot,
    /// The guest as it was then.
    pub guest: Guest,
    /// The wrapper.
    pub wrapper: Task,
    /// Its program.
    pub wrapper_exe: Option<String>,
    /// Where its status block is.
    pub block: Gva,
    /// Whether its gate is still closed.
    pub gated: bool,
    /// Which start of the guest it is of.
    pub boot: u64,
    /// What the guest is.
    pub environment: Environment,
    /// QEMU's version.
    pub qemu: String,
}

impl Base {
    /// Boots a guest, takes it to where trials begin, and takes a snapshot there.
    pub fn make(plan: &Plan, making: &Making, boot: u64) -> Result<Self, BaseError> {
        let mut instance = Instance::boot(&making.recipe)?;
        if making.recipe.has_console() {
            instance.wait_for(READY, BOOT_LIMIT)?;
        }
        let Gate { guest, wrapper, wrapper_exe, block } = gate(&mut instance)?;
        let environment = Environment::of(&guest);
        let qemu = instance.version()?;
        let snapshot = Snapshot::take(instance)?;
        let gated = true;
        let base =
            Self { snapshot, guest, wrapper, wrapper_exe, block, gated, boot, environment, qemu };
        match &plan.program.start {
            Start::Gate => Ok(base),
            Start::When(condition) => {
                let when = condition.to_string();
                let instance = Run::until(&base, plan, &making.program, condition)
                    .map_err(|why| BaseError::NoStart { when, why: why.to_string() })?;
                Ok(Self { snapshot: Snapshot::take(instance)?, gated: false, ..base })
            }
        }
    }

    /// A machine that is about to go on from there. Where memory is short, it shares with the others
    /// what none of them has written.
    pub fn restore(&self) -> Result<Instance, LabError> {
        let short = host_available_memory() < self.snapshot.resident() + SPARE;
        let private = if short { self.snapshot.restore_privately()? } else { None };
        private.map_or_else(|| self.restore_shared(), Ok)
    }

    /// The same, with RAM in a file of its own in any case.
    pub fn restore_shared(&self) -> Result<Instance, LabError> {
        self.snapshot.restore()
    }

    /// Bytes of RAM that each machine may come to have.
    pub fn ram_bytes(&self) -> u64 {
        self.snapshot.ram_bytes()
    }
}

/// A guest whose wrapper stands at its gate.
struct Gate {
    guest: Guest,
    wrapper: Task,
    wrapper_exe: Option<String>,
    block: Gva,
}

/// Why nobody is at the gate yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Victim(#[from] VictimError),
    #[error("no process is called '{WRAPPER}'")]
    NoWrapper,
    #[error("wrapper {0} has no status block with a gate")]
    NoBlock(i32),
    #[error("wrapper {0} is not at its gate yet")]
    NotThere(i32),
    #[error("wrapper {0} has started its program")]
    Past(i32),
}

/// Waits until a wrapper stands at its gate.
fn gate(instance: &mut Instance) -> Result<Gate, BaseError> {
    let begun = Instant::now();
    loop {
        let why = match look_for_gate(instance) {
            Ok(gate) => return Ok(gate),
            Err(NotYet::Past(pid)) => return Err(BaseError::PastTheGate(pid)),
            Err(why) => why.to_string(),
        };
        if instance.status()? == Status::Down {
            return Err(BaseError::Down);
        }
        if begun.elapsed() > BOOT_LIMIT {
            return Err(BaseError::NoGate { limit: BOOT_LIMIT, why });
        }
        sleep(PAUSE);
    }
}

fn look_for_gate(instance: &Instance) -> Result<Gate, NotYet> {
    let options = GuestOptions::unknown(RamOf::Path(instance.ram()), Access::Write);
    let guest = Guest::open(&options)?;
    let tree = ProcessTree::new(tasks(&guest)?);
    let wrapper = tree.wrappers(WRAPPER).next().ok_or(NotYet::NoWrapper)?.clone();
    let wrapper_exe = executable(&guest, &wrapper).map_err(VictimError::from)?;
    let block = block(&guest, &wrapper)?;
    Ok(Gate { guest, wrapper, wrapper_exe, block })
}

/// Where the wrapper at its gate has its status block.
fn block(guest: &Guest, wrapper: &Task) -> Result<Gva, NotYet> {
    let pid = wrapper.pid;
    let memory = || VictimMemory::open(guest, wrapper.clone());
    let victim = Victim::open(memory()?, &Files::of_guest())?;
    let at = StatusBlock::place(&victim)?.ok_or(NotYet::NoBlock(pid))?;
    let told = StatusBlock::new(memory()?, at).read().map_err(VictimError::from)?;
    match told.ok_or(NotYet::NoBlock(pid))?.state {
        Some(WrapperState::Gated) => Ok(at),
        None | Some(WrapperState::Starting) => Err(NotYet::NotThere(pid)),
        Some(_) => Err(NotYet::Past(pid)),
    }
}
