//! Where the parts of a throw-away guest are on the host: the launcher, and a kernel.

use super::{LabError, host};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where cargo and `make build` leave what is built, from the folder of our executable: that is in it,
/// or in the one of the target that it is built for, or there with the tests.
const BUILT: [&str; 3] = ["..", "../..", "../../.."];
/// Where `make install` leaves the launcher, from there.
const INSTALLED: &str = "../lib/vmfi/wrapper";
/// The kernel of the demo and the tests.
const KERNEL: &str = "kernels/bookworm/vmlinuz";

/// What Linux's Documentation/arch/x86/boot.rst says of an image: where its magic is, and where it
/// says where its version is, less 512.
const MAGIC: std::ops::Range<usize> = 0x202..0x206;
const VERSION: std::ops::Range<usize> = 0x20e..0x210;
const HEADER: usize = 0x210;
const LONGEST_VERSION: u64 = 256;

/// The launcher.
pub fn wrapper() -> Result<PathBuf, LabError> {
    let mut places = built("guest/wrapper")?;
    places.push(beside(INSTALLED)?);
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or(LabError::NoWrapper(places))
}

/// An image that a guest can boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: String,
}

impl KernelImage {
    /// The one at `path`.
    pub fn open(path: &Path) -> Result<Self, LabError> {
        let unreadable = |source| LabError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut start = Vec::new();
        file.by_ref().take(HEADER as u64).read_to_end(&mut start).map_err(unreadable)?;
        let at = match (start.get(MAGIC), start.get(VERSION)) {
            (Some(b"HdrS"), Some(&[low, high])) => u64::from(u16::from_le_bytes([low, high])),
            _ => return Err(LabError::NotAKernel(path.to_owned())),
        };
        let mut version = Vec::new();
        file.seek(SeekFrom::Start(at + 0x200)).map_err(unreadable)?;
        file.take(LONGEST_VERSION).read_to_end(&mut version).map_err(unreadable)?;
        let version = version.split(|&byte| byte == 0).next().unwrap_or_default();
        let version = String::from_utf8_lossy(version).into_owned();
        Ok(Self { path: path.to_owned(), version })
    }

    /// The one of the build tree, or else the host's own, or else the newest in /boot.
    pub fn find() -> Result<Self, LabError> {
        let built = built(KERNEL)?;
        let places = [built.clone(), in_boot()].concat();
        let found = places.iter().find_map(|path| Self::open(path).ok());
        found.ok_or(LabError::NoKernel(built))
    }

    /// Whether it is a real-time kernel. Those lose the second serial port's interrupts.
    pub fn is_real_time(&self) -> bool {
        self.version.contains("PREEMPT_RT")
    }
}

/// The host's kernels, in the order in which they are tried.
fn in_boot() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let own = format!("/boot/vmlinuz-{}", own.trim());
    let mut others: Vec<_> = fs::read_dir("/boot").into_iter().flatten().flatten().collect();
    others.retain(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
    others.sort_by_key(|entry| {
        std::cmp::Reverse(entry.metadata().and_then(|file| file.modified()).ok())
    });
    let others = others.into_iter().map(|entry| entry.path());
    [own.into(), "/boot/vmlinuz".into()].into_iter().chain(others).collect()
}

/// The places of `file` in the build tree.
fn built(file: &str) -> Result<Vec<PathBuf>, LabError> {
    BUILT.iter().map(|target| beside(&format!("{target}/{file}"))).collect()
}

/// A path from the folder of our executable.
fn beside(path: &str) -> Result<PathBuf, LabError> {
    let own = std::env::current_exe().map_err(host("cannot tell the path of vmfi itself"))?;
    Ok(super::program::plain(&own.join("..").join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_its_version() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut image = vec![0; 0x400];
        image[MAGIC].copy_from_slice(b"HdrS");
        image[VERSION].copy_from_slice(&[0x20, 0]);
        let version = b"6.1.0-rt (somebody) #1 SMP PREEMPT_RT\0";
        image[0x220..0x220 + version.len()].copy_from_slice(version);
        fs::write(file.path(), &image).unwrap();
        let kernel = KernelImage::open(file.path()).unwrap();
        assert!(kernel.is_real_time() && kernel.version.starts_with("6.1.0-rt "));
        fs::write(file.path(), &image[..0x20f]).unwrap();
        assert!(matches!(KernelImage::open(file.path()), Err(LabError::NotAKernel(_))));
    }
}
