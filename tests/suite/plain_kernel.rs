//! A kernel that says nothing of itself, neither BTF nor kallsyms: the plain way of the paper,
//! System.map and layouts that are given. `make test-plain-kernel` builds it first.

use crate::common::{boot, built, vmfi};
use std::fs;
use std::path::Path;
use vmfi::lab::{LabGuest, Setup};

/// The profile of its vmlinux.
fn profile(folder: &Path) -> String {
    let vmlinux = built("kernels/plain/vmlinux");
    let ran = vmfi(["profile", "--vmlinux", vmlinux.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("kernel = \"Linux version "), "{}", ran.stdout);
    let path = folder.join("profile.toml");
    fs::write(&path, ran.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

fn with(guest: &LabGuest, layouts: &[&str], arguments: &[&str]) -> crate::common::Ran {
    let (ram, map) = (guest.ram(), built("kernels/plain/System.map"));
    let own = ["-m", ram.to_str().unwrap(), "--system-map", map.to_str().unwrap()];
    vmfi([&own[..], layouts, arguments].concat())
}

/// List, read and inject, with each source of layouts; and the guest sees the fault.
fn whole_thread(setup: &Setup, sources: &[&str]) {
    let mut guest = boot(setup);
    guest
        .run("/wrapper /holder-pie >/out 2>&1 & until grep -q ready /out; do sleep 0.1; done")
        .unwrap();
    let holder = built("fixtures/holder-pie");
    for (value, layouts) in sources.iter().enumerate() {
        let vmfi = |arguments: &[&str]| with(&guest, &["--layouts", layouts], arguments).json();
        let listed = vmfi(&["list", "--json"]);
        assert_eq!(listed[0]["children"][0]["exe"], "/holder-pie", "{listed}");
        let (pid, child) = (listed[0]["pid"].to_string(), &listed[0]["children"][0]["pid"]);
        let inject = ["inject", &pid, "value", &value.to_string(), "8", "0", "--json"];
        let receipt = vmfi(&[&inject[..], &["--victim", holder.to_str().unwrap()]].concat());
        let gva = receipt["gva"].as_str().unwrap();
        let dump = format!(
            "dd if=/proc/{child}/mem bs=1 skip=$(({gva})) count=8 2>/dev/null | od -An -tx1"
        );
        let seen: String = guest.run(&dump).unwrap().concat().split_whitespace().collect();
        assert_eq!(seen, format!("{value:02x}00000000000000"));
    }
}

#[test]
#[ignore = "needs the kernel that `make test-plain-kernel` builds"]
fn system_map_and_profile_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (profile, vmlinux) = (profile(folder.path()), built("kernels/plain/vmlinux"));
    let sources = [profile.as_str(), vmlinux.to_str().unwrap()];
    let setup = Setup::new(&built("kernels/plain/vmlinuz"));
    whole_thread(&setup, &sources);
    whole_thread(&Setup { append: "nokaslr".to_owned(), ..setup.clone() }, &sources[..1]);
    whole_thread(&Setup { five_levels: false, cpus: 2, ..setup }, &sources[..1]);
}

/// Without layouts, with another kernel's, or with half of them: told, and nothing written.
#[test]
#[ignore = "needs the kernel that `make test-plain-kernel` builds"]
fn layouts_that_do_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(profile(folder.path())).unwrap();
    let guest = boot(&Setup::new(&built("kernels/plain/vmlinuz")));
    let ran = with(&guest, &[], &["list"]);
    let line = ran.fails_with(4);
    assert!(line.contains("--layouts") && line.contains("vmfi profile"), "{line}");
    let path = folder.path().join("other.toml");
    let fails = |text: &str, word: &str| {
        fs::write(&path, text).unwrap();
        let ran = with(&guest, &["--layouts", path.to_str().unwrap()], &["list"]);
        let line = ran.fails_with(4);
        assert!(line.contains(word) && line.contains("--layouts"), "'{word}' is not in: {line}");
    };
    let line_of = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
    fails(&text.replace(line_of("comm ="), ""), "'comm'");
    fails(&text.replace(line_of("comm ="), "comm = { offset = 8, size = 16 }"), "init_task");
    fails(&text.replace(line_of("tasks ="), "tasks = { offset = 8, size = 16 }"), "first task");
    fails(&text.replace(line_of("tasks ="), "tasks = 8"), "line");
}

/// Over the RAM file of an earlier guest that told its symbols: the guest's own are asked for, and
/// no System.map is written from the earlier one's.
#[test]
#[ignore = "needs the kernel that `make test-plain-kernel` builds"]
fn a_ram_file_that_a_telling_guest_used() {
    let first = boot(&Setup::new(&built("kernels/bookworm/vmlinuz")));
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("ram");
    fs::copy(first.ram(), &earlier).unwrap();
    drop(first);
    let plain = Setup::new(&built("kernels/plain/vmlinuz"));
    let guest = boot(&Setup { earlier_ram: Some(earlier), ..plain });
    let ram = guest.ram();
    let ran = vmfi(["-m", ram.to_str().unwrap(), "list"]);
    let line = ran.fails_with(4);
    assert!(line.contains("--system-map") && !line.contains("--ram-size"), "{line}");
    let profile = profile(folder.path());
    let map = folder.path().join("System.map").to_str().unwrap().to_owned();
    let ran = with(&guest, &["--layouts", &profile], &["probe", "--write-system-map", &map]);
    assert!(ran.fails_with(4).contains("no symbol table of its own"), "{}", ran.stderr);
    assert!(ran.stdout.contains("wrapper") && !Path::new(&map).exists());
    assert_eq!(with(&guest, &["--layouts", &profile], &["list", "--all"]).code, 0);
}
