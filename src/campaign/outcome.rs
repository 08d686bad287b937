//! Outcomes: what a run came to, judged by the golden runs.

use super::expand::Kind;
use super::golden::{Golden, same_output, value};
use super::plan::Plan;
use super::ran::{Ending, Hang, Ran};
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;

/// What a trial came to. The first that is so counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// None of its injections went in.
    NotInjected,
    /// The guest's kernel gave up.
    GuestCrash,
    /// A signal ended the program, or it ended with a status that it has in no golden run.
    Crash,
    /// It did not end in time.
    Hang,
    /// It has noticed.
    Detected,
    /// It ended well, with another result: silent data corruption.
    Sdc,
    /// It ended as it should.
    Masked,
}

impl Outcome {
    /// Every outcome, in the order that they are judged in.
    pub const ALL: [Self; 7] = [
        Self::NotInjected,
        Self::GuestCrash,
        Self::Crash,
        Self::Hang,
        Self::Detected,
        Self::Sdc,
        Self::Masked,
    ];

    /// Its name in stores and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotInjected => "not_injected",
            Self::GuestCrash => "guest_crash",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Detected => "detected",
            Self::Sdc => "sdc",
            Self::Masked => "masked",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a run came to, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// What it was seen by.
    pub why: String,
    /// Whether it is masked in spite of a difference, which the plan tolerates.
    pub tolerated: bool,
}

impl Verdict {
    fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        Self { outcome, why: why.into(), tolerated: false }
    }
}

/// A run that cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The plan's command cannot be run.
    #[error("cannot run {command}, the 'command' of [output]: {source}")]
    Command {
        /// The command.
        command: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It says neither yes nor no.
    #[error("{command}, the 'command' of [output], ended with {status}: 0 is alike, 1 differs")]
    Status {
        /// The command.
        command: PathBuf,
        /// How it ended.
        status: String,
    },
}

/// What `ran`, of this `kind`, came to.
pub fn judge(plan: &Plan, golden: &Golden, kind: Kind, ran: &Ran) -> Result<Verdict, JudgeError> {
    use Outcome as O;
    if kind != Kind::Golden && ran.landed() == 0 {
        let why = ran.injections.iter().find_map(|made| made.why.clone());
        return Ok(Verdict::new(O::NotInjected, why.unwrap_or_default()));
    }
    let pattern = detected(plan, ran);
    Ok(match &ran.ending {
        Ending::GuestCrash(why) => Verdict::new(O::GuestCrash, why.clone()),
        Ending::Signal(signal) => Verdict::new(O::Crash, format!("signal {signal}")),
        Ending::Hung(Hang::Spinning) => Verdict::new(O::Hang, "spinning"),
        Ending::Hung(Hang::Blocked) => Verdict::new(O::Hang, "blocked"),
        Ending::Exited(status) if plan.detected.status.contains(status) => {
            Verdict::new(O::Detected, format!("status {status}"))
        }
        // A status that the plan names is no crash: it would never be told from one.
        Ending::Exited(status) if *status != golden.status && pattern.is_none() => {
            Verdict::new(O::Crash, format!("status {status}"))
        }
        Ending::Exited(_) => match pattern {
            Some(pattern) => Verdict::new(O::Detected, format!("it printed '{pattern}'")),
            None => results(plan, golden, ran)?,
        },
    })
}

/// What it printed that the plan takes for a sign that it has noticed.
fn detected(plan: &Plan, ran: &Ran) -> Option<String> {
    let texts = [&ran.stdout, &ran.stderr].map(|output| String::from_utf8_lossy(&output.tail));
    let mut found = plan.detected.pattern.iter().flat_map(|regex| {
        texts.iter().filter_map(|text| regex.find(text).map(|found| found.as_str().to_owned()))
    });
    found.next().map(|text| text.escape_default().take(80).collect())
}

/// Whether the results of a run that ended well are the right ones.
fn results(plan: &Plan, golden: &Golden, ran: &Ran) -> Result<Verdict, JudgeError> {
    let sdc = |why: String| Ok(Verdict::new(Outcome::Sdc, why));
    for (index, metric) in plan.metrics.iter().enumerate() {
        let name = &metric.name;
        match value(plan, ran, index) {
            None => return sdc(format!("{name} is missing")),
            Some(value) if !value.is_finite() => return sdc(format!("{name} is {value}")),
            Some(value) if !near_enough(golden, plan, index, value) => {
                return sdc(format!("{name} is {value:e}"));
            }
            Some(_) => {}
        }
    }
    if plan.program.counter.is_some() && ran.iterations.is_none_or(|count| !count.is_finite()) {
        return sdc("the counter could not be read".to_owned());
    }
    let same = golden.repeatable && same_output(plan, &ran.stdout, &golden.stdout);
    if same {
        return Ok(Verdict::new(Outcome::Masked, ""));
    }
    if golden.repeatable && plan.output.exact {
        return sdc("the output differs".to_owned());
    }
    match &plan.output.command {
        Some(words) if !alike(plan, words, golden, ran)? => {
            sdc("the plan's command tells them apart".to_owned())
        }
        _ => Ok(Verdict { tolerated: true, ..Verdict::new(Outcome::Masked, "the output differs") }),
    }
}

/// Whether the metric of number `index` may be `value`: any value that a golden run had will do, and
/// what the plan's tolerance lets it be off by.
fn near_enough(golden: &Golden, plan: &Plan, index: usize, value: f64) -> bool {
    let (Some(metric), Some(band)) = (plan.metrics.get(index), golden.bands.get(index)) else {
        return false;
    };
    match metric.tolerance {
        Some(tolerance) => {
            band.holds(value)
                || tolerance.holds(band.low, value)
                || tolerance.holds(band.high, value)
        }
        // Where the output cannot tell, the golden runs' own noise does.
        None => golden.repeatable || band.holds(value),
    }
}

/// Whether the plan's command takes both outputs for the same.
fn alike(plan: &Plan, words: &[String], golden: &Golden, ran: &Ran) -> Result<bool, JudgeError> {
    let Some((name, arguments)) = words.split_first() else { return Ok(true) };
    let program = plan.host_command(name);
    let failed = |source| JudgeError::Command { command: program.clone(), source };
    let (one, other) = (file(&golden.stdout.tail), file(&ran.stdout.tail));
    let (one, other) = (one.map_err(failed)?, other.map_err(failed)?);
    let mut command = Command::new(&program);
    command.args(arguments).arg(one.path()).arg(other.path()).current_dir(plan.beside("."));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(failed)?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(JudgeError::Status { command: program, status: status.to_string() }),
    }
}

fn file(bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(file)
}
