//! The launcher, run on the host: it needs nothing of a guest.

use crate::common::built;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
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
    assert_eq!(elf.symbol("vmfi_wrapper_status").unwrap().size, 64);
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
    assert!(text(&usage.stderr).starts_with("usage: wrapper <executable>"));
    for (program, why) in [
        ("/no/such/program", "no such file"),
        ("no-such-program-anywhere", "no such file"),
        ("/etc/passwd", "no permission"),
    ] {
        let output = wrapper(&[program]);
        assert_eq!(output.status.code(), Some(127), "{program}");
        assert_eq!(text(&output.stderr), format!("wrapper: cannot execute {program}: {why}\n"));
    }
}
