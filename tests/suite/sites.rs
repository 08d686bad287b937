//! Whose a page is: pages of every kind, each held against what the guest's own kernel says of it,
//! and what a write to it changes in all of RAM.

use crate::common::{Live, Ran, built, kernels, number};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;
use vmfi::lab::{Accel, Initramfs, Setup};

/// Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h).
const ANONYMOUS: u64 = 1 << 12;
const HUGE: u64 = 1 << 17;
const MERGED: u64 = 1 << 21;
const TRANSPARENT_HUGE: u64 = 1 << 22;
const ZERO: u64 = 1 << 24;
const ALL: u64 = ANONYMOUS | HUGE | MERGED | TRANSPARENT_HUGE | ZERO;

/// What fixtures/pages/pages.c writes to what it writes at all, at first and on a signal.
const WRITTEN: &str = "2222222222222222";
const ON_SIGNAL: &str = "3333333333333333";

/// The fault, and its bytes in memory order.
const FAULT: &str = "0x0807060504030201";
const FAULTY: &str = "0102030405060708";

/// One that may be written as it is.
const FREE: &str = "";

/// A place in a page of some kind.
struct Place {
    name: &'static str,
    verdict: &'static str,
    /// Words of the refusal.
    refused: &'static str,
    /// Whether another process with the same program has the page too.
    shared: bool,
    /// Those of [`ALL`] that the guest's kernel says of the page; nothing where it has none to say.
    flags: Option<u64>,
}

const fn own(name: &'static str, refused: &'static str, flags: u64) -> Place {
    Place { name, verdict: "anonymous", refused, shared: false, flags: Some(flags) }
}

const fn shared(
    name: &'static str,
    verdict: &'static str,
    refused: &'static str,
    flags: u64,
) -> Place {
    Place { name, verdict, refused, shared: true, flags: Some(flags) }
}

/// Every place that is in RAM.
static PLACES: [Place; 17] = [
    own("written_data", FREE, ANONYMOUS),
    own("own", FREE, ANONYMOUS),
    own("private_file_written", FREE, ANONYMOUS),
    own("huge", FREE, ANONYMOUS | TRANSPARENT_HUGE),
    own("huge_explicit", FREE, ANONYMOUS | HUGE),
    own("read_only", "read-only for the victim", ANONYMOUS),
    own("forbidden", "may not touch", ANONYMOUS),
    shared("unwritten_data", "private-file", "private file page", 0),
    shared("private_file", "private-file", "private file page", 0),
    shared("shared_file", "shared-mapping", "shared mapping", 0),
    Place { shared: false, ..shared("shared_anonymous", "shared-mapping", "shared mapping", 0) },
    shared("constant", "page-cache", "read-only for the victim", 0),
    shared("main", "page-cache", "read-only for the victim", 0),
    shared("zeros", "zero-page", "the zero page", ZERO),
    shared("huge_zeros", "huge-zero-page", "the huge zero page", ZERO | TRANSPARENT_HUGE),
    shared("merged", "ksm", "KSM", ANONYMOUS | MERGED),
    Place { flags: None, ..shared("[vvar]", "device", "a page of a device", 0) },
];

/// Those of which a fault in the page that all share is no end of the guest.
const SPARED: [&str; 4] = ["zeros", "huge_zeros", "main", "[vvar]"];

/// What a guest needs for all of them. Transparent huge pages are off where it has only 512 MiB.
const PREPARATIONS: [&str; 6] = [
    "mkswap /dev/nvme0n1 && swapon /dev/nvme0n1",
    "echo 4 >/proc/sys/vm/nr_hugepages",
    "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled",
    "echo 1 >/sys/kernel/mm/transparent_hugepage/use_zero_page",
    "echo 1000 >/sys/kernel/mm/ksm/pages_to_scan",
    "echo 1 >/sys/kernel/mm/ksm/run",
];

/// A guest with two processes that have pages of every kind: the victim, and another one.
struct Pages {
    live: Live,
    victim: i64,
    other: i64,
    /// Where the victim itself says that each place is.
    told: BTreeMap<String, u64>,
}

impl Pages {
    fn boot(kernel: &Path) -> Self {
        let setup = Setup { disk_mib: Some(64), ..Setup::new(kernel) };
        let mut live = Live::booted(&setup, &files());
        PREPARATIONS.iter().for_each(|line| drop(live.guest.run(line).unwrap()));
        let command = "/pages >/other & until grep ready /other; do sleep 0.1; done; echo $!";
        let other = live.guest.run(command).unwrap().pop().unwrap().parse().unwrap();
        let mut pages = Self { live, victim: 0, other, told: BTreeMap::new() };
        pages.start("/pages");
        // All four are one.
        pages.wait("[ $(cat /sys/kernel/mm/ksm/pages_sharing) = 3 ]");
        pages
    }

    /// Starts `program` as the victim, in place of the one that there was.
    fn start(&mut self, program: &str) {
        if self.victim != 0 {
            self.end(self.victim);
        }
        (_, self.victim) = self.live.start(program);
        let lines = self.wait("grep -q ready /out").cat("/out");
        let place = |line: &String| {
            let (name, address) = line.rsplit_once(" 0x")?;
            Some((name.to_owned(), u64::from_str_radix(address, 16).ok()?))
        };
        self.told = lines.iter().filter_map(place).collect();
        let command = format!("grep -F '[vvar]' /proc/{}/maps", self.victim);
        let start = self.live.guest.run(&command).unwrap().concat();
        let start = u64::from_str_radix(start.split('-').next().unwrap(), 16).unwrap();
        self.told.insert("[vvar]".to_owned(), start);
    }

    fn end(&mut self, pid: i64) {
        self.live.guest.run(&format!("kill {pid}")).unwrap();
        self.wait(&format!("[ ! -e /proc/{pid} ]"));
    }

    /// Waits until `condition` holds in the guest.
    fn wait(&mut self, condition: &str) -> &mut Self {
        self.live.guest.run(&format!("until {condition}; do sleep 0.1; done")).unwrap();
        self
    }

    fn cat(&mut self, path: &str) -> Vec<String> {
        self.live.guest.run(&format!("cat {path}")).unwrap()
    }

    /// What leads to the place called `name`: its symbol, where it has one.
    fn target(&self, name: &str) -> String {
        match name {
            "[vvar]" => format!("{:#x}", self.told[name]),
            name => name.to_owned(),
        }
    }

    fn explain(&self, name: &str) -> Value {
        let victim = self.victim.to_string();
        self.live.vmfi(&["explain", "--direct", &victim, &self.target(name), "--json"]).json()
    }

    /// `vmfi inject` of [`FAULT`] at the place called `name` in the process `pid`.
    fn inject_into(&self, pid: i64, name: &str, more: &[&str]) -> Ran {
        let inject = ["inject", "--direct", &pid.to_string(), &self.target(name), FAULT, "8", "0"];
        self.live.vmfi(&[&inject[..], &["--json"], more].concat())
    }

    fn inject(&self, name: &str, more: &[&str]) -> Ran {
        self.inject_into(self.victim, name, more)
    }

    /// The eight bytes at the place called `name` as the guest reads them in the process `pid`.
    fn seen_by(&mut self, pid: i64, name: &str) -> String {
        let gva = self.told[name];
        self.live.guest_reads(pid, gva, 8)
    }

    /// What the guest's own kernel says of the page at `gpa`. 6.12 calls all that is anonymous
    /// merged: that counts only where it is `expected`.
    fn kernel_says(&mut self, gpa: u64, expected: u64) -> u64 {
        let from = format!("if=/proc/kpageflags bs=8 skip={} count=1", gpa >> 12);
        let flags = u64::from_str_radix(&self.live.dump(&from), 16).unwrap().swap_bytes();
        flags & ALL & (expected | !MERGED)
    }

    /// Where the victim's mapping is whose line in /proc/PID/smaps has `pattern`, and how many bytes of
    /// it are in RAM.
    fn mapped(&mut self, pattern: &str) -> (Range<u64>, u64) {
        let smaps = format!("grep -A 4 '{pattern}' /proc/{}/smaps", self.victim);
        let lines = self.live.guest.run(&smaps).unwrap();
        let bounds = lines[0].split(' ').next().and_then(|bounds| bounds.split_once('-')).unwrap();
        let [start, end] = [bounds.0, bounds.1].map(|text| u64::from_str_radix(text, 16).unwrap());
        let kib = lines.iter().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix(" kB"));
        (start..end, kib.unwrap().trim().parse::<u64>().unwrap() << 10)
    }

    /// The receipt of one byte of `region`, which is not written.
    fn draw(&self, region: &str, seed: u64) -> Value {
        let (victim, seed) = (self.victim.to_string(), seed.to_string());
        let inject = ["inject", "--direct", &victim, region, "1", "--seed", &seed];
        let receipt =
            self.live.vmfi(&[&inject[..], &["--force", "--dry-run", "--json"]].concat()).json();
        assert_eq!((receipt["seed"].to_string(), &receipt["size"]), (seed, &1.into()));
        receipt
    }

    /// Has the process `pid` write, in a moment.
    fn signal_soon(&mut self, pid: i64) {
        self.live.guest.run(&format!("(sleep 1; kill -USR1 {pid}) &")).unwrap();
    }
}

fn files() -> Initramfs {
    let mut files = Initramfs::with_busybox().unwrap();
    files.copy(&built("guest/wrapper"), "/wrapper").unwrap();
    for victim in ["pages", "holder-pie", "namespaces"] {
        files.copy(&built(&format!("fixtures/{victim}")), &format!("/{victim}")).unwrap();
    }
    files
}

/// Each place is where the guest's kernel has it, in a page that it calls the same.
fn verdicts_agree(pages: &mut Pages) {
    for place in &PLACES {
        let (name, told) = (place.name, pages.explain(place.name));
        assert_eq!(told["verdict"], place.verdict, "{told}");
        assert_eq!(told["exclusive"], place.verdict == "anonymous", "{told}");
        assert_eq!(told["writable"], place.refused == FREE, "{told}");
        let sharing = told["shared_with"].as_array().unwrap().contains(&pages.other.into());
        assert!(sharing == place.shared || place.flags.is_none(), "{told}");
        let gva = number(&told["gva"]);
        assert_eq!(gva, *pages.told.get(name).unwrap_or(&gva));
        if let Some(flags) = place.flags {
            let gpa = pages.live.pagemap(pages.victim, gva);
            assert_eq!(number(&told["gpa"]), gpa, "{told}");
            assert_eq!(pages.kernel_says(gpa, flags), flags, "{name}");
        }
    }
}

/// What is not the victim's alone is refused, by name.
fn refusals_say_why(pages: &Pages) {
    for place in PLACES.iter().filter(|place| place.refused != FREE) {
        let ran = pages.inject(place.name, &[]);
        let line = ran.fails_with(7);
        assert!(line.contains(place.refused) && line.contains("--force"), "{line}");
        let names_other = line.contains(&format!("{} (pages)", pages.other));
        assert!(names_other == place.shared || place.flags.is_none(), "{line}");
    }
}

/// Where no page is, the reason is told.
fn absence_is_told(pages: &Pages) {
    for (name, words) in [("absent", "has not touched"), ("swapped", "swapped out")] {
        assert_eq!(pages.explain(name)["verdict"], Value::Null);
        for more in [&[][..], &["--force"]] {
            let ran = pages.inject(name, more);
            assert!(ran.fails_with(7).contains(words), "{}", ran.stderr);
        }
    }
    let victim = pages.victim.to_string();
    let far = ["inject", "--direct", &victim, "own", "1", "8", "0x10000000000"];
    assert!(pages.live.vmfi(&far).fails_with(7).contains("is not mapped"));
}

/// Code that runs in a loop, in a page of the victim's own: whether a change to it has an effect
/// is not known of QEMU's translator.
fn code_is_told(pages: &mut Pages) {
    let native = pages.live.guest.accel() == Accel::Kvm;
    let told = pages.explain("code");
    assert_eq!((&told["verdict"], &told["code"]), (&"anonymous".into(), &true.into()), "{told}");
    assert_eq!(told["writable"], native, "{told}");
    let victim = pages.victim.to_string();
    // The number that it gives.
    let inject = ["inject", "--direct", &victim, "code", "9", "4", "1", "--json"];
    if !native {
        let ran = pages.live.vmfi(&inject);
        let line = ran.fails_with(7);
        assert!(line.contains("KVM") && line.contains("--force"), "{line}");
    }
    let receipt = pages.live.vmfi(&[&inject[..], &["--force"]].concat()).json();
    assert_eq!(receipt["effect_unproven"], !native);
    assert_eq!((&receipt["before"], &receipt["after"]), (&"01000000".into(), &"09000000".into()));
    if native {
        let gives = ["read", "--direct", &victim, "code_gives", "--json"];
        assert_eq!(pages.live.vmfi(&gives).json()["value"], 9);
    }
}

/// What is the victim's own is written without --force, and is another page in the other process.
fn its_own_is_written(pages: &mut Pages) {
    let victim = pages.victim.to_string();
    for place in PLACES.iter().filter(|place| place.refused == FREE) {
        let inject = ["inject", "--direct", &victim, place.name, "-1", "8", "0", "--json"];
        assert_eq!(pages.live.vmfi(&inject).json()["verdict"], "anonymous");
        assert_eq!(pages.seen_by(pages.victim, place.name), "ff".repeat(8), "{}", place.name);
        assert_eq!(pages.seen_by(pages.other, place.name), WRITTEN, "{}", place.name);
    }
}

/// With the VM halted, and with faults forced into pages of every kind, exactly the bytes of the
/// receipts change; who has the page sees them, and nobody else.
fn nothing_else_changes(pages: &mut Pages) {
    let places = PLACES.iter().filter(|place| !SPARED.contains(&place.name));
    let places: Vec<_> =
        places.map(|place| (place, pages.seen_by(pages.other, place.name))).collect();
    pages.live.guest.halt(true).unwrap();
    let before = pages.live.ram();
    let inject = |name| pages.inject(name, &["--force"]).json();
    let receipts: Vec<_> = places.iter().map(|(place, _)| inject(place.name)).collect();
    let changed = pages.live.changed_since(&before);
    pages.live.guest.halt(false).unwrap();
    let written: BTreeSet<_> = receipts.iter().flat_map(bytes).collect();
    assert_eq!(changed, written.into_iter().collect::<Vec<_>>());
    for ((place, others), receipt) in places.iter().zip(&receipts) {
        assert_eq!(receipt["verdict"], place.verdict, "{receipt}");
        // Newer kernels read nothing where a process itself may not.
        if others.is_empty() {
            continue;
        }
        assert_eq!(pages.seen_by(pages.victim, place.name), FAULTY, "{receipt}");
        let now = pages.seen_by(pages.other, place.name);
        assert_eq!(now, if place.shared { FAULTY } else { others }, "{receipt}");
    }
}

/// Where the bytes of a receipt lie.
fn bytes(receipt: &Value) -> Range<u64> {
    let gpa = number(&receipt["gpa"]);
    gpa..gpa + receipt["size"].as_u64().unwrap()
}

/// Where what is waited for does not come, all of the time given is waited; for nothing else.
fn waiting_in_vain(pages: &Pages) {
    let waits = [
        ("unwritten_data", "--wait-private", 1),
        ("absent", "--wait-resident", 1),
        ("absent", "--wait-private", 0),
        ("shared_file", "--wait-private", 0),
    ];
    for (name, wait, seconds) in waits {
        let started = Instant::now();
        pages.inject(name, &[wait, "1"]).fails_with(7);
        let waited = started.elapsed();
        assert!((seconds..seconds + 4).contains(&waited.as_secs()), "{name} {wait}: {waited:?}");
    }
}

/// Waiting ends once the page is there, or the victim's own.
fn waiting(pages: &mut Pages) {
    // What both write is equal again, and would be merged again.
    pages.live.guest.run("echo 0 >/sys/kernel/mm/ksm/run").unwrap();
    let waits = [
        (pages.victim, "swapped", "--wait-resident"),
        (pages.other, "private_file", "--wait-private"),
    ];
    for (pid, name, wait) in waits {
        pages.signal_soon(pid);
        let receipt = pages.inject_into(pid, name, &[wait, "60"]).json();
        assert_eq!(receipt["verdict"], "anonymous");
        assert_eq!(receipt["victim_pid"], pid);
    }
    for name in ["unwritten_data", "absent", "zeros", "huge_zeros", "merged"] {
        let receipt = pages.inject(name, &[]).json();
        assert_eq!(
            (&receipt["verdict"], &receipt["before"]),
            (&"anonymous".into(), &ON_SIGNAL.into())
        );
        assert_eq!(pages.seen_by(pages.other, name), ON_SIGNAL, "{name}");
    }
}

/// A byte of a region is drawn from all that the guest says is in RAM of it, by a seed.
fn regions_are_drawn(pages: &mut Pages) {
    for (region, line) in [("heap", r"\[heap]"), ("stack", r"\[stack]"), ("text", " r-xp .*/pages")]
    {
        let (range, resident) = pages.mapped(line);
        let drawn = [1, 2, 1].map(|seed: u64| pages.draw(region, seed));
        assert_eq!(drawn[0]["gva"], drawn[2]["gva"]);
        assert_ne!(drawn[0]["gva"], drawn[1]["gva"]);
        for receipt in drawn {
            assert!(range.contains(&number(&receipt["gva"])), "{receipt}");
            let first = number(&receipt["gva"]) - receipt["region_offset"].as_u64().unwrap();
            assert!(range.start <= first && first < range.start + 4096, "{receipt}");
            // The program's text ends within a page.
            let sampled = receipt["sampled_from"].as_u64().unwrap();
            assert_eq!(sampled.next_multiple_of(4096), resident, "{receipt}");
            assert_eq!(receipt["probability"], 1.0 / sampled as f64);
        }
    }
}

/// The memory map is the one of the guest's own /proc, but for blanks at the ends of lines.
fn map_is_that_of_proc(pages: &mut Pages) {
    let proc = pages.live.guest.run(&format!("cat /proc/{}/maps", pages.victim)).unwrap();
    let ran = pages.live.vmfi(&["maps", "--direct", &pages.victim.to_string()]);
    let proc: Vec<_> = proc.iter().map(|line| line.trim_end()).collect();
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), proc, "{}", ran.stderr);
}

/// What is shared since a fork is the child's too, until one of them writes, or ends.
fn forks(pages: &mut Pages) {
    pages.start("/pages fork");
    let listed = pages.live.vmfi(&["list", "--json"]).json();
    let below = listed[0]["children"].as_array().unwrap();
    let mut pids = below.iter().map(|child| child["pid"].as_i64().unwrap());
    let child = pids.find(|pid| *pid != pages.victim).unwrap();
    a_fork_is_told(pages, child);
    // The victim writes: from then on each has a page of its own for this.
    pages.signal_soon(pages.victim);
    assert_eq!(pages.inject("own", &["--wait-private", "60"]).json()["verdict"], "anonymous");
    assert_eq!(pages.explain("own")["shared_with"], json!([]));
    assert_eq!(pages.seen_by(child, "own"), FAULTY);
    // The child ends: what was shared is the victim's alone, though its entry does not say so.
    pages.end(child);
    for name in ["written_data", "huge", "huge_explicit"] {
        let told = pages.explain(name);
        assert_eq!((&told["verdict"], &told["shared_with"]), (&json!("anonymous"), &json!([])));
        assert_eq!(pages.inject(name, &[]).json()["verdict"], "anonymous");
        assert_eq!(pages.seen_by(pages.victim, name), FAULTY);
    }
}

/// The child is named, and sees what is forced.
fn a_fork_is_told(pages: &mut Pages, child: i64) {
    for (name, verdict, words) in [
        ("own", "copy-on-write", "copy-on-write"),
        ("huge", "copy-on-write", "copy-on-write"),
        ("shared_anonymous", "shared-mapping", "shared mapping"),
    ] {
        let told = pages.explain(name);
        assert_eq!((&told["verdict"], &told["shared_with"]), (&json!(verdict), &json!([child])));
        let ran = pages.inject(name, &[]);
        let line = ran.fails_with(7);
        assert!(line.contains(words) && line.contains(&format!("{child} (pages)")), "{line}");
        pages.inject(name, &["--force"]).json();
        for pid in [pages.victim, child] {
            assert_eq!(pages.seen_by(pid, name), FAULTY, "{name}");
        }
    }
}

/// A program that is loaded anywhere has the same.
fn loaded_anywhere(pages: &mut Pages) {
    pages.start("/holder-pie");
    for (name, verdict) in [("value", "anonymous"), ("untouched", "private-file")] {
        let told = pages.explain(name);
        assert_eq!(told["verdict"], verdict, "{told}");
        let gpa = pages.live.pagemap(pages.victim, number(&told["gva"]));
        assert_eq!(number(&told["gpa"]), gpa, "{told}");
    }
}

/// Variables of a program in C++, by their names there.
fn namespaces(pages: &mut Pages) {
    pages.start("/namespaces");
    assert_eq!(pages.told.len(), 5 + 1);
    let names: Vec<_> = pages.told.keys().filter(|name| *name != "[vvar]").cloned().collect();
    for name in names {
        let receipt = pages.inject(&name, &[]).json();
        assert_eq!(
            (number(&receipt["gva"]), &receipt["verdict"]),
            (pages.told[&name], &"anonymous".into())
        );
        assert_eq!(pages.seen_by(pages.victim, &name), FAULTY);
    }
}

fn pages_of_every_kind(kernel: &Path) {
    let mut pages = Pages::boot(kernel);
    map_is_that_of_proc(&mut pages);
    regions_are_drawn(&mut pages);
    verdicts_agree(&mut pages);
    refusals_say_why(&pages);
    absence_is_told(&pages);
    code_is_told(&mut pages);
    waiting_in_vain(&pages);
    nothing_else_changes(&mut pages);
    its_own_is_written(&mut pages);
    waiting(&mut pages);
    forks(&mut pages);
    loaded_anywhere(&mut pages);
    namespaces(&mut pages);
}

#[test]
fn pages_of_every_kind_by_default() {
    for kernel in kernels() {
        pages_of_every_kind(&kernel);
    }
}

#[test]
#[ignore = "kernels that only `make test-matrix` downloads"]
fn pages_of_every_kind_on_other_kernels() {
    for name in ["bullseye", "sid"] {
        pages_of_every_kind(&built(&format!("kernels/{name}/vmlinuz")));
    }
}
