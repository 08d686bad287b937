//! What a campaign's store shows: it is read, and nothing else is.
//!
//! - [`Findings`]: all that a store has. All else is made of that alone.
//! - [`Report`]: outcomes with their intervals, by target, bit and time ([`breakdown`]); what was measured
//!   ([`metric`]); how much the trials say ([`sampling`]); the failures that they stand for ([`space`]).
//! - [`Comparison`]: several stores beside each other.
//! - [`statistics`]: pure functions over numbers. [`figure`]: numbers as they are printed.
//! - `tables` and `sentences`: what it says, wherever it is shown: on a terminal (`text`), or as a [`page`] with
//!   the [`plot`]s. [`rows`]: a row for each run or injection, for other programs.

pub mod breakdown;
pub mod comparison;
pub mod figure;
pub mod findings;
pub mod metric;
pub mod page;
pub mod plot;
pub mod rows;
#[cfg(test)]
pub mod samples;
pub mod sampling;
mod sentences;
pub mod space;
pub mod statistics;
mod tables;
mod text;
mod value;

pub use comparison::Comparison;
pub use findings::Findings;

use crate::campaign::Kind;
use crate::campaign::outcome::Outcome;
use crate::campaign::store::{GOLDEN, NOT_REPEATABLE, Record};
use crate::campaign::summary;
use breakdown::{ByBit, ByTarget, ByTime, Clock, Outcomes, Tally};
use metric::Metric;
use sampling::Sampling;
use serde::Serialize;
use space::Extrapolated;
use statistics::{Estimate, Share};
use std::collections::BTreeMap;

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
    /// What they came to.
    pub outcomes: Outcomes,
    /// Where there are several targets: the shares if each target is hit as often as it has bits. Those
    /// above are of the plan's own mix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_size: Option<BTreeMap<&'static str, Estimate>>,
    /// Those that failed: all but the masked and the detected.
    pub failed: Failed,
    /// Why no fault went into some, and into how many.
    pub not_injected: BTreeMap<String, u64>,
    /// Of the masked, those whose output differs and is tolerated.
    pub tolerated: u64,
    /// What had become of the faults when they were last looked at, and of how many.
    pub fates: BTreeMap<String, u64>,
    /// How many golden runs are finished.
    pub golden: u64,
    /// Outcomes of the null trials.
    pub null: Outcomes,
    /// How much the trials say.
    pub sampling: Sampling,
    /// By target.
    pub by_target: Vec<ByTarget>,
    /// By the one bit that was changed.
    pub by_bit: Vec<ByBit>,
    /// What the time of injection is told in.
    pub clock: Clock,
    /// By the time of injection.
    pub by_time: Vec<ByTime>,
    /// The failures in all of the space that faults were drawn from,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extrapolated: Option<Extrapolated>,
    /// or why that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_extrapolated: Option<String>,
    /// What was measured.
    pub metrics: BTreeMap<String, Metric>,
    /// What there is to warn of.
    pub warnings: Vec<String>,
    /// Runs that came to nothing, for no fault of the program, and were made again.
    pub failures: u64,
}

/// Trials that failed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Failed {
    /// Of those into which a fault went.
    #[serde(flatten)]
    pub share: Share,
    /// Of all trials, if none of those had failed into which no fault went,
    pub if_none: f64,
    /// and if all of them had.
    pub if_all: f64,
}

impl Report {
    /// What `findings` show.
    pub fn of(findings: &Findings) -> Self {
        let census = findings.plan.census.then(|| findings.left());
        let all = Tally::of(findings.of_kind(Kind::Injected), census);
        let null = Tally::of(findings.of_kind(Kind::Null), None);
        let by_target = breakdown::by_target(findings);
        let extrapolated = space::extrapolated(findings, &by_target);
        Self {
            plan: findings.plan.name.clone(),
            trials: all.trials,
            planned: findings.planned,
            sampled_from: summary::sampled_from(&findings.plan),
            by_size: by_size(findings, &by_target),
            failed: Failed::of(&all),
            not_injected: not_injected(findings),
            tolerated: findings.injected().filter(|own| own.tolerated).count() as u64,
            fates: fates(findings),
            golden: findings.of_kind(Kind::Golden).count() as u64,
            sampling: sampling::sampling(findings, &all),
            by_target,
            by_bit: breakdown::by_bit(findings),
            clock: breakdown::clock(findings),
            by_time: breakdown::by_time(findings),
            not_extrapolated: extrapolated.as_ref().err().cloned(),
            extrapolated: extrapolated.ok(),
            metrics: metric::metrics(findings),
            warnings: warnings(findings, &all, &null),
            failures: findings.failures,
            outcomes: all.outcomes,
            null: null.outcomes,
        }
    }

    /// Into how many trials a fault went.
    pub fn injected(&self) -> u64 {
        let missed = self.outcomes.get(Outcome::NotInjected.name()).map_or(0, |share| share.count);
        self.trials - missed
    }
}

impl Failed {
    fn of(tally: &Tally) -> Self {
        let (share, all) = (tally.failed, tally.trials.max(1) as f64);
        let missed = tally.count(Outcome::NotInjected);
        let part = |count: u64| count as f64 / all;
        Self { share, if_none: part(share.count), if_all: part(share.count + missed) }
    }
}

/// The shares of outcomes if each of several targets is hit as often as it has bits.
fn by_size(findings: &Findings, targets: &[ByTarget]) -> Option<BTreeMap<&'static str, Estimate>> {
    if findings.plan.targets.len() < 2 || targets.len() != findings.plan.targets.len() {
        return None;
    }
    let bits = (0..targets.len()).map(|index| space::bits(findings, index));
    let bits = bits.collect::<Option<Vec<f64>>>()?;
    let all: f64 = bits.iter().sum();
    let judged = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::NotInjected);
    let sum = |outcome: Outcome| {
        let share = |(bits, own): (&f64, &ByTarget)| {
            Some((bits / all, *own.tally.outcomes.get(outcome.name())?))
        };
        let parts: Vec<_> = bits.iter().zip(targets).filter_map(share).collect();
        (outcome.name(), Estimate::sum(&parts))
    };
    Some(judged.map(sum).collect())
}

/// Why no fault went into some, and into how many.
fn not_injected(findings: &Findings) -> BTreeMap<String, u64> {
    let missed = |record: &&Record| record.outcome == Outcome::NotInjected;
    counted(findings.of_kind(Kind::Injected).filter(missed).map(|record| record.why.clone()))
}

/// What had become of the faults at the end, and of how many.
fn fates(findings: &Findings) -> BTreeMap<String, u64> {
    let injections = findings.of_kind(Kind::Injected).flat_map(|record| &record.injections);
    counted(injections.filter_map(|injection| injection.fate.clone()))
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}

fn warnings(findings: &Findings, all: &Tally, null: &Tally) -> Vec<String> {
    let mut warnings = Vec::new();
    // Into one that came to no moment nothing would have gone: it tells nothing of the noise.
    let fine = null.count(Outcome::Masked) + null.count(Outcome::NotInjected);
    let null = null.trials;
    if fine < null {
        let bad = null - fine;
        warnings.push(format!(
            "{bad} of {null} null trials, into which no fault went, are not masked: outcomes of trials may be noise"
        ));
    }
    if null < ENOUGH_NULL {
        warnings.push(format!("only {null} null trials; {ENOUGH_NULL} are usual"));
    }
    if findings.left() > 0 {
        let (done, all) = (all.trials, findings.planned);
        warnings.push(format!(
            "only {done} of {all} trials are finished: stopping where the numbers look good is another experiment"
        ));
    }
    if findings.facts.get(GOLDEN).is_some_and(|printed| printed == NOT_REPEATABLE) {
        warnings.push("the program's output is another one each time: trials are judged by the noise band of the golden runs".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::samples::{findings, runs};
    use super::*;
    use Outcome as O;

    fn report(null: &[Outcome], injected: &[Outcome]) -> Report {
        Report::of(&all(null, injected))
    }

    fn all(null: &[Outcome], injected: &[Outcome]) -> Findings {
        let kinds = [
            runs(Kind::Golden, &[O::Masked; 10]),
            runs(Kind::Null, null),
            runs(Kind::Injected, injected),
        ];
        findings("", kinds.concat())
    }

    #[test]
    fn shares_are_of_those_into_which_a_fault_went() {
        let all = [O::NotInjected, O::NotInjected, O::Sdc, O::Masked, O::Masked, O::Crash];
        let report = report(&[O::Masked; 60], &all);
        let share = |outcome: Outcome| report.outcomes[outcome.name()];
        assert_eq!((share(O::Sdc).count, share(O::Sdc).share), (1, 0.25));
        assert_eq!(share(O::Masked).share, 0.5);
        assert_eq!(share(O::NotInjected).share, 2.0 / 6.0);
        assert_eq!((share(O::Hang).count, share(O::Hang).share), (0, 0.0));
        let failed = report.failed;
        assert_eq!((failed.share.count, failed.share.share), (2, 0.5));
        assert_eq!((failed.if_none, failed.if_all), (2.0 / 6.0, 4.0 / 6.0));
        assert_eq!((report.trials, report.golden), (6, 10));
        assert_eq!(report.not_injected["it was over"], 2);
        assert_eq!(report.fates["latent"], 4);
        let cpu_time = &report.metrics["cpu_time"];
        assert_eq!(cpu_time.golden.unwrap().runs, 10);
        // Those into which none went are none of its runs.
        assert_eq!((cpu_time.injected.unwrap().runs, cpu_time.not_finite), (4, 0));
        assert_eq!(report.warnings, [""; 0]);
    }

    #[test]
    fn what_there_is_to_warn_of_stands_first() {
        let mut null = [O::Masked; 59];
        null[7] = O::Sdc;
        null[8] = O::Hang;
        let findings = Findings { planned: 3, ..all(&null, &[O::Masked]) };
        let text = Report::of(&findings).to_string();
        let lines: Vec<_> = text.lines().take(3).collect();
        let told = [
            "! 2 of 59 null trials, into which no fault went, are not masked: outcomes of trials may be noise",
            "! only 59 null trials; 60 are usual",
            "! only 1 of 3 trials are finished: stopping where the numbers look good is another experiment",
        ];
        assert_eq!(lines, told);
    }

    #[test]
    fn nothing_at_all_is_a_report_too() {
        let report = Report::of(&findings("", Vec::new()));
        assert!(report.metrics.is_empty() && report.by_bit.is_empty() && report.trials == 0);
        assert!(report.to_string().contains("no golden run is finished"), "{report}");
    }

    #[test]
    fn several_targets_are_weighed_by_their_size() {
        let tables = "[[target]]\nat = 'y'\nweight = 3\n";
        let mut records = runs(Kind::Injected, &[O::Sdc, O::Masked, O::Masked, O::Masked]);
        // The second has 3 bytes, and only masked trials.
        for record in &mut records[2..] {
            record.injections[0].target = 1;
            record.injections[0].written = Some(samples::written(&[0, 0, 0], &[0, 0, 1]));
        }
        let report = Report::of(&findings(tables, records));
        assert_eq!(report.outcomes["sdc"].share, 0.25);
        let sdc = report.by_size.as_ref().unwrap()["sdc"];
        assert_eq!(sdc.value, 0.5 * 8.0 / 32.0);
        assert!(sdc.low < sdc.value && sdc.high > sdc.value);
        let weights: Vec<_> =
            report.by_target.iter().map(|own| (&*own.target, own.weight)).collect();
        assert_eq!(weights, [("x", 0.25), ("y", 0.75)]);
        let bits: Vec<_> = report.by_bit.iter().map(|own| (&*own.target, own.bit)).collect();
        assert_eq!(bits, [("x", 1), ("y", 16)]);
        assert!(report.to_string().contains("If each target is hit as often as it has bits"));
    }

    #[test]
    fn the_papers_figures_stand_beside() {
        let tables = "[[metric]]\nname = 'r'\nregex = '(1)'\n[[published]]\nsource = 'Table 1'\nmetric = 'r'\ngolden = { runs = 30, min = 8.97885e-08 }\n";
        let mut records = runs(Kind::Golden, &[O::Masked; 2]);
        for record in &mut records {
            record.metrics.insert("r".to_owned(), 7.385861438143572e-08);
        }
        let text = Report::of(&findings(tables, records)).to_string();
        assert!(text.contains("7.385861438143572e-08") && text.contains("8.97885e-08"), "{text}");
        assert!(text.contains("golden, Table 1"), "{text}");
    }
}
