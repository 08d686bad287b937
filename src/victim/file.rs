//! Where the victim's program is had from: a file on the host, or the guest's own memory.

use super::{VictimError, VictimMemory};
use crate::process::cached_file;
use crate::symbols::ElfFile;
use std::path::{Path, PathBuf};

/// The program of `memory`, which the guest knows as `exe`: the file `given`, or in the folder
/// `given`; else as the guest has it in its page cache; else in the current folder. That a file is
/// the same program is proved later, so one of the right name is enough.
pub fn find(
    given: Option<&Path>,
    memory: &VictimMemory,
    exe: &str,
) -> Result<ElfFile, VictimError> {
    match given {
        Some(path) if !path.is_dir() => Ok(ElfFile::read(path)?),
        Some(folder) => in_folder(folder, exe, String::new()),
        None => match of_guest(memory, exe)? {
            Ok(program) => Ok(program),
            Err(why) => in_folder(Path::new("."), exe, why),
        },
    }
}

/// The program from the guest's page cache, or why it does not serve.
fn of_guest(memory: &VictimMemory, exe: &str) -> Result<Result<ElfFile, String>, VictimError> {
    let file = match cached_file(memory.guest, memory.program()?) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Err("; it is too large to be read from the guest, or the layouts do not tell of the page cache".to_owned())),
        Err(error) => return Ok(Err(format!("; {error}"))),
    };
    let (pages, missing) = (file.bytes.len().div_ceil(super::PAGE as usize), file.missing);
    if missing > 0 {
        return Ok(Err(format!("; {missing} of its {pages} pages are not in the guest's memory")));
    }
    Ok(match ElfFile::parse(&PathBuf::from(format!("the guest's {exe}")), file.bytes) {
        Ok(program) if program.stripped() => Err("; the guest's is stripped".to_owned()),
        Ok(program) => Ok(program),
        Err(error) => Err(format!("; {error}")),
    })
}

fn in_folder(folder: &Path, exe: &str, why: String) -> Result<ElfFile, VictimError> {
    let looked_at = places(folder, exe);
    match looked_at.iter().find(|path| path.is_file()) {
        Some(path) => Ok(ElfFile::read(path)?),
        None => Err(VictimError::NoFile { exe: exe.to_owned(), why, looked_at }),
    }
}

/// The program by its whole path below `folder`, as in a copy of the guest's root, and by its
/// name alone.
fn places(folder: &Path, exe: &str) -> Vec<PathBuf> {
    let within = folder.join(exe.trim_start_matches('/'));
    let name = Path::new(exe).file_name().map(|name| folder.join(name));
    let mut places: Vec<_> = name.into_iter().chain([within]).collect();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_a_folder_by_name_and_by_path() {
        let own = std::env::current_exe().unwrap();
        let (folder, name) = (own.parent().unwrap(), own.file_name().unwrap());
        let find = |folder: &Path, exe: &str| in_folder(folder, exe, String::new()).unwrap();
        let exe = format!("/opt/app/{}", name.to_str().unwrap());
        assert_eq!(find(folder, &exe).path(), own);
        assert_eq!(find(Path::new("/"), own.to_str().unwrap()).path(), own);
    }

    #[test]
    fn says_where_it_looked_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = in_folder(folder.path(), "/bin/app", "; it is not there".to_owned());
        let error = error.err().unwrap().to_string();
        for word in ["--victim", "/bin/app", "not there", folder.path().to_str().unwrap()] {
            assert!(error.contains(word), "{error}");
        }
    }
}
