//! A look at all of RAM, on every CPU: what shows a kernel, or another system, wherever it lies.

use super::sanitized;
use crate::address::Gpa;
use crate::memory::GuestMemory;
use crate::symbols::kallsyms;
use memchr::memmem;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How much is looked at in one piece: what stays in a processor's cache.
const PART: u64 = 1 << 20;
/// Pieces overlap by the longest that is looked for, which is a banner.
const OVERLAP: u64 = 256;
/// A thread for less takes longer than it saves.
const PARTS_OF_A_THREAD: usize = 32;
/// More banners than a piece of RAM has: hostile ones could be everywhere.
const MOST_BANNERS: usize = 4;
/// The same of what looks like a token table's digits, and of those in all of RAM.
const MOST_DIGITS: usize = 16;
const MOST_DIGITS_IN_ALL: usize = 1024;
const PAGE: usize = 4096;
const BANNER: &[u8] = b"Linux version ";

/// What was seen of all that is looked for.
#[derive(Default)]
pub struct Sights {
    /// Where bytes lie like those of a kernel's token table.
    pub digits: Vec<Gpa>,
    /// The banners of Linux kernels, each once. Earlier guests' too.
    pub banners: Vec<String>,
    /// Where the image of a Windows kernel starts.
    pub windows: Option<Gpa>,
    /// Where a volume of a UEFI firmware starts.
    pub uefi: Option<Gpa>,
}

enum Sight {
    Digits(Gpa),
    Banner(String),
    Windows(Gpa),
    Uefi(Gpa),
}

impl Sights {
    /// Looks at all of RAM.
    pub fn of(memory: &dyn GuestMemory) -> Self {
        let mut sights = Self::default();
        for sight in each_part(memory, &memory.backed(), seen) {
            match sight {
                Sight::Digits(at) if sights.digits.len() < MOST_DIGITS_IN_ALL => {
                    sights.digits.push(at);
                }
                Sight::Digits(_) => {}
                Sight::Banner(banner) if sights.banners.contains(&banner) => {}
                Sight::Banner(banner) => sights.banners.push(banner),
                Sight::Windows(at) => sights.windows = sights.windows.or(Some(at)),
                Sight::Uefi(at) => sights.uefi = sights.uefi.or(Some(at)),
            }
        }
        sights
    }
}

/// Where bytes lie within `runs` like those of a kernel's token table.
pub fn digits(memory: &dyn GuestMemory, runs: &[Range<Gpa>]) -> Vec<Gpa> {
    let mut all = each_part(memory, runs, |start, bytes| digits_in(start, bytes).collect());
    all.truncate(MOST_DIGITS_IN_ALL);
    all
}

fn digits_in(start: Gpa, bytes: &[u8]) -> impl Iterator<Item = Gpa> {
    own(kallsyms::digits(bytes)).take(MOST_DIGITS).map(move |at| Gpa(start.0 + at as u64))
}

/// What `look` finds in the pieces of `runs`, in their order. It is given where each starts.
fn each_part<T: Send>(
    memory: &dyn GuestMemory,
    runs: &[Range<Gpa>],
    look: impl Fn(Gpa, &[u8]) -> Vec<T> + Sync,
) -> Vec<T> {
    let parts: Vec<_> = runs.iter().flat_map(parts).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut bytes, mut found) = (vec![0; (PART + OVERLAP) as usize], Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else { return found };
            let bytes = &mut bytes[..(part.end.0 - part.start.0) as usize];
            if memory.read(part.start, bytes).is_ok() {
                found.extend(look(part.start, bytes).into_iter().map(|one| (index, one)));
            }
        }
    };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let further = cpus.min(parts.len() / PARTS_OF_A_THREAD).saturating_sub(1);
    let mut found = thread::scope(|scope| {
        let others: Vec<_> = (0..further).map(|_| scope.spawn(work)).collect();
        let others = others.into_iter().map(|other| other.join().unwrap_or_default());
        let mut found = work();
        others.for_each(|other| found.extend(other));
        found
    });
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, one)| one).collect()
}

/// What starts in a piece itself, and not in the next, is its own.
fn own(found: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    found.take_while(|at| *at < PART as usize)
}

fn parts(run: &Range<Gpa>) -> impl Iterator<Item = Range<Gpa>> {
    let end = run.end.0;
    let starts = (run.start.0..end).step_by(PART as usize);
    starts.map(move |start| Gpa(start)..Gpa(end.min(start.saturating_add(PART + OVERLAP))))
}

/// What is seen in `bytes`, which start at `start`.
fn seen(start: Gpa, bytes: &[u8]) -> Vec<Sight> {
    let place = |at: usize| Gpa(start.0 + at as u64);
    let banners = own(memmem::find_iter(bytes, BANNER)).filter_map(|at| banner(&bytes[at..]));
    let mut seen: Vec<_> = banners.take(MOST_BANNERS).map(Sight::Banner).collect();
    seen.extend(digits_in(start, bytes).map(Sight::Digits));
    for (page, at) in bytes.chunks_exact(PAGE).zip((0..).step_by(PAGE)) {
        if is_windows_kernel(page) {
            seen.push(Sight::Windows(place(at)));
        } else if is_volume(page) {
            seen.push(Sight::Uefi(place(at)));
        }
    }
    seen
}

/// The banner that `text` starts with, fit for a terminal; none for the many near copies: a version
/// follows, and a build's number.
pub fn banner(text: &[u8]) -> Option<String> {
    let version = text.strip_prefix(BANNER)?;
    let line = text.split(|&byte| byte == b'\n' || byte == 0).next()?;
    let line = &line[..line.len().min(OVERLAP as usize)];
    let printable = line.iter().all(|byte| (0x20..0x7f).contains(byte));
    let numbered = line.windows(2).any(|two| two[0] == b'#' && two[1].is_ascii_digit());
    (printable && numbered && version.first()?.is_ascii_digit()).then(|| sanitized(line))
}

/// Whether a page starts the image of Windows' kernel: a program for x86-64 (Microsoft's PE format)
/// with sections that no other has.
fn is_windows_kernel(page: &[u8]) -> bool {
    const SECTIONS: [&[u8]; 2] = [b"INITKDBG", b"POOLCODE"];
    let Some(&[low, high]) = page.get(0x3c..0x3e) else { return false };
    let header = usize::from(u16::from_le_bytes([low, high]));
    page.starts_with(b"MZ")
        && page.get(header..).is_some_and(|header| header.starts_with(b"PE\0\0\x64\x86"))
        && SECTIONS.iter().any(|section| memmem::find(page, section).is_some())
}

/// Whether a page starts a firmware volume (UEFI's Platform Initialization, volume 3: the signature
/// stands 40 bytes into its header).
fn is_volume(page: &[u8]) -> bool {
    page[40..].starts_with(b"_FVH")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Image;
    use crate::vmm::Layout;

    #[test]
    fn pieces_are_seen_in_their_order_and_nothing_is_lost_between_them() {
        let image = Image::new(Layout::Flat.regions(80 << 20).unwrap());
        let text = |number| format!("Linux version {number}.1.0 (a@b) #1 SMP\n");
        for (number, at) in [(6, 0x10_0000 - 20), (5, 0x7_0000), (4, 70 << 20), (4, 75 << 20)] {
            image.write(Gpa(at), text(number).as_bytes()).unwrap();
        }
        image.write(Gpa(0x40_0000), b"Linux version %s (no, a format) #1").unwrap();
        image.write(Gpa(0x50_0000), b"Linux version 6.1.0 (no, a pattern) # SMP").unwrap();
        let sights = Sights::of(&image);
        assert_eq!(sights.banners, [5, 6, 4].map(|number| text(number).trim_end().to_owned()));
        assert!(sights.digits.is_empty() && sights.windows.is_none() && sights.uefi.is_none());
    }

    #[test]
    fn other_systems_are_seen() {
        let image = Image::new(Layout::Flat.regions(4 << 20).unwrap());
        let mut page = [0; PAGE];
        page[..2].copy_from_slice(b"MZ");
        page[0x3c] = 0xf8;
        page[0xf8..0xfe].copy_from_slice(b"PE\0\0\x64\x86");
        assert!(!is_windows_kernel(&page), "a program for Windows is no kernel");
        page[0x300..0x308].copy_from_slice(b"INITKDBG");
        image.write(Gpa(0x20_3000), &page).unwrap();
        image.write(Gpa(0x10_0028), b"_FVH").unwrap();
        let sights = Sights::of(&image);
        assert_eq!((sights.windows, sights.uefi), (Some(Gpa(0x20_3000)), Some(Gpa(0x10_0000))));
    }
}
