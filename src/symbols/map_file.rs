//! The text form of a symbol table: `ADDRESS LETTER NAME` a line, as `nm`, System.map and
//! `/proc/kallsyms` have it; `nm -S` has a size after the address.
//!
//! A kernel's has 150,000 lines of which a command needs a handful, so names are searched for in
//! the text and no table is built. A kernel's letters are not looked at: 7.2's kallsyms gives
//! `init_task` the letter of a function.

use super::{Symbol, SymbolError, nearest_names, read_file};
use memchr::memmem;
use std::path::{Path, PathBuf};

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

    /// Bytes in the file: Debian's packages hold a stub in place of the real thing.
    pub fn length(&self) -> usize {
        self.text.len()
    }

    /// The address of the first symbol `name`.
    pub fn address(&self, name: &str) -> Result<u64, SymbolError> {
        let first = self.lines(name).next();
        first.map(|line| line.address).ok_or_else(|| self.no_symbol(name, Vec::new()))
    }

    /// The only symbol `name` of a program; a global one before local ones.
    pub fn symbol(&self, name: &str) -> Result<Symbol, SymbolError> {
        let lines: Vec<_> = self.lines(name).collect();
        let chosen = lines.iter().find(|line| line.global).or(lines.first());
        let Some(chosen) = chosen else {
            return Err(self.no_symbol(name, nearest_names(name, self.names())));
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

    fn no_symbol(&self, name: &str, near: Vec<String>) -> SymbolError {
        SymbolError::NoSymbol { name: name.to_owned(), path: self.path.clone(), near }
    }

    /// The lines of the symbol `name`.
    fn lines(&self, name: &str) -> impl Iterator<Item = Line> {
        let needle = format!(" {name}");
        let finder = memmem::Finder::new(&needle).into_owned();
        let mut from = 0;
        let found = std::iter::from_fn(move || {
            let at = from + finder.find(self.text.get(from..)?)?;
            from = at + needle.len();
            Some((at, from))
        });
        found.filter_map(|(start, end)| self.line(start, end))
    }

    /// The line whose name lies between `start`, a blank, and `end`.
    fn line(&self, start: usize, end: usize) -> Option<Line> {
        if !matches!(self.text.get(end), None | Some(b'\n' | b'\r')) {
            return None;
        }
        let before = &self.text[..start];
        let line = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
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

    fn names(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.split(|&byte| byte == b'\n');
        lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_ascii_whitespace().last())
    }
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
        assert!(map.address("task").is_err());
        assert!(map.address("init").is_err());
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
        assert!(
            map("ffffB The real System.map is in the linux-image-<version>-dbg package\n")
                .address("package")
                .is_err()
        );
    }
}
