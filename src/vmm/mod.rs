//! Running virtual machines: where a VMM puts the RAM of its guest.

mod layout;

pub use layout::Layout;
