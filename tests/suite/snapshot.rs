//! Snapshots at the gate, live: machines that go on from one moment, with no agent and no network.

use crate::common::{built, kernels};
use std::time::{Duration, Instant};
use vmfi::guest::{Guest, GuestOptions, RamOf};
use vmfi::lab::{Accel, Initramfs, Instance, KernelImage, Machine, Recipe, Snapshot, Status};
use vmfi::memory::Access;
use vmfi::process::{ProcessTree, Task, tasks};
use vmfi::victim::{Files, StatusBlock, Stream, Victim, VictimMemory, Word, WrapperState};

const LIMIT: Duration = Duration::from_secs(60);

fn recipe(command: &str) -> Recipe {
    let mut files = Initramfs::with_busybox().unwrap();
    files.copy(&built("guest/wrapper"), "/wrapper").unwrap();
    files.copy(&built("fixtures/hpccg"), "/hpccg").unwrap();
    files.script(format!("/wrapper --gate --hold-exit --no-aslr {command} >/dev/null 2>&1 &"));
    let kernel = KernelImage::open(&kernels()[0]).unwrap();
    let accel = Accel::choose(&kernel.path).unwrap();
    let machine = Machine { kernel, ram_mib: 512, cpus: 1, accel: Some(accel) };
    Recipe::of_machine(&machine, accel, "", &files.build().unwrap(), "vmfi-test").unwrap()
}

fn open(instance: &Instance) -> Guest {
    let options = GuestOptions::unknown(RamOf::Path(instance.ram()), Access::Write);
    Guest::open(&options).unwrap()
}

fn wrapper(guest: &Guest) -> Option<Task> {
    ProcessTree::new(tasks(guest).unwrap()).wrappers("wrapper").next().cloned()
}

fn block<'g>(guest: &'g Guest, task: &Task) -> StatusBlock<'g> {
    let files = Files::of_guest();
    let victim = Victim::open(VictimMemory::open(guest, task.clone()).unwrap(), &files).unwrap();
    let at = StatusBlock::place(&victim).unwrap().unwrap();
    StatusBlock::new(VictimMemory::open(guest, task.clone()).unwrap(), at)
}

fn wait_for(block: &StatusBlock, state: WrapperState) {
    let started = Instant::now();
    let now = || block.read().ok().flatten().and_then(|told| told.state);
    while now() != Some(state) {
        assert!(started.elapsed() < LIMIT, "{:?} instead of {state:?}", block.read());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Boots a guest whose wrapper stands at the gate.
fn at_the_gate(command: &str) -> (Instance, Guest, Task) {
    let mut instance = Instance::boot(&recipe(command)).unwrap();
    instance.wait_for("vmfi-lab-ready", LIMIT).unwrap();
    let guest = open(&instance);
    let task = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        wrapper(&guest)
    });
    let task = task.unwrap();
    wait_for(&block(&guest, &task), WrapperState::Gated);
    (instance, guest, task)
}

#[test]
fn any_number_of_machines_go_on_from_the_gate() {
    let (instance, guest, task) = at_the_gate("/hpccg 10 10 10");
    let snapshot = Snapshot::take(instance).unwrap();
    let restored = |private: bool| match private {
        true => snapshot.restore_privately().unwrap().unwrap(),
        false => snapshot.restore().unwrap(),
    };
    let outputs =
        [false, true, false, true].map(|private| solved(restored(private), &guest, &task));
    assert!(outputs[0].contains("Number of iterations: 17\n"), "{}", outputs[0]);
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

/// What the solver prints in a machine that goes on from there.
fn solved(mut instance: Instance, template: &Guest, task: &Task) -> String {
    assert_eq!(instance.status().unwrap(), Status::Paused);
    let guest = template.copied_to(&instance.ram_copy().unwrap(), Access::Write).unwrap();
    instance.go_on().unwrap();
    let block = block(&guest, task);
    assert_eq!(block.read().unwrap().unwrap().state, Some(WrapperState::Gated));
    block.say(Word::Open).unwrap();
    wait_for(&block, WrapperState::Ending);
    block.say(Word::LetGo).unwrap();
    wait_for(&block, WrapperState::Ended);
    let told = block.read().unwrap().unwrap();
    assert_eq!(told.exit_status, 0);
    assert!(told.cpu_ns > 0 && told.ended_ns > told.started_ns, "{told:?}");
    let output = block.output(Stream::Stdout).unwrap();
    assert!(!output.cut());
    String::from_utf8(output.tail).unwrap()
}
