//! The symbol table that a kernel carries of itself (scripts/kallsyms.c, kernel/kallsyms.c).
//!
//! Names are compressed: each is its length and so many bytes, each of which stands for a token.
//! Tokens are strings, one after another, and an index says where each starts. The first character
//! of a name is its letter, as `nm` has it. Addresses stand in a table of their own, in the names'
//! order, in one of several forms.
//!
//! Pure functions over bytes that the caller has copied out of the guest; all of them are hostile.

use std::ops::Range;

const TOKENS: usize = 256;
/// The longest name that a kernel can have (KSYM_NAME_LEN) is 512 since 6.1.
const LONGEST: usize = 512;
/// The part of the address space that holds x86-64 kernels.
const IMAGE_SPACE: Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// What the bytes of names stand for.
pub struct Tokens {
    table: Vec<u8>,
    /// Where each token lies in the table.
    places: Vec<Range<usize>>,
}

impl Tokens {
    /// Takes the tokens out of `table`, which may be longer, where `index` says that they start:
    /// `None` unless it agrees with the table.
    pub fn new(table: &[u8], index: &[u8]) -> Option<Self> {
        let places = places(table)?;
        let told =
            index.chunks_exact(2).map(|word| usize::from(u16::from_le_bytes([word[0], word[1]])));
        let agree = told.take(TOKENS).eq(places.iter().map(|place| place.start));
        agree.then(|| Self { table: table.to_vec(), places })
    }

    fn token(&self, byte: u8) -> &[u8] {
        &self.table[self.places[usize::from(byte)].clone()]
    }
}

/// Where each token lies: from the end of the one before up to a zero.
fn places(table: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut start = 0;
    let places = memchr::memchr_iter(0, table).take(TOKENS).map(|end| {
        let place = start..end;
        start = end + 1;
        place
    });
    let places: Vec<_> = places.collect();
    (places.len() == TOKENS).then_some(places)
}

/// Calls `each` with index, letter and name of the first `count` names in `names`: `None` where
/// they end before, or cannot be names; else how many bytes they take.
pub fn walk_names(
    names: &[u8],
    count: usize,
    tokens: &Tokens,
    mut each: impl FnMut(usize, u8, &[u8]),
) -> Option<usize> {
    let (mut rest, mut name) = (names, Vec::with_capacity(LONGEST));
    for index in 0..count {
        let length = length(&mut rest)?;
        let (bytes, after) = rest.split_at_checked(length)?;
        rest = after;
        name.clear();
        for &byte in bytes {
            name.extend_from_slice(tokens.token(byte));
        }
        let (&letter, name) = name.split_first().filter(|(_, name)| name.len() <= LONGEST)?;
        each(index, letter, name);
    }
    Some(names.len() - rest.len())
}

/// Takes the length of a name off `bytes`: one byte, or two where its top bit is set (since 6.1,
/// commit 73bbb94466fd; before, names were shorter).
fn length(bytes: &mut &[u8]) -> Option<usize> {
    let (&low, rest) = bytes.split_first()?;
    *bytes = rest;
    if low & 0x80 == 0 {
        return Some(usize::from(low));
    }
    let (&high, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(usize::from(low & 0x7f) | usize::from(high) << 7)
}

/// What the offsets of a table count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// This address.
    Fixed(u64),
    /// This address, and backwards from it where they are negative; those that are not are
    /// addresses of per-CPU variables (CONFIG_KALLSYMS_ABSOLUTE_PERCPU, up to 6.14).
    PerCpu(u64),
    /// Where each stands, the first one here.
    Place(u64),
}

impl Base {
    /// The address that the offset of symbol `index` means.
    pub fn address(self, index: usize, offset: i32) -> u64 {
        let signed = i64::from(offset) as u64;
        match self {
            Self::Fixed(base) => base.wrapping_add(u64::from(offset as u32)),
            Self::PerCpu(_) if offset >= 0 => signed,
            Self::PerCpu(base) => base.wrapping_sub(1).wrapping_sub(signed),
            Self::Place(first) => first.wrapping_add(4 * index as u64).wrapping_add(signed),
        }
    }

    /// Whether the symbols, which stand in the order of their addresses, come out so.
    pub fn fits(self, offsets: &[i32]) -> bool {
        let addresses =
            offsets.iter().enumerate().map(|(index, offset)| self.address(index, *offset));
        let in_image = |address: &u64| IMAGE_SPACE.contains(address);
        let image: Vec<_> = addresses.filter(in_image).collect();
        // All but per-CPU variables and absolute symbols lie in the image.
        2 * image.len() > offsets.len() && image.is_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens as scripts/kallsyms.c writes them: a character stands for itself, 1 for `init_`.
    fn tables() -> (Vec<u8>, Vec<u8>) {
        let (mut table, mut index) = (Vec::new(), Vec::new());
        for byte in 0..=255u8 {
            index.extend((table.len() as u16).to_le_bytes());
            match byte {
                1 => table.extend(b"init_"),
                b'A'..=b'z' => table.push(byte),
                _ => {}
            }
            table.push(0);
        }
        (table, index)
    }

    fn walked(names: &[u8], count: usize) -> Option<(Vec<String>, usize)> {
        let (table, index) = tables();
        let tokens = Tokens::new(&table, &index).unwrap();
        let mut found = Vec::new();
        let taken = walk_names(names, count, &tokens, |index, letter, name| {
            let name = String::from_utf8_lossy(name);
            found.push(format!("{index} {} {name}", letter as char));
        });
        Some((found, taken?))
    }

    #[test]
    fn names_are_put_together_from_tokens() {
        let mut names = b"\x06D\x01task\x05T_end".to_vec();
        names.extend([0x82, 0x01]);
        names.extend(vec![b'x'; 130]);
        let (found, taken) = walked(&names, 3).unwrap();
        assert_eq!(found[..2], ["0 D init_task", "1 T _end"]);
        assert_eq!(found[2], format!("2 x {}", "x".repeat(129)));
        assert_eq!(taken, names.len());
    }

    #[test]
    fn damaged_tables_are_none() {
        let (table, index) = tables();
        assert!(Tokens::new(&table[..table.len() - 1], &index).is_none());
        assert!(Tokens::new(&table, &index[..510]).is_none());
        assert!(Tokens::new(&table, &[1; 512]).is_none());
        assert!(walked(b"\x06D\x01task", 2).is_none(), "one is missing");
        assert!(walked(b"\x06D\x01tas", 1).is_none(), "it is cut off");
        assert!(walked(b"\x80", 1).is_none(), "its length is cut off");
        assert!(walked(b"\x00", 1).is_none(), "it has no letter");
        let long: Vec<_> = [0xff, 0x01].into_iter().chain([1; 255]).collect();
        assert!(walked(&long, 1).is_none(), "it is longer than a name can be");
    }

    #[test]
    fn offsets_are_told_by_what_comes_out() {
        let base = 0xffff_ffff_8100_0000;
        let per_cpu = [0, 0x1000, -1, -0x41, -0x1001];
        assert!(Base::PerCpu(base).fits(&per_cpu) && !Base::Fixed(base).fits(&per_cpu));
        assert_eq!(Base::PerCpu(base).address(3, -0x41), base + 0x40);
        assert_eq!(Base::PerCpu(base).address(1, 0x1000), 0x1000);
        let fixed = [0, 0x40, 0x1000];
        assert!(Base::Fixed(base).fits(&fixed) && !Base::PerCpu(base).fits(&fixed));
        let place = Base::Place(base + 0x10_0000);
        let places = [-0x10_0000, -0x10_0000 + 0x3c, 0x100];
        assert!(place.fits(&places));
        assert_eq!(place.address(1, places[1]), base + 0x40);
    }
}
