//! `vmfi run`: programs of the host in guests of their own.

use crate::common::{Ran, built, kernels, run as run_command, vmfi_in};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VMFI: &str = env!("CARGO_BIN_EXE_vmfi");

/// Runs it in `folder` to its end.
fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    vmfi_in(folder, &[], [&["run", "-q"], arguments].concat())
}

fn run(arguments: &[&str]) -> Ran {
    run_in(tempfile::tempdir().unwrap().path(), arguments)
}

fn ends_with(ran: &Ran, code: i32, stdout: &str, stderr: &str) {
    let found = (ran.code, ran.stdout.as_str(), ran.stderr.as_str());
    assert_eq!(found, (code, stdout, stderr));
}

#[test]
fn a_static_program() {
    for kernel in kernels() {
        let kernel = ["--kernel-image", kernel.to_str().unwrap()];
        let hpccg = built("fixtures/hpccg");
        let program = ["--", hpccg.to_str().unwrap(), "10", "10", "10"];
        let ran = run(&[&kernel[..], &program].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.starts_with("Initial Residual"), "{}", ran.stdout);
        assert!(ran.stdout.contains("\nNumber of iterations: 17\n"), "{}", ran.stdout);
    }
}

#[test]
fn streams_and_status_are_the_programs() {
    let script = "echo out; echo err >&2; printf 'no end'; exit 7";
    ends_with(&run(&["--", "/bin/sh", "-c", script]), 7, "out\nno end", "err\n");
    ends_with(&run(&["--", "/bin/sh", "-c", "printf '>'; kill -9 $$"]), 137, ">", "");
}

#[test]
fn arguments_arrive_as_they_are() {
    let words = ["", "a b", "it's", "\"$HOME\" `id` \\n", "two\nlines", "*", "-q", "--json"];
    let ran = run(&[&["printf", "[%s]"], &words[..]].concat());
    ends_with(&ran, 0, &words.map(|word| format!("[{word}]")).concat(), "");
}

#[test]
fn files_come_with_it_and_bytes_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(200_000).collect();
    fs::create_dir_all(folder.path().join("data/inner")).unwrap();
    fs::write(folder.path().join("data/inner/bytes"), &bytes).unwrap();
    fs::write(folder.path().join("beside"), "text").unwrap();
    let output = Command::new(VMFI)
        .args(["run", "-q", "--add", "data", "--add", "./beside", "--", "cat"])
        .args(["data/inner/bytes", "beside", "data/inner/../../beside"])
        .arg(folder.path().join("beside"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    assert!(output.stdout == [&bytes[..], b"texttexttext"].concat());
}

#[test]
fn several_cpus() {
    ends_with(&run(&["--smp", "2", "--ram", "256M", "nproc"]), 0, "2\n", "");
}

/// The second serial port of a real-time kernel is of no use. This one only says that it is one.
#[test]
fn a_kernel_with_one_port() {
    let mut image = fs::read(built("kernels/bookworm/vmlinuz")).unwrap();
    let (from, to) = (b"PREEMPT_DYNAMIC", b"PREEMPT_RT     ");
    let at = image.windows(from.len()).position(|window| window == from).unwrap();
    image[at..at + to.len()].copy_from_slice(to);
    let kernel = tempfile::NamedTempFile::new().unwrap();
    fs::write(kernel.path(), image).unwrap();
    let kernel = kernel.path().to_str().unwrap();
    let script = "echo out; echo err >&2; printf 'no end'; exit 7";
    let ran = run(&["--kernel-image", kernel, "--", "sh", "-c", script]);
    ends_with(&ran, 7, "out\nerr\nno end", "");
}

#[test]
fn a_kernel_that_dies_is_told() {
    let ran = run(&["busybox", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"]);
    let line = "vmfi: the guest's kernel has died: sysrq triggered crash";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().last()), (1, "", Some(line)));
}

/// A `vmfi run` that goes on.
struct Running {
    vmfi: Child,
    /// What it says to type.
    hints: Vec<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut vmfi = Command::new(VMFI)
            .arg("run")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(vmfi.stderr.take().unwrap()).lines().map_while(Result::ok);
        let hint =
            |line: String| line.strip_prefix("vmfi: in another terminal: ").map(str::to_owned);
        let hints = lines.filter_map(hint).take(2).collect();
        Self { vmfi, hints }
    }

    /// Waits for a line of the program.
    fn wait_for(&mut self, line: &str) {
        let lines = BufReader::new(self.vmfi.stdout.as_mut().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|found| found == line), "no '{line}'");
    }

    /// The folder of the guest's files.
    fn folder(&self) -> PathBuf {
        let ram = self.hints[0].split(' ').nth(2).unwrap();
        Path::new(ram).parent().unwrap().to_owned()
    }

    /// Ends it with `signal`, and gives its exit code.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.vmfi), signal).unwrap();
        self.vmfi.wait().unwrap().code()
    }
}

/// Types `line` in a shell where vmfi is in PATH.
fn typed(line: &str) -> String {
    let path = [Path::new(VMFI).parent().unwrap().to_str().unwrap(), "/usr/bin:/bin"].join(":");
    let output = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a process names `folder` on its command line.
fn is_named(folder: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(folder.to_str().unwrap()))
}

#[test]
fn is_listed_and_injected_into_as_it_says_and_ends_with_ctrl_c() {
    for kernel in kernels() {
        let (kernel, dynamic) = (kernel.to_str().unwrap(), built("fixtures/dynamic"));
        let program = ["--kernel-image", kernel, "--", dynamic.to_str().unwrap()];
        let mut running = Running::start(&program);
        running.wait_for("ready");
        let [list, inject] = &running.hints[..] else { panic!("{:?}", running.hints) };
        let listed = typed(list);
        assert!(
            listed.contains(" wrapper ") && listed.contains(dynamic.to_str().unwrap()),
            "{listed}"
        );
        let inject = inject.replace("SYMBOL VALUE NUM_BYTES OFFSET", "in_program 6 4 0");
        assert!(typed(&inject).contains(": 11111111 -> 06000000, read back"));
        let folder = running.folder();
        assert!(folder.join("ram").exists() && is_named(&folder));
        assert_eq!(running.end(Signal::INT), Some(130));
        assert!(!folder.exists() && !is_named(&folder));
    }
}

#[test]
fn leaves_nothing_behind_when_it_is_killed() {
    let mut running = Running::start(&["sleep", "1000"]);
    let folder = running.folder();
    running.end(Signal::KILL);
    let deadline = Instant::now() + Duration::from_secs(5);
    while folder.exists() || is_named(&folder) {
        assert!(Instant::now() < deadline, "{} is left", folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bad_input_is_told_before_a_boot() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("script"), "#!/bin/sh\n").unwrap();
    fs::write(folder.path().join("text"), "text\n").unwrap();
    fs::set_permissions(folder.path().join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    // A library that is looked for beside the program.
    fs::copy(built("fixtures/dynamic"), folder.path().join("alone")).unwrap();
    let fails = |code, arguments: &[&str], words: &[&str]| {
        let ran = run_in(folder.path(), arguments);
        let line = ran.fails_with(code);
        for word in words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    };
    fails(127, &["vmfi-no-such-program"], &["no program 'vmfi-no-such-program' in PATH"]);
    fails(127, &["./nowhere"], &["./nowhere", "No such file"]);
    fails(127, &["./text"], &["text", "not an executable"]);
    fails(127, &["./script"], &["script", "interpreter", "--add"]);
    fails(127, &["./alone"], &["alone", "libown.so.1"]);
    fails(2, &["--add", "nowhere", "true"], &["nowhere", "No such file"]);
    fails(2, &["--add", "/dev/null", "true"], &["/dev/null", "neither a file nor a folder"]);
    fails(2, &["--kernel-image", "nowhere", "true"], &["nowhere", "No such file"]);
    fails(2, &["--kernel-image", "text", "true"], &["text", "no image", "--kernel-image"]);
    fails(2, &["--ram", "32M", "true"], &["32 MiB", "or more"]);
    fails(2, &["--ram", "none", "true"], &["--ram"]);
    fails(2, &["--smp", "0", "true"], &["--smp"]);
    fails(2, &["--accel", "fast", "true"], &["kvm or tcg"]);
    fails(2, &["--json", "true"], &["--json"]);
    fails(2, &[], &["APP"]);
}

#[test]
fn what_is_missing_on_the_host_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("bin");
    fs::create_dir(&alone).unwrap();
    fs::copy(VMFI, alone.join("vmfi")).unwrap();
    let fails = |variables: &[(&str, &str)]| {
        let ran = run_command(
            folder.path(),
            Command::new(alone.join("vmfi"))
                .args(["run", "/bin/true"])
                .envs(variables.iter().copied()),
        );
        ran.fails_with(1).to_owned()
    };
    assert!(fails(&[]).contains("no wrapper"));
    let lib = folder.path().join("lib/vmfi");
    fs::create_dir_all(&lib).unwrap();
    fs::copy(built("guest/wrapper"), lib.join("wrapper")).unwrap();
    let kernel = kernels()[0].to_str().unwrap().to_owned();
    std::os::unix::fs::symlink("/usr/bin/ldd", alone.join("ldd")).unwrap();
    let path = alone.to_str().unwrap();
    let without_qemu = [("PATH", path), ("VMFI_KERNEL_IMAGE", &kernel), ("VMFI_ACCEL", "tcg")];
    // This host's /boot may have a kernel.
    if fs::read_dir("/boot").is_ok_and(|mut boot| boot.next().is_none()) {
        assert!(fails(&[]).contains("no kernel to boot: give --kernel-image"));
    }
    assert!(fails(&without_qemu).contains("qemu-system-x86_64 is not there, nor in PATH"));
}
