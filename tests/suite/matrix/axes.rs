//! What is combined with what. A further kernel, size, machine type or way to hold RAM is one
//! line here; a kernel is one in the Makefile too.

use crate::common::built;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use vmfi::lab::Ram;

/// One of Debian's kernels.
#[derive(Debug)]
pub struct Kernel {
    /// Its folder under target/kernels.
    pub name: &'static str,
    /// How many levels of page tables it can have: five need CONFIG_X86_5LEVEL.
    pub most_levels: u64,
}

pub static KERNELS: [Kernel; 5] = [
    Kernel { name: "bullseye", most_levels: 4 },
    Kernel { name: "bookworm", most_levels: 5 },
    Kernel { name: "bookworm-rt", most_levels: 5 },
    Kernel { name: "trixie", most_levels: 5 },
    Kernel { name: "sid", most_levels: 5 },
];

/// MiB of RAM, on either side of the sizes at which the machine types begin to split it.
const SIZES: [u64; 7] = [512, 2048, 2867, 3072, 3584, 4608, 8192];

/// QEMU's machine types.
const MACHINES: [&str; 2] = ["q35", "pc"];

/// How the guest's RAM is held on the host.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// In a shared file, fresh.
    FreshFile,
    /// In a shared file in which a guest with this kernel ran before.
    FileUsedBy(&'static Kernel),
    /// In a shared file without a name.
    Memfd,
    /// In QEMU's own memory, as it is where nothing is asked for.
    Private,
}

/// One combination: a guest to boot.
#[derive(Clone, Debug)]
pub struct Cell {
    pub kernel: &'static Kernel,
    pub machine: &'static str,
    pub ram_mib: u64,
    pub held: Held,
    /// Levels of page tables that the guest's CPU offers.
    pub levels: u64,
    pub kaslr: bool,
}

/// Cells that show how one thing makes a difference.
pub struct Axis {
    pub title: &'static str,
    pub cells: Vec<Cell>,
}

/// Every axis, in the order of the page.
pub fn axes() -> Vec<Axis> {
    let [_, bookworm, .., sid] = &KERNELS;
    let sizes = MACHINES.map(|machine| SIZES.map(|size| (bookworm, machine, size))).concat();
    let newest = MACHINES.map(|machine| (sid, machine, 4608));
    vec![
        Axis { title: "Kernels, levels of page tables, KASLR", cells: kernels().collect() },
        Axis { title: "Sizes of RAM", cells: sizes.into_iter().chain(newest).map(sized).collect() },
        Axis { title: "RAM that another kernel used before", cells: used_before().collect() },
        Axis { title: "RAM of a process", cells: of_process().collect() },
    ]
}

impl Cell {
    /// On q35 with 512 MiB in a fresh file, five levels and KASLR.
    fn usual(kernel: &'static Kernel) -> Self {
        Self { kernel, machine: "q35", ram_mib: 512, held: Held::FreshFile, levels: 5, kaslr: true }
    }
}

fn kernels() -> impl Iterator<Item = Cell> {
    let ways = [(5, true), (5, false), (4, true), (4, false)];
    let cell =
        move |kernel| ways.map(|(levels, kaslr)| Cell { levels, kaslr, ..Cell::usual(kernel) });
    KERNELS.iter().flat_map(cell)
}

fn sized((kernel, machine, ram_mib): (&'static Kernel, &'static str, u64)) -> Cell {
    Cell { machine, ram_mib, ..Cell::usual(kernel) }
}

/// Each kernel after each other one.
fn used_before() -> impl Iterator<Item = Cell> {
    let pairs = KERNELS.iter().flat_map(|kernel| KERNELS.iter().map(move |other| (kernel, other)));
    let differ = pairs.filter(|(kernel, other)| kernel.name != other.name);
    differ.map(|(kernel, other)| Cell { held: Held::FileUsedBy(other), ..Cell::usual(kernel) })
}

/// Private with each kernel, and where RAM lies on both sides of 4 GiB.
fn of_process() -> impl Iterator<Item = Cell> {
    let [_, bookworm, ..] = &KERNELS;
    let private = |cell| Cell { held: Held::Private, ..cell };
    let split = MACHINES.map(|machine| sized((bookworm, machine, 4608)));
    let memfd = Cell { held: Held::Memfd, ..Cell::usual(bookworm) };
    KERNELS.iter().map(Cell::usual).chain(split).map(private).chain([memfd])
}

impl Held {
    pub fn ram(self) -> Ram {
        match self {
            Self::FreshFile | Self::FileUsedBy(_) => Ram::File,
            Self::Memfd => Ram::Memfd,
            Self::Private => Ram::Private,
        }
    }
}

impl Kernel {
    pub fn image(&self) -> PathBuf {
        built(&format!("kernels/{}/vmlinuz", self.name))
    }

    /// What `uname -r` is to say: the image's header points to its version
    /// (Documentation/arch/x86/boot.rst, kernel_version).
    pub fn release(&self) -> String {
        let image = fs::read(self.image()).unwrap();
        let at = usize::from(u16::from_le_bytes([image[0x20e], image[0x20f]])) + 0x200;
        let version = image[at..].split(|byte| b" \0".contains(byte)).next().unwrap();
        String::from_utf8(version.to_vec()).unwrap()
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreshFile => f.write_str("fresh file"),
            Self::FileUsedBy(kernel) => write!(f, "file used by {}", kernel.release()),
            Self::Memfd => f.write_str("memfd"),
            Self::Private => f.write_str("private memory"),
        }
    }
}

impl Cell {
    /// The guest's RAM, as people write it.
    pub fn size(&self) -> String {
        match self.ram_mib {
            mib @ ..1024 => format!("{mib} MiB"),
            mib => format!("{:.1} GiB", mib as f64 / 1024.0).replace(".0", ""),
        }
    }

    pub fn slide(&self) -> &'static str {
        if self.kaslr { "on" } else { "off" }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (release, size, slide) = (self.kernel.release(), self.size(), self.slide());
        let (machine, levels, held) = (self.machine, self.levels, self.held);
        write!(f, "{release}, {machine}, {size}, {levels} levels, KASLR {slide}, {held}")
    }
}
