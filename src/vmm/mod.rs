//! Running virtual machines: where a VMM puts the RAM of its guest.

mod layout;
mod palacios;

pub use layout::{Layout, RamLayout};
pub use palacios::{LIST as PALACIOS_LIST, PalaciosError, PalaciosRam};
