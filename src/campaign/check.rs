//! What a plan says, table by table, before it is looked at as a whole: what contradicts, and what
//! would be of no effect.

use super::fault::{EACH, Faults};
use super::mistake::Mistake;
use super::plan::{
    self, Change, Curve, Detected, Fault, Guest, LARGEST_SEED, Limits, Metric, OWN_METRICS, Output,
    Over, Plan, Program, Published, Spread, When,
};
use super::tables::OutputKeys;
use super::values;
use crate::site::Target;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::path::Path;
use toml::{Spanned, Value};

/// The most trials of a kind.
const MOST_TRIALS: u64 = 1_000_000;
/// The most injections of a trial.
const MOST_INJECTIONS: u64 = 10_000;
/// The most injections of all trials: they are held in memory.
const MOST_DRAWS: u64 = 10_000_000;
/// Fewer runs tell nothing of how repeatable a program is.
const LEAST_GOLDEN: u64 = 10;

/// The plan's keys, before they are looked at together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keys {
    name: Option<String>,
    #[serde(default, deserialize_with = "values::whole::<0, LARGEST_SEED, _, _>")]
    seed: u64,
    #[serde(deserialize_with = "trials")]
    trials: Trials,
    #[serde(default, deserialize_with = "values::whole::<1, MOST_INJECTIONS, _, _>")]
    injections: Option<u64>,
    #[serde(
        default = "least_golden",
        deserialize_with = "values::whole::<LEAST_GOLDEN, MOST_TRIALS, _, _>"
    )]
    golden: u64,
    #[serde(default = "sixty", deserialize_with = "values::whole::<0, MOST_TRIALS, _, _>")]
    null: u64,
    #[serde(default)]
    guest: Guest,
    program: Spanned<Program>,
    target: Vec<Spanned<plan::Target>>,
    fault: Vec<Faults>,
    when: Option<Spanned<When>>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    detected: Detected,
    output: Option<Spanned<OutputKeys>>,
    #[serde(default)]
    metric: Vec<Spanned<Metric>>,
    #[serde(default)]
    curve: Vec<Spanned<Curve>>,
    #[serde(default)]
    published: Vec<Spanned<Published>>,
}

/// How many trials with faults.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trials {
    /// So many, drawn.
    Count(u64),
    /// Every target with every fault at every moment.
    All,
}

impl From<u64> for Trials {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

fn trials<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Trials, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) if text == "all" => Ok(Trials::All),
        typed => values::whole::<1, MOST_TRIALS, _, _>(typed)
            .map_err(|error| D::Error::custom(format!("{}, or \"all\"", error.message()))),
    }
}

impl Keys {
    /// What contradicts, or is of no effect, only beside other keys.
    pub fn check(&self) -> Result<(), Mistake> {
        self.check_trials()?;
        self.check_program()?;
        self.check_when()?;
        self.check_targets()?;
        self.check_census()?;
        self.check_output()?;
        self.check_metrics()?;
        self.check_curves()
    }

    fn check_trials(&self) -> Result<(), Mistake> {
        let all = (self.count() + self.null).saturating_mul(self.injections.unwrap_or(1));
        let what = format!("{all} injections in all are too many: at most {MOST_DRAWS}");
        (all <= MOST_DRAWS).then_some(()).ok_or(Mistake::new(0..0, what))
    }

    fn check_program(&self) -> Result<(), Mistake> {
        let program = self.program.get_ref();
        let wrong = |what: &str| Err(Mistake::new(self.program.span(), what));
        if program.command.first().is_none_or(String::is_empty) {
            return wrong("'command' must name the program first");
        }
        if program.counter.as_deref().is_some_and(Target::may_be_region) {
            return wrong("'counter' is a region: name a variable");
        }
        if program.counter.is_some() && program.reached(1).is_none() {
            return wrong("'counter' is no target");
        }
        let own = program.command.len() > 1 || !program.add.is_empty();
        if matches!(self.guest, Guest::Own(_)) && (own || program.randomize_addresses) {
            return wrong(
                "the own QEMU of [guest] starts the program by itself: give its file alone as 'command', and neither 'add' nor 'randomize-addresses'",
            );
        }
        Ok(())
    }

    fn check_when(&self) -> Result<(), Mistake> {
        let Some(when) = &self.when else { return Ok(()) };
        let wrong = |what: &str| Err(Mistake::new(when.span(), what));
        let counter = &self.program.get_ref().counter;
        match when.get_ref() {
            When::Drawn(Over::Iterations { .. }, _) if counter.is_none() => {
                wrong("over = \"iterations\" needs 'counter' in [program]")
            }
            When::Every(_) if self.injections.is_some() => {
                wrong("'every' injects until the program ends: leave out 'injections'")
            }
            _ => Ok(()),
        }
    }

    fn check_targets(&self) -> Result<(), Mistake> {
        let none = |table: &str| Mistake::new(0..0, format!("no [[{table}]]: give at least one"));
        self.target.first().ok_or_else(|| none("target"))?;
        self.fault.first().ok_or_else(|| none("fault"))?;
        self.target.iter().try_for_each(|target| {
            let wrong = |what: String| Mistake::new(target.span(), what);
            if target.get_ref().at.trim().is_empty() {
                return Err(wrong("'at' must name a place".to_owned()));
            }
            self.faults().try_for_each(|fault| {
                let checked = target.get_ref().order(fault).check();
                checked.map_err(|why| wrong(format!("cannot take '{}': {why}", fault.change)))
            })
        })
    }

    /// Nothing may be drawn where all that there is is tried.
    fn check_census(&self) -> Result<(), Mistake> {
        if self.trials != Trials::All {
            return Ok(());
        }
        let wrong = |what: String| Err(Mistake::new(0..0, format!("trials = \"all\": {what}")));
        let regions = self.target.iter().any(|target| Target::may_be_region(&target.get_ref().at));
        let drawn = self.faults().find(|fault| match &fault.change {
            Change::Model(model) => model.draws(),
            Change::Value(_) => false,
        });
        let weights = self.target.iter().map(|target| target.get_ref().weight);
        let count = self.count();
        if self.moments().is_none() {
            return wrong("give a 'trigger' in [when], or over = \"iterations\" with 'to' and 'phase', each iteration once".to_owned());
        } else if self.injections.is_some_and(|count| count != 1) {
            return wrong("each has one injection: leave out 'injections'".to_owned());
        } else if regions {
            return wrong("a place in a region is drawn: name variables".to_owned());
        } else if let Some(fault) = drawn {
            let change = &fault.change;
            return wrong(format!(
                "'{change}' is another one each time: take '{EACH}', 'flip-bits', 'value' or the like"
            ));
        } else if weights
            .chain(self.fault.iter().map(|table| table.weight))
            .any(|weight| weight != 1.0)
        {
            return wrong("nothing is drawn: leave out 'weight'".to_owned());
        } else if count > MOST_TRIALS {
            return wrong(format!("that is {count}: at most {MOST_TRIALS}"));
        }
        Ok(())
    }

    /// How many trials with faults there are.
    fn count(&self) -> u64 {
        match self.trials {
            Trials::Count(count) => count,
            Trials::All => {
                let places = self.target.len() as u64 * self.faults().count() as u64;
                places.saturating_mul(self.moments().unwrap_or(1))
            }
        }
    }

    /// How many moments there are to inject at; none where they are drawn.
    fn moments(&self) -> Option<u64> {
        match self.when.as_ref().map(Spanned::get_ref) {
            Some(When::Trigger(_)) => Some(1),
            Some(When::Drawn(over, Spread::Uniform)) => over.moments(),
            _ => None,
        }
    }

    fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.fault.iter().flat_map(|table| &table.all)
    }

    fn check_output(&self) -> Result<(), Mistake> {
        let Some(output) = &self.output else { return Ok(()) };
        let wrong = |what: &str| Err(Mistake::new(output.span(), what));
        let OutputKeys { exact, command, .. } = output.get_ref();
        if command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
            return wrong("'command' must name a command");
        }
        match (exact, self.tells_alike()) {
            (Some(false), false) => wrong(
                "without 'exact' nothing tells an SDC: give 'command', or a [[metric]] with a tolerance",
            ),
            _ => Ok(()),
        }
    }

    fn check_metrics(&self) -> Result<(), Mistake> {
        self.metric.iter().enumerate().try_for_each(|(number, metric)| {
            let name = &metric.get_ref().name;
            let earlier = self.metric[..number].iter().any(|other| other.get_ref().name == *name);
            let wrong = |what: String| Err(Mistake::new(metric.span(), what));
            match (earlier, OWN_METRICS.contains(&name.as_str())) {
                (true, _) => wrong(format!("'{name}' is the name of another metric")),
                (_, true) => wrong(format!("'{name}' is measured anyway: give another name")),
                _ => Ok(()),
            }
        })
    }

    fn check_curves(&self) -> Result<(), Mistake> {
        let counter = self.program.get_ref().counter.is_some();
        self.curve.iter().enumerate().try_for_each(|(number, curve)| {
            let name = &curve.get_ref().name;
            let earlier = self.curve[..number].iter().any(|other| other.get_ref().name == *name);
            let wrong = |what: String| Err(Mistake::new(curve.span(), what));
            match (counter, earlier) {
                (false, _) => wrong(
                    "a curve has a point for each iteration: it needs 'counter' in [program]"
                        .to_owned(),
                ),
                (true, true) => wrong(format!("'{name}' is the name of another curve")),
                _ => Ok(()),
            }
        })?;
        self.published.iter().try_for_each(|published| {
            let wanted = &published.get_ref().metric;
            let own = self.metric.iter().map(|metric| metric.get_ref().name.as_str());
            let known = own.chain(OWN_METRICS).any(|name| name == wanted);
            let what =
                || Mistake::new(published.span(), format!("there is no [[metric]] '{wanted}'"));
            known.then_some(()).ok_or_else(what)
        })
    }

    /// Whether something tells that outputs which differ are good enough.
    fn tells_alike(&self) -> bool {
        let command = self.output.as_ref().is_some_and(|own| own.get_ref().command.is_some());
        command || self.metric.iter().any(|metric| metric.get_ref().tolerance.is_some())
    }

    /// The plan, which `text` is and which was read from the file at `path`.
    pub fn plan(self, text: String, path: &Path) -> Plan {
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let tells_alike = self.tells_alike();
        let trials = self.count();
        let output = self.output.map(Spanned::into_inner).unwrap_or_default();
        Plan {
            name: self.name.unwrap_or_else(stem),
            seed: self.seed,
            trials,
            census: self.trials == Trials::All,
            injections: self.injections.unwrap_or(1),
            golden: self.golden,
            null: self.null,
            guest: self.guest,
            program: self.program.into_inner(),
            targets: self.target.into_iter().map(Spanned::into_inner).collect(),
            faults: self.fault.into_iter().flat_map(|table| table.all).collect(),
            when: self.when.map(Spanned::into_inner).unwrap_or_default(),
            limits: self.limits,
            detected: self.detected,
            output: Output {
                exact: output.exact.unwrap_or(!tells_alike),
                ignore: output.ignore,
                command: output.command,
            },
            metrics: self.metric.into_iter().map(Spanned::into_inner).collect(),
            curves: self.curve.into_iter().map(Spanned::into_inner).collect(),
            published: self.published.into_iter().map(Spanned::into_inner).collect(),
            text,
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }
}

fn sixty() -> u64 {
    60
}

fn least_golden() -> u64 {
    LEAST_GOLDEN
}
