//! What the program does without faults: what trials are judged by.

use super::outcome::detected;
use super::plan::{Metric, Plan, Source};
use super::ran::{Ending, Ran};
use crate::digest;
use crate::victim::Output;
use std::time::Duration;

/// Golden runs that do not serve.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The program does not end as it should.
    #[error("the program fails without any fault: a golden run {how}{}", said(.stderr))]
    Fails {
        /// How it ended.
        how: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// The plan takes what the program does by itself for a sign that it has noticed a fault.
    #[error(
        "the program is 'detected' without any fault: a golden run shows '{0}', which [detected] names, and so would every trial"
    )]
    Detected(String),
    /// What it prints differs from run to run, and nothing else tells right from wrong.
    #[error(
        "the program's output is another one each time, without any fault: leave out the lines that differ with 'ignore' in [output], or name what counts with [[metric]]"
    )]
    NotRepeatable,
    /// A metric is missing.
    #[error("golden run: the metric '{0}' is not a finite number; check its regex or variable")]
    NoMetric(String),
    /// There is none.
    #[error("no golden run is finished yet: 'vmfi campaign run' makes them first")]
    None,
    /// A new start of the guest shows something else.
    #[error(
        "the program's output, or how it ends, is not what it was when this campaign began: take a new store"
    )]
    Changed,
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it says: {stderr}") }
}

/// The values that a metric had in the golden runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// The lowest,
    pub low: f64,
    /// and the highest.
    pub high: f64,
}

impl Band {
    /// The one value, or what lies in the middle.
    pub fn middle(self) -> f64 {
        self.low / 2.0 + self.high / 2.0
    }

    /// Whether it holds `value`.
    pub fn holds(self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// What the program does without faults.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Its output, of the first golden run.
    pub stdout: Output,
    /// Whether the lines that count are the same each time.
    pub repeatable: bool,
    /// Its exit status.
    pub status: u8,
    /// How long it takes on the host's clock, by the median.
    pub time: Duration,
    /// CPU time that it uses, by the median.
    pub cpu_time: Duration,
    /// CPU time that QEMU uses meanwhile, likewise.
    pub host_cpu_time: Duration,
    /// The most iterations.
    pub iterations: Option<f64>,
    /// How long one takes, by the median; where none was seen, as long as all of the run lets it.
    pub iteration_time: Duration,
    /// The plan's metrics, in their order.
    pub bands: Vec<Band>,
}

impl Golden {
    /// What `runs` show.
    pub fn of(plan: &Plan, runs: &[Ran]) -> Result<Self, GoldenError> {
        let statuses = runs.iter().map(status).collect::<Result<Vec<_>, _>>()?;
        if let Some(sign) = runs.iter().find_map(|run| detected(plan, run)) {
            return Err(GoldenError::Detected(sign));
        }
        let (first, status) = match (runs.first(), statuses.first()) {
            (Some(first), Some(status)) => (first, *status),
            _ => return Err(GoldenError::None),
        };
        let same = |run: &Ran| same_output(plan, &run.stdout, &first.stdout);
        let repeatable = runs.iter().all(same) && statuses.iter().all(|own| *own == status);
        if !repeatable && plan.metrics.is_empty() && plan.output.command.is_none() {
            return Err(GoldenError::NotRepeatable);
        }
        let bands = (0..plan.metrics.len()).map(|index| band(plan, runs, index));
        let iterations = runs.iter().filter_map(|run| run.iterations).reduce(f64::max);
        let of_all = |time: fn(&Ran) -> Duration| median(runs.iter().map(time)).unwrap_or_default();
        let time = of_all(|run| run.time);
        let each = median(runs.iter().filter_map(|run| run.iteration_time));
        Ok(Self {
            stdout: first.stdout.clone(),
            repeatable,
            status,
            time,
            cpu_time: of_all(|run| run.cpu_time),
            host_cpu_time: of_all(|run| run.host_cpu_time),
            iterations,
            iteration_time: each
                .unwrap_or_else(|| time.div_f64(iterations.unwrap_or(1.0).max(1.0))),
            bands: bands.collect::<Result<_, _>>()?,
        })
    }

    /// In how much of its time QEMU computes.
    pub fn host_cpu_share(&self) -> f64 {
        let share = self.host_cpu_time.as_secs_f64() / self.time.as_secs_f64();
        if share.is_finite() { share } else { 1.0 }
    }

    /// An error unless `run`, of a new start of the guest, is another golden run.
    pub fn check(&self, plan: &Plan, run: &Ran) -> Result<(), GoldenError> {
        let same = !self.repeatable || same_output(plan, &run.stdout, &self.stdout);
        let same = same && status(run)? == self.status;
        same.then_some(()).ok_or(GoldenError::Changed)
    }
}

/// The exit status of a golden run, which must end well.
fn status(run: &Ran) -> Result<u8, GoldenError> {
    let how = match &run.ending {
        Ending::Exited(0) => return Ok(0),
        Ending::Exited(status) => format!("ends with status {status}"),
        Ending::Signal(signal) => format!("is ended by signal {signal}"),
        Ending::Hung(_) => "does not end".to_owned(),
        Ending::GuestCrash(why) => format!("takes the guest's kernel down: {why}"),
    };
    let stderr = String::from_utf8_lossy(&run.stderr.tail).into_owned();
    let stderr = stderr.lines().last().unwrap_or_default().escape_default().to_string();
    Err(GoldenError::Fails { how, stderr })
}

fn band(plan: &Plan, runs: &[Ran], index: usize) -> Result<Band, GoldenError> {
    let name = || plan.metrics.get(index).map(|metric| metric.name.clone()).unwrap_or_default();
    let values = runs.iter().map(|run| value(plan, run, index).filter(|own| own.is_finite()));
    let values = values.collect::<Option<Vec<_>>>().ok_or_else(|| GoldenError::NoMetric(name()))?;
    let (low, high) =
        (values.iter().copied().reduce(f64::min), values.into_iter().reduce(f64::max));
    low.zip(high).map(|(low, high)| Band { low, high }).ok_or_else(|| GoldenError::NoMetric(name()))
}

/// The plan's metric of number `index` in `run`, as far as it has one.
pub fn value(plan: &Plan, run: &Ran, index: usize) -> Option<f64> {
    match &plan.metrics.get(index)?.source {
        Source::Variable(_) => run.variables.get(index).copied().flatten(),
        Source::Output(_) => plan.metrics.get(index)?.captured(&run.stdout.tail),
    }
}

impl Metric {
    /// What it captures in `output`: its last match.
    pub fn captured(&self, output: &[u8]) -> Option<f64> {
        let Source::Output(regex) = &self.source else { return None };
        let text = String::from_utf8_lossy(output);
        let last = regex.captures_iter(&text).last()?;
        last.get(1)?.as_str().trim().parse().ok()
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// Whether the lines that count are the same. Of outputs that were cut, all lines count alike.
pub fn same_output(plan: &Plan, one: &Output, other: &Output) -> bool {
    if plan.output.ignore.is_empty() || one.cut() || other.cut() {
        return (one.total, one.hash) == (other.total, other.hash);
    }
    lines(plan, &one.tail) == lines(plan, &other.tail)
}

/// What tells an output from others, by the lines that count.
pub fn output_digest(plan: &Plan, output: &Output) -> String {
    if plan.output.ignore.is_empty() || output.cut() {
        return format!("{:016x} of {} bytes", output.hash, output.total);
    }
    digest::of_bytes(lines(plan, &output.tail).join("\n").as_bytes())
}

/// The lines of `output` that count.
fn lines(plan: &Plan, output: &[u8]) -> Vec<String> {
    let ignored = |line: &str| plan.output.ignore.iter().any(|regex| regex.is_match(line));
    let text = String::from_utf8_lossy(output);
    text.split('\n').filter(|line| !ignored(line)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ran::Hang;
    use super::super::samples::{ended, output, plan, ran};
    use super::*;

    const METRIC: &str = "[[metric]]\nname = 'm'\nregex = 'x (\\S+)'";

    fn of(tables: &str, runs: &[Ran]) -> Result<Golden, String> {
        Golden::of(&plan(tables), runs).map_err(|error| error.to_string())
    }

    #[test]
    fn what_runs_have_in_common() {
        let timed = |ms| Ran { time: Duration::from_millis(ms), ..ran("x 4") };
        let counted = |count| Ran { iterations: Some(count), ..timed(90) };
        let golden = of(METRIC, &[timed(10), timed(30), counted(7.0), timed(20)]).unwrap();
        assert!(golden.repeatable && golden.stdout == output("x 4"));
        assert_eq!((golden.time, golden.iterations), (Duration::from_millis(30), Some(7.0)));
        assert_eq!(golden.bands, [Band { low: 4.0, high: 4.0 }]);
        assert!(of("", &[]).unwrap_err().starts_with("no golden run"));
    }

    #[test]
    fn what_varies_needs_a_metric_or_a_command() {
        let runs = [ran("x 4"), ran("x -1"), ran("x 9")];
        assert!(of("", &runs).unwrap_err().contains("another one each time"));
        assert!(of("[output]\nignore = ['^x']", &runs).unwrap().repeatable);
        assert!(!of("[output]\ncommand = ['cmp']", &runs).unwrap().repeatable);
        let golden = of(METRIC, &runs).unwrap();
        assert!(!golden.repeatable);
        assert_eq!(golden.bands, [Band { low: -1.0, high: 9.0 }]);
        assert_eq!(golden.bands[0].middle(), 4.0);
        assert!(golden.bands[0].holds(9.0) && !golden.bands[0].holds(f64::NAN));
    }

    #[test]
    fn a_metric_must_be_there_and_finite() {
        for text in ["", "x ?", "x nan", "x inf"] {
            let error = of(METRIC, &[ran("x 4"), ran(text)]).unwrap_err();
            assert!(error.contains("'m' is not a finite number"), "{text}: {error}");
        }
        let last = Metric::captured(&plan(METRIC).metrics[0], b"x 1\nx 2e-3\n\xff");
        assert_eq!(last, Some(2e-3));
    }

    #[test]
    fn a_program_that_fails_by_itself_is_told_with_what_it_says() {
        for (ending, how) in [
            (Ending::Exited(3), "ends with status 3"),
            (Ending::Signal(11), "is ended by signal 11"),
            (Ending::Hung(Hang::Blocked), "does not end"),
            (Ending::GuestCrash("panic".to_owned()), "takes the guest's kernel down: panic"),
        ] {
            let failed = Ran { stderr: output("first\nno \x1b[2Jfile\n"), ..ended("", ending) };
            let error = of("", &[ran(""), failed]).unwrap_err();
            let told = format!("a golden run {how}; it says: no \\u{{1b}}[2Jfile");
            assert!(error.ends_with(&told), "{error}");
        }
    }

    #[test]
    fn another_start_of_the_guest_must_show_the_same() {
        let plan = plan("");
        let golden = Golden::of(&plan, &[ran("x 4")]).unwrap();
        assert!(golden.check(&plan, &ran("x 4")).is_ok());
        assert!(matches!(golden.check(&plan, &ran("x 5")), Err(GoldenError::Changed)));
        let fails = ended("x 4", Ending::Exited(1));
        assert!(matches!(golden.check(&plan, &fails), Err(GoldenError::Fails { .. })));
    }

    #[test]
    fn outputs_are_told_apart_by_the_lines_that_count() {
        let all = plan("");
        let some = plan("[output]\nignore = ['^Time']");
        let (one, other) = (output("x\nTime 1"), output("x\nTime 2"));
        assert_ne!(output_digest(&all, &one), output_digest(&all, &other));
        assert_eq!(output_digest(&some, &one), output_digest(&some, &other));
        assert_ne!(output_digest(&some, &one), output_digest(&some, &output("y\nTime 1")));
    }

    #[test]
    fn what_the_program_does_by_itself_is_no_sign_of_a_fault() {
        for sign in ["status = [0]", "pattern = ['x']"] {
            let plan = plan(&format!("[detected]\n{sign}"));
            let golden = Golden::of(&plan, &[ran("x")]);
            assert!(matches!(golden, Err(GoldenError::Detected(_))), "{sign}");
        }
    }
}
