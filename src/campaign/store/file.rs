//! The file that a store is: who may write it, and what it lies on.

use super::StoreError;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// File systems of networks, by `f_type` of statfs(2), on which a write-ahead log's shared memory
/// does not work: NFS, SMB and its relatives, Lustre, GPFS, AFS, Ceph, 9P, BeeGFS, FUSE.
const NETWORK: [u64; 12] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0bd0_0bd0,
    0x4750_4653,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x0102_1997,
    0x1983_0326,
    0x6573_5546,
];

/// Keeps others from running the campaign, by a file beside the store, which goes when it does.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// That of the store at `path`.
    pub fn of(store: &Path) -> Result<Self, StoreError> {
        let mut name = store.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |source| StoreError::File { path: store.to_owned(), source };
        loop {
            let file = File::create(&path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(StoreError::InUse(store.to_owned())),
                // Not every network's file system can.
                Err(error) => log::debug!("{}: cannot be locked: {error}", path.display()),
            }
            let lock = Self { path: path.clone(), file };
            // Whoever had it may have removed it meanwhile.
            if lock.is_there().map_err(failed)? {
                return Ok(lock);
            }
        }
    }

    fn is_there(&self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        Ok(std::fs::metadata(&self.path).is_ok_and(|there| there.ino() == own.ino()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_there().unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether the file at `path` is, or will be, on a file system of a network.
pub fn on_network(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = statfs(path).or_else(|_| statfs(folder.unwrap_or(Path::new("."))));
    // The kernel has it as a number of 32 bits.
    found.is_ok_and(|found| NETWORK.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_networks_are_known() {
        // As statfs(2) has them: NFS, SMB2, Lustre, FUSE; and those of a machine's own disks and RAM.
        let network = [0x6969, 0xfe53_4d42, 0x0bd0_0bd0, 0x6573_5546];
        assert!(network.iter().all(|kind| NETWORK.contains(kind)));
        let own = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
        assert!(!own.iter().any(|kind| NETWORK.contains(kind)));
    }
}
