//! KVM where it really runs a guest, else TCG.
//!
//! There are machines whose /dev/kvm opens but on which QEMU aborts, or the guest never prints a
//! line. So KVM is proved once, by a guest that boots within a time limit, and the answer is
//! remembered until the host is booted again. VMFI_ACCEL=kvm or tcg overrides.

use super::guest::{LabGuest, Setup};
use super::{Initramfs, LabError};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A guest with KVM is up in a second or two.
const PROOF_LIMIT: Duration = Duration::from_secs(20);

/// How QEMU runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// In hardware.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accel {
    /// QEMU's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// What this machine can do, proved with the kernel at `kernel`.
    pub fn choose(kernel: &Path) -> Result<Self, LabError> {
        if let Some(name) = std::env::var("VMFI_ACCEL").ok().filter(|name| !name.is_empty()) {
            return name.parse();
        }
        if File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        remembered(kernel)
    }
}

impl FromStr for Accel {
    type Err = LabError;

    fn from_str(name: &str) -> Result<Self, LabError> {
        let known = [Self::Kvm, Self::Tcg].into_iter().find(|accel| accel.name() == name);
        known.ok_or_else(|| LabError::BadAccel(name.to_owned()))
    }
}

/// The answer of this boot of the host; found out by the first to ask, for whom the others wait.
fn remembered(kernel: &Path) -> Result<Accel, LabError> {
    let path = memory_path();
    let lock = File::create(path.with_extension("lock"));
    if let Ok(lock) = &lock {
        // Without the lock the proof is made twice, no more.
        let _ = lock.lock();
    }
    if let Some(accel) = fs::read_to_string(&path).ok().and_then(|name| name.parse().ok()) {
        return Ok(accel);
    }
    let accel = if boots(kernel)? { Accel::Kvm } else { Accel::Tcg };
    log::info!("lab: /dev/kvm is there; guests run with {}", accel.name());
    let _ = fs::write(&path, accel.name());
    Ok(accel)
}

/// Named by the host's boot, in the folder that a boot clears.
fn memory_path() -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let user = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own));
    let name = format!("vmfi-accel-{}-{}", user.unwrap_or(0), boot.trim());
    std::env::temp_dir().join(name)
}

/// Whether a guest runs under KVM. Only a guest that was started tells: a lab that lacks QEMU or
/// a kernel says nothing about KVM.
fn boots(kernel: &Path) -> Result<bool, LabError> {
    let accel = Some(Accel::Kvm);
    let setup = Setup { boot_limit: PROOF_LIMIT, accel, ..Setup::new(kernel) };
    match LabGuest::boot(&setup, &Initramfs::with_busybox()?) {
        Ok(_) => Ok(true),
        Err(LabError::Ended(_) | LabError::Panic(_) | LabError::Silent { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
