//! `make bench`: how long it takes until a machine runs, booted and restored from a snapshot; and what
//! a campaign's trials take beyond their program's own time.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use vmfi::campaign::session::{Campaign, News, Options};
use vmfi::campaign::store::Store;
use vmfi::campaign::{Kind, Plan, Shard};
use vmfi::lab::{Accel, Initramfs, Instance, KernelImage, Machine, Recipe, Snapshot};

const BOOTS: usize = 9;
const RESTORES: usize = 20;
/// The most that a restore may take.
const RESTORED: Duration = Duration::from_millis(150);
const READY: &str = "vmfi-lab-ready";
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// The campaign whose trials are looked at.
const CAMPAIGN: &str = "trials = 40
golden = 10
null = 10
[program]
command = ['target/fixtures/hpccg', '10', '10', '10']
counter = 'niters'
[[target]]
at = 'rtrans'
[[fault]]
flip = 1
";
/// What the time of a trial goes into.
const PARTS: [&str; 6] = [
    "restore: until the machine runs",
    "prepare: until the program is loaded and its places found",
    "read: output, variables, fates, from the program's end on",
    "rest: judging, storing, ending the machine",
    "all of these",
    "the program itself",
];

fn main() -> Result<()> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    let restored = restores()?;
    print!("\n{}", overhead()?);
    ensure!(restored <= RESTORED, "restores are too slow");
    Ok(())
}

/// How long it takes until a guest runs; the median of those that are restored.
fn restores() -> Result<Duration> {
    let recipe = recipe()?;
    let mut booted = Vec::new();
    let mut last = None;
    for _ in 0..BOOTS {
        let started = Instant::now();
        let mut instance = Instance::boot(&recipe)?;
        instance.wait_for(READY, BOOT_LIMIT)?;
        booted.push(started.elapsed());
        last = Some(instance);
    }
    let snapshot = Snapshot::take(last.context("no boots")?)?;
    let mut restored = Vec::new();
    for _ in 0..RESTORES {
        let started = Instant::now();
        let mut instance = snapshot.restore()?;
        instance.go_on()?;
        // To end it is no part of this.
        restored.push(started.elapsed());
    }
    let mib = snapshot.resident() >> 20;
    println!("| until a guest of 512 MiB runs | median | all |\n|---|---|---|");
    print!("{}", line("booted, to its first process", &mut booted));
    print!("{}", line(&format!("restored, {mib} MiB resident"), &mut restored));
    Ok(median(&restored))
}

/// A guest that says that it is ready, and rests.
fn recipe() -> Result<Recipe> {
    let init = format!(
        "#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
echo {READY}
while :; do /bin/busybox sleep 1000; done
"
    );
    let files = Initramfs::with_busybox()?.init(init.into_bytes()).build()?;
    let kernel = KernelImage::find()?;
    let accel = Accel::choose(&kernel.path)?;
    let machine = Machine { kernel, ram_mib: 512, cpus: 1, accel: Some(accel) };
    Ok(Recipe::of_machine(&machine, accel, "", &files, "vmfi-bench")?)
}

/// What trials take that are made one after the other, part by part.
fn overhead() -> Result<String> {
    let (folder, file) = (tempfile::tempdir()?, Path::new("bench.toml"));
    let plan = Plan::parse(CAMPAIGN.to_owned(), file)?;
    let mut store = Store::open(&folder.path().join("store.db"))?;
    let mut last = Instant::now();
    let mut took = BTreeMap::new();
    let mut tell = |news: News| {
        if let News::Finished(trial, _) = news {
            took.insert(trial.number, last.elapsed());
        }
        last = Instant::now();
    };
    let options = Options { jobs: 1, shard: Shard::WHOLE, stop: &|| false };
    Campaign::new(&plan, file, &mut store, options, &mut tell)?.run()?;
    let mut parts = vec![Vec::new(); PARTS.len()];
    for run in store.trials(&[Kind::Injected])? {
        let Some((ran, all)) = run.ran.zip(took.get(&run.trial.number)) else { continue };
        let [restore, prepare, read] =
            [ran.overhead.restore, ran.overhead.prepare, ran.overhead.read];
        let beyond = all.saturating_sub(ran.time);
        let rest = beyond.saturating_sub(restore + prepare + read);
        let own = [restore, prepare, read, rest, beyond, ran.time];
        parts.iter_mut().zip(own).for_each(|(part, own)| part.push(own));
    }
    let lines = PARTS.iter().zip(&mut parts).map(|(name, times)| line(name, times));
    let lines: String = lines.collect();
    Ok(format!("| of {} trials | median | all |\n|---|---|---|\n{lines}", parts[0].len()))
}

/// A line of a table: the median, and what all lie between. Sorts them.
fn line(name: &str, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let (low, high) = (ms(times[0]), ms(times[times.len() - 1]));
    format!("| {name} | {} ms | {low} to {high} ms |\n", ms(median(times)))
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}
