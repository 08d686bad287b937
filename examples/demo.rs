//! `make demo`: the paper's experiment in small, on a live guest, then a guest to try things on.
//!
//! The solver runs twice in a small guest: left alone, and with a random integer written over
//! its `rtrans` from outside again and again. What came out is shown, whatever it is. Then a
//! second guest is left running for half an hour; `make demo-stop` stops it.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vmfi::lab::{Accel, Detached, Initramfs, LabGuest, Setup};

/// Where the demo keeps what its commands name; relative, so that they are short.
const FOLDER: &str = "target/demo";
const VMFI: &str = "target/release/vmfi";
const SOLVER: &str = "target/fixtures/hpccg";
const FEWEST_HITS: usize = 5;
const SOLVE_LIMIT: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    stop_kept_guest()?;
    if std::env::args().nth(1).as_deref() == Some("stop") {
        return Ok(());
    }
    fs::create_dir_all(FOLDER)?;
    let kernel = kernel()?;
    experiment(&kernel)?;
    keep_a_guest(&kernel)
}

fn kernel() -> Result<PathBuf> {
    let given = std::env::var_os("KERNEL").filter(|path| !path.is_empty());
    let kernel = given.map_or("target/kernels/bookworm/vmlinuz".into(), PathBuf::from);
    ensure!(kernel.exists(), "no kernel at {}; run 'make demo'", kernel.display());
    Ok(kernel)
}

/// The grid is one that runs for some seconds, and the RAM what it needs.
fn sized(kernel: &Path) -> Result<(Setup, &'static str)> {
    Ok(match Accel::choose(kernel)? {
        Accel::Tcg => (Setup { cpus: 2, ..Setup::new(kernel) }, "60 60 60"),
        Accel::Kvm => (Setup { cpus: 2, ram_mib: 1536, ..Setup::new(kernel) }, "100 200 100"),
    })
}

fn files() -> Result<Initramfs> {
    let mut files = Initramfs::with_busybox()?;
    files.copy(Path::new("target/guest/wrapper"), "/wrapper")?;
    files.copy(Path::new(SOLVER), "/hpccg")?;
    Ok(files)
}

fn experiment(kernel: &Path) -> Result<()> {
    let (setup, grid) = sized(kernel)?;
    say(&format!("Booting {} under QEMU; its RAM is a shared file", kernel.display()));
    let started = Instant::now();
    let mut guest = LabGuest::boot(&setup, &files()?)?;
    let accel = guest.accel().name();
    println!("up after {:.1} s ({accel})", started.elapsed().as_secs_f64());
    fs::write(map(), guest.copy_out("/proc/kallsyms")?)?;
    let ram = guest.ram();

    say(&format!("In the guest, left alone: wrapper ./hpccg {grid}"));
    let golden = solve(&mut guest, grid, |_| Ok(()))?;
    print!("{golden}");

    say(&format!("In the guest again: wrapper ./hpccg {grid}"));
    let mut hits = 0;
    let injected = solve(&mut guest, grid, |wrapper| {
        list(&ram)?;
        hits = inject_until_it_ends(&ram, wrapper)?;
        Ok(())
    })?;
    ensure!(hits >= FEWEST_HITS, "only {hits} hits before the victim ended");
    say(&format!("The victim has ended (exit 5), after {hits} hits"));
    print!("{injected}");
    verdict(&golden, &injected)
}

/// Runs the solver under the wrapper, has `meanwhile` done with the wrapper's process id once it
/// iterates, and gives all that it printed.
fn solve(
    guest: &mut LabGuest,
    grid: &str,
    meanwhile: impl FnOnce(&str) -> Result<()>,
) -> Result<String> {
    let start = format!(
        "cd /; rm -f out done; (/wrapper ./hpccg {grid} >out 2>&1; echo $? >done) & \
         until grep -q Initial out 2>/dev/null; do sleep 0.1; done; head -n 1 out"
    );
    let first = guest.run(&start)?.concat();
    let wrapper = first.strip_prefix("wrapper: pid ").context("the wrapper did not start")?;
    meanwhile(wrapper)?;
    let deadline = Instant::now() + SOLVE_LIMIT;
    while guest.run("cat done 2>/dev/null || echo").map(|lines| lines.concat())?.is_empty() {
        ensure!(Instant::now() < deadline, "the solver did not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(guest.run("cat out")?.join("\n") + "\n")
}

fn list(ram: &Path) -> Result<()> {
    say("On the host: vmfi list");
    let started = Instant::now();
    let status = vmfi(ram).arg("list").status()?;
    ensure!(status.success(), "vmfi list failed");
    println!("({} ms)", started.elapsed().as_millis());
    Ok(())
}

/// The paper's shell loop; how many receipts it printed.
fn inject_until_it_ends(ram: &Path, wrapper: &str) -> Result<usize> {
    say(&format!("On the host, until the victim ends: vmfi inject {wrapper} rtrans <1..100> 4 0"));
    let output = Command::new("examples/every-second.sh")
        .arg(wrapper)
        .env("INTERVAL", "0.5")
        .env("VMFI", VMFI)
        .env("VMFI_MEMORY", ram)
        .env("VMFI_SYSTEM_MAP", map())
        .env("VMFI_VICTIM", SOLVER)
        .output()?;
    let receipts = String::from_utf8_lossy(&output.stdout);
    print!("{receipts}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the loop ended with {}", output.status);
    Ok(receipts.lines().count())
}

fn verdict(golden: &str, injected: &str) -> Result<()> {
    say("The final residual, left alone and injected");
    let mut differ = 0;
    for label in [
        "Number of iterations: ",
        "Final residual: ",
        "Final residual (17 digits): ",
        "True residual ||b - A*x||: ",
    ] {
        let (left, right) = (value(golden, label)?, value(injected, label)?);
        differ += usize::from(left != right);
        println!("{label:<29}{left:>24}{right:>24}");
    }
    println!("{}", if differ == 0 { "masked" } else { "not masked: the results differ" });
    Ok(())
}

fn value<'a>(output: &'a str, label: &str) -> Result<&'a str> {
    let line = output.lines().find_map(|line| line.strip_prefix(label));
    line.with_context(|| format!("the solver printed no '{label}'"))
}

/// A guest whose solver starts again whenever it has ended, for half an hour.
fn keep_a_guest(kernel: &Path) -> Result<()> {
    let setup = Setup { cpus: 2, outlives_us: true, ..Setup::new(kernel) };
    let mut files = files()?;
    files.script("(while :; do /wrapper /hpccg 60 60 60 0 1000000 >/dev/null 2>&1; done) &");
    files.script("(sleep 1800; poweroff -f) &");
    let kept = LabGuest::boot(&setup, &files)?.detach();
    fs::write(record(), format!("{}\n{}\n", kept.group, kept.folder.display()))?;
    let link = Path::new(FOLDER).join("ram");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(kept.ram(), &link)?;
    let pid = wrapper_of(&link)?;
    let guest = format!("{VMFI} -m {} --system-map {}", link.display(), map().display());
    say("A guest is left running for half an hour ('make demo-stop' stops it). Now you:");
    println!("{guest} list");
    println!("{guest} inject {pid} rtrans 6 4 0 --victim {SOLVER}");
    Ok(())
}

/// The wrapper of the kept guest, once it is there.
fn wrapper_of(ram: &Path) -> Result<i64> {
    for _ in 0..100 {
        let output = vmfi(ram).args(["list", "--json"]).output()?;
        if output.status.success() {
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            let solver = &listed[0]["children"][0];
            if solver["comm"] == "hpccg" {
                return listed[0]["pid"].as_i64().context("a wrapper without a process id");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the kept guest starts no solver")
}

fn stop_kept_guest() -> Result<()> {
    let Ok(text) = fs::read_to_string(record()) else { return Ok(()) };
    if let [group, folder] = text.lines().collect::<Vec<_>>()[..] {
        Detached { group: group.parse()?, folder: folder.into() }.stop()?;
        println!("The guest that the demo left running is stopped.");
    }
    let _ = fs::remove_file(Path::new(FOLDER).join("ram"));
    Ok(fs::remove_file(record())?)
}

fn vmfi(ram: &Path) -> Command {
    let mut command = Command::new(VMFI);
    command.arg("-m").arg(ram).arg("--system-map").arg(map());
    command
}

fn map() -> PathBuf {
    Path::new(FOLDER).join("kallsyms")
}

/// Which guest was left running: its process group and its folder.
fn record() -> PathBuf {
    Path::new(FOLDER).join("guest")
}

fn say(heading: &str) {
    println!("\n== {heading}");
}
