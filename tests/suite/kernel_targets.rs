//! Places in the guest's kernel itself, each held against what the guest shows of it.

use crate::common::{Live, kernels, number};
use std::time::{Duration, Instant};
use vmfi::lab::Setup;

/// A guest of which nothing is known but its memory, and a process that holds still.
fn guest() -> Vec<(Live, i64)> {
    let boot = |kernel: &std::path::PathBuf| {
        let mut live = Live::unknown(&Setup::new(kernel));
        let (_, child) = live.start("/holder");
        (live, child)
    };
    kernels().iter().map(boot).collect()
}

#[test]
fn the_kernel_sees_what_was_written() {
    for (mut live, child) in guest() {
        let shown = |live: &mut Live, path: &str| live.guest.run(&format!("cat {path}")).unwrap();
        let panic_timeout = "/proc/sys/kernel/panic";
        let receipt =
            live.vmfi(&["inject", "--kernel", "panic_timeout", "7", "4", "0", "--json"]).json();
        assert_eq!((&receipt["pid"], &receipt["verdict"]), (&0.into(), &"kernel-data".into()));
        assert_eq!(shown(&mut live, panic_timeout), ["7"]);
        // Its type tells how many bytes it has.
        live.vmfi(&["inject", "panic_timeout", "-3", "--kernel", "--json"]).json();
        assert_eq!(shown(&mut live, panic_timeout), ["-3"]);
        let comm = format!("task({child})->comm[0]");
        live.vmfi(&["inject", "--kernel", &comm, "88", "--json"]).json();
        assert_eq!(shown(&mut live, &format!("/proc/{child}/comm")), ["Xolder"]);
        let total = format!("task({child})->mm->total_vm");
        let read = live.vmfi(&["read", "--kernel", &total, "--json"]).json();
        let statm = shown(&mut live, &format!("/proc/{child}/statm")).concat();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        // On 5.10 to 7.2 these are the same pages.
        assert_eq!(read["value"], pages, "{read}");
        let places = live.guest.copy_out("/proc/kallsyms").unwrap();
        let places = String::from_utf8(places).unwrap();
        let place = places.lines().find_map(|line| line.strip_suffix(" panic_timeout")).unwrap();
        let place = u64::from_str_radix(place.split(' ').next().unwrap(), 16).unwrap();
        let listed = live.vmfi(&["symbols", "--kernel", "panic_timeout", "--json"]).json();
        assert_eq!((number(&listed[0]["gva"]), number(&receipt["gva"])), (place, place));
        let told = live.vmfi(&["explain", "--kernel", "init_task.prio", "--json"]).json();
        assert_eq!((&told["type"], &told["verdict"]), (&"int".into(), &"kernel-data".into()));
    }
}

#[test]
fn what_the_kernel_may_not_write_is_refused() {
    let (live, child) = guest().remove(0);
    let refused = [
        ("linux_banner", "read-only data of the kernel"),
        ("schedule", "code of the kernel"),
        ("start_kernel", "given away since"),
    ];
    for (target, words) in refused {
        let inject = ["inject", "--kernel", target, "1", "1", "0"];
        let ran = live.vmfi(&inject);
        let line = ran.fails_with(7);
        assert!(line.contains(words) && line.contains("--force"), "{line}");
        let dry = [&inject[..], &["--force", "--dry-run", "--json"]].concat();
        assert_ne!(live.vmfi(&dry).json()["verdict"], "kernel-data");
    }
    let missing = [
        ("panic_timeoat", 6, "panic_timeout"),
        ("init_task.prioo", 6, "prio"),
        ("task(99999)->mm", 5, "99999"),
        ("task(2)->mm->total_vm", 7, "task(2)->mm"),
        ("linux_banner.x", 6, "(struct NAME)"),
        ("0xffffffffffff0000", 7, "not mapped"),
    ];
    for (target, code, word) in missing {
        let ran = live.vmfi(&["inject", "--kernel", target, "1", "1", "0"]);
        assert!(ran.fails_with(code).contains(word), "{target}: {}", ran.stderr);
    }
    live.vmfi(&["read", "--kernel", &format!("task({child})"), "8", "--json"]).json();
}

/// A fault in the kernel can end it; whoever injected stays unharmed.
#[test]
fn a_corrupted_pointer_brings_the_guest_down() {
    let (mut live, _) = guest().remove(0);
    let inject = ["inject", "--kernel", "task(1)->signal", "0x10", "8", "0", "--json"];
    assert_eq!(live.vmfi(&inject).json()["read_back"], "1000000000000000");
    let command = "for i in 1 2 3; do sh -c true; sleep 0.2; done; kill -HUP 1";
    assert!(live.guest.run(command).is_err(), "the guest runs on");
    for command in [&["list"][..], &["list", "--all"], &["probe"], &["read", "--kernel", "jiffies"]]
    {
        let started = Instant::now();
        let ran = live.vmfi(command);
        assert!([0, 3, 4, 5].contains(&ran.code), "{command:?}: {} {}", ran.code, ran.stderr);
        assert!(started.elapsed() < Duration::from_secs(20), "{command:?}");
    }
}
