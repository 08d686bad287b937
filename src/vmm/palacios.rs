//! The list of a Palacios host: which physical memory of the host its VMs have, block by block.
//!
//! `read_guests_details` in Palacios's linux_module/main.c prints, among other lines of each VM,
//!
//! ```text
//! Device:       /dev/v3-vm0
//! Regions:      2 (2 shown)
//!    region 0 has HPAs 0x0000000100000000-0x0000000108000000 (node 0) GPA 0x0000000000000000  pinned
//! ```
//!
//! The host-physical addresses are offsets in the host's memory device. Palacios may move a block,
//! or swap it out, at any time: so the list is read again before each write.

use super::Layout;
use crate::address::Gpa;
use crate::memory::{MemoryError, Region, RegionMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where Palacios has its list.
pub const LIST: &str = "/proc/v3vee/v3-guests-details";
/// A VM's own device does not export its RAM; the host's memory does.
const HOST_MEMORY: &str = "/dev/mem";
/// Bytes of a list; one of a thousand VMs is shorter.
const LIMIT: u64 = 16 << 20;
const PAGE: u64 = 4096;

/// What a Palacios host says of its VMs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PalaciosError {
    /// The list could not be read.
    #[error(
        "cannot read Palacios's list {list}: {source}; does Palacios run here? If its list is elsewhere, give --ram-layout palacios:PATH"
    )]
    Unreadable {
        /// The list.
        list: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It cannot be a list.
    #[error(
        "{0} is not Palacios's list of VMs: not a file, or too long; give --ram-layout palacios:PATH"
    )]
    NotAList(PathBuf),
    /// A line about regions that cannot be one.
    #[error(
        "line {line} of {list} is not as in Palacios's v3-guests-details, or no range of whole pages; give --ram-layout palacios:PATH the right list"
    )]
    Damaged {
        /// The list.
        list: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// There is none to choose.
    #[error("{0} lists no VM; start the guest")]
    NoVm(PathBuf),
    /// There are several to choose from.
    #[error("{list} lists several VMs; give -m one of: {}", devices.join(", "))]
    SeveralVms {
        /// The list.
        list: PathBuf,
        /// The device of each VM.
        devices: Vec<String>,
    },
    /// The VM has no RAM.
    #[error("{list} lists no regions of {device}; start the guest")]
    NoRegions {
        /// The list.
        list: PathBuf,
        /// The VM.
        device: String,
    },
    /// Not every region is there to be seen.
    #[error(
        "{list} lists {listed} regions of {device}, which has {all} ({shown} shown): not usable now, try again"
    )]
    Incomplete {
        /// The list.
        list: PathBuf,
        /// The VM.
        device: String,
        /// How many regions it says that the VM has.
        all: u64,
        /// How many it says that it shows.
        shown: u64,
        /// How many there are.
        listed: u64,
    },
    /// Part of the RAM is elsewhere.
    #[error(
        "the region at {gpa} of {device} is swapped out, says {list}: not usable now, try again"
    )]
    Swapped {
        /// The list.
        list: PathBuf,
        /// The VM.
        device: String,
        /// Where the region starts.
        gpa: Gpa,
    },
    /// The regions cannot be.
    #[error("the regions of {device} in {list} cannot be: {source}")]
    BadRegions {
        /// The list.
        list: PathBuf,
        /// The VM.
        device: String,
        /// Which is wrong.
        source: MemoryError,
    },
    /// The regions are other ones than before.
    #[error("the VMM moved guest RAM meanwhile; nothing was written, try again")]
    Moved,
}

/// The RAM of one VM, as the list has it.
#[derive(Clone, Debug)]
pub struct PalaciosRam {
    list: PathBuf,
    /// What was given as RAM: the VM's device, or the memory that its regions lie in.
    memory: PathBuf,
    source: PathBuf,
    regions: RegionMap,
}

impl PalaciosRam {
    /// Reads `list` for the VM whose device `memory` is; its RAM lies in the host's memory then.
    /// Where it is no VM's device, the only VM is meant, and its RAM lies in `memory`.
    pub fn read(list: &Path, memory: &Path) -> Result<Self, PalaciosError> {
        let vms = parse(list, &text(list)?)?;
        let (vm, source) = match vms.iter().find(|vm| Path::new(&vm.device) == memory) {
            Some(vm) => (vm, Path::new(HOST_MEMORY)),
            None => (only(list, &vms)?, memory),
        };
        let regions = vm.regions(list)?;
        let (list, memory, source) = (list.to_owned(), memory.to_owned(), source.to_owned());
        Ok(Self { list, memory, source, regions })
    }

    /// The file or device that the regions lie in.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The regions.
    pub fn layout(&self) -> Layout {
        Layout::Regions(self.regions.clone())
    }

    /// Reads the list again: an error unless RAM is where it was.
    pub fn still_holds(&self) -> Result<(), PalaciosError> {
        let now = Self::read(&self.list, &self.memory)?;
        let same = now.regions == self.regions && now.source == self.source;
        if same { Ok(()) } else { Err(PalaciosError::Moved) }
    }
}

/// What the list says of one VM.
struct Vm {
    device: String,
    /// How many regions the VM has, and how many are shown.
    counts: (u64, u64),
    blocks: Vec<Block>,
}

struct Block {
    region: Region,
    swapped: bool,
}

impl Vm {
    /// Its regions, where all are there and can be.
    fn regions(&self, list: &Path) -> Result<RegionMap, PalaciosError> {
        let (list, device) = (list.to_owned(), self.device.clone());
        let ((all, shown), listed) = (self.counts, self.blocks.len() as u64);
        if all != shown || shown != listed {
            return Err(PalaciosError::Incomplete { list, device, all, shown, listed });
        }
        if let Some(block) = self.blocks.iter().find(|block| block.swapped) {
            return Err(PalaciosError::Swapped { list, device, gpa: block.region.gpa });
        }
        if self.blocks.is_empty() {
            return Err(PalaciosError::NoRegions { list, device });
        }
        let regions = RegionMap::new(self.blocks.iter().map(|block| block.region).collect());
        regions.map_err(|source| PalaciosError::BadRegions { list, device, source })
    }
}

fn only<'a>(list: &Path, vms: &'a [Vm]) -> Result<&'a Vm, PalaciosError> {
    let list = list.to_owned();
    match vms {
        [] => Err(PalaciosError::NoVm(list)),
        [only] => Ok(only),
        several => {
            let devices = several.iter().map(|vm| vm.device.clone()).collect();
            Err(PalaciosError::SeveralVms { list, devices })
        }
    }
}

fn text(list: &Path) -> Result<String, PalaciosError> {
    let unreadable = |source| PalaciosError::Unreadable { list: list.to_owned(), source };
    // The kind first: opening a FIFO would block.
    let is_file = std::fs::metadata(list).map_err(unreadable)?.is_file();
    let mut bytes = Vec::new();
    if is_file {
        // Files of /proc do not tell their length.
        let file = File::open(list).map_err(unreadable)?;
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if !is_file || bytes.len() as u64 > LIMIT {
        return Err(PalaciosError::NotAList(list.to_owned()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The VMs of a list. Lines of other kinds are passed over.
fn parse(list: &Path, text: &str) -> Result<Vec<Vm>, PalaciosError> {
    let mut vms = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let damaged = || PalaciosError::Damaged { list: list.to_owned(), line: index + 1 };
        take(line.trim(), &mut vms).ok_or_else(damaged)?;
    }
    Ok(vms)
}

/// Adds what `line` says; `None` where it cannot be.
fn take(line: &str, vms: &mut Vec<Vm>) -> Option<()> {
    if let Some(device) = line.strip_prefix("Device:") {
        // It will be shown: nothing in it may reach the terminal as it is.
        let device = device.trim().escape_default().to_string();
        vms.push(Vm { device, counts: (0, 0), blocks: Vec::new() });
    } else if let Some(counts) = line.strip_prefix("Regions:") {
        vms.last_mut()?.counts = parse_counts(counts)?;
    } else if line.split_whitespace().next() == Some("region") {
        vms.last_mut()?.blocks.push(parse_block(line)?);
    }
    Some(())
}

/// `2 (2 shown)`.
fn parse_counts(text: &str) -> Option<(u64, u64)> {
    match words(text).as_slice() {
        [all, shown, "shown"] => Some((all.parse().ok()?, shown.parse().ok()?)),
        _ => None,
    }
}

/// `region I has HPAs 0xA-0xB (node n) GPA 0xG swapped pinned`, B exclusive, the marks where they
/// hold.
fn parse_block(line: &str) -> Option<Block> {
    let words = words(line);
    let ["region", _, "has", "HPAs", start, end, "node", _, "GPA", gpa, marks @ ..] =
        words.as_slice()
    else {
        return None;
    };
    let (start, end, gpa) = (address(start)?, address(end)?, address(gpa)?);
    let length = end.checked_sub(start).filter(|length| *length > 0)?;
    let known = marks.iter().all(|mark| matches!(*mark, "swapped" | "pinned"));
    let region = Region { gpa: Gpa(gpa), length, source: 0, offset: start };
    known.then(|| Block { region, swapped: marks.contains(&"swapped") })
}

/// What stands between blanks, hyphens, parentheses and brackets.
fn words(text: &str) -> Vec<&str> {
    let between = |letter: char| letter.is_whitespace() || "-()[]".contains(letter);
    text.split(between).filter(|word| !word.is_empty()).collect()
}

/// The address of a page, in hexadecimal.
fn address(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, 16).ok().filter(|address| address.is_multiple_of(PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "/dev/v3-vm0";
    /// As Palacios prints it.
    const ONE: &str = "\
---------------------------------------------------------------------------------
Entry:        0
Name:         region of \u{1b}[2Jmine
Device:       /dev/v3-vm0
Type:         general
State:        running
Cores:        1 (1 shown)
Regions:      2 (2 shown)
Memsize:      268435456 (0 ROS)

Core States
   vcore 0 running on pcore 1 7 exits rip=0x0 long nested physical

Memory Regions
   region 0 has HPAs 0x0000000108000000-0x0000000110000000 (node 0) GPA 0x0000000000000000  pinned
   region 1 has HPAs 0x0000000100000000-0x0000000108000000 (node -1) GPA 0x0000000008000000  \n";

    /// What `text` says of the VM that `memory` names.
    fn read(text: &str, memory: &str) -> Result<PalaciosRam, PalaciosError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        PalaciosRam::read(file.path(), Path::new(memory))
    }

    fn regions() -> RegionMap {
        let block = |gpa, offset| Region { gpa: Gpa(gpa), length: 128 << 20, source: 0, offset };
        RegionMap::new(vec![block(0, 0x1_0800_0000), block(0x800_0000, 0x1_0000_0000)]).unwrap()
    }

    fn complaint(text: &str, memory: &str) -> String {
        read(text, memory).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_regions_of_a_vm() {
        let named = read(ONE, DEVICE).unwrap();
        assert_eq!((named.source(), &named.regions), (Path::new("/dev/mem"), &regions()));
        let only = read(ONE, "/dev/physical").unwrap();
        assert_eq!((only.source(), &only.regions), (Path::new("/dev/physical"), &regions()));
    }

    #[test]
    fn blanks_and_brackets_vary() {
        let text = "Device:/dev/v3-vm0\r\n\tRegions:\t2(2 shown)\n\
                    region 0  has HPAs 0x108000000 - 0x110000000 ( node 0 ) GPA 0x0 [pinned]\n\
                    region 1 has HPAs 0x100000000-0x108000000(node 0)  GPA  0x8000000";
        assert_eq!(read(text, DEVICE).unwrap().regions, regions());
    }

    #[test]
    fn several_vms_ask_for_a_choice() {
        let two = format!("{}{ONE}", ONE.replace("vm0", "vm1").replace("GPA 0x00", "GPA 0x10"));
        assert_eq!(read(&two, DEVICE).unwrap().regions, regions());
        let complaint = complaint(&two, "/dev/mem");
        assert!(complaint.contains("-m one of: /dev/v3-vm1, /dev/v3-vm0"), "{complaint}");
        // What is wrong with another VM is none of ours.
        let other = two.replacen("pinned", "swapped", 1);
        assert_eq!(read(&other, DEVICE).unwrap().regions, regions());
    }

    #[test]
    fn what_is_not_usable_now_says_so() {
        for (from, to, tells) in [
            ("pinned", "swapped pinned", "swapped"),
            ("pinned", "[swapped]", "swapped"),
            ("2 (2 shown)", "3 (2 shown)", "lists 2 regions of /dev/v3-vm0, which has 3 (2 shown)"),
            ("2 (2 shown)", "3 (3 shown)", "lists 2 regions"),
        ] {
            let complaint = complaint(&ONE.replace(from, to), DEVICE);
            assert!(complaint.contains(tells) && complaint.contains("try again"), "{complaint}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (from, to, tells) in [
            ("0x0000000110000000", "0x0000000108000000", "line 15"),
            ("0x0000000110000000", "0x0000000110000001", "line 15"),
            ("0x0000000110000000", "0x+000000110000000", "line 15"),
            ("0x0000000110000000", "0x11111111110000000", "line 15"),
            ("GPA 0x0000000008000000", "", "line 16"),
            ("GPA 0x0000000008000000", "GPA 0x0000000008000800", "line 16"),
            ("GPA 0x0000000008000000", "GPA 0x0000000007fff000", "overlaps"),
            ("GPA 0x0000000008000000", "GPA 0xfffffffffffff000", "wraps"),
            ("pinned", "lost", "line 15"),
            ("2 (2 shown)", "two", "line 8"),
            ("Device:", "Machine:", "line 8"),
        ] {
            let complaint = complaint(&ONE.replace(from, to), DEVICE);
            assert!(complaint.contains(tells), "{to}: {complaint}");
        }
        assert!(complaint("", DEVICE).contains("lists no VM"));
        assert!(complaint("Device: /dev/v3-vm0\n", DEVICE).contains("no regions"));
        let shown = complaint("Device: a\nDevice: \u{1b}[2J\n", DEVICE);
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn a_list_that_is_cut_off_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // The blanks at its end do not count.
        for length in 0..ONE.trim_end().len() {
            std::fs::write(file.path(), &ONE.as_bytes()[..length]).unwrap();
            let read = PalaciosRam::read(file.path(), Path::new(DEVICE));
            assert!(read.is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let read = |list: &str| PalaciosRam::read(Path::new(list), Path::new(DEVICE));
        assert!(matches!(read("/no/such/list"), Err(PalaciosError::Unreadable { .. })));
        assert!(matches!(read("/dev/zero"), Err(PalaciosError::NotAList(_))));
        let long = tempfile::NamedTempFile::new().unwrap();
        long.as_file().set_len(LIMIT + 1).unwrap();
        assert!(matches!(read(long.path().to_str().unwrap()), Err(PalaciosError::NotAList(_))));
    }

    #[test]
    fn blocks_that_move_are_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write(ONE);
        let ram = PalaciosRam::read(file.path(), Path::new(DEVICE)).unwrap();
        write(&ONE.replace("7 exits", "8 exits"));
        ram.still_holds().unwrap();
        let moved = ONE.replace("0x0000000108000000-0x000000011", "0x0000000208000000-0x000000021");
        write(&moved);
        assert!(matches!(ram.still_holds(), Err(PalaciosError::Moved)));
        write(&ONE.replace("pinned", "swapped"));
        assert!(matches!(ram.still_holds(), Err(PalaciosError::Swapped { .. })));
        // Another VM's device in its place: what was given means something else now.
        write(&ONE.replace("vm0", "vm1"));
        assert!(matches!(ram.still_holds(), Err(PalaciosError::Moved)));
        std::fs::remove_file(file.path()).unwrap();
        assert!(matches!(ram.still_holds(), Err(PalaciosError::Unreadable { .. })));
    }
}
