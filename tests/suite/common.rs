//! What the tests share: the built files, guests, and `vmfi` run from outside.
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use vmfi::lab::{Initramfs, LabGuest, Ram, Setup};

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file that `make` builds before the tests.
pub fn built(path: &str) -> PathBuf {
    let path = project("target").join(path);
    assert!(path.exists(), "{} is not there: run 'make test'", path.display());
    path
}

/// The guest kernels to test with: KERNEL where it is set, else those of two Debian releases.
pub fn kernels() -> Vec<PathBuf> {
    match std::env::var_os("KERNEL").filter(|path| !path.is_empty()) {
        Some(path) => vec![path.into()],
        None => {
            ["bookworm", "trixie"].map(|suite| built(&format!("kernels/{suite}/vmlinuz"))).to_vec()
        }
    }
}

/// The wrapper and the fixture victims, in the guest's root.
pub fn files() -> Initramfs {
    let mut files = Initramfs::with_busybox().unwrap();
    files.copy(&built("guest/wrapper"), "/wrapper").unwrap();
    for victim in ["hpccg", "holder", "holder-pie", "holder-noid", "iterations", "iterations-bare"]
    {
        files.copy(&built(&format!("fixtures/{victim}")), &format!("/{victim}")).unwrap();
    }
    files
}

/// A guest with [`files`].
pub fn boot(setup: &Setup) -> LabGuest {
    LabGuest::boot(setup, &files()).unwrap()
}

/// A copy of the /proc/kallsyms of the kernel at `kernel`, made once in a boot of its own: every
/// other boot has other slides.
pub fn system_map(kernel: &Path) -> PathBuf {
    let name = fs::canonicalize(kernel).unwrap().to_string_lossy().replace('/', "_");
    let size = fs::metadata(kernel).unwrap().len();
    let folder = project("target/system-maps");
    fs::create_dir_all(&folder).unwrap();
    let map = folder.join(format!("{name}-{size}"));
    let lock = File::create(map.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !map.exists() {
        let part = map.with_extension("part");
        fs::write(&part, boot(&Setup::new(kernel)).copy_out("/proc/kallsyms").unwrap()).unwrap();
        fs::rename(&part, &map).unwrap();
    }
    map
}

/// What `vmfi` printed, and how it ended.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON, of a run that went well.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The one line of a run that must fail with `code`, having printed nothing else.
    pub fn fails_with(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "not one line: {}", self.stderr);
        self.stderr.trim_end()
    }
}

/// A guest, and what a user types to reach it.
pub struct Live {
    pub guest: LabGuest,
    /// What its RAM lies in.
    ram: Ram,
    /// A copy of its /proc/kallsyms. Without one, nothing is given but the guest's memory.
    pub map: Option<PathBuf>,
}

impl Live {
    pub fn new(setup: &Setup) -> Self {
        Self::with(setup, &files())
    }

    /// One with these files.
    pub fn with(setup: &Setup, files: &Initramfs) -> Self {
        Self { map: Some(system_map(&setup.kernel)), ..Self::booted(setup, files) }
    }

    /// One of which nothing is known but its memory.
    pub fn unknown(setup: &Setup) -> Self {
        Self::booted(setup, &files())
    }

    /// The same with these files.
    pub fn booted(setup: &Setup, files: &Initramfs) -> Self {
        Self { guest: LabGuest::boot(setup, files).unwrap(), ram: setup.ram, map: None }
    }

    pub fn map(&self) -> &Path {
        self.map.as_deref().unwrap()
    }

    pub fn vmfi(&self, arguments: &[&str]) -> Ran {
        match &self.map {
            Some(map) => self.vmfi_with_map(map, arguments),
            None => self.with_memory_alone(arguments),
        }
    }

    pub fn vmfi_with_map(&self, map: &Path, arguments: &[&str]) -> Ran {
        let fixtures = built("fixtures");
        let mut all = [arguments, &["--system-map", map.to_str().unwrap()]].concat();
        if matches!(arguments[0], "inject" | "read") && !arguments.contains(&"--victim") {
            all.extend(["--victim", fixtures.to_str().unwrap()]);
        }
        self.with_memory_alone(&all)
    }

    /// With nothing given but the guest's memory: its file, or the process that has it.
    pub fn with_memory_alone(&self, arguments: &[&str]) -> Ran {
        let (option, memory) = match self.ram {
            Ram::File => ("-m", self.guest.ram().to_str().unwrap().to_owned()),
            _ => ("--qemu", self.guest.qemu_pid().unwrap().to_string()),
        };
        vmfi([&[option, memory.as_str()], arguments].concat())
    }

    /// Whether words of its RAM are written atomically: where the host can map it too.
    pub fn atomic(&self) -> bool {
        matches!(self.ram, Ram::File | Ram::Memfd)
    }

    /// All of its RAM, where that is in a file.
    pub fn ram(&self) -> Vec<u8> {
        fs::read(self.guest.ram()).unwrap()
    }

    /// Where RAM has changed since it was `before`, which must be of a guest that is halted.
    pub fn changed_since(&self, before: &[u8]) -> Vec<u64> {
        let now = self.ram();
        assert_eq!(now.len(), before.len());
        (0..now.len()).filter(|&at| now[at] != before[at]).map(|at| at as u64).collect()
    }

    /// Starts `program` under the wrapper, waits for its first line, and gives the process ids of
    /// the wrapper and its child.
    pub fn start(&mut self, program: &str) -> (i64, i64) {
        let ready = "until [ $(wc -l </out) -ge 3 ]; do sleep 0.1; done; cat /out";
        // What another one printed is cleared before this one starts.
        let command = format!(": >/out; /wrapper {program} >/out 2>&1 & {ready}");
        let lines = self.guest.run(&command).unwrap();
        let number = |label: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(label));
            line.unwrap_or_else(|| panic!("no '{label}' in {lines:?}")).parse().unwrap()
        };
        (number("wrapper: pid "), number("wrapper: child "))
    }

    /// The victim's bytes at `gva` as the guest's own kernel reads them.
    pub fn guest_reads(&mut self, pid: i64, gva: u64, size: u64) -> String {
        let from = format!("if=/proc/{pid}/mem bs=1 skip=$(({gva})) count={size}");
        self.dump(&from)
    }

    /// The guest-physical address of `gva` by the guest's own pagemap.
    pub fn pagemap(&mut self, pid: i64, gva: u64) -> u64 {
        let entry =
            self.dump(&format!("if=/proc/{pid}/pagemap bs=8 skip=$(({gva} / 4096)) count=1"));
        let entry = u64::from_str_radix(&entry, 16).unwrap().swap_bytes();
        assert_eq!(entry >> 63, 1, "{gva:#x} is not present for the guest");
        (entry & ((1 << 55) - 1)) << 12 | gva & 0xfff
    }

    pub fn dump(&mut self, from: &str) -> String {
        let lines = self.guest.run(&format!("dd {from} 2>/dev/null | od -An -v -tx1")).unwrap();
        lines.concat().split_whitespace().collect()
    }
}

/// An address as JSON has it.
pub fn number(text: &Value) -> u64 {
    let digits = text.as_str().unwrap().strip_prefix("0x").unwrap();
    u64::from_str_radix(digits, 16).unwrap()
}

/// Runs `vmfi` with nothing of our own environment, in an empty folder.
pub fn vmfi<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Ran {
    vmfi_in(tempfile::tempdir().unwrap().path(), &[], arguments)
}

/// Runs `vmfi` in `folder`, with nothing of our own environment but these variables.
pub fn vmfi_in<I: AsRef<OsStr>>(
    folder: &Path,
    variables: &[(&str, &str)],
    arguments: impl IntoIterator<Item = I>,
) -> Ran {
    let mut vmfi = Command::new(env!("CARGO_BIN_EXE_vmfi"));
    run(folder, vmfi.envs(variables.iter().copied()).args(arguments))
}

/// The same as if this were a host of its own: there, no other process is.
pub fn vmfi_alone<I: AsRef<OsStr>>(
    folder: &Path,
    variables: &[(&str, &str)],
    arguments: impl IntoIterator<Item = I>,
) -> Ran {
    let mut alone = alone();
    alone.arg(env!("CARGO_BIN_EXE_vmfi")).args(arguments);
    run(folder, alone.envs(variables.iter().copied()))
}

/// Runs the program that is added to it in a process namespace of its own, with a /proc of its own.
pub fn alone() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command
}

/// Runs `command` in `folder`, where `config` is the user's configuration folder, with nothing of
/// our own environment but what was set for it.
pub fn run(folder: &Path, command: &mut Command) -> Ran {
    let set: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("VMFI_") || name == "RUST_LOG";
        if ours && !set.contains(&name) {
            command.env_remove(name);
        }
    }
    for (name, own) in [("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")] {
        if !set.iter().any(|set| set == name) {
            command.env(name, folder.join(own));
        }
    }
    let output = command.current_dir(folder).output().unwrap();
    Ran {
        code: output.status.code().expect("vmfi was killed by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
