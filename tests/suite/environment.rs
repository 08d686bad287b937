//! What a receipt tells of where a fault was made, against what the guest and QEMU tell of it.

use crate::common::{Live, built, files, kernels};
use std::fs;
use std::process::Command;
use std::time::Duration;
use vmfi::cache::Cache;
use vmfi::environment::Environment;
use vmfi::guest::{Guest, GuestOptions, RamOf};
use vmfi::lab::{Accel, Setup};
use vmfi::memory::Access;
use vmfi::process::{Task, cpu_time, tasks};
use vmfi::symbols::ElfFile;
use vmfi::victim::{Files, Victim, VictimMemory};
use vmfi::vmm::{self, VmTarget};

/// A clock tick of /proc.
const TICK: Duration = Duration::from_millis(10);
/// What the fixture's ended thread has worked.
const OF_ENDED: Duration = Duration::from_millis(300);

fn opened(memory: RamOf) -> Guest {
    let options = GuestOptions {
        memory,
        ram_size: None,
        layout: None,
        system_map: None,
        layouts: None,
        cache: Cache::none(),
        access: Access::Read,
    };
    Guest::open(&options).unwrap()
}

fn task(guest: &Guest, pid: i64) -> Task {
    tasks(guest).unwrap().into_iter().find(|task| i64::from(task.pid) == pid).unwrap()
}

fn victim<'g>(guest: &'g Guest, pid: i64, files: &Files) -> Victim<'g> {
    Victim::open(VictimMemory::open(guest, task(guest, pid)).unwrap(), files).unwrap()
}

#[test]
fn what_a_fault_ran_in() {
    for kernel in kernels() {
        let mut live = Live::booted(&Setup { qmp: true, ..Setup::new(&kernel) }, &files());
        let by_pid = vmm::find(&VmTarget::Pid(live.guest.qemu_pid().unwrap())).unwrap();
        let guest = opened(RamOf::Vm(by_pid));
        let told = Environment::of(&guest);
        assert_eq!(told.kernel_release, live.guest.run("uname -r").unwrap().concat());
        let notes = live.dump("if=/sys/kernel/notes");
        let build_id = told.kernel_build_id.as_deref().unwrap();
        assert!(build_id.len() == 40 && notes.contains(build_id), "{build_id}: {notes}");
        let cpus = live.guest.run("cat /proc/cpuinfo").unwrap();
        assert_eq!(told.cpu_model.as_deref(), model(&cpus));
        let of_host = fs::read_to_string("/proc/cpuinfo").unwrap();
        let of_host: Vec<_> = of_host.lines().map(str::to_owned).collect();
        assert_eq!(told.host_cpu_model.as_deref(), model(&of_host));
        let vmm = told.vmm.unwrap();
        assert_eq!(vmm.name.as_deref(), Some("qemu-system-x86_64"));
        assert_eq!(vmm.version.unwrap(), version());
        assert_eq!(vmm.accelerator.as_deref(), Some(Accel::choose(&kernel).unwrap().name()));
        victims_have_build_ids(&mut live, &guest);
    }
}

fn model(cpus: &[String]) -> Option<&str> {
    let line = cpus.iter().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// As QEMU prints it itself.
fn version() -> String {
    let ran = Command::new("qemu-system-x86_64").arg("--version").output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let line = text.lines().next().unwrap();
    line.strip_prefix("QEMU emulator version ").unwrap().to_owned()
}

/// Whether its own memory serves, a file, or a map.
fn victims_have_build_ids(live: &mut Live, guest: &Guest) {
    let (_, child) = live.start("/holder");
    let file = built("fixtures/holder");
    let id = &ElfFile::read(&file).unwrap().build_id().unwrap().id.clone();
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map");
    fs::write(&map, Command::new("nm").arg(&file).output().unwrap().stdout).unwrap();
    let all =
        [Files::of_guest(), Files::of_program(Some(&file)).unwrap(), Files::of_map(&map).unwrap()];
    for files in all {
        assert_eq!(victim(guest, child, &files).build_id().as_ref(), Some(&id));
    }
    let (_, child) = live.start("/holder-noid");
    assert_eq!(victim(guest, child, &Files::of_guest()).build_id(), None);
}

/// Without a socket to ask at, what the VMM's process tells; and of a file alone.
#[test]
fn a_vmm_that_is_not_asked() {
    let kernel = &kernels()[0];
    let live = Live::booted(&Setup::new(kernel), &files());
    let guest = opened(RamOf::Path(live.guest.ram()));
    let vmm = Environment::of(&guest).vmm.unwrap();
    assert_eq!((vmm.name.as_deref(), vmm.version), (Some("qemu-system-x86_64"), None));
    assert_eq!(vmm.accelerator.as_deref(), Some(Accel::choose(kernel).unwrap().name()));
}

/// Against the guest's own count, whose two parts are whole ticks.
#[test]
fn cpu_time_is_what_the_guest_counts() {
    for kernel in kernels() {
        let mut live = Live::booted(&Setup::new(&kernel), &files());
        let (_, child) = live.start("/holder busy");
        let guest = opened(RamOf::Path(live.guest.ram()));
        let task = task(&guest, child);
        let before = counted(&mut live, child);
        let used = cpu_time(&guest, &task).unwrap();
        let after = counted(&mut live, child);
        assert!(before < used + TICK && used < after + 2 * TICK, "{before:?} {used:?} {after:?}");

        live.guest.run(&format!("kill -STOP {child}; sleep 0.1")).unwrap();
        let (used, counted) = (cpu_time(&guest, &task).unwrap(), counted(&mut live, child));
        let parts = used.checked_sub(counted).unwrap();
        assert!(parts < 2 * TICK, "{used:?}, counted {counted:?}");
        let ended = used.checked_sub(of_living(&mut live, child)).unwrap();
        assert!(ended >= OF_ENDED && ended < 2 * OF_ENDED, "{ended:?}");

        live.guest.run(&format!("kill -9 {child}; sleep 0.5")).unwrap();
        assert_eq!(cpu_time(&guest, &task), None);
    }
}

/// User's time and the system's, the fourteenth and fifteenth word.
fn counted(live: &mut Live, pid: i64) -> Duration {
    let told = live.guest.run(&format!("cut -d ' ' -f 14,15 /proc/{pid}/stat")).unwrap().concat();
    let ticks: u32 = told.split(' ').map(|word| word.parse::<u32>().unwrap()).sum();
    TICK * ticks
}

/// That of the threads that have not ended, in ns.
fn of_living(live: &mut Live, pid: i64) -> Duration {
    let told = live.guest.run(&format!("cut -d ' ' -f 1 /proc/{pid}/task/*/schedstat")).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    told.iter().map(|line| Duration::from_nanos(line.parse().unwrap())).sum()
}
