//! The text form of a symbol table: `ADDRESS LETTER NAME` a line, as `nm`, System.map and
//! `/proc/kallsyms` have it; `nm -S` has a size after the address.
//!
//! A kernel's has 150,000 lines of which a command needs a handful: [`first_addresses`] searches
//! for them while it reads, and keeps no text. A kernel's letters are not looked at: 7.2's kallsyms
//! gives `init_task` the letter of a function.

use super::{Symbol, SymbolError, nearest_names, open_file, read_file};
use memchr::memmem::Finder;
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
    let mut missing: Vec<_> = names.iter().map(|name| (*name, Name::new(name))).collect();
    let (mut found, mut length) = (HashMap::new(), 0);
    let (mut part, mut kept) = (vec![0; PART], 0);
    loop {
        let read = file.read(&mut part[kept..]).map_err(unreadable)?;
        length += read as u64;
        let text = &part[..kept + read];
        // A line that is cut off is searched with the next part; one that fills a part is none.
        let end = memchr::memrchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let lines = if read == 0 { text } else { &text[..end] };
        missing.retain(|(name, finder)| match finder.lines(lines).next() {
            Some(line) => found.insert(*name, line.address).is_some(),
            None => true,
        });
        if read == 0 {
            return Ok((found, length));
        }
        kept = text.len() - end;
        part.copy_within(end..end + kept, 0);
    }
}

/// A System.map, a copy of `/proc/kallsyms`, or what `nm` printed.
pub struct MapFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl MapFile {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, SymbolError> {
        Ok(Self { path: path.to_owned(), text: read_file(path)? })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of the first symbol `name`.
    pub fn address(&self, name: &str) -> Option<u64> {
        Name::new(name).lines(&self.text).next().map(|line| line.address)
    }

    /// The only symbol `name` of a program; a global one before local ones.
    pub fn symbol(&self, name: &str) -> Result<Symbol, SymbolError> {
        let lines: Vec<_> = Name::new(name).lines(&self.text).collect();
        let chosen = lines.iter().find(|line| line.global).or(lines.first());
        let Some(chosen) = chosen else {
            let near = nearest_names(name, self.names());
            return Err(SymbolError::NoSymbol {
                name: name.to_owned(),
                path: self.path.clone(),
                near,
            });
        };
        let mut addresses: Vec<_> = lines.iter().map(|line| line.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !chosen.global && addresses.len() > 1 {
            let path = self.path.clone();
            return Err(SymbolError::Ambiguous { name: name.to_owned(), path, addresses });
        }
        Ok(Symbol { name: name.to_owned(), address: chosen.address, size: chosen.size })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.split(|&byte| byte == b'\n');
        lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_ascii_whitespace().last())
    }
}

/// A name that is searched for.
struct Name(Finder<'static>);

impl Name {
    fn new(name: &str) -> Self {
        Self(Finder::new(&format!(" {name}")).into_owned())
    }

    /// The lines of `text` that have the name.
    fn lines(&self, text: &[u8]) -> impl Iterator<Item = Line> {
        let length = self.0.needle().len();
        self.0.find_iter(text).filter_map(move |at| line(text, at, at + length))
    }
}

/// The line of `text` whose name lies between `start`, a blank, and `end`.
fn line(text: &[u8], start: usize, end: usize) -> Option<Line> {
    if !matches!(text.get(end), None | Some(b'\n' | b'\r')) {
        return None;
    }
    let before = &text[..start];
    let line = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let fields = std::str::from_utf8(&before[line..]).ok()?.split_ascii_whitespace();
    let (address, size, letter) = match fields.collect::<Vec<_>>()[..] {
        [address, letter] => (address, "0", letter),
        [address, size, letter] => (address, size, letter),
        _ => return None,
    };
    Some(Line {
        address: u64::from_str_radix(address, 16).ok()?,
        size: u64::from_str_radix(size, 16).ok()?,
        global: is_global(letter)?,
    })
}

/// What one line says.
struct Line {
    address: u64,
    size: u64,
    global: bool,
}

/// Whether `letter` stands for a symbol that every file of the program means: `nm` has capitals
/// for those, and W and V for weak ones. `None` where it is no letter.
fn is_global(letter: &str) -> Option<bool> {
    let &[letter] = letter.as_bytes() else { return None };
    Some(letter.is_ascii_uppercase() && !matches!(letter, b'W' | b'V'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> MapFile {
        MapFile { path: "System.map".into(), text: text.as_bytes().to_vec() }
    }

    #[test]
    fn finds_whole_names_only() {
        let map = map("ffffffff81000000 T _text\nffffffff81000040 T init_task_fn\n\
                       ffffffffc0000000 t init_task\t[module]\nffffffff82000000 D init_task");
        assert_eq!(map.address("_text").unwrap(), 0xffff_ffff_8100_0000);
        assert_eq!(map.address("init_task").unwrap(), 0xffff_ffff_8200_0000);
        assert_eq!(map.address("task"), None);
        assert_eq!(map.address("init"), None);
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
                       0000000000404068 r app::table[abi:cxx11]\n");
        let symbol = |name| map.symbol(name).map(|symbol| (symbol.address, symbol.size));
        assert_eq!(symbol("value").unwrap(), (0x404030, 8));
        assert_eq!(symbol("both").unwrap(), (0x404060, 0));
        assert_eq!(symbol("app::table[abi:cxx11]").unwrap(), (0x404068, 0));
        assert!(matches!(symbol("twin"), Err(SymbolError::Ambiguous { .. })));
        assert!(matches!(symbol("printf"), Err(SymbolError::NoSymbol { .. })));
        assert!(symbol("valeu").unwrap_err().to_string().contains("nearest: value"));
    }

    #[test]
    fn a_line_that_is_no_symbol_is_none() {
        let stub = "ffffB The real System.map is in the linux-image-<version>-dbg package\n";
        assert_eq!(map(stub).address("package"), None);
    }
}
