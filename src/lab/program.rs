//! A program of the host, taken into a guest as it is: with its loader and libraries, the files that
//! it needs and the folder that it starts in, each where the host has it.

use super::{Initramfs, LabError, host, kit};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Where the launcher is in the guest. What it is called is the marker in the task list.
const WRAPPER: &str = "/vmfi/wrapper";
/// As <elf.h> has it.
const EM_X86_64: u8 = 62;
const ELF_HEADER: usize = 20;

/// A program that cannot run in a guest.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is in no folder of PATH.
    #[error("no program '{0}' in PATH")]
    NotInPath(String),
    /// It is not where it should be.
    #[error("cannot run {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not what a guest runs.
    #[error("cannot run {path}: {why}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A library of it is not on the host.
    #[error(
        "cannot run {program}: its library {library} is not found; install it, or set LD_LIBRARY_PATH"
    )]
    NoLibrary {
        /// The program.
        program: PathBuf,
        /// The library's name.
        library: String,
    },
}

/// A program, and the guest's files round it.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    folder: PathBuf,
    files: Initramfs,
}

impl Program {
    /// `app` is a path, or a name that is looked up in PATH. The files and folders of `add` come with
    /// it. The launcher does too.
    pub fn new(app: &Path, add: &[PathBuf]) -> Result<Self, LabError> {
        let folder = std::env::current_dir().map_err(host("cannot tell the current folder"))?;
        Self::in_folder(app, add, &folder)
    }

    /// The same, started in `folder`.
    pub fn in_folder(app: &Path, add: &[PathBuf], folder: &Path) -> Result<Self, LabError> {
        let path = find(app)?;
        check(&path)?;
        let own = |source| LabError::Unreadable { path: folder.to_owned(), source };
        let folder = folder.canonicalize().map_err(own)?;
        let mut files = Initramfs::with_busybox()?;
        files.copy(&kit::wrapper()?, WRAPPER)?.folder(&folder);
        files.copy_with_libraries(&path, text(&path)?)?;
        for path in add {
            add_all(&mut files, &plain(&folder.join(path)), &mut Vec::new())?;
        }
        Ok(Self { path, folder, files })
    }

    /// Where it is, on the host and in the guest.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The guest's files.
    pub fn files(&self) -> &Initramfs {
        &self.files
    }

    /// A line of shell that starts it under the launcher, in its folder. The words of `before` stand
    /// between both: options of the launcher, or what starts the program in its turn.
    pub fn line<T: AsRef<OsStr>>(&self, before: &[&str], arguments: &[T]) -> Vec<u8> {
        let before = before.iter().map(OsStr::new);
        let words = before.chain([self.path.as_os_str()]).chain(arguments.iter().map(T::as_ref));
        let mut line = [b"cd ", quoted(self.folder.as_os_str()).as_slice(), b" && "].concat();
        line.extend(WRAPPER.as_bytes());
        for word in words {
            line.push(b' ');
            line.extend(quoted(word));
        }
        line
    }
}

/// `word` as a shell takes it, whatever is in it.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// The file that a shell would run.
fn find(app: &Path) -> Result<PathBuf, ProgramError> {
    let found = if app.as_os_str().as_bytes().contains(&b'/') {
        app.to_owned()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut all = std::env::split_paths(&path).map(|folder| folder.join(app));
        let missing = || ProgramError::NotInPath(app.display().to_string());
        all.find(|path| is_executable(path)).ok_or_else(missing)?
    };
    found.canonicalize().map_err(|source| ProgramError::Unreadable { path: found, source })
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// That a guest can run the file at `path`.
fn check(path: &Path) -> Result<(), ProgramError> {
    let unfit = |why| Err(ProgramError::Unfit { path: path.to_owned(), why });
    if !is_executable(path) {
        return unfit("it is not an executable file");
    }
    let unreadable = |source| ProgramError::Unreadable { path: path.to_owned(), source };
    let mut start = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(ELF_HEADER as u64).read_to_end(&mut start).map_err(unreadable)?;
    match start[..] {
        [0x7f, b'E', b'L', b'F', 2, 1, .., EM_X86_64, 0] if start.len() == ELF_HEADER => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] => unfit("it is for another machine; guests are x86-64"),
        [b'#', b'!', ..] => {
            unfit("it is a script; give its interpreter, and the script with --add")
        }
        _ => unfit("it is not an ELF file"),
    }
}

/// Adds the file or the folder at `path`, with all that is in it. What links lead to comes in their
/// place; `above` are the folders on the way, so that one that leads back ends.
fn add_all(files: &mut Initramfs, path: &Path, above: &mut Vec<PathBuf>) -> Result<(), LabError> {
    let unreadable = |source| LabError::Unreadable { path: path.to_owned(), source };
    let known = fs::metadata(path).map_err(unreadable)?;
    if known.is_file() {
        files.copy(path, text(path)?)?;
        return Ok(());
    }
    if !known.is_dir() {
        return Err(LabError::NotAFile(path.to_owned()));
    }
    let real = path.canonicalize().map_err(unreadable)?;
    if above.contains(&real) {
        return Ok(());
    }
    files.folder(path);
    above.push(real);
    for entry in fs::read_dir(path).map_err(unreadable)? {
        add_all(files, &entry.map_err(unreadable)?.path(), above)?;
    }
    above.pop();
    Ok(())
}

/// `path` without `.` and `..`.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            component => plain.push(component),
        }
    }
    plain
}

fn text(path: &Path) -> Result<&str, LabError> {
    path.to_str().ok_or_else(|| LabError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_any_word_as_it_is() {
        for word in ["", "plain", "a b", "it's", "\"$HOME\" `id` \\", "two\nlines", "''", "*"] {
            let script = [b"printf %s ", quoted(OsStr::new(word)).as_slice()].concat();
            let words = [OsStr::new("-c"), OsStr::from_bytes(&script)];
            let output = std::process::Command::new("sh").args(words).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(plain(Path::new("/a/./b/../c/")), Path::new("/a/c"));
        assert_eq!(plain(Path::new("/../a")), Path::new("/a"));
    }

    #[test]
    fn folders_that_lead_back_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/input"), "text").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("inner/back")).unwrap();
        std::os::unix::fs::symlink("inner/input", folder.path().join("link")).unwrap();
        let mut files = Initramfs::with_busybox().unwrap();
        add_all(&mut files, folder.path(), &mut Vec::new()).unwrap();
        let archive = files.build().unwrap();
        let named = |name: &str| memchr::memmem::find_iter(&archive, name).count();
        let found = ["/inner/input\0", "/link\0", "/inner/back\0"].map(named);
        assert_eq!(found, [1, 1, 0]);
    }

    #[test]
    fn tells_what_cannot_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let why = |bytes: &[u8], mode: u32| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            check(&path).unwrap_err().to_string()
        };
        assert!(why(b"\x7fELF", 0o644).contains("not an executable file"));
        assert!(why(b"\x7fELF\x02\x01", 0o755).contains("another machine"));
        assert!(why(b"#!/bin/sh\n", 0o755).contains("interpreter"));
        assert!(why(b"", 0o755).contains("not an ELF file"));
        assert!(find(Path::new("vmfi-no-such-program")).unwrap_err().to_string().contains("PATH"));
        assert_eq!(find(Path::new("sh")).unwrap(), Path::new("/bin/sh").canonicalize().unwrap());
    }
}
