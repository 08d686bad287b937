//! The proof that the program in guest RAM is the file given: by its build-id where the linker
//! left one, else by the bytes of its first read-only segment.

use super::PAGE;
use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::symbols::ElfFile;

/// What tells the program at `bias` from `elf`; `None` where it is proved to be that file.
pub fn differs(view: &VirtualMemory, elf: &ElfFile, bias: u64) -> Option<String> {
    by_build_id(view, elf, bias).unwrap_or_else(|| by_bytes(view, elf, bias))
}

/// `None` where the build-id cannot tell: the file has none, or the guest has not loaded its page.
fn by_build_id(view: &VirtualMemory, elf: &ElfFile, bias: u64) -> Option<Option<String>> {
    let expected = elf.build_id()?;
    let mut found = vec![0; expected.id.len()];
    let at = Gva(expected.address).checked_add(bias)?;
    view.read(at, &mut found).ok()?;
    let same = found == expected.id;
    Some((!same).then(|| "its build-id differs".to_owned()))
}

/// Compares each page of the segment that the guest has loaded.
fn by_bytes(view: &VirtualMemory, elf: &ElfFile, bias: u64) -> Option<String> {
    let segment = elf.segments().iter().find(|segment| !segment.writable);
    let Some(segment) = segment else {
        return Some("it has neither a build-id nor a read-only segment to compare".to_owned());
    };
    let mut compared = 0;
    for into in (0..segment.file_size).step_by(PAGE as usize) {
        let offset = segment.file_offset.saturating_add(into);
        let expected = elf.bytes(offset, PAGE.min(segment.file_size - into));
        let at = segment.address.checked_add(bias).and_then(|start| start.checked_add(into));
        let mut found = vec![0; expected.len()];
        if expected.is_empty() || at.is_none_or(|at| view.read(Gva(at), &mut found).is_err()) {
            continue;
        }
        if found != expected {
            return Some(format!("its bytes differ at file offset {offset:#x}"));
        }
        compared += 1;
    }
    (compared == 0).then(|| "none of its first segment is in guest RAM to compare".to_owned())
}
