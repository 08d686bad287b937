//! When injections go in, how often, and what becomes of them: held against what the victim itself
//! has seen (fixtures/iterations).

use crate::common::{Live, Ran, kernels, number, vmfi_in};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmfi::lab::Setup;

const TRIES: u64 = 100;

/// A guest with a victim that counts.
struct Counting {
    live: Live,
    wrapper: String,
    child: i64,
}

impl Counting {
    fn boot() -> Self {
        Self::on(&Setup::new(&kernels()[0]))
    }

    fn on(setup: &Setup) -> Self {
        let live = Live::unknown(setup);
        let mut this = Self { live, wrapper: String::new(), child: 0 };
        this.start("/iterations 1000 10000000");
        this
    }

    /// Starts `program` in place of the victim that there was.
    fn start(&mut self, program: &str) {
        if self.child != 0 {
            let (child, wrapper) = (self.child, &self.wrapper);
            let end = format!("kill {child}; while [ -e /proc/{wrapper} ]; do sleep 0.1; done");
            self.live.guest.run(&end).unwrap();
        }
        let (wrapper, child) = self.live.start(program);
        (self.wrapper, self.child) = (wrapper.to_string(), child);
    }

    /// What the victim has told.
    fn told(&mut self) -> Vec<String> {
        self.live.guest.run("cat /out").unwrap()
    }

    /// What it has told when it has ended.
    fn end(&mut self) -> Vec<String> {
        let ended = format!("while [ -e /proc/{} ]; do sleep 0.1; done", self.wrapper);
        self.live.guest.run(&ended).unwrap();
        self.child = 0;
        self.told()
    }

    fn words<'w>(&'w self, words: &[&'w str]) -> Vec<&'w str> {
        [&["inject", &self.wrapper], words, &["--json"]].concat()
    }

    fn inject(&self, words: &[&str]) -> Ran {
        self.live.with_memory_alone(&self.words(words))
    }

    /// The receipts of a call that makes several.
    fn receipts(&self, words: &[&str]) -> Vec<Value> {
        self.inject(words).json().as_array().unwrap().clone()
    }

    /// The same, told to stop by a signal after `time`.
    fn interrupted(&self, words: &[&str], time: Duration) -> Ran {
        let stop = |vmfi| kill_process(vmfi, Signal::INT).unwrap();
        self.meanwhile(words, time, stop)
    }

    /// The same, where `then` is done after `time` to the process, or to the guest.
    fn meanwhile(&self, words: &[&str], time: Duration, then: impl FnOnce(Pid)) -> Ran {
        let vmfi = Command::new(env!("CARGO_BIN_EXE_vmfi"))
            .arg("-m")
            .arg(self.live.guest.ram())
            .arg("--no-cache")
            .args(self.words(words))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        sleep(time);
        then(Pid::from_child(&vmfi));
        let output = vmfi.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Ran { code: output.status.code().unwrap(), stdout, stderr }
    }

    fn read(&self, target: &str) -> Value {
        self.live.with_memory_alone(&["read", &self.wrapper, target, "--json"]).json()["value"]
            .clone()
    }
}

/// The iteration that is asked for is the one in which the victim sees it.
#[test]
#[ignore = "needs the host to itself: 'make test' runs it alone"]
fn the_asked_iteration_is_hit() {
    for kernel in kernels() {
        let mut victim = Counting::on(&Setup::new(&kernel));
        let folder = tempfile::tempdir().unwrap();
        let ram = victim.live.guest.ram();
        let ram = ["-m", ram.to_str().unwrap()];
        let wrapper = victim.wrapper.clone();
        let mut asked = Vec::new();
        let mut told = 0;
        for (number, ahead) in (1..=TRIES).zip((100..=150).cycle()) {
            let read = ["read", &wrapper, "k", "--json"];
            let k =
                vmfi_in(folder.path(), &[], [&ram, &read[..]].concat()).json()["value"].as_u64();
            let goal = k.unwrap() + ahead;
            asked.push(format!("hit {goal} {number}"));
            let (when, number) = (format!("k == {goal}"), number.to_string());
            let inject = ["inject", &wrapper, "hit", &number, "8", "0", "--json", "--when", &when];
            let ran = vmfi_in(folder.path(), &[], [&ram, &inject[..], &["--for", "1s"]].concat());
            if ran.code == 9 {
                eprintln!("{}", ran.fails_with(9));
                continue;
            }
            let trigger = &ran.json()["trigger"];
            assert_eq!((&trigger["values"]["k"], &trigger["when"]), (&goal.into(), &when.into()));
            assert!(
                trigger["written_ns"].as_u64() > Some(0) && trigger["looks"].as_u64() > Some(0)
            );
            told += u64::from(trigger["values_after"]["k"] == goal);
        }
        let seen: BTreeSet<_> = victim.told().into_iter().collect();
        let hits = asked.iter().filter(|hit| seen.contains(*hit)).count();
        println!("{hits} of {TRIES} tries hit the asked iteration; receipts tell of {told}");
        assert!(hits >= 95 && told >= 95, "{hits} hits, {told} told: {asked:?} {seen:?}");
    }
}

#[test]
fn conditions_and_what_never_comes() {
    let mut victim = Counting::boot();
    several_moments(&victim);
    a_change(&victim);
    what_never_comes(&mut victim);
    a_pointer_that_is_null_at_first(&mut victim);
    a_program_without_types(&mut victim);
}

fn several_moments(victim: &Counting) {
    let words = ["idle", "9", "8", "0", "--when", "k % 50 == 0", "--count", "5"];
    let receipts = victim.receipts(&words);
    let k = |receipt: &Value| receipt["trigger"]["values"]["k"].as_u64().unwrap();
    let all: Vec<_> = receipts.iter().map(k).collect();
    assert!(all.len() == 5 && all.iter().all(|k| k % 50 == 0), "{all:?}");
    assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");
    let numbers: Vec<_> = receipts.iter().map(|receipt| receipt["injection"].as_u64()).collect();
    assert_eq!(numbers, (0..5).map(Some).collect::<Vec<_>>());
}

fn a_change(victim: &Counting) {
    let trigger =
        victim.inject(&["idle", "8", "8", "0", "--when-changes", "k"]).json()["trigger"].clone();
    assert_eq!(trigger["when"], "k changes");
    assert!(trigger["values"]["k"].is_u64() && trigger["gap_ns"].is_u64(), "{trigger}");
}

fn what_never_comes(victim: &mut Counting) {
    let never = ["idle", "77", "8", "0", "--when", "residual < -1"];
    let fails = |ran: Ran, why: &str| {
        let line = ran.fails_with(9);
        for word in ["never fired", "'residual < -1'", why, " looks", "nothing was written"] {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
        assert_eq!(ran.stdout, "");
    };
    fails(victim.inject(&[&never[..], &["--for", "300ms"]].concat()), "300ms have passed");
    fails(victim.interrupted(&never, Duration::from_millis(500)), "it was stopped");
    assert_eq!(victim.read("idle"), 8);
    victim.start("/iterations 1000 1500");
    let ended = format!("process {} has ended", victim.child);
    fails(victim.inject(&never), &ended);
    victim.end();
}

fn a_pointer_that_is_null_at_first(victim: &mut Counting) {
    victim.start("/iterations 10000 10000000");
    let null = victim.live.with_memory_alone(&["read", &victim.wrapper, "p->count"]);
    assert!(null.fails_with(7).contains("null pointer"), "{}", null.stderr);
    let when = "p->count > 0 && residual < 0.5 && k >= 100";
    // Where to write is found when it counts, too.
    let receipt = victim.inject(&["p->mark", "5", "--when", when, "--for", "20s"]).json();
    let values = &receipt["trigger"]["values"];
    assert!(values["p->count"].as_u64() >= Some(100), "{receipt}");
    assert!(values["residual"].as_f64() <= Some(0.01), "{receipt}");
    assert_eq!(values["k"], values["p->count"], "{receipt}");
}

fn a_program_without_types(victim: &mut Counting) {
    victim.start("/iterations-bare 1000 10000000");
    let hit = |when: &str| victim.inject(&["hit", "5", "8", "0", "--for", "20s", "--when", when]);
    let ran = hit("k == 40");
    assert!(ran.fails_with(6).contains("(i32)k"), "{}", ran.stderr);
    let receipt = hit("(i32)k > 40 && (f64)residual < 1").json();
    assert!(receipt["trigger"]["values"]["(i32)k"].as_u64() > Some(40), "{receipt}");
    // That a value is another one is told by its bytes.
    victim.inject(&["hit", "6", "8", "0", "--when-changes", "residual"]).json();
}

#[test]
fn with_the_vm_stopped_and_in_the_kernel() {
    let victim = Counting::on(&Setup { qmp: true, ..Setup::new(&kernels()[0]) });
    let goal = victim.read("k").as_u64().unwrap() + 500;
    let when = format!("k == {goal}");
    let receipt = victim.inject(&["hit", "5", "--pause", "--for", "20s", "--when", &when]).json();
    let trigger = &receipt["trigger"];
    assert_eq!((&receipt["paused"], &trigger["values"]["k"]), (&true.into(), &goal.into()));
    assert!(trigger["values_after"]["k"].as_u64() >= Some(goal), "{trigger}");
    in_the_kernel(&victim.live);
    a_vm_that_ends(&victim);
}

/// Its RAM file is still there then.
fn a_vm_that_ends(victim: &Counting) {
    let qemu = Pid::from_raw(victim.live.guest.qemu_pid().unwrap()).unwrap();
    let end = |_| kill_process(qemu, Signal::KILL).unwrap();
    let ran = victim.meanwhile(&["idle", "5", "--when", "k < 0"], Duration::from_millis(500), end);
    assert!(ran.fails_with(3).contains("has ended"), "{}", ran.stderr);
}

fn in_the_kernel(live: &Live) {
    let jiffies =
        live.with_memory_alone(&["read", "--kernel", "jiffies", "--json"]).json()["value"].clone();
    let goal = jiffies.as_u64().unwrap() + 250;
    for when in [format!("(u64)jiffies > {goal}"), format!("jiffies > {goal} + 50")] {
        let inject =
            ["inject", "--kernel", "panic_timeout", "5", "4", "0", "--json", "--when", &when];
        let receipt = live.with_memory_alone(&[&inject[..], &["--for", "30s"]].concat()).json();
        let values = receipt["trigger"]["values"].as_object().unwrap();
        assert!(values.values().all(|value| value.as_u64() > Some(goal)), "{receipt}");
        assert_eq!((&receipt["after"], receipt["pid"].as_u64()), (&"05000000".into(), Some(0)));
    }
}

#[test]
fn schedules() {
    let mut victim = Counting::boot();
    at_intervals(&victim);
    at_random(&victim);
    told_to_stop(&victim);
    where_a_pointer_leads_by_then(&victim);
    until_the_victim_ends(&mut victim);
}

fn times(receipts: &[Value]) -> Vec<Duration> {
    let time = |receipt: &Value| Duration::from_nanos(receipt["monotonic_ns"].as_u64().unwrap());
    let start = time(&receipts[0]);
    receipts.iter().map(|receipt| time(receipt) - start).collect()
}

const BUSY_HOST: Duration = Duration::from_millis(250);

fn at_intervals(victim: &Counting) {
    let receipts = victim.receipts(&["idle", "9", "8", "0", "--every", "300ms", "--count", "5"]);
    assert_eq!(receipts.len(), 5);
    for (time, due) in
        times(&receipts).into_iter().zip((0..).map(|n| Duration::from_millis(300) * n))
    {
        assert!(time.abs_diff(due) < BUSY_HOST, "{time:?}, due {due:?}");
    }
    let started = Instant::now();
    let limited = ["idle", "9", "8", "0", "--after", "400ms", "--every", "100ms", "--for", "350ms"];
    assert_eq!(victim.receipts(&limited).len(), 4);
    assert!(started.elapsed() >= Duration::from_millis(700));
}

fn at_random(victim: &Counting) {
    let drawn = || {
        let words =
            ["idle", "--random-bytes", "--at-random", "0s..1s", "--count", "3", "--seed", "7"];
        let receipts = victim.receipts(&words);
        let bytes = |receipt: &Value| receipt["after"].as_str().unwrap().to_owned();
        (receipts.iter().map(bytes).collect::<Vec<_>>(), times(&receipts))
    };
    let (first, second) = (drawn(), drawn());
    assert_eq!((&first.0, first.0.len()), (&second.0, 3));
    assert_eq!(first.0.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
    for (one, other) in first.1.iter().zip(second.1) {
        assert!(one.abs_diff(other) < BUSY_HOST, "{one:?} {other:?}");
    }
}

fn told_to_stop(victim: &Counting) {
    let words = ["idle", "--flip", "1", "--every", "100ms"];
    let ran = victim.interrupted(&words, Duration::from_millis(1500));
    let receipts = ran.json();
    let told = format!("{} injections went in: it was stopped", receipts.as_array().unwrap().len());
    assert!(
        receipts[1]["before"] == receipts[0]["after"] && ran.stderr.contains(&told),
        "{}",
        ran.stderr
    );
    let ran = victim.interrupted(&["idle", "77", "--after", "20s"], Duration::from_millis(500));
    assert!(ran.fails_with(9).contains("nothing was written"), "{}", ran.stderr);
    assert_ne!(victim.read("idle"), 77);
}

/// The pointer leads to another place every 100 ms or so.
fn where_a_pointer_leads_by_then(victim: &Counting) {
    let receipts = victim.receipts(&["p->mark", "5", "--every", "70ms", "--count", "10"]);
    let places: BTreeSet<_> = receipts.iter().map(|receipt| number(&receipt["gva"])).collect();
    assert_eq!((receipts.len(), places.len()), (10, 2), "{places:x?}");
    assert_eq!(
        (victim.read("states[0].mark"), victim.read("states[1].mark")),
        (5.into(), 5.into())
    );
}

fn until_the_victim_ends(victim: &mut Counting) {
    victim.start("/iterations 1000 1500");
    let ran = victim.inject(&["idle", "9", "8", "0", "--every", "100ms"]);
    let count = ran.json().as_array().unwrap().len();
    let told = format!("{count} injections went in: process {} has ended", victim.child);
    assert!(count > 3 && ran.stderr.contains(&told), "{}", ran.stderr);
    victim.end();
    victim.start("/iterations 1000 500");
    victim.inject(&["idle", "9", "8", "0", "--after", "20s"]).fails_with(5);
    victim.end();
}

#[test]
fn what_becomes_of_a_fault() {
    let mut victim = Counting::boot();
    followed(&mut victim);
    held(&mut victim);
    several_at_once(&mut victim);
}

fn followed(victim: &mut Counting) {
    let fate = |words: &[&str]| victim.inject(words).json()["fate"].clone();
    let own = fate(&["k", "-1", "--watch", "5s"]);
    assert_eq!(own["state"], "overwritten", "{own}");
    assert!(own["seen_ns"].as_u64() <= own["gone_ns"].as_u64(), "{own}");
    assert_ne!(own["by"], "ffffffff");
    let idle = fate(&["idle", "9", "--watch", "300ms"]);
    assert_eq!(idle["state"], "latent", "{idle}");
    assert!(idle["seen_ns"].as_u64() >= Some(250_000_000), "{idle}");
    victim.start("/iterations 1000 1500");
    let ended = victim.inject(&["idle", "9", "--watch", "60s"]).json()["fate"].clone();
    assert_eq!(ended["state"], "unknown", "{ended}");
    assert!(ended["why"].as_str().unwrap().contains("ended"), "{ended}");
    victim.end();
}

fn held(victim: &mut Counting) {
    victim.start("/iterations 1000 3000");
    let hold = victim.inject(&["stuck", "-77", "--hold", "1s"]).json()["hold"].clone();
    let overwritten = hold["overwritten"].as_u64().unwrap();
    assert!(overwritten > 50 && hold["looks"].as_u64() > Some(overwritten), "{hold}");
    let slow =
        victim.inject(&["stuck", "-77", "--hold", "500ms", "--rate", "50"]).json()["hold"].clone();
    assert!((2..=26).contains(&slow["looks"].as_u64().unwrap()), "{slow}");
    let told = victim.end();
    let seen = told.iter().find_map(|line| line.strip_prefix("stuck ")).unwrap();
    // Each time that it was put right, the victim found it so; late, in the next iteration.
    assert!(seen.parse::<u64>().unwrap() >= overwritten, "{told:?} {hold}");
}

fn several_at_once(victim: &mut Counting) {
    victim.start("/iterations 1000 10000000");
    let words = ["idle", "0x55", "8", "0", "--also", "hit", "--also", "states[1].mark"];
    let receipts = victim.receipts(&words);
    let symbols: Vec<_> = receipts.iter().map(|receipt| &receipt["symbol"]).collect();
    assert_eq!(symbols, ["idle", "hit", "states[1].mark"]);
    assert!(times(&receipts)[2] < Duration::from_millis(100));
    for target in ["idle", "hit", "states[1].mark"] {
        assert_eq!(victim.read(target), 0x55, "{target}");
    }
    let ranks =
        "echo '/iterations 1000 10000000 & /iterations 1000 10000000 & wait' >/two; chmod +x /two";
    victim.live.guest.run(ranks).unwrap();
    victim.start("sh /two");
    victim.live.guest.run("until [ $(grep -c ready /out) = 2 ]; do sleep 0.1; done").unwrap();
    let receipts = victim.receipts(&["hit", "7", "8", "0", "--all-children"]);
    let children: BTreeSet<_> =
        receipts.iter().map(|receipt| receipt["victim_pid"].as_i64()).collect();
    assert_eq!((receipts.len(), children.len()), (2, 2), "{receipts:?}");
    victim
        .live
        .guest
        .run("until [ $(grep -c '^hit [0-9]* 7$' /out) = 2 ]; do sleep 0.1; done")
        .unwrap();
}
