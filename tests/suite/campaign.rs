//! Campaigns, live: every outcome and fate, interruptions, bad input, own guests.

use crate::common::{Ran, built, files, kernels, vmfi, vmfi_in};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vmfi::campaign::Kind;
use vmfi::campaign::store::{DIGEST, Facts, MARK, Store, Stored};

const LIMIT: Duration = Duration::from_secs(120);

/// A plan in a folder of its own, and the stores that are made there.
struct Study {
    folder: TempDir,
}

impl Study {
    /// That of `plan`, in which `{program}` stands for a fixture with its arguments.
    fn new(plan: &str, program: &str) -> Self {
        let study = Self::empty();
        study.plan(&format!("{plan}{}", guest()), program);
        study
    }

    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn plan(&self, plan: &str, program: &str) {
        let program = built("fixtures").join(program).display().to_string();
        let words: Vec<_> = program.split(' ').map(|word| format!("'{word}'")).collect();
        fs::write(self.path("plan.toml"), plan.replace("{program}", &words.join(", "))).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vmfi(&self, arguments: &[&str]) -> Ran {
        vmfi_in(self.folder.path(), &[], arguments)
    }

    /// Runs it in the store of this `name`, with `more` words.
    fn run(&self, name: &str, more: &[&str]) -> Ran {
        let campaign = ["campaign", "run", "plan.toml", "-j", "2", "--store", name];
        self.vmfi(&[&campaign, more].concat())
    }

    /// The same, to its end.
    fn finish(&self, name: &str, more: &[&str]) -> Ran {
        let ran = self.run(name, more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!is_named(&self.mark(name)));
        ran
    }

    /// The same, in the background.
    fn start(&self, name: &str) -> Child {
        let mut vmfi = Command::new(env!("CARGO_BIN_EXE_vmfi"));
        vmfi.args(["-q", "campaign", "run", "plan.toml", "-j", "2", "--store", name]);
        vmfi.current_dir(self.folder.path()).stderr(File::create(self.path("stderr")).unwrap());
        vmfi.stdout(Stdio::null()).spawn().unwrap()
    }

    fn store(&self, name: &str) -> Store {
        Store::read(&self.path(name)).unwrap()
    }

    fn trials(&self, name: &str) -> Vec<Stored> {
        self.store(name).trials(&[Kind::Golden]).unwrap()
    }

    /// All that is known of each finished trial with faults.
    fn injected(&self, name: &str) -> Vec<Value> {
        let store = self.store(name);
        let story = |run: &Stored| store.story(run.trial.number).unwrap();
        self.trials(name).iter().filter(|run| is_done(run, Kind::Injected)).map(story).collect()
    }

    /// Waits until so many runs of this kind are finished.
    fn wait_for(&self, name: &str, kind: Kind, count: usize) {
        let started = Instant::now();
        let done = || {
            let all = Store::read(&self.path(name)).and_then(|store| store.trials(&[]));
            all.unwrap_or_default().iter().filter(|run| is_done(run, kind)).count()
        };
        while done() < count {
            assert!(
                started.elapsed() < LIMIT,
                "{}",
                fs::read_to_string(self.path("stderr")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the processes of its guests bear.
    fn mark(&self, name: &str) -> String {
        self.store(name).facts().unwrap().remove(MARK).unwrap()
    }
}

fn guest() -> String {
    format!("[guest]\nkernel-image = '{}'\nram = '128M'\n", kernels()[0].display())
}

fn is_done(run: &Stored, kind: Kind) -> bool {
    run.trial.kind == kind && run.verdict.is_some()
}

/// Whether a process bears `mark`.
fn is_named(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(mark))
}

fn wait_until_gone(mark: &str) {
    let started = Instant::now();
    while is_named(mark) {
        assert!(started.elapsed() < Duration::from_secs(5), "{mark} is left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(mut vmfi: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&vmfi), signal).unwrap();
    vmfi.wait().unwrap().code()
}

/// The first injection of a trial.
fn injection(story: &Value) -> &Value {
    &story["injections"][0]
}

/// Outcome, why, and the fault's fate.
fn came_to(story: &Value) -> (&str, &str, &str) {
    let fate = injection(story)["fate"].as_str().unwrap_or("none");
    (story["outcome"].as_str().unwrap(), story["why"].as_str().unwrap(), fate)
}

const OUTCOMES: &str = r"
trials = 36
null = 2
seed = 15
[program]
command = [{program}]
counter = 'step'
[[target]]
at = 'act'
weight = 8
[[target]]
at = 'again'
[[target]]
at = 'once'
[[target]]
at = 'nowhere->count'
[[fault]]
value = 1
[[fault]]
value = 2
[[fault]]
value = 3
[[fault]]
value = 4
weight = 0.5
[[fault]]
value = 5
weight = 0.5
[[fault]]
value = 6
[[fault]]
value = 7
[[fault]]
value = 8
[when]
trigger = 'step >= 5'
[limits]
wall = '5s'
[detected]
status = [3]
pattern = ['checksum m.*']
";

/// What a fault of that number comes to at a target of that.
fn expected(target: u64, fault: u64) -> (&'static str, &'static str, &'static str) {
    match (target, fault) {
        (0, 0) => ("crash", "signal 6", "latent"),
        (0, 1) => ("detected", "status 3", "latent"),
        (0, 2) => ("detected", "it printed 'checksum mismatch'", "latent"),
        (0, 3) => ("hang", "spinning", "latent"),
        (0, 4) => ("hang", "blocked", "latent"),
        (0, 5) => ("sdc", "the output differs", "latent"),
        (0, 6) => ("guest_crash", "its kernel panicked, or reset the machine", "latent"),
        (0, _) => ("crash", "status 9", "latent"),
        (1, _) => ("masked", "", "overwritten"),
        (2, _) => ("masked", "", "latent"),
        _ => ("not_injected", "'nowhere' is a null pointer now", "none"),
    }
}

#[test]
fn every_outcome_and_fate() {
    let study = Study::new(OUTCOMES, "outcomes 10000 25");
    let ran = study.finish("a.db", &["--json"]);
    let trials = study.injected("a.db");
    assert_eq!(trials.len(), 36);
    for trial in &trials {
        let drawn = |name: &str| injection(trial)[name].as_u64().unwrap();
        assert_eq!(came_to(trial), expected(drawn("target"), drawn("fault")), "{trial:#}");
    }
    report_has_its_form(&ran.json());
    assert_eq!(study.vmfi(&["report", "a.db", "--json"]).json(), ran.json());
    let crash = trials.iter().find(|trial| trial["why"] == "signal 6").unwrap();
    is_shown_and_made_again(&study, crash);
}

fn report_has_its_form(report: &Value) {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((&report["plan"], &report["trials"]), (&"plan".into(), &36.into()));
    assert!(report["sampled_from"].is_string());
    let names = ["crash", "detected", "guest_crash", "hang", "masked", "not_injected", "sdc"];
    assert_eq!(keys(&report["outcomes"]), names);
    for name in names {
        let share = &report["outcomes"][name];
        assert!(share["count"].as_u64().unwrap() > 0, "no {name}");
        let number = |key: &str| share[key].as_f64().unwrap();
        assert!(0.0 < number("low") && number("low") < number("share"));
        assert!(number("share") < number("high") && number("high") < 1.0);
    }
    let statistics = ["max", "mean", "median", "min", "mode", "runs", "sd", "variance"];
    for name in ["iterations", "cpu_time"] {
        assert_eq!(keys(&report["metrics"][name]["golden"]), statistics);
        assert_eq!(keys(&report["metrics"][name]["injected"]), statistics);
    }
    assert_eq!(report["metrics"]["iterations"]["golden"]["mean"], 25.0);
    assert_eq!(keys(&report["fates"]), ["latent", "overwritten"]);
}

fn is_shown_and_made_again(study: &Study, trial: &Value) {
    let number = trial["number"].to_string();
    assert_eq!(study.vmfi(&["campaign", "show", "a.db", &number, "--json"]).json(), *trial);
    let shown = study.vmfi(&["campaign", "show", "a.db", &number]).stdout;
    for part in ["plan      plan, seed 15\n", "\noutcome: crash\n", "\nwhy: signal 6\n"] {
        assert!(shown.contains(part), "no '{part}' in {shown}");
    }
    let again = study.vmfi(&["campaign", "rerun", "a.db", &number, "--json"]);
    assert!(again.stderr.contains("not the very instant"), "{}", again.stderr);
    let again = again.json();
    assert_eq!((&again["outcome"], &again["outcome_before"]), (&"crash".into(), &"crash".into()));
    for key in ["symbol", "gva", "before", "after"] {
        assert_eq!(injection(&again)["receipt"][key], injection(trial)["receipt"][key]);
    }
    study.vmfi(&["campaign", "show", "a.db", "77"]).fails_with(2);
    study.vmfi(&["campaign", "rerun", "a.db", "77"]).fails_with(2);
}

#[test]
fn results_within_tolerance_are_masked_and_what_is_no_number_never_is() {
    let plan = r"
        trials = 20
        null = 2
        seed = 18
        [program]
        command = [{program}]
        counter = 'step'
        [[target]]
        at = 'result'
        [[fault]]
        value = '0.33333334'
        [[fault]]
        value = '0.5'
        [[fault]]
        nan = true
        [[fault]]
        inf = true
        [when]
        over = 'iterations'
        to = 50
        [[metric]]
        name = 'result'
        regex = 'result (\S+)'
        relative = 1e-6
        ";
    let study = Study::new(plan, "outcomes 20000 22");
    let report = study.finish("a.db", &["--json"]).json();
    let (mut whys, mut tolerated) = (Vec::new(), 0);
    for trial in study.injected("a.db") {
        let drawn = injection(&trial);
        let iteration = 1 + (drawn["at"].as_f64().unwrap() * 50.0) as u64;
        let (outcome, why) = match drawn["fault"].as_u64() {
            // That moment never comes.
            _ if iteration > 22 => ("not_injected", "the program had ended before"),
            Some(0) => ("masked", "the output differs"),
            Some(1) => ("sdc", "result is 5e-1"),
            Some(2) => ("sdc", "result is NaN"),
            _ => ("sdc", "result is inf"),
        };
        let (found, found_why, _) = came_to(&trial);
        assert_eq!((found, found_why), (outcome, why), "{trial:#}");
        tolerated += u64::from(trial["tolerated"] == 1);
        whys.push(why);
    }
    whys.sort_unstable();
    whys.dedup();
    assert_eq!((whys.len(), tolerated > 0), (5, true), "{whys:?}");
    assert_eq!(report["tolerated"], tolerated);
}

#[test]
fn a_campaign_goes_on_wherever_it_was_ended() {
    let plan = r"
        trials = 200
        null = 2
        seed = 7
        [program]
        command = [{program}]
        counter = 'niters'
        [[target]]
        at = 'rtrans'
        [[fault]]
        flip = 1
        ";
    let study = Study::new(plan, "hpccg 10 10 10");
    let mut done = 0;
    for signal in [Signal::TERM, Signal::KILL, Signal::KILL] {
        done += 20;
        let vmfi = study.start("a.db");
        study.wait_for("a.db", Kind::Injected, done);
        let told = end(vmfi, signal);
        assert_eq!(told, (signal == Signal::TERM).then_some(130));
        wait_until_gone(&study.mark("a.db"));
        assert!(study.injected("a.db").len() < 200);
    }
    study.finish("a.db", &[]);
    assert_eq!(study.injected("a.db").len(), 200);
    assert!(study.trials("a.db").iter().all(|run| run.verdict.is_some()));
    // A finished one has nothing to do.
    let started = Instant::now();
    study.finish("a.db", &[]);
    assert!(started.elapsed() < Duration::from_secs(2));
    let vmfi = study.start("b.db");
    study.wait_for("b.db", Kind::Golden, 1);
    end(vmfi, Signal::KILL);
    let drawn = |name| study.trials(name).into_iter().map(|run| run.trial).collect::<Vec<_>>();
    assert_eq!(drawn("a.db"), drawn("b.db"));
}

/// Processes that take all the time they get.
struct Load(Vec<Child>);

impl Load {
    fn new(count: usize) -> Self {
        let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..count).map(|_| busy()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for busy in &mut self.0 {
            busy.kill().unwrap();
            busy.wait().unwrap();
        }
    }
}

#[test]
#[ignore = "loads the host: 'make test' runs it alone"]
fn a_loaded_host_makes_no_hangs() {
    let plan = r"
        trials = 10
        null = 0
        [program]
        command = [{program}]
        [[target]]
        at = 'rtrans'
        [[fault]]
        flip-bits = '0'
        [limits]
        cpu = 3
        wall = '5s'
        ";
    let study = Study::new(plan, "hpccg 24 24 24");
    let mut vmfi = study.start("a.db");
    study.wait_for("a.db", Kind::Golden, 10);
    let load = Load::new(4);
    assert_eq!(vmfi.wait().unwrap().code(), Some(0));
    drop(load);
    let outcomes: Vec<_> =
        study.injected("a.db").iter().map(|own| own["outcome"].clone()).collect();
    assert!(outcomes.len() == 10 && !outcomes.contains(&"hang".into()), "{outcomes:?}");
}

const ONE: &str = r"
trials = 6
null = 2
[program]
command = [{program}]
[[target]]
at = 'act'
[[fault]]
value = 6
[when]
trigger = 'step >= 5'
";

/// Asserts that it fails with `code` and these words, and that no trial was run.
fn fails(study: &Study, more: &[&str], code: i32, words: &[&str]) {
    let ran = study.run("a.db", more);
    let line = ran.fails_with(code);
    for word in words {
        assert!(line.contains(word), "'{word}' is not in: {line}");
    }
    assert_eq!(study.injected("a.db").len(), 0);
    assert!(!is_named(&study.mark("a.db")));
}

#[test]
fn bad_programs_are_found_before_the_first_trial() {
    let program = "outcomes 10000 25";
    let other = ONE.replace("'act'", "'no_such_symbol'");
    fails(&Study::new(&other, program), &[], 6, &["no_such_symbol"]);
    let told = ["a golden run ends with status 1; it says: cannot do it"];
    fails(&Study::new(ONE, "outcomes 10000 25 fails"), &[], 1, &told);
    let told = ["another one each time", "[[metric]]"];
    fails(&Study::new(ONE, "outcomes 10000 25 noisy"), &[], 1, &told);
    let many = ["-j", "60000"];
    let campaign = ["campaign", "run", "plan.toml", "--store", "a.db"];
    let study = Study::new(ONE, program);
    let ran = study.vmfi(&[&campaign, &many[..]].concat());
    assert!(ran.fails_with(2).contains("60000 guests at once may need"), "{}", ran.stderr);
    assert_eq!(study.injected("a.db").len(), 0);
}

#[test]
fn bad_files_are_found_before_a_boot() {
    let study = Study::new(ONE, "outcomes 10000 25");
    let fails = |name: &str, part: &str| {
        let ran = study.run(name, &[]);
        assert!(ran.fails_with(2).contains(part), "{}", ran.stderr);
    };
    fs::write(study.path("text.db"), "text\n".repeat(1000)).unwrap();
    fails("text.db", "text.db is no store of a campaign");
    of_another_plan(&study.path("other.db"), Facts::new());
    fails("other.db", "other.db is of another plan");
    of_another_plan(&study.path("newer.db"), Facts::new());
    let newer = rusqlite::Connection::open(study.path("newer.db")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    fails("newer.db", "written by a newer vmfi (schema 99");
    study.plan("trails = 1", "outcomes");
    fails("a.db", "plan.toml, line 1: unknown key 'trails'; did you mean 'trials'?");
    assert!(!study.path("a.db").exists());
    let ran = study.vmfi(&["campaign", "run", "none.toml", "--store", "a.db"]);
    assert!(ran.fails_with(2).contains("none.toml"));
    for words in [["campaign", "show", "none.db", "1"], ["campaign", "rerun", "none.db", "1"]] {
        assert!(vmfi(words).fails_with(2).contains("there is no store none.db"));
    }
}

/// Makes a store of `facts`, but of another plan.
fn of_another_plan(path: &Path, mut facts: Facts) {
    facts.insert(DIGEST.to_owned(), "another".to_owned());
    Store::open(path).unwrap().begin(&facts, &[]).unwrap();
}

/// A plan whose guest is an own QEMU's, which starts the wrapper with `options`.
fn own(options: &str) -> Study {
    let study = Study::empty();
    let mut files = files();
    files.copy(&built("fixtures/outcomes"), "/outcomes").unwrap();
    files.script(format!("/wrapper {options} /outcomes 10000 25 >/dev/null 2>&1 &"));
    fs::write(study.path("initramfs"), files.build().unwrap()).unwrap();
    let qemu = "qemu-system-x86_64 -nodefaults -no-user-config -display none -accel tcg \
                -cpu max,la57=off -machine q35,memory-backend=ram -m 128M \
                -object memory-backend-file,id=ram,size=128M,mem-path={ram},share=on \
                -initrd initramfs -append panic=-1 -kernel";
    let words: Vec<_> = qemu.split_whitespace().map(|word| format!("'{word}'")).collect();
    let kernel = kernels()[0].clone();
    let command = format!("command = [{}, '{}']", words.join(", "), kernel.display());
    study.plan(&format!("{ONE}[guest]\n{command}\n"), "outcomes");
    study
}

#[test]
fn an_own_qemu() {
    let study = own("--gate --hold-exit");
    study.finish("a.db", &[]);
    let trials = study.injected("a.db");
    assert_eq!(trials.len(), 6);
    for trial in &trials {
        assert_eq!(came_to(trial), ("sdc", "the output differs", "latent"));
    }
    fails(&own("--hold-exit"), &[], 5, &["has started its program already", "wrapper --gate"]);
}

#[test]
fn trials_that_start_late_skip_the_way_there() {
    let plan = ONE.replace("[[target]]", "start = 'step >= 20'\ncounter = 'step'\n[[target]]");
    let plan = plan.replace("step >= 5", "step >= 22");
    let study = Study::new(&plan, "outcomes 40000 25");
    study.finish("a.db", &[]);
    let all = study.trials("a.db");
    let golden: Vec<_> = all.into_iter().filter_map(|run| run.ran).collect();
    assert_eq!(golden.len(), 10);
    let mut times: Vec<_> = golden.iter().map(|ran| ran.time).collect();
    times.sort_unstable();
    // All of it takes a second.
    assert!(times[5] < Duration::from_millis(700), "{times:?}");
    assert!(golden.iter().all(|ran| ran.iterations == Some(25.0)));
    for trial in &study.injected("a.db") {
        assert_eq!(came_to(trial), ("sdc", "the output differs", "latent"));
        assert!(injection(trial)["iteration"].as_f64().unwrap() >= 22.0);
    }
}

#[test]
fn parts_are_put_together() {
    let study = Study::new(ONE, "outcomes 10000 25");
    for (name, shard) in [("1.db", "1/2"), ("2.db", "2/2")] {
        study.finish(name, &["--shard", shard]);
        assert_eq!(study.injected(name).len(), 3);
    }
    let merge = || study.vmfi(&["campaign", "merge", "out.db", "1.db", "2.db"]);
    // 6 trials, 2 null trials, and 10 golden runs of each part.
    assert_eq!(merge().stdout, "out.db: 28 runs more\n");
    assert_eq!(merge().stdout, "out.db: 0 runs more\n");
    assert_eq!(study.injected("out.db").len(), 6);
    let report = study.vmfi(&["report", "out.db", "--json"]).json();
    assert_eq!(report["outcomes"]["sdc"]["count"], 6);
    // Nothing is left to be done.
    study.finish("out.db", &[]);
    of_another_plan(&study.path("other.db"), study.store("out.db").facts().unwrap());
    let other = study.vmfi(&["campaign", "merge", "out.db", "other.db"]);
    assert!(other.fails_with(2).contains("is of another plan"), "{}", other.stderr);
    let ran = study.run("1.db", &[]);
    assert!(ran.fails_with(2).contains("is of another shard"), "{}", ran.stderr);
}

#[test]
fn where_output_is_another_each_time_a_metric_decides() {
    let metric = "[[metric]]\nname = 'result'\nregex = 'result (\\S+)'\n";
    let targets = "at = 'act'\n[[target]]\nat = 'again'\n";
    let plan = format!("seed = 3{}{metric}", ONE.replace("at = 'act'\n", targets));
    let study = Study::new(&plan, "outcomes 10000 25 noisy");
    let ran = study.finish("a.db", &[]);
    assert!(ran.stderr.contains("judged by the noise of the golden runs"), "{}", ran.stderr);
    let trials = study.injected("a.db");
    let count = |target: u64| {
        let (outcome, why, fate) = match target {
            0 => ("sdc", "result is 6.666666666666666e-1", "latent"),
            _ => ("masked", "the output differs", "overwritten"),
        };
        let own = trials.iter().filter(|trial| injection(trial)["target"] == target);
        own.inspect(|trial| assert_eq!(came_to(trial), (outcome, why, fate))).count()
    };
    assert!(count(0) > 0 && count(1) > 0 && count(0) + count(1) == 6);
}

const CENSUS: &str = "trials = 'all'
null = 1
[program]
command = [{program}]
counter = 'niters'
[[target]]
at = 'rtrans'
[[fault]]
flip-each = '51..52'
[when]
over = 'iterations'
from = 3
to = 5
phase = 0.5
[[curve]]
variable = 'normr'
[[metric]]
name = 'residual'
regex = 'Final residual: (\\S+)'
";

/// The bit that was flipped, and the iteration that this waited for.
fn bit_and_iteration(story: &Value) -> (u32, u64) {
    let receipt = &injection(story)["receipt"];
    let number = |name: &str| {
        let text = receipt[name].as_str().unwrap();
        u64::from_str_radix(text, 16).unwrap().swap_bytes()
    };
    let seen = &receipt["trigger"]["values"]["niters"];
    ((number("before") ^ number("after")).trailing_zeros(), seen.as_u64().unwrap())
}

/// The points of a run's curve.
fn curve(story: &Value) -> BTreeMap<i64, f64> {
    let point = |own: &Value| Some((own["iteration"].as_i64()?, own["value"].as_f64()?));
    story["samples"].as_array().unwrap().iter().filter_map(point).collect()
}

/// What the program says of its way, as `Iteration = 15   Residual = 46.7314`.
fn printed(story: &Value) -> BTreeMap<i64, f64> {
    let line = |line: &str| {
        let (iteration, value) = line.strip_prefix("Iteration = ")?.split_once("   Residual = ")?;
        Some((iteration.parse().ok()?, value.parse().ok()?))
    };
    story["stdout_text"].as_str().unwrap().lines().filter_map(line).collect()
}

#[test]
fn a_census_has_each_bit_and_iteration_once_and_curves_show_the_way() {
    let study = Study::new(CENSUS, "hpccg 30 30 30");
    study.finish("a.db", &[]);
    let all = study.injected("a.db");
    let found: BTreeSet<_> = all.iter().map(bit_and_iteration).collect();
    let expected = (3..=5).flat_map(|iteration| [(51, iteration), (52, iteration)]);
    assert_eq!((all.len(), found), (6, expected.collect()));
    // What would have come too late was made again; only a write that the host holds up right before it
    // is made may still fall into the next iteration.
    let seen = |story: &&Value| {
        injection(story)["iteration"].as_f64() == Some(bit_and_iteration(story).1 as f64)
    };
    assert!(all.iter().filter(seen).count() > 4);
    let store = study.store("a.db");
    let golden: Vec<_> = study
        .trials("a.db")
        .iter()
        .filter(|run| is_done(run, Kind::Golden))
        .map(|run| store.story(run.trial.number).unwrap())
        .collect();
    // A look may come too late on a busy host, and misses an iteration then, but not each time.
    for (iteration, value) in printed(&golden[0]) {
        let same = |story: &&Value| {
            curve(story).get(&iteration).is_some_and(|own| (own / value - 1.0).abs() < 1e-5)
        };
        assert!(golden.iter().filter(same).count() > 5, "{iteration}: {value}");
    }
    assert!(golden.iter().all(|story| story["iteration_ns"].as_u64().unwrap() > 100_000));
    // The same way up to the fault, and another one from there on.
    let known = curve(&golden[0]);
    let parts = |story: &Value| {
        let at = bit_and_iteration(story).1 as i64;
        let own = curve(story);
        let differs = |iteration: &i64| own.get(iteration) != known.get(iteration);
        (
            known.keys().filter(|own| **own < at).any(differs),
            known.keys().filter(|own| **own > at + 1).all(differs),
        )
    };
    let as_meant = all.iter().map(parts).filter(|parts| *parts == (false, true)).count();
    assert!(as_meant > 3, "{:?}", all.iter().map(parts).collect::<Vec<_>>());
    let report = study.vmfi(&["report", "a.db", "--json"]);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert!(report["sampled_from"].as_str().unwrap().starts_with("a census"));
}

#[test]
fn a_curve_must_stay_where_it_is() {
    let plan = CENSUS.replace("variable = 'normr'", "variable = 'A.list_of_vals[0]'");
    let study = Study::new(&plan, "hpccg 10 10 10");
    fails(&study, &[], 2, &["'A.list_of_vals[0]' of a [[curve]] lies behind a pointer"]);
}
