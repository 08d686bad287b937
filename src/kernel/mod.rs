//! What is known about the guest's kernel: where it was loaded, its symbols and its members.

mod all_symbols;
mod clock;
mod cpu;
mod diagnosis;
mod error;
mod facts;
mod find;
mod findings;
mod layouts;
mod own_symbols;
mod own_types;
mod pages;
mod resources;
mod scan;
mod search;
mod symbols;
mod system_map;
mod vmcoreinfo;

pub use all_symbols::KernelSymbol;
pub use diagnosis::Diagnosis;
pub use error::KernelError;
pub use facts::{Facts, Placement};
pub use findings::{Failure, Findings};
pub use layouts::{
    ClockLayout, CpuTimeLayout, DentryLayout, FileLayout, FlagLayout, HeapLayout, InodeLayout,
    Layouts, MapleLayout, MapsLayout, MmLayout, MountLayout, NodeLayout, PageCacheLayout,
    PageLayout, ShownLayout, SpecialLayout, TaskLayout, ThreadsLayout, VmaLayout,
};
pub use pages::{Owner, PageFacts};
pub use resources::system_ram;
pub use search::{Rejected, outlived};
pub use symbols::Symbols;
pub use system_map::SystemMap;

use crate::address::{Gpa, Gva};
use crate::arch::x86_64::{self, KERNEL_IMAGE};
use crate::arch::{AddressSpace, VirtualMemory};
use crate::memory::GuestMemory;
use crate::types::{Profile, Types};
use find::Located;
use search::Search;
use std::rc::Rc;
use std::sync::Arc;
use vmcoreinfo::VmCoreInfo;

/// Where x86-64 links `_text` (`__START_KERNEL`, CONFIG_PHYSICAL_START being 16 MiB).
const LINKED: Gva = Gva(0xffff_ffff_8100_0000);

/// The guest's kernel, found in RAM and proved.
#[derive(Clone)]
pub struct Kernel {
    /// What it calls itself: the text of `linux_banner`.
    pub banner: String,
    /// Where its image lies.
    located: Located,
    /// Its symbols.
    symbols: Arc<Symbols>,
    /// Where members lie.
    pub layouts: Layouts,
    /// What looked like it and is not.
    pub rejected: Vec<Rejected>,
    /// Whether symbols and layouts were remembered, and proved.
    pub recalled: bool,
    /// Whether its clock was seen to tick.
    pub ticks: bool,
}

/// What is told about the kernel beforehand.
#[derive(Clone, Copy, Default)]
pub struct Told<'a> {
    /// Its symbols, which then count and no others.
    pub symbols: Option<&'a Arc<Symbols>>,
    /// The layouts of its structures, likewise.
    pub layouts: Option<&'a Layouts>,
    /// Kernels that it may be.
    pub known: &'a [Facts],
}

impl Kernel {
    /// Finds the kernel that runs in `memory`, and proves it: its own page tables map the banner
    /// back to where it was found, and its first task is one. Where nothing is told, symbols are
    /// those of the kernel's own kallsyms, and layouts those of its own BTF.
    pub fn find(memory: &dyn GuestMemory, told: &Told) -> Result<Self, Failure> {
        let mut search = Search::new(memory, told.layouts);
        match told.symbols {
            Some(symbols) => search.look_for(symbols),
            None => search.look_for_any(told.known),
        }
        Ok(search.conclude(told.symbols)?.logged())
    }

    /// Whether it proves itself in `memory` just as well, which is the same RAM put together in
    /// another way. Its page tables name its one place, so it needs not be looked for.
    pub fn also_in(&self, memory: &dyn GuestMemory) -> bool {
        let proved = Self::prove(memory, &self.symbols, self.located, Some(&self.layouts));
        proved.is_ok_and(|other| other.banner == self.banner)
    }

    fn prove(
        memory: &dyn GuestMemory,
        symbols: &Arc<Symbols>,
        located: Located,
        layouts: Option<&Layouts>,
    ) -> Result<Self, KernelError> {
        let layouts = prove_first_task(memory, symbols, &located, layouts)?;
        let view = VirtualMemory { memory, space: located.space };
        let banner = view.read_string(slid(symbols, &located, "linux_banner")?, 256)?;
        let (banner, symbols) = (sanitized(&banner), Arc::clone(symbols));
        Ok(Self {
            banner,
            located,
            symbols,
            layouts,
            rejected: Vec::new(),
            recalled: false,
            ticks: false,
        })
    }

    fn recalled(self) -> Self {
        Self { recalled: true, ..self }
    }

    /// Says in the log what was found.
    fn logged(self) -> Self {
        let (banner, located) = (&self.banner, &self.located);
        log::debug!("kernel: {banner}");
        log::debug!(
            "kernel: banner at guest-physical {}, {}, symbols from {}, {:#x} past them",
            located.banner,
            located.space.format.name,
            self.symbols_from(),
            located.slide
        );
        if let Some(other) = self.layouts.kernel.as_ref().filter(|kernel| *kernel != banner) {
            log::warn!("--layouts is of '{other}', but the guest runs '{banner}'");
        }
        self
    }

    /// Where the kernel has its symbol `name` now.
    pub fn symbol(&self, name: &str) -> Result<Gva, KernelError> {
        slid(&self.symbols, &self.located, name)
    }

    /// Its release, as `uname -r` has it.
    pub fn release(&self) -> &str {
        release(&self.banner).unwrap_or_default()
    }

    /// Where its banner lies.
    pub fn banner_at(&self) -> Gpa {
        self.located.banner
    }

    /// Bytes by which KASLR moved it in its address space; `None` where the symbols do not tell.
    pub fn kaslr_offset(&self) -> Option<u64> {
        kaslr_offset(&self.symbols, &self.located)
    }

    /// What is added to an address of its image, from the image space's start on, to get the
    /// guest-physical one.
    pub fn phys_base(&self) -> Result<i64, KernelError> {
        phys_base(&self.symbols, &self.located)
    }

    /// Whether `note` is of the kernel that lies here.
    fn wrote(&self, note: &VmCoreInfo) -> bool {
        let root = self.symbols.page_table_root().ok();
        let root = root.and_then(|root| root.checked_offset(self.located.slide));
        note.phys_base() == self.phys_base().ok() && note.page_table_root() == root
    }

    /// The `struct page` of guest-physical address 0, from which those of all other pages follow
    /// each other (arch/x86/include/asm/pgtable_64_types.h: a variable since 4.9).
    pub fn first_page(&self, memory: &dyn GuestMemory) -> Result<Gva, KernelError> {
        let view = VirtualMemory { memory, space: self.space() };
        match self.symbol("vmemmap_base") {
            Ok(variable) => Ok(Gva(view.read_u64(variable)?)),
            Err(_) => Ok(x86_64::VMEMMAP),
        }
    }

    /// Where its symbols come from.
    pub fn symbols_from(&self) -> String {
        let from = self.symbols.path().display();
        if self.recalled {
            format!("a kernel that is remembered: {from}")
        } else {
            from.to_string()
        }
    }

    /// A profile of its layouts, from its own BTF.
    pub fn profile(&self, memory: &dyn GuestMemory) -> Result<Profile, KernelError> {
        let view = VirtualMemory { memory, space: self.space() };
        own_types::ask(&view, &self.symbols, &self.located, |btf, from| {
            Layouts::profile(btf).map_err(own_types::lacks(from))
        })
    }

    /// All types that it tells of itself.
    pub fn types(&self, memory: &dyn GuestMemory) -> Result<Rc<dyn Types>, KernelError> {
        let view = VirtualMemory { memory, space: self.space() };
        Ok(Rc::new(own_types::whole(&view, &self.symbols, &self.located)?))
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

/// Has the layouts and checks that `init_task` is a task: the last steps of the proof.
fn prove_first_task(
    memory: &dyn GuestMemory,
    symbols: &Symbols,
    located: &Located,
    layouts: Option<&Layouts>,
) -> Result<Layouts, KernelError> {
    let view = VirtualMemory { memory, space: located.space };
    let init_task = slid(symbols, located, "init_task")?;
    let proved = |layouts: Layouts| is_first_task(&view, &layouts, init_task).map(|()| layouts);
    match layouts {
        Some(layouts) => proved(layouts.clone()),
        None => own_types::ask(&view, symbols, located, |btf, from| {
            proved(Layouts::from_types(btf, from).map_err(own_types::lacks(from))?)
        }),
    }
}

/// An error unless the task at `at` is the first one.
fn is_first_task(view: &VirtualMemory, layouts: &Layouts, at: Gva) -> Result<(), KernelError> {
    let name = field(at, layouts.task.comm)?;
    let comm = view.read_string(name, layouts.task.comm_size as usize)?;
    // Before the kernel names its CPUs it is "swapper".
    if !matches!(comm.as_slice(), b"swapper/0" | b"swapper") {
        return Err(KernelError::BadInitTask { at, comm: sanitized(&comm) });
    }
    if !first_task(view, &layouts.task, at)? {
        return Err(KernelError::NotTheFirstTask(at));
    }
    Ok(())
}

/// Whether the task at `at` has what only the first one has: it is its own parent, its process id
/// is 0, and the list of tasks runs through it.
fn first_task(view: &VirtualMemory, layout: &TaskLayout, at: Gva) -> Result<bool, KernelError> {
    let ids = [layout.pid, layout.tgid].map(|offset| Ok(view.read_u32(field(at, offset)?)?));
    let parent = view.read_u64(field(at, layout.real_parent)?)?;
    let link = field(at, layout.tasks)?;
    let next = Gva(view.read_u64(link)?);
    // `struct list_head` is `next`, then `prev`. What is no pointer leads nowhere.
    let back = field(next, 8).and_then(|prev| Ok(view.read_u64(prev)?));
    let [pid, tgid]: [Result<u32, KernelError>; 2] = ids;
    Ok(pid? == 0 && tgid? == 0 && parent == at.0 && back.is_ok_and(|back| back == link.0))
}

/// The release in a kernel's banner.
pub fn release(banner: &str) -> Option<&str> {
    banner.split(' ').nth(2)
}

fn kaslr_offset(symbols: &Symbols, located: &Located) -> Option<u64> {
    slid(symbols, located, "_text").ok()?.checked_sub(LINKED)
}

fn phys_base(symbols: &Symbols, located: &Located) -> Result<i64, KernelError> {
    let into = slid(symbols, located, "linux_banner")?.0.wrapping_sub(KERNEL_IMAGE.0);
    Ok(located.banner.0.wrapping_sub(into) as i64)
}

fn slid(symbols: &Symbols, located: &Located, name: &str) -> Result<Gva, KernelError> {
    let address = symbols.address(name)?;
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
