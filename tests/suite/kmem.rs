//! The paper's own command line on a live guest, with maps as `nm` prints them.

use crate::common::{Live, Ran, built, kernels, number, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use vmfi::lab::Setup;

/// A folder with `kmem` and the map files, as the paper's users had one.
struct Kmem {
    folder: tempfile::TempDir,
    live: Live,
}

impl Kmem {
    fn new(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        symlink(env!("CARGO_BIN_EXE_vmfi"), folder.path().join("kmem")).unwrap();
        let map = |program: &str, options: &[&str], name: &str| {
            let nm = Command::new("nm").args(options).arg(built(program)).output().unwrap();
            assert!(nm.status.success());
            fs::write(folder.path().join(name), nm.stdout).unwrap();
        };
        map("guest/wrapper", &[], "wrapper.map");
        map("fixtures/hpccg", &[], "HPCCG.symmap");
        map("fixtures/holder-pie", &["-S"], "holder-pie.map");
        map("fixtures/holder", &["-n"], "holder.map");
        Self { folder, live: Live::new(setup) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// `kmem` with `arguments`, in the folder of the maps.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut kmem = Command::new(Path::new("./kmem"));
        kmem.args(["-m", self.live.guest.ram().to_str().unwrap()]);
        kmem.args(["--system-map", self.live.map().to_str().unwrap()]);
        run(self.folder.path(), kmem.args(arguments))
    }

    /// The paper's seven arguments, in one line.
    fn line(&self, line: &str) -> Ran {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }
}

#[test]
fn the_papers_example_line() {
    let mut kmem = Kmem::new(&Setup { cpus: 2, ..Setup::new(&kernels()[0]) });
    kmem.run(&["list"]).fails_with(5);
    let (pid, child) = kmem.live.start("/hpccg 30 30 30 0 100000");
    let listed = kmem.run(&["list", "--json"]).json();
    assert_eq!((&listed[0]["pid"], &listed[0]["children"][0]["pid"]), (&pid.into(), &child.into()));
    // ./kmem 198 wrapper.map HPCCG.symmap rtrans 6 4 0
    let ran = kmem.line(&format!("{pid} wrapper.map HPCCG.symmap rtrans 6 4 0"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("rtrans+0 at 0x") && ran.stdout.contains("-> 06000000"),
        "{}",
        ran.stdout
    );
}

#[test]
fn map_files_are_used_for_what_they_tell() {
    let mut kmem = Kmem::new(&Setup::new(&kernels()[0]));
    let (pid, child) = kmem.live.start("/holder-pie fork");
    // Two processes have the symbol; the wrapper's status block tells its own child.
    let receipt =
        kmem.line(&format!("--json {pid} wrapper.map holder-pie.map value -1 2 2")).json();
    assert_eq!((&receipt["victim_pid"], &receipt["before"]), (&child.into(), &"2222".into()));
    assert_eq!(kmem.live.guest_reads(child, number(&receipt["gva"]), 4), "ffff2222");
    let fails = |line: &str, code: i32, words: &[&str]| {
        let ran = kmem.line(line);
        let told = ran.fails_with(code);
        assert!(told.starts_with("kmem: "), "{told}");
        for word in words {
            assert!(told.contains(word), "'{word}' is not in: {told}");
        }
    };
    let rest = "value 6 4 0";
    fails(&format!("{pid} holder.map holder-pie.map {rest}"), 6, &["holder.map", "/wrapper"]);
    fails(&format!("{pid} wrapper.map holder.map {rest}"), 6, &["holder.map", "/holder-pie"]);
    fails(&format!("{pid} wrapper.map HPCCG.symmap rtrans 6 4 0"), 6, &["HPCCG.symmap"]);
    fails(&format!("{pid} wrapper.map holder-pie.map valeu 6 4 0"), 6, &["nearest: value"]);
    fails(&format!("{pid} wrapper.map holder-pie.map twin 6 4 0"), 6, &["2 places"]);
    fails(&format!("{pid} wrapper.map none.map {rest}"), 6, &["none.map"]);
    fails(&format!("{child} wrapper.map holder-pie.map {rest}"), 5, &["'holder-pie'"]);
    fails(&format!("{pid} wrapper.map holder-pie.map value 256 1 0"), 2, &["does not fit"]);
    fails(&format!("{pid} wrapper.map holder-pie.map value 6"), 2, &["kmem --help"]);
    fails("list wrapper.map", 2, &["kmem --help"]);
    fails("frobnicate", 2, &["kmem --help"]);
    // As of a program that was built again: what follows the change lies elsewhere.
    let map = fs::read_to_string(kmem.path("holder-pie.map")).unwrap();
    let end = map.lines().find(|line| line.ends_with(" _end")).unwrap();
    fs::write(kmem.path("stale.map"), map.replace(end, &end.replacen("8 ", "0 ", 1))).unwrap();
    fails(&format!("{pid} wrapper.map stale.map {rest}"), 6, &["_end is"]);
    fails(&format!("{pid} wrapper.map holder-pie.map of_thread 6 4 0"), 6, &["thread-local"]);
    fs::write(kmem.path("empty.map"), "").unwrap();
    fails(&format!("{pid} wrapper.map empty.map {rest}"), 6, &["as nm prints"]);
    // The status block is where the map has it, or the map is another program's.
    let map = fs::read_to_string(kmem.path("wrapper.map")).unwrap();
    let moved = map.replace("0 D vmfi_wrapper_status", "8 D vmfi_wrapper_status");
    assert_ne!(moved, map);
    fs::write(kmem.path("moved.map"), moved).unwrap();
    fails(&format!("{pid} moved.map holder-pie.map {rest}"), 6, &["vmfi_wrapper_status"]);
    assert_eq!(kmem.live.guest_reads(child, number(&receipt["gva"]), 4), "ffff2222");
}

/// The paper's wrapper has no status block: its child is the one of the task list. Here a script of
/// the wrapper's name plays it.
#[test]
fn a_wrapper_without_a_status_block() {
    let mut kmem = Kmem::new(&Setup::new(&kernels()[0]));
    let script = "mkdir /old; printf '#!/bin/sh\\n/holder >/out\\ntrue\\n' >/old/wrapper; \
                  chmod +x /old/wrapper; /old/wrapper & until grep -q ready /out; do sleep 0.1; done";
    kmem.live.guest.run(script).unwrap();
    let listed = kmem.run(&["list", "--json"]).json();
    let pid = &listed[0]["pid"];
    // Where busybox starts, by its ELF header: it has no symbols to print.
    let header = fs::read("/bin/busybox").unwrap();
    let start = u64::from_le_bytes(header[24..32].try_into().unwrap());
    fs::write(kmem.path("old.map"), format!("{start:016x} T _start\n")).unwrap();
    let ran = kmem.line(&format!("--json {pid} old.map holder.map value 6 4 0"));
    assert_eq!(ran.json()["read_back"], "06000000");
    fs::write(kmem.path("old.map"), "0000000000401000 T main\n").unwrap();
    let ran = kmem.line(&format!("{pid} old.map holder.map value 6 4 0"));
    assert!(ran.fails_with(6).contains("it has no _start"), "{}", ran.stderr);
}

/// The wrapper's own child is a shell; the victim is what that has started.
#[test]
fn behind_a_launcher() {
    let mut kmem = Kmem::new(&Setup::new(&kernels()[0]));
    let (pid, child) = kmem.live.start("sh -c '/holder; true'");
    kmem.live.guest.run("until grep -q ready /out; do sleep 0.1; done").unwrap();
    let receipt = kmem.line(&format!("--json {pid} wrapper.map holder.map value 6 4 0")).json();
    assert_ne!(receipt["victim_pid"], child);
    assert_eq!(receipt["before"], "22222222");
    let (pid, _) = kmem.live.start("/wrapper /holder");
    kmem.live.guest.run("until grep -q ready /out; do sleep 0.1; done").unwrap();
    let line = format!("--json --dry-run {pid} wrapper.map holder.map value 6 4 0");
    assert_eq!(kmem.line(&line).json()["before"], "22222222");
}

/// `--victim-map` gives the same to `vmfi`.
#[test]
fn victim_map() {
    let mut kmem = Kmem::new(&Setup::new(&kernels()[0]));
    let (pid, _) = kmem.live.start("/holder-pie");
    let map = |name: &str| kmem.path(name);
    let read = |map: &str| {
        kmem.live.vmfi(&["read", &pid.to_string(), "value", "--victim-map", map, "--json"])
    };
    assert_eq!(read(&map("holder-pie.map")).json()["bytes"], "22".repeat(8));
    read(&map("holder.map")).fails_with(6);
}
