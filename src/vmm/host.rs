//! A process of the host, as /proc shows it: whose it is, how it was started, what it has mapped.

use rustix::fs::OFlags;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the host shows its processes.
pub const PROC: &str = "/proc";
/// Bytes of a memory map that are looked at; real ones have some ten thousand.
const MAPS_LIMIT: u64 = 4 << 20;
/// Bytes of what tells of the CPUs that are looked at: all are alike, and the first has some 2000.
const CPUINFO_LIMIT: u64 = 4096;
/// Bytes of everything else; real command lines have some thousand.
const LIMIT: u64 = 256 << 10;
/// What a descriptor leads to that is a VM of KVM.
const KVM_VM: &str = "anon_inode:kvm-vm";
/// The most descriptors of a process that are looked at.
const MOST_DESCRIPTORS: usize = 4096;
/// Threads of a process that are looked at.
const MOST_THREADS: usize = 1024;
/// The field of `stat` that tells when the process was started (proc(5)), counted from the one
/// behind the name.
const START_FIELD: usize = 19;

/// How long this host has run.
pub fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What this host's CPU calls its model, fit for a terminal; `None` where it has no such name.
pub fn cpu_model() -> Option<String> {
    let bytes = read_up_to(&Path::new(PROC).join("cpuinfo"), CPUINFO_LIMIT).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, model) = lines.find(|(key, _)| key.trim() == "model name")?;
    Some(model.trim().escape_default().to_string())
}

/// Bytes of memory that can be had without swapping; as many as there could be, where nothing tells.
pub fn available_memory() -> u64 {
    let bytes = read_up_to(&Path::new(PROC).join("meminfo"), LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// A process, told from any later one that gets its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostProcess {
    folder: PathBuf,
    /// Its process id.
    pub pid: i32,
    /// When it was started, in the host's clock ticks since it was booted.
    started: u64,
}

impl HostProcess {
    /// The process `pid` of those in the folder `proc`.
    pub fn open(proc: &Path, pid: i32) -> io::Result<Self> {
        let folder = proc.join(pid.to_string());
        let started = started(&folder)?;
        Ok(Self { folder, pid, started })
    }

    /// Every process in the folder `proc`, by its number. One that is just ending may be left out.
    pub fn all(proc: &Path) -> Vec<Self> {
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut all: Vec<_> = pids.filter_map(|pid| Self::open(proc, pid).ok()).collect();
        all.sort_by_key(|process| process.pid);
        all
    }

    /// Where it has `file` mapped for itself, and keeps its changes: the address at which the file's
    /// first byte would be. None where it has not.
    pub fn own_copy_of(&self, file: &Metadata) -> Option<u64> {
        let own = |mapping: &&Mapping| !mapping.shared && mapping.file == FileId::of(file);
        let mappings = self.mappings().ok()?;
        let mapping = mappings.iter().find(own)?;
        mapping.addresses.start.checked_sub(mapping.offset)
    }

    /// Whether any of its threads runs on a CPU right now, or waits for one.
    pub fn wants_cpu(&self) -> bool {
        let threads = fs::read_dir(self.folder.join("task")).into_iter().flatten().flatten();
        threads.take(MOST_THREADS).any(|thread| {
            let stat = read(&thread.path().join("stat")).unwrap_or_default();
            let stat = String::from_utf8_lossy(&stat);
            stat.rsplit_once(')').is_some_and(|(_, fields)| fields.starts_with(" R"))
        })
    }

    /// Ends it at once.
    pub fn kill(&self) -> io::Result<()> {
        let pid = Pid::from_raw(self.pid).filter(|_| self.still_runs());
        Ok(kill_process(pid.ok_or(io::ErrorKind::NotFound)?, Signal::KILL)?)
    }

    /// Whether it still runs, and no other has its number.
    pub fn still_runs(&self) -> bool {
        started(&self.folder).is_ok_and(|started| started == self.started)
    }

    /// How long it has run.
    pub fn age(&self) -> Duration {
        let started =
            Duration::from_secs_f64(self.started as f64 / clock_ticks_per_second() as f64);
        uptime().saturating_sub(started)
    }

    /// Whether it has the file mapped that is `known` so, and shares it.
    pub fn shares(&self, known: &Metadata) -> bool {
        let of_file = |mapping: &Mapping| mapping.shared && mapping.file == FileId::of(known);
        self.mappings().is_ok_and(|mappings| mappings.iter().any(of_file))
    }

    /// Whether it runs a VM under KVM; `None` where its descriptors may not be looked at.
    pub fn uses_kvm(&self) -> Option<bool> {
        let descriptors = fs::read_dir(self.folder.join("fd")).ok()?.flatten();
        let mut leads_to =
            descriptors.take(MOST_DESCRIPTORS).map(|entry| fs::read_link(entry.path()));
        Some(leads_to.any(|to| to.is_ok_and(|to| to == Path::new(KVM_VM))))
    }

    /// How it was started, word by word.
    pub fn command_line(&self) -> io::Result<Vec<String>> {
        let bytes = read(&self.folder.join("cmdline"))?;
        let words = bytes.strip_suffix(&[0]).unwrap_or(&bytes).split(|byte| *byte == 0);
        Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    /// Its name.
    pub fn name(&self) -> String {
        let name = read(&self.folder.join("comm")).unwrap_or_default();
        String::from_utf8_lossy(&name).trim_end().to_owned()
    }

    /// The user it runs as.
    pub fn user(&self) -> Option<u32> {
        fs::metadata(&self.folder).ok().map(|folder| folder.uid())
    }

    /// `path` as the process means it: one that is relative starts at its own working directory.
    pub fn path(&self, path: &Path) -> PathBuf {
        if path.is_absolute() { path.to_owned() } else { self.folder.join("cwd").join(path) }
    }

    /// What it has mapped, by address.
    pub fn mappings(&self) -> io::Result<Vec<Mapping>> {
        let bytes = read_up_to(&self.folder.join("maps"), MAPS_LIMIT)?;
        Ok(Mapping::all(&String::from_utf8_lossy(&bytes)))
    }

    /// A path at which the file behind `mapping` opens, whatever its name is by now: through its
    /// own name, a descriptor of the process, or, with the right to, the mapping itself. None of
    /// these is trusted: whoever runs the process chooses what they lead to. Where a file system
    /// gives its files another device in memory maps (btrfs does), there is none.
    pub fn file_behind(&self, mapping: &Mapping) -> Option<PathBuf> {
        let Range { start, end } = mapping.addresses;
        let itself = self.folder.join(format!("map_files/{start:x}-{end:x}"));
        let same_name = |path: &PathBuf| {
            fs::read_link(path)
                .is_ok_and(|name| name.as_os_str().as_bytes() == mapping.name.as_bytes())
        };
        let descriptors = fs::read_dir(self.folder.join("fd")).into_iter().flatten().flatten();
        let descriptors = descriptors.take(MOST_DESCRIPTORS);
        let opens = |path: &PathBuf| {
            let pinned = PinnedFile::at(path, mapping.file);
            pinned.is_ok_and(|file| File::open(file.path()).is_ok())
        };
        [PathBuf::from(&mapping.name)]
            .into_iter()
            .chain(descriptors.map(|entry| entry.path()).filter(same_name))
            .chain([itself])
            .find(opens)
    }
}

/// What tells a file from every other one, as long as somebody has it open or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: (u64, u64),
    inode: u64,
}

impl FileId {
    /// Of the file that is `known` so.
    pub fn of(known: &Metadata) -> Self {
        let (major, minor) = (rustix::fs::major(known.dev()), rustix::fs::minor(known.dev()));
        Self { device: (major.into(), minor.into()), inode: known.ino() }
    }
}

/// A file that is held, neither read nor written yet: what a path leads to may be changed between
/// a look at it and its opening, what is held may not.
pub struct PinnedFile(File);

impl PinnedFile {
    /// The regular file at `path`, which must be `id`.
    pub fn at(path: &Path, id: FileId) -> io::Result<Self> {
        let flags = OFlags::PATH.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let known = file.metadata()?;
        if !known.is_file() || FileId::of(&known) != id {
            return Err(io::Error::other("by now another file is there than the VM has mapped"));
        }
        Ok(Self(file))
    }

    /// Where it opens as long as it is held.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// A run of addresses of a process, and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub addresses: Range<u64>,
    /// Whether the process may write there, and not run code.
    pub data: bool,
    /// Whether others see what is written there.
    pub shared: bool,
    /// Where in its file it starts.
    pub offset: u64,
    /// Its file, if it has one.
    pub file: FileId,
    /// The file's name, as it was when it was mapped; what the kernel calls it where it has none.
    pub name: String,
}

impl Mapping {
    /// Those that `maps` lists.
    pub fn all(maps: &str) -> Vec<Self> {
        maps.lines().filter_map(mapping).collect()
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.addresses.end - self.addresses.start
    }

    /// Whether a file is mapped.
    pub fn has_file(&self) -> bool {
        self.file.inode != 0
    }

    /// Whether it is nobody's file, stack or heap.
    pub fn is_anonymous(&self) -> bool {
        !self.has_file() && (self.name.is_empty() || self.name.starts_with("[anon"))
    }

    /// Whether `next` may be more of the same: the kernel keeps what is treated differently apart.
    pub fn goes_on_in(&self, next: &Self) -> bool {
        let same_kind = (self.data, self.shared, self.file) == (next.data, next.shared, next.file);
        let goes_on =
            !self.has_file() || self.offset.checked_add(self.length()) == Some(next.offset);
        let adjacent = self.addresses.end == next.addresses.start;
        adjacent && goes_on && same_kind && self.name == next.name
    }
}

/// A line of `maps` (proc(5)).
fn mapping(line: &str) -> Option<Mapping> {
    let (addresses, rest) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let addresses = number(start)?..number(end)?;
    let mut words = rest.splitn(5, ' ');
    let rights = words.next()?;
    let offset = number(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let device = (number(major)?, number(minor)?);
    let file = FileId { device, inode: words.next()?.parse().ok()? };
    let name = words.next().unwrap_or_default().trim_start().to_owned();
    let data = rights.starts_with("rw-");
    let shared = rights.ends_with('s');
    let whole = addresses.start < addresses.end;
    whole.then_some(Mapping { addresses, data, shared, offset, file, name })
}

/// When the process of `folder` was started. Its name may hold blanks and parentheses.
fn started(folder: &Path) -> io::Result<u64> {
    let stat = read(&folder.join("stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    // One that has ended and waits for its parent runs no more.
    let state = fields.next();
    let start = fields.nth(START_FIELD - 1).and_then(|field| field.parse().ok());
    start.filter(|_| !matches!(state, Some("Z" | "X"))).ok_or(io::ErrorKind::NotFound.into())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, LIMIT)
}

fn read_up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> HostProcess {
        HostProcess::open(Path::new(PROC), std::process::id() as i32).unwrap()
    }

    #[test]
    fn this_process_is_told_from_others() {
        let own = own();
        assert!(own.still_runs());
        assert!(!HostProcess { started: own.started + 1, ..own.clone() }.still_runs());
        assert!(HostProcess::all(Path::new(PROC)).contains(&own));
        assert_eq!(own.command_line().unwrap(), std::env::args().collect::<Vec<_>>());
        assert_eq!(own.path(Path::new("x")), own.folder.join("cwd/x"));
    }

    #[test]
    fn the_cpu_is_that_of_cpuinfo() {
        let all = fs::read_to_string("/proc/cpuinfo").unwrap();
        let told = cpu_model();
        assert_eq!(told.is_some(), all.contains("model name"));
        assert!(told.is_none_or(|model| !model.is_empty() && all.contains(&model)));
    }

    #[test]
    fn one_that_has_ended_runs_no_more() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let process = HostProcess::open(Path::new(PROC), child.id() as i32).unwrap();
        child.kill().unwrap();
        while process.still_runs() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!process.still_runs());
    }

    #[test]
    fn files_behind_mappings_are_found_without_a_name() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x5000).unwrap();
        let mapped = memmap2::MmapOptions::new().offset(0x1000).map_raw(&file).unwrap();
        let start = mapped.as_ptr() as u64;
        let all = own().mappings().unwrap();
        let mapping = all.iter().find(|mapping| mapping.addresses.start == start).unwrap();
        assert_eq!((mapping.length(), mapping.offset), (0x4000, 0x1000));
        assert!(mapping.shared && mapping.data && mapping.has_file());
        let path = own().file_behind(mapping).unwrap();
        assert_eq!(fs::metadata(path).unwrap().ino(), file.metadata().unwrap().ino());
    }

    #[test]
    fn only_the_file_that_is_mapped_is_pinned() {
        let folder = tempfile::tempdir().unwrap();
        let (mapped, other) = (folder.path().join("mapped"), folder.path().join("other"));
        fs::write(&mapped, "mapped").unwrap();
        fs::write(&other, "other").unwrap();
        let id = FileId::of(&fs::metadata(&mapped).unwrap());
        let pinned = PinnedFile::at(&mapped, id).unwrap();
        fs::rename(&other, &mapped).unwrap();
        assert_eq!(fs::read_to_string(pinned.path()).unwrap(), "mapped");
        assert!(PinnedFile::at(&mapped, id).is_err());
        let folder_id = FileId::of(&fs::metadata(folder.path()).unwrap());
        assert!(PinnedFile::at(folder.path(), folder_id).is_err());
    }

    #[test]
    fn lines_of_maps() {
        let line = "7f00-9f00 rw-s 00001000 00:1b 3061           /dev/shm/a b (deleted)";
        let shared = mapping(line).unwrap();
        assert_eq!((shared.addresses.clone(), shared.offset), (0x7f00..0x9f00, 0x1000));
        assert_eq!((shared.name.as_str(), shared.file.inode), ("/dev/shm/a b (deleted)", 3061));
        assert!(shared.data && shared.shared);
        let private = mapping("1000-2000 rw-p 00000000 00:00 0 ").unwrap();
        let next = mapping("2000-3000 rw-p 00000000 00:00 0 ").unwrap();
        assert!(private.is_anonymous() && private.goes_on_in(&next));
        assert!(!mapping("1000-2000 rw-p 00000000 00:00 0 [heap]").unwrap().is_anonymous());
        for bad in ["", "1-2", "2000-1000 rw-p 0 00:00 0", "x-y rw-p 0 00:00 0", "1-2 rw-p 0 00 0"]
        {
            assert_eq!(mapping(bad), None, "{bad}");
        }
    }
}
