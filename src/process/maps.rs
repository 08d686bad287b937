//! A process's memory map: a list in older kernels, a maple tree in newer ones
//! (Documentation/core-api/maple_tree.rst, include/linux/maple_tree.h).

use crate::address::Gva;
use crate::guest::Guest;
use crate::kernel::{KernelError, MapleLayout, MapsLayout, NodeLayout, field};

/// Bits of `vm_flags` (include/linux/mm.h), the same since 2.4.
const VM_READ: u64 = 0x1;
const VM_WRITE: u64 = 0x2;
const VM_EXEC: u64 = 0x4;
/// Whether it may ever be shared: what /proc/PID/maps calls shared.
const VM_MAYSHARE: u64 = 0x80;
/// What is mapped there need not be RAM: `VM_PFNMAP` and `VM_IO`.
const VM_DEVICE: u64 = 0x4400;
/// Mappings that are looked at: vm.max_map_count is 65530 unless raised.
const LIMIT: usize = 1 << 20;
/// A tree of 4 Gi mappings is not as deep.
const DEPTH: usize = 16;
/// Nodes are aligned to 256 bytes; what they are is in the pointer's low bits.
const NODE: u64 = !0xff;
/// Bit 1 tells a node from a value, in the root as in slots that are not leaves'.
const IS_NODE: u64 = 0x2;
const PAGE: u64 = 4096;

/// One mapping (`struct vm_area_struct`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: Gva,
    /// First address past it.
    pub end: Gva,
    /// Its `struct vm_area_struct`.
    pub area: Gva,
    /// Whether the program may read there.
    pub readable: bool,
    /// Whether the program may write there.
    pub writable: bool,
    /// Whether the program may run what is there.
    pub executable: bool,
    /// Whether what is written there is seen by all who map it.
    pub shared: bool,
    /// Whether it is a device's memory, or the kernel's own.
    pub device: bool,
    /// Where in the file it starts, in bytes; 0 where there is none.
    pub file_offset: u64,
    /// The `struct file` that is mapped, if one is.
    pub file: Option<Gva>,
}

impl Mapping {
    /// Whether the program may do nothing there at all (PROT_NONE).
    pub fn forbidden(&self) -> bool {
        !self.readable && !self.writable && !self.executable
    }

    /// Whether it holds `gva`.
    pub fn holds(&self, gva: Gva) -> bool {
        (self.start..self.end).contains(&gva)
    }
}

/// The mappings of the `struct mm_struct` at `mm`, in ascending order.
pub fn maps(guest: &Guest, mm: Gva) -> Result<Vec<Mapping>, KernelError> {
    let areas = match &guest.kernel().layouts.mm.maps {
        MapsLayout::List { first, next } => listed(guest, field(mm, *first)?, *next)?,
        MapsLayout::Tree { root, nodes } => {
            let mut walk = TreeWalk { guest, nodes, areas: Vec::new(), nodes_left: LIMIT };
            walk.root(pointer(guest, field(mm, *root)?)?)?;
            walk.areas
        }
    };
    areas.into_iter().map(|area| mapping(guest, area)).collect()
}

fn pointer(guest: &Guest, at: Gva) -> Result<Gva, KernelError> {
    Ok(Gva(guest.kernel_memory().read_u64(at)?))
}

fn listed(guest: &Guest, first: Gva, next: u64) -> Result<Vec<Gva>, KernelError> {
    let mut areas = Vec::new();
    let mut area = pointer(guest, first)?;
    while area.0 != 0 {
        if areas.len() == LIMIT {
            return Err(KernelError::Damaged { what: "memory map", at: area });
        }
        areas.push(area);
        area = pointer(guest, field(area, next)?)?;
    }
    Ok(areas)
}

/// The mapping of the `struct vm_area_struct` at `area`.
pub fn mapping(guest: &Guest, area: Gva) -> Result<Mapping, KernelError> {
    let layout = &guest.kernel().layouts.vma;
    let word = |offset| pointer(guest, field(area, offset)?);
    let file = word(layout.file)?;
    let flags = word(layout.flags)?.0;
    Ok(Mapping {
        area,
        start: word(layout.start)?,
        end: word(layout.end)?,
        readable: flags & VM_READ != 0,
        writable: flags & VM_WRITE != 0,
        executable: flags & VM_EXEC != 0,
        shared: flags & VM_MAYSHARE != 0,
        device: flags & VM_DEVICE != 0,
        // Without a file this tells pages apart where mappings are moved.
        file_offset: if file.0 == 0 { 0 } else { word(layout.page_offset)?.0.wrapping_mul(PAGE) },
        file: (file.0 != 0).then_some(file),
    })
}

/// A walk through a maple tree, gathering what its leaves hold.
struct TreeWalk<'a> {
    guest: &'a Guest,
    nodes: &'a MapleLayout,
    areas: Vec<Gva>,
    /// Bounds the walk where a damaged tree leads round in circles.
    nodes_left: usize,
}

impl TreeWalk<'_> {
    /// `entry` is `ma_root`: a node, or in a tree of one entry that entry itself.
    fn root(&mut self, entry: Gva) -> Result<(), KernelError> {
        match entry.0 {
            0 => Ok(()),
            node if node & 3 == IS_NODE && node > PAGE => self.node(entry, u64::MAX, DEPTH),
            _ => self.entry(entry),
        }
    }

    /// `enode` is a node's address with its type in bits 3 to 6; it covers addresses up to `max`.
    fn node(&mut self, enode: Gva, max: u64, depth: usize) -> Result<(), KernelError> {
        let at = Gva(enode.0 & NODE);
        let damaged = KernelError::Damaged { what: "memory map", at };
        let Some((layout, leaf)) = kind(self.nodes, enode) else { return Err(damaged) };
        if depth == 0 || self.nodes_left == 0 {
            return Err(damaged);
        }
        self.nodes_left -= 1;
        for index in 0..=layout.pivot_count {
            let pivot = self.pivot(at, layout, index, max)?;
            let slot = pointer(self.guest, field(at, layout.slots + 8 * index)?)?;
            match (slot.0, leaf) {
                (0, _) => {}
                (_, true) => self.entry(slot)?,
                (_, false) => self.node(slot, pivot, depth - 1)?,
            }
            if pivot >= max {
                break;
            }
        }
        Ok(())
    }

    /// The last address of slot `index`. The last slot has no pivot, and an unused pivot is 0:
    /// both reach to the node's end.
    fn pivot(
        &self,
        at: Gva,
        layout: &NodeLayout,
        index: u64,
        max: u64,
    ) -> Result<u64, KernelError> {
        if index == layout.pivot_count {
            return Ok(max);
        }
        let pivot = pointer(self.guest, field(at, layout.pivots + 8 * index)?)?.0;
        Ok(if pivot == 0 && index > 0 { max } else { pivot })
    }

    fn entry(&mut self, entry: Gva) -> Result<(), KernelError> {
        if self.areas.len() == LIMIT {
            return Err(KernelError::Damaged { what: "memory map", at: entry });
        }
        // Bit 0 marks reserved values, such as a slot that is being filled.
        if entry.0 & 3 == 0 {
            self.areas.push(entry);
        }
        Ok(())
    }
}

/// A node's layout, and whether it is a leaf (`enum maple_type`).
fn kind(nodes: &MapleLayout, enode: Gva) -> Option<(&NodeLayout, bool)> {
    match enode.0 >> 3 & 15 {
        1 => Some((&nodes.range, true)),
        2 => Some((&nodes.range, false)),
        3 => Some((&nodes.arange, false)),
        _ => None,
    }
}
