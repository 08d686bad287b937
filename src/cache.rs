//! What is remembered from one command to the next, in a folder of the user's own.
//!
//! A record is a hint and no more: whoever recalls one proves it against RAM, and finds out anew
//! where it does not hold. So whatever is wrong with the folder or a record (damaged, cut off,
//! another version's, somebody else's) counts as nothing remembered, in silence; `-v` tells.

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Records of a shelf; the oldest goes first.
const MOST_RECORDS: usize = 64;
/// Far more bytes than a record has.
const LONGEST_RECORD: u64 = 256 << 10;
/// Changes with what records hold.
const FORMAT: &str = concat!("vmfi ", env!("CARGO_PKG_VERSION"), " cache 5 ");

/// What kind of thing a record is of; a folder each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Kernels, by banner and build-id.
    Kernels,
    /// RAM sources: which guest was found in one last.
    Sources,
}

impl Shelf {
    const ALL: [Self; 2] = [Self::Kernels, Self::Sources];

    fn folder(self) -> &'static str {
        match self {
            Self::Kernels => "kernels",
            Self::Sources => "sources",
        }
    }
}

/// The user's memory, or none.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    recalls: bool,
}

impl Cache {
    /// Neither recalls nor remembers.
    pub fn none() -> Self {
        Self { folder: None, recalls: false }
    }

    /// The user's: `vmfi` in the folder that the XDG base directory specification names.
    pub fn of_user() -> Self {
        let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::home_dir().map(|home| home.join(".cache"));
        let folder = set.filter(|folder| folder.is_absolute()).or_else(home);
        folder.map_or_else(Self::none, |folder| Self::at(folder.join("vmfi")))
    }

    /// In `folder`.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder: Some(folder), recalls: true }
    }

    /// The same, which recalls nothing and remembers what is found out anew.
    pub fn afresh(self) -> Self {
        Self { recalls: false, ..self }
    }

    /// What was remembered of `name`.
    pub fn recall<T: DeserializeOwned>(&self, shelf: Shelf, name: &str) -> Option<T> {
        let path = self.shelf(shelf).filter(|_| self.recalls)?.join(file_name(name));
        let (own, value) = read(&path)?;
        (own == name).then_some(value)
    }

    /// The newest records of `shelf`, up to `most`, the newest first.
    pub fn latest<T: DeserializeOwned>(&self, shelf: Shelf, most: usize) -> Vec<T> {
        let folder = self.shelf(shelf).filter(|_| self.recalls);
        let records = folder.map(|folder| by_age(&folder)).unwrap_or_default();
        let newest = records.into_iter().rev().take(most);
        newest.filter_map(|path| read::<T>(&path)).map(|(_, value)| value).collect()
    }

    /// Remembers `value` of `name`, all of it or nothing.
    pub fn remember(&self, shelf: Shelf, name: &str, value: &impl Serialize) {
        let Some(folder) = self.shelf(shelf) else { return };
        let written = self.make_shelf(&folder).and_then(|()| write(&folder, name, value));
        if let Err(error) = written {
            log::debug!("nothing remembered in {}: {error}", folder.display());
        }
    }

    /// How many records `shelf` has.
    pub fn count(&self, shelf: Shelf) -> usize {
        self.shelf(shelf).map_or(0, |folder| by_age(&folder).len())
    }

    /// Forgets everything; gives how many records that were. What is no record stays.
    pub fn clear(&self) -> io::Result<usize> {
        let shelves = Shelf::ALL.iter().filter_map(|shelf| self.shelf(*shelf));
        let own = shelves.filter(|shelf| self.is_own(shelf));
        let records: Vec<_> = own.flat_map(|shelf| by_age(&shelf)).collect();
        records.iter().try_for_each(fs::remove_file)?;
        Ok(records.len())
    }

    /// Where it is kept.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn shelf(&self, shelf: Shelf) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(shelf.folder()))
    }

    fn make_shelf(&self, shelf: &Path) -> io::Result<()> {
        let made =
            |folder: &Path| match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
                // One that leads elsewhere is not made any deeper.
                Ok(()) if !is_private(folder) => {
                    Err(io::Error::other("it is not the user's alone"))
                }
                made => made,
            };
        self.folder.as_deref().map_or(Ok(()), made)?;
        made(shelf)
    }

    /// Whether `shelf` and the folder that it is in are the user's alone, and no links.
    fn is_own(&self, shelf: &Path) -> bool {
        self.folder.as_deref().is_some_and(is_private) && is_private(shelf)
    }
}

/// The header: what the records are, and a checksum of what follows it.
fn header(rest: &[u8]) -> String {
    format!("{FORMAT}{}\n", hash(rest))
}

/// A record's name and value, where all is well with its file.
fn read<T: DeserializeOwned>(path: &Path) -> Option<(String, T)> {
    let bytes = bytes(path).inspect_err(|error| explain(path, error)).ok()?;
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let (start, rest) = bytes.split_at(end);
    let value = (start == header(rest).as_bytes()).then(|| serde_json::from_slice(rest).ok())?;
    if value.is_none() {
        log::debug!("{} is damaged, or another version's: not used", path.display());
    }
    value
}

fn explain(path: &Path, error: &io::Error) {
    if error.kind() != io::ErrorKind::NotFound {
        log::debug!("{} is not used: {error}", path.display());
    }
}

/// What stands in the file at `path`, if it is the user's own, and nobody else may write it.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Where it is a pipe or a link, opening must not wait or follow.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let known = file.metadata()?;
    if !known.is_file() || !private(&known) || known.len() > LONGEST_RECORD {
        return Err(io::Error::other("it is not a file of the user's own"));
    }
    let mut bytes = Vec::with_capacity(known.len() as usize);
    file.take(LONGEST_RECORD).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_private(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|known| private(&known))
}

/// Whether it is the user's, and nobody else may write it.
fn private(known: &Metadata) -> bool {
    known.uid() == geteuid().as_raw() && known.mode() & 0o022 == 0 && !known.is_symlink()
}

fn write(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let rest = serde_json::to_vec(&(name, value))?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(header(&rest).as_bytes())?;
    file.write_all(&rest)?;
    file.persist(folder.join(file_name(name))).map_err(|error| error.error)?;
    let records = by_age(folder);
    let too_many = records.len().saturating_sub(MOST_RECORDS);
    records.iter().take(too_many).try_for_each(fs::remove_file)
}

/// The files in `folder`, the oldest first.
fn by_age(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let aged = files.map(|entry| {
        let changed = entry.metadata().and_then(|known| known.modified());
        (changed.unwrap_or(SystemTime::UNIX_EPOCH), entry.path())
    });
    let mut aged: Vec<_> = aged.collect();
    aged.sort();
    aged.into_iter().map(|(_, path)| path).collect()
}

fn file_name(name: &str) -> String {
    hash(name.as_bytes())
}

/// Whether this changes with the compiler does not matter: then nothing is remembered.
fn hash(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    const SHELF: Shelf = Shelf::Kernels;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("vmfi"));
        (folder, cache)
    }

    fn recall(cache: &Cache, name: &str) -> Option<u64> {
        cache.recall(SHELF, name)
    }

    fn file(cache: &Cache, name: &str) -> PathBuf {
        cache.shelf(SHELF).unwrap().join(file_name(name))
    }

    #[test]
    fn recalls_what_it_remembers() {
        let (_folder, cache) = cache();
        assert_eq!(recall(&cache, "a"), None);
        cache.remember(SHELF, "a", &1);
        cache.remember(SHELF, "b", &2);
        cache.remember(SHELF, "a", &3);
        assert_eq!((recall(&cache, "a"), recall(&cache, "b")), (Some(3), Some(2)));
        assert_eq!(cache.recall::<u64>(Shelf::Sources, "a"), None);
        assert_eq!(cache.latest::<u64>(SHELF, 1), [3]);
        assert_eq!(recall(&cache.clone().afresh(), "a"), None);
        assert_eq!((cache.clear().unwrap(), recall(&cache, "a")), (2, None));
    }

    #[test]
    fn is_the_users_alone() {
        let (_folder, cache) = cache();
        cache.remember(SHELF, "a", &1);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&file(&cache, "a")), 0o600);
        assert_eq!(mode(cache.folder().unwrap()), 0o700);
        fs::set_permissions(file(&cache, "a"), PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(recall(&cache, "a"), None);
        fs::set_permissions(cache.folder().unwrap(), PermissionsExt::from_mode(0o777)).unwrap();
        cache.remember(SHELF, "b", &1);
        assert_eq!(recall(&cache, "b"), None);
    }

    #[test]
    fn damage_is_nothing_remembered() {
        let (_folder, cache) = cache();
        cache.remember(SHELF, "a", &[1; 20]);
        let path = file(&cache, "a");
        let whole = fs::read(&path).unwrap();
        let recalled = || cache.recall::<Vec<u64>>(SHELF, "a");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(recalled(), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(recalled(), None, "byte {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(recalled(), Some(vec![1; 20]));
        fs::rename(&path, file(&cache, "b")).unwrap();
        assert_eq!(cache.recall::<Vec<u64>>(SHELF, "b"), None, "it is of another name");
    }

    #[test]
    fn neither_links_nor_pipes_nor_folders_are_records() {
        let (folder, cache) = cache();
        cache.remember(SHELF, "a", &1);
        let path = file(&cache, "a");
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(recall(&cache, "a"), None);
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).unwrap();
        assert_eq!(recall(&cache, "a"), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(recall(&cache, "a"), None);
    }

    #[test]
    fn leaves_alone_what_lies_behind_a_link() {
        let (folder, cache) = cache();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "").unwrap();
        cache.remember(SHELF, "a", &1);
        fs::remove_dir_all(cache.shelf(SHELF).unwrap()).unwrap();
        symlink(&elsewhere, cache.shelf(SHELF).unwrap()).unwrap();
        assert_eq!(cache.clear().unwrap(), 0);
        cache.remember(SHELF, "b", &1);
        fs::remove_dir_all(cache.folder().unwrap()).unwrap();
        symlink(&elsewhere, cache.folder().unwrap()).unwrap();
        cache.remember(SHELF, "c", &1);
        assert_eq!(cache.clear().unwrap(), 0);
        let left: Vec<_> = fs::read_dir(&elsewhere).unwrap().map(|left| left.unwrap()).collect();
        assert!(left.len() == 1 && left[0].file_name() == "precious", "{left:?}");
    }

    #[test]
    fn keeps_so_many_and_no_more() {
        let (_folder, cache) = cache();
        for number in 0..MOST_RECORDS as u64 + 10 {
            cache.remember(SHELF, &number.to_string(), &number);
            let written = File::open(file(&cache, &number.to_string())).unwrap();
            // Two that are written right after each other may be of one age.
            let age = Duration::from_secs(1000 - number);
            written.set_modified(SystemTime::now() - age).unwrap();
        }
        assert_eq!(cache.latest::<u64>(SHELF, usize::MAX).len(), MOST_RECORDS);
        assert_eq!(cache.latest::<u64>(SHELF, 2), [73, 72]);
        assert_eq!((recall(&cache, "9"), recall(&cache, "10")), (None, Some(10)));
    }
}
