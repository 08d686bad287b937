//! The launcher, run on the host: it needs nothing of a guest.

use crate::common::built;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use vmfi::symbols::ElfFile;

fn wrapper(arguments: &[&str]) -> Output {
    Command::new(built("guest/wrapper")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn is_small_static_and_exports_its_status() {
    let path = built("guest/wrapper");
    assert!(fs::metadata(&path).unwrap().len() <= 8192);
    let elf = ElfFile::read(&path).unwrap();
    assert!(!elf.position_independent());
    assert_eq!(elf.symbol("vmfi_wrapper_status").unwrap().size, 192);
    assert!(elf.symbol("_start").is_ok() && elf.symbol("memcpy").is_err(), "not stripped");
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(8).any(|window| window == b"ld-linux"), "needs a loader");
}

#[test]
fn prints_both_process_ids_and_ends_as_the_child() {
    let output = wrapper(&["sh", "-c", "echo $PPID $$; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    let text = text(&output.stdout);
    let number = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no '{label}' in {text}")).to_owned()
    };
    let (own, child) = (number("wrapper: pid "), number("wrapper: child "));
    assert!(text.lines().any(|line| line == format!("{own} {child}")), "{text}");
}

#[test]
fn a_signal_is_128_and_its_number() {
    assert_eq!(wrapper(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

#[test]
fn terminations_are_passed_on() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut running = Command::new(built("guest/wrapper"))
            .args(["sleep", "60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Once the child's id is printed the child is there.
        let lines = BufReader::new(running.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.starts_with("wrapper: child")));
        // The child may still be on its way to its program; the signal waits for it.
        let id = running.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        assert_eq!(running.wait().unwrap().code(), Some(code), "{signal}");
    }
}

#[test]
fn usage_and_programs_that_cannot_run() {
    let usage = wrapper(&[]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage.stderr).starts_with("usage: wrapper [--gate]"));
    for (program, why) in [
        ("/no/such/program", "no such file"),
        ("no-such-program-anywhere", "no such file"),
        ("/etc/passwd", "no permission"),
    ] {
        let output = wrapper(&[program]);
        assert_eq!(output.status.code(), Some(127), "{program}");
        assert_eq!(text(&output.stderr), format!("wrapper: cannot execute {program}: {why}\n"));
    }
    for words in [&["--gates", "true"][..], &["--gate"], &["--patience", "soon", "true"], &["--"]] {
        assert_eq!(wrapper(words).status.code(), Some(2), "{words:?}");
    }
    assert_eq!(wrapper(&["--", "--gate"]).status.code(), Some(127));
}

/// A wrapper whose status block is read and written from outside, as a host does it.
struct Watched {
    child: Child,
    memory: File,
    block: u64,
}

/// States of the block, and where in it each word is.
const RUNNING: u32 = 2;
const ENDED: u32 = 3;
const GATED: u32 = 4;
const ENDING: u32 = 5;
const STATE: u64 = 12;
const EXIT_STATUS: u64 = 20;
const OPEN: u64 = 40;
const LET_GO: u64 = 44;
const ACKNOWLEDGED: u64 = 48;
const CPU_NS: u64 = 56;
const STDOUT: u64 = 64;
const STDERR: u64 = 96;

impl Watched {
    fn start(arguments: &[&str]) -> Self {
        let path = built("guest/wrapper");
        let block = ElfFile::read(&path).unwrap().symbol("vmfi_wrapper_status").unwrap().address;
        let mut command = Command::new(path);
        let piped = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = piped.spawn().unwrap();
        let memory = format!("/proc/{}/mem", child.id());
        // Its memory is being made still.
        while File::open(&memory).unwrap().read_exact_at(&mut [0], block).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let memory = File::options().read(true).write(true).open(memory).unwrap();
        Self { child, memory, block }
    }

    fn word(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read_exact_at(&mut bytes, self.block + offset).unwrap();
        u32::from_le_bytes(bytes)
    }

    fn long(&self, offset: u64) -> u64 {
        u64::from(self.word(offset)) | u64::from(self.word(offset + 4)) << 32
    }

    fn say(&self, offset: u64) {
        self.memory.write_all_at(&1u32.to_le_bytes(), self.block + offset).unwrap();
    }

    fn wait_for(&self, state: u32) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.word(STATE) != state {
            assert!(Instant::now() < until, "{} instead of {state}", self.word(STATE));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is kept of a stream, and how much it was in all.
    fn kept(&self, stream: u64) -> (String, u64) {
        let [address, size, total] = [0, 8, 16].map(|word| self.long(stream + word));
        let mut ring = vec![0; size as usize];
        self.memory.read_exact_at(&mut ring, address).unwrap();
        let bytes: Vec<_> =
            (total.saturating_sub(size)..total).map(|at| ring[(at % size) as usize]).collect();
        (text(&bytes), total)
    }
}

#[test]
fn the_gate_is_opened_from_outside_and_the_output_is_kept() {
    let watched = Watched::start(&["--gate", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    watched.wait_for(GATED);
    watched.say(OPEN);
    watched.wait_for(ENDED);
    assert_eq!(watched.word(EXIT_STATUS), 3 << 8);
    assert_eq!(watched.kept(STDOUT), ("out\n".to_owned(), 4));
    assert_eq!(watched.kept(STDERR), ("err\n".to_owned(), 4));
    // FNV-1a of "out\n".
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = b"out\n".iter().fold(0xcbf2_9ce4_8422_2325, step);
    assert_eq!(watched.long(STDOUT + 24), hash);
    assert_ne!(watched.long(CPU_NS), 0);
    watched.say(ACKNOWLEDGED);
    let output = watched.child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).ends_with("\nout\n"), "{output:?}");
    assert_eq!(text(&output.stderr), "err\n");
}

#[test]
fn of_a_long_output_the_tail_is_kept() {
    let mut watched = Watched::start(&["--gate", "seq", "300000"]);
    watched.say(OPEN);
    let mut output = watched.child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    watched.wait_for(ENDED);
    let (kept, total) = watched.kept(STDOUT);
    let all: usize = (1..=300_000u32).map(|number| number.to_string().len() + 1).sum();
    assert_eq!((total, kept.len()), (all as u64, 1 << 20));
    assert!(kept.ends_with("299999\n300000\n"));
    watched.say(ACKNOWLEDGED);
    assert!(watched.child.wait().unwrap().success());
    reader.join().unwrap().unwrap();
}

#[test]
fn a_program_is_held_at_its_end() {
    for (program, status) in [("exit 4", 4 << 8), ("kill -11 $$", 11)] {
        let mut watched = Watched::start(&["--hold-exit", "sh", "-c", program]);
        watched.wait_for(ENDING);
        assert_eq!(watched.word(EXIT_STATUS) & 0xff7f, status, "{program}");
        // Its memory is still there.
        let child = watched.word(16);
        assert_ne!(fs::read_to_string(format!("/proc/{child}/maps")).unwrap(), "");
        watched.say(LET_GO);
        let code = watched.child.wait().unwrap().code();
        assert_eq!(code, Some(if status == 11 { 139 } else { 4 }));
    }
}

#[test]
fn signals_reach_a_program_that_is_to_be_held() {
    let script = "trap 'echo got it' USR1; kill -USR1 $$; kill -STOP $$; echo went on";
    let watched = Watched::start(&["--hold-exit", "sh", "-c", script]);
    watched.wait_for(RUNNING);
    let child = watched.word(16).to_string();
    // When it stops, nothing tells for sure: each signal stops it for us.
    while watched.word(STATE) == RUNNING {
        assert!(Command::new("kill").args(["-CONT", &child]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(5));
    }
    watched.wait_for(ENDING);
    watched.say(LET_GO);
    let output = watched.child.wait_with_output().unwrap();
    assert!(text(&output.stdout).ends_with("got it\nwent on\n"), "{output:?}");
}

#[test]
fn a_host_that_never_comes_is_not_waited_for() {
    let words = ["--gate", "--hold-exit", "--patience", "0", "true"];
    let mut watched = Watched::start(&words);
    watched.wait_for(GATED);
    watched.say(OPEN);
    assert!(watched.child.wait().unwrap().success());
    // At the gate, a signal ends it.
    let mut watched = Watched::start(&words);
    watched.wait_for(GATED);
    let id = watched.child.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    assert_eq!(watched.child.wait().unwrap().code(), Some(143));
}

#[test]
fn addresses_are_the_same_each_time() {
    let stack = || {
        let output = wrapper(&["--no-aslr", "grep", "stack", "/proc/self/maps"]);
        text(&output.stdout).lines().last().unwrap().to_owned()
    };
    assert_eq!(stack(), stack());
}
