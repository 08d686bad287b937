//! A program as the guest has it in memory: what its own ELF header tells. For symbols from a map
//! file, which knows neither where the program was loaded nor which one it is.

use super::{PAGE, VictimError, VictimMemory};
use crate::address::Gva;
use goblin::container::Ctx;
use goblin::elf::Elf;
use goblin::elf::header::{ET_DYN, header64};
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};
use std::ops::Range;

/// The most program headers that are read; a program has some ten.
const MOST_SEGMENTS: u16 = 64;

/// What a loaded program's header says.
pub struct Loaded {
    /// Where it starts, as linked.
    pub entry: u64,
    /// What the loader added to every address of the file.
    pub bias: u64,
    segments: Vec<Range<u64>>,
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

    /// Whether the program, as linked, has something at `address`.
    pub fn holds(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| segment.contains(&address))
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
    let segments: Vec<_> = headers
        .iter()
        .filter(|header| header.p_type == PT_LOAD)
        .map(|header| header.p_vaddr..header.p_vaddr.saturating_add(header.p_memsz))
        .collect();
    let first = segments.first()?.start;
    let bias =
        if header.e_type == ET_DYN { start.0.checked_sub(first - first % PAGE)? } else { 0 };
    Some(Loaded { entry: header.e_entry, bias, segments })
}
