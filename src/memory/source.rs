//! What exports guest RAM: a file, a character device as the paper's VMM has it, or the memory of
//! the VMM's process.

use super::device::MappedDevice;
use super::mapped::MappedFile;
use super::process::ProcessMemory;
use super::{Access, GuestMemory, MemoryError, RegionMap};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A RAM source, opened.
pub struct RamSource {
    path: PathBuf,
    kind: Kind,
    access: Access,
    size: Option<u64>,
    identity: String,
}

enum Kind {
    File(File),
    Device(File),
    Process(ProcessMemory),
}

impl RamSource {
    /// Opens the file or character device at `path`.
    pub fn open(path: &Path, access: Access) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError::Open { path: path.to_owned(), source };
        // The kind first: opening a FIFO would block.
        let known = std::fs::metadata(path).map_err(failed)?;
        let device = known.file_type().is_char_device();
        if !device && !known.is_file() {
            let kind = describe(known.file_type());
            return Err(MemoryError::NotASource { path: path.to_owned(), kind });
        }
        let write = access == Access::Write;
        let file = OpenOptions::new().read(true).write(write).open(path).map_err(failed)?;
        let size = if device { device_size(&known) } else { Some(known.len()) };
        if size == Some(0) {
            return Err(MemoryError::Empty { path: path.to_owned() });
        }
        let identity = identity(&known, device);
        let kind = if device { Kind::Device(file) } else { Kind::File(file) };
        Ok(Self { path: path.to_owned(), kind, access, size, identity })
    }

    /// Opens the memory of the process `pid`; offsets are its addresses.
    pub fn of_process(pid: i32, access: Access) -> Result<Self, MemoryError> {
        Ok(Self::of_memory(ProcessMemory::open(pid, access)?, access))
    }

    /// The same where the process has `file` mapped for itself, and keeps its changes: `start` is
    /// the address at which the file's first byte would be.
    pub fn of_process_over(
        pid: i32,
        access: Access,
        file: &Path,
        start: u64,
    ) -> Result<Self, MemoryError> {
        Ok(Self::of_memory(ProcessMemory::open(pid, access)?.over(file, start)?, access))
    }

    fn of_memory(process: ProcessMemory, access: Access) -> Self {
        let path = process.path().to_owned();
        let identity = path.display().to_string();
        Self { path, kind: Kind::Process(process), access, size: None, identity }
    }

    /// What tells it from other sources, by whatever path.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Bytes, where the source says.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether it is a device, of which nothing but the regions given may be touched.
    pub fn is_device(&self) -> bool {
        matches!(self.kind, Kind::Device(_))
    }

    /// What to say where the size is needed and the source does not tell it.
    pub fn unknown_size(&self) -> MemoryError {
        MemoryError::UnknownSize { path: self.path.clone() }
    }

    /// Maps `regions` of it.
    pub fn map(&self, regions: RegionMap) -> Result<Box<dyn GuestMemory>, MemoryError> {
        let failed = |source| MemoryError::Open { path: self.path.clone(), source };
        let (path, access) = (&self.path, self.access);
        Ok(match &self.kind {
            Kind::Device(file) => Box::new(MappedDevice::map(path, file, access, regions)?),
            Kind::File(file) => {
                let file = file.try_clone().map_err(failed)?;
                Box::new(MappedFile::map(path, file, access, regions)?)
            }
            Kind::Process(process) => Box::new(process.map(access, regions)?),
        })
    }
}

fn identity(known: &Metadata, device: bool) -> String {
    if device {
        format!("character device {:#x}", known.rdev())
    } else {
        format!("file {} on {:#x}", known.ino(), known.dev())
    }
}

/// A device's file has no size; a DAX device's is in sysfs.
fn device_size(known: &Metadata) -> Option<u64> {
    let number = known.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let text = std::fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/size")).ok()?;
    text.trim().parse().ok()
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "folder"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "block device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_ram() {
        let open = |path: &str| RamSource::open(Path::new(path), Access::Read);
        let refused = |path: &str| open(path).err().unwrap().to_string();
        assert!(refused("/no/such/ram").contains("-m"));
        assert!(refused("/").contains("is a folder"));
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(refused(empty.path().to_str().unwrap()).contains("is empty"));
        assert_eq!(open("/dev/zero").unwrap().size(), None);
    }
}
