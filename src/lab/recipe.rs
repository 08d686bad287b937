//! How a guest is started whose RAM and state can be kept: QEMU's command line, but for what each
//! start has of its own.

use super::guest::{QEMU, QUIET};
use super::{Accel, LabError, Machine, host};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stands in a command line for the file that is the guest's RAM.
pub const RAM: &str = "{ram}";
const SHARE: &str = "{share}";
const INITRAMFS: &str = "{initramfs}";
const CONSOLE: &str = "{console}";

/// What starts the same machine each time.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// QEMU and its arguments.
    words: Vec<String>,
    folder: PathBuf,
    /// A file without a name, for QEMU to read at each start.
    initramfs: Option<Arc<File>>,
    /// Tells its processes from others.
    mark: String,
}

/// What a start has of its own.
pub struct Places<'p> {
    /// The file that is its RAM.
    pub ram: &'p str,
    /// Whether what is written to RAM is written to that file; else the machine keeps it to itself.
    pub share: bool,
    /// The file with what it boots from.
    pub initramfs: &'p str,
    /// Whether its console is QEMU's standard output; else what it prints is lost.
    pub console: bool,
}

impl Recipe {
    /// The machine of `machine`, run by `accel`, with `initramfs`; its processes bear `mark`.
    pub fn of_machine(
        machine: &Machine,
        accel: Accel,
        append: &str,
        initramfs: &[u8],
        mark: &str,
    ) -> Result<Self, LabError> {
        let (mib, kind) = (machine.ram_mib, machine.kind());
        let words = [
            format!("{QEMU} -nodefaults -no-user-config -display none"),
            format!("-accel {} -cpu max,la57=off -smp {}", accel.name(), machine.cpus),
            format!("-machine {kind},memory-backend=ram -m {mib}M"),
            format!("-object memory-backend-file,id=ram,size={mib}M,mem-path={RAM},share={SHARE}"),
            format!("-initrd {INITRAMFS} -chardev {CONSOLE},id=console -serial chardev:console"),
        ];
        let mut words: Vec<_> =
            words.iter().flat_map(|words| words.split(' ')).map(str::to_owned).collect();
        let kernel = machine.kernel.path.display().to_string();
        words.extend(["-kernel".to_owned(), kernel]);
        words.extend(["-append".to_owned(), format!("{QUIET} {append}")]);
        let initramfs = Some(Arc::new(unnamed("initramfs", initramfs)?));
        Ok(Self { words, folder: ".".into(), initramfs, mark: mark.to_owned() })
    }

    /// The machine that these `words` start in `folder`; [`RAM`] stands in them.
    pub fn of_command(words: &[String], folder: &Path, mark: &str) -> Self {
        let (words, folder) = (words.to_vec(), folder.to_owned());
        Self { words, folder, initramfs: None, mark: mark.to_owned() }
    }

    /// Where it is started.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it can keep what is written to RAM to itself.
    pub fn can_be_private(&self) -> bool {
        self.words.iter().any(|word| word.contains(SHARE))
    }

    /// Whether its console can be read.
    pub fn has_console(&self) -> bool {
        self.initramfs.is_some()
    }

    /// QEMU's program, as it is named.
    pub fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The same, as it is found in PATH.
    pub fn program_path(&self) -> PathBuf {
        let program = Path::new(self.program());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut all = std::env::split_paths(&path).map(|folder| folder.join(program));
        let named = program.components().count() == 1;
        all.find(|path| named && path.is_file()).unwrap_or(self.folder.join(program))
    }

    /// What it boots from.
    pub fn initramfs(&self) -> Option<&File> {
        self.initramfs.as_deref()
    }

    /// What is in its processes' command lines, and in no others.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// QEMU and its arguments, for one start.
    pub fn words(&self, places: &Places) -> Vec<String> {
        let console = if places.console { "stdio,signal=off" } else { "null" };
        let word = |word: &String| {
            word.replace(RAM, places.ram)
                .replace(SHARE, if places.share { "on" } else { "off" })
                .replace(INITRAMFS, places.initramfs)
                .replace(CONSOLE, console)
        };
        self.words.iter().map(word).collect()
    }
}

/// A file in memory without a name, which is gone when nobody has it open any more.
pub fn unnamed(what: &str, bytes: &[u8]) -> Result<File, LabError> {
    let failed = host("cannot make a file in memory");
    let file = memfd_create(what, MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(failed)?;
    Ok(file)
}
