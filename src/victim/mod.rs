//! The program under test: its files, where they were loaded, and the proof that what is in guest
//! RAM are these files. Names lead to places in the program and in its libraries.

mod debug_info;
mod files;
mod identity;
mod libraries;
mod link_map;
mod loaded;
mod mapped_file;
mod object;
mod program;
mod wrapper;

pub use files::Files;
pub use libraries::{FileSymbols, Place};
pub use loaded::{Loaded, Part};
pub use program::Program;
pub use wrapper::{Output, StatusBlock, Stream, Told, Word, WrapperState, told_child};

use files::{Chosen, Lack};
use libraries::Libraries;
use object::Object;

use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::guest::Guest;
use crate::kernel::{KernelError, field};
use crate::process::{Mapping, ProcessError, Shown, Task, executable, maps, shown};
use crate::symbols::{SymbolError, nearest};
use crate::types::{Dwarf, TypesError};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
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
    /// Another library.
    #[error(
        "{path} is not the {library} that process {pid} has loaded: {how}; give --victim a folder with that one, or without any"
    )]
    OtherLibrary {
        /// The file found in the folder given.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// The library's path in the guest.
        library: String,
        /// What differs.
        how: String,
    },
    /// Too little of the program, or of a library, is in guest RAM.
    #[error(
        "{path} cannot be proved to be {what} that process {pid} runs: none of its text is in guest RAM yet; try again"
    )]
    NotProved {
        /// The file given.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// What it should be.
        what: String,
    },
    /// No such name, neither in the program nor in its libraries.
    #[error("no symbol '{name}' in {program}{}{}{}{}", and_libraries(*.libraries), nearest(.near), lacking(.lacks), try_again(*.loading))]
    NoSymbol {
        /// The name asked for.
        name: String,
        /// The program's file.
        program: PathBuf,
        /// How many libraries were searched.
        libraries: usize,
        /// Names that look like it.
        near: Vec<String>,
        /// What of the program and of the libraries is not known, and why.
        lacks: Vec<String>,
        /// Whether there may be more libraries in a moment.
        loading: bool,
    },
    /// No library of that name is loaded.
    #[error("process {pid} has no library '{name}' loaded; it has {}{}", those_loaded(.libraries), try_again(*.loading))]
    NoLibrary {
        /// The name asked for.
        name: String,
        /// The process.
        pid: i32,
        /// Those that are.
        libraries: Vec<String>,
        /// Whether there may be more in a moment.
        loading: bool,
    },
    /// Several libraries could be meant.
    #[error("'{name}' may be any of {}: give more of the one's name or path", some(.paths))]
    SeveralLibraries {
        /// The name given.
        name: String,
        /// Their paths in the guest.
        paths: Vec<String>,
    },
    /// A library of which nothing is known.
    #[error(
        "the symbols of the guest's {library} are not in its memory: give --victim a folder with a copy of it"
    )]
    UnknownLibrary {
        /// Its path in the guest.
        library: String,
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
    /// Nothing tells the types of a program or library.
    #[error(
        "nothing tells the types of {object}: it has no debugging information{}; build it with -g, install its debug package, or give --debug-file",
        and_refused(.refused)
    )]
    NoDebugInfo {
        /// Its path in the guest.
        object: String,
        /// Files that could have had it, and why they do not serve.
        refused: Vec<String>,
    },
    /// A debug file of something else.
    #[error("{path} is no debug file of {object}: {how}; give --debug-file another")]
    OtherDebugFile {
        /// The file given.
        path: PathBuf,
        /// The program's path in the guest.
        object: String,
        /// What differs.
        how: String,
    },
    /// The debugging information is damaged, or of a kind that is not read.
    #[error("the types of {path} cannot be read: {source}")]
    Types {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TypesError,
    },
    /// The debugging information tells of no such variable.
    #[error(
        "the debugging information of {object} does not tell the type of '{name}'; say it, as (TYPE){name}"
    )]
    Untyped {
        /// The symbol.
        name: String,
        /// The path in the guest of what has it.
        object: String,
    },
}

fn and_refused(refused: &[String]) -> String {
    if refused.is_empty() { String::new() } else { format!(", and {}", some(refused)) }
}

fn and_libraries(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and its library".to_owned(),
        count => format!(" and its {count} libraries"),
    }
}

fn lacking(lacks: &[String]) -> String {
    if lacks.is_empty() {
        return String::new();
    }
    let all = some(lacks);
    format!("; not all is known of {all}: give --victim a folder with whole copies, or the program")
}

fn those_loaded(libraries: &[String]) -> String {
    if libraries.is_empty() { "none".to_owned() } else { some(libraries) }
}

/// The first of `all`, and how many more: a line must stay one that is read.
fn some(all: &[String]) -> String {
    const SHOWN: usize = 8;
    let first = all[..all.len().min(SHOWN)].join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn try_again(loading: bool) -> &'static str {
    if loading { "; its libraries are still being loaded, try again" } else { "" }
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

    /// Its memory map as /proc/PID/maps shows it.
    pub fn shown(&self) -> Result<Vec<Shown>, KernelError> {
        shown(self.guest, self.mm, &self.mappings)
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

/// The victim: a process, and the files with its symbols, proved to agree.
pub struct Victim<'g> {
    /// Its memory.
    pub memory: VictimMemory<'g>,
    program: Rc<Program>,
    /// Where its program is loaded.
    object: Object,
    /// What its header says, where nothing but a map was given.
    loaded: Option<Loaded>,
    /// What of the program's symbols is not known.
    lack: Option<Lack>,
    /// Where its libraries are looked for first.
    folder: Option<PathBuf>,
    libraries: OnceCell<Libraries>,
    /// Where the types of its files are, if not where they are looked for.
    debug_file: Option<PathBuf>,
    /// What was read of that, by `struct file`.
    debug_info: RefCell<HashMap<Gva, Rc<Dwarf>>>,
}

impl<'g> Victim<'g> {
    /// Proves that the program in `memory` is that of `files`.
    pub fn open(memory: VictimMemory<'g>, files: &Files) -> Result<Self, VictimError> {
        let file = memory.program()?;
        let mut object = Object::new(&memory, file, 0)?;
        let Chosen { program, lack } = files.program(&memory, &mut object)?;
        let folder = files.folder().map(ToOwned::to_owned);
        let victim = Self {
            memory,
            program,
            object,
            loaded: None,
            lack,
            folder,
            libraries: OnceCell::new(),
            debug_file: files.debug_file.clone(),
            debug_info: RefCell::default(),
        };
        match &*victim.program {
            Program::Elf(_) => Ok(victim),
            Program::Map(_) => victim.with_map(),
        }
    }

    /// A map has no bytes to compare, but what it says of the program's ends must be so.
    fn with_map(mut self) -> Result<Self, VictimError> {
        let loaded = Loaded::read(&self.memory)?;
        self.object.bias = loaded.bias;
        let differs = match &*self.program {
            Program::Map(map) => loaded.differs(map),
            Program::Elf(_) => None,
        };
        self.loaded = Some(loaded);
        match differs {
            None => Ok(self),
            Some(how) => Err(self.another_program(how)?),
        }
    }

    /// Whether a file was given for its debugging information.
    pub fn has_debug_file(&self) -> bool {
        self.debug_file.is_some()
    }

    /// Whether all files of its program mean one place by `name`.
    pub fn has_global(&self, name: &str) -> bool {
        self.program.has_global(name)
    }

    /// What its program's symbols are had from; an error where that does not have all of them.
    pub fn symbols_from(&self) -> Result<String, VictimError> {
        let lack = self.lack.clone().map(VictimError::from);
        lack.map_or_else(|| Ok(self.program.path().display().to_string()), Err)
    }

    /// The shortest name that its program goes by.
    pub fn short_name(&self) -> &str {
        self.object.short()
    }

    /// The error for a file that is another program's than the one in the guest.
    fn another_program(&self, how: String) -> Result<VictimError, VictimError> {
        let (path, pid) = (self.program.path().to_owned(), self.memory.task.pid);
        Ok(VictimError::OtherProgram { path, pid, exe: self.memory.executable()?, how })
    }

    /// Where the victim's program has its symbol `name`; none where it has no such.
    fn in_program(&self, name: &str) -> Result<Option<Place>, VictimError> {
        let Some(symbol) = self.program.seen(name)? else { return Ok(None) };
        if self.loaded.as_ref().is_some_and(|loaded| !loaded.holds(symbol)) {
            let (path, pid) = (self.program.path().to_owned(), self.memory.task.pid);
            return Err(VictimError::Outside { name: name.to_owned(), path, pid });
        }
        Place::new(name, symbol, &self.object, true).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_the_first_of_many() {
        let names = |count: usize| vec!["a".to_owned(); count];
        assert_eq!(those_loaded(&names(2)), "a, a");
        assert_eq!(those_loaded(&names(8)), "a, a, a, a, a, a, a, a");
        assert_eq!(those_loaded(&names(4090)), "a, a, a, a, a, a, a, a and 4082 more");
    }
}
