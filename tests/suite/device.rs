//! Guest RAM as a character device, as the paper's VMM exports it: a second guest plays the host
//! and sees the RAM of the first through its own /dev/mem. So does a Palacios host, whose list tells
//! where each block of it lies.

use crate::common::{boot, built, kernels, system_map};
use serde_json::Value;
use std::path::Path;
use vmfi::address::Gva;
use vmfi::cache::Cache;
use vmfi::fault::Fault;
use vmfi::guest::{Guest, GuestError, GuestOptions, RamOf};
use vmfi::inject::{InjectError, Injection, Receipt, inject};
use vmfi::lab::{Initramfs, LabGuest, Setup};
use vmfi::memory::Access;
use vmfi::process::tasks;
use vmfi::site::{Allow, Space};
use vmfi::victim::VictimMemory;
use vmfi::vmm::{PalaciosError, RamLayout};

/// MiB of the guest under test.
const RAM: u64 = 512;

/// vmfi, the victim's program and the symbols.
fn tools(map: &Path) -> Initramfs {
    let mut files = Initramfs::with_busybox().unwrap();
    files.copy(Path::new(env!("CARGO_BIN_EXE_vmfi")), "/bin/vmfi").unwrap();
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

/// The list of a Palacios host on which the RAM of one VM lies from `at` on, in three blocks. The
/// second does not start where a kernel could.
fn palacios_list(at: u64) -> String {
    let bounds = [0, 0x801_1000, 0x1000_0000, RAM << 20];
    let mut list = "Entry:        0\nName:         guest\nDevice:       /dev/v3-vm0\n\
                    Regions:      3 (3 shown)\n\nMemory Regions\n"
        .to_owned();
    for (index, block) in bounds.windows(2).enumerate() {
        let (start, end) = (at + block[0], at + block[1]);
        let gpa = block[0];
        list += &format!(
            "   region {index} has HPAs {start:#018x}-{end:#018x} (node 0) GPA {gpa:#018x}  pinned\n"
        );
    }
    list
}

/// What the guest itself has in the 8 bytes at `gva` of the process `pid`.
fn seen(guest: &mut LabGuest, pid: &Value, gva: &str) -> String {
    let dump =
        format!("dd if=/proc/{pid}/mem bs=1 skip=$(({gva})) count=8 2>/dev/null | od -An -tx1");
    guest.run(&dump).unwrap().concat().split_whitespace().collect()
}

/// Writes a byte at `gva` of the process `pid`, through the library.
fn inject_byte(guest: &Guest, pid: i32, gva: u64, byte: u8) -> Result<Receipt, InjectError> {
    let task = tasks(guest).unwrap().into_iter().find(|task| task.pid == pid).unwrap();
    let memory = VictimMemory::open(guest, task).unwrap();
    let order = Injection {
        space: Space::Victim(&memory),
        pid,
        symbol: "value",
        offset: 0,
        gva: Gva(gva),
        model: "set".to_owned(),
        fault: Fault::set(vec![byte]),
        seed: None,
        number: None,
        drawn: None,
        allow: Allow::Own,
    };
    Ok(inject(&[order], None, || ())?.remove(0))
}

/// The same by the list of a Palacios host, which names the VM by a device without RAM.
fn by_the_list_of_a_palacios_host(
    guest: &mut LabGuest,
    host: &mut LabGuest,
    at: &str,
    listed: &Value,
    gva: &str,
) {
    let (wrapper, child) = (&listed[0]["pid"], &listed[0]["children"][0]["pid"]);
    let list = palacios_list(u64::from_str_radix(&at[2..], 16).unwrap());
    let lines: Vec<_> = list.lines().map(|line| format!("'{line}'")).collect();
    host.run(&format!("printf '%s\\n' {} >/list", lines.join(" "))).unwrap();
    host.run("export VMFI_MEMORY=/dev/v3-vm0 VMFI_RAM_LAYOUT=palacios:/list").unwrap();
    assert_eq!(json(host.run("vmfi list --json").unwrap()), *listed);
    let read = json(host.run(&format!("vmfi read {wrapper} value --json")).unwrap());
    assert_eq!(read["bytes"], "0600000022222222");
    host.run(&format!("vmfi inject {wrapper} value 7 4 0")).unwrap();
    assert_eq!(seen(guest, child, gva), "0700000022222222");
    for (change, tells) in [
        ("sed -i 's/3 (3 /4 (3 /' /list", "try again code 3"),
        ("sed -i 's/4 (3 /3 (3 /; s/pinned/swapped/' /list", "try again code 3"),
        // Without the layout the size is asked for, and nothing else of the device is touched.
        ("export VMFI_MEMORY=/dev/mem; unset VMFI_RAM_LAYOUT", "GPA:LENGTH@OFFSET,... code 3"),
    ] {
        let inject = format!("{change}; vmfi inject {wrapper} value 1 4 0 2>&1; echo code $?");
        let refused = host.run(&inject).unwrap().join(" ");
        assert!(refused.ends_with(tells), "{change}: {refused}");
    }
    assert_eq!(seen(guest, child, gva), "0700000022222222");
}

/// A guest that is open while its RAM moves, by what the list says, is not written.
fn moved_ram_is_not_written(guest: &mut LabGuest, map: &Path, pid: &Value, gva: &str) {
    let list = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(list.path(), text).unwrap();
    let ours = palacios_list(0);
    write(&ours);
    let options = GuestOptions {
        memory: RamOf::Path(guest.ram()),
        ram_size: None,
        layout: Some(RamLayout::Palacios(list.path().to_owned())),
        system_map: Some(map.to_owned()),
        layouts: None,
        cache: Cache::none(),
        access: Access::Write,
    };
    let opened = Guest::open(&options).unwrap();
    let place = u64::from_str_radix(&gva[2..], 16).unwrap();
    let inject = |byte| inject_byte(&opened, pid.as_i64().unwrap() as i32, place, byte);
    inject(8).unwrap();
    let before = seen(guest, pid, gva);
    assert!(before.starts_with("08"), "{before}");
    write(&palacios_list(0x1000));
    assert!(matches!(
        inject(9),
        Err(InjectError::Guest(GuestError::Palacios(PalaciosError::Moved)))
    ));
    write(&ours.replacen("pinned", "swapped", 1));
    assert!(matches!(
        inject(9),
        Err(InjectError::Guest(GuestError::Palacios(PalaciosError::Swapped { .. })))
    ));
    assert_eq!(seen(guest, pid, gva), before);
    write(&ours);
    inject(9).unwrap();
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
    assert_eq!(seen(&mut guest, child, gva), "0600000022222222");

    by_the_list_of_a_palacios_host(&mut guest, &mut host, &at, &listed, gva);
    moved_ram_is_not_written(&mut guest, &map, child, gva);
}
