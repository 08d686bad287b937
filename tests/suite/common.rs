//! What the tests share: the built files, guests, and `vmfi` run from outside.
use assert_cmd::Command;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use vmfi::lab::{Initramfs, LabGuest, Setup};

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
    for victim in ["hpccg", "holder", "holder-pie", "holder-noid"] {
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

/// Runs `vmfi` with nothing of our own environment, in an empty folder.
pub fn vmfi<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Ran {
    vmfi_in(tempfile::tempdir().unwrap().path(), &[], arguments)
}

/// Runs `vmfi` in `folder`, where `config` is the user's configuration folder, with nothing of our
/// own environment but these variables.
pub fn vmfi_in<I: AsRef<OsStr>>(
    folder: &Path,
    variables: &[(&str, &str)],
    arguments: impl IntoIterator<Item = I>,
) -> Ran {
    let mut command = Command::cargo_bin("vmfi").unwrap();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VMFI_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("XDG_CONFIG_HOME", folder.join("config"));
    let output = command.envs(variables.iter().copied()).args(arguments).output().unwrap();
    Ran {
        code: output.status.code().expect("vmfi was killed by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
