//! The claims, on live guests: two kernels, four and five levels, KASLR on and off, two CPUs, RAM
//! on both sides of 4 GiB. What the guest itself says is the truth that each is held against.

use crate::common::{Live, Ran, boot, built, kernels, number, project, system_map, vmfi};
use crate::proofs::{
    NOT_CLEARED, both_sides_of_four_gib_are_reached, injection_lands, processes_agree,
    wrapper_is_listed,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use vmfi::lab::{LabGuest, Setup};
use vmfi::vmm;

const WRITTEN: u64 = 0x2222_2222_2222_2222;
const NAMESPACED: u64 = 0x5555_5555_5555_5555;

/// A value that crosses a page lands in both, wherever they lie.
fn page_crossing_lands(live: &mut Live, pid: i64, child: i64) {
    let receipt = live
        .vmfi(&["inject", &pid.to_string(), "pages", "0x0807060504030201", "8", "0xffc", "--json"])
        .json();
    assert_eq!(receipt["before"], "33".repeat(8));
    assert_eq!(receipt["atomic"], false);
    let gva = number(&receipt["gva"]);
    assert_eq!(gva % 4096, 4092);
    assert_eq!(live.guest_reads(child, gva, 8), "0102030405060708");
}

/// A page that the victim forbids itself (PROT_NONE): its entry is not present and holds its frame
/// inverted. It is there all the same, is read, and is refused to be written.
fn forbidden_page_is_read(live: &mut Live, pid: i64, child: i64) {
    let wrapper = pid.to_string();
    let read = live.vmfi(&["read", &wrapper, "forbidden", "8", "--json"]).json();
    assert_eq!(read["bytes"], "44".repeat(8));
    assert_eq!(number(&read["gpa"]), live.pagemap(child, number(&read["gva"])));
    live.vmfi(&["inject", &wrapper, "forbidden", "6", "4", "0"]).fails_with(7);
}

/// The status block that later work builds on, read like any symbol.
fn wrapper_status_is_read(live: &Live, pid: i64, child: i64) {
    let wrapper = built("guest/wrapper");
    let status = ["read", "--direct", &pid.to_string(), "vmfi_wrapper_status", "--json"];
    let status = [&status[..], &["--victim", wrapper.to_str().unwrap()]].concat();
    let bytes = live.vmfi(&status).json()["bytes"].as_str().unwrap().to_owned();
    assert_eq!(&bytes[..16], "564d464957524150", "VMFIWRAP");
    assert_eq!(&bytes[16..32], "0200000002000000", "version 2, running");
    assert_eq!(bytes[32..40], hex(&(child as u32).to_le_bytes()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// With nothing but its memory given, the guest tells the same: the symbols of its kernel, and the
/// victim's program.
fn memory_alone_does(live: &Live, pid: i64) {
    let (map, own) =
        (live.vmfi(&["probe", "--json"]), live.with_memory_alone(&["probe", "--json"]));
    let (map, own) = (map.json(), own.json());
    for key in ["release", "kaslr_offset", "phys_base", "banner_gpa", "paging_levels"] {
        assert!(!own[key].is_null() && own[key] == map[key], "{key}: {map} {own}");
    }
    let from = own["symbols_from"].as_str().unwrap();
    assert!(from.contains("VMCOREINFO") && map["symbols_from"] != from, "{from}");
    assert_eq!(own["layouts_from"], "the guest's own BTF");
    let read = ["read", &pid.to_string(), "other.c:twin", "--json"];
    let (with, alone) = (live.vmfi(&read).json(), live.with_memory_alone(&read).json());
    assert_eq!((&with, &with["value"]), (&alone, &2.into()));
    let inject = ["inject", &pid.to_string(), "across", "5", "4", "0", "--dry-run"];
    live.with_memory_alone(&inject).fails_with(6);
}

/// All that a user does, on one guest, with a program at fixed addresses and with one that the
/// kernel loads anywhere.
fn whole_thread(setup: &Setup) {
    let mut live = Live::new(setup);
    live.vmfi(&["list"]).fails_with(5);
    for program in ["/holder", "/holder-pie"] {
        let (pid, child) = live.start(program);
        wrapper_is_listed(&live, pid, child, program);
        wrapper_status_is_read(&live, pid, child);
        injection_lands(&mut live, pid, child);
        page_crossing_lands(&mut live, pid, child);
        forbidden_page_is_read(&mut live, pid, child);
        processes_agree(&mut live);
        memory_alone_does(&live, pid);
        live.guest.run(&format!("kill {child}; sleep 0.2")).unwrap();
        let wrapper = pid.to_string();
        live.vmfi(&["inject", &wrapper, "value", "6", "4", "0"]).fails_with(5);
    }
}

fn on_each_kernel(change: impl Fn(&mut Setup)) {
    for kernel in kernels() {
        let mut setup = Setup::new(&kernel);
        change(&mut setup);
        whole_thread(&setup);
    }
}

#[test]
fn five_levels_with_kaslr_on_two_cpus() {
    on_each_kernel(|setup| setup.cpus = 2);
}

#[test]
fn five_levels_without_kaslr() {
    on_each_kernel(|setup| setup.append = "nokaslr".to_owned());
}

#[test]
fn four_levels_with_kaslr() {
    on_each_kernel(|setup| setup.five_levels = false);
}

#[test]
fn four_levels_without_kaslr() {
    on_each_kernel(|setup| {
        setup.five_levels = false;
        setup.append = "nokaslr".to_owned();
    });
}

/// The victim's memory on both sides of 4 GiB, with each machine type's split.
#[test]
fn ram_on_both_sides_of_four_gib() {
    for machine in ["q35", "pc"] {
        let ram_mib = if machine == "q35" { 2900 } else { 3700 };
        let kernel = &kernels()[0];
        let append = NOT_CLEARED.to_owned();
        let mut live = Live::new(&Setup { ram_mib, machine, append, ..Setup::new(kernel) });
        let (pid, child) = live.start("/holder");
        both_sides_of_four_gib_are_reached(&mut live, pid, child);
        // The layout that the other machine type would have is not proved.
        let other = if machine == "q35" { "flat" } else { "q35" };
        live.vmfi(&["list", "--ram-layout", other]).fails_with(3);
        assert_eq!(live.vmfi(&["list", "--ram-layout", machine]).code, 0);
        let regions = match machine {
            "q35" => "0:2G@0,4G:852M@2G",
            _ => "0:3G@0,0x100000000:628M@0xc0000000",
        };
        assert_eq!(live.vmfi(&["list", "--ram-layout", regions]).code, 0);
        let shifted = regions.replace("@0,", "@4096,").replace(":3G", ":2G").replace(":2G", ":1G");
        live.vmfi(&["list", "--ram-layout", &shifted]).fails_with(3);
    }
}

/// With the VM halted, exactly the receipt's bytes differ; and looking, a dry run included,
/// changes nothing and does not make the RAM file bigger.
#[test]
fn nothing_but_the_receipts_bytes_changes() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, _) = live.start("/holder");
    let wrapper = pid.to_string();
    live.guest.halt(true).unwrap();
    let blocks = |live: &Live| fs::metadata(live.guest.ram()).unwrap().blocks();
    let (before, held) = (live.ram(), blocks(&live));
    live.vmfi(&["list", "--all", "--json"]).json();
    live.vmfi(&["read", &wrapper, "value"]);
    let dry =
        live.vmfi(&["inject", &wrapper, "value", "6", "4", "0", "--dry-run", "--json"]).json();
    assert_eq!(dry["read_back"], Value::Null);
    assert_eq!(blocks(&live), held, "looking made the RAM file bigger");
    assert!(before == live.ram(), "looking changed RAM");

    let inject = ["inject", &wrapper, "value", "6", "4", "0", "--json"];
    let refused = live.vmfi(&inject);
    assert!(refused.fails_with(7).contains("clock stands still"), "{}", refused.stderr);
    assert!(before == live.ram(), "a refusal changed RAM");
    let receipt = live.vmfi(&[&inject[..], &["--force"]].concat()).json();
    let gpa = number(&receipt["gpa"]);
    assert_eq!(live.changed_since(&before), (gpa..gpa + 4).collect::<Vec<_>>());
    assert_eq!(receipt["before"], dry["before"]);
    live.guest.halt(false).unwrap();
}

/// Every refusal: its exit code, one line that names the way out, nothing written.
#[test]
fn refusals() {
    let kernel = &kernels()[0];
    let mut live = Live::new(&Setup { cpus: 2, ..Setup::new(kernel) });
    let (pid, child) = live.start("/holder");
    let wrapper = pid.to_string();
    let fails = |live: &Live, arguments: &[&str], code: i32, words: &[&str]| {
        let ran = live.vmfi(arguments);
        let line = ran.fails_with(code);
        for word in words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    };
    let inject = |symbol: &'static str, offset: &'static str| -> [String; 6] {
        ["inject", &wrapper, symbol, "6", "4", offset].map(str::to_owned)
    };
    let at = |symbol, offset, code, words: &[&str]| {
        let arguments = inject(symbol, offset);
        fails(&live, &arguments.each_ref().map(String::as_str), code, words);
    };
    at("valeu", "0", 6, &["'valeu'", "value"]);
    at("twin", "0", 6, &["2 places", "holder.c:twin at 0x", "other.c:twin at 0x"]);
    for (symbol, held) in [("holder.c:twin", 1), ("other.c:twin", 2), ("app::value", NAMESPACED)] {
        assert_eq!(live.vmfi(&["read", &wrapper, symbol, "--json"]).json()["value"], held);
    }
    at("of_thread", "0", 6, &["thread-local"]);
    at("absent", "0", 7, &["has not touched it"]);
    at("value", "0x10000000000", 7, &["not mapped"]);
    at("value", "0x7000000000000000", 7, &["not mapped"]);
    at("main", "0", 7, &["read-only", "--force"]);
    at("untouched", "0", 7, &["--force", "wait"]);
    fails(&live, &["inject", &wrapper, "value", "256", "1", "0"], 2, &["does not fit"]);
    fails(&live, &["inject", &wrapper, "value", "1", "0", "0"], 2, &["1 to 8"]);
    fails(&live, &["inject", &wrapper, "value", "1", "9", "0"], 2, &["1 to 8"]);
    fails(&live, &["inject", "1", "value", "1", "4", "0"], 5, &["'init'", "--direct"]);
    fails(&live, &["inject", "99999", "value", "1", "4", "0"], 5, &["99999", "list"]);
    fails(&live, &["list", "--wrapper-name", "launcher"], 5, &["'launcher'"]);
    let other = built("fixtures/hpccg");
    let other = other.to_str().unwrap();
    let with_other = ["inject", &wrapper, "rtrans", "6", "4", "0", "--victim", other];
    fails(&live, &with_other, 6, &["build-id differs", "/holder"]);
    let folder = project("src");
    let nowhere = ["read", &wrapper, "value", "--victim", folder.to_str().unwrap()];
    fails(&live, &nowhere, 6, &["--victim", "/holder"]);
    let value = ["read", &wrapper, "value", "--json"];
    assert_eq!(live.vmfi(&value).json()["value"], WRITTEN, "a refusal wrote something");

    // --direct takes the victim itself; --force what is not its own.
    let direct = child.to_string();
    let forced = ["inject", "--direct", &direct, "untouched", "6", "4", "8", "--force", "--json"];
    let receipt = live.vmfi(&forced).json();
    assert_eq!(live.guest_reads(child, number(&receipt["gva"]), 4), "06000000");
}

/// On an overlay, as containers have it, a program is mapped from another file than it was started
/// from.
#[test]
fn a_program_on_an_overlay() {
    let kernel = built("kernels/bookworm/vmlinuz");
    let modules = fs::read_dir(built("kernels/bookworm/unpacked/lib/modules")).unwrap();
    let version = modules.map(|folder| folder.unwrap().path()).next().unwrap();
    let mut files = crate::common::files();
    files.copy(&version.join("kernel/fs/overlayfs/overlay.ko"), "/overlay.ko").unwrap();
    let mut live = Live::with(&Setup::new(&kernel), &files);
    live.guest
        .run(
            "insmod /overlay.ko; mkdir -p /low /all /mnt; cp /holder-pie /low; \
             mount -t tmpfs top /mnt; mkdir /mnt/up /mnt/work; mount -t overlay \
             -o lowerdir=/low,upperdir=/mnt/up,workdir=/mnt/work all /all",
        )
        .unwrap();
    let (pid, child) = live.start("/all/holder-pie");
    let listed = live.vmfi(&["list", "--json"]).json();
    let victim = &listed[0]["children"][0];
    assert_eq!((&victim["pid"], &victim["exe"]), (&child.into(), &"/all/holder-pie".into()));
    let read = ["read", &pid.to_string(), "value", "--json"];
    assert_eq!(live.vmfi(&read).json()["value"], WRITTEN);
    assert_eq!(live.with_memory_alone(&read).json()["value"], WRITTEN);
}

/// A program of which the guest has no symbols, or not all of it, is asked for.
#[test]
fn a_program_that_the_guest_does_not_have_whole() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let fails = |live: &Live, pid: i64, words: &[&str]| {
        let ran = live.with_memory_alone(&["read", "--direct", &pid.to_string(), "value"]);
        let line = ran.fails_with(6);
        for word in words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    };
    let (_, child) = live.start("sh -c 'echo up; sleep 1000; true'");
    fails(&live, child, &["--victim", "/bin/busybox", "stripped"]);
    // What nobody has read or written is in no page: here the part with the symbols, at the end.
    live.guest
        .run(
            "size=$(wc -c </holder); cp /holder /part; truncate -s $((size - 65536)) /part; \
             truncate -s $size /part",
        )
        .unwrap();
    let (_, child) = live.start("/part");
    fails(&live, child, &["--victim", "/part", "; 16 of its ", "not in the guest's memory"]);
    // Behind the program's end nothing is needed, in however many pages.
    for more in [8192, 1 << 20] {
        let path = format!("/more-{more}");
        let longer =
            format!("cp /holder {path}; truncate -s $(($(wc -c <{path}) + {more})) {path}");
        live.guest.run(&longer).unwrap();
        let (_, child) = live.start(&path);
        let read = ["read", "--direct", &child.to_string(), "value", "--json"];
        assert_eq!(live.with_memory_alone(&read).json()["value"], WRITTEN);
        live.guest.run(&format!("kill {child}")).unwrap();
    }
    let (_, child) = live.start("/holder");
    let read = ["read", "--direct", &child.to_string(), "value", "--json"];
    assert_eq!(live.with_memory_alone(&read).json()["value"], WRITTEN);
}

/// Without a build-id the text tells a program from another with the same headers.
#[test]
fn a_program_without_a_build_id_is_proved_by_its_text() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, _) = live.start("/holder-noid");
    let wrapper = pid.to_string();
    let value = ["read", &wrapper, "value", "--json"];
    assert_eq!(live.vmfi(&value).json()["value"], WRITTEN);
    let other = built("fixtures/holder-noid-other");
    let other = [&value[..3], &["--victim", other.to_str().unwrap()]].concat();
    let ran = live.vmfi(&other);
    let line = ran.fails_with(6);
    assert!(line.contains("bytes differ"), "{line}");
}

/// A receipt that cannot be printed is told on standard error.
#[test]
fn a_receipt_is_never_lost() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, _) = live.start("/holder");
    let output = Command::new(env!("CARGO_BIN_EXE_vmfi"))
        .args(["inject", &pid.to_string(), "value", "6", "4", "0"])
        .env("VMFI_MEMORY", live.guest.ram())
        .env("VMFI_SYSTEM_MAP", live.map())
        .env("VMFI_VICTIM", built("fixtures"))
        .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("22222222 -> 06000000"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

/// A victim that calls exec all the time is hit, or told to have changed; never taken for another
/// program or for one without memory.
#[test]
fn a_victim_that_changes_is_told() {
    let mut live = Live::new(&Setup { cpus: 2, ..Setup::new(&kernels()[0]) });
    let (pid, _) = live.start("/holder exec");
    let inject = ["inject", &pid.to_string(), "value", "6", "4", "0"];
    let codes: Vec<_> = (0..60).map(|_| live.vmfi(&inject).code).collect();
    assert!(codes.iter().all(|code| [0, 8].contains(code)), "{codes:?}");
    assert!(codes.contains(&0), "{codes:?}");
}

#[test]
fn two_children_ask_for_a_choice() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, child) = live.start("/holder fork");
    let wrapper = pid.to_string();
    let listed = live.vmfi(&["list", "--json"]).json();
    let children = listed[0]["children"].as_array().unwrap().clone();
    assert_eq!(children.len(), 2, "{listed}");
    let ran = live.vmfi(&["inject", &wrapper, "value", "6", "4", "0"]);
    let line = ran.fails_with(5);
    assert!(line.contains("--child") && line.contains(&format!("{child} (holder)")), "{line}");
    // After the fork both share the page, until one of them writes it.
    let chosen = ["inject", &wrapper, "pages", "6", "4", "0", "--child", &child.to_string()];
    live.vmfi(&chosen).fails_with(7);
    // The forked one has not mapped the page of the build-id anew: its text proves it.
    for child in children {
        let read = ["read", &wrapper, "value", "--child", &child["pid"].to_string(), "--json"];
        assert_eq!(live.vmfi(&read).json()["value"], WRITTEN);
    }
}

/// Less RAM than the guest has is told as that, not as a kernel that is not understood.
#[test]
fn ram_that_is_cut_off() {
    let live = Live::new(&Setup::new(&kernels()[0]));
    let ran = live.vmfi(&["list", "--ram-size", "500M"]);
    let line = ran.fails_with(3);
    assert!(line.contains("--ram-size"), "{line}");
    live.vmfi(&["list", "--ram-size", "1G"]).fails_with(3);
}

/// Layouts given as the kernel's raw BTF, or as a profile of it, do as well as its own.
#[test]
fn layouts_from_a_file() {
    let mut live = Live::new(&Setup::new(&kernels()[0]));
    let (pid, child) = live.start("/holder");
    let folder = tempfile::tempdir().unwrap();
    let keep = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let btf = keep("btf", &live.guest.copy_out("/sys/kernel/btf/vmlinux").unwrap());
    let profile = live.vmfi(&["profile"]).stdout;
    assert!(profile.contains("kernel = \"Linux version 6.1"), "{profile}");
    let of_btf = vmfi(["profile", "--vmlinux", &btf]).stdout;
    assert!(profile.ends_with(&of_btf) && of_btf.contains("[struct.task_struct]"), "{of_btf}");
    let other = keep("other.toml", profile.replace("version 6.1", "version 6.1.1").as_bytes());
    let profile = keep("profile.toml", profile.as_bytes());
    // As a vmlinux has it: a section of an ELF file.
    let vmlinux = folder.path().join("vmlinux").to_str().unwrap().to_owned();
    let objcopy = ["--add-section", &format!(".BTF={btf}")].map(str::to_owned);
    let mut objcopy = Command::new("objcopy")
        .args(objcopy)
        .arg(built("fixtures/holder"))
        .arg(&vmlinux)
        .spawn()
        .unwrap();
    assert!(objcopy.wait().unwrap().success());
    let ran = live.vmfi(&["list", "--layouts", &other, "--json"]);
    assert!(ran.stderr.contains("is of 'Linux version 6.1.1"), "{}", ran.stderr);
    for layouts in [btf, profile, vmlinux] {
        let listed = live.vmfi(&["list", "--layouts", &layouts, "--json"]).json();
        assert_eq!(listed[0]["children"][0]["pid"], child);
        let read = ["read", &pid.to_string(), "value", "--layouts", &layouts, "--json"];
        assert_eq!(live.vmfi(&read).json()["value"], WRITTEN);
    }
}

/// Over the RAM file of an earlier guest, whose kernel's image still lies there, the one that runs
/// is found.
#[test]
fn a_ram_file_that_an_earlier_guest_used() {
    let kernel = &kernels()[0];
    let first = boot(&Setup::new(kernel));
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("ram");
    fs::copy(first.ram(), &earlier).unwrap();
    drop(first);
    let setup = Setup { earlier_ram: Some(earlier), ..Setup::new(kernel) };
    // Where KASLR puts the second kernel is drawn: it may be over the first.
    let rejects = |live: &Live| live.vmfi(&["list", "-v"]).stderr.contains("debug: rejected: ");
    let mut live = (0..10).map(|_| Live::new(&setup)).find(rejects).expect("nothing to reject");
    let (pid, child) = live.start("/holder");
    wrapper_is_listed(&live, pid, child, "/holder");
    injection_lands(&mut live, pid, child);
    memory_alone_does(&live, pid);
}

/// While a guest boots over the RAM file of an earlier one, whose kernel and wrapper still lie there
/// whole, they are not taken for its own.
#[test]
fn a_guest_that_boots_over_an_earlier_one() {
    let setup = Setup::new(&kernels()[0]);
    let mut first = Live::unknown(&setup);
    first.start("/holder");
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let earlier = folder.path().join("ram");
    first.guest.halt(true).unwrap();
    fs::copy(first.guest.ram(), &earlier).unwrap();
    assert_eq!(vmfi(["-m", earlier.to_str().unwrap(), "list"]).code, 0);
    drop(first);
    let next = Setup { earlier_ram: Some(earlier), ..setup };
    let next = LabGuest::start(&next, &crate::common::files()).unwrap();
    let ram = next.ram();
    let mapped = || vmm::of_file(&ram).is_some();
    while !mapped() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let booted = |ran: &Ran| ran.stderr.contains("no process named 'wrapper'");
    loop {
        let ran = vmfi(["-m", ram.to_str().unwrap(), "list"]);
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        if booted(&ran) {
            break;
        }
    }
}

#[test]
fn wrong_kernels_symbols() {
    let all = kernels();
    let live = Live::new(&Setup::new(&all[0]));
    let map = fs::read_to_string(live.map()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fails = |text: &str, words: &[&str]| {
        let path = folder.path().join("System.map");
        fs::write(&path, text).unwrap();
        let ran = live.vmfi_with_map(&path, &["list"]);
        let line = ran.fails_with(4);
        for word in words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    };
    fails(
        "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n",
        &["stub", "kallsyms"],
    );
    fails(&map.replace(" linux_banner\n", " not_the_banner\n"), &["linux_banner"]);
    // The same kernel's with the addresses that a user without rights sees.
    let hidden: String = map.lines().map(|line| format!("{:016x}{}\n", 0, &line[16..])).collect();
    fails(&hidden, &["root"]);
    // As of a kernel built from other sources: the banner lies elsewhere.
    let banner = map.lines().find(|line| line.ends_with(" linux_banner")).unwrap();
    fails(&map.replace(banner, "ffffffff82123458 D linux_banner"), &["Linux version"]);
    if let Some(other) = all.get(1) {
        let ran = live.vmfi_with_map(&system_map(other), &["list"]);
        let line = ran.fails_with(4);
        assert!(line.contains("Linux version 6.1") && line.contains("Debian 6.1"), "{line}");
    }
    live.vmfi(&["list"]).fails_with(5);
}

/// From the first moment on: each look at a guest that is still booting ends with its own code
/// and one line, until the wrapper can be listed.
#[test]
fn a_guest_that_is_still_booting() {
    let kernel = &kernels()[0];
    let map = system_map(kernel);
    let mut files = crate::common::files();
    files.script("/wrapper /holder >/dev/null 2>&1 &");
    let ram = tempfile::tempdir().unwrap().path().join("never-there");
    let missing = vmfi(["-m", ram.to_str().unwrap(), "list"]);
    missing.fails_with(3);
    let setup = Setup::new(kernel);
    let starting = LabGuest::start(&setup, &files).unwrap();
    let ram = starting.ram();
    let arguments = ["-m", ram.to_str().unwrap(), "--system-map", map.to_str().unwrap(), "list"];
    let mut codes = BTreeSet::new();
    for _ in 0..3000 {
        let ran = vmfi(arguments);
        codes.insert(ran.code);
        if ran.code == 0 {
            break;
        }
        assert!([3, 4, 5].contains(&ran.code), "{}{}", ran.stdout, ran.stderr);
        ran.fails_with(ran.code);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(codes.contains(&0) && codes.contains(&4), "{codes:?}");
}

/// The paper's victim and its loop: the fault reaches the solver's arithmetic.
#[test]
fn the_solver_feels_the_fault() {
    let mut live = Live::new(&Setup { cpus: 2, ..Setup::new(&kernels()[0]) });
    let (pid, _) = live.start("/hpccg 30 30 30 0 100000");
    let wrapper = pid.to_string();
    let receipts: Vec<_> = (0..20)
        .map(|seed: u64| {
            let seed = seed.to_string();
            let random = ["--random", "1..100", "--bytes", "4", "--seed", &seed, "--json"];
            live.vmfi(&[&["inject", &wrapper, "rtrans"][..], &random].concat()).json()
        })
        .collect();
    for (seed, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt["seed"], seed);
        assert_eq!(receipt["size"], 4);
        assert_eq!(receipt["atomic"], true);
        let after = receipt["after"].as_str().unwrap();
        let value = u32::from_str_radix(after, 16).unwrap().swap_bytes();
        assert!((1..=100).contains(&value), "{after}");
    }
    // rtrans is replaced at each iteration, so the victim's own values are among those replaced.
    let before: BTreeSet<_> =
        receipts.iter().map(|receipt| receipt["before"].to_string()).collect();
    assert!(before.len() > 1, "{before:?}");
    let niters =
        |live: &Live| live.vmfi(&["read", &wrapper, "niters", "--json"]).json()["value"].as_u64();
    let first = niters(&live);
    live.guest.run("sleep 1").unwrap();
    assert!(niters(&live) > first, "the solver stands still");
}

/// Nothing stays behind, no QEMU and no RAM file: neither of a guest that is dropped, nor of one
/// whose owner is killed.
#[test]
fn the_lab_leaves_nothing_behind() {
    let guest = boot(&Setup::new(&kernels()[0]));
    let (ram, group) = (guest.ram(), guest.process_group());
    assert!(ram.exists() && alive(group));
    drop(guest);
    assert!(!ram.parent().unwrap().exists() && !alive(group));

    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "live::owner_of_a_guest", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let folder = lines.filter_map(|line| line.strip_prefix("folder ").map(PathBuf::from)).next();
    let folder = folder.unwrap();
    assert!(folder.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !folder.exists()
    });
    assert!(gone, "{} is still there", folder.display());
}

const OWNER: &str = "VMFI_TEST_OWNER";

/// Not a test but the other process of [`the_lab_leaves_nothing_behind`].
#[test]
fn owner_of_a_guest() {
    if std::env::var_os(OWNER).is_some() {
        let guest = boot(&Setup::new(&kernels()[0]));
        println!("\nfolder {}", guest.ram().parent().unwrap().display());
        std::thread::sleep(Duration::from_secs(600));
    }
}

fn alive(group: u32) -> bool {
    Command::new("kill").args(["-0", "--", &format!("-{group}")]).output().unwrap().status.success()
}
