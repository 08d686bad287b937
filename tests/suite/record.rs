//! The record: each injection leaves a line, from which it is made again, and undone.

use crate::common::{Live, files, kernels, number};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use vmfi::lab::Setup;

struct Logged {
    live: Live,
    pid: String,
    child: i64,
    folder: TempDir,
}

impl Logged {
    fn start() -> Self {
        let setup = Setup { qmp: true, ..Setup::new(&kernels()[0]) };
        let mut live = Live::booted(&setup, &files());
        let (pid, child) = live.start("/holder");
        Self { live, pid: pid.to_string(), child, folder: tempfile::tempdir().unwrap() }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Injects as `arguments` say, and appends to the log.
    fn inject(&self, log: &Path, arguments: &[&str]) {
        let log = ["--log", log.to_str().unwrap()];
        let all = [&["inject", &self.pid], arguments, &log].concat();
        assert_eq!(self.live.vmfi(&all).code, 0);
    }

    fn value(&mut self, symbol: &str) -> String {
        let read = self.live.vmfi(&["read", &self.pid, symbol, "8", "--json"]).json();
        let seen = self.live.guest_reads(self.child, number(&read["gva"]), 8);
        assert_eq!(read["bytes"], seen);
        seen
    }
}

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_logged_is_undone_and_made_again() {
    let mut logged = Logged::start();
    let log = logged.log("log");
    let places = ["value", "pages"];
    let before = places.map(|place| logged.value(place));
    logged.inject(&log, &["value", "--flip", "3"]);
    logged.inject(&log, &["value", "--random", "1..100", "--bytes", "4"]);
    logged.inject(&log, &["pages", "0x0807060504030201", "8", "0xffc"]);
    logged.inject(&log, &["value", "--xor", "0xff", "--bytes", "1", "--also", "pages", "--pause"]);
    let after = places.map(|place| logged.value(place));
    assert_ne!(before, after);
    whole_lines(&mut logged, &log);

    let log = log.to_str().unwrap();
    let undone = logged.live.vmfi(&["undo", log, "--json"]).json();
    assert_eq!(undone.as_array().unwrap().len(), 5);
    assert!(undone.as_array().unwrap().iter().all(|line| line["restored"] == true));
    assert_eq!(places.map(|place| logged.value(place)), before);
    // What is not there any more is not put back, and nothing else is touched.
    let again = logged.live.vmfi(&["undo", log]);
    assert_eq!((again.code, again.stdout.lines().count()), (8, 5));
    assert!(again.stdout.contains("left alone: it holds"), "{}", again.stdout);
    assert_eq!(places.map(|place| logged.value(place)), before);

    for by in ["symbol", "bytes"] {
        let replay = ["replay", log, "--by", by, "--at-once", "--json"];
        let made = logged.live.vmfi(&replay).json();
        assert_eq!(made.as_array().unwrap().len(), 5);
        assert_eq!(places.map(|place| logged.value(place)), after, "{by}");
        assert_eq!(logged.live.vmfi(&["undo", log]).code, 0);
    }
}

/// What a line tells, against the guest's own word.
fn whole_lines(logged: &mut Logged, log: &Path) {
    let lines = lines(log);
    assert_eq!(lines.len(), 5);
    let release = logged.live.guest.run("uname -r").unwrap().concat();
    for line in &lines {
        assert_eq!(
            (&line["vmfi_log"], &line["kernel_release"]),
            (&1.into(), &release.clone().into())
        );
        assert_eq!(line["victim_build_id"].as_str().unwrap().len(), 40);
        assert_eq!(line["vmm"]["name"], "qemu-system-x86_64");
        assert!(line["vmm"]["version"].is_string() && line["cpu_model"].is_string());
        assert!(line["victim_cpu_ns"].as_u64().unwrap() > 0);
        assert_eq!(line["victim_pid"], logged.child);
    }
    assert_eq!(
        (&lines[0]["fault"], &lines[1]["fault"]),
        (&"flip 3".into(), &"random 1..100".into())
    );
    assert_eq!((&lines[4]["symbol"], &lines[4]["paused"]), (&"pages".into(), &true.into()));
    // Where a process starts again under the same number, nothing of it is undone.
    let started = lines[0]["victim_started_ns"].as_u64().unwrap();
    let other = logged.log("other");
    let text = lines[0].to_string().replace(&started.to_string(), &(started + 1).to_string());
    fs::write(&other, text).unwrap();
    let undone = logged.live.vmfi(&["undo", other.to_str().unwrap()]);
    assert!(undone.code == 8 && undone.stdout.contains("has ended"), "{}", undone.stdout);
}

#[test]
fn a_log_that_cannot_be_written_is_told_before_the_first_write() {
    let mut logged = Logged::start();
    let before = logged.value("value");
    let inject = |log: &str| {
        let all = ["inject", &logged.pid, "value", "--flip", "1", "--log", log];
        logged.live.vmfi(&all).fails_with(1).to_owned()
    };
    for log in ["/dev/full", "/nowhere/log", "/"] {
        assert!(inject(log).contains("nothing was written"));
    }
    // A disk that is full.
    let disk = logged.log("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = |command: &str, arguments: &[&str]| {
        Command::new(command).args(arguments).arg(&disk).status().is_ok_and(|done| done.success())
    };
    if mounted("mount", &["-t", "tmpfs", "-o", "size=16k", "none"]) {
        let failed = inject(disk.join("log").to_str().unwrap());
        assert!(mounted("umount", &[]));
        assert!(failed.contains("no room") && failed.contains("nothing was written"), "{failed}");
    }
    assert_eq!(logged.value("value"), before);
}

#[test]
fn lines_of_many_processes_do_not_mix() {
    let logged = Logged::start();
    let log = logged.log("log");
    let start = |_| {
        let mut vmfi = Command::new(env!("CARGO_BIN_EXE_vmfi"));
        vmfi.arg("-m").arg(logged.live.guest.ram()).args(["inject", &logged.pid, "value"]);
        vmfi.args(["--flip", "1", "--count", "25", "--log"]).arg(&log);
        vmfi.env("XDG_CACHE_HOME", logged.folder.path()).stdout(Stdio::null()).spawn().unwrap()
    };
    let writers: Vec<_> = (0..4).map(start).collect();
    writers.into_iter().for_each(|mut vmfi| assert!(vmfi.wait().unwrap().success()));
    assert_eq!(lines(&log).len(), 100);
    // Each flip changed the one bit that it says, whoever came between.
    for line in lines(&log) {
        let word = |key: &str| u64::from_str_radix(line[key].as_str().unwrap(), 16).unwrap();
        assert_eq!(word("before") ^ word("after"), word("toggle"));
        assert_eq!(word("toggle").count_ones(), 1);
    }
}
