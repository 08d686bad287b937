//! What a program or library tells the dynamic linker (`PT_DYNAMIC`): its name, the symbols that it
//! exports, their versions, and what it copies out of its libraries. A loaded file has all of this
//! in memory, so of a file in the guest it is there when all the rest is not.

use super::bytes::{FileBytes, Part};
use super::headers::Headers;
use super::table::{Entry, Version};
use goblin::elf::dynamic::{
    DT_GNU_HASH, DT_HASH, DT_RELA, DT_RELASZ, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_SYMTAB, DT_VERDEF,
    DT_VERDEFNUM, DT_VERSYM,
};
use goblin::elf::sym::{STB_LOCAL, STV_DEFAULT, STV_PROTECTED, Sym};
use std::collections::HashMap;
use std::sync::Arc;

/// Entries of a dynamic segment that are looked at; there are some 30.
const MOST_TAGS: usize = 1024;
/// Symbols that are read; the largest libraries export some 100,000.
const MOST_SYMBOLS: u64 = 1 << 22;
/// Bytes of all names together; names may overlap in the file.
pub const MOST_TEXT: usize = 256 << 20;
/// Variables that are moved into a program; the usual ones have a handful.
const MOST_COPIED: usize = 4096;
/// Bytes of `Elf64_Sym`.
pub const SYMBOL: u64 = 24;
/// Bytes of `Elf64_Rela`.
const RELA: u64 = 24;
/// `R_X86_64_COPY`: the linker made room in the program for a library's variable.
const COPY: u64 = 5;
const LONGEST_NAME: usize = 4096;
/// In a version's number: not the one that a name without a version means.
const HIDDEN: u16 = 0x8000;

/// A variable of a library that was moved into the program, which all then use (`R_X86_64_COPY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name, as the library exports it.
    pub name: String,
    /// Where the program has it, before it was loaded anywhere.
    pub address: u64,
}

/// The dynamic segment.
pub struct Dynamic<'f> {
    file: &'f dyn FileBytes,
    headers: &'f Headers,
    tags: HashMap<u64, u64>,
    strings: Option<Part>,
}

/// What is exported.
#[derive(Default)]
pub struct Exports {
    /// The symbols.
    pub entries: Vec<Entry>,
    /// Whether there may be more, in pages that are not there.
    pub holes: bool,
}

impl<'f> Dynamic<'f> {
    /// That of `file`; `None` where it has none, or it is not there.
    pub fn read(file: &'f dyn FileBytes, headers: &'f Headers) -> Option<Self> {
        let (address, offset, length) = headers.dynamic?;
        let length = length.min(MOST_TAGS as u64 * 16);
        let tags = match Part::whole(file, offset, length) {
            Some(bytes) => tags(&bytes),
            None => {
                let loaded = file.loaded(address, length)?;
                let span = headers.end();
                let linked = |value: u64| match value.checked_sub(loaded.bias) {
                    Some(linked) if linked < span => linked,
                    _ => value,
                };
                let tags = tags(&loaded.bytes).into_iter();
                tags.map(|(tag, value)| (tag, if is_address(tag) { linked(value) } else { value }))
                    .collect()
            }
        };
        let mut dynamic = Self { file, headers, tags, strings: None };
        dynamic.strings = dynamic.part(DT_STRTAB, dynamic.tag(DT_STRSZ)?);
        Some(dynamic)
    }

    fn tag(&self, tag: u64) -> Option<u64> {
        self.tags.get(&tag).copied()
    }

    /// Up to `length` bytes from where `tag` leads.
    fn part(&self, tag: u64, length: u64) -> Option<Part> {
        self.further(tag, 0, length)
    }

    /// Up to `length` bytes from `into` bytes past where `tag` leads.
    fn further(&self, tag: u64, into: u64, length: u64) -> Option<Part> {
        let offset = self.headers.offset_of(self.tag(tag)?)?.checked_add(into)?;
        Part::read(self.file, offset, length.min(self.file.size().checked_sub(offset)?))
    }

    fn string(&self, at: u64) -> Option<&str> {
        self.strings.as_ref()?.text(at, LONGEST_NAME).filter(|text| !text.is_empty())
    }

    /// What the library calls itself, which is what programs ask for.
    pub fn soname(&self) -> Option<String> {
        self.string(self.tag(DT_SONAME)?).map(str::to_owned)
    }

    /// The symbols that it has for others.
    pub fn exports(&self) -> Exports {
        let nothing = Exports { entries: Vec::new(), holes: true };
        let Some(count) = self.count() else { return nothing };
        let Some(symbols) = self.part(DT_SYMTAB, count * SYMBOL) else { return nothing };
        let versions = self.part(DT_VERSYM, count * 2);
        let names = self.version_names();
        let mut exports = Exports { entries: Vec::new(), holes: count > symbols.len() / SYMBOL };
        let mut room = MOST_TEXT;
        for index in 1..count.min(symbols.len() / SYMBOL) {
            let symbol = symbols.get(index * SYMBOL, SYMBOL).map(symbol);
            let version = versions.as_ref().map(|versions| versions.u16(index * 2));
            // Whether it is what its name means, only its version tells.
            let (Some(symbol), Some(version)) =
                (symbol, version.map_or(Some(None), |found| found.map(Some)))
            else {
                exports.holes = true;
                continue;
            };
            let exported = symbol.st_bind() != STB_LOCAL
                && matches!(symbol.st_visibility(), STV_DEFAULT | STV_PROTECTED);
            let name = self.string(symbol.st_name as u64).filter(|name| name.len() <= room);
            let Some(name) = name else {
                exports.holes |= exported;
                continue;
            };
            room -= name.len();
            let version = version.map(|number| Version {
                name: names.get(&(number & !HIDDEN)).cloned(),
                default: number & HIDDEN == 0,
            });
            let entry = Entry::of_elf(self.headers, &symbol, name, None);
            exports.entries.extend(entry.map(|entry| Entry { exported, version, ..entry }));
        }
        exports
    }

    /// How many symbols there are: only the hash tables that find them tell.
    fn count(&self) -> Option<u64> {
        let count = match self.part(DT_HASH, 8) {
            // Buckets, then one chain entry for each symbol.
            Some(head) => u64::from(head.u32(4)?),
            None => self.gnu_count()?,
        };
        Some(count.min(MOST_SYMBOLS))
    }

    /// The symbols of a GNU hash table are sorted by bucket; the last chain's end is the last one.
    fn gnu_count(&self) -> Option<u64> {
        let head = self.part(DT_GNU_HASH, 16)?;
        let word = |at| head.u32(at).map(u64::from);
        let (buckets, first, bloom) = (word(0)?.min(MOST_SYMBOLS), word(4)?, word(8)?);
        let start = 16 + bloom * 8;
        let table = self.further(DT_GNU_HASH, start, buckets * 4)?;
        let mut last = 0;
        for index in 0..buckets {
            last = u64::from(table.u32(index * 4)?).max(last);
        }
        if last < first {
            return Some(first);
        }
        // The end of a chain has its lowest bit set.
        for index in last..first + MOST_SYMBOLS {
            let at = start + (buckets + index - first) * 4;
            if self.further(DT_GNU_HASH, at, 4)?.u32(0)? & 1 == 1 {
                return Some(index + 1);
            }
        }
        None
    }

    /// The names of the versions that it defines, by their numbers (`Elf64_Verdef`, `Verdaux`).
    fn version_names(&self) -> HashMap<u16, Arc<str>> {
        const LONGEST: u64 = 16 << 10;
        let mut names = HashMap::new();
        let Some(table) = self.part(DT_VERDEF, LONGEST) else { return names };
        let mut at = 0;
        for _ in 0..self.tag(DT_VERDEFNUM).unwrap_or(0).min(LONGEST) {
            let name = table.u32(at + 12).and_then(|to| table.u32(at + u64::from(to)));
            let name = name.and_then(|name| self.string(u64::from(name)));
            if let (Some(number), Some(name)) = (table.u16(at + 4), name) {
                names.insert(number & !HIDDEN, Arc::from(name));
            }
            match table.u32(at + 16) {
                Some(next) if next > 0 => at += u64::from(next),
                _ => break,
            }
        }
        names
    }

    /// What it has copied out of its libraries; nothing where that is not there.
    pub fn copied(&self) -> Vec<Copied> {
        let length = self.tag(DT_RELASZ).unwrap_or(0);
        let Some(relocations) = self.part(DT_RELA, length) else { return Vec::new() };
        let Some(symbols) = self.count().and_then(|count| self.part(DT_SYMTAB, count * SYMBOL))
        else {
            return Vec::new();
        };
        let copied = |index: u64| {
            let word = |at| {
                let bytes = relocations.get(index * RELA + at, 8)?;
                Some(u64::from_le_bytes(bytes.try_into().ok()?))
            };
            let (address, info) = (word(0)?, word(8)?);
            let symbol = symbols.get((info >> 32).checked_mul(SYMBOL)?, SYMBOL).map(symbol);
            let name =
                self.string(symbol.filter(|_| info & 0xffff_ffff == COPY)?.st_name as u64)?;
            Some(Copied { name: name.to_owned(), address })
        };
        (0..relocations.len() / RELA).filter_map(copied).take(MOST_COPIED).collect()
    }
}

/// The `Elf64_Sym` in `bytes`, of [`SYMBOL`] bytes.
pub fn symbol(bytes: &[u8]) -> Sym {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let first = word(0);
    Sym {
        st_name: first as u32 as usize,
        st_info: (first >> 32) as u8,
        st_other: (first >> 40) as u8,
        st_shndx: (first >> 48) as usize,
        st_value: word(8),
        st_size: word(16),
    }
}

/// Each tag's first value.
fn tags(bytes: &[u8]) -> HashMap<u64, u64> {
    let mut tags = HashMap::new();
    for (entry, _) in bytes.chunks_exact(16).zip(0..MOST_TAGS) {
        let words = entry.split_at(8);
        let [tag, value] =
            [words.0, words.1].map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        if tag == 0 {
            break;
        }
        tags.entry(tag).or_insert(value);
    }
    tags
}

/// Whether the tag's value is an address, of those that are looked at.
fn is_address(tag: u64) -> bool {
    [DT_STRTAB, DT_SYMTAB, DT_HASH, DT_GNU_HASH, DT_VERSYM, DT_VERDEF, DT_RELA].contains(&tag)
}
