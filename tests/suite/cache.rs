//! What is remembered: it is used, it is proved each time, and it is found out anew in silence
//! where it does not hold.

use crate::common::{Live, Ran, kernels, vmfi_in};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmfi::cache::{Cache, Shelf};
use vmfi::lab::Setup;

const RECALLED: &str = "as remembered";
const AFRESH: &str = "symbols from the kallsyms";

/// A user with a cache folder, and a guest whose victim holds still.
struct User {
    folder: tempfile::TempDir,
    live: Live,
}

impl User {
    fn new(setup: &Setup) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), live: started(setup) }
    }

    /// The next guest that the same user looks at.
    fn starts(&mut self, setup: &Setup) {
        self.live = started(setup);
    }

    fn vmfi(&self, arguments: &[&str]) -> Ran {
        let ram = self.live.guest.ram();
        let memory = ["-m", ram.to_str().unwrap()];
        vmfi_in(self.folder.path(), &[], memory.iter().chain(arguments))
    }

    /// Lists what is listed without anything remembered.
    fn lists(&self, how: &str) {
        let told = self.vmfi(&["list", "-v"]);
        assert_eq!(told.code, 0, "{}", told.stderr);
        assert!(told.stderr.contains(how), "not {how}: {}", told.stderr);
        assert!(!told.stderr.contains("warn"), "{}", told.stderr);
        assert_eq!(told.stdout, self.vmfi(&["list", "--no-cache"]).stdout);
    }

    /// Lists until that is from memory: of an idle guest the clock must be seen to move first.
    fn lists_as_remembered(&self) {
        let recalls = |_: &usize| self.vmfi(&["list", "-v"]).stderr.contains(RECALLED);
        assert!((0..50).any(|round| recalls(&round)), "nothing is ever recalled");
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

fn started(setup: &Setup) -> Live {
    let mut live = Live::unknown(setup);
    live.start("/holder");
    live
}

#[test]
fn remembered_and_proved() {
    let all = kernels();
    let [first, second] = [&all[0], &all[all.len() - 1]].map(|kernel| Setup::new(kernel));
    let mut user = User::new(&first);
    nothing_is_written_without_leave(&user);
    user.lists(AFRESH);
    user.lists_as_remembered();
    damage_is_repaired(&user);
    what_does_not_hold_is_found_out_anew(&user);
    user.starts(&first);
    // The kernel is known, and somewhere else.
    user.lists("a kernel that is remembered");
    user.lists_as_remembered();
    if all.len() > 1 {
        user.starts(&second);
        user.lists(AFRESH);
        user.lists_as_remembered();
    }
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
            user.lists_as_remembered();
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
        user.lists_as_remembered();
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
        user.lists_as_remembered();
    }
}

/// It may be an earlier guest's, or paused: it is shown, with a word once that is sure, and not
/// written.
fn what_stands_still_is_looked_into(user: &User) {
    user.live.guest.halt(true).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(user.vmfi(&["list", "-v"]).stderr.contains("stands still"));
    std::thread::sleep(Duration::from_secs(6));
    let told = user.vmfi(&["list"]);
    assert_eq!(told.code, 0);
    assert!(told.stderr.contains("warn: the guest's clock stands still"), "{}", told.stderr);
    user.live.guest.halt(false).unwrap();
}

fn clearing_forgets(user: &User) {
    let shown = user.vmfi(&["cache", "--json"]).json();
    assert!(
        shown["kernels"].as_u64().unwrap() >= 1 && shown["sources"].as_u64().unwrap() >= 1,
        "{shown}"
    );
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
