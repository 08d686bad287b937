//! What is known about the guest's kernel: where it was loaded, its symbols and its members.

mod find;
mod layouts;
mod resources;

pub use layouts::{
    DentryLayout, FileLayout, Layouts, MapleLayout, MapsLayout, MmLayout, MountLayout, NodeLayout,
    TaskLayout, VmaLayout,
};
pub use resources::system_ram;

use crate::address::{Gpa, Gva};
use crate::arch::{AddressSpace, TranslateError, VirtualMemory};
use crate::memory::GuestMemory;
use crate::symbols::{MapFile, SymbolError};
use crate::types::{Btf, TypesError};
use find::Located;
use std::path::PathBuf;
use std::sync::Arc;

/// The largest BTF that is read: today's are 4 to 8 MB.
const BTF_LIMIT: u64 = 64 << 20;
/// Shorter than any kernel's symbol table: Debian's packages hold a stub of 83 bytes.
const STUB: usize = 64 << 10;

/// The guest's kernel is not understood.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No symbol table was given.
    #[error(
        "the guest kernel's symbols are needed: give --system-map its System.map, or a copy of the guest's /proc/kallsyms (as root)"
    )]
    NoSystemMap,
    /// The symbol table is too short to be one.
    #[error(
        "{path} has only {length} bytes: it is a stub, as Debian's kernel packages hold; give --system-map a copy of the guest's /proc/kallsyms (as root)"
    )]
    Stub {
        /// What was given.
        path: PathBuf,
        /// Its size.
        length: usize,
    },
    /// The symbol table hides its addresses.
    #[error("{0} has only zero addresses: copy /proc/kallsyms as root in the guest")]
    Hidden(PathBuf),
    /// A symbol table that lacks what a kernel has.
    #[error(
        "{0}; give --system-map the System.map of the guest's kernel, or a copy of its /proc/kallsyms"
    )]
    Symbols(#[from] SymbolError),
    /// RAM holds no Linux kernel.
    #[error(
        "no Linux kernel found in guest RAM: the guest is still booting (try again), or this is not its RAM, or --ram-size or --ram-layout is wrong"
    )]
    NoKernel,
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
        "two kernels in guest RAM prove themselves, loaded at {0} and {1}: the RAM file was used by an earlier guest; start the VM with a fresh one"
    )]
    Several(Gpa, Gpa),
    /// The kernel carries no types.
    #[error(
        "the guest kernel has no BTF (CONFIG_DEBUG_INFO_BTF), from which structure layouts are read"
    )]
    NoBtf,
    /// Its BTF lacks something.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// The first task is not one.
    #[error(
        "init_task at {at} is not a task (its name reads '{comm}'): the guest is still booting, or the symbol table is of another kernel"
    )]
    BadInitTask {
        /// Where it should be.
        at: Gva,
        /// What stands where its name should.
        comm: String,
    },
    /// A structure of the kernel is not what it must be.
    #[error("the guest kernel's {what} at {at} is damaged; try again")]
    Damaged {
        /// Which structure.
        what: &'static str,
        /// Where.
        at: Gva,
    },
    /// A pointer of the kernel leads nowhere.
    #[error("cannot read the guest kernel's memory: {0}")]
    Unreadable(#[from] TranslateError),
}

/// The guest's kernel, found in RAM and proved.
pub struct Kernel {
    /// What it calls itself: the text of `linux_banner`.
    pub banner: String,
    /// Where its image lies.
    located: Located,
    /// Its symbols.
    map: Arc<MapFile>,
    /// Where members lie.
    pub layouts: Layouts,
}

impl Kernel {
    /// Finds the kernel that `map` describes in `memory`, and proves it: its own page tables map
    /// the banner back to where it was found, its BTF reads, and its first task is one.
    pub fn find(memory: &dyn GuestMemory, map: &Arc<MapFile>) -> Result<Self, KernelError> {
        if map.length() < STUB {
            return Err(KernelError::Stub { path: map.path().to_owned(), length: map.length() });
        }
        let mut proved: Option<(Located, Layouts)> = None;
        let mut failed = None;
        for located in find::candidates(memory, map)? {
            match prove(memory, map, &located) {
                Err(error) => failed = Some(error),
                Ok(layouts) => {
                    if let Some((other, _)) = &proved {
                        return Err(KernelError::Several(other.banner, located.banner));
                    }
                    proved = Some((located, layouts));
                }
            }
        }
        let Some((located, layouts)) = proved else {
            return Err(failed.unwrap_or_else(|| find::explain(memory, map)));
        };
        let view = VirtualMemory { memory, space: located.space };
        let banner = view.read_string(slid(map, &located, "linux_banner")?, 256)?;
        let banner = sanitized(&banner);
        log::debug!("kernel: {banner}");
        log::debug!(
            "kernel: banner at guest-physical {}, {}, slide {:#x} past the symbol table",
            located.banner,
            located.space.format.name,
            located.slide
        );
        Ok(Self { banner, located, map: Arc::clone(map), layouts })
    }

    /// Where the kernel has its symbol `name` now.
    pub fn symbol(&self, name: &str) -> Result<Gva, KernelError> {
        slid(&self.map, &self.located, name)
    }

    /// The kernel's own address space.
    pub fn space(&self) -> AddressSpace {
        self.located.space
    }

    /// The address space with `pgd`, a page-table root as a kernel address.
    pub fn space_of(
        &self,
        memory: &dyn GuestMemory,
        pgd: Gva,
    ) -> Result<AddressSpace, KernelError> {
        // With page-table isolation this is the kernel's half, which maps the program too; the
        // program's own half lies one page on.
        let root = self.space().walk(memory, pgd)?.gpa;
        Ok(AddressSpace { root, format: self.located.space.format })
    }
}

/// Reads the layouts and checks that `init_task` is a task: the last steps of the proof.
fn prove(
    memory: &dyn GuestMemory,
    map: &MapFile,
    located: &Located,
) -> Result<Layouts, KernelError> {
    let view = VirtualMemory { memory, space: located.space };
    let layouts = Layouts::from_types(&btf(&view, map, located)?)?;
    let init_task = slid(map, located, "init_task")?;
    let at = field(init_task, layouts.task.comm)?;
    let comm = view.read_string(at, layouts.task.comm_size as usize)?;
    // Before the kernel names its CPUs it is "swapper".
    if !matches!(comm.as_slice(), b"swapper/0" | b"swapper") {
        return Err(KernelError::BadInitTask { at: init_task, comm: sanitized(&comm) });
    }
    Ok(layouts)
}

fn btf(view: &VirtualMemory, map: &MapFile, located: &Located) -> Result<Btf, KernelError> {
    let bound = |name| slid(map, located, name).map_err(|_| KernelError::NoBtf);
    let (start, stop) = (bound("__start_BTF")?, bound("__stop_BTF")?);
    let length = stop.checked_sub(start).filter(|length| (1..BTF_LIMIT).contains(length));
    let mut raw = vec![0; length.ok_or(KernelError::NoBtf)? as usize];
    view.read(start, &mut raw)?;
    Ok(Btf::parse(raw)?)
}

fn slid(map: &MapFile, located: &Located, name: &str) -> Result<Gva, KernelError> {
    let address = Gva(map.address(name)?);
    let slid = address.checked_offset(located.slide);
    slid.ok_or(KernelError::Damaged { what: "symbol table", at: address })
}

/// The address of the member `offset` bytes into the structure at `at`.
pub fn field(at: Gva, offset: u64) -> Result<Gva, KernelError> {
    at.checked_add(offset).ok_or(KernelError::Damaged { what: "pointer", at })
}

/// Text from the guest, fit for a terminal: anything but printable ASCII becomes `?`, and a line's
/// end is dropped.
pub fn sanitized(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let printable = |&byte: &u8| if (0x20..0x7f).contains(&byte) { byte as char } else { '?' };
    text.iter().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_guest_cannot_reach_the_terminal() {
        assert_eq!(sanitized(b"a\x1b[2Jb\xff\n"), "a?[2Jb?");
    }
}
