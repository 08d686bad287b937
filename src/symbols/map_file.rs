//! The text form of a symbol table: `ADDRESS LETTER NAME` a line, as `nm`, System.map and
//! `/proc/kallsyms` have it.
//!
//! A kernel's has 150,000 lines of which a command needs a handful, so names are searched for in
//! the text and no table is built. Letters are not looked at: 7.2's kallsyms gives `init_task`
//! the letter of a function.

use super::{SymbolError, read_file};
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
        let needle = format!(" {name}");
        let found = memmem::find_iter(&self.text, &needle);
        let mut addresses = found.filter_map(|at| self.address_at(at, at + needle.len()));
        addresses.next().ok_or_else(|| SymbolError::NoSymbol {
            name: name.to_owned(),
            path: self.path.clone(),
            near: Vec::new(),
        })
    }

    /// The address on the line whose name lies between `start`, a blank, and `end`.
    fn address_at(&self, start: usize, end: usize) -> Option<u64> {
        if !matches!(self.text.get(end), None | Some(b'\n' | b'\r')) {
            return None;
        }
        let before = &self.text[..start];
        let line = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut fields = std::str::from_utf8(&before[line..]).ok()?.split_ascii_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok()?;
        let letter = fields.next()?;
        (letter.len() == 1 && fields.next().is_none()).then_some(address)
    }
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
    fn a_line_that_is_no_symbol_is_none() {
        assert!(
            map("ffffB The real System.map is in the linux-image-<version>-dbg package\n")
                .address("package")
                .is_err()
        );
    }
}
