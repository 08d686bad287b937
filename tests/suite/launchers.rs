//! Victims that a launcher stands before, that fork, run in threads, or call exec again.

use crate::common::{Live, Ran, kernels};
use vmfi::lab::Setup;

const VALUE: u64 = 0x2222_2222_2222_2222;

/// What `symbol` is in the one process below the wrapper that has it.
fn read(live: &Live, pid: i64, symbol: &str, more: &[&str]) -> Ran {
    live.vmfi(&[&["read", &pid.to_string(), symbol, "--json"], more].concat())
}

fn fails(ran: &Ran, code: i32, words: &[&str]) {
    let line = ran.fails_with(code);
    for word in words {
        assert!(line.contains(word), "'{word}' is not in: {line}");
    }
}

#[test]
fn the_victim_is_the_only_descendant_that_has_the_symbol() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    // Two of the same program, as mpirun starts them, and one of another.
    live.guest
        .run(
            "echo '/holder & /holder & /hpccg 30 30 30 0 100000 & wait' >/mpirun; chmod +x /mpirun",
        )
        .unwrap();
    let (pid, shell) = live.start("sh /mpirun");
    live.guest.run("until [ $(grep -c ready /out) = 2 ]; do sleep 0.1; done").unwrap();
    let listed = live.vmfi(&["list", "--json"]).json();
    let children = listed[0]["children"].as_array().unwrap();
    let named = |name: &str| -> Vec<i64> {
        let of_name = children.iter().filter(|child| child["comm"] == name);
        of_name.map(|child| child["pid"].as_i64().unwrap()).collect()
    };
    assert_eq!((named("sh"), named("hpccg").len(), named("holder").len()), (vec![shell], 1, 2));

    let receipt =
        live.vmfi(&["inject", &pid.to_string(), "rtrans", "6", "4", "0", "--json"]).json();
    assert_eq!(receipt["victim_pid"], named("hpccg")[0]);
    let holders = named("holder");
    let both: Vec<_> = holders.iter().map(|pid| format!("{pid} (holder)")).collect();
    fails(&read(&live, pid, "value", &[]), 5, &["2 descendants", &both.join(", "), "--child"]);
    let chosen = ["--child", &holders[1].to_string()];
    assert_eq!(read(&live, pid, "value", &chosen).json()["value"], VALUE);
    fails(&read(&live, pid, "valeu", &[]), 6, &["none of", "4 descendants", "value"]);
    fails(&read(&live, pid, "value", &["--child", "1"]), 5, &["no descendant"]);
}

#[test]
fn a_shell_that_launches() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, _) = live.start("sh -c '/holder-pie; true'");
    live.guest.run("until grep -q ready /out; do sleep 0.1; done").unwrap();
    assert_eq!(read(&live, pid, "value", &[]).json()["value"], VALUE);
}

/// A process whose first thread has ended is a zombie to `ps`, and its memory is alive.
#[test]
fn a_process_that_goes_on_in_another_thread() {
    for kernel in kernels() {
        let mut live = Live::new(&Setup::new(&kernel));
        let (pid, child) = live.start("/holder thread");
        let listed = live.vmfi(&["list", "--json"]).json();
        let victim = &listed[0]["children"][0];
        assert_eq!((&victim["pid"], &victim["state"]), (&child.into(), &"Z".into()));
        assert_eq!(victim["exe"], "/holder");
        let inject = ["inject", &pid.to_string(), "value", "6", "4", "0", "--json"];
        assert_eq!(live.vmfi(&inject).json()["read_back"], "06000000");
        assert_eq!(read(&live, pid, "value", &["4"]).json()["value"], 6);
    }
}

#[test]
fn an_ended_child_is_listed_and_is_no_victim() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, child) = live.start("/holder zombie");
    let listed = live.vmfi(&["list", "--json"]).json();
    let zombie = &listed[0]["children"][1];
    assert_eq!((&zombie["state"], &zombie["exe"]), (&"Z".into(), &serde_json::Value::Null));
    assert_eq!(read(&live, pid, "value", &[]).json()["value"], VALUE);
    let ended = zombie["pid"].to_string();
    fails(&read(&live, pid, "value", &["--child", &ended]), 5, &["zombie"]);
    // The victim ends: nothing is left but the wrapper, for a moment.
    live.guest.run(&format!("kill {child}; sleep 0.2")).unwrap();
    fails(&read(&live, pid, "value", &[]), 5, &[]);
}

/// Exec replaces name and memory: what is read next is the new program's.
#[test]
fn a_child_that_calls_exec_again() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, child) =
        live.start("sh -c 'echo up; until [ -e /go ]; do sleep 0.1; done; exec /holder-pie'");
    fails(&read(&live, pid, "value", &[]), 6, &["busybox"]);
    live.guest.run("touch /go; until grep -q ready /out; do sleep 0.1; done").unwrap();
    let listed = live.vmfi(&["list", "--json"]).json();
    let victim = &listed[0]["children"][0];
    assert_eq!((&victim["pid"], &victim["comm"]), (&child.into(), &"holder-pie".into()));
    assert_eq!(read(&live, pid, "value", &[]).json()["value"], VALUE);
}
