//! The proof that a program or library in guest RAM is the file given: by its build-id where the
//! linker left one, else by the bytes of its read-only segments.

use super::mapped_file::MappedFile;
use super::{PAGE, Victim, VictimMemory};
use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::symbols::{ElfFile, FileBytes, Headers, build_id_text};
use std::path::Path;

/// Whether a program in guest RAM is a file.
pub enum Identity {
    /// It is.
    Same,
    /// It is another program, and what tells.
    Other(String),
    /// Too little of it is mapped to tell.
    Unknown,
}

impl Victim<'_> {
    /// The build-id of its program, in hexadecimal: of the file that was proved to be it, or where
    /// there is but a map, of what the guest has loaded. `None` where it has none.
    pub fn build_id(&self) -> Option<String> {
        let own = match self.program.elf() {
            Some(elf) => elf.build_id().cloned(),
            None => {
                let file = MappedFile::new(&self.memory, self.object.file);
                let file = file.loaded_at(Some(self.object.bias));
                Headers::read(Path::new(&self.object.path), &file).ok()?.build_id(&file)
            }
        };
        build_id_text(&own?.id)
    }
}

/// Compares what is loaded from `file`, a `struct file`, at `bias` with `elf`.
pub fn compare(memory: &VictimMemory, file: Gva, elf: &ElfFile, bias: u64) -> Identity {
    let by_build_id = by_build_id(memory, file, elf, bias);
    if !elf.has_bytes() {
        // What was read through the mapping itself is that file, whatever else can be told.
        return by_build_id.unwrap_or(Identity::Same);
    }
    by_build_id.unwrap_or_else(|| by_bytes(memory.view(), elf, bias))
}

/// `None` where the build-id cannot tell: the file has none, or its page is nowhere.
fn by_build_id(memory: &VictimMemory, file: Gva, elf: &ElfFile, bias: u64) -> Option<Identity> {
    let expected = elf.build_id()?;
    let mut found = vec![0; expected.id.len()];
    let at = Gva(expected.address).checked_add(bias)?;
    if memory.view().read(at, &mut found).is_err() {
        // After a fork the page is not mapped, but still in the file.
        let offset = elf.headers().offset_of(expected.address)?;
        MappedFile::new(memory, file).copy(offset, &mut found).then_some(())?;
    }
    let same = found == expected.id;
    Some(if same { Identity::Same } else { Identity::Other("its build-id differs".to_owned()) })
}

/// Compares each page of the read-only segments that the guest has mapped: headers, text and
/// constants. Text must be among them, for the headers alone are much alike from program to
/// program; and a process that runs has the text mapped that it runs.
fn by_bytes(view: &VirtualMemory, elf: &ElfFile, bias: u64) -> Identity {
    let mut text_agrees = false;
    for segment in elf.segments().iter().filter(|segment| !segment.writable) {
        for into in (0..segment.file_size).step_by(PAGE as usize) {
            let offset = segment.file_offset.saturating_add(into);
            let expected = elf.bytes(offset, PAGE.min(segment.file_size - into));
            if expected.is_empty() {
                break;
            }
            let at = segment.address.checked_add(bias).and_then(|start| start.checked_add(into));
            let mut found = vec![0; expected.len()];
            if at.is_none_or(|at| view.read(Gva(at), &mut found).is_err()) {
                continue;
            }
            if found != expected {
                return Identity::Other(format!("its bytes differ at file offset {offset:#x}"));
            }
            text_agrees |= segment.executable;
        }
    }
    if text_agrees { Identity::Same } else { Identity::Unknown }
}
