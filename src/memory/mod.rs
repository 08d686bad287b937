//! Guest-physical memory as seen from the host.
//!
//! [`GuestMemory`] is the one interface. [`RamSource`] maps that of a live guest, a file, a
//! character device or the memory of a process, and [`map`] that of several; [`Image`] serves the
//! tests. None ever hands out a Rust slice of RAM: the guest writes it meanwhile, so bytes are copied
//! out, and words are loaded and exchanged, atomically where RAM can be mapped.
//!
//! This is the only room with `unsafe`.

mod buffer;
mod device;
mod image;
#[allow(unsafe_code)]
mod mapped;
mod parts;
mod process;
mod region;
mod source;

pub use buffer::Buffer;
pub use image::Image;
pub use parts::map;
pub use region::{Region, RegionMap};
pub use source::RamSource;

use crate::address::Gpa;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

/// Bytes in the unit that is loaded and exchanged at once.
pub const WORD: u64 = 8;

/// What may be done with guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only look: RAM is not even mapped writable.
    Read,
    /// Look and write.
    Write,
}

/// Guest RAM could not be had, or an address is not in it.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The RAM source could not be opened.
    #[error("cannot open guest RAM {path}: {source}{}", hint(.source))]
    Open {
        /// What was given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The RAM source could not be read any more.
    #[error("cannot read guest RAM {path}: {source}; has the VM ended?")]
    Read {
        /// What was given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The process whose memory it is runs no more.
    #[error("the VM of process {pid} has ended; nothing more can be read or written")]
    Ended {
        /// Its process id.
        pid: i32,
    },
    /// The RAM source is neither a file nor a character device.
    #[error(
        "{path} is not guest RAM: it is a {kind}; give the file or the device that the VMM exports"
    )]
    NotASource {
        /// What was given.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// A device that does not tell its size.
    #[error(
        "{path} is a device that does not tell its size: give --ram-size, or --ram-layout GPA:LENGTH@OFFSET,..."
    )]
    UnknownSize {
        /// What was given.
        path: PathBuf,
    },
    /// The RAM source holds nothing.
    #[error("guest RAM {path} is empty; is it the file that the VMM maps?")]
    Empty {
        /// What was given.
        path: PathBuf,
    },
    /// The RAM source is smaller than any guest's RAM.
    #[error(
        "{path} has only {actual} bytes, which no guest can run in: give -m the file that the VMM maps as guest RAM"
    )]
    NoGuests {
        /// What was given.
        path: PathBuf,
        /// Bytes in the source.
        actual: u64,
    },
    /// The RAM source is smaller than the layout needs.
    #[error(
        "guest RAM {path} has {actual} bytes, the layout needs {needed}; check --ram-size and --ram-layout"
    )]
    TooSmall {
        /// What was given.
        path: PathBuf,
        /// Bytes in the source.
        actual: u64,
        /// Bytes that the layout spans.
        needed: u64,
    },
    /// A layout whose regions overlap or are empty.
    #[error(
        "the region at {gpa} is empty, wraps, does not start at a page, or overlaps another in the guest or in its source; check --ram-layout"
    )]
    BadRegion {
        /// Where the region starts.
        gpa: Gpa,
    },
    /// Not in any region.
    #[error("{length} bytes at guest-physical {gpa} are not guest RAM")]
    NotRam {
        /// The first byte asked for.
        gpa: Gpa,
        /// How many were asked for.
        length: u64,
    },
    /// A word access that is not aligned.
    #[error("guest-physical {gpa} is not aligned to {WORD} bytes")]
    Unaligned {
        /// The address.
        gpa: Gpa,
    },
    /// A write to RAM that was opened for reading.
    #[error("guest RAM was opened for reading only")]
    ReadOnly,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; run as the user who runs the VM, or as root",
        std::io::ErrorKind::NotFound => "; give -m the file that the VMM maps as guest RAM",
        _ => "",
    }
}

/// Guest-physical memory: copied out, loaded and exchanged, never borrowed. Several threads may look
/// at once.
pub trait GuestMemory: Send + Sync {
    /// Which guest-physical addresses are RAM.
    fn regions(&self) -> &RegionMap;

    /// Copies RAM from `at` on into `into`. Bytes that the host never had to back read as zero
    /// and stay unbacked. The copy is not atomic.
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Loads the aligned little-endian word at `at`, all of it at one instant.
    fn load(&self, at: Gpa) -> Result<u64, MemoryError>;

    /// Loads each of the aligned words at `at`, all those that can be: for thousands of them, which
    /// may be had at once where each by itself is a call.
    fn load_each(&self, at: &[Gpa]) -> Vec<Option<u64>> {
        at.iter().map(|at| self.load(*at).ok()).collect()
    }

    /// Replaces the aligned word at `at` by `new` if it is `current`, at one instant; otherwise
    /// gives what it is instead as the inner error.
    fn compare_exchange(
        &self,
        at: Gpa,
        current: u64,
        new: u64,
    ) -> Result<Result<(), u64>, MemoryError>;

    /// The aligned word at `at` itself, where RAM is mapped and the word is backed: for who looks at
    /// it millions of times a second. It is as the guest has it: little-endian.
    fn word(&self, _at: Gpa) -> Option<&AtomicU64> {
        None
    }

    /// Whether the word at `at` is really loaded and exchanged at one instant. Where RAM is another
    /// process's own memory, it is not.
    fn atomic(&self, _at: Gpa) -> bool {
        true
    }

    /// The parts of RAM that the host backs with memory, in ascending order. All else is zero.
    /// All of it, where the source knows no holes.
    fn backed(&self) -> Vec<Range<Gpa>> {
        self.regions().runs()
    }
}

/// Copies by loads of the words that hold the bytes.
fn read_words(memory: &impl GuestMemory, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
    let mut at = at;
    let mut rest = into;
    while !rest.is_empty() {
        let word = at.align_down(WORD);
        let skipped = (at.0 - word.0) as usize;
        let length = rest.len().min(WORD as usize - skipped);
        let (part, after) = rest.split_at_mut(length);
        part.copy_from_slice(&memory.load(word)?.to_le_bytes()[skipped..skipped + length]);
        at = Gpa(word.0 + WORD);
        rest = after;
    }
    Ok(())
}

/// Where the aligned word at `at` lies in the source that `regions` describes.
fn word_offset(regions: &RegionMap, at: Gpa) -> Result<u64, MemoryError> {
    aligned(at)?;
    regions.locate(at, WORD)
}

fn aligned(at: Gpa) -> Result<(), MemoryError> {
    if at.0.is_multiple_of(WORD) { Ok(()) } else { Err(MemoryError::Unaligned { gpa: at }) }
}
