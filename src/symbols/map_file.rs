//! The text form of a symbol table: `ADDRESS LETTER NAME` a line, as `nm`, System.map and
//! `/proc/kallsyms` have it; `nm -S` has a size after the address.
//!
//! A kernel's has 150,000 lines of which a command needs a handful: [`first_addresses`] searches
//! for them while it reads, and keeps no text. A kernel's letters are not looked at: 7.2's kallsyms
//! gives `init_task` the letter of a function.

use super::table::{Entry, Kind, Listed, Seen, Table, Version};
use super::{Symbol, SymbolError, open_file, read_file};
use memchr::memmem;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How much of a file is searched at once: a part that stays in the processor's cache.
const PART: usize = 128 << 10;

/// The address of the first symbol of each of `names` in the map file at `path`, which is given
/// back with its size in bytes; a name that it lacks has none.
pub fn first_addresses<'n>(
    path: &Path,
    names: &[&'n str],
) -> Result<(HashMap<&'n str, u64>, u64), SymbolError> {
    let mut file = open_file(path)?;
    let unreadable = |source| SymbolError::Unreadable { path: path.to_owned(), source };
    let mut missing: Vec<_> = names.iter().map(|name| (*name, format!(" {name}"))).collect();
    let (mut found, mut length) = (HashMap::new(), 0);
    let (mut part, mut kept) = (vec![0; PART], 0);
    loop {
        let read = file.read(&mut part[kept..]).map_err(unreadable)?;
        length += read as u64;
        let text = &part[..kept + read];
        // A line that is cut off is searched with the next part; one that fills a part is none.
        let end = memchr::memrchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let lines = if read == 0 { text } else { &text[..end] };
        missing.retain(|(name, needle)| {
            let mut hits = memmem::find_iter(lines, needle);
            let first = hits.find_map(|at| address(lines, at, at + needle.len()));
            first.is_none_or(|address| found.insert(*name, address).is_some())
        });
        if read == 0 {
            return Ok((found, length));
        }
        kept = text.len() - end;
        part.copy_within(end..end + kept, 0);
    }
}

/// What `nm` printed of a program, or a map like System.map.
pub struct MapFile {
    path: PathBuf,
    table: Table,
}

impl MapFile {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, SymbolError> {
        let (path, table) = (path.to_owned(), table(&read_file(path)?));
        if table.entries.is_empty() {
            return Err(SymbolError::NotAMap(path));
        }
        Ok(Self { path, table })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The symbol that `name` means.
    pub fn symbol(&self, name: &str) -> Result<&Symbol, SymbolError> {
        self.table.symbol(name, &self.path)
    }

    /// The same; none where there is none.
    pub fn seen(&self, name: &str) -> Result<Option<&Symbol>, SymbolError> {
        self.table.seen(name, Seen::Any, &self.path)
    }

    /// The error for `name`, which it does not have.
    pub fn no_symbol(&self, name: &str) -> SymbolError {
        self.table.no_symbol(name, &self.path)
    }

    /// All of its symbols, by address.
    pub fn listed(&self) -> Vec<Listed> {
        self.table.listed(&[])
    }

    /// Whether every file of the program means one place by `name`.
    pub fn has_global(&self, name: &str) -> bool {
        self.table.has_global(name)
    }

    /// The names of all of its symbols.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.table.names()
    }
}

fn table(text: &[u8]) -> Table {
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    Table { entries: lines.filter_map(entry).collect() }
}

/// The symbol of a line. `nm` has capitals for those that every file of the program means, and W
/// and V for weak ones.
fn entry(line: &str) -> Option<Entry> {
    let (address, rest) = line.trim_end().split_once(' ')?;
    let (first, rest) = rest.split_once(' ')?;
    let (size, letter, name) = match *first.as_bytes() {
        [letter] => ("0", letter, rest),
        _ => {
            let (letter, name) = rest.split_once(' ')?;
            let &[letter] = letter.as_bytes() else { return None };
            (first, letter, name)
        }
    };
    let (address, size) =
        (u64::from_str_radix(address, 16).ok()?, u64::from_str_radix(size, 16).ok()?);
    // `nm -l` and /proc/kallsyms put more behind a tab.
    let name = name.split('\t').next()?;
    let (name, version) = Version::split(name);
    let writable = matches!(letter, b'd' | b'D' | b'b' | b'B');
    let absolute = letter == b'A';
    Some(Entry {
        symbol: Symbol { name: name.to_owned(), address, size, writable, absolute },
        kind: if letter == b'i' { Kind::Indirect } else { Kind::Place },
        file: None,
        global: letter.is_ascii_uppercase() && !matches!(letter, b'W' | b'V') || letter == b'u',
        exported: false,
        version,
    })
}

/// The address on the line of `text` whose name lies between `start`, a blank, and `end`.
fn address(text: &[u8], start: usize, end: usize) -> Option<u64> {
    if !matches!(text.get(end), None | Some(b'\n' | b'\r')) {
        return None;
    }
    let line = memchr::memrchr(b'\n', &text[..start]).map_or(0, |at| at + 1);
    entry(std::str::from_utf8(&text[line..end]).ok()?).map(|entry| entry.symbol.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> MapFile {
        MapFile { path: "wrapper.map".into(), table: table(text.as_bytes()) }
    }

    fn first(text: &str, name: &str) -> Option<u64> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        first_addresses(file.path(), &[name]).unwrap().0.get(name).copied()
    }

    #[test]
    fn finds_whole_names_only() {
        let text = "ffffffff81000000 T _text\nffffffff81000040 T init_task_fn\n\
                    ffffffffc0000000 t init_task\t[module]\nffffffff82000000 D init_task";
        assert_eq!(first(text, "_text"), Some(0xffff_ffff_8100_0000));
        assert_eq!(first(text, "init_task"), Some(0xffff_ffff_8200_0000));
        assert_eq!(first(text, "task"), None);
        assert_eq!(first(text, "init"), None);
    }

    #[test]
    fn a_long_file_is_searched_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kallsyms");
        let line = |number: usize| format!("{number:016x} t symbol_{number}\n");
        let text: String = (0..20_000).map(line).collect();
        std::fs::write(&path, text.clone() + "00000000deadbeef D last").unwrap();
        let names: Vec<_> = (0..20_000).step_by(99).map(|at| format!("symbol_{at}")).collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.extend(["last", "none"]);
        let (found, length) = first_addresses(&path, &names).unwrap();
        assert_eq!((found.len(), length), (names.len() - 1, text.len() as u64 + 23));
        assert_eq!((found["symbol_9900"], found["last"]), (9900, 0xdead_beef));
        std::fs::write(&path, vec![b' '; 3 * PART]).unwrap();
        assert!(first_addresses(&path, &names).unwrap().0.is_empty());
    }

    #[test]
    fn a_programs_symbol_is_the_global_one_or_the_only_one() {
        let map = map("0000000000401136 T main\n                 U printf\n\
                       0000000000404030 0000000000000008 B value\n0000000000404048 b twin\n\
                       0000000000404050 b twin\n0000000000404058 W both\n0000000000404060 D both\n\
                       0000000000404068 r app::table[abi:cxx11]\n0000000000404070 D _ZN3app5otherE\n");
        let symbol = |name| map.symbol(name).map(|symbol| (symbol.address, symbol.size));
        assert_eq!(symbol("value").unwrap(), (0x404030, 8));
        assert_eq!(symbol("both").unwrap(), (0x404060, 0));
        assert_eq!(symbol("app::table[abi:cxx11]").unwrap(), (0x404068, 0));
        assert!(matches!(symbol("twin"), Err(SymbolError::Ambiguous { .. })));
        assert!(matches!(symbol("printf"), Err(SymbolError::NoSymbol { .. })));
        assert_eq!(symbol("app::other").unwrap(), (0x404070, 0));
        assert!(symbol("valeu").unwrap_err().to_string().contains("nearest: value"));
    }

    #[test]
    fn a_line_that_is_no_symbol_is_none() {
        let stub = "ffffB The real System.map is in the linux-image-<version>-dbg package\n";
        assert_eq!(first(stub, "package"), None);
    }
}
