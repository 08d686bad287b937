//! The program under test: its file, where it was loaded, and the proof that the program in guest
//! RAM is the file given.

mod file;
mod identity;
mod loaded;
mod program;
mod wrapper;

pub use file::{in_folder, of_guest};
pub use program::Program;
pub use wrapper::told_child;

use identity::Identity;
use loaded::Loaded;

use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::guest::Guest;
use crate::kernel::{KernelError, field};
use crate::process::{Mapping, ProcessError, Task, executable, maps};
use crate::symbols::{ElfFile, MapFile, SymbolError};
use std::path::PathBuf;
use std::rc::Rc;

const PAGE: u64 = 4096;

/// The victim's program is not known, or not the one given.
#[derive(Debug, thiserror::Error)]
pub enum VictimError {
    /// The kernel's structures could not be followed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The process has no memory.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its file cannot be used, or lacks a symbol.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
    /// No file was given and none lies about.
    #[error("the victim's program is needed for its symbols: give --victim a copy of the guest's {exe}{why}{}", looked(.looked_at))]
    NoFile {
        /// The program's path in the guest.
        exe: String,
        /// Why the guest's own does not serve, where that is known.
        why: String,
        /// Where a copy was looked for.
        looked_at: Vec<PathBuf>,
    },
    /// Another program.
    #[error(
        "{path} is not the program that process {pid} runs ({exe} in the guest): {how}; give that program's own"
    )]
    OtherProgram {
        /// The file given.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// The program's path in the guest.
        exe: String,
        /// What differs.
        how: String,
    },
    /// Too little of the program is in guest RAM.
    #[error(
        "{path} cannot be proved to be the program that process {pid} runs: none of its text is in guest RAM yet; try again"
    )]
    NotProved {
        /// The file given.
        path: PathBuf,
        /// The process.
        pid: i32,
    },
    /// Nothing tells where the program was loaded.
    #[error(
        "the ELF header of process {0}'s program is not in its memory, as after a fork: a map does not do; 'vmfi inject --victim' takes the program itself"
    )]
    NoHeader(i32),
    /// A map's symbol that the program has no room for.
    #[error(
        "'{name}' in {path} lies outside of the program that process {pid} runs, or in a part that it may not write: is it that program's map, or is the symbol thread-local?"
    )]
    Outside {
        /// The symbol.
        name: String,
        /// The map.
        path: PathBuf,
        /// The process.
        pid: i32,
    },
    /// A symbol's address that no address space has.
    #[error("symbol '{0}' lies outside of the address space")]
    OutOfSpace(String),
}

fn looked(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if shown.is_empty() { String::new() } else { format!(" (not found: {})", shown.join(", ")) }
}

/// A process's memory, whatever program it runs.
pub struct VictimMemory<'g> {
    /// The guest it runs in.
    pub guest: &'g Guest,
    /// The process.
    pub task: Task,
    /// Its memory map.
    pub mappings: Vec<Mapping>,
    mm: Gva,
    view: VirtualMemory<'g>,
}

impl<'g> VictimMemory<'g> {
    /// The memory of `task`, as it is now.
    pub fn open(guest: &'g Guest, task: Task) -> Result<Self, VictimError> {
        let mm = task.mm.ok_or_else(|| no_memory(&task))?;
        let kernel = guest.kernel();
        let pgd = Gva(guest
            .kernel_memory()
            .read_u64(field(mm, kernel.layouts.mm.pgd)?)
            .map_err(KernelError::from)?);
        let space = kernel.space_of(guest.memory(), pgd)?;
        let mappings = maps(guest, mm)?;
        let view = VirtualMemory { memory: guest.memory(), space };
        Ok(Self { guest, task, mappings, mm, view })
    }

    /// Its memory as the program sees it.
    pub fn view(&self) -> &VirtualMemory<'g> {
        &self.view
    }

    /// The mapping that holds `gva`.
    pub fn mapping(&self, gva: Gva) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.holds(gva))
    }

    /// The path of its program in the guest.
    pub fn executable(&self) -> Result<String, KernelError> {
        Ok(executable(self.guest, &self.task)?.unwrap_or_default())
    }

    /// The `struct file` that its program is mapped from. On an overlay file system, as containers
    /// have it, that is not the one which the process was started from, but the real file behind
    /// it; the program lies below its libraries.
    fn program(&self) -> Result<Gva, KernelError> {
        let at = field(self.mm, self.guest.kernel().layouts.mm.exe_file)?;
        let started = Gva(self.guest.kernel_memory().read_u64(at)?);
        let mut files = self.mappings.iter().filter_map(|mapping| mapping.file);
        let first = files.clone().next();
        Ok(if files.any(|file| file == started) { started } else { first.unwrap_or(started) })
    }
}

fn no_memory(task: &Task) -> ProcessError {
    let why = if task.state.zombie() {
        "it has ended and is a zombie"
    } else {
        "it is a thread of the kernel, or is ending"
    };
    ProcessError::NoMemory { pid: task.pid, comm: task.comm.clone(), why }
}

/// The victim: a process, and the file with its symbols, proved to agree.
pub struct Victim<'g> {
    /// Its memory.
    pub memory: VictimMemory<'g>,
    program: Rc<Program>,
    /// What the loader added to every address of the file.
    bias: u64,
    /// What its header says, where nothing but a map was given.
    loaded: Option<Loaded>,
}

impl<'g> Victim<'g> {
    /// Proves that the program in `memory` is `program`.
    pub fn open(memory: VictimMemory<'g>, program: Rc<Program>) -> Result<Self, VictimError> {
        match &*program {
            Program::Elf(elf) => Self::with_elf(memory, elf, Rc::clone(&program)),
            Program::Map(map) => Self::with_map(memory, map, Rc::clone(&program)),
        }
    }

    fn with_elf(
        memory: VictimMemory<'g>,
        elf: &ElfFile,
        program: Rc<Program>,
    ) -> Result<Self, VictimError> {
        let bias = load_bias(&memory, elf)?;
        let identity = bias.map_or_else(
            || Identity::Other("nothing is mapped where its first segment would be".to_owned()),
            |bias| identity::compare(memory.view(), elf, bias),
        );
        let bias = bias.unwrap_or(0);
        let victim = Self { memory, program, bias, loaded: None };
        match identity {
            Identity::Same => Ok(victim),
            Identity::Other(how) => Err(victim.another_program(how)?),
            Identity::Unknown => {
                let (path, pid) = (victim.program.path().to_owned(), victim.memory.task.pid);
                Err(VictimError::NotProved { path, pid })
            }
        }
    }

    /// A map has no bytes to compare, but what it says of the program's ends must be so.
    fn with_map(
        memory: VictimMemory<'g>,
        map: &MapFile,
        program: Rc<Program>,
    ) -> Result<Self, VictimError> {
        let loaded = Loaded::read(&memory)?;
        let (differs, bias) = (loaded.differs(map), loaded.bias);
        let victim = Self { memory, program, bias, loaded: Some(loaded) };
        match differs {
            None => Ok(victim),
            Some(how) => Err(victim.another_program(how)?),
        }
    }

    /// The error for a file that is another program's than the one in the guest.
    fn another_program(&self, how: String) -> Result<VictimError, VictimError> {
        let (path, pid) = (self.program.path().to_owned(), self.memory.task.pid);
        Ok(VictimError::OtherProgram { path, pid, exe: self.memory.executable()?, how })
    }

    /// Where the victim has its symbol `name`, and its size; 0 where the file does not say.
    pub fn symbol(&self, name: &str) -> Result<(Gva, u64), VictimError> {
        let symbol = self.program.symbol(name)?;
        if self.loaded.as_ref().is_some_and(|loaded| !loaded.holds(symbol)) {
            let (path, pid) = (self.program.path().to_owned(), self.memory.task.pid);
            return Err(VictimError::Outside { name: name.to_owned(), path, pid });
        }
        let gva = Gva(symbol.address).checked_add(self.bias);
        let gva = gva.ok_or_else(|| VictimError::OutOfSpace(name.to_owned()))?;
        Ok((gva, symbol.size))
    }
}

/// What the loader added to the file's addresses: found where the program's file is mapped from
/// the first segment's offset on. `None` where it is not.
fn load_bias(memory: &VictimMemory, elf: &ElfFile) -> Result<Option<u64>, KernelError> {
    let program = memory.program()?;
    let Some(first) = elf.segments().first() else { return Ok(None) };
    let page = |address: u64| address - address % PAGE;
    let starts = |mapping: &&Mapping| {
        mapping.file == Some(program) && mapping.file_offset == page(first.file_offset)
    };
    let found = memory.mappings.iter().find(starts).and_then(|mapping| {
        let bias = mapping.start.0.checked_sub(page(first.address))?;
        (bias == 0 || elf.position_independent()).then_some(bias)
    });
    Ok(found)
}
