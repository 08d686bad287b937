//! What is proved of any live guest, each against what the guest itself says.

use crate::common::{Live, number};
use serde_json::Value;
use std::collections::BTreeSet;

pub const FOUR_GIB: u64 = 1 << 32;

/// For the command line of a guest whose memory above 4 GiB is taken: Debian's kernels clear what
/// they give away, and all of it would be the host's then.
pub const NOT_CLEARED: &str = "init_on_alloc=0";

/// Process id, parent's id and name of every process that lives long enough to be compared: not
/// of the kernel's workers, whose names change with their work, nor the shell's own child that
/// reads the next line from the console.
fn steady(processes: impl Iterator<Item = (i64, i64, String)>) -> BTreeSet<(i64, i64, String)> {
    let reader = |parent, comm: &str| parent == 1 && comm == "init";
    let passes = |comm: &str| comm.starts_with("kworker") || comm == "ps";
    processes.filter(|(_, parent, comm)| !passes(comm) && !reader(*parent, comm)).collect()
}

/// What the guest's own /proc says: `ps` cuts and decorates names.
fn of_guest(live: &mut Live) -> BTreeSet<(i64, i64, String)> {
    let lines = live.guest.run("ps -o pid,ppid,comm").unwrap();
    let parse = |line: &String| {
        let mut words = line.split_whitespace();
        let mut number = || words.next().unwrap().parse::<i64>().ok();
        let (pid, parent) = (number()?, number()?);
        Some((pid, parent, words.collect::<Vec<_>>().join(" ")))
    };
    steady(lines.iter().filter_map(parse))
}

fn of_vmfi(live: &Live) -> BTreeSet<(i64, i64, String)> {
    let all = live.vmfi(&["list", "--all", "--json"]).json();
    let parse = |process: &Value| {
        let comm = process["comm"].as_str().unwrap().to_owned();
        (process["pid"].as_i64().unwrap(), process["ppid"].as_i64().unwrap(), comm)
    };
    steady(all.as_array().unwrap().iter().map(parse))
}

/// `list --all` is the guest's own `ps`. Processes come and go between the two looks, so the
/// looks are repeated until they agree.
pub fn processes_agree(live: &mut Live) {
    let mut looks = Vec::new();
    for _ in 0..5 {
        let (inside, outside) = (of_guest(live), of_vmfi(live));
        assert!(outside.len() > 20, "{outside:?}");
        if inside == outside {
            return;
        }
        looks.push((inside, outside));
    }
    let (inside, outside) = looks.pop().unwrap();
    panic!(
        "only in the guest: {:?}, only from outside: {:?}",
        &inside - &outside,
        &outside - &inside
    );
}

/// One wrapper with one child, states and executables as they are.
pub fn wrapper_is_listed(live: &Live, pid: i64, child: i64, program: &str) {
    let listed = live.vmfi(&["list", "--json"]).json();
    let expected = serde_json::json!([{
        "pid": pid, "comm": "wrapper", "state": "S", "exe": "/wrapper",
        "children": [{
            "pid": child, "comm": &program[1..], "state": "S", "exe": program,
        }],
    }]);
    assert_eq!(listed, expected);
    let text = live.vmfi(&["list"]);
    assert!(text.stdout.contains("/wrapper") && text.stdout.contains(program), "{}", text.stdout);
}

/// An injection lands where the guest's pagemap says, and the guest reads what was written.
pub fn injection_lands(live: &mut Live, pid: i64, child: i64) {
    let wrapper = pid.to_string();
    let receipt = live.vmfi(&["inject", &wrapper, "value", "-2", "4", "2", "--json"]).json();
    let gva = number(&receipt["gva"]);
    assert_eq!(receipt["before"], "22222222");
    assert_eq!(receipt["after"], "feffffff");
    assert_eq!(receipt["read_back"], "feffffff");
    assert_eq!(receipt["overwritten"], false);
    assert_eq!(receipt["atomic"], live.atomic());
    assert_eq!(receipt["victim_pid"], child);
    assert_eq!(number(&receipt["gpa"]), live.pagemap(child, gva));
    assert_eq!(live.guest_reads(child, gva - 2, 8), "2222feffffff2222");
    let read = live.vmfi(&["read", &wrapper, "value", "--json"]).json();
    assert_eq!(read["bytes"], "2222feffffff2222");
    assert_eq!(read["gva"], format!("{:#x}", gva - 2));
}

/// A fault lands in the victim's pages above 4 GiB, where the kernel takes memory from first, and
/// in another one's below, once nothing is left above.
pub fn both_sides_of_four_gib_are_reached(live: &mut Live, pid: i64, child: i64) {
    injection_lands_where(live, pid, child, |gpa| gpa >= FOUR_GIB);
    take_high_memory(live);
    let (pid, child) = live.start("/holder");
    injection_lands_where(live, pid, child, |gpa| gpa < FOUR_GIB);
}

/// An injection lands in one of those pages of the large array whose place is `wanted`.
pub fn injection_lands_where(live: &mut Live, pid: i64, child: i64, wanted: fn(u64) -> bool) {
    let places = sample_of_big(live, pid, child);
    let found = places.iter().find(|(_, gpa)| wanted(*gpa));
    let (offset, gpa) = found.unwrap_or_else(|| panic!("no page lies there: {places:x?}"));
    let (wrapper, offset) = (pid.to_string(), offset.to_string());
    let inject = ["inject", &wrapper, "big", "0x0807060504030201", "8", &offset, "--json"];
    let receipt = live.vmfi(&inject).json();
    assert_eq!(number(&receipt["gpa"]), *gpa);
    assert_eq!(receipt["before"], "01".repeat(8));
    assert_eq!(live.guest_reads(child, number(&receipt["gva"]), 8), "0102030405060708");
}

/// Offset and guest-physical address of pages of the large array, as the guest's pagemap has them.
fn sample_of_big(live: &mut Live, pid: i64, child: i64) -> Vec<(u64, u64)> {
    let offsets = (0..64 << 20).step_by(8 << 20);
    offsets
        .map(|offset: u64| {
            let (wrapper, text) = (pid.to_string(), offset.to_string());
            let read = live.vmfi(&["read", &wrapper, "big", "8", &text, "--json"]).json();
            assert_eq!(read["bytes"], "01".repeat(8));
            let (gva, gpa) = (number(&read["gva"]), number(&read["gpa"]));
            assert_eq!(gpa, live.pagemap(child, gva));
            (offset, gpa)
        })
        .collect()
}

/// Takes what is free above 4 GiB as huge pages. Nobody touches them, so that they cost the host
/// nothing where they are [`NOT_CLEARED`].
fn take_high_memory(live: &mut Live) {
    let free = "awk '/zone +Normal/ { high = 1 } high && /pages free/ { print $3; exit }'";
    let take = format!("echo $(($({free} /proc/zoneinfo) / 512)) >/proc/sys/vm/nr_hugepages");
    live.guest.run(&take).unwrap();
}
