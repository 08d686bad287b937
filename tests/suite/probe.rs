//! What `vmfi probe` says of live guests, held against what they say themselves.

use crate::common::{Live, kernels};
use std::fs;
use std::path::Path;
use vmfi::lab::Setup;

/// Where the linker puts `_text`.
const LINKED: u64 = 0xffff_ffff_8100_0000;
/// What KASLR moves.
const IMAGE: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// Address, letter and name of each of the kernel's own symbols in a copy of /proc/kallsyms, as
/// linked.
fn as_linked(kallsyms: &str) -> Vec<(u64, &str)> {
    // Modules and programs of BPF are named behind a tab.
    let own = kallsyms.lines().filter(|line| !line.contains('\t'));
    let mut all: Vec<_> = own.map(|line| line.split_once(' ').unwrap()).map(parsed).collect();
    let (text, _) = *all.iter().find(|(_, rest)| rest.ends_with(" _text")).unwrap();
    for (at, _) in all.iter_mut().filter(|(at, _)| IMAGE.contains(at)) {
        *at = *at - text + LINKED;
    }
    all
}

fn parsed<'t>((address, rest): (&str, &'t str)) -> (u64, &'t str) {
    (u64::from_str_radix(address, 16).unwrap(), rest)
}

/// Every line is the guest's own, in the order of addresses.
fn is_the_guests_own(map: &str, kallsyms: &str) {
    let mut own = as_linked(kallsyms);
    let mut all: Vec<_> = map.lines().map(|line| parsed(line.split_once(' ').unwrap())).collect();
    assert!(all.is_sorted_by_key(|(at, _)| *at));
    assert!(map.lines().all(|line| line.find(' ') == Some(16)));
    assert!(map.contains("\nffffffff81000000 T _text\n"));
    all.sort_unstable();
    own.sort_unstable();
    let differ = all.iter().zip(&own).find(|(one, other)| one != other);
    assert!(differ.is_none() && all.len() == own.len(), "{differ:x?}");
    assert!(all.len() > 50_000, "{} symbols", all.len());
}

/// With symbols that do not bound its BTF, the kernel's own is found by its header.
fn btf_is_found_by_its_header(live: &Live, map: &str, folder: &Path) {
    let bounds =
        |line: &&str| [" __start_BTF\n", " __stop_BTF\n"].iter().any(|name| line.ends_with(name));
    let unbound: String = map.split_inclusive('\n').filter(|line| !bounds(line)).collect();
    assert_eq!(map.lines().count() - unbound.lines().count(), 2);
    let path = folder.join("unbound");
    fs::write(&path, unbound).unwrap();
    let probe = |map: &Path| live.vmfi_with_map(map, &["probe", "--json"]).json();
    let (bound, found) = (live.with_memory_alone(&["probe", "--json"]).json(), probe(&path));
    let from = found["layouts_from"].as_str().unwrap();
    assert!(from.contains("the guest's own BTF, told by its header at 0xffffffff"), "{from}");
    assert_eq!(found["tasks"], bound["tasks"]);
    let profile = |arguments: &[&str]| live.with_memory_alone(arguments).stdout;
    let by_header = profile(&["profile", "--system-map", path.to_str().unwrap()]);
    assert!(by_header.contains("[struct.task_struct]") && by_header == profile(&["profile"]));
}

/// The System.map that is written is what the guest itself has, and serves its next boot too.
#[test]
fn the_system_map_is_the_guests_own() {
    for kernel in kernels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("System.map");
        let file = path.to_str().unwrap();
        let write = ["probe", "--json", "--write-system-map", file];
        let mut live = Live::new(&Setup::new(&kernel));
        let slide = live.with_memory_alone(&write).json()["kaslr_offset"].clone();
        let map = fs::read_to_string(&path).unwrap();
        let kallsyms = live.guest.copy_out("/proc/kallsyms").unwrap();
        is_the_guests_own(&map, &String::from_utf8_lossy(&kallsyms));
        btf_is_found_by_its_header(&live, &map, folder.path());

        // Another boot, another slide: the same file comes of it, and serves.
        let live = (0..10).map(|_| Live::new(&Setup::new(&kernel)));
        let probe = |live: &Live| live.vmfi_with_map(&path, &write).json();
        let slid = |live: &Live| probe(live)["kaslr_offset"] != slide;
        let live = { live }.find(slid).expect("KASLR moves nothing");
        assert!(fs::read_to_string(&path).unwrap() == map, "another map of the same kernel");
        assert_eq!(live.vmfi_with_map(&path, &["list", "--all"]).code, 0);
    }
}
