//! One guest: booted, spoken to over its console, and gone with its handle.

use super::console::Console;
use super::{Accel, Initramfs, LabError, host};
use flate2::read::GzDecoder;
use memchr::memmem;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program that runs guests.
pub const QEMU: &str = "qemu-system-x86_64";
const QMP: &str = "qmp";
const PORT: &str = "ttyS1";
const DISK: &str = "disk";
/// The kernel's command line. It says nothing unless it dies, and then QEMU ends; its crypto code is
/// not tested, which is a fifth of a boot.
pub const QUIET: &str = "console=ttyS0 quiet loglevel=1 panic=-1 cryptomgr.notests";
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Begins the line that tells how a command ended.
const STATUS: &str = "vmfi-lab-end ";

/// Runs QEMU, ends it when it is told to, and removes its files. Standard input is kept aside, for
/// a shell gives none to what it runs in the background; and the shell says no word itself, for
/// with its owner gone nobody would read it.
const SUPERVISOR: &str = r#"
exec 3<&0
"$@" <&3 &
qemu=$!
exec 2>/dev/null
trap 'kill -KILL $qemu' TERM
wait $qemu
wait $qemu
rm -rf "$0"
"#;

/// What a guest's RAM lies in on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ram {
    /// A shared file, [`LabGuest::ram`].
    File,
    /// A shared file without a name.
    Memfd,
    /// QEMU's own memory, as it is where nothing is asked for.
    Private,
    /// QEMU's own memory, in two pieces of equal size, one for each of two NUMA nodes.
    TwoNodes,
    /// QEMU's own memory, and so many MiB more of it as a DIMM.
    WithDimm(u64),
}

/// How a guest is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The kernel image.
    pub kernel: PathBuf,
    /// MiB of RAM.
    pub ram_mib: u64,
    /// What it lies in.
    pub ram: Ram,
    /// Whether QEMU answers at the QMP socket [`LabGuest::qmp`].
    pub qmp: bool,
    /// CPUs.
    pub cpus: u32,
    /// QEMU's machine type, and more of it after a comma.
    pub machine: &'static str,
    /// Five-level page tables, where the kernel can.
    pub five_levels: bool,
    /// How QEMU runs it; found out where it is not told.
    pub accel: Option<Accel>,
    /// Whether the second serial port is read as it sends, and not a file.
    pub stream: bool,
    /// More words for the kernel's command line.
    pub append: String,
    /// How long a boot may take.
    pub boot_limit: Duration,
    /// Whether the guest outlives this process.
    pub outlives_us: bool,
    /// What an earlier guest left in RAM; QEMU does not clear it.
    pub earlier_ram: Option<PathBuf>,
    /// A file that the guest sees as the memory of a PCI device (1af4:1110), and its MiB.
    pub shared: Option<(PathBuf, u64)>,
    /// MiB of an empty disk, /dev/nvme0n1 in the guest: Debian's kernels need no module for that.
    pub disk_mib: Option<u64>,
}

impl Setup {
    /// 512 MiB and one CPU on q35, KASLR on.
    pub fn new(kernel: &Path) -> Self {
        Self {
            kernel: kernel.to_owned(),
            ram_mib: 512,
            ram: Ram::File,
            qmp: false,
            cpus: 1,
            machine: "q35",
            five_levels: true,
            accel: None,
            stream: false,
            append: String::new(),
            boot_limit: Duration::from_secs(120),
            outlives_us: false,
            earlier_ram: None,
            shared: None,
            disk_mib: None,
        }
    }
}

/// A running guest. Dropped, it is stopped, and its files are removed.
pub struct LabGuest {
    qemu: Child,
    stdin: ChildStdin,
    console: Console,
    stream: Option<Console>,
    folder: TempDir,
    accel: Accel,
}

impl LabGuest {
    /// Boots `setup` with `files` and waits until its console serves.
    pub fn boot(setup: &Setup, files: &Initramfs) -> Result<Self, LabError> {
        let mut guest = Self::start(setup, files)?;
        match guest.wait_for("vmfi-lab-ready", setup.boot_limit) {
            Ok(_) => Ok(guest),
            Err(error) => Err(guest.with_complaint(error)),
        }
    }

    /// Starts `setup` with `files` and does not wait for anything.
    pub fn start(setup: &Setup, files: &Initramfs) -> Result<Self, LabError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(QEMU).is_file()) {
            return Err(LabError::NoQemu(QEMU.to_owned()));
        }
        let accel = setup.accel.map_or_else(|| Accel::choose(&setup.kernel), Ok)?;
        let folder = folder(setup.ram_mib)?;
        let initramfs = folder.path().join("initramfs");
        std::fs::write(&initramfs, files.build()?).map_err(host("cannot write the initramfs"))?;
        if let Some(earlier) = &setup.earlier_ram {
            let copied = std::fs::copy(earlier, folder.path().join("ram"));
            copied.map_err(host("cannot copy the earlier guest's RAM"))?;
        }
        if let Some(mib) = setup.disk_mib {
            let disk = File::create(folder.path().join(DISK));
            let made = disk.and_then(|disk| disk.set_len(mib << 20));
            made.map_err(host("cannot make the guest's disk"))?;
        }
        let stream = setup.stream.then(|| stream(&folder.path().join(PORT))).transpose()?;
        let mut qemu = command(setup, folder.path(), accel)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(host("cannot start setsid"))?;
        let piped = || LabError::Ended("it has no console".to_owned());
        let stdin = qemu.stdin.take().ok_or_else(piped)?;
        let stdout = qemu.stdout.take().ok_or_else(piped)?;
        let console = Console::new(move || Ok(stdout));
        Ok(Self { qemu, stdin, console, stream, folder, accel })
    }

    /// The file that is the guest's RAM, where that is [in one](Ram::File).
    pub fn ram(&self) -> PathBuf {
        self.folder.path().join("ram")
    }

    /// The QMP socket, where there is one.
    pub fn qmp(&self) -> PathBuf {
        self.folder.path().join(QMP)
    }

    /// The process id of QEMU itself.
    pub fn qemu_pid(&self) -> Result<i32, LabError> {
        let supervisor = self.qemu.id();
        let children =
            std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
        let children = children.map_err(host("cannot look for QEMU's process"))?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        first.ok_or_else(|| LabError::Ended("it has no process".to_owned()))
    }

    /// The process group of QEMU on the host.
    pub fn process_group(&self) -> u32 {
        self.qemu.id()
    }

    /// Halts the whole VM, or lets it go on, by stopping its process.
    pub fn halt(&self, halted: bool) -> Result<(), LabError> {
        let signal = if halted { Signal::STOP } else { Signal::CONT };
        signal_group(self.process_group(), signal)
    }

    /// How QEMU runs it.
    pub fn accel(&self) -> Accel {
        self.accel
    }

    /// The console's lines up to and with the first that starts with `start`.
    pub fn wait_for(&mut self, start: &str, limit: Duration) -> Result<Vec<String>, LabError> {
        self.console.wait_for(start, limit, |line| line.starts_with(start))
    }

    /// What its console has printed, as it is.
    pub(super) fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// The same of its second serial port, where that is [a stream](Setup::stream).
    pub(super) fn stream(&mut self) -> Option<&mut Console> {
        self.stream.as_mut()
    }

    /// Runs a line of shell in the guest and gives what it printed; an error unless it succeeds.
    pub fn run(&mut self, command: &str) -> Result<Vec<String>, LabError> {
        let sent = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush());
        sent.map_err(host("cannot write to the guest's console"))?;
        let mut lines = self.wait_for(STATUS, COMMAND_LIMIT)?;
        let last = lines.pop().unwrap_or_default();
        let status = last.strip_prefix(STATUS).and_then(|status| status.parse().ok());
        match status {
            Some(0) => Ok(lines),
            status => Err(LabError::Command {
                command: command.to_owned(),
                status: status.unwrap_or(-1),
                output: lines.join(" | "),
            }),
        }
    }

    /// A copy of the guest's file `path`, through its second serial port.
    pub fn copy_out(&mut self, path: &str) -> Result<Vec<u8>, LabError> {
        let port = self.port();
        let from = std::fs::metadata(&port).map_or(0, |file| file.len()) as usize;
        self.run(&format!("stty raw -echo </dev/ttyS1 && gzip -1 -c {path} >/dev/ttyS1"))?;
        let deadline = Instant::now() + COMMAND_LIMIT;
        loop {
            // The port may still be sending: the archive's own checksum tells that it is whole.
            let sent = std::fs::read(&port).map_err(host("cannot read the second serial port"))?;
            let mut bytes = Vec::new();
            match GzDecoder::new(sent.get(from..).unwrap_or(&[])).read_to_end(&mut bytes) {
                Ok(_) => return Ok(bytes),
                Err(error) if Instant::now() > deadline => {
                    return Err(host("the second serial port sent no whole file")(error));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Lets a guest that [outlives us](Setup::outlives_us) run on, its files in place.
    pub fn detach(self) -> Detached {
        let group = self.qemu.id();
        let mut this = std::mem::ManuallyDrop::new(self);
        this.folder.disable_cleanup(true);
        Detached { group, folder: this.folder.path().to_owned() }
    }

    fn port(&self) -> PathBuf {
        self.folder.path().join(PORT)
    }

    /// Where QEMU has ended, with what it said on its way out.
    pub(super) fn with_complaint(&mut self, error: LabError) -> LabError {
        let LabError::Ended(tail) = error else { return error };
        let mut text = String::new();
        if let Some(mut stderr) = self.qemu.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        let words: Vec<_> = text.split_whitespace().collect();
        LabError::Ended(if words.is_empty() { tail } else { words.join(" ") })
    }
}

/// A guest that runs on by itself, until it ends or is [stopped](Detached::stop).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The process group of its QEMU.
    pub group: u32,
    /// Its files; removed when QEMU ends.
    pub folder: PathBuf,
}

impl Detached {
    /// The file that is the guest's RAM.
    pub fn ram(&self) -> PathBuf {
        self.folder.join("ram")
    }

    /// Stops it, if it still runs, and removes its files.
    pub fn stop(&self) -> Result<(), LabError> {
        // The number may be another's by now: only a process that names our folder is ours.
        let command = std::fs::read(format!("/proc/{}/cmdline", self.group)).unwrap_or_default();
        let ours = memmem::find(&command, self.folder.as_os_str().as_bytes()).is_some();
        if ours {
            signal_group(self.group, Signal::TERM)?;
        }
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(host("cannot remove the guest's files")(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for LabGuest {
    fn drop(&mut self) {
        // The supervisor ends QEMU and waits for it; a halted one must go on to hear of it.
        let _ = signal_group(self.process_group(), Signal::TERM);
        let _ = signal_group(self.process_group(), Signal::CONT);
        let _ = self.qemu.wait();
    }
}

fn signal_group(group: u32, signal: Signal) -> Result<(), LabError> {
    let group = i32::try_from(group).ok().and_then(Pid::from_raw);
    let sent = group.map_or(Ok(()), |group| kill_process_group(group, signal));
    sent.map_err(|error| host("cannot signal QEMU")(error.into()))
}

/// A second serial port that is read as it sends: opened by our thread and by QEMU, in any order.
fn stream(path: &Path) -> Result<Console, LabError> {
    let made = mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR);
    made.map_err(|error| host("cannot make a pipe for the guest's output")(error.into()))?;
    let path = path.to_owned();
    Ok(Console::new(move || File::open(path)))
}

/// RAM belongs into memory where there is enough, for a disk would be written all the time.
fn folder(ram_mib: u64) -> Result<TempDir, LabError> {
    let shm = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(shm)
        .map_or(0, |file_system| file_system.f_bavail.saturating_mul(file_system.f_frsize) >> 20);
    let base = if free > ram_mib { shm.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix("vmfi-lab-")
        .tempdir_in(base)
        .map_err(host("cannot make a folder for the guest"))
}

fn command(setup: &Setup, folder: &Path, accel: Accel) -> Command {
    let levels = if setup.five_levels { "" } else { ",la57=off" };
    // A session of its own: the terminal's Ctrl-C is not meant for it.
    let mut command = Command::new("setsid");
    if !setup.outlives_us {
        // However we end, it is told.
        command.args(["setpriv", "--pdeathsig", "TERM"]);
    }
    command.args(["sh", "-c", SUPERVISOR]).arg(folder).arg(QEMU);
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-accel", accel.name(), "-cpu", &format!("max{levels}")])
        .args(ram(setup, folder))
        .args(["-smp", &setup.cpus.to_string()])
        .arg("-kernel")
        .arg(&setup.kernel)
        .arg("-initrd")
        .arg(folder.join("initramfs"))
        .args(["-append", &format!("{QUIET} {}", setup.append)])
        .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
        .args(["-chardev", &format!("file,id=port,path={}", folder.join(PORT).display())])
        // Not every machine type has a second one of its own.
        .args(["-device", "isa-serial,index=1,chardev=port"]);
    if setup.qmp {
        let socket = folder.join(QMP);
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())]);
    }
    if let Some((file, mib)) = &setup.shared {
        let file = file.display();
        command
            .arg("-object")
            .arg(format!("memory-backend-file,id=shared,size={mib}M,mem-path={file},share=on"))
            .args(["-device", "ivshmem-plain,memdev=shared"]);
    }
    if setup.disk_mib.is_some() {
        let disk = folder.join(DISK);
        command
            .args(["-drive", &format!("if=none,id=disk,format=raw,file={}", disk.display())])
            .args(["-device", "nvme,drive=disk,serial=disk"]);
    }
    command
}

/// What tells QEMU of the machine and its RAM.
fn ram(setup: &Setup, folder: &Path) -> Vec<String> {
    let (machine, mib) = (setup.machine, setup.ram_mib);
    let file = folder.join("ram");
    let one = |kind: String| {
        let machine = format!("{machine},memory-backend=ram");
        let backend = format!("memory-backend-{kind},id=ram,size={mib}M,share=on");
        vec![
            "-machine".to_owned(),
            machine,
            "-m".to_owned(),
            format!("{mib}M"),
            "-object".to_owned(),
            backend,
        ]
    };
    let words = match setup.ram {
        Ram::File => return one(format!("file,mem-path={}", file.display())),
        Ram::Memfd => return one("memfd".to_owned()),
        Ram::Private => format!("-m {mib}M"),
        Ram::TwoNodes => {
            let half = mib / 2;
            let node = |id| {
                format!(
                    "-object memory-backend-ram,id=node{id},size={half}M -numa node,memdev=node{id}"
                )
            };
            format!("-m {mib}M {} {}", node(0), node(1))
        }
        Ram::WithDimm(more) => format!(
            "-m {mib}M,slots=1,maxmem={}M -object memory-backend-ram,id=more,size={more}M \
             -device pc-dimm,memdev=more",
            mib + more
        ),
    };
    ["-machine", machine].into_iter().chain(words.split(' ')).map(str::to_owned).collect()
}
