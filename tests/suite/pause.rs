//! `--pause`: the VM stands still round the write, and runs on whatever becomes of us.

use crate::common::{Live, kernels, vmfi};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmfi::lab::Setup;

/// The answer of the VM to the last of `commands`.
fn ask(live: &Live, commands: &[&str]) -> Value {
    let mut socket = UnixStream::connect(live.guest.qmp()).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let mut answer = Value::Null;
    for command in ["qmp_capabilities"].iter().chain(commands) {
        writeln!(socket, "{{\"execute\": \"{command}\"}}").unwrap();
        let mut documents =
            lines.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        answer = documents.find(|document: &Value| document.get("return").is_some()).unwrap();
    }
    answer["return"].clone()
}

fn runs(live: &Live) -> bool {
    ask(live, &["query-status"])["running"].as_bool().unwrap()
}

fn setup() -> Setup {
    Setup { qmp: true, ..Setup::new(&kernels()[0]) }
}

#[test]
fn a_vm_stands_still_round_the_write_and_no_longer() {
    let mut live = Live::new(&setup());
    let (pid, _) = live.start("/holder");
    let wrapper = pid.to_string();
    let across = ["inject", &wrapper, "pages", "7", "8", "4092", "--json"];
    assert_eq!(live.vmfi(&across).json()["atomic"], false);
    let receipt = live.vmfi(&[&across[..], &["--pause"]].concat()).json();
    assert_eq!((&receipt["atomic"], &receipt["paused"]), (&true.into(), &true.into()));
    assert!(runs(&live));
    // One that stood still before goes on to do so.
    ask(&live, &["stop"]);
    let inject = ["inject", &wrapper, "value", "6", "4", "0", "--pause"];
    assert!(live.vmfi(&inject).fails_with(7).contains("clock stands still"));
    assert_eq!(live.vmfi(&[&inject[..], &["--force", "--json"]].concat()).json()["paused"], true);
    assert!(!runs(&live));
    ask(&live, &["cont"]);
    // Nobody else can stop it while its socket is held; nothing is written then.
    let held = UnixStream::connect(live.guest.qmp()).unwrap();
    let started = Instant::now();
    assert!(live.vmfi(&inject).fails_with(3).contains("another client"));
    assert!(started.elapsed() < Duration::from_secs(10));
    drop(held);
    live.guest.run("true").unwrap();
}

#[test]
fn a_vm_runs_on_when_who_stopped_it_is_killed() {
    let mut live = Live::new(&setup());
    let (pid, _) = live.start("/holder");
    let (ram, map) = (live.guest.ram(), live.map().to_owned());
    let folder = tempfile::tempdir().unwrap();
    let mut in_time = 0;
    for delay in (0..60).map(|step| Duration::from_micros(50 * step)) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmfi"));
        command.arg("-m").arg(&ram).arg("--system-map").arg(&map);
        command.args(["inject", "--pause", &pid.to_string(), "value", "6", "4", "0"]);
        command.env("XDG_CACHE_HOME", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut vmfi = command.spawn().unwrap();
        // The guard is there as long as the VM stands still, and a little longer.
        let children = format!("/proc/{0}/task/{0}/children", vmfi.id());
        let guarded = || std::fs::read_to_string(&children).is_ok_and(|pids| !pids.is_empty());
        while !guarded() && vmfi.try_wait().unwrap().is_none() {}
        in_time += u32::from(guarded());
        sleep(delay);
        vmfi.kill().unwrap();
        vmfi.wait().unwrap();
        let killed = Instant::now();
        while !runs(&live) {
            assert!(killed.elapsed() < Duration::from_secs(10), "it still stands, {delay:?}");
            sleep(Duration::from_millis(10));
        }
    }
    assert!(in_time > 20, "{in_time} were killed in time");
    live.guest.run("true").unwrap();
}

#[test]
fn a_vm_that_cannot_be_stopped_is_not_written() {
    let mut live = Live::new(&Setup { qmp: false, ..setup() });
    let (pid, _) = live.start("/holder");
    let inject = ["inject", &pid.to_string(), "value", "6", "4", "0", "--pause"];
    assert!(live.vmfi(&inject).fails_with(2).contains("-qmp"));
    // Of a copy of its RAM no VM is known.
    let copy = live.guest.ram().with_extension("copy");
    std::fs::copy(live.guest.ram(), &copy).unwrap();
    let of_copy = [&["-m", copy.to_str().unwrap()], &inject[..]].concat();
    assert!(vmfi(of_copy).fails_with(2).contains("--qemu"));
    std::fs::remove_file(copy).unwrap();
}
