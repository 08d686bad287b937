//! Memory of our own, for large copies out of the guest's.

use memmap2::{Advice, MmapMut};
use std::ops::{Deref, DerefMut};

/// Zeroed bytes, in large pages where the host has them: to get 4 MB of small ones takes longer
/// than to fill them.
pub enum Buffer {
    /// Mapped for itself.
    Mapped(MmapMut),
    /// From the allocator, where that fails.
    Plain(Vec<u8>),
}

impl Buffer {
    /// `length` bytes.
    pub fn new(length: usize) -> Self {
        let Ok(mapped) = MmapMut::map_anon(length) else { return Self::Plain(vec![0; length]) };
        // Where the host has none, small pages serve.
        let _ = mapped.advise(Advice::HugePage);
        Self::Mapped(mapped)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Plain(plain) => plain,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Plain(plain) => plain,
        }
    }
}
