//! Which file on the host is the victim's program.

use super::VictimError;
use crate::symbols::ElfFile;
use std::path::{Path, PathBuf};

/// The file for the guest's program `exe`: `given`, or in the folder `given`, or in the current
/// folder. That it is the same program is proved later, so a file of the right name is enough.
pub fn find(given: Option<&Path>, exe: &str) -> Result<ElfFile, VictimError> {
    let folder = match given {
        Some(path) if !path.is_dir() => return Ok(ElfFile::read(path)?),
        Some(folder) => folder,
        None => Path::new("."),
    };
    let looked_at = places(folder, exe);
    match looked_at.iter().find(|path| path.is_file()) {
        Some(path) => Ok(ElfFile::read(path)?),
        None => Err(VictimError::NoFile { exe: exe.to_owned(), looked_at }),
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
        let exe = format!("/opt/app/{}", name.to_str().unwrap());
        assert_eq!(find(Some(folder), &exe).unwrap().path(), own);
        assert_eq!(find(Some(&own), "/something/else").unwrap().path(), own);
        let by_path = own.to_str().unwrap();
        assert_eq!(find(Some(Path::new("/")), by_path).unwrap().path(), own);
    }

    #[test]
    fn says_where_it_looked() {
        let folder = tempfile::tempdir().unwrap();
        let error = find(Some(folder.path()), "/bin/app").err().unwrap().to_string();
        assert!(error.contains("--victim") && error.contains("/bin/app"), "{error}");
        assert!(find(Some(Path::new("/no/such/file")), "/bin/app").is_err());
    }
}
