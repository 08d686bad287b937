//! What RAM holds that holds no kernel which is understood: something that is no RAM, a guest that
//! has not got far, another system. For a refusal only; what it says must not be wrong, so where the
//! signs do not tell two cases apart, both are named.

use super::scan::Sights;
use super::{KernelError, Symbols, VmCoreInfo, release};
use crate::address::{Gpa, Gva};
use crate::arch::{AddressSpace, x86_64};
use crate::memory::GuestMemory;
use memchr::memmem;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// How many pages are sampled where RAM is small; else one in each 2 MiB.
const LEAST_SAMPLES: u64 = 512;
/// How many of those that are not zero are weighed, and how many must be to tell anything.
const MOST_WEIGHED: usize = 256;
const LEAST_WEIGHED: usize = 16;
/// Bits that each byte of a page must have of its own to look random; ciphertext and what is
/// compressed have 7.95, programs and texts 4 to 6.
const RANDOM: f64 = 7.8;

/// What RAM holds instead of a kernel that is understood.
#[derive(Debug, thiserror::Error)]
pub enum Diagnosis {
    /// A file of some kind.
    #[error(
        "this is not guest RAM but {0}: give -m the file or the device that the VMM maps as the guest's RAM"
    )]
    NotRam(&'static str),
    /// Nothing but random bytes.
    #[error(
        "guest RAM looks encrypted (AMD SEV, Intel TDX), which keeps vmfi out: start the guest without; or this is no guest RAM but compressed or random bytes: then give -m the file that the VMM maps"
    )]
    Encrypted,
    /// Nobody has written anything.
    #[error(
        "no Linux kernel found in guest RAM, nor anything but zeros: the VM has not started or is still booting (try again), or -m is not the file that it maps"
    )]
    Untouched,
    /// Firmware or a boot loader.
    #[error(
        "no Linux kernel found in guest RAM, but {0}: the guest is still booting (try again), or it does not run Linux"
    )]
    Booting(String),
    /// Windows.
    #[error("this looks like a Windows guest ({0}): vmfi understands x86-64 Linux guests only")]
    Windows(String),
    /// A Linux that is not understood.
    #[error(
        "the guest runs a 32-bit Linux kernel ({0}): vmfi understands 64-bit ones only; run the 32-bit program on a 64-bit kernel"
    )]
    ThirtyTwoBit(String),
    /// A Linux on another processor.
    #[error("the guest's kernel is of another architecture ({0}): vmfi understands x86-64 only")]
    OtherArchitecture(String),
}

impl Diagnosis {
    /// Whether the guest's RAM cannot be had, rather than its kernel not be understood.
    pub fn is_of_ram(&self) -> bool {
        matches!(self, Self::NotRam(_) | Self::Encrypted)
    }
}

/// Why no kernel was found in all of RAM, of which `sights` were seen.
pub fn explain(
    memory: &dyn GuestMemory,
    symbols: Option<&Symbols>,
    sights: &Sights,
) -> KernelError {
    if let Some(banner) = sights.banners.first() {
        return of_linux(memory, symbols, sights)
            .unwrap_or_else(|| without_symbols(symbols, banner));
    }
    let windows = |at| Diagnosis::Windows(format!("its kernel's image is at guest-physical {at}"));
    let other = sights.windows.map(windows).or_else(|| firmware(memory, sights));
    other.map_or(KernelError::NoKernel, KernelError::Diagnosed)
}

fn without_symbols(symbols: Option<&Symbols>, banner: &str) -> KernelError {
    let banner = banner.to_owned();
    match symbols {
        Some(symbols) => KernelError::OtherKernel { path: symbols.path().to_owned(), banner },
        None => KernelError::NoSymbols(banner),
    }
}

/// Where every banner is of a kernel that is not understood, what it is; an earlier guest's may lie
/// there too, so one that could be understood counts.
fn of_linux(
    memory: &dyn GuestMemory,
    symbols: Option<&Symbols>,
    sights: &Sights,
) -> Option<KernelError> {
    let notes: Vec<_> = VmCoreInfo::from_top(memory).flatten().collect();
    let banners = || sights.banners.iter().map(|banner| (banner, machine(banner, &notes)));
    if let Some((banner, _)) = banners().find(|(_, machine)| *machine == Machine::X86_64) {
        return Some(without_symbols(symbols, banner));
    }
    let (banner, machine) = banners().next()?;
    Some(KernelError::Diagnosed(match machine {
        Machine::ThirtyTwoBit => Diagnosis::ThirtyTwoBit(banner.clone()),
        _ => Diagnosis::OtherArchitecture(banner.clone()),
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    X86_64,
    ThirtyTwoBit,
    Other,
}

/// What the kernel of `banner` runs on: by where the note of that release has its text, or by what
/// the banner says of its compiler or flavour.
fn machine(banner: &str, notes: &[VmCoreInfo]) -> Machine {
    let release = release(banner);
    let own = notes.iter().filter(|note| note.release() == release);
    let says = |words: &[&str]| words.iter().any(|word| banner.contains(word));
    match own.filter_map(VmCoreInfo::text).next() {
        Some(text) if text >= x86_64::KERNEL_IMAGE => Machine::X86_64,
        Some(text) if text.0 <= u64::from(u32::MAX) => Machine::ThirtyTwoBit,
        Some(_) => Machine::Other,
        None if says(&["i386", "i486", "i586", "i686", "-686"]) => Machine::ThirtyTwoBit,
        None if says(&["aarch64", "arm64", "riscv64", "s390x", "ppc64"]) => Machine::Other,
        None => Machine::X86_64,
    }
}

/// What few looks tell for sure: for before all of RAM is looked at.
pub fn at_a_glance(memory: &dyn GuestMemory) -> Option<Diagnosis> {
    let first = memory.regions().iter().next().map(|region| read(memory, region.gpa, PAGE));
    let kind = first.as_deref().and_then(kind).map(Diagnosis::NotRam);
    kind.or_else(|| windows_stub(memory)).or_else(|| {
        let (low, samples) = (low_memory(memory), samples(memory));
        let zero = |page: &[u8]| page.iter().all(|&byte| byte == 0);
        if samples.iter().all(|page| zero(page)) {
            return zero(&low).then_some(Diagnosis::Untouched);
        }
        let random = |page: &[u8]| entropy(page) >= RANDOM;
        let plain = low.chunks(PAGE as usize).any(|page| !zero(page) && !random(page));
        let used: Vec<_> = samples.iter().filter(|page| !zero(page)).take(MOST_WEIGHED).collect();
        let alike = used.iter().filter(|page| random(page)).count();
        // Some RAM of an encrypted guest is shared with the host, as it is.
        let encrypted = used.len() >= LEAST_WEIGHED && 10 * alike >= 9 * used.len() && !plain;
        encrypted.then_some(Diagnosis::Encrypted)
    })
}

/// Up to `length` bytes from `at` on, as far as they are RAM.
fn read(memory: &dyn GuestMemory, at: Gpa, length: u64) -> Vec<u8> {
    let runs = memory.regions().runs();
    let end = runs.iter().find(|run| run.contains(&at)).map_or(at, |run| run.end);
    let mut bytes = vec![0; length.min(end.0 - at.0) as usize];
    let read = memory.read(at, &mut bytes);
    read.map_or(Vec::new(), |()| bytes)
}

fn low_memory(memory: &dyn GuestMemory) -> Vec<u8> {
    read(memory, Gpa(0), MIB)
}

/// Pages of what the host backs, in even steps, small enough that no kernel fits between.
fn samples(memory: &dyn GuestMemory) -> Vec<Vec<u8>> {
    let runs = memory.backed();
    let total: u64 = runs.iter().map(|run| run.end.0 - run.start.0).sum();
    let step = (total / LEAST_SAMPLES).clamp(PAGE, 2 * MIB) / PAGE * PAGE;
    let (mut pages, mut skip) = (Vec::new(), 0);
    for run in runs {
        let length = run.end.0 - run.start.0;
        let within = (skip..length).step_by(step as usize);
        pages.extend(within.map(|into| read(memory, Gpa(run.start.0 + into), PAGE)));
        let left = length.saturating_sub(skip) % step;
        skip = if length < skip { skip - length } else { (step - left) % step };
    }
    pages
}

/// Bits that a byte of `page` tells.
fn entropy(page: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    page.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let share = |count: &u32| f64::from(*count) / page.len() as f64;
    let told = |count: &u32| -share(count) * share(count).log2();
    counts.iter().filter(|count| **count > 0).map(told).sum()
}

/// How files start that are given for RAM by mistake: where, with what, what they are.
const KINDS: [(usize, &[u8], &str); 19] = [
    (0, b"\x7fELF", "an ELF file (a program, a kernel, or a core dump)"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"KDMV", "a VMDK disk image"),
    (0, b"conectix", "a VHD disk image"),
    (0, b"vhdxfile", "a VHDX disk image"),
    (0, b"<<< ", "a VirtualBox disk image"),
    (0, b"hsqs", "a SquashFS image"),
    (512, b"EFI PART", "a disk image"),
    (0x202, b"HdrS", "a kernel image"),
    (0, b"KDUMP   ", "a compressed kernel dump"),
    (0, b"QEVM", "a saved VM state"),
    (0, b"\x1f\x8b\x08", "a file compressed by gzip"),
    (0, b"\xfd7zXZ\0", "a file compressed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed by zstd"),
    (0, b"BZh", "a file compressed by bzip2"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"!<arch>\n", "an archive"),
    (0, b"070701", "a cpio archive"),
    (0x101, b"ustar", "a tar archive"),
];

/// What kind of file starts with `page`, which no guest's RAM does.
fn kind(page: &[u8]) -> Option<&'static str> {
    let starts = |at: usize, with: &[u8]| page.get(at..).is_some_and(|rest| rest.starts_with(with));
    let known = KINDS.iter().find(|(at, magic, _)| starts(*at, magic)).map(|(_, _, kind)| *kind);
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..0x7f);
    known.or((!page.is_empty() && page.iter().all(text)).then_some("a text file")).or((starts(
        510,
        b"\x55\xaa",
    ) && page
        .get(446..510)
        .is_some_and(partitions))
    .then_some("a disk image"))
}

/// Whether `table` is a master boot record's of partitions: each is active or not, and some have a
/// type.
fn partitions(table: &[u8]) -> bool {
    let mut entries = table.chunks_exact(16);
    entries.clone().all(|entry| matches!(entry[0], 0 | 0x80)) && entries.any(|entry| entry[4] != 0)
}

/// Windows leaves what starts its further processors in the first MiB (PROCESSOR_START_BLOCK): a
/// jump, the kernel's entry at 0x70, and the page-table root at 0xa0, which must map that.
fn windows_stub(memory: &dyn GuestMemory) -> Option<Diagnosis> {
    let starts = (PAGE..MIB).step_by(PAGE as usize);
    let mut stubs = starts.filter(|&at| is_stub(memory, at).unwrap_or(false));
    let at = Gpa(stubs.next()?);
    Some(Diagnosis::Windows(format!("it starts its processors at guest-physical {at}")))
}

fn is_stub(memory: &dyn GuestMemory, at: u64) -> Option<bool> {
    let word = |into: u64| memory.load(Gpa(at + into)).ok();
    if word(0)? & 0xffff_ffff_ffff_00ff != 0x0000_0001_0006_00e9 {
        return Some(false);
    }
    let root = Gpa(word(0xa0)?).align_down(PAGE);
    let space = AddressSpace { root, format: &x86_64::FOUR_LEVELS };
    Some(space.walk(memory, Gva(word(0x70)?)).is_ok())
}

/// What firmware or boot loader has left in the first MiB, or elsewhere.
fn firmware(memory: &dyn GuestMemory, sights: &Sights) -> Option<Diagnosis> {
    let low = low_memory(memory);
    let has = |text: &[u8]| memmem::find(&low, text).is_some();
    let header = (0..low.len())
        .step_by(512)
        .find(|at| low[*at..].get(0x202..).is_some_and(|rest| rest.starts_with(b"HdrS")));
    let told = if let Some(at) = header {
        format!("the header of one that is being loaded, at guest-physical {:#x}", at)
    } else if has(b"GRUB") {
        "the boot loader GRUB".to_owned()
    } else if has(b"SYSLINUX") || has(b"ISOLINUX") {
        "the boot loader SYSLINUX".to_owned()
    } else if has(b"SeaBIOS") {
        "the firmware SeaBIOS".to_owned()
    } else if let Some(at) = sights.uefi {
        format!("a UEFI firmware, at guest-physical {at}")
    } else if is_bios(&low) {
        "the data of a PC's BIOS".to_owned()
    } else {
        return None;
    };
    Some(Diagnosis::Booting(told))
}

/// Whether low memory is as a PC's BIOS sets it up: interrupt vectors that lead into its ROMs, and
/// at 0x413 the KiB below 640.
fn is_bios(low: &[u8]) -> bool {
    const VECTORS: usize = 256;
    let Some((table, rest)) = low.split_at_checked(4 * VECTORS) else { return false };
    let into_rom = table.chunks_exact(4).filter(|vector| vector[3] >= 0xc0).count();
    let size = rest.get(0x13..0x15).map(|size| u16::from_le_bytes([size[0], size[1]]));
    into_rom >= VECTORS / 2 && size.is_some_and(|size| (256..=640).contains(&size))
}
