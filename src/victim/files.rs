//! Where the files of a victim are had from, its program and its libraries: files on the host, or
//! the guest's own memory. What is found is taken only if it is proved to be what the victim runs.

use super::identity::{Identity, compare};
use super::mapped_file::{MappedFile, biases};
use super::object::Object;
use super::{Program, VictimError, VictimMemory};
use crate::symbols::{ElfFile, Headers, MapFile, Symtab};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where a victim's files are.
pub struct Files {
    program: Source,
    /// The program's debugging information, if it is not where it is looked for.
    pub debug_file: Option<PathBuf>,
}

/// Where the program is, and its libraries.
enum Source {
    /// This is the program, read once for all that is looked at; the libraries are in the guest.
    Program(Rc<Program>),
    /// In this folder; libraries that it lacks are in the guest.
    Folder(PathBuf),
    /// As the guest has them; of what it has not whole, in the current folder.
    Guest,
}

impl Files {
    /// In `program`, a file or a folder, where it is given.
    pub fn of_program(program: Option<&Path>) -> Result<Self, VictimError> {
        Ok(Self::of(match program {
            Some(folder) if folder.is_dir() => Source::Folder(folder.to_owned()),
            Some(file) => Source::Program(Rc::new(Program::Elf(ElfFile::read(file)?))),
            None => Source::Guest,
        }))
    }

    fn of(program: Source) -> Self {
        Self { program, debug_file: None }
    }

    /// In the guest.
    pub fn of_guest() -> Self {
        Self::of(Source::Guest)
    }

    /// The program's symbols in the map file at `path`.
    pub fn of_map(path: &Path) -> Result<Self, VictimError> {
        Ok(Self::of(Source::Program(Rc::new(Program::Map(MapFile::read(path)?)))))
    }

    /// The folder given, if one was.
    pub fn folder(&self) -> Option<&Path> {
        if let Source::Folder(folder) = &self.program { Some(folder) } else { None }
    }

    /// The program of `memory`. An ELF file's identity is proved, and its bias in `object` is set.
    pub fn program(
        &self,
        memory: &VictimMemory,
        object: &mut Object,
    ) -> Result<Chosen, VictimError> {
        let (elf, lack) = match &self.program {
            Source::Program(program) => {
                if let Program::Elf(elf) = &**program {
                    object.bias = proved_program(memory, object, elf)?;
                }
                return Ok(Chosen { program: Rc::clone(program), lack: None });
            }
            Source::Folder(folder) => {
                let exe = memory.executable()?;
                let path = find(folder, &[exe.as_str()]);
                let elf = match path {
                    Some(path) => ElfFile::read(&path)?,
                    None => return Err(no_file(folder, exe, String::new())),
                };
                object.bias = proved_program(memory, object, &elf)?;
                (elf, None)
            }
            Source::Guest => program_of_guest(memory, object)?,
        };
        Ok(Chosen { program: Rc::new(Program::Elf(elf)), lack })
    }
}

/// The victim's program, and why not all of its symbols are known, if they are not.
pub struct Chosen {
    pub program: Rc<Program>,
    pub lack: Option<Lack>,
}

/// What a program's symbols lack.
#[derive(Clone, Debug)]
pub struct Lack {
    /// Its path in the guest.
    pub exe: String,
    /// Why.
    pub why: String,
    /// Where a copy that lacks nothing was looked for.
    pub looked_at: Vec<PathBuf>,
}

impl From<Lack> for VictimError {
    fn from(Lack { exe, why, looked_at }: Lack) -> Self {
        Self::NoFile { exe, why: format!("; {why}"), looked_at }
    }
}

/// The program from the page cache; where symbols of it are missing there, from the current folder,
/// and where it is not there either, with those that it has.
fn program_of_guest(
    memory: &VictimMemory,
    object: &mut Object,
) -> Result<(ElfFile, Option<Lack>), VictimError> {
    let (own, why) = match of_guest(memory, object) {
        Ok(elf) if elf.symtab() == Symtab::Whole => {
            object.bias = proved_program(memory, object, &elf)?;
            return Ok((elf, None));
        }
        Ok(elf) => {
            let why = lack(memory, object, &elf);
            (Some(elf), why)
        }
        Err(why) => (None, why),
    };
    let exe = memory.executable()?;
    let own = own.filter(|elf| elf.headers().interpreted || !elf.is_empty());
    let (elf, lack) = match (program_here(memory, object, &exe), own) {
        (Some(Ok(elf)), _) => (elf, None),
        (Some(Err(error)), None) => return Err(error),
        (None, None) => return Err(no_file(Path::new("."), exe, format!("; {why}"))),
        (other, Some(elf)) => {
            let other = other.and_then(Result::err).map(|error| format!(", and {error}"));
            let why = why + &other.unwrap_or_default();
            let looked_at = places(Path::new("."), &exe);
            (elf, Some(Lack { exe, why, looked_at }))
        }
    };
    object.bias = proved_program(memory, object, &elf)?;
    Ok((elf, lack))
}

/// The program `exe` from the current folder, proved; `None` where none is there.
fn program_here(
    memory: &VictimMemory,
    object: &Object,
    exe: &str,
) -> Option<Result<ElfFile, VictimError>> {
    let path = find(Path::new("."), &[exe])?;
    let proved = ElfFile::read(&path).map_err(VictimError::from).and_then(|elf| {
        proved_program(memory, object, &elf)?;
        Ok(elf)
    });
    Some(proved)
}

/// The library `object` of `memory`: from `folder`, where it is there; else as the guest has it, or
/// where that lacks symbols from the current folder. `None` where nothing of it is to be had.
pub fn library(
    memory: &VictimMemory,
    object: &Object,
    folder: Option<&Path>,
) -> Result<Option<ElfFile>, VictimError> {
    let names: Vec<_> = object.names().collect();
    if let Some(path) = folder.and_then(|folder| find(folder, &names)) {
        let elf = ElfFile::read(&path)?;
        proved_library(memory, object, &elf)?;
        return Ok(Some(elf));
    }
    let own = of_guest(memory, object).map_err(|why| log::debug!("{}: {why}", object.path)).ok();
    if own.as_ref().is_some_and(|elf| elf.symtab() == Symtab::Whole) {
        return Ok(own);
    }
    let here = find(Path::new("."), &names).and_then(|path| {
        let elf = ElfFile::read(&path).map_err(VictimError::from);
        let proved = elf.and_then(|elf| proved_library(memory, object, &elf).map(|()| elf));
        proved.map_err(|error| log::debug!("not taken: {error}")).ok()
    });
    Ok(here.or(own))
}

/// What the guest's memory has of `object`, or why that is of no use.
fn of_guest(memory: &VictimMemory, object: &Object) -> Result<ElfFile, String> {
    let path = PathBuf::from(format!("the guest's {}", object.path));
    let mapped = MappedFile::new(memory, object.file);
    let Ok(headers) = Headers::read(&path, &mapped) else { return Err(mapped.lack()) };
    // Where several copies are loaded, their symbols are the same.
    let bias = biases(memory, object.file, &headers).next();
    let mapped = mapped.loaded_at(bias);
    ElfFile::parse(&path, &mapped).map_err(|error| error.to_string())
}

/// Why the guest's copy `elf` of `object` lacks symbols.
pub fn lack(memory: &VictimMemory, object: &Object, elf: &ElfFile) -> String {
    match elf.symtab() {
        symtab if symtab == Symtab::NotThere || elf.holes() => {
            MappedFile::new(memory, object.file).lack()
        }
        _ => "the guest's is stripped".to_owned(),
    }
}

/// The bias of the victim's program, which is proved to be `elf`.
fn proved_program(
    memory: &VictimMemory,
    object: &Object,
    elf: &ElfFile,
) -> Result<u64, VictimError> {
    let bias = biases(memory, object.file, elf.headers()).next();
    let (path, pid) = (elf.path().to_owned(), memory.task.pid);
    match (bias, identity(memory, object, elf, bias)?) {
        (Some(bias), Identity::Same) => Ok(bias),
        (_, Identity::Other(how)) => {
            Err(VictimError::OtherProgram { path, pid, exe: memory.executable()?, how })
        }
        _ => Err(VictimError::NotProved { path, pid, what: "the program".to_owned() }),
    }
}

/// An error unless `elf` is proved to be the victim's library `object`.
fn proved_library(
    memory: &VictimMemory,
    object: &Object,
    elf: &ElfFile,
) -> Result<(), VictimError> {
    let bias = biases(memory, object.file, elf.headers()).find(|&bias| bias == object.bias);
    let (path, pid) = (elf.path().to_owned(), memory.task.pid);
    match identity(memory, object, elf, bias)? {
        Identity::Same => Ok(()),
        Identity::Other(how) => {
            let library = object.path.clone();
            Err(VictimError::OtherLibrary { path, pid, library, how })
        }
        Identity::Unknown => {
            Err(VictimError::NotProved { path, pid, what: format!("the {}", object.short()) })
        }
    }
}

fn identity(
    memory: &VictimMemory,
    object: &Object,
    elf: &ElfFile,
    bias: Option<u64>,
) -> Result<Identity, VictimError> {
    Ok(bias.map_or_else(
        || Identity::Other("nothing is mapped where its first segment would be".to_owned()),
        |bias| compare(memory, object.file, elf, bias),
    ))
}

fn no_file(folder: &Path, exe: String, why: String) -> VictimError {
    let looked_at = places(folder, &exe);
    VictimError::NoFile { exe, why, looked_at }
}

/// The first file in `folder` that one of `paths` in the guest could be.
fn find(folder: &Path, paths: &[&str]) -> Option<PathBuf> {
    let mut all = paths.iter().flat_map(|path| places(folder, path));
    all.find(|path| path.is_file())
}

/// A file by its whole path below `folder`, as in a copy of the guest's root, and by its name
/// alone.
fn places(folder: &Path, path: &str) -> Vec<PathBuf> {
    let within = folder.join(path.trim_start_matches('/'));
    let name = Path::new(path).file_name().map(|name| folder.join(name));
    let mut places: Vec<_> = name.into_iter().chain([within]).collect();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_a_folder_by_name_and_by_path() {
        let own = std::env::current_exe().unwrap();
        let (folder, name) = (own.parent().unwrap(), own.file_name().unwrap());
        let exe = format!("/opt/app/{}", name.to_str().unwrap());
        assert_eq!(find(folder, &[&exe]).unwrap(), own);
        assert_eq!(find(Path::new("/"), &[own.to_str().unwrap()]).unwrap(), own);
        assert_eq!(find(folder, &["/not/there", &exe]).unwrap(), own);
        assert_eq!(find(folder, &["/not/there"]), None);
    }

    #[test]
    fn says_where_it_looked_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = no_file(folder.path(), "/bin/app".to_owned(), "; it is not there".to_owned());
        let error = error.to_string();
        for word in ["--victim", "/bin/app", "not there", folder.path().to_str().unwrap()] {
            assert!(error.contains(word), "{error}");
        }
    }
}
