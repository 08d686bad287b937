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

    /// Whether the program has failed: it neither ended as it should, nor noticed.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::GuestCrash | Self::Crash | Self::Hang | Self::Sdc)
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
    Ok(match (&ran.ending, detected(plan, ran)) {
        (Ending::GuestCrash(why), _) => Verdict::new(O::GuestCrash, why.clone()),
        (Ending::Signal(signal), _) => Verdict::new(O::Crash, format!("signal {signal}")),
        (Ending::Hung(Hang::Spinning), _) => Verdict::new(O::Hang, "spinning"),
        (Ending::Hung(Hang::Blocked), _) => Verdict::new(O::Hang, "blocked"),
        // A status that the plan names is no crash: it would never be told from one.
        (Ending::Exited(_), Some(sign)) => Verdict::new(O::Detected, sign),
        (Ending::Exited(status), None) if *status != golden.status => {
            Verdict::new(O::Crash, format!("status {status}"))
        }
        (Ending::Exited(_), None) => results(plan, golden, ran)?,
    })
}

/// What it did that the plan takes for a sign that it has noticed.
pub fn detected(plan: &Plan, ran: &Ran) -> Option<String> {
    if let Ending::Exited(status) = ran.ending
        && plan.detected.status.contains(&status)
    {
        return Some(format!("status {status}"));
    }
    let texts = [&ran.stdout, &ran.stderr].map(|output| String::from_utf8_lossy(&output.tail));
    let mut found = plan.detected.pattern.iter().flat_map(|regex| {
        texts.iter().filter_map(|text| regex.find(text).map(|found| found.as_str().to_owned()))
    });
    let text: String = found.next()?.escape_default().take(80).collect();
    Some(format!("it printed '{text}'"))
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

#[cfg(test)]
mod tests {
    use super::super::samples::{ended, made, missed, output, plan, ran};
    use super::*;

    /// What a plan with these tables takes `ran` for, where golden runs print what `golden` do.
    fn judged_by(tables: &str, golden: &[&str], ran: &Ran) -> Verdict {
        let plan = plan(tables);
        let golden: Vec<_> = golden.iter().map(|text| super::super::samples::ran(text)).collect();
        let golden = Golden::of(&plan, &golden).unwrap();
        judge(&plan, &golden, Kind::Injected, ran).unwrap()
    }

    /// The same where they all print `x 4`.
    fn judged(tables: &str, ran: &Ran) -> (Outcome, String) {
        let verdict = judged_by(tables, &["x 4"], ran);
        (verdict.outcome, verdict.why)
    }

    #[test]
    fn each_ending_has_its_outcome() {
        use Outcome as O;
        let crash = Ending::GuestCrash("panic".to_owned());
        for (ending, outcome, why) in [
            (crash, O::GuestCrash, "panic"),
            (Ending::Signal(11), O::Crash, "signal 11"),
            (Ending::Exited(7), O::Crash, "status 7"),
            (Ending::Exited(3), O::Detected, "status 3"),
            (Ending::Hung(Hang::Spinning), O::Hang, "spinning"),
            (Ending::Hung(Hang::Blocked), O::Hang, "blocked"),
            (Ending::Exited(0), O::Masked, ""),
        ] {
            let found = judged("[detected]\nstatus = [3]", &ended("x 4", ending));
            assert_eq!(found, (outcome, why.to_owned()));
        }
        assert_eq!(judged("", &ran("x 5")), (O::Sdc, "the output differs".to_owned()));
        assert!(O::ALL.is_sorted() && O::ALL.iter().all(|own| O::named(own.name()) == Some(*own)));
    }

    #[test]
    fn what_never_went_in_did_nothing() {
        let injections = vec![missed(0, "swapped out"), missed(1, "gone")];
        let crash = Ending::GuestCrash("panic".to_owned());
        let none = Ran { injections, ..ended("x 5", crash) };
        assert_eq!(judged("", &none), (Outcome::NotInjected, "swapped out".to_owned()));
        let one = Ran { injections: vec![missed(0, "gone"), made(1)], ..none };
        assert_eq!(judged("", &one).0, Outcome::GuestCrash);
        // A golden run has none to miss.
        let golden = Golden::of(&plan(""), &[ran("x 4")]).unwrap();
        let by_itself = Ran { injections: Vec::new(), ..ran("x 4") };
        let verdict = judge(&plan(""), &golden, Kind::Golden, &by_itself).unwrap();
        assert_eq!(verdict.outcome, Outcome::Masked);
        assert_eq!(judged("", &by_itself).0, Outcome::NotInjected);
    }

    #[test]
    fn what_it_prints_tells_that_it_noticed() {
        use Outcome as O;
        let pattern = "[detected]\npattern = ['^bad']";
        let judged = |ran: &Ran| judged(pattern, ran);
        assert_eq!(judged(&ran("x 4\nbad\n")), (O::Detected, "it printed 'bad'".to_owned()));
        assert_eq!(judged(&ran("not bad")).0, O::Sdc);
        let stderr = |ending| Ran { stderr: output("bad"), ..ended("x 4", ending) };
        assert_eq!(judged(&stderr(Ending::Exited(1))).0, O::Detected);
        assert_eq!(judged(&stderr(Ending::Signal(6))).0, O::Crash);
        assert_eq!(judged(&stderr(Ending::Hung(Hang::Blocked))).0, O::Hang);
    }

    #[test]
    fn a_tolerance_is_for_numbers_and_no_others() {
        let tolerant = r"
            [[metric]]
            name = 'm'
            regex = 'x (\S+)'
            absolute = 0.5";
        let judged = |text: &str| judged_by(tolerant, &["x 4"], &ran(text));
        assert!(!judged("x 4").tolerated && judged("x 4.5").tolerated && judged("x 3.5").tolerated);
        for (text, why) in [
            ("x 4.6", "m is 4.6e0"),
            ("x nan", "m is NaN"),
            ("x -inf", "m is -inf"),
            ("x ?", "m is missing"),
            ("", "m is missing"),
        ] {
            let verdict = judged(text);
            assert_eq!((verdict.outcome, verdict.why.as_str()), (Outcome::Sdc, why));
        }
        let exact = format!("[output]\nexact = true\n{tolerant}");
        assert_eq!(super::tests::judged(&exact, &ran("x 4.5")).0, Outcome::Sdc);
    }

    #[test]
    fn variables_and_counters_must_be_numbers() {
        let variable = "[[metric]]\nname = 'm'\nvariable = 'x'";
        let plan = plan(variable);
        let with = |value| Ran { variables: vec![value], ..ran("x 4") };
        let golden = Golden::of(&plan, &[with(Some(1.0))]).unwrap();
        let judge = |ran: &Ran| judge(&plan, &golden, Kind::Injected, ran).unwrap().why;
        assert_eq!(judge(&with(Some(2.0))), "");
        assert_eq!(judge(&with(None)), "m is missing");
        assert_eq!(judge(&with(Some(f64::NAN))), "m is NaN");
        assert_eq!(judge(&with(Some(f64::INFINITY))), "m is inf");
    }

    #[test]
    fn where_output_is_another_each_time_the_golden_runs_noise_decides() {
        let metric = r"
            [[metric]]
            name = 'm'
            regex = 'x (\S+)'";
        let judged = |metric: &str, text: &str| {
            let verdict = judged_by(metric, &["x 4 a", "x 6 b"], &ran(text));
            (verdict.outcome, verdict.tolerated)
        };
        assert_eq!(judged(metric, "x 5 c"), (Outcome::Masked, true));
        assert_eq!(judged(metric, "x 6.1 c").0, Outcome::Sdc);
        assert_eq!(judged(metric, "x nan").0, Outcome::Sdc);
        let tolerant = format!("{metric}\nabsolute = 0.5");
        assert_eq!(judged(&tolerant, "x 6.5 c"), (Outcome::Masked, true));
        assert_eq!(judged(&tolerant, "x 6.6 c").0, Outcome::Sdc);
    }

    #[test]
    fn lines_that_are_ignored_do_not_count() {
        let ignore = "[output]\nignore = ['^Time']";
        let outcome = |text: &str| judged_by(ignore, &["x 4\nTime 1"], &ran(text)).outcome;
        assert_eq!(outcome("x 4\nTime 2"), Outcome::Masked);
        assert_eq!(outcome("x 5\nTime 1"), Outcome::Sdc);
        // What of it was cut cannot be compared line by line.
        let mut cut = ran("x 4\nTime 2");
        cut.stdout.total += 100;
        assert_eq!(judged_by(ignore, &["x 4\nTime 1"], &cut).outcome, Outcome::Sdc);
    }

    #[test]
    fn a_command_decides_on_outputs_that_differ() {
        let command = |script: &str, text: &str| {
            let plan = plan(&format!("[output]\ncommand = ['sh', '-c', '{script}', 'sh']"));
            let golden = Golden::of(&plan, &[ran("x 4")]).unwrap();
            judge(&plan, &golden, Kind::Injected, &ran(text))
        };
        let alike = command("grep -q 4 $1 && grep -q 5 $2", "x 5").unwrap();
        assert!(alike.tolerated && alike.outcome == Outcome::Masked);
        assert_eq!(command("exit 1", "x 5").unwrap().outcome, Outcome::Sdc);
        // It is not asked where they are the same.
        assert_eq!(command("exit 1", "x 4").unwrap().outcome, Outcome::Masked);
        let error = command("exit 2", "x 5").unwrap_err().to_string();
        assert!(error.contains("ended with exit status: 2: 0 is alike, 1 differs"), "{error}");
        let plan = plan("[output]\ncommand = ['./vmfi-no-such-command']");
        let golden = Golden::of(&plan, &[ran("x 4")]).unwrap();
        let error = judge(&plan, &golden, Kind::Injected, &ran("x 5")).unwrap_err();
        assert!(error.to_string().contains("cannot run ./vmfi-no-such-command"), "{error}");
    }
}
