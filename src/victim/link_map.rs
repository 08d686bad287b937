//! The dynamic linker's own list of what it has loaded, in the order in which it searches for
//! names: the program's `DT_DEBUG` leads to `struct r_debug`, and that to a list of
//! `struct link_map` (<link.h>, the same in glibc and musl). It lies in memory that the victim
//! writes, and so is believed no further than its memory map bears it out.

use super::VictimMemory;
use crate::address::Gva;
use crate::kernel::sanitized;
use crate::symbols::Headers;

const DT_DEBUG: u64 = 21;
/// Bytes of a dynamic segment that are looked at.
const LONGEST_SEGMENT: u64 = 64 << 10;
/// `r_debug`: version, r_map, r_brk, r_state.
const FIRST: u64 = 8;
const STATE: u64 = 24;
/// More are a damaged list: the largest programs have some hundred.
const MOST: usize = 4096;
/// The longest path of a library (PATH_MAX).
const LONGEST_NAME: usize = 4096;

/// One that is loaded.
pub struct Linked {
    /// What was added to its addresses.
    pub bias: u64,
    /// Under what name it was opened; empty for the program itself.
    pub name: String,
    /// Its dynamic segment.
    pub dynamic: Gva,
}

/// What the dynamic linker tells.
pub enum LinkMap {
    /// All that is loaded, and whether more is being loaded or unloaded right now.
    Told(Vec<Linked>, bool),
    /// It has not begun.
    NotYet,
    /// It tells nothing that holds.
    Unknown,
}

/// The list of the program of which `headers` are, loaded at `bias`.
pub fn read(memory: &VictimMemory, headers: &Headers, bias: u64) -> LinkMap {
    match debug(memory, headers, bias) {
        Some(0) => LinkMap::NotYet,
        Some(debug) => list(memory, Gva(debug)).unwrap_or(LinkMap::Unknown),
        None => LinkMap::Unknown,
    }
}

/// The address of `r_debug`, 0 before it is known.
fn debug(memory: &VictimMemory, headers: &Headers, bias: u64) -> Option<u64> {
    let (address, _, length) = headers.dynamic?;
    let mut bytes = vec![0; length.min(LONGEST_SEGMENT) as usize];
    memory.view().read(Gva(address).checked_add(bias)?, &mut bytes).ok()?;
    bytes.chunks_exact(16).find_map(|entry| {
        let (tag, value) = entry.split_at(8);
        let word = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        (word(tag)? == DT_DEBUG).then(|| word(value))?
    })
}

fn list(memory: &VictimMemory, debug: Gva) -> Option<LinkMap> {
    let word = |at: Gva, offset| memory.view().read_u64(at.checked_add(offset)?).ok();
    let state = memory.view().read_u32(debug.checked_add(STATE)?).ok()?;
    let (mut all, mut before, mut at) = (Vec::new(), 0, word(debug, FIRST)?);
    if at == 0 {
        return Some(LinkMap::NotYet);
    }
    while at != 0 {
        // l_addr, l_name, l_ld, l_next, l_prev
        let [bias, name, dynamic, next, back] =
            [0, 8, 16, 24, 32].map(|offset| word(Gva(at), offset));
        if back? != before || all.len() == MOST {
            return None;
        }
        let name = memory.view().read_string(Gva(name?), LONGEST_NAME).ok()?;
        all.push(Linked { bias: bias?, name: sanitized(&name), dynamic: Gva(dynamic?) });
        (before, at) = (at, next?);
    }
    Some(LinkMap::Told(all, state != 0))
}
