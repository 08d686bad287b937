//! Symbol tables by name: ELF files, what `nm` and `/proc/kallsyms` print, and the tables that a
//! kernel carries of itself.

mod bytes;
mod demangle;
mod dynamic;
mod elf;
mod headers;
pub mod kallsyms;
mod map_file;
mod sections;
mod table;

pub use bytes::{FileBytes, Loaded};
pub use dynamic::Copied;
pub use elf::{ElfFile, soname};
pub use headers::{BuildId, Headers, Segment, Symtab, build_id_text};
pub use map_file::{MapFile, first_addresses};
pub use sections::{NoSections, SectionError, Sections};
pub use table::{Listed, Seen};

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A named place, at the address its program was linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name, as the linker knows it.
    pub name: String,
    /// Its address before the program was loaded anywhere.
    pub address: u64,
    /// Bytes; 0 where the table does not say.
    pub size: u64,
    /// Whether the table says that it is data which the program may write.
    pub writable: bool,
    /// Whether the address is a number that no loader adds anything to.
    pub absolute: bool,
}

/// One of several places of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What to type for it, where that is more than the name.
    pub name: Option<String>,
    /// Its link-time address.
    pub address: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match &self.name {
            Some(name) => write!(out, "{name} at {:#x}", self.address),
            None => write!(out, "{:#x}", self.address),
        }
    }
}

/// A symbol table could not be read, or lacks a name.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither a file nor a link to one: reading it could block, or never end.
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    /// Not what nm prints.
    #[error("{0} has no line 'ADDRESS LETTER NAME', as nm prints them: give such a map")]
    NotAMap(PathBuf),
    /// The program has no symbols at all.
    #[error(
        "{0} has no symbols: it is stripped; give --victim a copy that is not (its build-id may be the same)"
    )]
    Stripped(PathBuf),
    /// The file is not ELF, or a damaged one.
    #[error(
        "{path} is not an ELF program that can be read ({why}); give --victim the program itself"
    )]
    NotElf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No such name.
    #[error("no symbol '{name}' in {path}{}", nearest(.near))]
    NoSymbol {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// Several places of that name.
    #[error("'{name}' names {} places in {path}: {}; {}", .places.len(), list(.places), choose(.places))]
    Ambiguous {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// The places, by address.
        places: Vec<Place>,
    },
    /// What the name stands for is chosen when the program starts.
    #[error(
        "'{name}' in {path} is a function that chooses another one when the program starts (IFUNC), which then is called: name that one"
    )]
    Indirect {
        /// The name asked for.
        name: String,
        /// Where it was found.
        path: PathBuf,
    },
    /// A thread-local variable has an address in each thread, not one of its own.
    #[error(
        "'{name}' in {path} is thread-local: each thread has its own, and none can be named yet"
    )]
    ThreadLocal {
        /// The name asked for.
        name: String,
        /// Where it was found.
        path: PathBuf,
    },
}

/// All of the file at `path`.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, SymbolError> {
    let mut bytes = Vec::new();
    let read = open_file(path)?.read_to_end(&mut bytes);
    read.map_err(|source| SymbolError::Unreadable { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn open_file(path: &Path) -> Result<File, SymbolError> {
    let unreadable = |source| SymbolError::Unreadable { path: path.to_owned(), source };
    // The kind first: opening a FIFO would block.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(SymbolError::NotAFile(path.to_owned()));
    }
    File::open(path).map_err(unreadable)
}

pub(crate) fn nearest(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; the nearest: {}", near.join(", ")),
    }
}

fn list(places: &[Place]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = places.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if places.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn choose(places: &[Place]) -> &'static str {
    match places.iter().any(|place| place.name.is_some()) {
        true => {
            "name one as it is shown, or where that does not tell them apart a symbol near it and an OFFSET"
        }
        false => "name a symbol near it and an OFFSET",
    }
}

/// The up to five of `names` that look most like `name`; none that look like nothing of it.
pub fn nearest_names(name: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    const SHOWN: usize = 5;
    const ALIKE: f64 = 0.7;
    let score = |other: &str| strsim::jaro_winkler(name, other);
    let mut scored: Vec<_> = names.map(|other| (score(&other), other)).collect();
    scored.retain(|(score, _)| *score > ALIKE);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(SHOWN).map(|(_, other)| other).collect()
}
