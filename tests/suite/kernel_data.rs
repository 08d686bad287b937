//! Faults in the guest's kernel: what may be written, what the guest itself sees of it, and that a
//! kernel that is damaged or dead brings neither vmfi nor the host down.

use crate::common::{Live, Ran, files, kernels, number};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmfi::lab::Setup;

/// More than any look may take, on a machine that does other things too.
const AT_ONCE: Duration = Duration::from_secs(15);

/// What `vmfi` does of its own accord, however the guest is.
fn at_once(live: &Live, arguments: &[&str]) -> Ran {
    let started = Instant::now();
    let ran = live.vmfi(arguments);
    assert!(started.elapsed() < AT_ONCE, "{arguments:?}: {:?}", started.elapsed());
    ran
}

fn inject(live: &Live, words: &[&str]) -> Ran {
    live.vmfi(&[&["inject", "--kernel"], words, &["--json"]].concat())
}

fn read(live: &Live, target: &str) -> serde_json::Value {
    live.vmfi(&["read", "--kernel", target, "--json"]).json()
}

/// The one line of a run that must be refused.
fn refused(ran: &Ran, words: &str) {
    let line = ran.fails_with(7);
    assert!(line.contains(words) && line.contains("--force"), "'{words}' is not in: {line}");
}

#[test]
fn what_the_kernel_may_write_is_written() {
    for kernel in kernels() {
        let mut live = Live::booted(&Setup::new(&kernel), &files());
        let receipt = inject(&live, &["panic_timeout", "7", "4", "0"]).json();
        assert_eq!(
            (&receipt["verdict"], receipt["pid"].as_i64()),
            (&"kernel-data".into(), Some(0))
        );
        assert_eq!(receipt["before"], "ffffffff", "the lab's panic=-1");
        assert_eq!(live.guest.run("cat /proc/sys/kernel/panic").unwrap(), ["7"]);
        assert_eq!(read(&live, "panic_timeout")["bytes"].as_str().unwrap()[..8], *"07000000");
        members_are_reached(&mut live);
        the_rest_takes_force(&mut live);
    }
}

/// Through the kernel's own types, against what the guest tells of itself.
fn members_are_reached(live: &mut Live) {
    let (_, child) = live.start("/holder");
    let told = live.guest.run(&format!("cut -d ' ' -f 1 /proc/{child}/statm")).unwrap().concat();
    let pages = read(live, &format!("task({child})->mm->total_vm"));
    assert_eq!(pages["value"].to_string(), told);
    assert_eq!(read(live, "init_task.prio")["value"], 120);
    let nice = format!("task({child})->static_prio");
    assert_eq!(inject(live, &[&nice, "125"]).json()["size"], 4);
    // The nineteenth word is the nice value, here told with its sign.
    let told = live.guest.run(&format!("cut -d ' ' -f 19 /proc/{child}/stat")).unwrap().concat();
    assert_eq!(told, "5");
}

/// Constants, code, and what the kernel gave away once it had booted.
fn the_rest_takes_force(live: &mut Live) {
    refused(&inject(live, &["linux_banner", "0", "1", "0"]), "read-only data of the kernel");
    refused(&inject(live, &["schedule", "0", "1", "0"]), "code of the kernel");
    refused(&inject(live, &["start_kernel", "0", "1", "0"]), "given away");
    assert!(inject(live, &["panic_timeot", "0", "1", "0"]).fails_with(6).contains("panic_timeout"));
    // "%s version %s (...": what /proc/version is made from.
    let receipt = inject(live, &["linux_proc_banner", "0x56", "1", "3", "--force"]).json();
    assert_eq!(
        (&receipt["verdict"], &receipt["before"]),
        (&"kernel-read-only".into(), &"76".into())
    );
    let version = live.guest.run("cat /proc/version").unwrap().concat();
    assert!(version.starts_with("Linux Version "), "{version}");
}

/// What leads to no place in the kernel, and what to do about it; and a place by every name it has.
#[test]
fn names_of_the_kernel() {
    let mut live = Live::booted(&Setup::new(&kernels()[0]), &files());
    let nowhere = [
        ("panic_timeoat", 6, "panic_timeout"),
        ("init_task.prioo", 6, "prio"),
        ("linux_banner.x", 6, "(struct NAME)"),
        ("task(99999)->mm", 5, "99999"),
        ("task(2)->mm->total_vm", 7, "task(2)->mm"),
        ("0xffffffffffff0000", 7, "not mapped"),
    ];
    for (target, code, word) in nowhere {
        let ran = inject(&live, &[target, "1", "1", "0"]);
        assert!(ran.fails_with(code).contains(word), "{target}: {}", ran.stderr);
    }
    // Without NUM_BYTES the type tells how many there are.
    assert_eq!(inject(&live, &["panic_timeout", "-3"]).json()["after"], "fdffffff");
    let told = live.vmfi(&["explain", "--kernel", "init_task.prio", "--json"]).json();
    assert_eq!((&told["type"], &told["verdict"]), (&"int".into(), &"kernel-data".into()));
    let line = live.guest.run("grep ' panic_timeout$' /proc/kallsyms").unwrap().concat();
    let listed = live.vmfi(&["symbols", "--kernel", "panic_timeou?", "--json"]).json();
    let place = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    assert_eq!(number(&listed[0]["gva"]), place);
}

/// A list of tasks that leads nowhere, or back too early, is told as such and at once; put right, it
/// is read as ever.
#[test]
fn a_damaged_list_of_tasks() {
    let mut live = Live::booted(&Setup::new(&kernels()[0]), &files());
    let (pid, _) = live.start("/holder");
    let next = read(&live, "init_task.tasks.next");
    let own = next["gva"].as_str().unwrap();
    let before = u64::from_str_radix(next["bytes"].as_str().unwrap(), 16).unwrap().to_be_bytes();
    for value in ["0", "0x4141414141414141", "0xffff800000000000", "0x1000", own] {
        inject(&live, &["init_task.tasks.next", value, "8", "0"]).json();
        for look in [&["list"][..], &["list", "--all"], &["read", &pid.to_string(), "value"]] {
            let ran = at_once(&live, look);
            assert!(
                [4, 5].contains(&ran.code),
                "{look:?} with {value}: {}{}",
                ran.stdout,
                ran.stderr
            );
            ran.fails_with(ran.code);
        }
        // By other means: of such a kernel nothing is believed.
        let ram = File::options().write(true).open(live.guest.ram()).unwrap();
        ram.write_all_at(&before, number(&next["gpa"])).unwrap();
        assert_eq!(live.vmfi(&["list", "--json"]).json()[0]["pid"], pid);
    }
    live.guest.run("ps").unwrap();
}

/// Has the guest's kernel call what is no code, at its next tick: to tell the time, by a clock that
/// is chosen here, since a guest that has just booted changes its own.
fn bring_down(live: &mut Live) {
    live.guest.run("while :; do :; done &").unwrap();
    let chosen = "cd /sys/devices/system/clocksource/clocksource0; \
                  echo acpi_pm > current_clocksource; cat current_clocksource; cd /";
    assert_eq!(live.guest.run(chosen).unwrap().concat(), "acpi_pm");
    let called = ["(struct clocksource)clocksource_acpi_pm.read", "0x1000", "8", "0"];
    assert_eq!(inject(live, &called).json()["verdict"], "kernel-data");
}

/// Looks at the guest until `done`; each look ends at once and, where it fails, with one line.
fn look_until(live: &Live, done: impl Fn(&Live) -> bool) {
    let started = Instant::now();
    while !done(live) {
        assert!(started.elapsed() < Duration::from_secs(60), "the guest is still up");
        let ran = at_once(live, &["list"]);
        if ran.code != 0 {
            ran.fails_with(ran.code);
        }
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_kernel_that_ends_its_vm() {
    for kernel in kernels() {
        let mut live = Live::booted(&Setup::new(&kernel), &files());
        bring_down(&mut live);
        look_until(&live, |live| !live.guest.ram().exists());
        at_once(&live, &["list"]).fails_with(3);
    }
}

#[test]
fn a_kernel_that_stays_dead() {
    for kernel in kernels() {
        let append = "panic=0".to_owned();
        let mut live = Live::booted(&Setup { append, ..Setup::new(&kernel) }, &files());
        let (pid, _) = live.start("/holder");
        bring_down(&mut live);
        let value = ["inject", &pid.to_string(), "value", "6", "4", "0"];
        look_until(&live, |live| at_once(live, &value).stderr.contains("clock stands still"));
        at_once(&live, &value).fails_with(7);
        assert_eq!(at_once(&live, &["list", "--json"]).json()[0]["pid"], pid);
    }
}
