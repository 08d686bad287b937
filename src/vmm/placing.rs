//! What the RAM of a VM lies in, as its VMM's memory map shows.

use super::VmError;
use super::host::{FileId, HostProcess, Mapping, PinnedFile};
use crate::address::Gpa;
use crate::memory::{Access, MemoryError, RamSource, Region, RegionMap};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The most mappings of a VMM, of which real ones have some hundred.
const MOST_MAPPINGS: usize = 16 << 10;
/// The most files, or mappings of their own kind, that RAM lies in: more than QEMU has NUMA nodes
/// and memory devices.
const MOST_SOURCES: usize = 1024;

/// What a part of a VM's RAM lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSource {
    /// A file that the VMM shares.
    File {
        /// Where it opens.
        path: PathBuf,
        /// What must be there.
        id: FileId,
        /// What it was called when the VMM opened it.
        name: String,
    },
    /// The VMM's own memory.
    Process(i32),
    /// The same over a file, of which the VMM has its own copy.
    ProcessOver {
        /// The VMM.
        pid: i32,
        /// The file.
        file: PathBuf,
        /// What must be there.
        id: FileId,
        /// The address at which its first byte would be.
        start: u64,
    },
}

impl VmSource {
    /// Opens it.
    pub fn open(&self, access: Access) -> Result<RamSource, MemoryError> {
        match self {
            Self::File { path, id, .. } => pinned(path, *id, |held| RamSource::open(held, access)),
            Self::Process(pid) => RamSource::of_process(*pid, access),
            Self::ProcessOver { pid, file, id, start } => {
                pinned(file, *id, |held| RamSource::of_process_over(*pid, access, held, *start))
            }
        }
    }

    /// Whether it can be mapped here too, and so is written atomically.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// What `open` makes of the file `id` at `path`: of that file, whatever comes there meanwhile.
fn pinned(
    path: &Path,
    id: FileId,
    open: impl FnOnce(&Path) -> Result<RamSource, MemoryError>,
) -> Result<RamSource, MemoryError> {
    let failed = |source| MemoryError::Open { path: path.to_owned(), source };
    let held = PinnedFile::at(path, id).map_err(failed)?;
    let at = held.path();
    open(&at).map_err(|error| match error {
        MemoryError::Open { path, source } if path == at => failed(source),
        other => other,
    })
}

impl fmt::Display for VmSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, .. } if name.starts_with("/memfd:") => f.write_str("memfd"),
            Self::File { name, .. } => write!(f, "file {}", name.escape_default()),
            Self::Process(_) => f.write_str("private"),
            Self::ProcessOver { file, .. } => {
                write!(f, "private, over file {}", file.display().to_string().escape_default())
            }
        }
    }
}

/// A run of a VMM's addresses that are RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the guest has it.
    pub gpa: Gpa,
    /// Bytes.
    pub length: u64,
    /// Where the VMM has it.
    pub address: u64,
}

/// Finds what `pieces` of a VMM's memory lie in.
pub struct Placing<'p> {
    process: &'p HostProcess,
    mappings: &'p [Mapping],
    /// The files that were looked for.
    files: Vec<(FileId, Option<PathBuf>)>,
    /// What was found.
    pub sources: Vec<VmSource>,
}

impl<'p> Placing<'p> {
    /// In `mappings` of `process`.
    pub fn new(process: &'p HostProcess, mappings: &'p [Mapping]) -> Self {
        Self { process, mappings, files: Vec::new(), sources: Vec::new() }
    }

    /// The regions that `pieces` are.
    pub fn place(&mut self, pieces: &[Piece]) -> Result<RegionMap, VmError> {
        let mut regions = Vec::new();
        for piece in pieces {
            let mut done = 0;
            while done < piece.length {
                let region = self.region(piece, done)?;
                done += region.length;
                regions.push(region);
            }
        }
        let pid = self.process.pid;
        RegionMap::new(regions).map_err(|source| VmError::BadRegions { pid, source })
    }

    /// As much of `piece` from `done` bytes on as lies in one mapping.
    fn region(&mut self, piece: &Piece, done: u64) -> Result<Region, VmError> {
        let address = piece.address.saturating_add(done);
        let before = self.mappings.partition_point(|mapping| mapping.addresses.end <= address);
        let holds = |mapping: &&Mapping| mapping.addresses.contains(&address);
        let gone = || VmError::RamNotFound { pid: self.process.pid, mib: piece.length >> 20 };
        let mapping = self.mappings.get(before).filter(holds).ok_or_else(gone)?;
        // Who may only read a file may map it so too, and call it his RAM to have it written.
        if mapping.shared && !mapping.data {
            return Err(VmError::NotItsRam { pid: self.process.pid, address });
        }
        let into = address - mapping.addresses.start;
        let length = (piece.length - done).min(mapping.length() - into);
        let (source, offset) = self.source(mapping);
        let source = self.number_of(source)?;
        Ok(Region { gpa: Gpa(piece.gpa.0 + done), length, source, offset: offset + into })
    }

    /// What `mapping` lies in, and the offset there of its first byte.
    fn source(&mut self, mapping: &Mapping) -> (VmSource, u64) {
        let (pid, start, id) = (self.process.pid, mapping.addresses.start, mapping.file);
        match (self.file(mapping), mapping.shared) {
            (Some(path), true) => {
                (VmSource::File { path, id, name: mapping.name.clone() }, mapping.offset)
            }
            (Some(file), false) => {
                let first = start.wrapping_sub(mapping.offset);
                (VmSource::ProcessOver { pid, file, id, start: first }, start)
            }
            (None, _) => (VmSource::Process(pid), start),
        }
    }

    /// Where the file of `mapping` opens. It is looked for once, however often it is mapped.
    fn file(&mut self, mapping: &Mapping) -> Option<PathBuf> {
        if !mapping.has_file() {
            return None;
        }
        let known = self.files.iter().find(|(id, _)| *id == mapping.file);
        if let Some((_, path)) = known {
            return path.clone();
        }
        let path = self.process.file_behind(mapping);
        self.files.push((mapping.file, path.clone()));
        path
    }

    fn number_of(&mut self, source: VmSource) -> Result<usize, VmError> {
        if let Some(known) = self.sources.iter().position(|other| *other == source) {
            return Ok(known);
        }
        self.sources.push(source);
        if self.sources.len().max(self.files.len()) > MOST_SOURCES {
            return Err(VmError::Scattered { pid: self.process.pid, pieces: MOST_SOURCES });
        }
        Ok(self.sources.len() - 1)
    }
}

/// The mappings of a VMM.
pub fn mappings(process: &HostProcess) -> Result<Vec<Mapping>, VmError> {
    let mappings = process.mappings().map_err(|source| match process.still_runs() {
        true => VmError::NotPermitted { pid: process.pid, source },
        false => VmError::Ended(process.pid),
    })?;
    let (pid, pieces) = (process.pid, MOST_MAPPINGS);
    if mappings.len() > pieces { Err(VmError::Scattered { pid, pieces }) } else { Ok(mappings) }
}

/// `range` of guest-physical addresses at `address` of the VMM.
pub fn piece(range: Range<u64>, address: u64) -> Piece {
    Piece { gpa: Gpa(range.start), length: range.end - range.start, address }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::host::PROC;
    use std::path::Path;

    #[test]
    fn another_file_in_its_place_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ram");
        std::fs::write(&path, "ram").unwrap();
        let id = FileId::of(&std::fs::metadata(&path).unwrap());
        let source = VmSource::File { path: path.clone(), id, name: "ram".to_owned() };
        source.open(Access::Write).unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let error = source.open(Access::Write).err().unwrap().to_string();
        assert!(error.contains("another file") && error.contains("/ram"), "{error}");
    }

    #[test]
    fn pieces_are_placed_mapping_by_mapping() {
        let own = HostProcess::open(Path::new(PROC), std::process::id() as i32).unwrap();
        let maps = "1000-3000 rw-p 00000000 00:00 0\n3000-9000 rw-p 00000000 00:00 0";
        let mappings = Mapping::all(maps);
        let mut placing = Placing::new(&own, &mappings);
        let regions = placing.place(&[piece(0x10_0000..0x10_4000, 0x2000)]).unwrap();
        assert_eq!(regions.to_string(), "0x100000:0x1000@0x2000,0x101000:0x3000@0x3000");
        assert_eq!(placing.sources, [VmSource::Process(own.pid)]);
        let outside = placing.place(&[piece(0..0x2000, 0x8000)]);
        assert!(matches!(outside, Err(VmError::RamNotFound { .. })));
        let shared = Mapping::all("1000-3000 r--s 00000000 00:01 7 /etc/shadow");
        let only_read = Placing::new(&own, &shared).place(&[piece(0..0x1000, 0x1000)]);
        assert!(matches!(only_read, Err(VmError::NotItsRam { address: 0x1000, .. })));
        let twice = placing.place(&[piece(0..0x1000, 0x4000), piece(0x8000..0x9000, 0x4000)]);
        assert!(matches!(twice, Err(VmError::BadRegions { .. })));
    }
}
