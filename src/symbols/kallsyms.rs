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
pub const IMAGE_SPACE: Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

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
        let short = places.iter().all(|place| place.len() <= LONGEST);
        (agree && short).then(|| Self { table: table.to_vec(), places })
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

/// Calls `each` with index, letter and name of those of the first `count` names in `names` whose
/// length is `wanted`: to put a name together takes longer than to see how long it is. `None` where
/// they end before, or cannot be names; else how many bytes they take.
pub fn walk_names(
    names: &[u8],
    count: usize,
    tokens: &Tokens,
    wanted: impl Fn(usize) -> bool,
    mut each: impl FnMut(usize, u8, &[u8]),
) -> Option<usize> {
    let (mut rest, mut name) = (names, Vec::with_capacity(LONGEST));
    for index in 0..count {
        let length = length(&mut rest)?;
        let (bytes, after) = rest.split_at_checked(length)?;
        rest = after;
        let length: usize = bytes.iter().map(|byte| tokens.places[usize::from(*byte)].len()).sum();
        let length = length.checked_sub(1).filter(|length| *length <= LONGEST)?;
        if wanted(length) {
            name.clear();
            bytes.iter().for_each(|byte| name.extend_from_slice(tokens.token(*byte)));
            let (&letter, name) = name.split_first()?;
            each(index, letter, name);
        }
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
    /// This address (since 4.6).
    Fixed(u64),
    /// This address, and backwards from it where they are negative; those that are not are
    /// addresses of per-CPU variables (CONFIG_KALLSYMS_ABSOLUTE_PERCPU, up to 6.14).
    PerCpu(u64),
    /// Where each stands, the first one here (since 7.0).
    Place(u64),
}

impl Base {
    /// The addresses that `offsets` mean, where they can be those of a kernel.
    pub fn addresses(self, offsets: &[i32]) -> Option<Vec<u64>> {
        let all = offsets.iter().enumerate();
        let all: Vec<_> = all.map(|(index, offset)| self.address(index, *offset)).collect();
        plausible(&all).then_some(all)
    }

    fn address(self, index: usize, offset: i32) -> u64 {
        let signed = i64::from(offset) as u64;
        match self {
            Self::Fixed(base) => base.wrapping_add(u64::from(offset as u32)),
            Self::PerCpu(_) if offset >= 0 => signed,
            Self::PerCpu(base) => base.wrapping_sub(1).wrapping_sub(signed),
            Self::Place(first) => first.wrapping_add(4 * index as u64).wrapping_add(signed),
        }
    }
}

/// Whether most addresses lie in a kernel's image, and those in ascending order: all but per-CPU
/// variables and absolute symbols do.
fn plausible(addresses: &[u64]) -> bool {
    let image: Vec<_> = addresses.iter().filter(|at| IMAGE_SPACE.contains(at)).collect();
    2 * image.len() > addresses.len() && image.is_sorted()
}

/// Offsets as they stand in memory.
pub fn offsets(bytes: &[u8]) -> Vec<i32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// What the table of tokens holds from '0' on; no letter follows, for no name has a colon.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
const NO_DIGIT: &[u8] = b":\0";

/// Where bytes like those of a token table's digits lie in `bytes`.
pub fn digits(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let found = memchr::memmem::find_iter(bytes, DIGITS);
    found.filter(|at| !bytes[at + DIGITS.len()..].starts_with(NO_DIGIT))
}

/// Whether a whole token table lies round the digits at `digits`, with the index that agrees.
pub fn is_token_table(bytes: &[u8], digits: usize) -> bool {
    tokens_at(bytes, digits).is_some()
}

/// The tables of a kernel, told by their own form in a piece of its image.
pub struct Tables<'i> {
    image: &'i [u8],
    /// What names consist of.
    pub tokens: Tokens,
    /// How many symbols there are.
    pub count: usize,
    /// Where that number stands, and where the names and the index of the tokens start.
    number: usize,
    names: usize,
    token_index: usize,
}

impl<'i> Tables<'i> {
    /// The tables in `image`, of whose token table the digits lie at `digits`.
    pub fn find(image: &'i [u8], digits: usize) -> Option<Self> {
        let (tokens, start, token_index) = tokens_at(image, digits)?;
        let (number, names) = names_before(image, start, &tokens)?;
        let count = word(image, number)? as usize;
        Some(Self { image, tokens, count, number, names, token_index })
    }

    /// Where the names start in the image's piece.
    pub fn start_of_names(&self) -> usize {
        self.names
    }

    /// The address of each symbol; `start` is that of the image's piece. Which form they have, and
    /// where they stand, is told by what comes out.
    pub fn addresses(&self, start: u64) -> Option<Vec<u64>> {
        let after_tokens = (self.token_index + 2 * TOKENS).next_multiple_of(4);
        self.absolute().or_else(|| self.based_before()).or_else(|| {
            // From 6.4 on; the base stands behind them, until it went with 7.0.
            [after_tokens.next_multiple_of(8), after_tokens].iter().find_map(|&at| {
                let base = (at + 4 * self.count).next_multiple_of(8);
                self.based(at, base).or_else(|| {
                    Base::Place(start.checked_add(at as u64)?).addresses(&self.offsets(at)?)
                })
            })
        })
    }

    /// Without CONFIG_KALLSYMS_BASE_RELATIVE: before the number.
    fn absolute(&self) -> Option<Vec<u64>> {
        let number = self.number.next_multiple_of(8);
        let bytes = self.image.get(number.checked_sub(8 * self.count)?..number)?;
        let words = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes));
        let all: Vec<_> = words.collect::<Result<_, _>>().ok()?;
        plausible(&all).then_some(all)
    }

    /// Up to 6.3: offsets and base before the number.
    fn based_before(&self) -> Option<Vec<u64>> {
        let base = self.number.checked_sub(8)?;
        self.based(base.checked_sub((4 * self.count).next_multiple_of(8))?, base)
    }

    fn based(&self, offsets: usize, base: usize) -> Option<Vec<u64>> {
        let base = u64::from_le_bytes(self.image.get(base..base + 8)?.try_into().ok()?);
        let offsets = self.offsets(offsets)?;
        [Base::PerCpu(base), Base::Fixed(base)].iter().find_map(|base| base.addresses(&offsets))
    }

    fn offsets(&self, at: usize) -> Option<Vec<i32>> {
        Some(offsets(self.image.get(at..at + 4 * self.count)?))
    }
}

/// How far before its tokens a kernel may have its names: they take some MB.
const REACH: usize = 8 << 20;
/// How many places that look like the names' start are looked at closer: hostile ones could be
/// everywhere.
const MOST_TRIES: usize = 16;
/// How many words that could be the names' number are looked at: a kernel has some hundred.
const MOST_NUMBERS: usize = 1 << 13;
/// The letters that `nm` has for the symbols of a kernel.
const LETTERS: &[u8] = b"aAbBdDrRtTvVwWnN";
/// Each so many names, a marker tells where they stand.
const MARKED: usize = 256;

/// The tokens whose digits lie at `digits`, where they start, and where their index does.
fn tokens_at(image: &[u8], digits: usize) -> Option<(Tokens, usize, usize)> {
    let rest = image.get(digits..)?;
    let last = memchr::memchr_iter(0, rest).nth(TOKENS - 1 - usize::from(b'0'))?;
    let end = digits + last + 1;
    [8, 4].iter().find_map(|alignment| {
        let at = end.next_multiple_of(*alignment);
        let index = image.get(at..at + 2 * TOKENS)?;
        let own = &index[2 * usize::from(b'0')..];
        let start = digits.checked_sub(usize::from(u16::from_le_bytes([own[0], own[1]])))?;
        Some((Tokens::new(&image[start..end], index)?, start, at))
    })
}

/// Where the number of the names and the names start, before the tokens at `end`: before those lie
/// the markers, before those the names, and before those their number.
fn names_before(image: &[u8], end: usize, tokens: &Tokens) -> Option<(usize, usize)> {
    let numbers = (0..end / 4).rev().take(REACH / 4).map(|word| 4 * word);
    let plausible =
        numbers.filter(|at| word(image, *at).is_some_and(|count| PLAUSIBLE.contains(&count)));
    let places = plausible.take(MOST_NUMBERS).flat_map(|number| {
        [8, 4].map(|alignment| (number, (number + 4).next_multiple_of(alignment)))
    });
    let begin =
        places.filter(|(_, names)| image.get(*names..).is_some_and(|names| begins(names, tokens)));
    begin.take(MOST_TRIES).find(|&(number, names)| names_end(image, number, names, tokens))
}

/// Whether the first of `names` have letters that a kernel's symbols can have.
fn begins(names: &[u8], tokens: &Tokens) -> bool {
    let mut letters = true;
    let each = |_, letter: u8, _: &[u8]| letters &= LETTERS.contains(&letter);
    walk_names(names, MARKED, tokens, |_| true, each).is_some() && letters
}

/// Whether the names at `start`, whose number stands at `number`, end where their markers follow.
fn names_end(image: &[u8], number: usize, start: usize, tokens: &Tokens) -> bool {
    let names = image.get(start..).unwrap_or(&[]);
    let walk = |count| walk_names(names, count, tokens, |_| false, |_, _, _| ());
    let count = word(image, number).unwrap_or(0) as usize;
    let Some((marked, end)) = walk(MARKED).zip(walk(count)) else { return false };
    [8, 4].iter().any(|alignment| {
        let markers = (start + end).next_multiple_of(*alignment);
        word(image, markers) == Some(0) && word(image, markers + 4) == Some(marked as u32)
    })
}

/// How many symbols a kernel may have.
const PLAUSIBLE: Range<u32> = 1000..1 << 20;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
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
                b'0'..=b'9' | b'A'..=b'z' => table.push(byte),
                b':' => table.extend(b"long_token"),
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
        let taken = walk_names(
            names,
            count,
            &tokens,
            |_| true,
            |index, letter, name| {
                let name = String::from_utf8_lossy(name);
                found.push(format!("{index} {} {name}", letter as char));
            },
        );
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

    const BASE: u64 = 0xffff_ffff_8100_0000;
    const COUNT: usize = 2000;

    fn address(index: usize) -> u64 {
        BASE + 0x40 * index as u64
    }

    /// Appends `bytes`, aligned to 8; gives where.
    fn put(image: &mut Vec<u8>, bytes: impl IntoIterator<Item = u8>) -> usize {
        image.resize(image.len().next_multiple_of(8), 0);
        let at = image.len();
        image.extend(bytes);
        at
    }

    /// The number, names, markers and tokens, in the order that they always have; where the digits
    /// are.
    fn put_names(image: &mut Vec<u8>) -> usize {
        let (table, index) = tables();
        let (mut names, mut markers) = (Vec::new(), Vec::new());
        for number in 0..COUNT {
            if number % MARKED == 0 {
                markers.extend((names.len() as u32).to_le_bytes());
            }
            let name = format!("t\x01{}", "abcdefgh".repeat(number % 3 + 1));
            names.push(name.len() as u8);
            names.extend(name.bytes());
        }
        put(image, (COUNT as u32).to_le_bytes());
        put(image, names);
        put(image, markers);
        let digits =
            put(image, table.clone()) + usize::from(index[96]) + 256 * usize::from(index[97]);
        put(image, index);
        digits
    }

    fn words(all: impl Iterator<Item = i64>) -> impl Iterator<Item = u8> {
        all.flat_map(|word| (word as i32).to_le_bytes())
    }

    /// What is found in `image`: the addresses, which must be right, and the first name.
    fn found(image: &[u8], digits: usize) -> Option<String> {
        assert_eq!(super::digits(image).collect::<Vec<_>>(), [digits]);
        let tables = Tables::find(image, digits)?;
        let addresses = tables.addresses(BASE + 0x20_0000)?;
        assert_eq!(addresses, (0..COUNT).map(address).collect::<Vec<_>>());
        let mut first = String::new();
        walk_names(
            &image[tables.start_of_names()..],
            1,
            &tables.tokens,
            |_| true,
            |_, _, name| {
                first = String::from_utf8_lossy(name).into_owned();
            },
        );
        Some(first)
    }

    #[test]
    fn tables_are_told_by_their_form_in_every_order() {
        let all = || 0..COUNT as i64;
        // Before 4.6, and without CONFIG_KALLSYMS_BASE_RELATIVE.
        let mut absolute = vec![0x55; 64];
        put(&mut absolute, (0..COUNT).flat_map(|index| address(index).to_le_bytes()));
        // Up to 6.3, per-CPU addresses absolute.
        let mut before = vec![0x55; 64];
        put(&mut before, words(all().map(|index| -1 - 0x40 * index)));
        put(&mut before, BASE.to_le_bytes());
        let (mut after, mut place) = (vec![0x55; 64], vec![0x55; 64]);
        let digits = [&mut absolute, &mut before, &mut after, &mut place].map(put_names);
        // From 6.4 on, and 6.15 with its plain offsets.
        put(&mut after, words(all().map(|index| 0x40 * index)));
        put(&mut after, BASE.to_le_bytes());
        // From 7.0 on.
        let at = place.len().next_multiple_of(8) as i64;
        put(&mut place, words(all().map(|index| 0x40 * index - 0x20_0000 - at - 4 * index)));
        for (image, digits) in [absolute, before, after, place].iter().zip(digits) {
            assert_eq!(found(image, digits).unwrap(), "init_abcdefgh");
            for length in (digits + 20..image.len()).step_by(61) {
                let cut = Tables::find(&image[..length], digits);
                let _ = cut.and_then(|tables| tables.addresses(BASE));
            }
        }
    }

    #[test]
    fn offsets_are_told_by_what_comes_out() {
        let base = 0xffff_ffff_8100_0000;
        let per_cpu = [0, 0x1000, -1, -0x41, -0x1001];
        let addresses = Base::PerCpu(base).addresses(&per_cpu).unwrap();
        assert_eq!(addresses, [0, 0x1000, base, base + 0x40, base + 0x1000]);
        assert_eq!(Base::Fixed(base).addresses(&per_cpu), None);
        let fixed = [0, 0x40, 0x1000];
        assert_eq!(Base::Fixed(base).addresses(&fixed).unwrap()[1], base + 0x40);
        assert_eq!(Base::PerCpu(base).addresses(&fixed), None);
        let places = [-0x10_0000, -0x10_0000 + 0x3c, 0x100];
        let addresses = Base::Place(base + 0x10_0000).addresses(&places).unwrap();
        assert_eq!(addresses, [base, base + 0x40, base + 0x10_0108]);
    }
}
