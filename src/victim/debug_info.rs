//! Where the types of a victim's program and libraries are had from: the file itself, as it was
//! given or as the guest has it, or a debug file beside it, which is taken only if it is that very
//! file's.

use super::libraries::{Definition, Place};
use super::mapped_file::MappedFile;
use super::object::Object;
use super::{Victim, VictimError};
use crate::address::Gva;
use crate::symbols::{ElfFile, FileBytes, Headers, Sections, read_file};
use crate::types::{Dwarf, Typed};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where distributions put debug files.
const OF_SYSTEM: &str = "/usr/lib/debug";
const BUILD_ID: &str = ".note.gnu.build-id";
/// Bytes of a note before what it holds: three lengths, and the name `GNU`.
const NOTE_HEADER: usize = 16;

/// What tells a debug file for the one that belongs to a program.
struct Proof {
    build_id: Option<Vec<u8>>,
    /// The debug file's name and its CRC, as the program tells them.
    link: Option<(String, u32)>,
}

impl Victim<'_> {
    /// The type of what lies at `place`.
    pub fn type_of(&self, place: &Place) -> Result<Typed, VictimError> {
        let Definition { file, name, address } = &place.definition;
        let types = self.types(*file)?;
        let (object, _) = self.file(*file)?;
        let path = object.path.clone();
        let found = types.variable(name, *address);
        let found = found
            .map_err(|source| VictimError::Types { path: path.clone().into(), source })?
            .ok_or_else(|| VictimError::Untyped { name: name.clone(), object: path })?;
        Ok(Typed { id: found, types })
    }

    /// The types of what defines `place`; without one, the program's.
    pub fn types_of(&self, place: Option<&Place>) -> Result<Rc<Dwarf>, VictimError> {
        self.types(place.map_or(self.object.file, |place| place.definition.file))
    }

    fn types(&self, file: Gva) -> Result<Rc<Dwarf>, VictimError> {
        if let Some(known) = self.debug_info.borrow().get(&file) {
            return Ok(Rc::clone(known));
        }
        let (object, elf) = self.file(file)?;
        let mapped = MappedFile::new(&self.memory, file);
        let read = Rc::new(Search { victim: self, object, elf, mapped: &mapped }.run()?);
        self.debug_info.borrow_mut().insert(file, Rc::clone(&read));
        Ok(read)
    }

    /// The program or library whose `struct file` is `file`, and what is had of its file.
    fn file(&self, file: Gva) -> Result<(&Object, Option<&ElfFile>), VictimError> {
        let program = (&self.object, self.program.elf());
        if file == self.object.file {
            return Ok(program);
        }
        Ok(self.library_of(file)?.unwrap_or(program))
    }
}

/// A look for the debugging information of a program or library.
struct Search<'s> {
    victim: &'s Victim<'s>,
    object: &'s Object,
    elf: Option<&'s ElfFile>,
    mapped: &'s MappedFile<'s, 's>,
}

impl Search<'_> {
    fn run(&self) -> Result<Dwarf, VictimError> {
        if let Some(path) = &self.victim.debug_file
            && let Some(given) = self.given(path)?
        {
            return Ok(given);
        }
        let own = self.elf.filter(|elf| elf.has_bytes());
        if let Some(elf) = own
            && let Some(found) = dwarf(elf.path(), elf.file())?
        {
            return Ok(found);
        }
        if own.is_some() {
            return self.beside(Vec::new());
        }
        let in_guest = PathBuf::from(format!("the guest's {}", self.object.path));
        match dwarf(&in_guest, self.mapped) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.beside(Vec::new()),
            // Pages of it may be missing.
            Err(error) => self.beside(vec![error.to_string()]),
        }
    }

    /// That in the debug file that was named. One that is the program's is none of its libraries'.
    fn given(&self, path: &Path) -> Result<Option<Dwarf>, VictimError> {
        let bytes = read_file(path)?;
        let of_program = self.object.file == self.victim.object.file;
        match self.proof().differs(&bytes) {
            None => match dwarf(path, &bytes)? {
                Some(found) => Ok(Some(found)),
                None => Err(self.other(path, "it has no debugging information".to_owned())),
            },
            Some(how) if of_program => Err(self.other(path, how)),
            Some(_) => Ok(None),
        }
    }

    fn other(&self, path: &Path, how: String) -> VictimError {
        let object = self.object.path.clone();
        VictimError::OtherDebugFile { path: path.to_owned(), object, how }
    }

    /// That in the first debug file that lies where they do, and is the right one; `refused` says
    /// what does not serve.
    fn beside(&self, mut refused: Vec<String>) -> Result<Dwarf, VictimError> {
        let proof = self.proof();
        for path in self.places(&proof).into_iter().filter(|path| path.is_file()) {
            let bytes = read_file(&path)?;
            match proof.differs(&bytes) {
                Some(how) => {
                    refused.push(format!("{} is not its debug file: {how}", path.display()))
                }
                None => match dwarf(&path, &bytes)? {
                    Some(found) => return Ok(found),
                    None => refused.push(format!("{} has none either", path.display())),
                },
            }
        }
        Err(VictimError::NoDebugInfo { object: self.object.path.clone(), refused })
    }

    fn proof(&self) -> Proof {
        match self.elf.filter(|elf| elf.has_bytes()) {
            Some(elf) => Proof::read(elf.file()),
            None => Proof::read(self.mapped),
        }
    }

    /// Where a debug file may lie, as debuggers look for it.
    fn places(&self, proof: &Proof) -> Vec<PathBuf> {
        let link = proof.link.as_ref().map(|(name, _)| name.clone());
        let names = self.object.names().filter_map(|name| Path::new(name).file_name()?.to_str());
        let beside: Vec<_> = names.map(|name| format!("{name}.debug")).chain(link).collect();
        let by_id = proof.build_id.as_deref().and_then(by_build_id);
        let folders = self.folders();
        let by_id = by_id.into_iter().flat_map(|by_id| {
            let folders = folders.iter().map(PathBuf::as_path);
            folders
                .chain([Path::new(OF_SYSTEM)])
                .map(|folder| folder.join(&by_id))
                .collect::<Vec<_>>()
        });
        let near = folders.iter().flat_map(|folder| {
            let of = |name: &String| [folder.join(name), folder.join(".debug").join(name)];
            beside.iter().flat_map(of).collect::<Vec<_>>()
        });
        by_id.chain(near).collect()
    }

    /// The folder that was given, that of the file that was given, and the current one.
    fn folders(&self) -> Vec<PathBuf> {
        let file = self.elf.filter(|elf| elf.has_bytes()).and_then(|elf| elf.path().parent());
        let own = [self.victim.folder.as_deref(), file, Some(Path::new("."))];
        own.into_iter().flatten().map(Path::to_owned).collect()
    }
}

/// Where the debug file with this build-id lies in a folder of debug files.
fn by_build_id(id: &[u8]) -> Option<String> {
    let digits = hex(id);
    let (first, rest) = digits.split_at_checked(2)?;
    Some(format!(".build-id/{first}/{rest}.debug"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Proof {
    fn read(file: &dyn FileBytes) -> Self {
        let sections = Sections::read(file).ok();
        let of_notes = || Headers::read(Path::new(""), file).ok()?.build_id(file);
        let build_id = sections.as_ref().and_then(build_id);
        let link = sections.and_then(|sections| sections.bytes(".gnu_debuglink").ok().flatten());
        Self {
            build_id: build_id.or_else(|| of_notes().map(|found| found.id)),
            link: link.and_then(|link| parse_link(&link)),
        }
    }

    /// What tells that `bytes` are not the debug file; `None` where they are.
    fn differs(&self, bytes: &Vec<u8>) -> Option<String> {
        match (&self.build_id, &self.link) {
            (Some(own), _) => {
                let theirs = Sections::read(bytes).ok().and_then(|sections| build_id(&sections));
                match theirs {
                    Some(theirs) if theirs == *own => None,
                    Some(theirs) => {
                        Some(format!("its build-id is {}, not {}", hex(&theirs), hex(own)))
                    }
                    None => Some("it has no build-id".to_owned()),
                }
            }
            (None, Some((_, crc))) => {
                (crc32fast::hash(bytes) != *crc).then(|| "its CRC differs".to_owned())
            }
            (None, None) => Some(
                "the program has neither a build-id nor a .gnu_debuglink to prove it by".to_owned(),
            ),
        }
    }
}

/// The build-id in the section that linkers put it into.
fn build_id(sections: &Sections) -> Option<Vec<u8>> {
    let note = sections.bytes(BUILD_ID).ok().flatten()?;
    let length = u32::from_le_bytes(*note.get(4..)?.first_chunk()?);
    let id = note.get(NOTE_HEADER..)?.get(..usize::try_from(length).ok()?)?;
    (!id.is_empty()).then(|| id.to_vec())
}

/// The name and the CRC in a `.gnu_debuglink`: the name ends with a zero, and is padded to a
/// multiple of four bytes.
fn parse_link(link: &[u8]) -> Option<(String, u32)> {
    let end = memchr::memchr(0, link)?;
    let name = std::str::from_utf8(&link[..end]).ok()?;
    let crc = link.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    // A name only: what the guest says must not lead to any file of the host.
    let plain = Path::new(name).file_name().is_some_and(|own| own == name);
    plain.then(|| (name.to_owned(), u32::from_le_bytes(*crc)))
}

/// The debugging information in `file`, which messages call `path`; none where it has none, or it
/// is not there.
fn dwarf(path: &Path, file: &dyn FileBytes) -> Result<Option<Dwarf>, VictimError> {
    let Ok(sections) = Sections::read(file) else { return Ok(None) };
    if !sections.has(".debug_info") {
        return Ok(None);
    }
    match Dwarf::parse(&sections) {
        Ok(found) => Ok(Some(found)),
        Err(source) => Err(VictimError::Types { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_name_and_a_crc() {
        let link = parse_link(b"app.debug\0\0\0\x01\x02\x03\x04");
        assert_eq!(link, Some(("app.debug".to_owned(), 0x0403_0201)));
        for bad in [&b"app"[..], b"app\0\x01\x02", b"../app\0\0\0\x01\x02\x03\x04", b"\0\0\0\0abcd"]
        {
            assert_eq!(parse_link(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_build_id_tells_a_place() {
        let place = by_build_id(&[0xab, 0xcd, 0xef]);
        assert_eq!(place.as_deref(), Some(".build-id/ab/cdef.debug"));
        assert_eq!(by_build_id(&[]), None);
    }

    #[test]
    fn a_debug_file_must_be_the_right_one() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let proof = Proof::read(&own);
        assert!(proof.build_id.is_some() && proof.differs(&own).is_none());
        let other = Proof { build_id: Some(vec![1, 2]), link: None };
        assert!(other.differs(&own).unwrap().contains("not 0102"));
        assert!(proof.differs(&b"x".to_vec()).unwrap().contains("no build-id"));
        let by_crc = |crc| Proof { build_id: None, link: Some(("x".to_owned(), crc)) };
        assert!(by_crc(crc32fast::hash(&own)).differs(&own).is_none());
        assert!(by_crc(1).differs(&own).unwrap().contains("CRC"));
        assert!(Proof { build_id: None, link: None }.differs(&own).is_some());
    }
}
