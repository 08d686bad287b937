//! ELF programs, through goblin: their symbols, segments and build-id.

use super::table::{Entry, Table};
use super::{Symbol, SymbolError, read_file};
use goblin::elf::header::ET_DYN;
use goblin::elf::program_header::{PF_W, PF_X, PT_LOAD};
use goblin::elf::sym::{STB_GLOBAL, STB_LOCAL, STT_FILE, STT_SECTION, STT_TLS, Sym};
use goblin::elf::{
    Elf, header,
    note::NT_GNU_BUILD_ID,
    section_header::{SHN_UNDEF, SectionHeader},
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer names are none: a hostile program could have as many of them as it has symbols, in the
/// bytes of one.
const LONGEST_NAME: usize = 4096;

/// A loadable segment (`PT_LOAD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is linked to.
    pub address: u64,
    /// Where it lies in the file.
    pub file_offset: u64,
    /// Bytes that it takes of the file.
    pub file_size: u64,
    /// Whether the program may write it.
    pub writable: bool,
    /// Whether it holds text.
    pub executable: bool,
}

/// A GNU build-id, and where the loaded program has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildId {
    /// The id.
    pub id: Vec<u8>,
    /// Its link-time address.
    pub address: u64,
}

/// An ELF program.
pub struct ElfFile {
    path: PathBuf,
    bytes: Vec<u8>,
    position_independent: bool,
    stripped: bool,
    segments: Vec<Segment>,
    build_id: Option<BuildId>,
    symbols: Table,
}

impl ElfFile {
    /// Reads the program at `path`, with `.symtab` and `.dynsym`.
    pub fn read(path: &Path) -> Result<Self, SymbolError> {
        Self::parse(path, read_file(path)?)
    }

    /// The program `bytes`, which messages call `path`.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, SymbolError> {
        let not_elf = |why: &dyn ToString| SymbolError::NotElf {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let elf = Elf::parse(&bytes).map_err(|error| not_elf(&error))?;
        let program = matches!(elf.header.e_type, header::ET_EXEC | ET_DYN);
        if !program || !elf.is_64 || !elf.little_endian {
            return Err(not_elf(&"not a 64-bit little-endian program"));
        }
        let position_independent = elf.header.e_type == ET_DYN;
        let segments = segments(&elf);
        let build_id = build_id(&elf, &bytes);
        let symbols = Table { entries: entries(&elf) };
        let stripped = elf.syms.is_empty();
        drop(elf);
        let path = path.to_owned();
        Ok(Self { path, bytes, position_independent, stripped, segments, build_id, symbols })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has no symbols but those that it exports.
    pub fn stripped(&self) -> bool {
        self.stripped
    }

    /// Whether the kernel may load it anywhere.
    pub fn position_independent(&self) -> bool {
        self.position_independent
    }

    /// The loadable segments, in the file's order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The build-id, where the linker left one in loaded memory.
    pub fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// Up to `length` bytes that the file has for `address` on.
    pub fn contents(&self, address: u64, length: u64) -> &[u8] {
        let place = self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            let left = segment.file_size.checked_sub(into)?;
            Some((segment.file_offset.checked_add(into)?, left))
        });
        place.map_or(&[], |(offset, left)| self.bytes(offset, length.min(left)))
    }

    /// Up to `length` bytes of the file from `offset` on.
    pub fn bytes(&self, offset: u64, length: u64) -> &[u8] {
        let end = offset.saturating_add(length).min(self.bytes.len() as u64);
        self.bytes.get(offset as usize..end as usize).unwrap_or(&[])
    }

    /// The symbol that `name` means: by the linker's name, as `FILE:NAME` where FILE is the source
    /// file of a local one, or as C++ or Rust have it, without parameters or hash if you like. One
    /// that every file of the program means by that name wins over local ones; a weak one does not.
    pub fn symbol(&self, name: &str) -> Result<&Symbol, SymbolError> {
        self.symbols.symbol(name, &self.path)
    }
}

fn segments(elf: &Elf) -> Vec<Segment> {
    let loaded = elf.program_headers.iter().filter(|segment| segment.p_type == PT_LOAD);
    loaded
        .map(|segment| Segment {
            address: segment.p_vaddr,
            file_offset: segment.p_offset,
            file_size: segment.p_filesz,
            writable: segment.p_flags & PF_W != 0,
            executable: segment.p_flags & PF_X != 0,
        })
        .collect()
}

fn build_id(elf: &Elf, bytes: &[u8]) -> Option<BuildId> {
    let notes = elf.iter_note_headers(bytes)?;
    let note = notes
        .flatten()
        .find(|note| note.n_type == NT_GNU_BUILD_ID && note.name.trim_end_matches('\0') == "GNU")?;
    let offset = (note.desc.as_ptr().addr() - bytes.as_ptr().addr()) as u64;
    let holds = |segment: &Segment| {
        offset.checked_sub(segment.file_offset).is_some_and(|into| into < segment.file_size)
    };
    let segment = segments(elf).into_iter().find(holds)?;
    let address = segment.address.checked_add(offset - segment.file_offset)?;
    Some(BuildId { id: note.desc.to_vec(), address })
}

/// Those of `.symtab`, where a file's own symbols follow its name, and those of `.dynsym`.
fn entries(elf: &Elf) -> Vec<Entry> {
    let full = elf.syms.iter().map(|symbol| (symbol, elf.strtab.get_at(symbol.st_name)));
    let dynamic = elf.dynsyms.iter().map(|symbol| (symbol, elf.dynstrtab.get_at(symbol.st_name)));
    let mut file = None;
    let entry = |(symbol, name): (Sym, Option<&str>)| {
        let name = name?;
        if symbol.st_type() == STT_FILE {
            // What the linker itself made follows a file without a name.
            file = Some(Arc::from(name)).filter(|_| !name.is_empty());
        }
        entry(elf, &symbol, name, file.as_ref())
    };
    full.chain(dynamic).filter_map(entry).collect()
}

/// `None` for what names no place of this program.
fn entry(elf: &Elf, symbol: &Sym, name: &str, file: Option<&Arc<str>>) -> Option<Entry> {
    let place = !matches!(symbol.st_type(), STT_SECTION | STT_FILE);
    let named = (1..=LONGEST_NAME).contains(&name.len());
    if !named || !place || symbol.st_shndx == SHN_UNDEF as usize {
        return None;
    }
    let (address, size) = (symbol.st_value, symbol.st_size);
    let section = elf.section_headers.get(symbol.st_shndx);
    let writable = section.is_some_and(SectionHeader::is_writable);
    Some(Entry {
        symbol: Symbol { name: name.to_owned(), address, size, writable },
        file: file.filter(|_| symbol.st_bind() == STB_LOCAL).cloned(),
        global: symbol.st_bind() == STB_GLOBAL,
        thread_local: symbol.st_type() == STT_TLS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[used]
    static MARK: u64 = 1;

    /// The test program itself is an ELF file with symbols.
    fn own() -> ElfFile {
        ElfFile::read(&std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn reads_a_program() {
        let elf = own();
        assert!(elf.position_independent());
        assert!(elf.symbol("main").unwrap().address > 0);
        assert_eq!(elf.bytes(0, 4), b"\x7fELF");
        assert!(elf.segments().iter().any(|segment| segment.writable));
        let id = elf.build_id().unwrap();
        assert!(id.id.len() >= 8 && id.address > 0);
    }

    #[test]
    fn finds_what_rust_names() {
        let elf = own();
        let raw = elf.symbol("vmfi::symbols::elf::tests::MARK").unwrap();
        assert!(raw.name.starts_with('_') && raw.size == 8, "{raw:?}");
        assert_eq!(elf.symbol(&raw.name).unwrap(), raw);
    }

    #[test]
    fn names_the_nearest() {
        let Err(SymbolError::NoSymbol { near, .. }) = own().symbol("maim") else {
            panic!("'maim' was found");
        };
        assert!(near.contains(&"main".to_owned()), "{near:?}");
    }

    #[test]
    fn refuses_what_is_not_elf() {
        let parse = |bytes: &[u8]| ElfFile::parse(Path::new("x"), bytes.to_vec());
        assert!(matches!(parse(b""), Err(SymbolError::NotElf { .. })));
        assert!(matches!(parse(b"#!/bin/sh\n"), Err(SymbolError::NotElf { .. })));
    }
}
