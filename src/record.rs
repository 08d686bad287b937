//! Injections on disk: a line of JSON for each, from which it can be done again, and undone.
//!
//! A line is the receipt and more: what is needed to find the same place again, and where it was.
//! docs/record.md says what each key means.

use crate::environment::Environment;
use crate::fault::{Fault, FaultError, Form, Model};
use crate::guest::Guest;
use crate::inject::{Hex, Prey, Receipt};
use crate::process::cpu_time;
use crate::site::Space;
use crate::when::{ConditionError, Event};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

/// What lines look like; another number, and they cannot be read.
const FORMAT: u32 = 1;
/// A line has no more bytes.
const LONGEST: u64 = 64 << 10;

/// A log that cannot be had, or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be opened.
    #[error("cannot open the log {path}: {source}; nothing was written")]
    Open {
        /// What was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no file.
    #[error("the log {0} is no file: lines are kept in one; nothing was written")]
    NoFile(PathBuf),
    /// There is no room for another line.
    #[error("no room for a line of the log {path}: {source}; nothing was written")]
    NoRoom {
        /// What was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line cannot be written, in spite of that.
    #[error("cannot write the log {path}: {source}")]
    Write {
        /// What was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read the log {path}: {source}")]
    Read {
        /// What was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It has no lines.
    #[error("the log {0} tells of no injection")]
    Empty(PathBuf),
    /// A line is none of ours.
    #[error("{path}, line {line}: {why}; give a log that 'vmfi inject --log' wrote")]
    NoEntry {
        /// What was given.
        path: PathBuf,
        /// Which line, from 1 on.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// A file that lines are appended to, by any number of processes at once.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens or creates the file at `path`. An error where no line could be written to it.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Open { path: path.to_owned(), source };
        let kind = std::fs::metadata(path).map(|found| found.is_file());
        if let Ok(false) = kind {
            return Err(RecordError::NoFile(path.to_owned()));
        }
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        let log = Self { path: path.to_owned(), file };
        log.reserve()?;
        Ok(log)
    }

    /// Makes sure that there is room for another line.
    pub fn reserve(&self) -> Result<(), RecordError> {
        let failed = |source| RecordError::NoRoom { path: self.path.clone(), source };
        self.room().map_err(failed)
    }

    fn room(&self) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        if getrlimit(Resource::Fsize).current.is_some_and(|most| end + LONGEST > most) {
            return Err(Errno::FBIG.into());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, end, LONGEST) {
            // Not every file system can: then what is free must do.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let free = statvfs(&self.path)?;
                let enough = free.f_bavail.saturating_mul(free.f_frsize) >= LONGEST;
                if enough { Ok(()) } else { Err(Errno::NOSPC.into()) }
            }
            done => Ok(done?),
        }
    }

    /// Appends `line` in one piece.
    fn append(&self, line: &str) -> Result<(), RecordError> {
        let write = || {
            // A write that appends is one piece on most file systems, but not on those of networks.
            flock(&self.file, FlockOperation::LockExclusive)?;
            let written = (&self.file).write_all(line.as_bytes());
            flock(&self.file, FlockOperation::Unlock)?;
            written
        };
        write().map_err(|source| RecordError::Write { path: self.path.clone(), source })
    }

    fn sync(&self) -> Result<(), RecordError> {
        let synced = self.file.sync_data();
        synced.map_err(|source| RecordError::Write { path: self.path.clone(), source })
    }
}

/// What writes the lines of one call.
pub struct Recorder<'r> {
    log: &'r Log,
    environment: Environment,
}

/// A line, as it is written.
#[derive(Serialize)]
struct Line<'l> {
    vmfi_log: u32,
    #[serde(flatten)]
    receipt: &'l Receipt,
    /// Which bits were kept, and which of the outcome toggled.
    keep: Hex,
    toggle: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    victim_started_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    victim_cpu_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    victim_build_id: Option<String>,
    #[serde(flatten)]
    environment: &'l Environment,
}

impl<'r> Recorder<'r> {
    /// One for injections into `guest`.
    pub fn new(log: &'r Log, guest: &Guest) -> Self {
        Self { log, environment: Environment::of(guest) }
    }

    /// Makes sure that there is room for another line.
    pub fn reserve(&self) -> Result<(), RecordError> {
        self.log.reserve()
    }

    /// Appends the line of what was injected into `prey`.
    pub fn add(&self, receipt: &Receipt, prey: &Prey) -> Result<(), RecordError> {
        let task = match prey.space {
            Space::Victim(memory) => Some(&memory.task),
            Space::Kernel(_) => None,
        };
        let used = task.and_then(|task| cpu_time(prey.space.guest(), task));
        let (keep, toggle) = receipt.change.parts();
        let line = Line {
            vmfi_log: FORMAT,
            receipt,
            keep: Hex(keep.to_vec()),
            toggle: Hex(toggle.to_vec()),
            victim_started_ns: task.map(|task| task.start_time),
            victim_cpu_ns: used.map(|used| used.as_nanos() as u64),
            victim_build_id: prey.victim.and_then(|victim| victim.build_id()),
            environment: &self.environment,
        };
        let text = serde_json::to_string(&line).map_err(io::Error::from);
        let failed = |source| RecordError::Write { path: self.log.path.clone(), source };
        self.log.append(&(text.map_err(failed)? + "\n"))
    }

    /// Has what was written reach the disk.
    pub fn end(self) -> Result<(), RecordError> {
        self.log.sync()
    }
}

/// A line, as far as it is needed to do the same again, or to undo it.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    vmfi_log: u32,
    /// The process id of the wrapper.
    pub pid: i32,
    /// The victim's; 0 for the kernel.
    pub victim_pid: i32,
    /// When that started, in ns on the guest's clock.
    pub victim_started_ns: Option<u64>,
    /// The target.
    pub symbol: String,
    /// Bytes from there on.
    pub offset: i64,
    /// Where that was.
    #[serde(deserialize_with = "address")]
    pub gva: u64,
    /// The fault model.
    pub fault: String,
    /// What was there.
    pub before: Hex,
    /// What was written.
    pub after: Hex,
    keep: Hex,
    toggle: Hex,
    /// What its place was drawn from, if it was.
    pub region: Option<String>,
    /// What fired it.
    pub trigger: Option<EntryTrigger>,
    /// When, on the host's monotonic clock.
    pub monotonic_ns: u64,
    /// Whether the VM was stopped meanwhile.
    #[serde(default)]
    pub paused: bool,
}

/// What fired an injection.
#[derive(Clone, Debug, Deserialize)]
pub struct EntryTrigger {
    /// What was waited for.
    pub when: String,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    let address = digits.and_then(Result::ok);
    address.ok_or_else(|| D::Error::custom(format!("'{text}' is no address")))
}

/// Every line of the log at `path`, `-` for standard input.
pub fn read(path: &Path) -> Result<Vec<Entry>, RecordError> {
    let failed = |source| RecordError::Read { path: path.to_owned(), source };
    let input: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(io::BufReader::new(File::open(path).map_err(failed)?)),
    };
    let mut entries = Vec::new();
    for (index, line) in input.lines().enumerate() {
        let line = line.map_err(failed)?;
        let none = |why| RecordError::NoEntry { path: path.to_owned(), line: index + 1, why };
        let entry: Entry = serde_json::from_str(&line).map_err(|why| none(mistake(&why)))?;
        entry.check().map_err(none)?;
        entries.push(entry);
    }
    match entries.is_empty() {
        true => Err(RecordError::Empty(path.to_owned())),
        false => Ok(entries),
    }
}

fn mistake(error: &serde_json::Error) -> String {
    if error.is_eof() { "it is cut short".to_owned() } else { error.to_string() }
}

impl Entry {
    /// Whether it is of the kernel itself.
    pub fn of_kernel(&self) -> bool {
        self.victim_pid == 0
    }

    /// What it waited for, if anything.
    pub fn event(&self) -> Result<Option<Event>, ConditionError> {
        self.trigger.as_ref().map(|trigger| trigger.when.parse()).transpose()
    }

    fn check(&self) -> Result<(), String> {
        let lengths = [&self.before, &self.after, &self.keep, &self.toggle].map(|hex| hex.0.len());
        if self.vmfi_log != FORMAT {
            return Err(format!("its format is {}, and this vmfi knows {FORMAT}", self.vmfi_log));
        }
        match lengths.iter().all(|length| *length == lengths[0]) && self.change().is_some() {
            true => Ok(()),
            false => Err("its bytes are of several lengths, or of none".to_owned()),
        }
    }

    fn change(&self) -> Option<Fault> {
        Fault::masks(0, self.keep.0.clone(), self.toggle.0.clone())
    }
}

/// The fault of an entry: the same bits, whatever is there now.
impl Model for Entry {
    fn change(&self, form: Form, _numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        Entry::change(self).ok_or(FaultError::TooLong(form.size))
    }

    fn draws(&self) -> bool {
        false
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn line() -> Value {
        json!({
            "vmfi_log": 1, "pid": 191, "victim_pid": 193, "victim_started_ns": 7, "symbol": "rtrans",
            "offset": 4, "gva": "0x4b1314", "fault": "flip 1", "before": "00ff", "after": "01ff",
            "keep": "ffff", "toggle": "0100", "monotonic_ns": 5, "more": "than is needed"
        })
    }

    fn entries(text: &str) -> Result<Vec<Entry>, RecordError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn lines_are_read() {
        let all = entries(&format!("{}\n{}\n", line(), line())).unwrap();
        assert_eq!((all.len(), all[1].gva, all[1].to_string()), (2, 0x4b1314, "flip 1".to_owned()));
        assert_eq!(all[0].change().unwrap().apply(&all[0].before.0), all[0].after.0);
        assert!(!all[0].of_kernel() && all[0].event().unwrap().is_none());
        assert!(matches!(entries(""), Err(RecordError::Empty(_))));
    }

    #[test]
    fn lines_that_are_none_are_told() {
        let fails = |key: &str, value: Value, part: &str| {
            let mut bad = line();
            bad[key] = value;
            let error = entries(&format!("{}\n{bad}\n", line())).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(part), "{error}");
        };
        fails("vmfi_log", json!(2), "its format is 2");
        fails("gva", json!("4b"), "is no address");
        fails("after", json!("01"), "several lengths");
        fails("keep", json!(""), "several lengths");
        fails("before", json!("0x"), "not hexadecimal");
        fails("pid", json!("one"), "invalid type");
        let cut = entries("{\"vmfi_log\"").unwrap_err().to_string();
        assert!(cut.contains("line 1: it is cut short"), "{cut}");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text: String) {
            let _ = entries(&text);
        }
    }

    #[test]
    fn lines_of_several_writers_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let log = Log::open(&path).unwrap();
                    (0..100).for_each(|_| log.append(&format!("{}\n", line())).unwrap());
                    log.sync().unwrap();
                });
            }
        });
        assert_eq!(read(&path).unwrap().len(), 400);
    }

    #[test]
    fn what_is_no_file_is_no_log() {
        let error = |path: &str| Log::open(Path::new(path)).unwrap_err();
        assert!(matches!(error("/dev/full"), RecordError::NoFile(_)));
        assert!(matches!(error("/"), RecordError::NoFile(_)));
        assert!(matches!(error("/nowhere/log"), RecordError::Open { .. }));
    }
}
