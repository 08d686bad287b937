//! What a campaign's store shows: it is read, and nothing else is.

mod statistics;

pub use statistics::{Share, Statistics};

use crate::campaign::outcome::Outcome;
use crate::campaign::store::{GOLDEN, NOT_REPEATABLE, Store, StoreError};
use crate::campaign::{Kind, Plan, summary};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Fewer null trials than this tell little of the noise.
const ENOUGH_NULL: u64 = 60;

/// What a store shows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The plan's name.
    pub plan: String,
    /// How many trials with faults are finished.
    pub trials: u64,
    /// How many there are to be.
    pub planned: u64,
    /// What they were drawn from.
    pub sampled_from: String,
    /// What they came to. Shares are of those into which a fault went; that of those into which none
    /// did is of all.
    pub outcomes: BTreeMap<&'static str, Share>,
    /// Of the masked, those whose output differs and is tolerated.
    pub tolerated: u64,
    /// What had become of the faults when they were last looked at, and of how many.
    pub fates: BTreeMap<String, u64>,
    /// Outcomes of the null trials.
    pub null: BTreeMap<&'static str, Share>,
    /// What there is to warn of.
    pub warnings: Vec<String>,
    /// Runs that came to nothing, for no fault of the program, and were made again.
    pub failures: u64,
    /// What was measured.
    pub metrics: BTreeMap<String, Metric>,
}

/// A metric of the runs without faults, and of those with.
#[derive(Clone, Debug, Serialize)]
pub struct Metric {
    /// Of the golden runs.
    pub golden: Option<Statistics>,
    /// Of the trials into which a fault went, as far as they have a finite value.
    pub injected: Option<Statistics>,
    /// How many of these have none.
    pub not_finite: u64,
}

impl Report {
    /// That of `store`.
    pub fn of(store: &Store) -> Result<Self, StoreError> {
        let plan = store.plan()?;
        let all = store.trials(&[])?;
        let outcomes = |kind: Kind| {
            let of_kind = all.iter().filter(move |run| run.trial.kind == kind);
            of_kind.filter_map(|run| run.verdict.clone()).collect::<Vec<_>>()
        };
        let (injected, null) = (outcomes(Kind::Injected), outcomes(Kind::Null));
        let planned = all.iter().filter(|run| run.trial.kind == Kind::Injected).count() as u64;
        let mut report = Self {
            plan: plan.name.clone(),
            trials: injected.len() as u64,
            planned,
            sampled_from: summary::sampled_from(&plan),
            outcomes: shares(injected.iter().map(|verdict| verdict.outcome)),
            tolerated: injected.iter().filter(|verdict| verdict.tolerated).count() as u64,
            fates: store.fates()?,
            null: shares(null.iter().map(|verdict| verdict.outcome)),
            warnings: Vec::new(),
            failures: store.failures()?,
            metrics: metrics(&plan, store)?,
        };
        report.warnings = report.warn(null.len() as u64);
        let printed = store.facts()?.remove(GOLDEN);
        if printed.is_some_and(|printed| printed == NOT_REPEATABLE) {
            let what = "the program's output is another one each time: trials are judged by the noise band of the golden runs";
            report.warnings.push(what.to_owned());
        }
        Ok(report)
    }

    fn warn(&self, null: u64) -> Vec<String> {
        let mut warnings = Vec::new();
        // Into one that came to no moment nothing would have gone: it tells nothing of the noise.
        let count = |outcome: Outcome| self.null.get(outcome.name()).map_or(0, |own| own.count);
        let fine = count(Outcome::Masked) + count(Outcome::NotInjected);
        if fine < null {
            let bad = null - fine;
            warnings.push(format!(
                "{bad} of {null} null trials, into which no fault went, are not masked: outcomes of trials may be noise"
            ));
        }
        if null < ENOUGH_NULL {
            warnings.push(format!("only {null} null trials; {ENOUGH_NULL} are usual"));
        }
        if self.trials < self.planned {
            let (done, all) = (self.trials, self.planned);
            warnings.push(format!("only {done} of {all} trials are finished"));
        }
        warnings
    }
}

fn shares(outcomes: impl Iterator<Item = Outcome> + Clone) -> BTreeMap<&'static str, Share> {
    let all = outcomes.clone().count() as u64;
    let count = |wanted: Outcome| outcomes.clone().filter(|own| *own == wanted).count() as u64;
    let injected = all - count(Outcome::NotInjected);
    let share = |outcome: Outcome| match outcome {
        Outcome::NotInjected => Share::of(count(outcome), all),
        outcome => Share::of(count(outcome), injected),
    };
    Outcome::ALL.into_iter().map(|outcome| (outcome.name(), share(outcome))).collect()
}

fn metrics(plan: &Plan, store: &Store) -> Result<BTreeMap<String, Metric>, StoreError> {
    let mut values: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let mut injected = 0;
    for run in store.trials(&[])? {
        let landed = run.verdict.as_ref().is_some_and(|own| own.outcome != Outcome::NotInjected);
        let golden = run.trial.kind == Kind::Golden;
        if !landed || run.trial.kind == Kind::Null {
            continue;
        }
        injected += u64::from(!golden);
        for (name, value) in store.metrics(run.trial.number)? {
            let (of_golden, of_injected) = values.entry(name).or_default();
            let own = if golden { of_golden } else { of_injected };
            own.extend(Some(value).filter(|value| value.is_finite()));
        }
    }
    // Those of which no run has a value are named too.
    for metric in &plan.metrics {
        values.entry(metric.name.clone()).or_default();
    }
    let metric = |(name, (golden, own)): (String, (Vec<f64>, Vec<f64>))| {
        let not_finite = injected - own.len() as u64;
        let (golden, injected) = (Statistics::of(&golden), Statistics::of(&own));
        (name, Metric { golden, injected, not_finite })
    };
    Ok(values.into_iter().map(metric).collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "! {warning}")?;
        }
        writeln!(f, "{}: {} trials, {}", self.plan, self.trials, self.sampled_from)?;
        for outcome in Outcome::ALL {
            let Some(share) = self.outcomes.get(outcome.name()) else { continue };
            let Share { count, share, low, high } = share;
            let (share, low, high) = (100.0 * share, 100.0 * low, 100.0 * high);
            let name = outcome.name();
            writeln!(f, "{name:<13}{count:>7}  {share:>5.1} %  [{low:.1}, {high:.1}]")?;
        }
        if self.tolerated > 0 {
            writeln!(f, "of the masked, {} differ and are tolerated", self.tolerated)?;
        }
        if !self.fates.is_empty() {
            let fates = self.fates.iter().map(|(fate, count)| format!("{fate} {count}"));
            writeln!(f, "faults at the end: {}", fates.collect::<Vec<_>>().join(", "))?;
        }
        for (name, metric) in &self.metrics {
            for (what, own) in [("golden", metric.golden), ("injected", metric.injected)] {
                let Some(own) = own else { continue };
                let Statistics { runs, min, max, mean, median, mode, variance, sd } = own;
                writeln!(
                    f,
                    "{name}, {what}: {runs} runs, minimum {min}, maximum {max}, mean {mean}, median {median}, mode {mode}, variance {variance:e}, standard deviation {sd:e}"
                )?;
            }
        }
        if self.failures > 0 {
            writeln!(f, "{} runs came to nothing and were made again", self.failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::samples::{facts, plan, ran, verdict};
    use crate::campaign::{Shard, Trial, expand};
    use Outcome as O;

    /// The report of a campaign whose trials came to these, one after the other.
    fn report(null: &[Outcome], injected: &[Outcome], planned: u64) -> Report {
        let least = plan("").text.replace("null = 1", &format!("null = {}", null.len()));
        let text = least.replace("trials = 2", &format!("trials = {planned}"));
        let plan = Plan::parse(text, "p.toml".as_ref()).unwrap();
        let trials = expand::trials(&plan, Shard::WHOLE);
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("a.db")).unwrap();
        store.begin(&facts(&plan, "0/1"), &trials).unwrap();
        let golden = [O::Masked; 10];
        for (kind, outcomes) in
            [(Kind::Golden, &golden[..]), (Kind::Null, null), (Kind::Injected, injected)]
        {
            let own = trials.iter().filter(|trial| trial.kind == kind);
            own.zip(outcomes).for_each(|own| finish(&mut store, &plan, own));
        }
        Report::of(&store).unwrap()
    }

    fn finish(store: &mut Store, plan: &Plan, (trial, outcome): (&Trial, &Outcome)) {
        let tolerated = *outcome == O::Masked && trial.kind == Kind::Injected;
        let verdict = crate::campaign::outcome::Verdict { tolerated, ..verdict(*outcome) };
        store.finish(plan, trial, 0, (&ran("x"), &verdict)).unwrap();
    }

    #[test]
    fn shares_are_of_those_into_which_a_fault_went() {
        let all = [O::NotInjected, O::NotInjected, O::Sdc, O::Masked, O::Masked, O::Crash];
        let report = report(&[O::Masked; 60], &all, 6);
        let share = |outcome: Outcome| (report.outcomes[outcome.name()], outcome);
        assert_eq!((share(O::Sdc).0.count, share(O::Sdc).0.share), (1, 0.25));
        assert_eq!(share(O::Masked).0.share, 0.5);
        assert_eq!(share(O::NotInjected).0.share, 2.0 / 6.0);
        assert_eq!((share(O::Hang).0.count, share(O::Hang).0.share), (0, 0.0));
        assert_eq!((report.trials, report.tolerated), (6, 2));
        let cpu_time = &report.metrics["cpu_time"];
        assert_eq!(cpu_time.golden.unwrap().runs, 10);
        // Those into which none went are none of its runs.
        assert_eq!((cpu_time.injected.unwrap().runs, cpu_time.not_finite), (4, 0));
        assert_eq!(report.warnings, [""; 0]);
        assert!(report.to_string().contains("of the masked, 2 differ and are tolerated"));
    }

    #[test]
    fn what_there_is_to_warn_of_stands_first() {
        let mut null = [O::Masked; 59];
        null[7] = O::Sdc;
        null[8] = O::Hang;
        let text = report(&null, &[O::Masked], 3).to_string();
        let lines: Vec<_> = text.lines().take(3).collect();
        let told = [
            "! 2 of 59 null trials, into which no fault went, are not masked: outcomes of trials may be noise",
            "! only 59 null trials; 60 are usual",
            "! only 1 of 3 trials are finished",
        ];
        assert_eq!(lines, told);
    }
}
