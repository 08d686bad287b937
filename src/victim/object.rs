//! The programs and libraries that a process has loaded, and the names that they go by.

use super::link_map::{self, LinkMap, Linked};
use super::mapped_file::{MappedFile, biases};
use super::{VictimError, VictimMemory};
use crate::address::Gva;
use crate::kernel::{KernelError, sanitized};
use crate::process::path_of;
use crate::symbols::{Headers, soname};
use std::collections::HashSet;
use std::path::Path;

/// More than any program has: the largest have some hundred. The list is the victim's own.
const MOST_LIBRARIES: usize = 512;

/// A program or library, as it is mapped.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its path in the guest.
    pub path: String,
    /// The `struct file` that it is mapped from.
    pub file: Gva,
    /// What the loader added to its addresses.
    pub bias: u64,
    /// What else it is called: its own name for itself (`DT_SONAME`), and the one that it was
    /// opened by.
    pub aliases: Vec<String>,
}

impl Object {
    /// The object that `file` is mapped as, at `bias`.
    pub fn new(memory: &VictimMemory, file: Gva, bias: u64) -> Result<Self, KernelError> {
        let path = path_of(memory.guest, file)?;
        let mapped = MappedFile::new(memory, file).loaded_at(Some(bias));
        let soname = soname(Path::new(&path), &mapped);
        let aliases = soname.iter().map(|name| sanitized(name.as_bytes())).collect();
        Ok(Self { path, file, bias, aliases })
    }

    /// Every name that it goes by.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.path].into_iter().chain(&self.aliases).map(String::as_str)
    }

    /// The shortest name that a user would type.
    pub fn short(&self) -> &str {
        let name = self.aliases.first().unwrap_or(&self.path);
        last(name).unwrap_or(name)
    }

    /// Whether `name` is one of its names, or the end of one.
    pub fn is(&self, name: &str) -> bool {
        !name.is_empty() && self.names().any(|own| own == name || Path::new(own).ends_with(name))
    }

    /// Whether `name` is the start of one of its files' names, up to a dot: `libm` or `libm.so` for
    /// `libm.so.6`.
    pub fn starts_with(&self, name: &str) -> bool {
        let begins = |own: &str| own.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        !name.is_empty() && self.names().filter_map(last).any(begins)
    }
}

fn last(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

/// The libraries of a process.
#[derive(Debug, Default)]
pub struct Loaded {
    /// In the order in which they are searched for names.
    pub libraries: Vec<Object>,
    /// Whether some may still be missing.
    pub loading: bool,
}

impl Loaded {
    /// Those of the process whose program is `program`, with `headers`.
    pub fn read(
        memory: &VictimMemory,
        program: &Object,
        headers: &Headers,
    ) -> Result<Self, VictimError> {
        if !headers.interpreted {
            return Ok(Self::default());
        }
        Ok(match link_map::read(memory, headers, program.bias) {
            LinkMap::Told(linked, loading) => {
                Self { libraries: told(memory, program, &linked), loading }
            }
            LinkMap::NotYet => Self { libraries: mapped(memory, program), loading: true },
            LinkMap::Unknown => {
                log::debug!("the dynamic linker's list is not to be had: libraries as mapped");
                Self { libraries: mapped(memory, program), loading: false }
            }
        })
    }
}

/// The libraries that the dynamic linker tells of, each once. The kernel's own (linux-vdso.so.1) is
/// in no file.
fn told(memory: &VictimMemory, program: &Object, linked: &[Linked]) -> Vec<Object> {
    let file = |linked: &Linked| memory.mapping(linked.dynamic)?.file;
    let mut seen = HashSet::new();
    let files = linked.iter().filter_map(|linked| Some((linked, file(linked)?)));
    let others = files.filter(|(_, file)| *file != program.file);
    let each = others.filter(|(linked, file)| seen.insert((*file, linked.bias)));
    each.filter_map(|(linked, file)| linked_object(memory, linked, file))
        .take(MOST_LIBRARIES)
        .collect()
}

/// The object that the dynamic linker tells of, where `file` is mapped so.
fn linked_object(memory: &VictimMemory, linked: &Linked, file: Gva) -> Option<Object> {
    let headers = Headers::read(Path::new(&linked.name), &MappedFile::new(memory, file)).ok()?;
    biases(memory, file, &headers).find(|&bias| bias == linked.bias)?;
    let mut object = Object::new(memory, file, linked.bias).ok()?;
    if !linked.name.is_empty() && !object.is(&linked.name) {
        object.aliases.push(linked.name.clone());
    }
    Some(object)
}

/// Every library that is mapped with its text, by address.
fn mapped(memory: &VictimMemory, program: &Object) -> Vec<Object> {
    let mut files: Vec<_> = memory
        .mappings
        .iter()
        .filter(|mapping| mapping.executable)
        .filter_map(|mapping| mapping.file)
        .filter(|file| *file != program.file)
        .collect();
    files.dedup();
    files.truncate(MOST_LIBRARIES);
    let object = |file| {
        let path = path_of(memory.guest, file).ok()?;
        let headers = Headers::read(Path::new(&path), &MappedFile::new(memory, file)).ok()?;
        let bias = biases(memory, file, &headers).next()?;
        Object::new(memory, file, bias).ok()
    };
    files.into_iter().filter_map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, aliases: &[&str]) -> Object {
        let aliases = aliases.iter().map(|name| (*name).to_owned()).collect();
        Object { path: path.to_owned(), file: Gva(0), bias: 0, aliases }
    }

    #[test]
    fn a_library_goes_by_its_file_its_path_and_its_own_name() {
        let libm = object("/usr/lib/libm-2.31.so", &["libm.so.6", "/lib/libm.so.6"]);
        for name in ["libm-2.31.so", "/usr/lib/libm-2.31.so", "lib/libm-2.31.so", "libm.so.6"] {
            assert!(libm.is(name), "{name}");
        }
        for name in ["", "libm", "libm.so", "m.so.6", "/libm-2.31.so", "6"] {
            assert!(!libm.is(name), "{name}");
        }
        assert_eq!(libm.short(), "libm.so.6");
        assert_eq!(object("/opt/libown.so", &[]).short(), "libown.so");
    }

    #[test]
    fn the_start_of_its_name_up_to_a_dot_does_too() {
        let libm = object("/usr/lib/libm-2.31.so", &["libm.so.6"]);
        for name in ["libm", "libm.so", "libm-2.31"] {
            assert!(libm.starts_with(name), "{name}");
        }
        for name in ["", "lib", "libm.so.6", "usr"] {
            assert!(!libm.starts_with(name), "{name}");
        }
    }
}
