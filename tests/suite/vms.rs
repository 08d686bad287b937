//! RAM of VMs that run, however they were started: `--qemu`, `vmfi guests`, and the only VM of a
//! host.

use crate::common::{Ran, alone, boot, files, kernels, number, run, vmfi};
use serde_json::Value;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use vmfi::address::Gpa;
use vmfi::guest::{Guest, GuestError, GuestOptions, RamOf};
use vmfi::lab::{LabGuest, Ram, Setup};
use vmfi::memory::{Access, MemoryError};
use vmfi::vmm::{self, VmError, VmTarget};

/// A VM with a victim that fills its `value` with 0x22.
struct RunningVm {
    guest: LabGuest,
    pid: String,
    wrapper: String,
    child: i64,
}

impl RunningVm {
    fn new(setup: &Setup) -> Self {
        let mut guest = boot(setup);
        let start = "/wrapper /holder >/out 2>&1 & until grep -q ready /out; do sleep 0.1; done; \
                     cat /out";
        let lines = guest.run(start).unwrap();
        let number = |label: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(label));
            line.unwrap_or_else(|| panic!("no '{label}' in {lines:?}")).to_owned()
        };
        let (wrapper, child) = (number("wrapper: pid "), number("wrapper: child "));
        let pid = guest.qemu_pid().unwrap().to_string();
        Self { guest, pid, wrapper, child: child.parse().unwrap() }
    }

    /// By its process id, with nothing else given.
    fn vmfi(&self, arguments: &[&str]) -> Ran {
        vmfi([&["--qemu", &self.pid], arguments].concat())
    }

    /// Whole thread: the wrapper is listed, a fault lands, and the guest itself reads it.
    fn fault_lands(&mut self) -> Value {
        let listed = self.vmfi(&["list", "--json"]).json();
        assert_eq!(listed[0]["pid"].to_string(), self.wrapper);
        assert_eq!(listed[0]["children"][0]["pid"], self.child);
        let inject = ["inject", &self.wrapper, "value", "-2", "4", "2", "--json"];
        let receipt = self.vmfi(&inject).json();
        assert_eq!(receipt["before"], "22222222");
        assert_eq!(receipt["read_back"], "feffffff");
        assert_eq!(self.seen(number(&receipt["gva"]) - 2), "2222feffffff2222");
        receipt
    }

    /// The 8 bytes at `gva` of the victim, as the guest's kernel reads them.
    fn seen(&mut self, gva: u64) -> String {
        let from = format!("if=/proc/{}/mem bs=1 skip=$(({gva})) count=8", self.child);
        let dump = format!("dd {from} 2>/dev/null | od -An -v -tx1");
        self.guest.run(&dump).unwrap().concat().split_whitespace().collect()
    }

    /// KiB of the host's memory that QEMU has.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

fn setup(ram: Ram) -> Setup {
    Setup { ram, ..Setup::new(&kernels()[0]) }
}

/// As most VMs are: no option was given, and nobody can be asked.
#[test]
fn private_ram_of_a_process() {
    let mut vm = RunningVm::new(&setup(Ram::Private));
    let receipt = vm.fault_lands();
    assert_eq!(receipt["atomic"], false);
    let probed = vm.vmfi(&["probe", "--json"]).json();
    assert_eq!((&probed["ram_layout"], &probed["ram_bytes"]), (&"q35".into(), &(512 << 20).into()));
}

/// A victim above 4 GiB, as the kernel takes memory from the top; the VM has hardly touched any of
/// its RAM, and looking for the kernel there does not make it bigger.
#[test]
fn private_ram_above_four_gib() {
    let mut vm = RunningVm::new(&Setup { ram_mib: 4608, ..setup(Ram::Private) });
    let receipt = vm.fault_lands();
    assert!(number(&receipt["gpa"]) >= 1 << 32, "{receipt}");
    assert_eq!(receipt["atomic"], false);
    vm.guest.halt(true).unwrap();
    let before = vm.resident();
    vm.vmfi(&["list", "--all", "--json"]).json();
    vm.vmfi(&["probe", "--json"]).json();
    vm.vmfi(&["inject", &vm.wrapper, "value", "6", "4", "0", "--dry-run", "--json"]).json();
    assert_eq!(vm.resident(), before, "looking made the VM bigger");
    vm.guest.halt(false).unwrap();
    // A layout given is held against what the VM has.
    assert_eq!(vm.vmfi(&["list", "--ram-layout", "q35"]).code, 0);
    let line = vm.vmfi(&["list", "--ram-layout", "pc"]);
    assert!(line.fails_with(3).contains("q35"), "{}", line.stderr);
}

/// Where QEMU answers, it tells where RAM is; by its process id or by its socket.
#[test]
fn private_ram_with_qmp() {
    let mut vm = RunningVm::new(&Setup { qmp: true, ..setup(Ram::Private) });
    assert_eq!(vm.fault_lands()["atomic"], false);
    let told = vm.vmfi(&["list", "-v"]);
    assert!(!told.stderr.contains("command line"), "{}", told.stderr);
    // Another client holds the socket: by the process id there is another way, and no other.
    let socket = vm.guest.qmp();
    let _held = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let told = vm.vmfi(&["list", "-v"]);
    assert!(told.code == 0 && told.stderr.contains("command line"), "{}", told.stderr);
    // The socket names it all the same.
    vmfi(["--qemu", socket.to_str().unwrap(), "list", "--json"]).json();
}

/// The socket `path`, at which nobody answers, is refused in good time.
fn silent(path: &Path) {
    let started = Instant::now();
    let ran = vmfi(["--qemu", path.to_str().unwrap(), "list"]);
    let line = ran.fails_with(3);
    assert!(line.contains("no answer") && line.contains("process id"), "{line}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_socket_that_nobody_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    silent(&path);
    drop(listener);
    let ran = vmfi(["--qemu", path.to_str().unwrap(), "list"]);
    assert!(ran.fails_with(3).contains("cannot connect"), "{}", ran.stderr);
}

/// A file and a memfd are mapped here too, and so are written atomically.
#[test]
fn shared_ram_of_a_process() {
    let mut vm = RunningVm::new(&setup(Ram::Memfd));
    assert_eq!(vm.fault_lands()["atomic"], true);
    let mut vm = RunningVm::new(&Setup { qmp: true, ..setup(Ram::File) });
    assert_eq!(vm.fault_lands()["atomic"], true);
    let socket = vm.guest.qmp();
    let socket = ["--qemu", socket.to_str().unwrap()];
    let read = ["read", &vm.wrapper, "value", "--json"];
    let read = vmfi([&read[..], &socket[..]].concat()).json();
    assert_eq!(read["bytes"], "2222feffffff2222");
    let probed = vmfi([&["probe", "--json"][..], &socket].concat()).json();
    assert_eq!((&probed["ram_layout"], &probed["ram_bytes"]), (&"q35".into(), &(512 << 20).into()));
}

/// Two pieces of equal size: which is which, the kernel proves, or QEMU tells.
#[test]
fn a_piece_of_ram_for_each_numa_node() {
    for qmp in [false, true] {
        let mut vm = RunningVm::new(&Setup { qmp, cpus: 2, ..setup(Ram::TwoNodes) });
        vm.fault_lands();
        let probed = vm.vmfi(&["probe", "--json"]).json();
        assert_eq!(probed["ram_bytes"], 512 << 20);
    }
}

/// A DIMM does not stand in the way of what lies below; where the kernel uses it, it counts.
#[test]
fn a_dimm() {
    for qmp in [false, true] {
        let mut vm = RunningVm::new(&Setup { qmp, ..setup(Ram::WithDimm(256)) });
        vm.fault_lands();
        let used = vm.guest.run("grep -c '^1000.*System RAM' /proc/iomem || true").unwrap();
        let more = if used == ["1"] { 256 } else { 0 };
        let probed = vm.vmfi(&["probe", "--json"]).json();
        assert_eq!(probed["ram_bytes"], (512 + more) << 20, "{used:?}");
    }
}

/// Less RAM below 4 GiB than the machine type would have there.
#[test]
fn less_ram_below_four_gib() {
    for machine in ["q35,max-ram-below-4g=256M", "pc,max-ram-below-4g=256M"] {
        let mut vm = RunningVm::new(&Setup { machine, ..setup(Ram::Private) });
        let receipt = vm.fault_lands();
        assert!(number(&receipt["gpa"]) >= 1 << 32, "{machine}: {receipt}");
    }
}

/// A VM that ends under us is told, and so is one whose number another process has.
#[test]
fn a_vm_that_has_ended() {
    let vm = RunningVm::new(&setup(Ram::Private));
    let pid: i32 = vm.pid.parse().unwrap();
    let options = GuestOptions {
        memory: RamOf::Vm(vmm::find(&VmTarget::Pid(pid)).unwrap()),
        ram_size: None,
        layout: None,
        system_map: None,
        layouts: None,
        cache: vmfi::cache::Cache::none(),
        access: Access::Write,
    };
    let opened = Guest::open(&options).unwrap();
    opened.ram_still_there().unwrap();
    drop(vm.guest);
    let ended = GuestError::Vm(VmError::Ended(pid)).to_string();
    assert_eq!(opened.ram_still_there().unwrap_err().to_string(), ended);
    assert!(matches!(opened.memory().load(Gpa(0x10_0000)), Err(MemoryError::Ended { .. })));
    assert!(opened.memory().compare_exchange(Gpa(0x10_0000), 0, 1).is_err());
    assert!(Guest::open(&options).is_err());
    let ran = vmfi(["--qemu", &pid.to_string(), "list"]);
    assert!(ran.fails_with(3).contains("no process"), "{}", ran.stderr);
}

/// Another user's VM is listed, with what stands in the way.
#[test]
fn a_vm_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let guest = LabGuest::start(&setup(Ram::Private), &files()).unwrap();
    // It is not QEMU yet right after it was started.
    let started = || {
        std::thread::sleep(Duration::from_millis(100));
        guest.qemu_pid().ok().filter(|pid| vmm::find(&VmTarget::Pid(*pid)).is_ok())
    };
    let pid = (0..100).find_map(|_| started()).expect("QEMU does not start");
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_vmfi")).args(arguments);
        run(Path::new("/"), &mut command)
    };
    let ran = nobody(&["--qemu", &pid.to_string(), "list"]);
    assert!(ran.fails_with(3).contains("or as root"), "{}", ran.stderr);
    let listed = nobody(&["guests", "--json"]).json();
    let listed = listed.as_array().unwrap().iter().find(|vm| vm["pid"] == pid).unwrap();
    assert_eq!((&listed["access"], &listed["ram_bytes"]), (&"none".into(), &(512 << 20).into()));
    assert!(listed["why"].as_str().unwrap().contains("or as root"), "{listed}");
}

const ALONE: &str = "VMFI_TEST_ALONE";

/// Without -m the only VM is meant, and of two none.
#[test]
fn the_only_vm_of_a_host() {
    let mut command = alone();
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "vms::a_host_of_its_own", "--nocapture"]).env(ALONE, "1");
    let output = command.output().unwrap();
    let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
    assert!(said(&output.stdout).contains("1 passed"), "{}", said(&output.stdout));
}

/// Not a test but the host of [`the_only_vm_of_a_host`], which has no other VMs than these.
#[test]
fn a_host_of_its_own() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let none = vmfi(["list"]);
    assert!(none.fails_with(3).contains("no VM runs"), "{}", none.stderr);
    assert_eq!(vmfi(["guests", "--json"]).stdout, "[]\n");
    assert!(vmfi(["guests"]).fails_with(5).contains("no VM runs"));

    let mut one = RunningVm::new(&setup(Ram::Private));
    let listed = vmfi(["list", "--json"]).json();
    assert_eq!(listed[0]["children"][0]["pid"], one.child);
    let inject = vmfi(["inject", &one.wrapper, "value", "6", "4", "0", "--json"]).json();
    assert_eq!(one.seen(number(&inject["gva"])), "0600000022222222");
    let guests = vmfi(["guests", "--json"]).json();
    let expected = serde_json::json!([{
        "pid": one.pid.parse::<i32>().unwrap(), "name": "qemu-system-x86", "machine": "q35",
        "ram_bytes": 512 << 20, "ram": ["private"], "qmp": null, "access": "write",
        "atomic": false, "why": null,
    }]);
    assert_eq!(guests, expected);

    let two = boot(&Setup { qmp: true, ..setup(Ram::File) });
    let several = vmfi(["list"]);
    let line = several.fails_with(3);
    let other = two.qemu_pid().unwrap().to_string();
    for word in ["2 VMs", "--qemu", &one.pid, &other, "512 MiB"] {
        assert!(line.contains(word), "'{word}' is not in: {line}");
    }
    let text = vmfi(["guests"]).stdout;
    assert!(text.contains("read and written, atomically"), "{text}");
    assert!(text.contains(two.ram().to_str().unwrap()), "{text}");
    assert!(text.contains(two.qmp().to_str().unwrap()), "{text}");
    // Where one is named, there may be as many as there are.
    assert_eq!(vmfi(["-m", two.ram().to_str().unwrap(), "list"]).code, 5);
    assert_eq!(one.vmfi(&["list"]).code, 0);
}
