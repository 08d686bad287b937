//! Where the victim's program is had from: a file on the host, or the guest's own memory.

use super::{VictimError, VictimMemory};
use crate::process::cached_file;
use crate::symbols::ElfFile;
use std::path::{Path, PathBuf};

/// The program of `memory`, which the guest knows as `exe`, as it has it in its page cache; where
/// that does not serve, from the current folder.
pub fn of_guest(memory: &VictimMemory, exe: &str) -> Result<ElfFile, VictimError> {
    from_page_cache(memory, exe).or_else(|why| find(Path::new("."), exe, why))
}

/// The guest's program `exe` from `folder`. That it is the same program is proved later, so a file
/// of the right name is enough.
pub fn in_folder(folder: &Path, exe: &str) -> Result<ElfFile, VictimError> {
    find(folder, exe, String::new())
}

/// The program from the guest's page cache, or why it does not serve.
fn from_page_cache(memory: &VictimMemory, exe: &str) -> Result<ElfFile, String> {
    let told = |error: &dyn ToString| format!("; {}", error.to_string());
    let program = memory.program().map_err(|error| told(&error))?;
    let file = cached_file(memory.guest, program).map_err(|error| told(&error))?;
    let file = file.ok_or("; the guest's is too large, or the layouts have no page cache")?;
    let (pages, missing) = (file.bytes.len().div_ceil(super::PAGE as usize), file.missing);
    if missing > 0 {
        return Err(format!("; {missing} of its {pages} pages are not in the guest's memory"));
    }
    let path = PathBuf::from(format!("the guest's {exe}"));
    let program = ElfFile::parse(&path, file.bytes).map_err(|error| told(&error))?;
    if program.stripped() { Err("; the guest's is stripped".to_owned()) } else { Ok(program) }
}

/// Finds `exe` in `folder`; where it is not there, `why` tells why it was looked for.
fn find(folder: &Path, exe: &str, why: String) -> Result<ElfFile, VictimError> {
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
        let find = |folder: &Path, exe: &str| in_folder(folder, exe).unwrap();
        let exe = format!("/opt/app/{}", name.to_str().unwrap());
        assert_eq!(find(folder, &exe).path(), own);
        assert_eq!(find(Path::new("/"), own.to_str().unwrap()).path(), own);
    }

    #[test]
    fn says_where_it_looked_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = find(folder.path(), "/bin/app", "; it is not there".to_owned());
        let error = error.err().unwrap().to_string();
        for word in ["--victim", "/bin/app", "not there", folder.path().to_str().unwrap()] {
            assert!(error.contains(word), "{error}");
        }
    }
}
