//! What is worth remembering of a kernel: what its image tells, which no boot changes, and where it
//! was found. Both are proved against RAM before they count.

use super::{Kernel, KernelError, Layouts, Located, Symbols, find, slid, system_ram};
use crate::address::{Gpa, Gva};
use crate::arch::{AddressSpace, VirtualMemory};
use crate::memory::GuestMemory;
use crate::symbols::build_id_text;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// The most bytes of notes that are looked at; today's kernels have some 500.
const NOTES: u64 = 4096;
/// `n_type` of a build-id.
const BUILD_ID: u32 = 3;
/// `namesz`, `descsz` and `type`.
const NOTE_HEADER: usize = 12;

/// What the image of a kernel tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    banner: String,
    /// The banner alone does not tell a kernel: a rebuilt one may have the same.
    build_id: String,
    symbols: Arc<Symbols>,
    layouts: Layouts,
}

/// Where a kernel was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    banner: u64,
    slide: i64,
    root: u64,
    levels: usize,
}

impl Facts {
    /// Of `kernel`; `None` where it has no build-id.
    pub fn of(kernel: &Kernel, memory: &dyn GuestMemory) -> Option<Self> {
        Some(Self {
            banner: kernel.banner.clone(),
            build_id: kernel.build_id(memory)?,
            symbols: Arc::clone(&kernel.symbols),
            layouts: kernel.layouts.clone(),
        })
    }

    /// What the kernel is called by. Banner and build-id are what the guest says: one that gives
    /// another kernel's must not take the place of that one's layouts.
    pub fn name(&self) -> String {
        let layouts = print(&self.layouts);
        format!("{}, build-id {}, layouts {layouts:016x}", self.banner, self.build_id)
    }

    /// Its symbols.
    pub(super) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The kernel of these facts that lies at `located`, proved.
    pub(super) fn prove(
        &self,
        memory: &dyn GuestMemory,
        located: Located,
    ) -> Result<Kernel, KernelError> {
        if build_id(memory, &self.symbols, &located).as_ref() != Some(&self.build_id) {
            return Err(KernelError::NotRemembered);
        }
        let kernel = Kernel::prove(memory, &self.symbols, located, Some(&self.layouts))?;
        // What else is read of any guest must come out too, or it is to be found out anew.
        let holds = kernel.banner == self.banner && !system_ram(&kernel, memory)?.is_empty();
        if holds { Ok(kernel.recalled()) } else { Err(KernelError::NotRemembered) }
    }

    /// The same of facts that another guest may have told, which its kernel could have made up: the
    /// kernel's own types must lead to the same layouts.
    pub(super) fn prove_anew(
        &self,
        memory: &dyn GuestMemory,
        located: Located,
    ) -> Result<Kernel, KernelError> {
        let kernel = self.prove(memory, located)?;
        let own = Kernel::prove(memory, &self.symbols, located, None)?.layouts;
        let same = print(&own) == print(&self.layouts);
        same.then_some(kernel).ok_or(KernelError::NotRemembered)
    }
}

/// What tells layouts from others, wherever they come from.
fn print(layouts: &Layouts) -> u64 {
    let layouts = Layouts { from: String::new(), ..layouts.clone() };
    let mut hasher = DefaultHasher::new();
    hasher.write(&serde_json::to_vec(&layouts).unwrap_or_default());
    hasher.finish()
}

impl Kernel {
    /// Its build-id, in hexadecimal; `None` where it has none.
    pub fn build_id(&self, memory: &dyn GuestMemory) -> Option<String> {
        build_id(memory, &self.symbols, &self.located)
    }
}

impl Placement {
    /// Where `kernel` is.
    pub fn of(kernel: &Kernel) -> Self {
        let Located { banner, slide, space } = kernel.located;
        let levels = space.format.index_shifts.len();
        Self { banner: banner.0, slide, root: space.root.0, levels }
    }

    /// The kernel of `facts`, if it is there.
    pub fn prove(&self, memory: &dyn GuestMemory, facts: &Facts) -> Result<Kernel, KernelError> {
        let mut formats = find::FORMATS.into_iter();
        let format = formats.find(|format| format.index_shifts.len() == self.levels);
        let format = format.ok_or(KernelError::NotRemembered)?;
        let space = AddressSpace { root: Gpa(self.root), format };
        let located = Located { banner: Gpa(self.banner), slide: self.slide, space };
        let banner = slid(&facts.symbols, &located, "linux_banner")?;
        let root = facts.symbols.page_table_root()?.checked_offset(self.slide);
        let maps = |at: Gva, to: Gpa| space.walk(memory, at).is_ok_and(|walk| walk.gpa == to);
        if maps(banner, located.banner) && root.is_some_and(|root| maps(root, space.root)) {
            return facts.prove(memory, located);
        }
        Err(KernelError::NotRemembered)
    }
}

/// The build-id among the notes of the kernel at `located`, in hexadecimal.
fn build_id(memory: &dyn GuestMemory, symbols: &Symbols, located: &Located) -> Option<String> {
    let bound = |name| slid(symbols, located, name).ok();
    let (start, stop) = (bound("__start_notes")?, bound("__stop_notes")?);
    let length = stop.checked_sub(start)?.min(NOTES);
    let mut notes = vec![0; length as usize];
    VirtualMemory { memory, space: located.space }.read(start, &mut notes).ok()?;
    build_id_text(find_build_id(&notes)?)
}

/// The build-id in `notes`: ELF notes, one after the other, names and contents padded to 4 bytes.
fn find_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (header, rest) = notes.split_at_checked(NOTE_HEADER)?;
        let word = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let (name_size, size) = (word(0)? as usize, word(4)? as usize);
        let (name, rest) = rest.split_at_checked(name_size.checked_next_multiple_of(4)?)?;
        let content = rest.get(..size)?;
        if word(8)? == BUILD_ID && name.starts_with(b"GNU\0") && !content.is_empty() {
            return Some(content);
        }
        notes = rest.get(size.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let sizes = [name.len() as u32, content.len() as u32, kind];
        let mut note: Vec<u8> = sizes.iter().flat_map(|word| word.to_le_bytes()).collect();
        for part in [name, content] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_among_the_notes() {
        let (xen, id) = (note(b"Xen\0", 3, b"no"), note(b"GNU\0", 3, b"\x12\x34\x56"));
        let all = [xen.clone(), note(b"Linux\0", 0x101, b""), id.clone()].concat();
        assert_eq!(find_build_id(&all), Some(&b"\x12\x34\x56"[..]));
        assert_eq!(find_build_id(&xen), None);
        for length in 0..id.len() - 1 {
            assert_eq!(find_build_id(&id[..length]), None, "{length}");
        }
        assert_eq!(find_build_id(&[0xff; 64]), None);
    }
}
