//! An initramfs, built in memory: busybox, an init script, and any files.

use super::{LabError, ProgramError, host};
use cpio::newc;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const EXECUTABLE: u32 = 0o100_755;
const BUSYBOX: &str = "/bin/busybox";
const FOLDER: u32 = 0o040_755;

/// Mounts what a program expects, runs the given lines, then serves commands from the console:
/// each line is run, and the line after its output gives its status. A shell of which a child ends
/// while it reads forgets the part of the line that it has: so another one reads, which has none.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty raw -echo
";
const SERVE: &str = r#"
echo vmfi-lab-ready
while line=$(IFS= read -r line && printf '%s' "$line"); do
    eval "$line" </dev/null
    echo "vmfi-lab-end $?"
done
"#;

/// The files of a guest.
#[derive(Clone, Debug)]
pub struct Initramfs {
    files: Vec<(PathBuf, Vec<u8>)>,
    folders: BTreeSet<PathBuf>,
    script: Vec<u8>,
    init: Option<Vec<u8>>,
}

impl Initramfs {
    /// With the host's static busybox and nothing else.
    pub fn with_busybox() -> Result<Self, LabError> {
        let mut new = Self::empty();
        let copied = new.copy(Path::new(BUSYBOX), BUSYBOX).map(drop);
        copied.map_err(|_| LabError::NoBusybox)?;
        Ok(new)
    }

    fn empty() -> Self {
        let folders = ["proc", "sys", "dev", "tmp"].map(PathBuf::from).into();
        Self { files: Vec::new(), folders, script: Vec::new(), init: None }
    }

    /// Adds the host's file `from` as the executable `to`.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<&mut Self, LabError> {
        let unreadable = |source| LabError::Unreadable { path: from.to_owned(), source };
        let bytes = std::fs::read(from).map_err(unreadable)?;
        let to = Path::new(to.trim_start_matches('/'));
        self.folders.extend(to.ancestors().skip(1).map(Path::to_owned));
        self.files.push((to.to_owned(), bytes));
        Ok(self)
    }

    /// Adds the empty folder `path`.
    pub fn folder(&mut self, path: &Path) -> &mut Self {
        let path = path.strip_prefix("/").unwrap_or(path);
        self.folders.extend(path.ancestors().map(Path::to_owned));
        self
    }

    /// Adds the host's program `from` as `to`, with the loader and the libraries that `ldd` tells of
    /// it: each where the host has it, but those beside the program beside it too.
    pub fn copy_with_libraries(&mut self, from: &Path, to: &str) -> Result<&mut Self, LabError> {
        let told = Command::new("ldd").arg(from).output().map_err(host("cannot run ldd"))?;
        let own = (from.parent(), Path::new(to).parent());
        let told = String::from_utf8_lossy(&told.stdout);
        if let Some(library) = missing(&told) {
            let (program, library) = (from.to_owned(), library.to_owned());
            return Err(ProgramError::NoLibrary { program, library }.into());
        }
        for library in libraries(&told) {
            let library = Path::new(library);
            let place = match (own, library.file_name()) {
                ((Some(beside), Some(folder)), Some(name)) if library.parent() == Some(beside) => {
                    folder.join(name)
                }
                _ => library.to_owned(),
            };
            let place = place.to_string_lossy();
            let there = Path::new(place.trim_start_matches('/'));
            if !self.files.iter().any(|(path, _)| path == there) {
                self.copy(library, &place)?;
            }
        }
        self.copy(from, to)
    }

    /// Adds lines of shell that run before the console is served.
    pub fn script(&mut self, lines: impl AsRef<[u8]>) -> &mut Self {
        self.script.extend(lines.as_ref());
        self.script.push(b'\n');
        self
    }

    /// Has `script` run in place of all that is said here: the first process, and all of them.
    pub fn init(&mut self, script: Vec<u8>) -> &mut Self {
        self.init = Some(script);
        self
    }

    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// The archive, as the kernel takes it.
    pub fn build(&self) -> Result<Vec<u8>, LabError> {
        self.archive().map_err(host("cannot build the initramfs"))
    }

    fn archive(&self) -> io::Result<Vec<u8>> {
        let mut archive = Vec::new();
        // Parents come first in their order. The root is there.
        for folder in self.folders.iter().filter(|path| **path != Path::new("")) {
            entry(&mut archive, folder, FOLDER, b"")?;
        }
        for (path, bytes) in &self.files {
            entry(&mut archive, path, EXECUTABLE, bytes)?;
        }
        let serving = || [INIT.as_bytes(), &self.script, SERVE.as_bytes()].concat();
        let init = self.init.clone().unwrap_or_else(serving);
        entry(&mut archive, Path::new("init"), EXECUTABLE, &init)?;
        newc::trailer(archive)
    }
}

/// The paths in what `ldd` prints: `NAME => PATH (ADDRESS)`, or of the loader `PATH (ADDRESS)`.
fn libraries(told: &str) -> impl Iterator<Item = &str> {
    told.lines().filter_map(|line| {
        let (place, _) = line.rsplit_once(" (")?;
        let path = place.rsplit(" => ").next()?.trim();
        path.starts_with('/').then_some(path)
    })
}

/// The first library that `ldd` did not find.
fn missing(told: &str) -> Option<&str> {
    told.lines().find_map(|line| Some(line.strip_suffix(" => not found")?.trim()))
}

fn entry(archive: &mut Vec<u8>, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let name = path.to_string_lossy();
    let length = u32::try_from(bytes.len());
    let length = length.map_err(|_| io::Error::other(format!("{name} has more than 4 GiB")))?;
    let mut writer = newc::Builder::new(&name).mode(mode).write(archive, length);
    writer.write_all(bytes)?;
    writer.finish().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ldd_prints() {
        let told = "\tlinux-vdso.so.1 (0x00007ffe1d5f2000)\n\
                    \tlibown.so.1 => /opt/my app/libown.so.1 (0x00007f1b)\n\
                    \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f1c)\n";
        let paths: Vec<_> = libraries(told).collect();
        assert_eq!(paths, ["/opt/my app/libown.so.1", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(missing(told), Some("libgone.so"));
        assert_eq!(libraries("\tnot a dynamic executable\n").count(), 0);
    }

    #[test]
    fn folders_come_before_their_files() {
        let mut files = Initramfs::empty();
        let own = std::env::current_exe().unwrap();
        files.copy(&own, "/opt/app/victim").unwrap().script("echo hello");
        let archive = files.build().unwrap();
        let mut names = Vec::new();
        let mut rest = archive.as_slice();
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
        let expected = ["dev", "opt", "opt/app", "proc", "sys", "tmp", "opt/app/victim", "init"];
        assert_eq!(names, expected);
    }
}
