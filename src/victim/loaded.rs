//! A program as the guest has it in memory: what its own ELF header tells. For symbols from a map
//! file, which knows neither where the program was loaded nor which one it is.

use super::{PAGE, VictimError, VictimMemory};
use crate::address::Gva;
use crate::symbols::{MapFile, Symbol};
use goblin::container::Ctx;
use goblin::elf::Elf;
use goblin::elf::header::{ET_DYN, header64};
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};

/// The most program headers that are read; a program has some ten.
const MOST_SEGMENTS: u16 = 64;

/// What a loaded program's header says.
pub struct Loaded {
    /// What the loader added to every address of the file.
    pub bias: u64,
    entry: u64,
    segments: Vec<ProgramHeader>,
}

/// A segment of a program, where it is loaded.
#[derive(Clone, Debug)]
pub struct Part {
    /// First address.
    pub start: Gva,
    /// First address past what the file has for it.
    pub data_end: Gva,
    /// First address past all of it.
    pub end: Gva,
    /// Whether the program may write there.
    pub writable: bool,
    /// Whether the program may run what is there.
    pub executable: bool,
}

impl Loaded {
    /// Reads the header of the program in `memory`.
    pub fn read(memory: &VictimMemory) -> Result<Self, VictimError> {
        let program = memory.program()?;
        let starts =
            |mapping: &&super::Mapping| mapping.file == Some(program) && mapping.file_offset == 0;
        let mapping = memory.mappings.iter().find(starts);
        let loaded = mapping.and_then(|mapping| parse(memory, mapping.start));
        loaded.ok_or(VictimError::NoHeader(memory.task.pid))
    }

    /// What tells that `map` is another program's: where programs start, and where their data and
    /// they themselves end, few are alike. `None` where it agrees; a map without `_start` does not.
    pub fn differs(&self, map: &MapFile) -> Option<String> {
        let address = |name| map.symbol(name).ok().map(|symbol| symbol.address);
        let last = self.segments.last().map(|last| (last.p_vaddr, last.p_filesz, last.p_memsz));
        let (start, data, all) = last.unwrap_or_default();
        let Some(entry) = address("_start") else {
            return Some("it has no _start to compare".to_owned());
        };
        let told = [
            ("_start", Some(entry), self.entry),
            ("_edata", address("_edata"), start.saturating_add(data)),
            ("_end", address("_end"), start.saturating_add(all)),
        ];
        let differs =
            |&&(_, told, own): &&(_, Option<u64>, u64)| told.is_some_and(|told| told != own);
        let (name, told, own) = told.iter().find(differs)?;
        Some(format!("{name} is {:#x} there, and {own:#x} in the guest", told.unwrap_or_default()))
    }

    /// Its segments. Of one that does not fit into the address space there is nothing.
    pub fn parts(&self) -> Vec<Part> {
        let part = |segment: &ProgramHeader| {
            let start = Gva(segment.p_vaddr).checked_add(self.bias)?;
            Some(Part {
                start,
                data_end: start.checked_add(segment.p_filesz.min(segment.p_memsz))?,
                end: start.checked_add(segment.p_memsz)?,
                writable: segment.is_write(),
                executable: segment.is_executable(),
            })
        };
        self.segments.iter().filter_map(part).collect()
    }

    /// Whether the program, as linked, has room for `symbol`: what it may write lies in a segment
    /// that it may write. A thread-local variable has an offset for an address, and no room.
    pub fn holds(&self, symbol: &Symbol) -> bool {
        self.segments.iter().any(|segment| {
            let within = symbol.address.checked_sub(segment.p_vaddr);
            within.is_some_and(|into| into < segment.p_memsz)
                && (!symbol.writable || segment.is_write())
        })
    }
}

fn parse(memory: &VictimMemory, start: Gva) -> Option<Loaded> {
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        memory.view().read(start.checked_add(offset)?, &mut bytes).ok()?;
        Some(bytes)
    };
    let header = Elf::parse_header(&read(0, header64::SIZEOF_EHDR)?).ok()?;
    let context = Ctx::new(header.container().ok()?, header.endianness().ok()?);
    let count = usize::from(header.e_phnum.min(MOST_SEGMENTS));
    let headers = read(header.e_phoff, count * ProgramHeader::size(context))?;
    let headers = ProgramHeader::parse(&headers, 0, count, context).ok()?;
    let segments: Vec<_> =
        headers.iter().filter(|header| header.p_type == PT_LOAD).cloned().collect();
    let first = segments.first()?.p_vaddr;
    let bias =
        if header.e_type == ET_DYN { start.0.checked_sub(first - first % PAGE)? } else { 0 };
    Some(Loaded { entry: header.e_entry, bias, segments })
}
