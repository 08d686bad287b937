//! What is remembered: it is used, it is proved each time, and it is found out anew in silence
//! where it does not hold.

use crate::common::{Ran, boot, kernels, vmfi_in};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmfi::cache::{Cache, Shelf};
use vmfi::lab::Setup;

const RECALLED: &str = "as remembered";
const AFRESH: &str = "symbols from the kallsyms";

/// A user with a cache folder, and RAM that does not change by itself.
struct User {
    folder: tempfile::TempDir,
    ram: PathBuf,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let ram = folder.path().join("ram");
        Self { folder, ram }
    }

    /// RAM becomes that of a guest with `setup`, in the same file.
    fn reboots(&self, setup: &Setup) {
        let guest = boot(setup);
        guest.halt(true).unwrap();
        let mut from = File::open(guest.ram()).unwrap();
        let mut to = File::options().write(true).create(true).truncate(true).open(&self.ram);
        std::io::copy(&mut from, to.as_mut().unwrap()).unwrap();
    }

    fn vmfi(&self, arguments: &[&str]) -> Ran {
        let memory = ["-m", self.ram.to_str().unwrap()];
        vmfi_in(self.folder.path(), &[], memory.iter().chain(arguments))
    }

    /// Lists all processes, which must be those that were listed without anything remembered.
    fn lists(&self, how: &str) {
        if how == RECALLED {
            // This RAM stands still: what is remembered of it counts for a moment only.
            self.vmfi(&["list", "--all"]);
        }
        let told = self.vmfi(&["list", "--all", "-v"]);
        assert_eq!(told.code, 0, "{}", told.stderr);
        assert!(told.stderr.contains(how), "not {how}: {}", told.stderr);
        assert!(!told.stderr.contains("warn"), "{}", told.stderr);
        assert_eq!(told.stdout, self.vmfi(&["list", "--all", "--no-cache"]).stdout);
    }

    fn records(&self) -> Vec<PathBuf> {
        let shelves = ["kernels", "sources"].map(|shelf| self.cache().join(shelf));
        let files = shelves.iter().flat_map(|shelf| fs::read_dir(shelf).into_iter().flatten());
        files.map(|file| file.unwrap().path()).collect()
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache/vmfi")
    }
}

#[test]
fn remembered_and_proved() {
    let user = User::new();
    let [first, second] =
        [0, 1].map(|index| Setup::new(&kernels()[index.min(kernels().len() - 1)]));
    user.reboots(&first);
    nothing_is_written_without_leave(&user);
    user.lists(AFRESH);
    user.lists(RECALLED);
    damage_is_repaired(&user);
    what_does_not_hold_is_found_out_anew(&user);
    user.reboots(&first);
    // The kernel is known, and somewhere else.
    user.lists("a kernel that is remembered");
    user.lists(RECALLED);
    user.reboots(&second);
    user.lists(AFRESH);
    user.lists(RECALLED);
    what_stands_still_is_looked_into(&user);
    clearing_forgets(&user);
}

fn nothing_is_written_without_leave(user: &User) {
    assert_eq!(user.vmfi(&["list", "--all", "--no-cache"]).code, 0);
    assert!(user.records().is_empty() && !user.cache().exists());
}

fn damage_is_repaired(user: &User) {
    for record in user.records() {
        let whole = fs::read(&record).unwrap();
        for damaged in [&b""[..], &whole[..whole.len() / 2], &[0xff; 300 << 10]] {
            fs::write(&record, damaged).unwrap();
            assert_eq!(user.vmfi(&["list", "--all"]).code, 0);
            user.lists(RECALLED);
        }
    }
}

/// Records that are whole, and wrong.
fn what_does_not_hold_is_found_out_anew(user: &User) {
    let cache = Cache::at(user.cache());
    let change = |shelf: Shelf, folder: &str, from: &str, to: &str| {
        let path = fs::read_dir(user.cache().join(folder)).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let record = text.split_once('\n').unwrap().1.replacen(from, to, 1);
        assert!(!text.contains(&record), "{from} is not in {text}");
        let (name, value): (String, serde_json::Value) = serde_json::from_str(&record).unwrap();
        cache.remember(shelf, &name, &value);
    };
    for (from, to) in [
        ("\"banner\":", "\"banner\":4096,\"was\":"),
        ("\"root\":", "\"root\":18446744073709551615,\"was\":"),
        ("\"levels\":", "\"levels\":9,\"was\":"),
        ("\"slide\":", "\"slide\":-9223372036854775808,\"was\":"),
        ("\"layout\":\"", "\"layout\":\"no "),
    ] {
        change(Shelf::Sources, "sources", from, to);
        let ran = user.vmfi(&["list", "--all", "-v"]);
        assert_eq!(ran.code, 0, "{from}: {}", ran.stderr);
        user.lists(RECALLED);
    }
    for (from, to) in [
        ("\"build_id\":\"", "\"build_id\":\"00"),
        ("\"init_task\":", "\"init_task\":1,\"was\":"),
        ("\"comm\":", "\"comm\":18446744073709551615,\"was\":"),
        ("\"iomem_resource\":", "\"iomem_resource\":1,\"was\":"),
    ] {
        change(Shelf::Kernels, "kernels", from, to);
        let ran = user.vmfi(&["list", "--all", "-v"]);
        assert_eq!(ran.code, 0, "{from}: {}", ran.stderr);
        user.lists(RECALLED);
    }
}

/// The guest may have booted another kernel since, elsewhere.
fn what_stands_still_is_looked_into(user: &User) {
    std::thread::sleep(Duration::from_secs(3));
    user.lists("stands still");
}

fn clearing_forgets(user: &User) {
    let shown = user.vmfi(&["cache", "--json"]).json();
    assert!(shown["kernels"].as_u64().unwrap() >= 1 && shown["sources"] == 1, "{shown}");
    assert_eq!(shown["folder"], user.cache().to_str().unwrap());
    let cleared = user.vmfi(&["cache", "--clear"]);
    assert_eq!((cleared.code, user.records().len()), (0, 0), "{}", cleared.stderr);
    user.lists(AFRESH);
}

/// A folder that cannot be written is nobody's trouble.
#[test]
fn without_a_folder_nothing_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.to_str().unwrap(), "relative", "/proc/nowhere"] {
        let variables = [("XDG_CACHE_HOME", place), ("HOME", "/proc")];
        let ran = vmfi_in(folder.path(), &variables, ["cache", "--clear"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{place}");
        assert!(!Path::new("relative").exists());
    }
}
