//! The path of a process's program, as /proc/PID/exe shows it.

use super::Task;
use crate::address::Gva;
use crate::guest::Guest;
use crate::kernel::{KernelError, field, sanitized};

/// Path components, and mounts within mounts, that are followed.
const DEPTH: usize = 512;
/// The longest name of a file (NAME_MAX).
const NAME: usize = 255;

/// The path of the program that `task` runs; none for kernel threads and zombies.
pub fn executable(guest: &Guest, task: &Task) -> Result<Option<String>, KernelError> {
    let Some(mm) = task.mm else { return Ok(None) };
    let view = guest.kernel_memory();
    let file = Gva(view.read_u64(field(mm, guest.kernel().layouts.mm.exe_file)?)?);
    if file.0 == 0 {
        return Ok(None);
    }
    path_of(guest, file).map(Some)
}

/// The path of the `struct file` at `file`, from the guest's outermost root.
pub fn path_of(guest: &Guest, file: Gva) -> Result<String, KernelError> {
    let layouts = &guest.kernel().layouts;
    let pointer = |at, offset| -> Result<Gva, KernelError> {
        Ok(Gva(guest.kernel_memory().read_u64(field(at, offset)?)?))
    };
    let mut dentry = pointer(file, layouts.file.dentry)?;
    let mut vfsmount = pointer(file, layouts.file.mount)?;
    let mut names = Vec::new();
    for _ in 0..DEPTH {
        if dentry == pointer(vfsmount, layouts.mount.root)? {
            // `struct vfsmount` lies within `struct mount`.
            let mount = vfsmount.0.checked_sub(layouts.mount.vfsmount).map(Gva);
            let mount = mount.ok_or(KernelError::Damaged { what: "mount", at: vfsmount })?;
            let parent = pointer(mount, layouts.mount.parent)?;
            if parent == mount {
                return Ok(joined(names));
            }
            dentry = pointer(mount, layouts.mount.mountpoint)?;
            vfsmount = field(parent, layouts.mount.vfsmount)?;
            continue;
        }
        let parent = pointer(dentry, layouts.dentry.parent)?;
        if parent == dentry {
            // A file without a place in the tree, such as a memfd.
            names.push(name(guest, dentry)?);
            return Ok(joined(names));
        }
        names.push(name(guest, dentry)?);
        dentry = parent;
    }
    Err(KernelError::Damaged { what: "path", at: file })
}

/// Whether the `struct file` at `file` has no place in the tree of files any more, or never had;
/// `None` where the layouts do not tell.
pub fn removed(guest: &Guest, file: Gva) -> Result<Option<bool>, KernelError> {
    let layouts = &guest.kernel().layouts;
    let Some(hashed) = layouts.shown.hashed else { return Ok(None) };
    let pointer = |at, offset| -> Result<Gva, KernelError> {
        Ok(Gva(guest.kernel_memory().read_u64(field(at, offset)?)?))
    };
    let dentry = pointer(file, layouts.file.dentry)?;
    let rootless = pointer(dentry, layouts.dentry.parent)? == dentry;
    Ok(Some(rootless || pointer(dentry, hashed)?.0 == 0))
}

fn name(guest: &Guest, dentry: Gva) -> Result<String, KernelError> {
    let view = guest.kernel_memory();
    let text = Gva(view.read_u64(field(dentry, guest.kernel().layouts.dentry.name)?)?);
    Ok(sanitized(&view.read_string(text, NAME)?))
}

fn joined(names: Vec<String>) -> String {
    let from_root: Vec<_> = names.into_iter().rev().collect();
    format!("/{}", from_root.join("/"))
}
