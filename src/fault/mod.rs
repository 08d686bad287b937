//! What to write: pure functions from the old bytes, and a seed, to the new ones.

mod random;
mod set;

pub use random::{Bounds, draw};
pub use set::{SetError, bytes_of};

/// A change of some bytes in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These bytes, whatever was there.
    Set(Vec<u8>),
}

impl Fault {
    /// How many bytes it changes.
    pub fn size(&self) -> usize {
        match self {
            Self::Set(bytes) => bytes.len(),
        }
    }

    /// The new bytes, as many as there are old ones.
    pub fn apply(&self, _before: &[u8]) -> Vec<u8> {
        match self {
            Self::Set(bytes) => bytes.clone(),
        }
    }
}
