//! The names of a program, and the one place that a name means.

use super::demangle::demangle;
use super::{Place, Segment, Symbol, SymbolError, nearest_names};
use std::path::Path;
use std::sync::Arc;

/// Where a table's name leads, and who sees it.
pub struct Entry {
    pub symbol: Symbol,
    pub kind: Kind,
    /// The source file that alone sees it, where the table tells.
    pub file: Option<Arc<str>>,
    /// Whether every file of the program means this place by the name.
    pub global: bool,
    /// Whether other programs and libraries see it.
    pub exported: bool,
    /// Which of several that are exported by this name.
    pub version: Option<Version>,
}

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A place in memory.
    Place,
    /// A place in each thread.
    ThreadLocal,
    /// A function that tells the place when the program starts (`STT_GNU_IFUNC`).
    Indirect,
}

/// A version of an exported name: `memcpy@GLIBC_2.2.5`, or with two `@` the one that the bare name
/// means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What it is called, where the table tells.
    pub name: Option<Arc<str>>,
    /// Whether the bare name means it.
    pub default: bool,
}

impl Version {
    /// A table's `name` taken apart; no version where it tells none.
    pub fn split(name: &str) -> (&str, Option<Self>) {
        let Some((own, version)) = name.split_once('@').filter(|(own, _)| !own.is_empty()) else {
            return (name, None);
        };
        let (default, version) = match version.strip_prefix('@') {
            Some(version) => (true, version),
            None => (false, version),
        };
        (own, Some(Self { name: Some(Arc::from(version)), default }))
    }

    /// What follows the name.
    fn suffix(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(format!("{}{name}", if self.default { "@@" } else { "@" }))
    }
}

/// Which of the symbols count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Those that the dynamic linker finds by exactly this name.
    Linked,
    /// Those that are exported, by any of their names.
    Exported,
    /// All.
    Any,
}

impl Entry {
    /// Whether it belongs to the source file `file`: its whole path, or the end of it.
    fn is_of(&self, file: &str) -> bool {
        let ends = |own: &str| own == file || Path::new(own).ends_with(file);
        !file.is_empty() && self.file.as_deref().is_some_and(ends)
    }

    /// Whether the bare name means it.
    fn is_default(&self) -> bool {
        self.version.as_ref().is_none_or(|version| version.default)
    }

    /// Whether it is the one that was asked for with `@`, or with `@@` as the default one.
    fn is_version(&self, asked: &Version) -> bool {
        let own = self.version.as_ref();
        own.is_some_and(|own| own.name == asked.name && (own.default || !asked.default))
    }

    fn demangles_to(&self, name: &str) -> bool {
        demangle(&self.symbol.name).is_some_and(|own| own.short == name || own.full == name)
    }

    /// Its place, and what to type for it where that is more than its plain name.
    fn place(&self) -> Place {
        let demangled = demangle(&self.symbol.name).map(|own| own.full);
        let version = self.version.as_ref().and_then(Version::suffix);
        let own = demangled.as_ref().unwrap_or(&self.symbol.name);
        let name = match (&self.file, version) {
            (Some(file), _) => Some(format!("{file}:{own}")),
            (None, Some(version)) => Some(format!("{}{version}", self.symbol.name)),
            (None, None) => demangled,
        };
        Place { name, address: self.symbol.address }
    }
}

/// A symbol as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What to type for it: `FILE:NAME` for what one source file keeps to itself, and as C++ and
    /// Rust have it.
    pub name: String,
    /// The same without FILE and parameters, and as the linker knows it.
    pub other_names: Vec<String>,
    /// The symbol.
    pub symbol: Symbol,
    /// What it is, as `nm` has it: `t` text, `d` data, `b` data that starts as zeros, `r` read-only,
    /// `i` IFUNC, `l` thread-local, `a` absolute; a capital where the whole program means it.
    pub letter: char,
}

impl Entry {
    fn listed(&self, segments: &[Segment]) -> Listed {
        let raw = self.symbol.name.clone();
        let short = demangle(&raw).map(|own| own.short);
        let letter = self.letter(segments);
        Listed {
            name: self.place().name.unwrap_or_else(|| raw.clone()),
            other_names: short.into_iter().chain([raw]).collect(),
            symbol: self.symbol.clone(),
            letter: if self.global { letter.to_ascii_uppercase() } else { letter },
        }
    }

    fn letter(&self, segments: &[Segment]) -> char {
        let own = segments.iter().find_map(|segment| {
            let into = self.symbol.address.checked_sub(segment.address)?;
            (into < segment.memory_size).then_some((segment, into))
        });
        match (self.kind, own) {
            (Kind::Indirect, _) => 'i',
            (Kind::ThreadLocal, _) => 'l',
            _ if self.symbol.absolute => 'a',
            (_, Some((segment, _))) if segment.executable => 't',
            (_, Some((segment, into))) if segment.writable && into >= segment.file_size => 'b',
            (_, Some((segment, _))) if !segment.writable => 'r',
            _ if self.symbol.writable => 'd',
            _ => '?',
        }
    }
}

/// The symbols of a program.
pub struct Table {
    pub entries: Vec<Entry>,
}

impl Table {
    /// The symbol that `name` means in the program at `path`. One that every file of the program
    /// means by that name wins over local ones; a weak one does not.
    pub fn symbol(&self, name: &str, path: &Path) -> Result<&Symbol, SymbolError> {
        let found = self.seen(name, Seen::Any, path)?;
        found.ok_or_else(|| self.no_symbol(name, path))
    }

    /// The same of those that are `seen`; none where there is none.
    pub fn seen(
        &self,
        name: &str,
        seen: Seen,
        path: &Path,
    ) -> Result<Option<&Symbol>, SymbolError> {
        let mut named = self.named(name, seen);
        if named.iter().any(|entry| entry.global) {
            named.retain(|entry| entry.global);
        }
        let Some(chosen) = named.first().copied() else { return Ok(None) };
        let (name, path) = (name.to_owned(), path.to_owned());
        match chosen.kind {
            Kind::ThreadLocal => return Err(SymbolError::ThreadLocal { name, path }),
            Kind::Indirect => return Err(SymbolError::Indirect { name, path }),
            Kind::Place => {}
        }
        named.sort_by_key(|entry| entry.symbol.address);
        named.dedup_by_key(|entry| entry.symbol.address);
        if named.len() > 1 {
            let places = named.into_iter().map(Entry::place).collect();
            return Err(SymbolError::Ambiguous { name, path, places });
        }
        Ok(Some(&chosen.symbol))
    }

    /// The entries that `name` may mean: by the linker's name, as `FILE:NAME`, or demangled. The
    /// first way that leads anywhere counts; to demangle a large program takes long. Of versions
    /// the default one counts, unless another is named.
    fn named(&self, name: &str, seen: Seen) -> Vec<&Entry> {
        let (name, version) = Version::split(name);
        let (file, own) = self.split_file(name).unwrap_or_default();
        let ways: [&dyn Fn(&&Entry) -> bool; 4] = [
            &|entry| entry.symbol.name == name,
            &|entry| entry.symbol.name == own && entry.is_of(file),
            &|entry| entry.is_of(file) && entry.demangles_to(own),
            &|entry| entry.demangles_to(name),
        ];
        let counts = |entry: &&Entry| {
            (seen == Seen::Any || entry.exported)
                && version.as_ref().is_none_or(|version| entry.is_version(version))
        };
        let ways = ways.iter().take(if seen == Seen::Linked { 1 } else { ways.len() });
        let mut found = ways.map(|way| {
            let mut found: Vec<_> = self.entries.iter().filter(counts).filter(way).collect();
            if seen == Seen::Linked || found.iter().any(|entry| entry.is_default()) {
                found.retain(|entry| version.is_some() || entry.is_default());
            }
            found
        });
        found.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// All of them by address, each once, in a program with these segments.
    pub fn listed(&self, segments: &[Segment]) -> Vec<Listed> {
        let mut all: Vec<_> = self.entries.iter().collect();
        let key = |entry: &&Entry| (entry.symbol.address, entry.symbol.name.clone());
        all.sort_by_cached_key(key);
        all.dedup_by_key(|entry| key(entry));
        all.into_iter().map(|entry| entry.listed(segments)).collect()
    }

    /// Whether every file of the program means one place by `name`.
    pub fn has_global(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.global && entry.symbol.name == name)
    }

    /// The names of all of them, as the linker knows them and as they are read.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let raw = self.entries.iter().map(|entry| entry.symbol.name.clone());
        let demangled = self.entries.iter().filter_map(|entry| demangle(&entry.symbol.name));
        raw.chain(demangled.map(|own| own.short))
    }

    /// `FILE:NAME` taken apart, where FILE is a file of this program: names hold colons too.
    fn split_file<'n>(&self, name: &'n str) -> Option<(&'n str, &'n str)> {
        let mut parts = name.match_indices(':').map(|(at, _)| (&name[..at], &name[at + 1..]));
        let known = |(file, _): &(&str, _)| self.entries.iter().any(|entry| entry.is_of(file));
        parts.find(known)
    }

    /// The error for `name`, which the program at `path` does not have.
    pub fn no_symbol(&self, name: &str, path: &Path) -> SymbolError {
        if self.entries.is_empty() {
            return SymbolError::Stripped(path.to_owned());
        }
        let own = self.split_file(name).map_or(name, |(_, own)| own);
        let near = nearest_names(own, self.names());
        SymbolError::NoSymbol { name: name.to_owned(), path: path.to_owned(), near }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: Option<&str>, name: &str, address: u64) -> Entry {
        Entry {
            symbol: Symbol {
                name: name.to_owned(),
                address,
                size: 8,
                writable: true,
                absolute: false,
            },
            kind: Kind::Place,
            file: file.map(Arc::from),
            global: false,
            exported: false,
            version: None,
        }
    }

    fn global(name: &str, address: u64) -> Entry {
        Entry { global: true, ..entry(None, name, address) }
    }

    fn program(entries: impl IntoIterator<Item = Entry>) -> Table {
        Table { entries: entries.into_iter().collect() }
    }

    fn find(table: &Table, name: &str) -> Result<u64, SymbolError> {
        table.symbol(name, Path::new("app")).map(|symbol| symbol.address)
    }

    fn error(table: &Table, name: &str) -> String {
        find(table, name).unwrap_err().to_string()
    }

    #[test]
    fn a_local_name_is_chosen_by_its_file() {
        let table = program([
            entry(Some("holder.c"), "twin", 0x10),
            entry(Some("other.c"), "twin", 0x20),
            global("value", 0x30),
        ]);
        assert_eq!(find(&table, "holder.c:twin").unwrap(), 0x10);
        assert_eq!(find(&table, "other.c:twin").unwrap(), 0x20);
        let line = error(&table, "twin");
        assert!(line.contains("2 places in app: holder.c:twin at 0x10, other.c:twin at 0x20;"));
        assert!(line.contains("as it is shown") && line.contains("OFFSET"), "{line}");
        assert!(error(&table, "holder.c:twim").ends_with("the nearest: twin"));
        assert!(error(&table, "holder.c:value").ends_with("the nearest: value"));
        assert!(find(&table, ":twin").is_err());
        assert!(find(&table, "other.c:").is_err());
        assert!(find(&table, "er.c:twin").is_err());
    }

    #[test]
    fn a_path_is_told_by_its_end() {
        let table = program([
            entry(Some("src/a/util.c"), "twin", 0x10),
            entry(Some("src/b/util.c"), "twin", 0x20),
        ]);
        assert_eq!(find(&table, "a/util.c:twin").unwrap(), 0x10);
        assert_eq!(find(&table, "src/b/util.c:twin").unwrap(), 0x20);
        let line = error(&table, "util.c:twin");
        assert!(line.contains("src/a/util.c:twin at 0x10, src/b/util.c:twin at 0x20"), "{line}");
    }

    #[test]
    fn a_demangled_name_is_as_good_as_the_linkers() {
        let table = program([
            entry(Some("a.cpp"), "_ZN3appL5countE", 0x10),
            entry(Some("b.cpp"), "_ZN3appL5countE", 0x20),
            global("_ZN3app5valueE", 0x30),
            global("_ZN3app3runEi", 0x40),
            global("_ZN3app3runEd", 0x50),
            global("_ZN3app5VALUE17h0123456789abcdefE", 0x60),
        ]);
        assert_eq!(find(&table, "app::value").unwrap(), 0x30);
        assert_eq!(find(&table, "_ZN3app5valueE").unwrap(), 0x30);
        assert_eq!(find(&table, "app::run(double)").unwrap(), 0x50);
        assert_eq!(find(&table, "app::VALUE").unwrap(), 0x60);
        assert_eq!(find(&table, "app::VALUE::h0123456789abcdef").unwrap(), 0x60);
        assert_eq!(find(&table, "a.cpp:app::count").unwrap(), 0x10);
        assert_eq!(find(&table, "b.cpp:_ZN3appL5countE").unwrap(), 0x20);
        let line = error(&table, "app::count");
        assert!(line.contains("a.cpp:app::count at 0x10, b.cpp:app::count at 0x20"), "{line}");
        let line = error(&table, "app::run");
        assert!(line.contains("app::run(int) at 0x40, app::run(double) at 0x50"), "{line}");
        assert!(error(&table, "app::valeu").contains("the nearest: app::value"));
    }

    #[test]
    fn the_linkers_name_wins_and_a_global_one_over_local_ones() {
        let table = program([
            entry(Some("a.c"), "value", 0x10),
            entry(Some("b.c"), "value", 0x20),
            global("value", 0x30),
            global("_Z5valuev", 0x40),
        ]);
        assert_eq!(find(&table, "value").unwrap(), 0x30);
        assert_eq!(find(&table, "a.c:value").unwrap(), 0x10);
        assert_eq!(find(&table, "value()").unwrap(), 0x40);
    }

    #[test]
    fn several_names_of_one_place_are_one() {
        let table = program([
            entry(Some("a.c"), "value", 0x10),
            entry(None, "value", 0x10),
            global("_ZN1AC1Ev", 0x20),
            global("_ZN1AC2Ev", 0x20),
        ]);
        assert_eq!(find(&table, "value").unwrap(), 0x10);
        assert_eq!(find(&table, "A::A").unwrap(), 0x20);
    }

    #[test]
    fn a_thread_local_one_is_refused_by_every_name() {
        let mut table = program([entry(Some("a.cpp"), "_ZN3appL5countE", 0x10)]);
        table.entries[0].kind = Kind::ThreadLocal;
        for name in ["_ZN3appL5countE", "app::count", "a.cpp:app::count"] {
            assert!(error(&table, name).contains("thread-local"));
        }
    }

    #[test]
    fn a_function_that_chooses_another_is_refused() {
        let mut table = program([global("memcpy", 0x10)]);
        table.entries[0].kind = Kind::Indirect;
        assert!(error(&table, "memcpy").contains("when the program starts"));
    }

    /// An exported name, as `nm -D` shows it.
    fn versioned(name: &str, address: u64) -> Entry {
        let (name, version) = Version::split(name);
        Entry { exported: true, version, ..global(name, address) }
    }

    #[test]
    fn of_versions_the_default_one_counts() {
        let table = program([
            versioned("memcpy@GLIBC_2.2.5", 0x10),
            versioned("memcpy@@GLIBC_2.14", 0x20),
            versioned("old@V1", 0x30),
            versioned("older@V1", 0x40),
            versioned("older@V2", 0x50),
        ]);
        assert_eq!(find(&table, "memcpy").unwrap(), 0x20);
        assert_eq!(find(&table, "memcpy@GLIBC_2.2.5").unwrap(), 0x10);
        assert_eq!(find(&table, "memcpy@GLIBC_2.14").unwrap(), 0x20);
        assert_eq!(find(&table, "memcpy@@GLIBC_2.14").unwrap(), 0x20);
        assert!(find(&table, "memcpy@@GLIBC_2.2.5").is_err());
        assert_eq!(find(&table, "old").unwrap(), 0x30);
        let line = error(&table, "older");
        assert!(line.contains("older@V1 at 0x40, older@V2 at 0x50"), "{line}");
        let linked = |name| table.seen(name, Seen::Linked, Path::new("lib")).unwrap();
        assert!(linked("memcpy").is_some() && linked("old").is_none());
    }

    #[test]
    fn others_see_what_is_exported() {
        let table = program([
            entry(Some("a.c"), "count", 0x10),
            versioned("_ZN3app5valueE", 0x20),
            global("hidden", 0x30),
        ]);
        let seen = |name, seen| table.seen(name, seen, Path::new("lib")).unwrap().is_some();
        for (name, kinds) in [
            ("count", [false, false, true]),
            ("a.c:count", [false, false, true]),
            ("hidden", [false, false, true]),
            ("app::value", [false, true, true]),
            ("_ZN3app5valueE", [true, true, true]),
        ] {
            assert_eq!(
                [Seen::Linked, Seen::Exported, Seen::Any].map(|kind| seen(name, kind)),
                kinds
            );
        }
    }

    #[test]
    fn a_line_shows_no_more_than_it_can_hold() {
        let table = program((1..=100).map(|at| entry(None, "twin", at)));
        let line = error(&table, "twin");
        assert!(line.contains("100 places") && line.contains("0x9, 0xa, ...;"), "{line}");
    }
}
