//! A campaign's plan: TOML, read and checked as far as it can be without the program.
//!
//! docs/plan.md explains every key.

use super::check::Keys;
use super::mistake::{PlanError, complaint};
use super::tables::{CurveKeys, GuestKeys, MetricKeys, WhenKeys};
use super::values;
use crate::digest;
use crate::fault::{LONGEST as LONGEST_FAULT, Model, OneBit};
use crate::inject::{Order, What};
use crate::lab::Accel;
use crate::scalar::Scalar;
use crate::site::Allow;
use crate::when::Condition;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Table;

/// No plan has more bytes.
pub(super) const LONGEST: u64 = 1 << 20;
/// Whole numbers beyond are not exact where JSON's are taken for floats.
pub const LARGEST_SEED: u64 = (1 << 53) - 1;
/// Metrics that every trial has.
pub const OWN_METRICS: [&str; 2] = ["iterations", "cpu_time"];
/// Stands for the file that is the guest's RAM in an own QEMU's command.
pub const RAM: &str = "{ram}";

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is called.
    pub name: String,
    /// All that is drawn comes from it; at most [`LARGEST_SEED`].
    pub seed: u64,
    /// How many trials with faults.
    pub trials: u64,
    /// Whether these are every target with every fault at every moment, each once: nothing is drawn.
    pub census: bool,
    /// How many injections each has; the first of many with [`When::Every`].
    pub injections: u64,
    /// How many runs without any.
    pub golden: u64,
    /// How many trials do everything but the write.
    pub null: u64,
    /// What runs the program.
    pub guest: Guest,
    /// What is run.
    pub program: Program,
    /// Where faults go; at least one.
    pub targets: Vec<Target>,
    /// Which faults; at least one.
    pub faults: Vec<Fault>,
    /// When.
    pub when: When,
    /// What a hang is.
    pub limits: Limits,
    /// How the program tells that it has noticed a fault.
    pub detected: Detected,
    /// When its output is as it should be.
    pub output: Output,
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// What is looked at in each iteration.
    pub curves: Vec<Curve>,
    /// What others have measured, to be printed beside.
    pub published: Vec<Published>,
    /// The plan as it was written.
    pub text: String,
    /// The folder that it lies in, where its paths start.
    pub folder: PathBuf,
}

/// What runs the program.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "GuestKeys")]
pub enum Guest {
    /// A guest that vmfi makes.
    Lab(Machine),
    /// An own QEMU, of which one word or more holds [`RAM`]. Its guest starts the program by itself,
    /// under `wrapper --gate`.
    Own(Vec<String>),
}

/// The machine of a guest that vmfi makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel, from the plan's folder on; none: as `vmfi run` finds one.
    pub kernel_image: Option<PathBuf>,
    /// MiB of RAM.
    pub ram_mib: u64,
    /// CPUs.
    pub smp: u32,
    /// How QEMU runs it; none: what works.
    pub accel: Option<Accel>,
    /// More words for the kernel's command line.
    pub append: String,
}

/// What is run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    /// The program, from the plan's folder on, and its arguments. Where an own QEMU starts it, the
    /// program alone, for its symbols.
    pub command: Vec<String>,
    /// Files that it needs, from the plan's folder on.
    #[serde(default)]
    pub add: Vec<PathBuf>,
    /// What all trials start from.
    #[serde(default)]
    pub start: Start,
    /// The variable that counts its iterations.
    pub counter: Option<String>,
    /// Whether the kernel lays it out anew each time.
    #[serde(default)]
    pub randomize_addresses: bool,
}

/// What all trials start from.
#[derive(Clone, Debug, Default)]
pub enum Start {
    /// The gate before the program's first instruction.
    #[default]
    Gate,
    /// The moment when this holds.
    When(Condition),
}

/// Where faults go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Target {
    /// The place, or the region to draw one from, as `vmfi inject` takes it.
    pub at: String,
    /// Bytes from there on.
    #[serde(default, deserialize_with = "values::offset")]
    pub offset: i64,
    /// How many bytes; none: the target's.
    #[serde(default, deserialize_with = "values::whole::<1, LONGEST_FAULT, _, _>")]
    pub bytes: Option<u64>,
    /// What they are taken for; none: what the target's type says.
    #[serde(rename = "type", default, deserialize_with = "values::scalar")]
    pub scalar: Option<Scalar>,
    /// How likely it is beside the others.
    #[serde(default = "one", deserialize_with = "values::weight")]
    pub weight: f64,
}

/// A fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What is written.
    pub change: Change,
    /// How likely it is beside the others.
    pub weight: f64,
}

/// What is written.
#[derive(Clone, Debug)]
pub enum Change {
    /// This value.
    Value(String),
    /// What a model makes of the one that is there.
    Model(Arc<dyn Model>),
}

/// When faults come.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WhenKeys")]
pub enum When {
    /// At moments that are drawn.
    Drawn(Over, Spread),
    /// All of a trial's at once, when this holds.
    Trigger(Condition),
    /// Again and again, so far apart, until the program ends.
    Every(Duration),
}

/// What moments are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over {
    /// The golden run's time.
    Time {
        /// From this fraction of it,
        from: f64,
        /// to this one.
        to: f64,
    },
    /// The program's counter.
    Iterations {
        /// From this iteration,
        from: u64,
        /// to this one, included; none: the golden run's last.
        to: Option<u64>,
        /// How far into it, as a fraction of one; none: that is drawn too.
        phase: Option<f64>,
    },
}

/// A moment of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the start.
    After(Duration),
    /// When the counter has come to this, and so long after: else all would come right where an
    /// iteration begins, and what happens later in it would never be hit.
    Iteration(u64, Duration),
}

/// How a trial's injections lie in the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Each anywhere.
    #[default]
    Uniform,
    /// Each in a part of its own, as many parts as injections, and anywhere there.
    Even,
}

/// What a hang is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// More than this multiple of the golden run's CPU time.
    #[serde(default = "five", deserialize_with = "values::multiple")]
    pub cpu: f64,
    /// More than this by the clock; none: see [`Limits::wall_limit`].
    #[serde(default, deserialize_with = "values::interval")]
    pub wall: Option<Duration>,
}

/// How the program tells that it has noticed a fault.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Detected {
    /// By one of these exit statuses.
    #[serde(default)]
    pub status: Vec<u8>,
    /// By something in its output.
    #[serde(default, deserialize_with = "values::patterns")]
    pub pattern: Vec<Regex>,
}

/// When the program's output is as it should be.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether any difference makes an SDC; else tolerances and `command` decide.
    pub exact: bool,
    /// Lines that do not count.
    pub ignore: Vec<Regex>,
    /// A command that gets two files, the golden run's output and the trial's, and ends with 0 where
    /// they are alike and with 1 where they differ.
    pub command: Option<Vec<String>>,
}

/// Something that is measured in each trial.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "MetricKeys")]
pub struct Metric {
    /// What it is called.
    pub name: String,
    /// Where it is had from.
    pub source: Source,
    /// How far it may be off; none: it is reported and no more.
    pub tolerance: Option<Tolerance>,
}

/// Where a metric is had from.
#[derive(Clone, Debug)]
pub enum Source {
    /// What this captures in the output: it has one group.
    Output(Regex),
    /// A variable of the program, read at its end.
    Variable(String),
}

/// A variable that is looked at in each iteration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CurveKeys")]
pub struct Curve {
    /// What it is called.
    pub name: String,
    /// The variable.
    pub variable: String,
}

/// What others have published of a metric.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Published {
    /// Where.
    pub source: String,
    /// Of which metric.
    pub metric: String,
    /// Of runs without faults.
    pub golden: Option<Figures>,
    /// Of runs with faults.
    pub injected: Option<Figures>,
}

/// Figures of several runs, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Figures {
    /// How many runs.
    pub runs: Option<u64>,
    /// The lowest.
    pub min: Option<f64>,
    /// The highest.
    pub max: Option<f64>,
    /// The arithmetic mean.
    pub mean: Option<f64>,
    /// The one in the middle.
    pub median: Option<f64>,
    /// The most frequent one.
    pub mode: Option<f64>,
    /// The sample variance.
    pub variance: Option<f64>,
    /// Its root.
    pub sd: Option<f64>,
}

/// How far a metric may be off the golden run's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// By this fraction of it.
    Relative(f64),
    /// By so much.
    Absolute(f64),
}

impl Plan {
    /// The plan in the file at `path`.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let unreadable = |source| PlanError::Unreadable { path: path.to_owned(), source };
        let known = std::fs::metadata(path).map_err(unreadable)?;
        // Reading anything else could block, or never end.
        if !known.is_file() || known.len() > LONGEST {
            return Err(PlanError::NoPlan(path.to_owned()));
        }
        Self::parse(std::fs::read_to_string(path).map_err(unreadable)?, path)
    }

    /// The plan that `text` is, which was read from the file at `path`.
    pub fn parse(text: String, path: &Path) -> Result<Self, PlanError> {
        let keys = toml::from_str::<Keys>(&text).map_err(|error| complaint(&error, &text, path))?;
        if let Err(mistake) = keys.check() {
            return Err(mistake.of(&text, path));
        }
        Ok(keys.plan(text, path))
    }

    /// The file, or folder, that the plan calls `path`.
    pub fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// The host's command that the plan calls `name`: it is looked for in PATH, unless it is a path.
    pub fn host_command(&self, name: &str) -> PathBuf {
        if name.contains('/') { self.beside(name) } else { name.into() }
    }

    /// SHA-256, in hexadecimal, of all keys that trials depend on, as they are given: comments, blanks
    /// and the order of the keys do not count, and of a path its text.
    pub fn digest(&self) -> String {
        let mut keys: Table = toml::from_str(&self.text).unwrap_or_default();
        for label in ["name", "published"] {
            keys.remove(label);
        }
        let canonical = serde_json::to_vec(&keys).unwrap_or_default();
        digest::of_bytes(&canonical)
    }

    /// The order to do the fault `fault` to the target `target`, where there are both.
    pub fn order(&self, target: usize, fault: usize) -> Option<Order<'_>> {
        Some(self.targets.get(target)?.order(self.faults.get(fault)?))
    }
}

impl Program {
    /// That the counter has come to `iteration`, where there is a counter.
    pub fn reached(&self, iteration: u64) -> Option<Condition> {
        // In quotes any target is one, whatever its letters mean in a condition.
        let text = format!("\"{}\" >= {iteration}", self.counter.as_ref()?);
        Condition::parse(&text).ok()
    }
}

impl Target {
    /// The order to do `fault` here.
    pub fn order<'a>(&'a self, fault: &'a Fault) -> Order<'a> {
        Order {
            target: &self.at,
            offset: self.offset,
            what: fault.change.what(),
            size: self.bytes,
            scalar: self.scalar,
            allow: Allow::Own,
        }
    }
}

impl Change {
    /// The same, as an order has it.
    pub fn what(&self) -> What<'_> {
        match self {
            Self::Value(text) => What::Value(text),
            Self::Model(model) => What::Model(&**model),
        }
    }

    /// Which bit it flips, if that is all that it does.
    pub fn one_bit(&self) -> Option<OneBit> {
        match self {
            Self::Value(_) => None,
            Self::Model(model) => model.one_bit(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(text) => write!(f, "value {text}"),
            Self::Model(model) => write!(f, "{model}"),
        }
    }
}

impl Over {
    /// How many moments there are where none is drawn: one in each iteration.
    pub fn moments(self) -> Option<u64> {
        match self {
            Self::Iterations { from, to, phase } => phase.and(to).map(|to| to - from + 1),
            Self::Time { .. } => None,
        }
    }

    /// The moment that lies at `at`, from 0 to below 1, of the range, where the golden run took
    /// `time` and counted to `last`, an iteration taking it `each`.
    pub fn moment(self, at: f64, time: Duration, (last, each): (u64, Duration)) -> Moment {
        match self {
            Self::Time { from, to } => {
                let after = time.as_secs_f64() * (from + at * (to - from));
                Moment::After(Duration::try_from_secs_f64(after).unwrap_or(time))
            }
            Self::Iterations { from, to, phase } => {
                let to = to.unwrap_or(last).max(from);
                let steps = at * ((to - from) as f64 + 1.0);
                let part = each.mul_f64(phase.unwrap_or_else(|| steps.fract()));
                Moment::Iteration(from.saturating_add(steps as u64).min(to), part)
            }
        }
    }
}

impl Limits {
    /// How long a trial may take by the clock, where the golden run took `golden`.
    pub fn wall_limit(&self, golden: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(60);
        self.wall.unwrap_or_else(|| LEAST.max(golden.saturating_mul(20)))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu: five(), wall: None }
    }
}

impl Tolerance {
    /// Whether `value` is near enough to `golden`; one that is no number never is.
    pub fn holds(self, golden: f64, value: f64) -> bool {
        let most = match self {
            Self::Relative(fraction) => fraction * golden.abs(),
            Self::Absolute(most) => most,
        };
        value.is_finite() && (value - golden).abs() <= most
    }
}

fn one() -> f64 {
    1.0
}

fn five() -> f64 {
    5.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "trials = 2\n[program]\ncommand = ['./victim']\n[[target]]\nat = 'rtrans'\n[[fault]]\nflip = 1\n";

    fn parse(text: &str) -> Result<Plan, String> {
        let plan = Plan::parse(text.to_owned(), Path::new("dir/mine.toml"));
        plan.map_err(|error| error.to_string().replace("dir/mine.toml, ", ""))
    }

    /// The least plan, with `top` before it and `tables` behind it.
    fn with(top: &str, tables: &str) -> Result<Plan, String> {
        parse(&format!("{top}\n{LEAST}{tables}"))
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let plan = parse(LEAST).unwrap();
        assert_eq!((plan.name.as_str(), plan.seed, plan.injections), ("mine", 0, 1));
        assert_eq!((plan.golden, plan.null), (10, 60));
        let Guest::Lab(machine) = &plan.guest else { panic!("{:?}", plan.guest) };
        assert_eq!((machine.ram_mib, machine.smp, machine.accel), (512, 1, None));
        assert!(matches!(plan.program.start, Start::Gate));
        let all = Over::Time { from: 0.0, to: 1.0 };
        assert!(matches!(plan.when, When::Drawn(over, Spread::Uniform) if over == all));
        assert!(plan.output.exact);
        assert_eq!(plan.folder, Path::new("dir"));
        assert_eq!(plan.beside("./victim"), Path::new("dir/./victim"));
        assert_eq!(plan.host_command("python3"), Path::new("python3"));
    }

    #[test]
    fn numbers_and_texts_say_the_same() {
        let guest = "[guest]\nram = 0x10000000\naccel = 'tcg'";
        let Guest::Lab(machine) = with("", guest).unwrap().guest else { panic!() };
        assert_eq!((machine.ram_mib, machine.accel), (256, Some(Accel::Tcg)));
        let plan = with("seed = 0xff", "[[fault]]\nxor = 0xff\n[[fault]]\nxor = '0xff'").unwrap();
        let texts: Vec<_> = plan.faults.iter().map(|fault| fault.change.to_string()).collect();
        assert_eq!(
            (plan.seed, texts),
            (255, vec!["flip 1".into(), "xor 255".into(), "xor 0xff".into()])
        );
        let plan = with("", "[[target]]\nat = 'x'\noffset = '-0x10'\n[limits]\nwall = 90").unwrap();
        assert_eq!(plan.targets[1].offset, -16);
        assert_eq!(plan.limits.wall_limit(Duration::ZERO), Duration::from_secs(90));
    }

    #[test]
    fn an_order_is_that_of_inject() {
        let text = "[[target]]\nat = 'heap'\ntype = 'f64'\nweight = 0.5\n[[fault]]\nvalue = 6\n[[fault]]\nnan = true\n";
        let plan = parse(&LEAST.replace("[[target]]\nat = 'rtrans'\n", text)).unwrap();
        let order = plan.order(0, 1).unwrap();
        assert_eq!((order.target, order.scalar), ("heap", Some(Scalar::Float(8))));
        assert!(matches!(order.what, What::Model(model) if model.to_string() == "nan"));
        assert!(plan.order(1, 0).is_none() && plan.order(0, 3).is_none());
    }

    #[test]
    fn mistakes_are_told_with_line_and_key() {
        let is = |text: &str, error: &str| assert_eq!(parse(text).unwrap_err(), error);
        is("\ntrails = 1", "line 2: unknown key 'trails'; did you mean 'trials'?");
        is(
            "[program]\n\ncomand = 1",
            "line 3: unknown key 'comand' in [program]; did you mean 'command'?",
        );
        is(
            "[[fault]]\nflips = 1",
            "line 2: unknown key 'flips' in [[fault]]; did you mean 'flip'?",
        );
        is("[limits]\nq = 1", "line 2: unknown key 'q' in [limits]; known: cpu, wall");
        is("seed = 1", "line 1: the key 'trials' is missing");
        is(
            "[[target]]\nat = 'x'\n[[target]]\nbytes = 1",
            "line 3: the key 'at' is missing in [[target]]",
        );
        is("trials = 1\ntrials = 1", "line 2: 'trials' is there twice");
        is(
            "trials = 'many'",
            "line 1: 'trials': must be a whole number from 1 to 1000000, or \"all\"",
        );
        is("[limits]\ncpu = 1", "line 2: 'cpu' in [limits]: must be a number from 2 to 100");
        is("[guest]\nram = true", "line 2: 'ram' in [guest]: must be text in quotes, or a number");
        is("[target]\nat = 1", "line 1: [target]: invalid type: map, expected a sequence");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fails = |top: &str, tables: &str, part: &str| {
            let error = with(top, tables).unwrap_err();
            assert!(error.contains(part), "{top} {tables}: {error}");
        };
        fails("seed = 9007199254740992", "", "'seed': must be a whole number from 0 to 9007");
        fails("golden = 9", "", "from 10 to");
        fails("null = 1000000\ninjections = 100", "", "too many");
        fails("", "[guest]\nram = '1000000'", "no number of MiB");
        fails("", "[guest]\naccel = 'xen'", "neither kvm nor tcg");
        fails("", "[guest]\ncommand = ['qemu']", "must hold {ram}");
        fails("", "[guest]\ncommand = ['{ram}']\nsmp = 1", "leave out");
        fails("", "[[target]]\nat = ''", "line 9: [[target]]: 'at' must name");
        fails("", "[[target]]\nat = 'x'\nweight = 0", "'weight' in [[target]]: must be a number");
        fails("", "[[target]]\nat = 'x'\nweight = nan", "must be a number");
        fails("", "[[target]]\nat = 'x'\ntype = 'f16'", "'f16' is none of i8");
        fails("", "[[target]]\nat = 'x'\nbytes = 4\ntype = 'f64'", "cannot take 'flip 1'");
        fails("", "[[target]]\nat = 'x'\nbytes = 4\n[[fault]]\nflip = 33", "cannot take 'flip 33'");
        fails("", "[[fault]]\nflip = 1\nburst = 2", "not both 'burst 2' and 'flip 1'");
        fails("", "[[fault]]\nweight = 1", "no fault; there are random, flip");
        fails("", "[[fault]]\nflip = 0", "'flip' in [[fault]]: '0' is no whole number");
        fails("", "[[fault]]\nnan = 1", "write true");
        fails("", "[[fault]]\nvalue = nan", "must be text");
        fails("", "[when]\nover = 'iterations'", "needs 'counter'");
        fails("", "[when]\nover = 'tim'", "'over' in [when]");
        fails("", "[when]\nto = 1.1", "from 0.0 to 1.0");
        fails("", "[when]\ntrigger = '1 == 1'", "names no variable");
        fails("", "[when]\ntrigger = 'k =='", "'trigger' in [when]");
        fails("", "[when]\ntrigger = 'k == 1'\nfrom = 0.0", "line 9: [when]: give 'trigger', or");
        fails("", "[when]\nevery = '0s'", "no interval");
        fails("injections = 2", "[when]\nevery = '1s'", "leave out 'injections'");
        fails("", "[detected]\nstatus = [256]", "'status' in [detected]");
        fails("", "[detected]\npattern = ['(']", "'(' is no regular expression: unclosed group");
        fails("", "[output]\nexact = false", "nothing tells an SDC");
        fails("", "[output]\ncommand = []", "must name a command");
    }

    #[test]
    fn programs() {
        let fails = |keys: &str, tables: &str, part: &str| {
            let least = LEAST.replace("command = ['./victim']", keys);
            let error = parse(&format!("{least}{tables}")).unwrap_err();
            assert!(error.contains(part), "{keys}: {error}");
        };
        let own = "[guest]\ncommand = ['qemu', '{ram}']";
        fails("command = []", "", "must name the program");
        fails("command = ['v']\ncounter = 'heap'", "", "is a region");
        fails("command = ['v', '1']", own, "starts the program by itself");
        fails("command = ['v']\nadd = ['x']", own, "starts the program by itself");
        fails("command = ['v']\nstart = 'k >'", "", "'start' in [program]");
        fails("command = ['v']\ncounter = 'a\"b'", "", "is no target");
        assert!(matches!(with("", own).unwrap().guest, Guest::Own(_)));
        let counter = LEAST.replace("[[target]]", "counter = '(int)a[2]->k+4'\n[[target]]");
        let reached = parse(&counter).unwrap().program.reached(40).unwrap();
        assert_eq!(reached.targets(), ["(int)a[2]->k+4"]);
    }

    #[test]
    fn metrics() {
        let fails = |keys: &str, part: &str| {
            let error = with("", &format!("[[metric]]\n{keys}")).unwrap_err();
            assert!(error.contains(part), "{keys}: {error}");
        };
        fails("name = ''\nvariable = 'x'", "'name' is empty");
        fails("name = 'a'", "give either");
        fails("name = 'a'\nvariable = 'x'\nregex = '(.)'", "give either");
        fails("name = 'a'\nregex = '.'", "one group");
        fails("name = 'a'\nvariable = 'heap'", "is a region");
        fails("name = 'cpu_time'\nvariable = 'x'", "measured anyway");
        fails("name = 'a'\nvariable = 'x'\nabsolute = -1", "must be a number from 0");
        fails("name = 'a'\nvariable = 'x'\nabsolute = 1\nrelative = 1", "not both");
        let twice = "name = 'a'\nvariable = 'x'\n[[metric]]\nname = 'a'\nvariable = 'y'";
        fails(twice, "line 12: [[metric]]: 'a' is the name of another");
        let tolerant = "[[metric]]\nname = 'a'\nvariable = 'x'\nabsolute = 1e-3";
        assert!(!with("", tolerant).unwrap().output.exact);
        assert!(with("", &format!("[output]\nexact = true\n{tolerant}")).unwrap().output.exact);
    }

    #[test]
    fn a_census_draws_nothing() {
        let when = "[when]\nover = 'iterations'\nto = 56\nphase = 0.5\n";
        let text = |fault: &str, when: &str| {
            let least = LEAST.replace("trials = 2", "trials = 'all'").replace("flip = 1", fault);
            format!("{}{when}", least.replace("[program]\n", "[program]\ncounter = 'k'\n"))
        };
        let plan = parse(&text("flip-each = '0..63'", when)).unwrap();
        assert_eq!((plan.trials, plan.census, plan.faults.len()), (64 * 56, true, 64));
        assert_eq!(plan.faults[63].change.to_string(), "flip-bits 63");
        let told = plan.summary();
        assert!(
            told.contains("trials    3584 with an injection each: all that there are\n"),
            "{told}"
        );
        assert!(told.contains("fault     flip-bits 0 to 63: 100.0 %\n"), "{told}");
        assert!(told.contains("iterations 1 to 56, 0.5 of an iteration into each\n"), "{told}");
        let fails = |text: String, part: &str| {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        fails(text("flip = 1", when), "'flip 1' is another one each time");
        fails(text("nan = true\nweight = 2", when), "leave out 'weight'");
        fails(text("nan = true", ""), "give a 'trigger'");
        fails(text("nan = true", &when.replace("phase = 0.5", "")), "give a 'trigger'");
        fails(
            text("nan = true", &when.replace("to = 56", "to = 56\nspread = 'even'")),
            "give a 'trigger'",
        );
        fails(text("nan = true", &when.replace("56", "2000000")), "that is 2000000: at most");
        fails(text("nan = true", when).replace("rtrans", "heap"), "a place in a region is drawn");
        fails(format!("injections = 2\n{}", text("nan = true", when)), "leave out 'injections'");
        fails(text("nan = true", when).replace("'all'", "'some'"), "from 1 to 1000000, or \"all\"");
        for bad in ["7", "7..3", "0..99999", "a..b", ""] {
            fails(text(&format!("flip-each = '{bad}'"), when), "is no range of bits");
        }
        assert!(with("", "[when]\nphase = 0.5").unwrap_err().contains("'phase' is that of an"));
    }

    #[test]
    fn curves_and_published_figures() {
        let counter = LEAST.replace("[program]\n", "[program]\ncounter = 'k'\n");
        let plan = |tables: &str| parse(&format!("{counter}{tables}"));
        let fails = |tables: &str, part: &str| {
            let error = plan(tables).unwrap_err();
            assert!(error.contains(part), "{tables}: {error}");
        };
        let curves = "[[curve]]\nvariable = 'normr'\n[[curve]]\nname = 'n'\nvariable = 'x'";
        let names = plan(curves).unwrap().curves.into_iter().map(|own| own.name);
        assert_eq!(names.collect::<Vec<_>>(), ["normr", "n"]);
        fails(&format!("{curves}\n[[curve]]\nvariable = 'n'"), "'n' is the name of another curve");
        fails("[[curve]]\nvariable = 'heap'", "is a region");
        assert!(with("", "[[curve]]\nvariable = 'x'").unwrap_err().contains("needs 'counter'"));
        let published =
            "[[published]]\nsource = 's'\nmetric = 'cpu_time'\ngolden = { runs = 30, min = 1e-8 }";
        let plan_with = plan(published).unwrap();
        let golden = plan_with.published[0].golden.unwrap();
        assert_eq!((golden.runs, golden.min, golden.max), (Some(30), Some(1e-8), None));
        // They are for reports: trials do not depend on them.
        assert_eq!(plan_with.digest(), plan("").unwrap().digest());
        fails(&published.replace("cpu_time", "m"), "[[published]]: there is no [[metric]] 'm'");
        fails(&published.replace("min", "least"), "unknown key");
    }

    #[test]
    fn tolerances() {
        let (relative, absolute) = (Tolerance::Relative(0.5), Tolerance::Absolute(0.5));
        assert!(!Tolerance::Relative(f64::MAX).holds(4.0, f64::INFINITY));
        assert!(relative.holds(-4.0, -6.0) && !relative.holds(4.0, 6.1));
        assert!(absolute.holds(4.0, 4.5) && !absolute.holds(4.0, 6.0));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!relative.holds(1.0, bad) && !absolute.holds(1.0, bad));
        }
    }

    #[test]
    fn moments_lie_in_their_range() {
        let each = Duration::from_millis(180);
        let moment = |over: Over, at| over.moment(at, Duration::from_secs(10), (56, each));
        let time = Over::Time { from: 0.5, to: 1.0 };
        assert_eq!(moment(time, 0.0), Moment::After(Duration::from_secs(5)));
        assert_eq!(moment(time, 0.5), Moment::After(Duration::from_millis(7500)));
        let phased = |from, to, phase, at| match moment(Over::Iterations { from, to, phase }, at) {
            Moment::Iteration(number, part) => (number, part.as_millis()),
            Moment::After(after) => panic!("{after:?}"),
        };
        let iterations = |from, to, at| phased(from, to, None, at);
        assert_eq!(iterations(1, None, 0.0), (1, 0));
        assert_eq!(iterations(1, None, 0.5 / 56.0), (1, 90));
        assert_eq!(iterations(1, None, 1f64.next_down()), (56, 180));
        assert_eq!(phased(1, None, Some(0.5), 0.9 / 56.0), (1, 90));
        assert_eq!(iterations(60, Some(61), 0.5), (61, 0));
        assert_eq!(iterations(60, None, 0.9).0, 60);
    }

    /// A store is of one plan: what that is must not change with vmfi.
    #[test]
    fn the_digest_is_of_what_counts() {
        let digest = |text: &str| parse(text).unwrap().digest();
        let least = digest(LEAST);
        assert_eq!(least, "a71f073de6ff1143ead438e667cf3a23ea5cf49254f0f16bfbe955789f0c5928");
        assert_eq!(digest(&format!("name = 'other' # why\n\n{LEAST}")), least);
        assert_eq!(digest(&LEAST.replace("trials = 2", "trials = 0x2")), least);
        assert_ne!(digest(&LEAST.replace("./victim", "victim")), least);
        assert_ne!(digest(&LEAST.replace("flip = 1", "flip = 2")), least);
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        assert!(matches!(Plan::read(&file), Err(PlanError::Unreadable { .. })));
        assert!(matches!(Plan::read(folder.path()), Err(PlanError::NoPlan(_))));
        std::fs::write(&file, LEAST).unwrap();
        let plan = Plan::read(&file).unwrap();
        assert_eq!((plan.text.as_str(), plan.folder.as_path()), (LEAST, folder.path()));
    }
}
