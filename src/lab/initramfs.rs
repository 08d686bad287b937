//! An initramfs, built in memory: busybox, an init script, and any files.

use super::{LabError, host};
use cpio::newc;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const EXECUTABLE: u32 = 0o100_755;
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
    script: String,
}

impl Initramfs {
    /// With the host's static busybox and nothing else.
    pub fn with_busybox() -> Result<Self, LabError> {
        let mut new = Self { files: Vec::new(), script: String::new() };
        new.copy(Path::new("/bin/busybox"), "/bin/busybox")?;
        Ok(new)
    }

    /// Adds the host's file `from` as the executable `to`.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<&mut Self, LabError> {
        let unreadable = |source| LabError::Unreadable { path: from.to_owned(), source };
        let bytes = std::fs::read(from).map_err(unreadable)?;
        self.files.push((PathBuf::from(to.trim_start_matches('/')), bytes));
        Ok(self)
    }

    /// Adds the host's program `from` as `to`, with the loader and the libraries that `ldd` tells of
    /// it: each where the host has it, but those beside the program beside it too.
    pub fn copy_with_libraries(&mut self, from: &Path, to: &str) -> Result<&mut Self, LabError> {
        let told = Command::new("ldd").arg(from).output().map_err(host("cannot run ldd"))?;
        let own = (from.parent(), Path::new(to).parent());
        for library in libraries(&String::from_utf8_lossy(&told.stdout)) {
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
    pub fn script(&mut self, lines: &str) -> &mut Self {
        self.script.push_str(lines);
        self.script.push('\n');
        self
    }

    /// The archive, as the kernel takes it.
    pub fn build(&self) -> Result<Vec<u8>, LabError> {
        self.archive().map_err(host("cannot build the initramfs"))
    }

    fn archive(&self) -> io::Result<Vec<u8>> {
        let mut archive = Vec::new();
        for folder in self.folders() {
            entry(&mut archive, &folder, FOLDER, b"")?;
        }
        for (path, bytes) in &self.files {
            entry(&mut archive, path, EXECUTABLE, bytes)?;
        }
        let init = [INIT, &self.script, SERVE].concat();
        entry(&mut archive, Path::new("init"), EXECUTABLE, init.as_bytes())?;
        newc::trailer(archive)
    }

    /// Every folder that is needed, parents first.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.files.iter().flat_map(|(path, _)| path.ancestors().skip(1));
        let own = ["proc", "sys", "dev", "tmp"].iter().map(Path::new);
        files.chain(own).filter(|path| *path != Path::new("")).map(Path::to_owned).collect()
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

fn entry(archive: &mut Vec<u8>, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let name = path.to_string_lossy();
    let mut writer = newc::Builder::new(&name).mode(mode).write(archive, bytes.len() as u32);
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
        assert_eq!(libraries("\tnot a dynamic executable\n").count(), 0);
    }

    #[test]
    fn folders_come_before_their_files() {
        let mut files = Initramfs { files: Vec::new(), script: String::new() };
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
