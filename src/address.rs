//! One newtype per address space, so that an address is never used in the wrong one.
//!
//! Only checked arithmetic exists, and none across kinds: what comes from guest RAM is hostile,
//! and a sum that wraps would point somewhere that nobody asked for.

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `offset` bytes on; `None` where that leaves the 64-bit space.
            pub fn checked_add(self, offset: u64) -> Option<Self> {
                self.0.checked_add(offset).map(Self)
            }

            /// The address `offset` bytes on or back; `None` where that leaves the 64-bit space.
            pub fn checked_offset(self, offset: i64) -> Option<Self> {
                self.0.checked_add_signed(offset).map(Self)
            }

            /// How many bytes this address lies past `start`; `None` where it lies before.
            pub fn checked_sub(self, start: Self) -> Option<u64> {
                self.0.checked_sub(start.0)
            }

            /// The last multiple of `alignment` (a power of two) at or before this address.
            pub fn align_down(self, alignment: u64) -> Self {
                Self(self.0 & !(alignment - 1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A guest-physical address: where the guest's hardware finds a byte.
    Gpa
}
address! {
    /// A guest-virtual address: where a program in the guest, or its kernel, finds a byte.
    Gva
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Gva(u64::MAX).checked_add(1), None);
        assert_eq!(Gpa(0).checked_offset(-1), None);
        assert_eq!(Gpa(5).checked_sub(Gpa(6)), None);
        assert_eq!(Gpa(5).checked_offset(-5), Some(Gpa(0)));
    }

    #[test]
    fn shows_as_hexadecimal() {
        assert_eq!(Gva(0xffff_8880_0000_1000).to_string(), "0xffff888000001000");
        assert_eq!(Gpa(0x1fff).align_down(0x1000), Gpa(0x1000));
    }
}
