//! Where the kernel was loaded. KASLR draws a physical and a virtual place, each a multiple of
//! 2 MiB (CONFIG_PHYSICAL_ALIGN), so the banner of a given symbol table can start at one address
//! in each 2 MiB of RAM only.
//!
//! A hit alone proves nothing: banners of an earlier boot lie about in RAM, and in the page cache.
//! It counts when the kernel's own page tables, at the place that the hit implies, map some
//! virtual place of the banner back to the hit.

use super::{KernelError, Symbols};
use crate::address::{Gpa, Gva};
use crate::arch::{AddressSpace, PagingFormat, x86_64};
use crate::memory::GuestMemory;

const ALIGNMENT: u64 = 2 << 20;
/// How much of the address space may hold the image.
const IMAGE_SPACE_LENGTH: u64 = 1 << 30;
const BANNER: &[u8] = b"Linux version ";
/// A kernel image's page tables can have either depth: which one shows by what maps.
pub const FORMATS: [&PagingFormat; 2] = [&x86_64::FIVE_LEVELS, &x86_64::FOUR_LEVELS];

/// Where a kernel's image lies.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    /// Guest-physical address of its banner.
    pub banner: Gpa,
    /// Bytes from a symbol table's address to where the symbol is now.
    pub slide: i64,
    /// The kernel's own address space.
    pub space: AddressSpace,
}

/// Every place in RAM that holds the kernel of `symbols`, by its own page tables' word.
pub fn candidates(
    memory: &dyn GuestMemory,
    symbols: &Symbols,
) -> Result<Vec<Located>, KernelError> {
    let banner = symbols.address("linux_banner")?;
    let root = symbols.page_table_root()?;
    if banner.0 == 0 && root.0 == 0 {
        return Err(KernelError::Hidden(symbols.path().to_owned()));
    }
    let root_from_banner = root.0.wrapping_sub(banner.0) as i64;
    let located = banner_hits(memory, banner.0 % ALIGNMENT).into_iter().filter_map(|hit| {
        let root = hit.checked_offset(root_from_banner)?;
        FORMATS.iter().find_map(|format| {
            let space = AddressSpace { root, format };
            let virtual_banner = maps_back(memory, &space, banner.0 % ALIGNMENT, hit)?;
            let slide = virtual_banner.0.wrapping_sub(banner.0) as i64;
            Some(Located { banner: hit, slide, space })
        })
    });
    Ok(located.collect())
}

/// Guest-physical addresses that hold a banner and are `offset` past a multiple of 2 MiB.
fn banner_hits(memory: &dyn GuestMemory, offset: u64) -> Vec<Gpa> {
    let mut hits = Vec::new();
    for region in memory.regions().iter() {
        let first = region.gpa.align_down(ALIGNMENT).0 + offset;
        let places = (first..region.end().0).step_by(ALIGNMENT as usize).map(Gpa);
        // Where the region starts between two places, the first is another region's, or no RAM.
        for at in places.filter(|at| *at >= region.gpa) {
            let mut text = [0; BANNER.len()];
            if memory.read(at, &mut text).is_ok() && text == BANNER {
                hits.push(at);
            }
        }
    }
    hits
}

/// The virtual address, `offset` past a multiple of 2 MiB, that `space` maps to `hit`.
fn maps_back(memory: &dyn GuestMemory, space: &AddressSpace, offset: u64, hit: Gpa) -> Option<Gva> {
    let slots = (0..IMAGE_SPACE_LENGTH).step_by(ALIGNMENT as usize);
    let mut places = slots.map(|slot| Gva(x86_64::KERNEL_IMAGE.0 + slot + offset));
    places.find(|&gva| space.walk(memory, gva).is_ok_and(|walk| walk.gpa == hit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Image, Region, RegionMap};

    /// Blocks of RAM need not start where kernels may be loaded.
    #[test]
    fn a_banner_is_hit_once_in_whatever_blocks_it_lies() {
        let region = |gpa: u64, length| Region { gpa: Gpa(gpa), length, source: 0, offset: gpa };
        let blocks = vec![region(0, 0x30_0000), region(0x30_0000, 0x1000), region(0x30_1000, 4096)];
        let image = Image::new(RegionMap::new(blocks).unwrap());
        for at in [0x2f_0000, 0x2f_fff8, 0x30_0ffc] {
            image.write(Gpa(at), BANNER).unwrap();
            assert_eq!(banner_hits(&image, at % ALIGNMENT), [Gpa(at)]);
        }
    }
}
