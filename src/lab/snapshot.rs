//! A machine as it was at one moment, and any number of machines that go on from there.
//!
//! What is in RAM stays in its file, the state of the devices goes into another. A restored machine
//! has a copy of that RAM in a file of its own, so that it is mapped, and written atomically, as that
//! of any other; only what is there is copied, while QEMU starts.

use super::instance::{Instance, Starting};
use super::recipe::{Recipe, unnamed};
use super::{LabError, host};
use rustix::fs::{SeekFrom, ftruncate, seek, sendfile};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Has QEMU wait until it is told where the state of its devices is.
const WAITS: [&str; 2] = ["-incoming", "defer"];

/// A machine as it was at one moment.
pub struct Snapshot {
    recipe: Recipe,
    ram: File,
    state: File,
}

impl Snapshot {
    /// Of `instance`, which ends with that.
    pub fn take(mut instance: Instance) -> Result<Self, LabError> {
        let state = instance.save()?;
        let (recipe, ram) = instance.into_parts()?;
        Ok(Self { recipe, ram, state })
    }

    /// A machine that is about to go on from there: it stands still.
    pub fn restore(&self) -> Result<Instance, LabError> {
        let failed = host("cannot copy the snapshot's RAM");
        let ram = unnamed("ram", b"")?;
        let bytes = self.ram.metadata().map_err(&failed)?.len();
        ftruncate(&ram, bytes).map_err(|error| failed(error.into()))?;
        let starting = Starting::new(&self.recipe, ram, true, &WAITS)?;
        // A machine that waits for its state does not touch its RAM.
        copy(&self.ram, &starting.ram).map_err(|error| failed(error.into()))?;
        starting.load(&self.state)
    }

    /// The same with RAM that takes no memory before it is written; but the machine keeps that to
    /// itself, so that it is not mapped elsewhere. None where it cannot.
    pub fn restore_privately(&self) -> Result<Option<Instance>, LabError> {
        if !self.recipe.can_be_private() {
            return Ok(None);
        }
        let ram = self.ram.try_clone().map_err(host("cannot share the snapshot's RAM"))?;
        Starting::new(&self.recipe, ram, false, &WAITS)?.load(&self.state).map(Some)
    }

    /// Bytes of RAM that a restored machine begins with.
    pub fn resident(&self) -> u64 {
        self.ram.metadata().map_or(0, |file| file.blocks() * 512)
    }

    /// Bytes of RAM that it may come to have.
    pub fn ram_bytes(&self) -> u64 {
        self.ram.metadata().map_or(0, |file| file.len())
    }
}

/// Copies what is in `from`, but for its holes, to the same places of `to`.
fn copy(from: &File, to: &File) -> Result<(), Errno> {
    let mut at = 0;
    loop {
        let start = match seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()),
            start => start?,
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        seek(to, SeekFrom::Start(start))?;
        let mut offset = start;
        while offset < end {
            let left = (end - offset) as usize;
            if sendfile(to, from, Some(&mut offset), left)? == 0 {
                return Err(Errno::IO);
            }
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_there_is_copied_and_holes_stay_holes() {
        let from = unnamed("from", b"").unwrap();
        ftruncate(&from, 64 << 20).unwrap();
        from.write_all_at(b"first", 5).unwrap();
        from.write_all_at(b"last", (64 << 20) - 4).unwrap();
        let to = unnamed("to", b"").unwrap();
        ftruncate(&to, 64 << 20).unwrap();
        copy(&from, &to).unwrap();
        let mut bytes = [0; 9];
        to.read_exact_at(&mut bytes, 1).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0first");
        to.read_exact_at(&mut bytes[..4], (64 << 20) - 4).unwrap();
        assert_eq!(&bytes[..4], b"last");
        assert_eq!(to.metadata().unwrap().blocks(), from.metadata().unwrap().blocks());
    }
}
