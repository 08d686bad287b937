//! From a name to a place: in the program, or in its libraries as the dynamic linker searches them.
//!
//! `[LIBRARY:]NAME`. LIBRARY is a loaded one's own name (`libm.so.6`), its file's name or path in
//! the guest or the end of it, or the start of its name up to a dot (`libm`); the program counts as
//! one. NAME is what the symbols of one file know, `FILE:NAME` included. What is the name of
//! something loaded is taken for that; FILE is looked for else.
//!
//! A bare name is looked for in the program first, then in its libraries in load order: first what
//! they export by just this name, as the dynamic linker does; then what they export by a C++ or
//! Rust name; then what is theirs alone, of which only one may have it.
//!
//! A library's variable that the program uses may have been moved into the program when that was
//! linked (a copy relocation): then all use it there, and it is taken there by every name. What the
//! library itself has of it is dead.

use super::files;
use super::object::{self, Object};
use super::{Victim, VictimError};
use crate::address::Gva;
use crate::symbols::{
    Copied, ElfFile, Headers, Listed, Seen, Symbol, SymbolError, Symtab, nearest_names,
};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// More symbols than a victim's libraries have in all; hostile ones could have any number.
const MOST_SYMBOLS: usize = 1 << 22;

/// Where the victim has a symbol.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address.
    pub gva: Gva,
    /// Its bytes; 0 where the file does not say.
    pub size: u64,
    /// Whether it was found in the program, not in a library.
    pub of_program: bool,
    /// What defines it, which knows its type.
    pub(super) definition: Definition,
}

/// What defines a symbol: the file that has it, and how that knows it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The `struct file` that it is mapped from.
    pub file: Gva,
    /// The linker's name.
    pub name: String,
    /// Its link-time address.
    pub address: u64,
}

impl Place {
    /// That of `symbol`, found by `name` in `object`.
    pub fn new(
        name: &str,
        symbol: &Symbol,
        object: &Object,
        of_program: bool,
    ) -> Result<Self, VictimError> {
        let bias = if symbol.absolute { 0 } else { object.bias };
        let gva = Gva(symbol.address).checked_add(bias);
        let gva = gva.ok_or_else(|| VictimError::OutOfSpace(name.to_owned()))?;
        let definition = Definition::new(object, symbol);
        Ok(Self { gva, size: symbol.size, of_program, definition })
    }
}

/// The symbols of a file that a victim has loaded.
pub struct FileSymbols<'v> {
    /// Its path in the guest.
    pub path: &'v str,
    /// What the loader added to each address.
    pub bias: u64,
    /// Its symbols, by address.
    pub symbols: Vec<Listed>,
}

impl<'v> FileSymbols<'v> {
    fn new(object: &'v Object, symbols: Vec<Listed>) -> Self {
        Self { path: &object.path, bias: object.bias, symbols }
    }
}

impl Definition {
    fn new(object: &Object, symbol: &Symbol) -> Self {
        Self { file: object.file, name: symbol.name.clone(), address: symbol.address }
    }
}

/// The victim's libraries, in the order in which they are searched.
pub struct Libraries {
    all: Vec<Library>,
    /// Whether there may be more in a moment.
    loading: bool,
    /// What the program exports, and has copied out of libraries.
    program: Option<Rc<ElfFile>>,
}

/// A library, and its symbols once they were asked for; none where they are not to be had.
struct Library {
    object: Object,
    symbols: OnceCell<Option<Rc<ElfFile>>>,
}

/// What stands before a colon.
enum Named<'l> {
    Program,
    Library(&'l Library),
}

impl Victim<'_> {
    /// Where the victim has its symbol `name`.
    pub fn symbol(&self, name: &str) -> Result<Place, VictimError> {
        let found = self.first_of(&[name])?;
        found.map_or_else(|| Err(self.nowhere(name)?), |(_, place)| Ok(place))
    }

    /// The first of `names` that the victim has in its program, or in the library that the name
    /// tells; if it has none there, the first that its libraries have. With its number.
    pub fn first_of(&self, names: &[&str]) -> Result<Option<(usize, Place)>, VictimError> {
        for look in [Self::where_told, Self::anywhere] {
            for (index, name) in names.iter().enumerate() {
                if let Some(place) = look(self, name)? {
                    return Ok(Some((index, place)));
                }
            }
        }
        Ok(None)
    }

    /// Where the program has `name`, or the library that it tells.
    fn where_told(&self, name: &str) -> Result<Option<Place>, VictimError> {
        match self.split(name)? {
            Some((Named::Program, own)) => self.in_program(own),
            Some((Named::Library(library), own)) => self.of_library(library, own),
            None => self.in_program(name),
        }
    }

    /// Where the libraries have `name`, which tells none of them.
    fn anywhere(&self, name: &str) -> Result<Option<Place>, VictimError> {
        if self.split(name)?.is_some() { Ok(None) } else { self.of_libraries(name) }
    }

    fn libraries(&self) -> Result<&Libraries, VictimError> {
        if self.libraries.get().is_none() {
            let read = self.read_libraries()?;
            // Nobody else could have been faster.
            let _ = self.libraries.set(read);
        }
        Ok(self.libraries.get_or_init(Libraries::none))
    }

    fn read_libraries(&self) -> Result<Libraries, VictimError> {
        let path = Path::new(&self.object.path);
        let mapped = super::mapped_file::MappedFile::new(&self.memory, self.object.file);
        let mapped = mapped.loaded_at(Some(self.object.bias));
        let Ok(headers) = Headers::read(path, &mapped) else { return Ok(Libraries::none()) };
        let loaded = object::Loaded::read(&self.memory, &self.object, &headers)?;
        for library in &loaded.libraries {
            log::debug!("library {} at {:#x}", library.path, library.bias);
        }
        let library = |object| Library { object, symbols: OnceCell::new() };
        Ok(Libraries {
            all: loaded.libraries.into_iter().map(library).collect(),
            loading: loaded.loading,
            program: ElfFile::parse(path, &mapped).map(Rc::new).ok(),
        })
    }

    /// `LIBRARY:NAME` taken apart, where LIBRARY is loaded. C++ and Rust have two colons in names.
    fn split<'n>(&self, name: &'n str) -> Result<Option<(Named<'_>, &'n str)>, VictimError> {
        let parts = name.match_indices(':').map(|(at, _)| (&name[..at], &name[at + 1..]));
        for (library, own) in parts.filter(|(left, right)| single_colon(left, right)) {
            if let Some(named) = self.named(library)? {
                return Ok(Some((named, own)));
            }
        }
        Ok(None)
    }

    /// What is loaded by the name `name`, or else by one that begins so.
    fn named(&self, name: &str) -> Result<Option<Named<'_>>, VictimError> {
        let libraries = self.libraries()?;
        for fits in [Object::is, Object::starts_with] {
            let all = libraries.all.iter();
            let found: Vec<_> = all.filter(|library| fits(&library.object, name)).collect();
            match (fits(&self.object, name), found.as_slice()) {
                (false, []) => {}
                (true, []) => return Ok(Some(Named::Program)),
                (false, [only]) => return Ok(Some(Named::Library(only))),
                (program, _) => {
                    let program = Some(self.object.path.clone()).filter(|_| program);
                    let paths = found.iter().map(|library| library.object.path.clone());
                    let (name, paths) = (name.to_owned(), program.into_iter().chain(paths));
                    return Err(VictimError::SeveralLibraries { name, paths: paths.collect() });
                }
            }
        }
        Ok(None)
    }

    /// The symbols of `library`; `None` where none are to be had.
    fn symbols<'l>(&self, library: &'l Library) -> Result<Option<&'l Rc<ElfFile>>, VictimError> {
        if library.symbols.get().is_none() {
            let symbols = match self.twin(library)? {
                Some(twin) => Some(twin),
                None => self.read_symbols(library)?,
            };
            let _ = library.symbols.set(symbols);
        }
        Ok(library.symbols.get().and_then(Option::as_ref))
    }

    fn read_symbols(&self, library: &Library) -> Result<Option<Rc<ElfFile>>, VictimError> {
        let read = self.libraries()?.all.iter().filter_map(|other| other.symbols.get()?.as_ref());
        if read.map(|elf| elf.count()).sum::<usize>() > MOST_SYMBOLS {
            log::warn!("too many symbols: those of {} are left out", library.object.path);
            return Ok(None);
        }
        let elf = files::library(&self.memory, &library.object, self.folder.as_deref())?;
        Ok(elf.map(Rc::new))
    }

    /// The symbols of another copy of `library`, loaded from the same file: they are the same.
    fn twin(&self, library: &Library) -> Result<Option<Rc<ElfFile>>, VictimError> {
        let same = |other: &&Library| other.object.file == library.object.file;
        let mut twins = self.libraries()?.all.iter().filter(same);
        Ok(twins.find_map(|other| other.symbols.get().cloned().flatten()))
    }

    /// Where `library` has its symbol `name`; none where it has no such.
    fn of_library(&self, library: &Library, name: &str) -> Result<Option<Place>, VictimError> {
        let symbols = self.known_symbols(library)?;
        let Some(symbol) = symbols.seen(name, Seen::Any)? else { return Ok(None) };
        if symbols.seen(name, Seen::Linked).is_ok_and(|seen| seen == Some(symbol)) {
            self.warn_of_another(library, name, symbol)?;
        }
        self.place(library, name, symbol).map(Some)
    }

    /// The symbols of `library`, or an error.
    fn known_symbols<'l>(&self, library: &'l Library) -> Result<&'l Rc<ElfFile>, VictimError> {
        let unknown = || VictimError::UnknownLibrary { library: library.object.path.clone() };
        self.symbols(library)?.ok_or_else(unknown)
    }

    /// Says so where the victim means another place by `name` than `library`'s own.
    fn warn_of_another(
        &self,
        library: &Library,
        name: &str,
        symbol: &Symbol,
    ) -> Result<(), VictimError> {
        if self.copied(library, symbol)?.is_some() {
            return Ok(());
        }
        let libraries = self.libraries()?;
        let exports =
            |elf: &Rc<ElfFile>| matches!(elf.seen(name, Seen::Linked), Ok(Some(_)) | Err(_));
        let before = libraries.all.iter().take_while(|other| !std::ptr::eq(*other, library));
        let first = match &libraries.program {
            Some(program) if exports(program) => Some(&self.object),
            _ => before
                .filter(|other| self.symbols(other).ok().flatten().is_some_and(exports))
                .map(|other| &other.object)
                .next(),
        };
        if let Some(first) = first {
            log::warn!(
                "{} comes before {} and has a '{name}' too, which the victim uses unless it asks for this one: {}:{name}",
                first.path,
                library.object.path,
                first.short()
            );
        }
        Ok(())
    }

    /// Where a bare name leads in the libraries; `None` where nowhere.
    fn of_libraries(&self, name: &str) -> Result<Option<Place>, VictimError> {
        let all = &self.libraries()?.all;
        for seen in [Seen::Linked, Seen::Exported] {
            for library in all {
                let Some(symbols) = self.symbols(library)? else { continue };
                if let Some(symbol) = symbols.seen(name, seen)? {
                    self.warn_of_holes(library)?;
                    return self.place(library, name, symbol).map(Some);
                }
            }
        }
        let mut found = Vec::new();
        for library in all {
            let Some(symbols) = self.symbols(library)? else { continue };
            if let Some(symbol) = symbols.seen(name, Seen::Any)? {
                found.push((library, self.place(library, name, symbol)?));
            }
        }
        match found.as_slice() {
            [] => Ok(None),
            [(_, only)] => Ok(Some(only.clone())),
            several => Err(self.ambiguous(name, several)),
        }
    }

    /// A library before `library` could have the name too, where the guest does not have it whole.
    fn warn_of_holes(&self, library: &Library) -> Result<(), VictimError> {
        let all = self.libraries()?.all.iter();
        for before in all.take_while(|other| !std::ptr::eq(*other, library)) {
            if self.symbols(before)?.is_none_or(|symbols| symbols.holes()) {
                log::warn!(
                    "{} comes before {} and may have such a symbol too: not all of it is in the guest's memory",
                    before.object.path,
                    library.object.path
                );
            }
        }
        Ok(())
    }

    fn ambiguous(&self, name: &str, places: &[(&Library, Place)]) -> VictimError {
        let place = |(library, place): &(&Library, Place)| crate::symbols::Place {
            name: Some(format!("{}:{name}", library.object.short())),
            address: place.gva.0,
        };
        let path = PathBuf::from(format!("the libraries of {}", self.object.path));
        let places = places.iter().map(place).collect();
        SymbolError::Ambiguous { name: name.to_owned(), path, places }.into()
    }

    /// The place of `library`'s `symbol`, which is in the program where it was moved there.
    fn place(&self, library: &Library, name: &str, symbol: &Symbol) -> Result<Place, VictimError> {
        let Some((copy, into)) = self.copied(library, symbol)? else {
            return Place::new(name, symbol, &library.object, false);
        };
        let out_of_space = || VictimError::OutOfSpace(name.to_owned());
        let address = copy.address.checked_add(into).ok_or_else(out_of_space)?;
        let moved = Symbol { address, ..symbol.clone() };
        let definition = Definition::new(&library.object, symbol);
        let place = Place { definition, ..Place::new(name, &moved, &self.object, true)? };
        let (program, library) = (&self.object.path, library.object.short());
        log::warn!(
            "{library}'s '{name}' was moved into {program} when that was linked (a copy relocation), and is taken there, where all use it: {}",
            place.gva
        );
        Ok(place)
    }

    /// What the program has copied out of `library` and holds `symbol`, and how far into it that
    /// lies.
    fn copied(
        &self,
        library: &Library,
        symbol: &Symbol,
    ) -> Result<Option<(&Copied, u64)>, VictimError> {
        let libraries = self.libraries()?;
        let Some(program) = &libraries.program else { return Ok(None) };
        for copy in program.copied() {
            let exporter = self.first_exporter(&copy.name)?;
            let Some((first, variable)) = exporter else { continue };
            let into = symbol.address.checked_sub(variable.address);
            let into = into.filter(|&into| into < variable.size.max(1) && !symbol.absolute);
            if let (true, Some(into)) = (std::ptr::eq(first, library), into) {
                return Ok(Some((copy, into)));
            }
        }
        Ok(None)
    }

    /// The first library that the dynamic linker finds `name` in.
    fn first_exporter(&self, name: &str) -> Result<Option<(&Library, &Symbol)>, VictimError> {
        for library in &self.libraries()?.all {
            let symbols = self.symbols(library)?;
            let found = symbols.and_then(|symbols| symbols.seen(name, Seen::Linked).ok().flatten());
            if let Some(symbol) = found {
                return Ok(Some((library, symbol)));
            }
        }
        Ok(None)
    }

    /// What is known of the symbols of the program, and then of each library, in the order in which
    /// they are searched.
    pub fn all_symbols(&self) -> Result<Vec<FileSymbols<'_>>, VictimError> {
        let mut all = vec![FileSymbols::new(&self.object, self.program.listed())];
        for library in &self.libraries()?.all {
            let symbols = self.symbols(library)?.map(|elf| elf.listed());
            all.push(FileSymbols::new(&library.object, symbols.unwrap_or_default()));
        }
        Ok(all)
    }

    /// The library whose `struct file` is `file`, and its file, as far as it is to be had.
    pub(super) fn library_of(
        &self,
        file: Gva,
    ) -> Result<Option<(&Object, Option<&ElfFile>)>, VictimError> {
        let library = self.libraries()?.all.iter().find(|library| library.object.file == file);
        let Some(library) = library else { return Ok(None) };
        Ok(Some((&library.object, self.symbols(library)?.map(Rc::as_ref))))
    }

    /// The error for a name that `library`, which was named, does not have.
    fn not_in(&self, library: &Library, name: &str) -> Result<VictimError, VictimError> {
        let symbols = self.known_symbols(library)?;
        let error = symbols.no_symbol(name);
        let Some(lack) = self.lack_of(library, symbols) else { return Ok(error.into()) };
        let near = if let SymbolError::NoSymbol { near, .. } = error { near } else { Vec::new() };
        Ok(VictimError::NoSymbol {
            name: name.to_owned(),
            program: symbols.path().to_owned(),
            libraries: 0,
            near,
            lacks: vec![lack],
            loading: false,
        })
    }

    /// What of `library` is not known, where that could have been.
    fn lack_of(&self, library: &Library, symbols: &ElfFile) -> Option<String> {
        let known = symbols.has_bytes() || symbols.symtab() == Symtab::Whole;
        if known && !symbols.holes() {
            return None;
        }
        let why = files::lack(&self.memory, &library.object, symbols);
        Some(format!("{} ({why})", library.object.path))
    }

    /// The error for a name that is nowhere.
    pub fn nowhere(&self, name: &str) -> Result<VictimError, VictimError> {
        match self.split(name)? {
            Some((Named::Program, own)) => return Ok(self.program.no_symbol(own).into()),
            Some((Named::Library(library), own)) => return self.not_in(library, own),
            None => {}
        }
        let libraries = self.libraries()?;
        let loading = libraries.loading;
        if let Some(missing) = named_library(name) {
            let (name, pid) = (missing.to_owned(), self.memory.task.pid);
            let all = libraries.all.iter().map(|library| library.object.short().to_owned());
            return Ok(VictimError::NoLibrary { name, pid, libraries: all.collect(), loading });
        }
        if libraries.all.is_empty() && !loading {
            let error = || self.program.no_symbol(name).into();
            return Ok(self.lack.clone().map_or_else(error, VictimError::from));
        }
        let (names, lacks) = self.known()?;
        Ok(VictimError::NoSymbol {
            name: name.to_owned(),
            program: self.program.path().to_owned(),
            libraries: libraries.all.len(),
            near: nearest_names(name, names.into_iter()),
            lacks,
            loading,
        })
    }

    /// All names that were looked at, and what of the files could have held more.
    fn known(&self) -> Result<(Vec<String>, Vec<String>), VictimError> {
        let mut names = self.program.names();
        let mut lacks: Vec<_> =
            self.lack.iter().map(|lack| format!("{} ({})", lack.exe, lack.why)).collect();
        for library in &self.libraries()?.all {
            let Some(symbols) = self.symbols(library)? else {
                lacks.push(format!("{} (it is not in the guest's memory)", library.object.path));
                continue;
            };
            names.extend(symbols.names());
            // Most are stripped, and then do not lack what is looked for.
            let lack = symbols.holes().then(|| self.lack_of(library, symbols));
            lacks.extend(lack.flatten());
        }
        Ok((names, lacks))
    }
}

impl Libraries {
    fn none() -> Self {
        Self { all: Vec::new(), loading: false, program: None }
    }
}

/// Whether the colon between them is none of two.
fn single_colon(left: &str, right: &str) -> bool {
    !left.is_empty() && !left.ends_with(':') && !right.starts_with(':') && !right.is_empty()
}

/// What stands before a colon, where it looks like the name of a library.
fn named_library(name: &str) -> Option<&str> {
    let (library, own) = name.split_once(':')?;
    let looks = library.ends_with(".so") || library.contains(".so.");
    (looks && single_colon(library, own)).then_some(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_of_two_parts_nothing() {
        for (left, right) in [("", "a"), ("a", ""), ("app", ":value"), ("app:", "value")] {
            assert!(!single_colon(left, right), "{left} {right}");
        }
        assert!(single_colon("libm.so.6", "signgam"));
    }

    #[test]
    fn what_looks_like_a_library_is_told_as_one() {
        assert_eq!(named_library("libm.so.6:signgam"), Some("libm.so.6"));
        assert_eq!(named_library("libown.so:own.c:twin"), Some("libown.so"));
        for name in ["signgam", "own.c:twin", "app::value", "a.solver.c:x"] {
            assert_eq!(named_library(name), None, "{name}");
        }
    }
}
