//! Victims with shared libraries: what each name leads to is told by the victim itself
//! (fixtures/dynamic), and what is mapped by the guest's own /proc.

use crate::common::{Live, Ran, built, files, kernels, number};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use vmfi::lab::{Initramfs, Setup};

const PROGRAMS: [&str; 2] = ["dynamic", "dynamic-pie"];
const LIBRARY: &str = "libown.so.1";

/// A copy of the fixture `name` without the symbols that it does not export.
fn stripped(folder: &TempDir, name: &str) -> std::path::PathBuf {
    let to = folder.path().join(name);
    let from = built(&format!("fixtures/{name}"));
    let ran = Command::new("strip").arg("-o").arg(&to).arg(from).status().unwrap();
    assert!(ran.success());
    to
}

/// The fixtures with their libraries, as they are built in /whole and stripped in /stripped, as
/// distributions have them.
fn with_libraries() -> Initramfs {
    let (mut files, folder) = (files(), tempfile::tempdir().unwrap());
    stripped(&folder, LIBRARY);
    for program in PROGRAMS {
        let whole = built(&format!("fixtures/{program}"));
        files.copy_with_libraries(&whole, &format!("/whole/{program}")).unwrap();
        let own = stripped(&folder, program);
        files.copy_with_libraries(&own, &format!("/stripped/{program}")).unwrap();
    }
    files
}

fn boot_with(kernel: &Path, files: &Initramfs) -> Live {
    Live::with(&Setup::new(kernel), files)
}

/// What the victim told: name and address, and whether only its files, not stripped, can know.
pub fn told(live: &mut Live) -> Vec<(String, u64, bool)> {
    let lines = live.guest.run("cat /out").unwrap();
    let told = lines.iter().filter_map(|line| {
        let (name, address) = line.rsplit_once(" 0x")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let local = name.strip_prefix("local ");
        Some((local.unwrap_or(name).to_owned(), address, local.is_some()))
    });
    let told: Vec<_> = told.collect();
    assert!(told.len() > 20, "{lines:?}");
    told
}

/// `read` with nothing but the guest's memory.
fn read(live: &Live, pid: i64, name: &str) -> Ran {
    live.with_memory_alone(&["read", &pid.to_string(), name, "--json"])
}

#[track_caller]
fn leads_to(live: &Live, pid: i64, name: &str, address: u64) {
    let found = read(live, pid, name).json();
    assert_eq!(number(&found["gva"]), address, "{name}: {found} instead of {address:#x}");
}

#[test]
fn each_name_leads_where_the_victim_has_it() {
    for kernel in kernels() {
        let mut live = boot_with(&kernel, &with_libraries());
        for program in PROGRAMS {
            let (pid, child) = live.start(&format!("/whole/{program}"));
            for (name, address, _) in told(&mut live) {
                leads_to(&live, pid, &name, address);
            }
            injection_lands(&mut live, pid, child);
            live.guest.run(&format!("kill {child}; sleep 0.2")).unwrap();
            let (pid, child) = live.start(&format!("/stripped/{program}"));
            for (name, address, local) in told(&mut live) {
                // The library asks for `shadowed`, so the program exports it, but nothing else.
                if !local && name != "dynamic.c:twin" && name != "in_program" {
                    leads_to(&live, pid, &name, address);
                }
            }
            live.guest.run(&format!("kill {child}; sleep 0.2")).unwrap();
        }
    }
}

/// A fault in a library is the victim's alone, and is recorded under the name that was typed.
fn injection_lands(live: &mut Live, pid: i64, child: i64) {
    let name = "libown.so.1:own_exported";
    let inject = ["inject", &pid.to_string(), name, "6", "4", "2", "--json"];
    let receipt = live.with_memory_alone(&inject).json();
    assert_eq!((&receipt["symbol"], &receipt["before"]), (&name.into(), &"44444444".into()));
    let gva = number(&receipt["gva"]);
    assert_eq!(live.guest_reads(child, gva - 2, 8), "4444060000004444");
    assert_eq!(number(&receipt["gpa"]), live.pagemap(child, gva));
    // What the program uses of libm is the last thing that libm has set.
    let read = read(live, pid, "libm.so.6:signgam").json();
    assert_eq!(read["bytes"], "ffffffff");
}

/// Each refusal, and each warning, says what is meant.
#[test]
fn what_a_name_cannot_mean_is_told() {
    let mut live = boot_with(&kernels()[0], &with_libraries());
    let (pid, _) = live.start("/whole/dynamic");
    let fails = |live: &Live, pid: i64, name: &str, words: &[&str]| {
        let ran = read(live, pid, name);
        let line = ran.fails_with(6);
        for word in words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    };
    let warns = |live: &Live, name: &str, words: &[&str]| {
        let ran = read(live, pid, name);
        assert_eq!(
            (ran.code, ran.stderr.lines().count()),
            (0, words.len().min(1)),
            "{}",
            ran.stderr
        );
        for word in words {
            assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
        }
    };
    fails(&live, pid, "own_of_thread", &["thread-local", "libown.so.1"]);
    fails(&live, pid, "own_chosen", &["IFUNC", "libown.so.1"]);
    fails(&live, pid, "errno", &["thread-local", "libc.so.6"]);
    fails(&live, pid, "own_exportde", &["/whole/dynamic and its 4 libraries", "own_exported"]);
    fails(&live, pid, "libown.so.1:own_exportde", &["no symbol", "libown.so.1", "own_exported"]);
    fails(&live, pid, "libgone.so.1:x", &["'libgone.so.1'", "libown.so.1, libm.so.6, libc.so.6"]);
    fails(&live, pid, "own_versioned@OWN_3", &["own_versioned@OWN_3"]);
    fails(&live, pid, "GLIBC_2.2.5", &["no symbol"]);
    // libc has it for programs of long ago only, by four names that mean one place.
    assert_eq!(read(&live, pid, "sys_errlist").code, 0);
    warns(&live, "own_exported", &[]);
    warns(&live, "own_copied", &[]);
    warns(&live, "libown.so.1:own_copied", &["moved into /whole/dynamic", "copy relocation"]);
    warns(&live, "libown.so.1:shadowed", &["/whole/dynamic comes before", "'shadowed' too"]);

    let (pid, _) = live.start("/stripped/dynamic");
    fails(&live, pid, "in_program", &["stripped", "--victim", "its 4 libraries"]);
    fails(&live, pid, "own_local", &["no symbol", "its 4 libraries"]);
    fails(&live, pid, "libown.so.1:own_local", &["no symbol", "stripped", "--victim"]);
}

/// What is given wins: a folder with files that are not stripped, and that are the guest's.
#[test]
fn files_of_the_host_are_used_where_they_are_given() {
    let mut live = boot_with(&kernels()[0], &with_libraries());
    let (pid, _) = live.start("/stripped/dynamic-pie");
    let told = told(&mut live);
    let wrapper = pid.to_string();
    let with = |live: &Live, victim: &Path, name: &str| {
        let victim = victim.to_str().unwrap();
        live.with_memory_alone(&["read", &wrapper, name, "--victim", victim, "--json"])
    };
    // A folder with the program and the library: what both keep to themselves is known too.
    let fixtures = built("fixtures");
    for (name, address, _) in &told {
        let found = with(&live, &fixtures, name).json();
        assert_eq!(number(&found["gva"]), *address, "{name}: {found}");
    }
    // The program alone: the libraries are still the guest's.
    let program = built("fixtures/dynamic-pie");
    for (name, address, local) in &told {
        if !local {
            let found = with(&live, &program, name).json();
            assert_eq!(number(&found["gva"]), *address, "{name}: {found}");
        }
    }
    with(&live, &program, "libown.so.1:own_local").fails_with(6);
    // A library that is another one's is refused once it is looked into.
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&program, folder.path().join("dynamic-pie")).unwrap();
    fs::copy(built("fixtures/dynamic"), folder.path().join(LIBRARY)).unwrap();
    assert_eq!(with(&live, folder.path(), "in_program").code, 0);
    let ran = with(&live, folder.path(), "own_exported");
    let line = ran.fails_with(6);
    assert!(line.contains("is not the /stripped/libown.so.1"), "{line}");
}

/// The dynamic linker's list lies in the victim's memory. However damaged, it leads to nothing that
/// is not mapped so, and the libraries are found without it.
#[test]
fn a_list_of_libraries_that_lies() {
    let mut live = boot_with(&kernels()[0], &with_libraries());
    let (pid, _) = live.start("/whole/dynamic-pie");
    let told = told(&mut live);
    let wrapper = pid.to_string();
    let debug = "ld-linux-x86-64.so.2:_r_debug";
    let first = live.with_memory_alone(&["read", &wrapper, debug, "8", "8", "--json"]).json();
    let first = first["value"].to_string();
    let fallen_back = |live: &Live| {
        let ran = live.with_memory_alone(&["read", &wrapper, "own_exported", "-v"]);
        ran.stderr.contains("the dynamic linker's list is not to be had")
    };
    assert!(!fallen_back(&live));
    let set = |live: &Live, value: &str, offset: &str| {
        let inject = ["inject", &wrapper, debug, value, "8", offset];
        assert_eq!(live.with_memory_alone(&inject).code, 0, "{value}");
    };
    let all_is_found = |live: &Live| {
        for (name, address, _) in &told {
            leads_to(live, pid, name, *address);
        }
    };
    // The first entry: nowhere, in the kernel's half, in the middle of something else, none.
    for value in ["0x1000", "-4096", "4198400", "0"] {
        set(&live, value, "8");
        assert_eq!(fallen_back(&live), value != "0", "{value}");
        all_is_found(&live);
    }
    // Its successor: itself.
    set(&live, &first, "8");
    let debug = number(&read(&live, pid, debug).json()["gva"]);
    let next = first.parse::<u64>().unwrap().wrapping_sub(debug).wrapping_add(24) as i64;
    set(&live, &first, &next.to_string());
    assert!(fallen_back(&live));
    all_is_found(&live);
}

/// Both that go on after a fork have their libraries, though hardly a page of them is mapped anew.
#[test]
fn libraries_after_a_fork() {
    let mut live = boot_with(&kernels()[0], &with_libraries());
    for program in ["/whole/dynamic fork", "/stripped/dynamic-pie fork"] {
        let (pid, child) = live.start(program);
        let told = told(&mut live);
        let ran = read(&live, pid, "own_exported");
        assert!(ran.fails_with(5).contains("--child"), "{}", ran.stderr);
        let listed = live.vmfi(&["list", "--json"]).json();
        let all = listed.as_array().unwrap().iter();
        let wrapper = all.clone().find(|wrapper| wrapper["pid"] == pid).unwrap();
        let forked = wrapper["children"].as_array().unwrap().clone();
        assert_eq!(forked.len(), 2, "{listed}");
        for one in forked {
            let one = one["pid"].to_string();
            for (name, address, local) in &told {
                let unknown = program.starts_with("/stripped")
                    && (*local || name == "dynamic.c:twin" || name == "in_program");
                if !unknown {
                    let read = ["read", &pid.to_string(), name, "--child", &one, "--json"];
                    let found = live.with_memory_alone(&read).json();
                    assert_eq!(number(&found["gva"]), *address, "{name} of {one}: {found}");
                }
            }
        }
        live.guest
            .run(&format!("kill {child}; killall dynamic dynamic-pie; sleep 0.2; true"))
            .unwrap();
    }
}

/// From a disk only what was read is in memory, and what nobody uses any more goes again: the
/// symbols that a library exports are used, all others are not.
#[test]
fn a_library_of_which_pages_are_missing() {
    let kernel = built("kernels/bookworm/vmlinuz");
    let modules = fs::read_dir(built("kernels/bookworm/unpacked/lib/modules")).unwrap();
    let version = modules.map(|folder| folder.unwrap().path()).next().unwrap();
    let mut files = with_libraries();
    files.copy(&version.join("kernel/drivers/block/loop.ko"), "/loop.ko").unwrap();
    let mut live = boot_with(&kernel, &files);
    live.guest
        .run(
            "insmod /loop.ko; truncate -s 32M /image; mke2fs -F /image >/dev/null 2>&1; mkdir /disk; \
             mount -t ext4 -o loop /image /disk; cp /whole/* /disk; umount /disk; \
             mount -t ext4 -o loop /image /disk",
        )
        .unwrap();
    for program in PROGRAMS {
        let (pid, child) = live.start(&format!("/disk/{program}"));
        let told = told(&mut live);
        for (name, address, _) in &told {
            leads_to(&live, pid, name, *address);
        }
        live.guest.run("sync; echo 3 >/proc/sys/vm/drop_caches").unwrap();
        for (name, address, local) in &told {
            if !local && name != "dynamic.c:twin" && name != "in_program" {
                leads_to(&live, pid, name, *address);
            }
        }
        for (name, library) in [("libown.so.1:own_local", true), ("in_program", false)] {
            let ran = read(&live, pid, name);
            let line = ran.fails_with(6);
            for word in ["pages are not in the guest's memory", "--victim"] {
                assert!(line.contains(word), "'{word}' is not in: {line}");
            }
            assert_eq!(line.contains("/disk/libown.so.1"), library, "{line}");
        }
        live.guest.run(&format!("kill {child}; sleep 0.2")).unwrap();
    }
}

/// The memory map is the one of the guest's own /proc, but for blanks at the ends of lines.
#[test]
fn maps_are_those_of_proc() {
    for kernel in kernels() {
        let mut live = boot_with(&kernel, &with_libraries());
        live.guest
            .run("cp /whole/dynamic-pie /gone; mkdir /lib2; cp /whole/libown.so.1 /")
            .unwrap();
        for program in
            ["/holder", "/holder-pie", "/hpccg 20 20 20 0 100000", "/whole/dynamic", "/gone"]
        {
            let (pid, child) = live.start(program);
            if program == "/gone" {
                live.guest.run("rm /gone").unwrap();
            }
            let proc = live.guest.run(&format!("cat /proc/{child}/maps")).unwrap();
            let proc: Vec<_> = proc.iter().map(|line| line.trim_end()).collect();
            let ran = live.with_memory_alone(&["maps", &pid.to_string()]);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), proc, "{program}");
            let json = live.with_memory_alone(&["maps", "--direct", &child.to_string(), "--json"]);
            let rows = json.json();
            let rows = rows.as_array().unwrap();
            assert_eq!(rows.len(), proc.len());
            for (row, line) in rows.iter().zip(&proc) {
                let start = format!("{:08x}-", number(&row["start"]));
                let path = row["path"].as_str().unwrap_or_default();
                assert!(line.starts_with(&start) && line.ends_with(path), "{row} is not {line}");
            }
            live.guest.run(&format!("kill {child}; sleep 0.2")).unwrap();
        }
        let (pid, child) = live.start("/holder fork");
        let ran = live.with_memory_alone(&["maps", &pid.to_string()]);
        let line = ran.fails_with(5);
        assert!(line.contains("--child") && line.contains(&format!("{child} (holder)")), "{line}");
    }
}

/// What a program wrote of its libraries is its own; what it did not is every program's that has
/// them, and what the loader made read-only takes force.
#[test]
fn whose_the_pages_of_libraries_are() {
    let mut live = Live::booted(&Setup::new(&kernels()[0]), &with_libraries());
    // The file is there before it is looked into, else what grep says of that stands before the number.
    let other = ": >/other; /whole/dynamic >/other & until grep -q ready /other; do sleep 0.1; done; echo $!";
    let other: i64 = live.guest.run(other).unwrap().concat().parse().unwrap();
    let (pid, _) = live.start("/whole/dynamic-pie");
    live.guest.run("until grep -q ready /out; do sleep 0.1; done").unwrap();
    let pid = pid.to_string();
    for (name, verdict, refused) in [
        ("libown.so.1:own_exported", "anonymous", ""),
        ("libc.so.6:_environ", "anonymous", ""),
        ("libc.so.6:_IO_file_jumps", "anonymous", "read-only for the victim"),
        ("libown.so.1:own_write", "page-cache", "read-only for the victim"),
        ("libc.so.6:malloc", "page-cache", "read-only for the victim"),
    ] {
        let told = live.with_memory_alone(&["explain", &pid, name, "--json"]).json();
        assert_eq!(told["verdict"], verdict, "{told}");
        let shared = told["shared_with"].as_array().unwrap().contains(&other.into());
        assert_eq!(shared, verdict == "page-cache", "{told}");
        let ran = live.with_memory_alone(&["inject", &pid, name, "6", "1", "0"]);
        if refused.is_empty() {
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        } else {
            let line = ran.fails_with(7);
            assert!(line.contains(refused), "{line}");
            assert_eq!(line.contains(&format!("{other} (dynamic)")), shared, "{line}");
        }
    }
}
