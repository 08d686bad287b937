//! The sections of an ELF file, by name: what linkers and debuggers go by, and no loader needs.

use super::bytes::{FileBytes, Part};
use flate2::read::ZlibDecoder;
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{Header, header64};
use goblin::elf::section_header::{SHF_COMPRESSED, SHT_NOBITS, SectionHeader};
use ruzstd::decoding::StreamingDecoder;
use std::cell::Cell;
use std::io::Read;

/// `struct Elf64_Chdr`: type, reserved, size, alignment.
const COMPRESSION_HEADER: usize = 24;
const COMPRESSED_BY_ZLIB: u32 = 1;
const COMPRESSED_BY_ZSTD: u32 = 2;
/// Bytes of all sections that are read of a file. A few can be made to decompress to any number,
/// and sections to lie over each other.
const MOST: u64 = 2 << 30;
const LONGEST_NAME: usize = 256;

/// The sections of a file.
pub struct Sections<'f> {
    file: &'f dyn FileBytes,
    headers: Vec<SectionHeader>,
    names: Part,
    /// How many bytes may still be read.
    room: Cell<u64>,
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSections {
    /// The file has no section headers that could be read.
    Stripped,
    /// They are in pages that are not there.
    NotThere,
}

/// A section that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("section {name} {why}")]
pub struct SectionError {
    name: String,
    why: String,
}

impl<'f> Sections<'f> {
    /// Those of `file`.
    pub fn read(file: &'f dyn FileBytes) -> Result<Self, NoSections> {
        let length = file.size().min(header64::SIZEOF_EHDR as u64);
        let start = Part::whole(file, 0, length).ok_or(NoSections::NotThere)?;
        let header = goblin::elf::Elf::parse_header(&start).map_err(|_| NoSections::Stripped)?;
        let own = header.container().ok() == Some(Container::Big)
            && header.endianness().ok() == Some(Endian::Little);
        if !own {
            return Err(NoSections::Stripped);
        }
        let headers = SectionTable::of(&header).read(file)?;
        let names = headers.get(usize::from(header.e_shstrndx)).ok_or(NoSections::Stripped)?;
        let names = Part::whole(file, names.sh_offset, names.sh_size);
        let names = names.ok_or(NoSections::NotThere)?;
        let length = names.len() as u64;
        let names = Part::read(&names, 0, length).ok_or(NoSections::NotThere)?;
        Ok(Self { file, headers, names, room: Cell::new(MOST) })
    }

    fn header(&self, name: &str) -> Option<&SectionHeader> {
        let named = |header: &&SectionHeader| {
            self.names.text(header.sh_name as u64, LONGEST_NAME) == Some(name)
        };
        self.headers.iter().find(named).filter(|header| header.sh_type != SHT_NOBITS)
    }

    /// Whether the file has the section `name`, with bytes of its own.
    pub fn has(&self, name: &str) -> bool {
        self.header(name).is_some()
    }

    /// The bytes of the section `name`, decompressed; none where there is no such section.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, SectionError> {
        let Some(header) = self.header(name) else { return Ok(None) };
        let wrong = |why: String| SectionError { name: name.to_owned(), why };
        let room = self.room.get().checked_sub(header.sh_size);
        let room = room.ok_or_else(|| wrong("is too large".to_owned()))?;
        let stored = Part::whole(self.file, header.sh_offset, header.sh_size);
        let stored = stored.ok_or_else(|| wrong("is not all there".to_owned()))?;
        self.room.set(room);
        if header.sh_flags & u64::from(SHF_COMPRESSED) == 0 {
            return Ok(Some(stored));
        }
        let plain = decompressed(&stored, room).map_err(wrong)?;
        self.room.set(room.saturating_sub(plain.len() as u64));
        Ok(Some(plain))
    }
}

/// Where a file has its section headers, how many, and bytes of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionTable {
    at: u64,
    count: u16,
    size: u16,
}

impl SectionTable {
    pub fn of(header: &Header) -> Self {
        Self { at: header.e_shoff, count: header.e_shnum, size: header.e_shentsize }
    }

    /// The section headers of `file`, which is of a 64-bit little-endian machine.
    pub fn read(self, file: &dyn FileBytes) -> Result<Vec<SectionHeader>, NoSections> {
        let context = Ctx::new(Container::Big, Endian::Little);
        let size = SectionHeader::size(context);
        if self.at == 0 || self.count == 0 || usize::from(self.size) != size {
            return Err(NoSections::Stripped);
        }
        let length = u64::from(self.count) * u64::from(self.size);
        let bytes = Part::whole(file, self.at, length).ok_or(NoSections::NotThere)?;
        let headers = SectionHeader::parse_from(&bytes, 0, self.count.into(), context);
        headers.map_err(|_| NoSections::Stripped)
    }
}

fn decompressed(stored: &[u8], most: u64) -> Result<Vec<u8>, String> {
    let (header, packed) =
        stored.split_at_checked(COMPRESSION_HEADER).ok_or("is cut off within its header")?;
    let (kind, _) = header.split_first_chunk().ok_or("is cut off within its header")?;
    let cannot = |error: &dyn ToString| format!("does not decompress: {}", error.to_string());
    let mut unpacked: Box<dyn Read> = match u32::from_le_bytes(*kind) {
        COMPRESSED_BY_ZLIB => Box::new(ZlibDecoder::new(packed)),
        COMPRESSED_BY_ZSTD => {
            Box::new(StreamingDecoder::new(packed).map_err(|error| cannot(&error))?)
        }
        _ => return Err("is compressed in a way that is not known".to_owned()),
    };
    let mut plain = Vec::new();
    let read = unpacked.by_ref().take(most).read_to_end(&mut plain);
    read.map_err(|error| cannot(&error))?;
    if plain.len() as u64 == most { Err("is too large".to_owned()) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn finds_sections_by_name() {
        let bytes = own();
        let sections = Sections::read(&bytes).unwrap();
        assert!(sections.has(".text") && !sections.has(".tex"));
        assert!(!sections.has(".bss"), "it has no bytes");
        assert!(sections.bytes(".shstrtab").unwrap().unwrap().starts_with(b"\0."));
        assert_eq!(sections.bytes(".none"), Ok(None));
    }

    #[test]
    fn what_is_no_file_has_none() {
        let none = |bytes: &[u8]| Sections::read(&bytes.to_vec()).err();
        assert_eq!(none(&[b'x'; 100]), Some(NoSections::Stripped));
        assert_eq!(none(&own()[..4096]), Some(NoSections::NotThere));
    }

    #[test]
    fn zlib_and_zstd_decompress() {
        let packed = |kind: u32, packed: &[u8]| {
            let mut stored = kind.to_le_bytes().to_vec();
            stored.resize(COMPRESSION_HEADER, 0);
            decompressed(&[&stored, packed].concat(), 9)
        };
        let zlib = [0x78, 0x9c, 0x4b, 0x4c, 0x4a, 0x06, 0x00, 0x02, 0x4d, 0x01, 0x27];
        assert_eq!(packed(COMPRESSED_BY_ZLIB, &zlib).unwrap(), b"abc");
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x19, 0x00, 0x00, 0x61, 0x62, 0x63];
        assert_eq!(packed(COMPRESSED_BY_ZSTD, &zstd).unwrap(), b"abc");
        for kind in 0..4 {
            assert!(packed(kind, b"\x28\xb5\x2f\xfd\xff\xff").is_err(), "{kind}");
        }
        assert!(decompressed(&[1, 0], 9).is_err());
        let large = decompressed(&[&[1, 0, 0, 0], &[0; 20][..], &zlib].concat(), 2);
        assert_eq!(large.unwrap_err(), "is too large");
    }
}
