//! Why a guest's kernel is not understood.

use super::Diagnosis;
use crate::address::{Gpa, Gva};
use crate::arch::TranslateError;
use crate::symbols::SymbolError;
use crate::types::{TypesError, TypesFileError};
use std::path::PathBuf;

/// The guest's kernel is not understood.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// RAM holds a kernel that does not tell its symbols.
    #[error(
        "the guest's kernel ({0}) is still booting (try again), or does not tell its symbols: give --system-map its System.map, or a copy of the guest's /proc/kallsyms (as root)"
    )]
    NoSymbols(String),
    /// The symbol table is too short to be one.
    #[error(
        "{path} has only {length} bytes: it is a stub, as Debian's kernel packages hold; give --system-map a copy of the guest's /proc/kallsyms (as root)"
    )]
    Stub {
        /// What was given.
        path: PathBuf,
        /// Its size.
        length: u64,
    },
    /// The symbol table hides its addresses.
    #[error("{0} has only zero addresses: copy /proc/kallsyms as root in the guest")]
    Hidden(PathBuf),
    /// A symbol table that lacks what a kernel has.
    #[error(
        "{0}; give --system-map the System.map of the guest's kernel, or a copy of its /proc/kallsyms"
    )]
    Symbols(#[from] SymbolError),
    /// The kernel has no tables of its own.
    #[error(
        "the guest's kernel has no symbol table of its own in RAM (CONFIG_KALLSYMS): take the System.map of its build, or of its -dbg package"
    )]
    NoTables,
    /// RAM holds no Linux kernel.
    #[error(
        "no Linux kernel found in guest RAM: the guest is still booting (try again), or this is not its RAM, or --ram-size or --ram-layout is wrong"
    )]
    NoKernel,
    /// RAM holds something else than a kernel that is understood.
    #[error(transparent)]
    Diagnosed(#[from] Diagnosis),
    /// The kernel does not tell its symbols; an earlier guest's does, which is not meant.
    #[error(
        "the guest's kernel ({0}) does not tell its symbols, and the one in RAM that does is an earlier guest's, as its clock stands still: give --system-map the System.map of the guest's, or a copy of its /proc/kallsyms (as root); if the VM is paused, let it run"
    )]
    OnlyEarlier(String),
    /// The kernel has not got far.
    #[error("the guest's kernel has not listed its RAM yet: it is still booting; try again")]
    Booting,
    /// RAM holds another kernel than the symbol table's.
    #[error(
        "{path} is not of the guest's kernel, or it is still booting; its RAM says: {banner}; give its own System.map or a copy of its /proc/kallsyms; if it is, check --ram-size"
    )]
    OtherKernel {
        /// The symbol table.
        path: PathBuf,
        /// The banner found in RAM.
        banner: String,
    },
    /// Several kernels prove themselves.
    #[error(
        "two kernels in guest RAM prove themselves, loaded at {0} and {1}, and neither's clock moves: the RAM file was used by an earlier guest, and the VM is paused; let it run, or start it with a fresh file"
    )]
    Several(Gpa, Gpa),
    /// The kernel is older than the VM.
    #[error(
        "the kernel in guest RAM ({0}) ran for longer than the VM does, and its clock stands still: an earlier VM left it, and the guest is still booting (try again), or it is paused (let it run)"
    )]
    OlderThanVm(String),
    /// The kernel carries no types.
    #[error(
        "the guest kernel has no BTF (CONFIG_DEBUG_INFO_BTF) to read structure layouts from: give --layouts its vmlinux, or a profile of it ('vmfi profile --vmlinux PATH')"
    )]
    NoBtf,
    /// The layouts lack something.
    #[error(
        "structure layouts from {from}: {source}; give --layouts the kernel's vmlinux, or a profile that 'vmfi profile' wrote"
    )]
    Types {
        /// Where they come from.
        from: String,
        /// What is wrong.
        source: TypesError,
    },
    /// The file of layouts cannot be used.
    #[error("{0}; give --layouts another file")]
    LayoutsFile(#[from] TypesFileError),
    /// The first task is not one.
    #[error(
        "init_task at {at} is not a task (its name reads '{comm}'): the guest is still booting, or --system-map or --layouts is of another kernel"
    )]
    BadInitTask {
        /// Where it should be.
        at: Gva,
        /// What stands where its name should.
        comm: String,
    },
    /// The first task's name is where it should be, its other members are not.
    #[error(
        "init_task at {0} has its name but not all of the first task: RAM is cut off (check --ram-size), the guest is still booting, this is an earlier guest's kernel, or --layouts is of another"
    )]
    NotTheFirstTask(Gva),
    /// What is remembered of a kernel does not hold.
    #[error("the kernel is not the one that is remembered; try again with --no-cache")]
    NotRemembered,
    /// A structure of the kernel is not what it must be.
    #[error("the guest kernel's {what} at {at} is damaged; try again")]
    Damaged {
        /// Which structure.
        what: &'static str,
        /// Where.
        at: Gva,
    },
    /// A pointer of the kernel leads nowhere.
    #[error("cannot read the guest kernel's memory: {0}; it may be still booting: try again")]
    Unreadable(#[from] TranslateError),
}
