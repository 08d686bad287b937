//! What /proc/PID/maps shows of a mapping beside its place (fs/proc/task_mmu.c).

use super::{Mapping, mapping, path_of, removed};
use crate::address::Gva;
use crate::guest::Guest;
use crate::kernel::{KernelError, field, sanitized};

/// `struct super_block.s_dev` has the minor number in its lower 20 bits (include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;
/// `NONE` of `vsyscall_mode` (arch/x86/entry/vsyscall/vsyscall_64.c).
const NO_VSYSCALL: u32 = 2;
/// The longest name of one of the kernel's own mappings.
const LONGEST_NAME: usize = 64;

/// A mapping, as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The mapping.
    pub mapping: Mapping,
    /// Which file it is, zeros without one; `None` where the layouts do not tell.
    pub inode: Option<Inode>,
    /// The file's path, or what else is there: `[heap]`, `[stack]`, `[vdso]`.
    pub name: Option<String>,
}

/// A file on its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// The file's number there.
    pub number: u64,
}

/// What is shown of `mappings`, those of the `struct mm_struct` at `mm`; and behind them the page
/// that the kernel maps into every process.
pub fn shown(guest: &Guest, mm: Gva, mappings: &[Mapping]) -> Result<Vec<Shown>, KernelError> {
    let own = mappings.iter().map(|mapping| {
        let inode = match mapping.file {
            Some(file) => inode(guest, file)?,
            None => Some(Inode::default()),
        };
        Ok(Shown { mapping: mapping.clone(), inode, name: name(guest, mm, mapping)? })
    });
    own.chain(gate(guest).transpose()).collect()
}

/// The vsyscall page, which is in no process's map; none where the kernel has none.
fn gate(guest: &Guest) -> Result<Option<Shown>, KernelError> {
    let symbol = |name| guest.kernel().symbol(name);
    let (Ok(area), Ok(mode)) = (symbol("gate_vma"), symbol("vsyscall_mode")) else {
        return Ok(None);
    };
    if guest.kernel_memory().read_u32(mode)? == NO_VSYSCALL {
        return Ok(None);
    }
    let (inode, name) = (Some(Inode::default()), Some("[vsyscall]".to_owned()));
    Ok(Some(Shown { mapping: mapping(guest, area)?, inode, name }))
}

/// Which file the `struct file` at `file` is.
fn inode(guest: &Guest, file: Gva) -> Result<Option<Inode>, KernelError> {
    let layouts = &guest.kernel().layouts;
    let Some(layout) = &layouts.shown.inode else { return Ok(None) };
    let view = guest.kernel_memory();
    let word = |at, offset| Ok::<_, KernelError>(Gva(view.read_u64(field(at, offset)?)?));
    let inode = match layout.of_file {
        Some(of_file) => word(file, of_file)?,
        None => word(word(file, layouts.file.dentry)?, layout.of_dentry)?,
    };
    let file_system = word(inode, layout.file_system)?;
    let device = view.read_u32(field(file_system, layout.device)?)?;
    let device = (device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1));
    Ok(Some(Inode { device, number: word(inode, layout.number)?.0 }))
}

fn name(guest: &Guest, mm: Gva, mapping: &Mapping) -> Result<Option<String>, KernelError> {
    if let Some(file) = mapping.file {
        let gone = removed(guest, file)? == Some(true);
        let suffix = if gone { " (deleted)" } else { "" };
        return Ok(Some(path_of(guest, file)? + suffix));
    }
    match special(guest, mapping)? {
        Some(name) => Ok(Some(name)),
        None => Ok(heap_or_stack(guest, mm, mapping)?.map(str::to_owned)),
    }
}

/// The name of one of the kernel's own mappings.
fn special(guest: &Guest, mapping: &Mapping) -> Result<Option<String>, KernelError> {
    let Some(layout) = &guest.kernel().layouts.shown.special else { return Ok(None) };
    let Ok(own) = guest.kernel().symbol("special_mapping_vmops") else { return Ok(None) };
    let view = guest.kernel_memory();
    let word = |at, offset| Ok::<_, KernelError>(Gva(view.read_u64(field(at, offset)?)?));
    if word(mapping.area, layout.operations)? != own {
        return Ok(None);
    }
    let name = word(word(mapping.area, layout.data)?, layout.name)?;
    Ok(Some(sanitized(&view.read_string(name, LONGEST_NAME)?)))
}

fn heap_or_stack(
    guest: &Guest,
    mm: Gva,
    mapping: &Mapping,
) -> Result<Option<&'static str>, KernelError> {
    let Some(layout) = &guest.kernel().layouts.shown.heap else { return Ok(None) };
    let word = |offset| Ok::<_, KernelError>(guest.kernel_memory().read_u64(field(mm, offset)?)?);
    let (start, end) = (mapping.start.0, mapping.end.0);
    Ok(if start < word(layout.end)? && end > word(layout.start)? {
        Some("[heap]")
    } else if (start..=end).contains(&word(layout.stack)?) {
        Some("[stack]")
    } else {
        None
    })
}
