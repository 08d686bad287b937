//! A file that a process has mapped, as the guest's memory has it: in the page cache, and of its
//! start what the process itself sees.

use super::VictimMemory;
use crate::address::Gva;
use crate::process::{CachedFile, Mapping, cached_file};
use crate::symbols::{FileBytes, Headers, Loaded};

/// The largest file whose pages are counted: a sparse one may have any size.
const MOST_COUNTED: u64 = 256 << 20;

/// A mapped file.
pub struct MappedFile<'v, 'g> {
    memory: &'v VictimMemory<'g>,
    cached: Option<CachedFile<'g>>,
    /// Where its first byte is mapped, read-only as linkers have it. What is mapped elsewhere may
    /// have been written before it was made read-only, and then is not the file's.
    start: Option<&'v Mapping>,
    bias: Option<u64>,
}

impl<'v, 'g> MappedFile<'v, 'g> {
    /// The `struct file` at `file`.
    pub fn new(memory: &'v VictimMemory<'g>, file: Gva) -> Self {
        let cached = cached_file(memory.guest, file).unwrap_or_else(|error| {
            log::debug!("no page cache of the file at {file}: {error}");
            None
        });
        let start = memory.mappings.iter().find(|mapping| {
            mapping.file == Some(file) && mapping.file_offset == 0 && !mapping.writable
        });
        Self { memory, cached, start, bias: None }
    }

    /// The same, loaded at `bias`.
    pub fn loaded_at(self, bias: Option<u64>) -> Self {
        Self { bias, ..self }
    }

    /// Why its symbols are not to be had where `headers` could be read.
    pub fn lack(&self) -> String {
        match &self.cached {
            Some(cached) if cached.size() > MOST_COUNTED => {
                "not all of its pages are in the guest's memory".to_owned()
            }
            Some(cached) => {
                let (all, missing) = cached.pages();
                format!("{missing} of its {all} pages are not in the guest's memory")
            }
            None => "the guest's is too large, or the layouts have no page cache".to_owned(),
        }
    }

    fn copy_mapped(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let start = self.start?;
        let end = start.start.checked_add(offset)?.checked_add(into.len() as u64)?;
        let at = start.start.checked_add(offset).filter(|_| end <= start.end)?;
        self.memory.view().read(at, into).ok()
    }
}

impl FileBytes for MappedFile<'_, '_> {
    fn size(&self) -> u64 {
        let mapped = self.start.and_then(|start| start.end.checked_sub(start.start));
        self.cached.as_ref().map_or(mapped.unwrap_or(0), CachedFile::size)
    }

    fn copy(&self, offset: u64, into: &mut [u8]) -> bool {
        let cached = self.cached.as_ref().is_some_and(|cached| cached.read(offset, into));
        cached || self.copy_mapped(offset, into).is_some()
    }

    fn loaded(&self, address: u64, length: u64) -> Option<Loaded> {
        let bias = self.bias?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        let at = Gva(address).checked_add(bias)?;
        self.memory.view().read(at, &mut bytes).ok()?;
        Some(Loaded { bytes, bias })
    }
}

/// Each bias that the file at `file`, of which `headers` are, is mapped with: found where its first
/// segment is mapped.
pub fn biases<'v>(
    memory: &'v VictimMemory,
    file: Gva,
    headers: &Headers,
) -> impl Iterator<Item = u64> + 'v {
    let page = |address: u64| address - address % super::PAGE;
    let first = headers.segments.first();
    let first = first.map(|first| (page(first.file_offset), page(first.address)));
    let anywhere = headers.position_independent;
    let bias = move |mapping: &Mapping| {
        let (offset, address) = first?;
        let starts = mapping.file == Some(file) && mapping.file_offset == offset;
        let bias = starts.then(|| mapping.start.0.checked_sub(address))??;
        (bias == 0 || anywhere).then_some(bias)
    };
    memory.mappings.iter().filter_map(bias)
}
