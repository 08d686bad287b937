//! The VMs that run on this host, whatever their VMM.
//!
//! A VMM is one file that says how it is recognized, and one line in [`VMMS`].

use super::host::{HostProcess, PROC};
use super::qemu;
use super::vm::{Vm, VmError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Gives the VM that a process runs, where its VMM is the one known there.
type Recognize = fn(HostProcess) -> Option<Arc<dyn Vm>>;
/// One for each VMM.
const VMMS: [Recognize; 1] = [qemu::recognize];

/// How `--qemu` names a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmTarget {
    /// By its process id.
    Pid(i32),
    /// By the socket at which its VMM answers.
    Socket(PathBuf),
}

/// Every VM whose process is in the folder `proc`.
pub fn running_in(proc: &Path) -> Vec<Arc<dyn Vm>> {
    HostProcess::all(proc).into_iter().filter_map(recognize).collect()
}

/// Every VM of this host.
pub fn running() -> Vec<Arc<dyn Vm>> {
    running_in(Path::new(PROC))
}

fn recognize(process: HostProcess) -> Option<Arc<dyn Vm>> {
    VMMS.iter().find_map(|vmm| vmm(process.clone()))
}

/// The VM that `target` names.
pub fn find(target: &VmTarget) -> Result<Arc<dyn Vm>, VmError> {
    match target {
        VmTarget::Pid(pid) => {
            let process = HostProcess::open(Path::new(PROC), *pid);
            let process = process.map_err(|_| VmError::NoProcess(*pid))?;
            let name = process.name().escape_default().to_string();
            recognize(process).ok_or(VmError::NotAVm { pid: *pid, name })
        }
        VmTarget::Socket(path) => qemu::at_socket(path),
    }
}

/// The only VM of this host. One that may not be looked into counts only where there is no other.
pub fn only() -> Result<Arc<dyn Vm>, VmError> {
    let all = running();
    let usable = |vm: &&Arc<dyn Vm>| vm.process().mappings().is_ok();
    let usable: Vec<_> = all.iter().filter(usable).cloned().collect();
    let mut left = if usable.is_empty() { all } else { usable };
    match left.len() {
        0 => Err(VmError::None),
        1 => Ok(left.remove(0)),
        _ => Err(VmError::Several(left.iter().map(ToString::to_string).collect())),
    }
}

/// The VM that has its RAM in the file at `path`, of those that may be looked into.
pub fn of_file(path: &Path) -> Option<Arc<dyn Vm>> {
    let known = std::fs::metadata(path).ok()?;
    running().into_iter().find(|vm| vm.process().shares(&known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::VmmFacts;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A /proc with a process of each command line, numbered from 1 on.
    fn host(command_lines: &[&str]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::write(proc.path().join("uptime"), "1 1").unwrap();
        for (pid, line) in (1..).zip(command_lines) {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            let stat = format!("{pid} (a ) name) S 1 {} 4711 0", "0 ".repeat(17));
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(folder.join("comm"), "qemu\n").unwrap();
            fs::write(folder.join("cmdline"), line.replace(' ', "\0") + "\0").unwrap();
        }
        proc
    }

    #[test]
    fn vms_are_told_from_whatever_else_runs() {
        let proc = host(&[
            "/sbin/init",
            "/usr/bin/qemu-system-x86_64 -name one -m 1G",
            "qemu-system-x86_64 -machine none -qmp stdio",
            "qemu-img convert qemu-system-x86_64",
            "qemu-x86_64 program",
            "sh -c qemu-system-x86_64",
            "",
            "/usr/libexec/qemu-kvm -M q35 -m 512",
        ]);
        let all = running_in(proc.path());
        let shown: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["2 (one, 1024 MiB)", "8 (qemu, 512 MiB)"]);
        assert_eq!((all[0].machine(), all[1].machine()), ("pc".to_owned(), "q35".to_owned()));
        assert!(running_in(&proc.path().join("none")).is_empty());
        let facts = |accelerator: Option<&str>| VmmFacts {
            name: Some("qemu-system-x86_64".to_owned()),
            version: None,
            accelerator: accelerator.map(str::to_owned),
        };
        assert_eq!(all[0].vmm(), facts(None));
        let descriptors = proc.path().join("2/fd");
        fs::create_dir(&descriptors).unwrap();
        assert_eq!(all[0].vmm(), facts(Some("tcg")));
        symlink("anon_inode:kvm-vm", descriptors.join("9")).unwrap();
        assert_eq!(all[0].vmm(), facts(Some("kvm")));
        fs::remove_dir_all(proc.path().join("2")).unwrap();
        assert!(!all[0].process().still_runs() && all[1].process().still_runs());
    }
}
