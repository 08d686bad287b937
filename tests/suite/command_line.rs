//! The command line from outside, without a guest: what is refused before there is one.

use crate::common::vmfi;
use std::fs::{self, File};
use std::path::PathBuf;

/// A folder with a RAM file of zeros and a symbol table of the right size that is none.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join("ram")).unwrap().set_len(64 << 20).unwrap();
        let line = "ffffffff82000000 D linux_banner\nffffffff82600000 D init_top_pgt\n";
        fs::write(folder.path().join("map"), line.repeat(2000)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn with(&self, arguments: &[&str]) -> crate::common::Ran {
        let own = ["-m".to_owned(), self.path("ram"), "--system-map".to_owned(), self.path("map")];
        vmfi(own.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())))
    }
}

fn has(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "'{word}' is not in: {line}");
    }
}

#[test]
fn usage_errors_are_one_line() {
    has(vmfi(["frobnicate"]).fails_with(2), &["frobnicate", "--help"]);
    has(vmfi::<&str>([]).fails_with(2), &["--help"]);
    has(vmfi(["list", "--frobnicate"]).fails_with(2), &["--frobnicate"]);
    has(vmfi(["inject", "5", "rtrans"]).fails_with(2), &["<VALUE>"]);
    has(vmfi(["inject", "x", "rtrans", "6", "4", "0"]).fails_with(2), &["WRAPPER_PID"]);
    has(vmfi(["inject", "5", "rtrans", "six", "4", "0"]).fails_with(2), &["six"]);
    has(vmfi(["--ram-layout", "round", "list"]).fails_with(2), &["q35", "pc", "flat"]);
    has(vmfi(["--ram-size", "much", "list"]).fails_with(2), &["512M"]);
}

#[test]
fn values_are_checked_before_the_guest_is_looked_at() {
    let inject = |value, bytes| vmfi(["inject", "5", "rtrans", value, bytes, "0"]);
    has(inject("1", "0").fails_with(2), &["1 to 8"]);
    has(inject("1", "9").fails_with(2), &["1 to 8"]);
    has(inject("1", "-1").fails_with(2), &["1 to 8"]);
    has(inject("256", "1").fails_with(2), &["256 does not fit"]);
    has(inject("-129", "1").fails_with(2), &["-129 does not fit"]);
    has(inject("0x10000000000000000", "8").fails_with(2), &["does not fit"]);
    let far = ["inject", "5", "rtrans", "1", "1", "0xffffffffffffffff"];
    has(vmfi(far).fails_with(2), &["OFFSET"]);
    let random =
        |bounds, bytes| vmfi(["inject", "5", "rtrans", "--random", bounds, "--bytes", bytes]);
    has(random("100..1", "4").fails_with(2), &["100 is above 1"]);
    has(random("1..256", "1").fails_with(2), &["256 does not fit"]);
    has(vmfi(["inject", "5", "rtrans", "--random", "1..2"]).fails_with(2), &["--bytes"]);
    has(vmfi(["read", "5", "rtrans", "0"]).fails_with(2), &["NUM_BYTES"]);
}

#[test]
fn ram_that_cannot_be_had() {
    let files = Files::new();
    let with_ram = |ram: &str| vmfi(["-m", ram, "--system-map", &files.path("map"), "list"]);
    has(vmfi(["list"]).fails_with(3), &["-m", "VMFI_MEMORY"]);
    has(with_ram("/no/such/ram").fails_with(3), &["/no/such/ram", "-m"]);
    has(with_ram("/dev/null").fails_with(3), &["device"]);
    has(with_ram(&files.path("")).fails_with(3), &["folder"]);
    File::create(files.folder.path().join("empty")).unwrap();
    has(with_ram(&files.path("empty")).fails_with(3), &["empty"]);
    has(files.with(&["--ram-size", "128M", "list"]).fails_with(3), &["67108864", "--ram-size"]);
    has(vmfi(["list", "--ram-layout", "palacios"]).fails_with(3), &["-m", "VMFI_MEMORY"]);
    let list = |path: &str| files.with(&["list", "--ram-layout", &format!("palacios:{path}")]);
    has(list("/no/such/list").fails_with(3), &["/no/such/list", "palacios:PATH"]);
    has(list("/dev/zero").fails_with(3), &["/dev/zero", "not a file"]);
    fs::write(files.folder.path().join("list"), "Device: /dev/v3-vm0\nDevice: /dev/v3-vm1\n")
        .unwrap();
    has(list(&files.path("list")).fails_with(3), &["-m one of: /dev/v3-vm0, /dev/v3-vm1"]);
}

#[test]
fn ram_without_permission() {
    // Root may read everything; then there is nothing to show.
    let files = Files::new();
    let ram = PathBuf::from(files.path("ram"));
    fs::set_permissions(&ram, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    if File::open(&ram).is_ok() {
        // As another user, who needs to reach the folder and vmfi.
        let open = |path: &std::path::Path| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        open(files.folder.path());
        let copy = files.folder.path().join("vmfi");
        fs::copy(env!("CARGO_BIN_EXE_vmfi"), &copy).unwrap();
        open(&copy);
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args(["-m", ram.to_str().unwrap(), "--system-map", &files.path("map"), "list"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        has(&String::from_utf8(output.stderr).unwrap(), &["ermission denied", "root"]);
    } else {
        has(files.with(&["list"]).fails_with(3), &["ermission denied", "root"]);
    }
}

#[test]
fn kernels_that_are_not_understood() {
    let files = Files::new();
    let ram = files.path("ram");
    has(vmfi(["-m", &ram, "list"]).fails_with(4), &["--system-map", "kallsyms"]);
    let with_map = |map: &str| vmfi(["-m", &ram, "--system-map", map, "list"]);
    has(with_map("/no/such/map").fails_with(4), &["/no/such/map"]);
    fs::write(files.folder.path().join("stub"), "ffffffffffffffff B see the -dbg package\n")
        .unwrap();
    has(with_map(&files.path("stub")).fails_with(4), &["stub", "kallsyms"]);
    has(files.with(&["list"]).fails_with(4), &["no Linux kernel", "booting"]);
    has(with_map("/dev/zero").fails_with(4), &["not a file"]);
    let program = env!("CARGO_BIN_EXE_vmfi");
    let ran = with_map(program);
    has(ran.fails_with(4), &["linux_banner", "--system-map"]);
    assert_eq!(ran.stderr.matches(program).count(), 1, "says it twice: {}", ran.stderr);
}

#[test]
fn the_exit_code_tells_where_standard_error_cannot() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut vmfi = std::process::Command::new(env!("CARGO_BIN_EXE_vmfi"));
    let status = vmfi.arg("--frobnicate").stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn options_stand_before_or_after_the_command() {
    let files = Files::new();
    let (ram, map) = (files.path("ram"), files.path("map"));
    let before = vmfi(["-m", &ram, "--system-map", &map, "list", "--json"]);
    let after = vmfi(["--json", "list", "--memory", &ram, "--system-map", &map]);
    assert_eq!(before.fails_with(4), after.fails_with(4));
}

#[test]
fn a_failure_leaves_no_trace() {
    let files = Files::new();
    let before = fs::read(files.path("ram")).unwrap();
    files.with(&["inject", "5", "rtrans", "6", "4", "0"]).fails_with(4);
    assert!(fs::read(files.path("ram")).unwrap() == before);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = vmfi(["inject", "--help"]);
    assert_eq!(help.code, 0);
    has(&help.stdout, &["--dry-run", "--force", "--victim", "<WRAPPER_PID>", "VMFI_MEMORY"]);
    assert!(vmfi(["--version"]).stdout.starts_with("vmfi "));
}
