//! ELF programs, through goblin: their symbols, segments and build-id.

use super::bytes::{FileBytes, Part};
use super::dynamic::{self, Copied, Dynamic, Exports, MOST_TEXT, SYMBOL};
use super::headers::{BuildId, Headers, Segment, Symtab};
use super::table::{Entry, Kind, Listed, Seen, Table, Version};
use super::{Symbol, SymbolError, read_file};
use goblin::elf::section_header::{SHN_ABS, SHN_COMMON, SHN_UNDEF};
use goblin::elf::sym::{STB_GLOBAL, STB_LOCAL, STT_FILE, STT_GNU_IFUNC, STT_SECTION, STT_TLS, Sym};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer names are none: a hostile program could have as many of them as it has symbols, in the
/// bytes of one.
const LONGEST_NAME: usize = 4096;
/// `STB_GNU_UNIQUE`: global, and one in the whole process.
const STB_GNU_UNIQUE: u8 = 10;

/// An ELF program or library.
pub struct ElfFile {
    path: PathBuf,
    /// Empty where it is not a file of the host.
    bytes: Vec<u8>,
    headers: Headers,
    symtab: Symtab,
    /// Whether it may export more than is known of.
    holes: bool,
    build_id: Option<BuildId>,
    copied: Vec<Copied>,
    symbols: Table,
}

impl ElfFile {
    /// Reads the program at `path`, with all its symbols.
    pub fn read(path: &Path) -> Result<Self, SymbolError> {
        let bytes = read_file(path)?;
        let program = Self::parse(path, &bytes)?;
        Ok(Self { bytes, ..program })
    }

    /// The program `file`, which messages call `path`. Of its bytes only what holds its symbols is
    /// looked at, and none is kept.
    pub fn parse(path: &Path, file: &dyn FileBytes) -> Result<Self, SymbolError> {
        let headers = Headers::read(path, file)?;
        let (mut entries, symtab) = match headers.symtab(file) {
            Ok((table, names)) => (entries(&headers, &table, &names), Symtab::Whole),
            Err(why) => (Vec::new(), why),
        };
        let dynamic = Dynamic::read(file, &headers);
        let exports = match &dynamic {
            Some(dynamic) => dynamic.exports(),
            None => Exports { entries: Vec::new(), holes: headers.dynamic.is_some() },
        };
        entries.extend(exports.entries);
        let copied = dynamic.filter(|_| headers.interpreted).map(|dynamic| dynamic.copied());
        Ok(Self {
            path: path.to_owned(),
            bytes: Vec::new(),
            symtab,
            holes: exports.holes,
            build_id: headers.build_id(file),
            copied: copied.unwrap_or_default(),
            symbols: Table { entries },
            headers,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its start tells.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Whether all of its symbols are known, or why not.
    pub fn symtab(&self) -> Symtab {
        self.symtab
    }

    /// Whether it may export more than is known of, for pages that are not there.
    pub fn holes(&self) -> bool {
        self.holes
    }

    /// Whether no symbol of it is known.
    pub fn is_empty(&self) -> bool {
        self.symbols.entries.is_empty()
    }

    /// How many symbols it has.
    pub fn count(&self) -> usize {
        self.symbols.entries.len()
    }

    /// Whether the kernel may load it anywhere.
    pub fn position_independent(&self) -> bool {
        self.headers.position_independent
    }

    /// The loadable segments, in the file's order.
    pub fn segments(&self) -> &[Segment] {
        &self.headers.segments
    }

    /// The variables of its libraries that are in the program itself.
    pub fn copied(&self) -> &[Copied] {
        &self.copied
    }

    /// The build-id, where the linker left one in loaded memory.
    pub fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// Up to `length` bytes that the file has for `address` on.
    pub fn contents(&self, address: u64, length: u64) -> &[u8] {
        let place = self.segments().iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            let left = segment.file_size.checked_sub(into)?;
            Some((segment.file_offset.checked_add(into)?, left))
        });
        place.map_or(&[], |(offset, left)| self.bytes(offset, length.min(left)))
    }

    /// Whether the bytes of the file can be asked for.
    pub fn has_bytes(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// All of its bytes, where they can be asked for.
    pub fn file(&self) -> &Vec<u8> {
        &self.bytes
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

    /// The same of those symbols that are `seen`; none where there is none.
    pub fn seen(&self, name: &str, seen: Seen) -> Result<Option<&Symbol>, SymbolError> {
        self.symbols.seen(name, seen, &self.path)
    }

    /// The error for `name`, which it does not have.
    pub fn no_symbol(&self, name: &str) -> SymbolError {
        self.symbols.no_symbol(name, &self.path)
    }

    /// All of its symbols, by address.
    pub fn listed(&self) -> Vec<Listed> {
        self.symbols.listed(self.segments())
    }

    /// Whether every file of the program means one place by `name`.
    pub fn has_global(&self, name: &str) -> bool {
        self.symbols.has_global(name)
    }

    /// The names of all of its symbols.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.symbols.names()
    }
}

/// What the library `file` calls itself, which messages call `path`; `None` where it has no name.
pub fn soname(path: &Path, file: &dyn FileBytes) -> Option<String> {
    Dynamic::read(file, &Headers::read(path, file).ok()?)?.soname()
}

/// Those of `.symtab`, where a file's own symbols follow its name.
fn entries(headers: &Headers, table: &[u8], names: &Part) -> Vec<Entry> {
    let (mut file, mut room) = (None, MOST_TEXT);
    let mut entries = Vec::with_capacity(table.len() / SYMBOL as usize);
    let symbols = table.chunks_exact(SYMBOL as usize).map(dynamic::symbol);
    let entry = |symbol: Sym| {
        let name = names.text(symbol.st_name as u64, LONGEST_NAME)?;
        room = room.checked_sub(name.len())?;
        if symbol.st_type() == STT_FILE {
            // What the linker itself made follows a file without a name.
            file = Some(Arc::from(name)).filter(|_| !name.is_empty());
        }
        Entry::of_elf(headers, &symbol, name, file.as_ref())
    };
    entries.extend(symbols.filter_map(entry));
    entries
}

impl Entry {
    /// `None` for what names no place of this program.
    pub fn of_elf(
        headers: &Headers,
        symbol: &Sym,
        name: &str,
        file: Option<&Arc<str>>,
    ) -> Option<Self> {
        let (name, version) = Version::split(name);
        let place = !matches!(symbol.st_type(), STT_SECTION | STT_FILE);
        let section = symbol.st_shndx as u32;
        let (address, absolute) = (symbol.st_value, section == SHN_ABS);
        // Versions are in the table as absolute symbols without a value.
        let nowhere = matches!(section, SHN_UNDEF | SHN_COMMON) || absolute && address == 0;
        if name.is_empty() || !place || nowhere {
            return None;
        }
        let (name, size) = (name.to_owned(), symbol.st_size);
        let writable = !absolute && headers.writable(address);
        Some(Self {
            symbol: Symbol { name, address, size, writable, absolute },
            kind: match symbol.st_type() {
                STT_TLS => Kind::ThreadLocal,
                STT_GNU_IFUNC => Kind::Indirect,
                _ => Kind::Place,
            },
            file: file.filter(|_| symbol.st_bind() == STB_LOCAL).cloned(),
            global: matches!(symbol.st_bind(), STB_GLOBAL | STB_GNU_UNIQUE),
            exported: false,
            version,
        })
    }
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

    /// The C library that programs have loaded here.
    fn libc() -> PathBuf {
        let shown = std::process::Command::new("cat").arg("/proc/self/maps").output().unwrap();
        let maps = String::from_utf8(shown.stdout).unwrap();
        let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        paths.map(PathBuf::from).find(|path| path.ends_with("libc.so.6")).unwrap()
    }

    #[test]
    fn a_library_exports_names() {
        let (path, bytes) = (libc(), std::fs::read(libc()).unwrap());
        let libc = ElfFile::read(&path).unwrap();
        let linked = |name| libc.seen(name, Seen::Linked);
        let place = |name| linked(name).unwrap().unwrap().address;
        assert!(place("environ") == place("__environ") && place("environ") > 0);
        assert!(linked("no_such_symbol").unwrap().is_none());
        assert!(matches!(linked("memcpy"), Err(SymbolError::Indirect { .. })));
        assert!(matches!(linked("errno"), Err(SymbolError::ThreadLocal { .. })));
        assert!(linked("GLIBC_2.2.5").unwrap().is_none(), "a version is no place");
        assert!(!libc.holes() && libc.position_independent());
        assert_eq!(soname(&path, &bytes).as_deref(), Some("libc.so.6"));
    }

    /// A file without some of its bytes.
    struct Holed<'f>(&'f Vec<u8>, std::ops::Range<u64>);

    impl FileBytes for Holed<'_> {
        fn size(&self) -> u64 {
            self.0.size()
        }

        fn copy(&self, offset: u64, into: &mut [u8]) -> bool {
            let missing = offset < self.1.end && offset + into.len() as u64 > self.1.start;
            !missing && self.0.copy(offset, into)
        }
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let bytes = std::fs::read(libc()).unwrap();
        let whole = ElfFile::parse(Path::new("libc"), &bytes).unwrap();
        let all = || whole.symbols.entries.iter().filter(|entry| entry.exported);
        let headers = whole.headers();
        let end = headers.segments.iter().map(|segment| segment.file_offset + segment.file_size);
        // Without its end, where the section headers are, it exports the same.
        let cut = ElfFile::parse(Path::new("x"), &Holed(&bytes, end.max().unwrap()..u64::MAX));
        let cut = cut.unwrap();
        assert_eq!((cut.symtab(), cut.holes()), (Symtab::NotThere, false));
        assert_eq!(cut.symbols.entries.len(), all().count());
        // Without one page after the other it exports less, and says so; never anything else.
        let first = headers.segments[0].file_size;
        for page in (4096..first).step_by(4096) {
            let holed = ElfFile::parse(Path::new("x"), &Holed(&bytes, page..page + 4096)).unwrap();
            let exported = holed.symbols.entries.iter().filter(|entry| entry.exported);
            let known = exported.map(|own| (&own.symbol, &own.version)).collect::<Vec<_>>();
            let mut rest =
                all().map(|own| (&own.symbol, own.version.as_ref().map(|own| own.default)));
            let same = |(symbol, version): &(&Symbol, &Option<Version>)| {
                let version = version.as_ref().map(|version| version.default);
                rest.any(|own| own == (*symbol, version))
            };
            assert!(known.iter().all(same), "without {page:#x}");
            assert!(holed.holes() || known.len() == all().count(), "without {page:#x}");
        }
        assert!(ElfFile::parse(Path::new("x"), &Holed(&bytes, 0..4096)).is_err());
    }

    #[test]
    fn damage_never_panics() {
        let bytes = std::fs::read(libc()).unwrap();
        let headers = Headers::read(Path::new("x"), &bytes).unwrap();
        let (_, dynamic, length) = headers.dynamic.unwrap();
        let mut bad = bytes.clone();
        let places = (0..1024).chain(dynamic..dynamic + length).step_by(3);
        for (at, value) in places.zip([0x00, 0x7f, 0xff, 0x80].into_iter().cycle()) {
            let at = at as usize;
            bad[at] = value;
            let _ = ElfFile::parse(Path::new("x"), &Holed(&bad, 0x1000..0x2000));
            bad[at] = bytes[at];
        }
    }

    #[test]
    fn refuses_what_is_not_elf() {
        let parse = |bytes: &[u8]| ElfFile::parse(Path::new("x"), &bytes.to_vec());
        assert!(matches!(parse(b""), Err(SymbolError::NotElf { .. })));
        assert!(matches!(parse(b"#!/bin/sh\n"), Err(SymbolError::NotElf { .. })));
    }
}
