//! `make bench`: whole-process times of the commands on a live guest, each beside a minimal C
//! program that writes to an address known beforehand (`peer.c`), turn by turn in the same run.
//! What counts are the ratios: machines differ, and are noisy.
//!
//! Warm is with what the first command has remembered, cold is without anything.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vmfi::guest::{Guest, GuestOptions, RamOf};
use vmfi::lab::{Initramfs, LabGuest, Setup};
use vmfi::memory::Access;
use vmfi::process::tasks;
use vmfi::victim::VictimMemory;

const RUNS: usize = 100;
const VMFI: &str = env!("CARGO_BIN_EXE_vmfi");
const PEER: &str = "target/bench/peer";
const HOLDER: &str = "target/fixtures/holder";
/// How long a trigger that never fires is waited for, and how many looks a second it must have.
const WAITED: u32 = 2;
const LOOKS: f64 = 5e6;
/// Boots that are timed, each way; what runs in them prints at once, and ends at once.
const BOOTS: usize = 9;
const SOLVER: [&str; 4] = ["target/fixtures/hpccg", "10", "10", "10"];

fn main() -> Result<()> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    let (mut small, large) = (Bench::boot(512)?, Bench::boot(8192)?);
    let commands = [small.commands()?, large.cold_list()].concat();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); commands.len()];
    for _ in 0..RUNS {
        for ((_, command), times) in commands.iter().zip(&mut times) {
            times.push(time(command, small.cache.path())?);
        }
    }
    print!("{}", table(&commands, times)?);
    let looks = small.looks_a_second()?;
    let (found, least) = (looks / 1e6, LOOKS / 1e6);
    println!("\na trigger looks {found:.1} million times a second; {least} million are the least");
    ensure!(looks >= LOOKS, "too few looks");
    drop((small, large));
    print!("\n{}", boots()?);
    Ok(())
}

/// Has a program print its first line in a new guest.
type Way = fn() -> Result<()>;

/// How long a program takes to its first line where it is given to `vmfi run`, and where it is
/// started in a guest of the tests: medians, and what they lie between.
fn boots() -> Result<String> {
    let mut text = format!(
        "| of {BOOTS} boots, to the program's first line | median | all |\n|---|---|---|\n"
    );
    let ways: [(&str, Way); 2] = [("vmfi run", run), ("a guest of the tests", lab)];
    for (name, way) in ways {
        let mut times = Vec::new();
        for _ in 0..BOOTS {
            let started = Instant::now();
            way()?;
            times.push(started.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let (low, median, high) = (times[0], times[BOOTS / 2], times[BOOTS - 1]);
        text += &format!("| {name} | {median:.2} s | {low:.2} to {high:.2} s |\n");
    }
    Ok(text)
}

fn run() -> Result<()> {
    let arguments = ["run", "-q", "--kernel-image"];
    let mut vmfi = Command::new(VMFI);
    vmfi.args(arguments).arg(kernel()).arg("--").args(SOLVER).stdout(Stdio::piped());
    let mut running = vmfi.spawn()?;
    let read = running.stdout.as_mut().context("no output")?.read(&mut [0])?;
    ensure!(read == 1, "the program printed nothing");
    // What is timed ends here; the rest is over soon.
    running.kill()?;
    running.wait()?;
    Ok(())
}

fn lab() -> Result<()> {
    let mut files = Initramfs::with_busybox()?;
    files.copy(Path::new("target/guest/wrapper"), "/wrapper")?;
    files.copy(Path::new(SOLVER[0]), "/hpccg")?;
    let mut guest = LabGuest::boot(&Setup::new(&kernel()), &files)?;
    guest.run(&format!("/wrapper /hpccg {} | head -n 3", SOLVER[1..].join(" ")))?;
    Ok(())
}

fn kernel() -> PathBuf {
    let given = std::env::var_os("KERNEL").filter(|path| !path.is_empty());
    given.map_or("target/kernels/bookworm/vmlinuz".into(), PathBuf::from)
}

/// A command line, by the name that the table has for it.
type Timed = (&'static str, Vec<String>);

/// A guest whose victim holds still, and what its users know of it.
struct Bench {
    guest: LabGuest,
    cache: TempDir,
}

impl Bench {
    fn boot(ram_mib: u64) -> Result<Self> {
        let mut files = Initramfs::with_busybox()?;
        files.copy(Path::new("target/guest/wrapper"), "/wrapper")?;
        files.copy(Path::new(HOLDER), "/holder")?;
        files.copy(Path::new("target/fixtures/iterations"), "/iterations")?;
        let setup = Setup { ram_mib, ..Setup::new(&kernel()) };
        let mut guest = LabGuest::boot(&setup, &files)?;
        guest.run("/wrapper /holder >/out & until grep -q ready /out; do sleep 0.1; done")?;
        Ok(Self { guest, cache: tempfile::tempdir()? })
    }

    /// What is timed on this guest.
    fn commands(&mut self) -> Result<Vec<Timed>> {
        let listed: Value = serde_json::from_slice(&self.output(&self.vmfi(&["list", "--json"]))?)?;
        let wrapper = listed[0]["pid"].as_i64().context("no wrapper")?.to_string();
        let inject = ["inject", &wrapper, "value", "6", "4", "0"];
        let receipt = self.output(&self.vmfi(&[&inject[..], &["--json"]].concat()))?;
        let receipt: Value = serde_json::from_slice(&receipt)?;
        let peer = self.peer(&receipt)?;
        let place = String::from_utf8(self.output(&peer)?)?;
        ensure!(Some(place.trim()) == receipt["gpa"].as_str(), "they write elsewhere: {place}");
        let map = "target/bench/kallsyms";
        std::fs::write(map, self.guest.copy_out("/proc/kallsyms")?)?;
        let files = ["--system-map", map, "--victim", HOLDER];
        Ok(vec![
            ("peer", peer),
            ("vmfi list, warm", self.vmfi(&["list"])),
            ("vmfi inject, warm", self.vmfi(&inject)),
            ("vmfi list, cold", self.vmfi(&["list", "--no-cache"])),
            ("vmfi inject, cold", self.vmfi(&[&inject[..], &["--no-cache"]].concat())),
            ("vmfi list, System.map given", self.vmfi(&["list", files[0], files[1]])),
            ("vmfi inject, both files given", self.vmfi(&[&inject[..], &files].concat())),
        ])
    }

    /// How often a trigger looks that may fire at any moment, while the victim works.
    fn looks_a_second(&mut self) -> Result<f64> {
        let started = ": >/counts; /wrapper /iterations 1000 1000000 >/counts & until grep -q ready /counts; do sleep 0.1; done";
        let child = "sed -n 's/^wrapper: child //p' /counts";
        let child = self.guest.run(&format!("{started}; {child}"))?.concat();
        let limit = format!("{WAITED}s");
        let when = ["--when", "residual < -1", "--for", &limit];
        let inject = ["inject", "--direct", &child, "hit", "1", "8", "0"];
        let command = self.vmfi(&[&inject[..], &when].concat());
        let output = process(&command, self.cache.path()).output()?;
        let line = String::from_utf8_lossy(&output.stderr);
        let looks = line.split(" looks").next().and_then(|before| before.split(' ').next_back());
        let looks = looks.and_then(|looks| looks.parse::<f64>().ok());
        Ok(looks.with_context(|| format!("no looks in: {line}"))? / f64::from(WAITED))
    }

    fn cold_list(&self) -> Vec<Timed> {
        vec![("vmfi list, cold, 8 GiB sparse", self.vmfi(&["list", "--no-cache"]))]
    }

    fn vmfi(&self, arguments: &[&str]) -> Vec<String> {
        let ram = self.guest.ram().display().to_string();
        let own = [VMFI, "-m", &ram];
        own.iter().chain(arguments).map(|word| (*word).to_owned()).collect()
    }

    /// The C program for the place of `receipt`.
    fn peer(&self, receipt: &Value) -> Result<Vec<String>> {
        let options = GuestOptions::unknown(RamOf::Path(self.guest.ram()), Access::Read);
        let guest = Guest::open(&options)?;
        let mut all = tasks(&guest)?.into_iter();
        let task = all.find(|task| receipt["victim_pid"] == task.pid).context("no victim")?;
        let space = VictimMemory::open(&guest, task)?.view().space;
        let (root, levels) = (space.root.to_string(), space.format.index_shifts.len().to_string());
        let gva = receipt["gva"].as_str().context("no address")?;
        let ram = self.guest.ram().display().to_string();
        Ok([PEER, &ram, &root, &levels, gva, "6"].map(str::to_owned).to_vec())
    }

    fn output(&self, command: &[String]) -> Result<Vec<u8>> {
        let output = process(command, self.cache.path()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
        Ok(output.stdout)
    }
}

fn process(command: &[String], cache: &Path) -> Command {
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).env("XDG_CACHE_HOME", cache);
    process
}

/// From the start of the process to its end.
fn time(command: &[String], cache: &Path) -> Result<Duration> {
    let mut process = process(command, cache);
    process.stdout(Stdio::null());
    let started = Instant::now();
    let status = process.status()?;
    let elapsed = started.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(elapsed)
}

/// Medians and quartiles, and how often the peer's median each is.
fn table(commands: &[Timed], times: Vec<Vec<Duration>>) -> Result<String> {
    let mut text =
        format!("| of {RUNS} runs | median | quartiles | to the peer |\n|---|---|---|---|\n");
    let mut peer = None;
    for ((name, _), mut times) in commands.iter().zip(times) {
        times.sort_unstable();
        let ms = |part: usize| times[(times.len() - 1) * part / 4].as_secs_f64() * 1e3;
        let ratio = ms(2) / *peer.get_or_insert(ms(2));
        let (low, median, high) = (ms(1), ms(2), ms(3));
        text += &format!("| {name} | {median:.2} ms | {low:.2} to {high:.2} ms | {ratio:.1} |\n");
    }
    Ok(text)
}
