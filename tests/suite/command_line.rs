//! The command line from outside, without a guest: what is refused before there is one.

use crate::common::{Ran, built, vmfi, vmfi_alone, vmfi_in};
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

    fn with(&self, arguments: &[&str]) -> Ran {
        let own = ["-m".to_owned(), self.path("ram"), "--system-map".to_owned(), self.path("map")];
        vmfi(own.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())))
    }

    /// Writes a file of options.
    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs in the folder, where `config` is the user's configuration folder.
    fn here(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        vmfi_in(self.folder.path(), variables, arguments)
    }

    /// Where no VM runs.
    fn alone(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        vmfi_alone(self.folder.path(), variables, arguments)
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
    has(vmfi::<&str>([]).fails_with(2), &["no command", "--help"]);
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
    let both = ["inject", "5", "rtrans", "1", "4", "0", "--random", "1..2"];
    has(vmfi(both).fails_with(2), &["--random", "VALUE"]);
    has(vmfi(["inject", "5", "rtrans"]).fails_with(2), &["<VALUE>", "missing"]);
    has(vmfi(["inject", "5", "rtrans", "1", "4", "0", "--seed", "1"]).fails_with(2), &["--seed"]);
    has(vmfi(["inject", "--kernel", "a", "1", "4", "0", "0"]).fails_with(2), &["--kernel"]);
    has(vmfi(["read", "5", "rtrans", "0"]).fails_with(2), &["NUM_BYTES"]);
}

#[test]
fn ram_that_cannot_be_had() {
    let files = Files::new();
    let with_ram = |ram: &str| vmfi(["-m", ram, "--system-map", &files.path("map"), "list"]);
    has(files.alone(&[], &["list"]).fails_with(3), &["-m", "VMFI_MEMORY", "no VM runs"]);
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
            .current_dir(files.folder.path())
            .env("XDG_CONFIG_HOME", files.folder.path())
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
    has(vmfi(["-m", &ram, "list"]).fails_with(4), &["no Linux kernel", "booting"]);
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
fn layouts_that_cannot_be_had() {
    let files = Files::new();
    let fails = |path: &str, words: &[&str]| {
        has(files.with(&["--layouts", path, "list"]).fails_with(4), words);
        has(vmfi(["profile", "--vmlinux", path]).fails_with(4), words);
    };
    fails("/no/such/vmlinux", &["/no/such/vmlinux", "--layouts"]);
    fails("/dev/zero", &["not a file"]);
    let path = files.path("layouts");
    let holding = |bytes: &[u8], words: &[&str]| {
        fs::write(&path, bytes).unwrap();
        fails(&path, words);
    };
    holding(b"\xff\xfe", &["neither a vmlinux"]);
    holding(b"comm = 5\n", &["line 1", "comm"]);
    holding(b"", &["struct"]);
    holding(b"[struct]\n", &["no structure 'task_struct'", "vmfi profile"]);
    holding(b"\x7fELF", &["ELF"]);
    holding(b"\x9f\xeb\x01\x00", &["BTF", "header"]);
    fails(&built("guest/wrapper").display().to_string(), &["neither BTF nor DWARF"]);
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
    has(&vmfi(["help", "read"]).stdout, &["TARGET", "--debug-file"]);
    assert!(vmfi(["--version"]).stdout.starts_with("vmfi "));
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file() {
    let files = Files::new();
    files.write("vmfi.toml", "memory = '/file/ram'\nsystem-map = 'map'");
    let set = [("VMFI_MEMORY", "/set/ram")];
    has(files.here(&[], &["list"]).fails_with(3), &["/file/ram"]);
    has(files.here(&set, &["list"]).fails_with(3), &["/set/ram"]);
    has(files.here(&set, &["-m", "/typed/ram", "list"]).fails_with(3), &["/typed/ram"]);
    has(files.here(&set, &["list", "-m", "/typed/ram"]).fails_with(3), &["/typed/ram"]);

    files.write("vmfi.toml", "memory = 'ram'\nsystem-map = '/file/map'");
    let set = [("VMFI_SYSTEM_MAP", "/set/map")];
    has(files.here(&[], &["list"]).fails_with(4), &["/file/map"]);
    has(files.here(&set, &["list"]).fails_with(4), &["/set/map"]);
    has(files.here(&set, &["list", "--system-map", "/typed/map"]).fails_with(4), &["/typed/map"]);

    files.write("vmfi.toml", "memory = 'ram'\nsystem-map = 'map'\nram-size = 134217728");
    let set = [("VMFI_RAM_SIZE", "64M")];
    has(files.here(&[], &["list"]).fails_with(3), &["67108864", "--ram-size"]);
    has(files.here(&set, &["list"]).fails_with(4), &["no Linux kernel"]);
    has(files.here(&set, &["list", "--ram-size", "1G"]).fails_with(3), &["--ram-size"]);
}

#[test]
fn each_variable_is_read() {
    let all = [
        ("VMFI_MEMORY", "/set/ram"),
        ("VMFI_QEMU", "/set/qmp"),
        ("VMFI_RAM_SIZE", "1G"),
        ("VMFI_RAM_LAYOUT", "pc"),
        ("VMFI_SYSTEM_MAP", "/set/map"),
        ("VMFI_LAYOUTS", "/set/layouts"),
        ("VMFI_WRAPPER_NAME", "launcher"),
        ("VMFI_VICTIM", "/set/victim"),
        ("VMFI_CONFIG", "/set/file"),
    ];
    let files = Files::new();
    let help = files.here(&all, &["inject", "--help"]).stdout;
    // Lines end anywhere.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, value) in all {
        has(&help, &[&format!("[env: {name}={value}]")]);
    }
    let empty = all.map(|(name, _)| (name, ""));
    has(files.alone(&empty, &["list"]).fails_with(3), &["VMFI_MEMORY"]);
    let refused = |name, value| files.here(&[(name, value)], &["list"]);
    let layouts = [("VMFI_LAYOUTS", "/no/such/layouts"), ("VMFI_MEMORY", "ram")];
    let list = ["list", "--system-map", "map"];
    has(files.here(&layouts, &list).fails_with(4), &["/no/such/layouts"]);
    has(refused("VMFI_RAM_SIZE", "much").fails_with(2), &["512M"]);
    has(refused("VMFI_RAM_LAYOUT", "round").fails_with(2), &["q35"]);
    has(refused("VMFI_CONFIG", "/no/such/file").fails_with(2), &["/no/such/file"]);
}

#[test]
fn each_option_of_the_guest_and_the_victim_may_stand_in_the_file() {
    let files = Files::new();
    let rest = "ram-size = '64M'\nram-layout = 'q35'\nwrapper-name = 'launcher'\nvictim = 'x'\n";
    files.write("own/vmfi.toml", &format!("memory = '../ram'\nsystem-map = '../map'\n{rest}"));
    // Paths in the file start at its folder.
    let given = ["--config", "own/vmfi.toml", "list"];
    has(files.here(&[], &given).fails_with(4), &["no Linux kernel"]);
    let set = [("VMFI_CONFIG", "own/vmfi.toml")];
    has(files.here(&set, &["read", "5", "value"]).fails_with(4), &["no Linux kernel"]);
    files.write("vmfi.toml", "memory = 'ram'\nsystem-map = 'map'\nlayouts = '/no/such/layouts'");
    has(files.here(&[], &["list"]).fails_with(4), &["/no/such/layouts"]);
}

#[test]
fn more_and_less_on_standard_error() {
    let files = Files::new();
    files.write("vmfi.toml", "");
    let says_more = |variables: &[(&str, &str)], options: &[&str]| {
        let ran = files.alone(variables, &[options, &["list"]].concat());
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        ran.stderr.contains("vmfi: debug: options from vmfi.toml")
    };
    let log = [("RUST_LOG", "debug")];
    assert!(!says_more(&[], &[]) && says_more(&[], &["-v"]) && says_more(&log, &[]));
    assert!(says_more(&[], &["--verbose", "-v"]));
    assert!(!says_more(&log, &["-q"]) && !says_more(&log, &["--quiet"]));
    has(files.here(&[], &["-q", "-v", "list"]).fails_with(2), &["--quiet", "--verbose"]);
}

#[test]
fn one_file_of_options_is_read() {
    let files = Files::new();
    let list =
        |variables: &[(&str, &str)]| files.alone(variables, &["list", "--system-map", "map"]);
    has(list(&[]).fails_with(3), &["no guest RAM given"]);
    files.write(".config/vmfi/vmfi.toml", "memory = 'home'");
    let home = files.path("");
    let home = [("XDG_CONFIG_HOME", ""), ("HOME", home.as_str())];
    has(list(&home).fails_with(3), &["/.config/vmfi/home"]);
    files.write("config/vmfi/vmfi.toml", "memory = 'user'");
    has(list(&[]).fails_with(3), &["/config/vmfi/user"]);
    files.write("vmfi.toml", "");
    has(list(&[]).fails_with(3), &["no guest RAM given"]);
    files.write("vmfi.toml", "memory = 'here'");
    has(list(&[]).fails_with(3), &["here"]);
    files.write("other", "memory = 'given'");
    has(list(&[("VMFI_CONFIG", "other")]).fails_with(3), &["given"]);
    files.write("another", "memory = 'typed'");
    let typed = ["list", "--system-map", "map", "--config", "another"];
    let ran = files.here(&[("VMFI_CONFIG", "other")], &typed);
    has(ran.fails_with(3), &["typed"]);
}

#[test]
fn files_of_options_that_cannot_be_used() {
    let files = Files::new();
    let with = |text| {
        files.write("vmfi.toml", text);
        files.here(&[], &["list"])
    };
    has(with("\nmemroy = 'x'").fails_with(2), &["vmfi.toml, line 2", "'memroy'", "memory, "]);
    has(with("ram-size = 'much'").fails_with(2), &["vmfi.toml, line 1", "--ram-size", "512M"]);
    has(with("ram-size = 0").fails_with(2), &["line 1", "--ram-size", "512M"]);
    has(with("ram-layout = 'round'").fails_with(2), &["line 1", "--ram-layout", "q35"]);
    has(with("memory = true").fails_with(2), &["line 1", "'memory'", "text"]);
    has(with("json = true").fails_with(2), &["line 1", "'json'"]);
    has(with("memory = '/ram\n").fails_with(2), &["vmfi.toml, line 1"]);
    assert_eq!(files.here(&[], &["--help"]).code, 0);
    assert_eq!(files.here(&[], &["shell", "completions", "bash"]).code, 0);

    let given = |path: &str| vmfi(["--config", path, "list"]);
    has(given("/no/such/file").fails_with(2), &["/no/such/file", "--config"]);
    has(given("/dev/zero").fails_with(2), &["/dev/zero", "--config"]);
    has(given(&files.path("")).fails_with(2), &["not a file"]);
    has(given(&files.path("ram")).fails_with(2), &["not a file of options"]);
    let pipe = files.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    has(given(&pipe).fails_with(2), &["not a file"]);
}

/// Of `-m` and `--qemu`, which name a guest, the one that was said closer to the command counts.
#[test]
fn ram_is_named_once() {
    let files = Files::new();
    let no_process = i32::MAX.to_string();
    let list = |variables: &[(&str, &str)], options: &[&str]| {
        files.here(variables, &[options, &["list"]].concat())
    };
    let (memory, qemu) = (("VMFI_MEMORY", "/no/ram"), ("VMFI_QEMU", no_process.as_str()));
    has(list(&[qemu], &[]).fails_with(3), &["no process", &no_process, "vmfi guests"]);
    has(list(&[qemu], &["-m", "/no/ram"]).fails_with(3), &["/no/ram"]);
    has(list(&[memory], &["--qemu", &no_process]).fails_with(3), &["no process"]);
    has(list(&[memory], &["--qemu", "/no/qmp"]).fails_with(3), &["/no/qmp", "-qmp"]);
    let both = ["-m", "/no/ram", "--qemu", no_process.as_str()];
    has(list(&[], &both).fails_with(2), &["-m", "--qemu", "one of them"]);
    has(list(&[memory, qemu], &[]).fails_with(2), &["-m", "--qemu"]);
    let palacios = ["--qemu", no_process.as_str(), "--ram-layout", "palacios"];
    has(list(&[], &palacios).fails_with(3), &["palacios", "-m"]);
    files.write("vmfi.toml", "memory = '/no/ram'");
    has(list(&[qemu], &[]).fails_with(3), &["no process"]);
    files.write("folder/options", "qemu = 'qmp'");
    let options = ["--config", "folder/options"];
    has(list(&[memory], &options).fails_with(3), &["/no/ram"]);
    has(list(&[], &options).fails_with(3), &["folder/qmp"]);
    files.write("vmfi.toml", &format!("qemu = {no_process}"));
    has(list(&[], &[]).fails_with(3), &["no process"]);
    let own = std::process::id().to_string();
    has(list(&[("VMFI_QEMU", &own)], &[]).fails_with(3), &[&own, "no VM", "vmfi guests"]);
}
