//! Guest RAM as a character device, as the paper's VMM exports it: a second guest plays the host
//! and sees the RAM of the first through its own /dev/mem.

use crate::common::{boot, built, kernels, system_map};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use vmfi::lab::{Initramfs, LabGuest, Setup};

/// MiB of the guest under test.
const RAM: u64 = 512;

/// vmfi with the libraries that it needs, the victim's program and the symbols.
fn tools(map: &Path) -> Initramfs {
    let mut files = Initramfs::with_busybox().unwrap();
    let vmfi = Path::new(env!("CARGO_BIN_EXE_vmfi"));
    let libraries = Command::new("ldd").arg(vmfi).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        files.copy(Path::new(library), library).unwrap();
    }
    files.copy(vmfi, "/bin/vmfi").unwrap();
    files.copy(&built("fixtures/holder"), "/holder").unwrap();
    files.copy(map, "/kallsyms").unwrap();
    files
}

/// Where the second guest's /dev/mem has the first one's RAM: the third range of the PCI device.
fn address(host: &mut LabGuest) -> String {
    let find = "for d in /sys/bus/pci/devices/*; do \
                grep -q 0x1110 $d/device && sed -n 3p $d/resource; done; true";
    let lines = host.run(find).unwrap();
    let line = lines.first().expect("the shared device is not there");
    line.split_whitespace().next().unwrap().to_owned()
}

fn json(lines: Vec<String>) -> Value {
    serde_json::from_str(&lines.concat()).unwrap()
}

#[test]
fn a_character_device_on_a_live_guest() {
    let all = kernels();
    let (guest_kernel, host_kernel) = (&all[0], all.last().unwrap());
    let map = system_map(guest_kernel);
    let mut guest = boot(&Setup { ram_mib: RAM, ..Setup::new(guest_kernel) });
    guest
        .run("/wrapper /holder >/out 2>&1 & until grep -q ready /out; do sleep 0.1; done")
        .unwrap();
    let shared = Some((guest.ram(), RAM));
    let setup = Setup { shared, ..Setup::new(host_kernel) };
    let mut host = LabGuest::boot(&setup, &tools(&map)).unwrap();
    let at = address(&mut host);
    host.run(&format!(
        "export VMFI_MEMORY=/dev/mem VMFI_SYSTEM_MAP=/kallsyms VMFI_VICTIM=/holder \
         VMFI_RAM_LAYOUT=0:{RAM}M@{at}"
    ))
    .unwrap();

    let listed = json(host.run("vmfi list --json").unwrap());
    assert_eq!(listed[0]["comm"], "wrapper");
    assert_eq!(listed[0]["children"][0]["comm"], "holder");
    let (wrapper, child) = (&listed[0]["pid"], &listed[0]["children"][0]["pid"]);
    let read = json(host.run(&format!("vmfi read {wrapper} value --json")).unwrap());
    assert_eq!(read["bytes"], "22".repeat(8));
    let receipt = json(host.run(&format!("vmfi inject {wrapper} value 6 4 0 --json")).unwrap());
    assert_eq!(
        (&receipt["before"], &receipt["read_back"]),
        (&"22222222".into(), &"06000000".into())
    );
    assert_eq!(receipt["atomic"], true);

    // The first guest itself sees the fault.
    let gva = receipt["gva"].as_str().unwrap();
    let dump =
        format!("dd if=/proc/{child}/mem bs=1 skip=$(({gva})) count=8 2>/dev/null | od -An -tx1");
    let seen: String = guest.run(&dump).unwrap().concat().split_whitespace().collect();
    assert_eq!(seen, "0600000022222222");

    // Without the layout the size is asked for, and nothing else of the device is touched.
    let refused =
        host.run("unset VMFI_RAM_LAYOUT; vmfi list 2>&1; echo code $?").unwrap().join(" ");
    assert!(refused.contains("--ram-layout") && refused.ends_with("code 3"), "{refused}");
}
