//! What the start of an ELF program or library tells: its segments, its build-id, and where its
//! symbols are.

use super::SymbolError;
use super::bytes::{FileBytes, Part};
use super::sections::{NoSections, SectionTable};
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{self, ET_DYN, ET_EXEC, Header};
use goblin::elf::note::{NT_GNU_BUILD_ID, NoteDataIterator, NoteIterator};
use goblin::elf::program_header::{
    PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramHeader,
};
use goblin::elf::section_header::{SHT_SYMTAB, SectionHeader};
use std::path::Path;

/// Larger notes are none; a build-id takes some 36 bytes.
const LARGEST_NOTE: u64 = 1 << 20;
/// The longest build-id that is shown: linkers make hashes, of 32 bytes at most.
const LONGEST_SHOWN: usize = 64;

/// Whether a file has all of its symbols, those included that it does not export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symtab {
    /// It has.
    Whole,
    /// They were taken out of it.
    Stripped,
    /// They are in pages that are not there.
    NotThere,
}

/// A loadable segment (`PT_LOAD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is linked to.
    pub address: u64,
    /// Where it lies in the file.
    pub file_offset: u64,
    /// Bytes that it takes of the file.
    pub file_size: u64,
    /// Bytes that it takes in memory.
    pub memory_size: u64,
    /// Whether the program may write it.
    pub writable: bool,
    /// Whether it holds text.
    pub executable: bool,
}

/// A GNU build-id, and where the loaded program has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildId {
    /// The id.
    pub id: Vec<u8>,
    /// Its link-time address.
    pub address: u64,
}

/// A build-id in hexadecimal, as people write it; `None` where it is longer than any that is real.
pub fn build_id_text(id: &[u8]) -> Option<String> {
    (id.len() <= LONGEST_SHOWN).then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the start of an ELF program or library tells.
#[derive(Clone, Debug)]
pub struct Headers {
    /// Whether it may be loaded anywhere.
    pub position_independent: bool,
    /// Whether it is started through the dynamic linker.
    pub interpreted: bool,
    /// The loadable segments, in the file's order.
    pub segments: Vec<Segment>,
    /// Link-time address, place in the file and length of what the dynamic linker reads.
    pub dynamic: Option<(u64, u64, u64)>,
    /// Place and length of the notes.
    notes: Vec<(u64, u64, u64)>,
    /// Where the section headers are.
    sections: SectionTable,
}

impl Headers {
    /// Those of `file`, which messages call `path`.
    pub fn read(path: &Path, file: &dyn FileBytes) -> Result<Self, SymbolError> {
        let not_elf = |why: &dyn ToString| SymbolError::NotElf {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let length = file.size().min(header::header64::SIZEOF_EHDR as u64);
        let start = Part::whole(file, 0, length).unwrap_or_default();
        let header = goblin::elf::Elf::parse_header(&start).map_err(|error| not_elf(&error))?;
        let program = matches!(header.e_type, ET_EXEC | ET_DYN);
        let (container, endian) = (header.container().ok(), header.endianness().ok());
        if !program || container != Some(Container::Big) || endian != Some(Endian::Little) {
            return Err(not_elf(&"not a 64-bit little-endian program"));
        }
        let context = Ctx::new(Container::Big, Endian::Little);
        let length = u64::from(header.e_phnum) * ProgramHeader::size(context) as u64;
        let segments = Part::whole(file, header.e_phoff, length);
        let segments = segments.ok_or_else(|| not_elf(&"its program headers are not there"))?;
        let segments = ProgramHeader::parse(&segments, 0, header.e_phnum.into(), context);
        Ok(Self::new(&header, &segments.map_err(|error| not_elf(&error))?))
    }

    fn new(header: &Header, segments: &[ProgramHeader]) -> Self {
        let of_type = |kind| segments.iter().filter(move |segment| segment.p_type == kind);
        let dynamic = of_type(PT_DYNAMIC).next();
        Self {
            position_independent: header.e_type == ET_DYN,
            interpreted: of_type(PT_INTERP).next().is_some(),
            segments: of_type(PT_LOAD).map(segment).collect(),
            dynamic: dynamic.map(|found| (found.p_vaddr, found.p_offset, found.p_filesz)),
            notes: of_type(PT_NOTE)
                .map(|note| (note.p_offset, note.p_filesz, note.p_align))
                .collect(),
            sections: SectionTable::of(header),
        }
    }

    /// Where the file has the link-time address `address`.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.file_size).then(|| segment.file_offset.checked_add(into))?
        })
    }

    /// The first link-time address past all segments.
    pub fn end(&self) -> u64 {
        let ends = self.segments.iter();
        ends.map(|segment| segment.address.saturating_add(segment.memory_size)).max().unwrap_or(0)
    }

    /// Whether the program may write what lies at the link-time address `address`.
    pub(super) fn writable(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| {
            let into = address.checked_sub(segment.address);
            segment.writable && into.is_some_and(|into| into < segment.memory_size)
        })
    }

    /// The build-id of `file`, where the linker left one in loaded memory.
    pub fn build_id(&self, file: &dyn FileBytes) -> Option<BuildId> {
        self.notes.iter().find_map(|&(offset, length, align)| {
            let data = Part::whole(file, offset, length.min(LARGEST_NOTE))?;
            let alignment = if align == 8 { 8 } else { 4 };
            let context = (alignment, Ctx::new(Container::Big, Endian::Little));
            let all = NoteDataIterator { data: &data, size: data.len(), offset: 0, ctx: context };
            let mut notes = NoteIterator { iters: vec![all], index: 0 };
            let note = notes.find_map(|note| {
                let note = note.ok()?;
                let own = note.name.trim_end_matches('\0') == "GNU";
                (note.n_type == NT_GNU_BUILD_ID && own).then_some(note.desc)
            })?;
            let into = (note.as_ptr().addr() - data.as_ptr().addr()) as u64;
            let address = self.address_of(offset.checked_add(into)?)?;
            Some(BuildId { id: note.to_vec(), address })
        })
    }

    /// The link-time address of what the file has at `offset`.
    fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = offset.checked_sub(segment.file_offset)?;
            (into < segment.file_size).then(|| segment.address.checked_add(into))?
        })
    }

    /// The bytes of `.symtab` and of its names.
    pub(super) fn symtab(&self, file: &dyn FileBytes) -> Result<(Vec<u8>, Part), Symtab> {
        let headers = self.sections.read(file).map_err(|none| match none {
            NoSections::Stripped => Symtab::Stripped,
            NoSections::NotThere => Symtab::NotThere,
        })?;
        let table = headers.iter().find(|section| section.sh_type == SHT_SYMTAB);
        let table = table.ok_or(Symtab::Stripped)?;
        let names = headers.get(table.sh_link as usize).ok_or(Symtab::Stripped)?;
        let whole = |section: &SectionHeader| {
            Part::whole(file, section.sh_offset, section.sh_size).ok_or(Symtab::NotThere)
        };
        let (table, names) = (whole(table)?, whole(names)?);
        let length = names.len() as u64;
        Ok((table, Part::read(&names, 0, length).ok_or(Symtab::NotThere)?))
    }
}

fn segment(header: &ProgramHeader) -> Segment {
    Segment {
        address: header.p_vaddr,
        file_offset: header.p_offset,
        file_size: header.p_filesz,
        memory_size: header.p_memsz,
        writable: header.p_flags & PF_W != 0,
        executable: header.p_flags & PF_X != 0,
    }
}
