//! The kernel's symbols from its own kallsyms tables in RAM: where its VMCOREINFO says, or told by
//! the tables' own form.

use super::{Kernel, Symbols, VmCoreInfo, scan};
use crate::address::{Gpa, Gva};
use crate::arch::x86_64::KERNEL_IMAGE;
use crate::memory::{Buffer, GuestMemory};
use crate::symbols::kallsyms::{self, Base, IMAGE_SPACE, Tables, Tokens, walk_names};
use std::cell::Cell;
use std::ops::Range;

/// What KASLR moves the kernel by is a multiple of this.
const ALIGNMENT: u64 = 2 << 20;
/// More symbols than any kernel has: those of today have some 150,000.
const MOST_SYMBOLS: u32 = 1 << 20;
/// A token table has some 1000 bytes.
const TOKEN_TABLE: usize = 16 << 10;
const TOKEN_INDEX: usize = 512;
/// Names have some 12 bytes, compressed; where they have more, that is seen and read.
const NAME: usize = 16;
const ALL_NAMES: usize = 16 << 20;
/// The piece of an image that holds all tables, before and after the tokens.
const BEFORE: u64 = 16 << 20;
const AFTER: u64 = 8 << 20;
/// From its text on, an image has its tables within so many bytes.
const IMAGE: u64 = 128 << 20;
/// Bytes of tables that are copied in one search: some images whole, or the names of many notes. A
/// hostile guest could show tables everywhere.
const EFFORT: usize = 8 * (BEFORE + AFTER) as usize;

/// What one search may still copy of tables.
pub struct Effort(Cell<usize>);

impl Effort {
    /// That of a whole search.
    pub fn new() -> Self {
        Self(Cell::new(EFFORT))
    }

    /// Takes `bytes` off; `None` where there are no more so many.
    fn spend(&self, bytes: usize) -> Option<()> {
        self.0.set(self.0.get().checked_sub(bytes)?);
        Some(())
    }
}

/// A kernel's tables, copied out of RAM.
pub struct OwnTables {
    /// Where they were found.
    from: String,
    tokens: Tokens,
    /// The names start somewhere in these bytes.
    bytes: Buffer,
    names: usize,
    /// The address of each symbol.
    addresses: Vec<u64>,
}

impl OwnTables {
    /// Where they were found.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Those of the symbols that are asked for; none where the tables are damaged.
    pub fn symbols(&self) -> Option<Symbols> {
        let mut symbols = Symbols::none(&self.from);
        self.walk(Symbols::ask_for_length, |address, _, name| symbols.keep(name, Gva(address)))?;
        Some(symbols)
    }

    /// Calls `each` with address, letter and name of every symbol; none where the tables are
    /// damaged.
    pub fn each(&self, each: impl FnMut(u64, u8, &[u8])) -> Option<()> {
        self.walk(|_| true, each)
    }

    /// The same of those whose name's length is `wanted`.
    fn walk(
        &self,
        wanted: impl Fn(usize) -> bool,
        mut each: impl FnMut(u64, u8, &[u8]),
    ) -> Option<()> {
        let names = self.bytes.get(self.names..)?;
        let with_address =
            |index: usize, letter, name: &[u8]| each(self.addresses[index], letter, name);
        walk_names(names, self.addresses.len(), &self.tokens, wanted, with_address).map(|_| ())
    }
}

/// The symbols of the kernel that wrote `note`, whose tables lie where it says, or show by their
/// form in its image: `None` where neither is so any more.
pub fn of_note(memory: &dyn GuestMemory, note: &VmCoreInfo, effort: &Effort) -> Option<Symbols> {
    ask_note(memory, note, effort, OwnTables::symbols).or_else(|| {
        let text = note.place("_stext")?;
        let image = text..text.checked_add(IMAGE)?;
        by_form(memory, &image, effort).pop()
    })
}

/// What `ask` makes of the tables of `kernel`: where a note of its own says that they are, or by
/// their form in its image.
pub fn ask_kernel<T>(
    memory: &dyn GuestMemory,
    kernel: &Kernel,
    ask: impl Fn(&OwnTables) -> Option<T>,
) -> Option<T> {
    let effort = Effort::new();
    let mut own = VmCoreInfo::from_top(memory).flatten().filter(|note| kernel.wrote(note));
    own.find_map(|note| ask_note(memory, &note, &effort, &ask)).or_else(|| {
        let start = kernel.phys_base().ok()?;
        let address = |at: u64| KERNEL_IMAGE.0.wrapping_add(at).wrapping_sub(start as u64);
        let end = start.saturating_add_unsigned(IMAGE_SPACE.end - IMAGE_SPACE.start);
        let image = Gpa(start.max(0) as u64)..Gpa(end.max(0) as u64);
        ask_form(memory, &image, &effort, address, ask).pop()
    })
}

/// What `ask` makes of the tables of the kernel that wrote `note`: `None` unless they are where it
/// says.
fn ask_note<T>(
    memory: &dyn GuestMemory,
    note: &VmCoreInfo,
    effort: &Effort,
    ask: impl Fn(&OwnTables) -> Option<T>,
) -> Option<T> {
    let told = Told { memory, note, effort };
    let tokens = Tokens::new(
        &told.read("kallsyms_token_table", TOKEN_TABLE)?,
        &told.read("kallsyms_token_index", TOKEN_INDEX)?,
    )?;
    let count = told.read("kallsyms_num_syms", 4)?[..].try_into().ok().map(u32::from_le_bytes)?;
    let count = (count <= MOST_SYMBOLS).then_some(count as usize)?;
    let offsets = kallsyms::offsets(&told.read("kallsyms_offsets", 4 * count)?);
    let addresses = told.base().find_map(|base| base.addresses(&offsets))?;
    let from = format!("the kallsyms that VMCOREINFO at {} names", note.at);
    let mut tables = OwnTables { from, tokens, bytes: Buffer::new(0), names: 0, addresses };
    told.names(count).find_map(|names| {
        tables.bytes = names;
        ask(&tables)
    })
}

/// The tables that a note tells of.
struct Told<'m> {
    memory: &'m dyn GuestMemory,
    note: &'m VmCoreInfo,
    effort: &'m Effort,
}

impl Told<'_> {
    /// `length` bytes from `name` on.
    fn read(&self, name: &str, length: usize) -> Option<Buffer> {
        let at = self.note.place(name)?;
        self.effort.spend(length)?;
        let mut bytes = Buffer::new(length);
        self.memory.read(at, &mut bytes).ok()?;
        Some(bytes)
    }

    /// What the offsets may count from.
    fn base(&self) -> impl Iterator<Item = Base> {
        let base =
            self.read("kallsyms_relative_base", 8).and_then(|bytes| bytes[..].try_into().ok());
        let base = base.map(u64::from_le_bytes);
        let fixed = base.into_iter().flat_map(|base| [Base::PerCpu(base), Base::Fixed(base)]);
        fixed.chain(self.note.symbol("kallsyms_offsets").map(Base::Place))
    }

    /// The names and what follows, more each time: where they end only shows as they are read.
    fn names(&self, count: usize) -> impl Iterator<Item = Buffer> {
        let sizes = std::iter::successors(Some(NAME * count), |size| Some(2 * size));
        let sizes = sizes.take_while(|size| *size <= ALL_NAMES);
        sizes.map_while(|size| self.read("kallsyms_names", size))
    }
}

/// The symbols of every kernel image `within` RAM whose tables are told by their form. Reads all of
/// it.
fn by_form(memory: &dyn GuestMemory, within: &Range<Gpa>, effort: &Effort) -> Vec<Symbols> {
    ask_form(memory, within, effort, somewhere, OwnTables::symbols)
}

/// The symbols of every kernel image whose token table has its digits at one of `digits`.
pub fn at_digits(memory: &dyn GuestMemory, digits: &[Gpa], effort: &Effort) -> Vec<Symbols> {
    let runs = memory.backed();
    let tables = digits.iter().filter_map(|at| of_image(memory, &runs, *at, effort, somewhere));
    tables.filter_map(|tables| tables.symbols()).collect()
}

/// Where an image is in its address space is not known yet; nor does it matter, as KASLR is found
/// out.
fn somewhere(at: u64) -> u64 {
    KERNEL_IMAGE.0 + (512 << 20) + at % ALIGNMENT
}

/// What `ask` makes of all tables `within` RAM that are told by their form; `address` is the
/// kernel's of a guest-physical one.
fn ask_form<T>(
    memory: &dyn GuestMemory,
    within: &Range<Gpa>,
    effort: &Effort,
    address: impl Fn(u64) -> u64,
    ask: impl Fn(&OwnTables) -> Option<T>,
) -> Vec<T> {
    let part = |run: Range<Gpa>| run.start.max(within.start)..run.end.min(within.end);
    let parts = memory.backed().into_iter().map(part).filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.collect();
    let digits = scan::digits(memory, &parts).into_iter();
    let tables = digits.filter_map(|at| of_image(memory, &parts, at, effort, &address));
    tables.filter_map(|tables| ask(&tables)).collect()
}

/// The tables of the image whose tokens' digits lie at `digits`.
fn of_image(
    memory: &dyn GuestMemory,
    runs: &[Range<Gpa>],
    digits: Gpa,
    effort: &Effort,
    address: impl Fn(u64) -> u64,
) -> Option<OwnTables> {
    let run = runs.iter().find(|run| run.contains(&digits))?;
    // Digits alone are cheap to have; a whole image is copied only where a token table is.
    let near = round(run, digits, TOKEN_TABLE as u64, TOKEN_TABLE as u64);
    let (piece, own) = copied(memory, &near, digits)?;
    let image = round(run, digits, BEFORE, AFTER);
    let whole = kallsyms::is_token_table(&piece, own);
    whole.then(|| effort.spend((image.end.0 - image.start.0) as usize))??;
    let start = image.start.0;
    let (image, digits_within) = copied(memory, &image, digits)?;
    let tables = Tables::find(&image, digits_within)?;
    let addresses = tables.addresses(address(start))?;
    let from = format!("the kallsyms found at {digits}");
    let (names, tokens) = (tables.start_of_names(), tables.tokens);
    Some(OwnTables { from, tokens, bytes: image, names, addresses })
}

/// The piece of `run` round `at`. Tables are aligned in the guest, so it starts aligned too.
fn round(run: &Range<Gpa>, at: Gpa, before: u64, after: u64) -> Range<Gpa> {
    let start = at.0.saturating_sub(before).max(run.start.0).next_multiple_of(8);
    Gpa(start)..Gpa(at.0.saturating_add(after).min(run.end.0).max(start))
}

/// The bytes of `piece`, and where among them `at` is.
fn copied(memory: &dyn GuestMemory, piece: &Range<Gpa>, at: Gpa) -> Option<(Buffer, usize)> {
    let mut bytes = Buffer::new((piece.end.0 - piece.start.0) as usize);
    memory.read(piece.start, &mut bytes).ok()?;
    Some((bytes, at.checked_sub(piece.start)? as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Image;
    use crate::vmm::Layout;

    const SIZE: u64 = 1 << 20;
    const DIGITS: u64 = 512 << 10;

    /// RAM with a token table of which each byte stands for itself, and whose index is `index`'s.
    fn image(index: impl Fn(u16) -> u16) -> Image {
        let image = Image::new(Layout::Flat.regions(SIZE).unwrap());
        let tokens = (0..=255u8).flat_map(|byte| [byte.clamp(b'0', b'9'), 0]).collect::<Vec<_>>();
        image.write(Gpa(DIGITS - 96), &tokens).unwrap();
        let index: Vec<_> = (0..256).flat_map(|byte| index(byte).to_le_bytes()).collect();
        image.write(Gpa(DIGITS - 96 + 512), &index).unwrap();
        image
    }

    fn spent(image: &Image) -> usize {
        let effort = Effort::new();
        assert!(at_digits(image, &[Gpa(DIGITS)], &effort).is_empty());
        EFFORT - effort.0.get()
    }

    #[test]
    fn an_image_is_copied_only_round_a_whole_token_table() {
        assert_eq!(spent(&image(|byte| 2 * byte)), SIZE as usize);
        assert_eq!(spent(&image(|byte| 2 * byte + u16::from(byte == 200))), 0);
    }

    #[test]
    fn effort_ends() {
        let (image, effort) = (image(|byte| 2 * byte), Effort(Cell::new(SIZE as usize + 1)));
        at_digits(&image, &[Gpa(DIGITS); 100], &effort);
        assert_eq!(effort.0.get(), 1, "it is enough for one image");
    }
}
