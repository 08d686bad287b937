//! Outcomes counted apart: by target, by bit, by the time of injection.
//!
//! Only trials with one injection are looked at: of several, none can be told to have made the outcome.

use super::findings::Findings;
use super::statistics::Share;
use crate::campaign::Kind;
use crate::campaign::outcome::Outcome;
use crate::campaign::plan::{Over, When};
use crate::campaign::store::Record;
use serde::Serialize;
use std::collections::BTreeMap;

/// Into at most so many parts the time of injection is cut.
const MOST_PARTS: f64 = 20.0;

/// How often each outcome is, by its name: shares are of those into which a fault went; that of those into
/// which none did is of all.
pub type Outcomes = BTreeMap<&'static str, Share>;

/// What some trials came to.
#[derive(Clone, Debug, Serialize)]
pub struct Tally {
    /// How many trials.
    pub trials: u64,
    /// What they came to.
    pub outcomes: Outcomes,
    /// Those that failed, as [`Outcome::is_failure`] has it, of those into which a fault went.
    pub failed: Share,
}

/// What the trials of a target came to.
#[derive(Clone, Debug, Serialize)]
pub struct ByTarget {
    /// The target.
    pub target: String,
    /// How likely it is beside the others: a share of all.
    pub weight: f64,
    /// Its trials.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What the trials came to that changed one bit.
#[derive(Clone, Debug, Serialize)]
pub struct ByBit {
    /// The target.
    pub target: String,
    /// Which bit of what was written, 0 the lowest.
    pub bit: u64,
    /// Its trials.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What the trials came to that were injected into at some time.
#[derive(Clone, Debug, Serialize)]
pub struct ByTime {
    /// From here on,
    pub from: f64,
    /// to here, not included.
    pub to: f64,
    /// Their trials.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What the time of injection is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The program's counter, as it was at the write.
    Iterations,
    /// Seconds from the program's start on.
    Seconds,
}

impl Tally {
    /// Of `records`; of a census nothing is sampled, and so many of it are `left`.
    pub fn of<'r>(records: impl Iterator<Item = &'r Record> + Clone, census: Option<u64>) -> Self {
        let trials = records.clone().count() as u64;
        let count =
            |wanted: Outcome| records.clone().filter(|own| own.outcome == wanted).count() as u64;
        let share = |count, all| match census {
            Some(left) => Share::of_all(count, all, left),
            None => Share::of(count, all),
        };
        let injected = trials - count(Outcome::NotInjected);
        let of_all = |outcome| if outcome == Outcome::NotInjected { trials } else { injected };
        let outcomes = Outcome::ALL.map(|own| (own.name(), share(count(own), of_all(own))));
        let failures = Outcome::ALL.into_iter().filter(|outcome| outcome.is_failure());
        let failed = share(failures.map(count).sum(), injected);
        Self { trials, outcomes: outcomes.into(), failed }
    }

    /// How many came to `outcome`.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.name()).map_or(0, |share| share.count)
    }

    /// Into how many a fault went.
    pub fn injected(&self) -> u64 {
        self.trials - self.count(Outcome::NotInjected)
    }
}

/// Trials that each have one injection, made or not.
fn single(findings: &Findings) -> impl Iterator<Item = &Record> + Clone {
    findings.of_kind(Kind::Injected).filter(|record| record.injections.len() == 1)
}

/// The tally of each group that `key` makes of `records`.
fn grouped<'r, K: Ord>(
    findings: &Findings,
    records: impl Iterator<Item = &'r Record>,
    key: impl Fn(&Record) -> Option<K>,
) -> Vec<(K, Tally)> {
    let mut groups: BTreeMap<K, Vec<&Record>> = BTreeMap::new();
    records.for_each(|own| {
        key(own).into_iter().for_each(|key| groups.entry(key).or_default().push(own))
    });
    let census = findings.plan.census.then_some(0);
    let tally = |own: Vec<&Record>| Tally::of(own.iter().copied(), census);
    groups.into_iter().map(|(key, own)| (key, tally(own))).collect()
}

/// By target, in the plan's order.
pub fn by_target(findings: &Findings) -> Vec<ByTarget> {
    let plan = &findings.plan;
    let all: f64 = plan.targets.iter().map(|target| target.weight).sum();
    let target = |record: &Record| record.injections.first().map(|own| own.target);
    let groups = grouped(findings, single(findings), target).into_iter();
    let named = groups.filter_map(|(index, tally)| {
        let weight = plan.targets.get(index)?.weight / all;
        Some(ByTarget { target: target_name(findings, index), weight, tally })
    });
    named.collect()
}

/// By the one bit that was changed; none where more were.
pub fn by_bit(findings: &Findings) -> Vec<ByBit> {
    let bit = |record: &Record| {
        let (injection, written) = record.only()?;
        Some((injection.target, written.bit()?))
    };
    let groups = grouped(findings, single(findings), bit).into_iter();
    let named = groups.map(|((target, bit), tally)| ByBit {
        target: target_name(findings, target),
        bit,
        tally,
    });
    named.collect()
}

/// The target `index` of the plan, as the plan writes it.
pub fn target_name(findings: &Findings, index: usize) -> String {
    let Some(target) = findings.plan.targets.get(index) else { return index.to_string() };
    let offset = Some(target.offset).filter(|offset| *offset != 0);
    format!("{}{}", target.at, offset.map(|offset| format!("{offset:+}")).unwrap_or_default())
}

/// What the time of injection is told in: what moments were drawn from, or else seconds.
pub fn clock(findings: &Findings) -> Clock {
    match findings.plan.when {
        When::Drawn(Over::Iterations { .. }, _) => Clock::Iterations,
        _ => Clock::Seconds,
    }
}

/// When the only injection of `record` was made.
pub fn moment(record: &Record, clock: Clock) -> Option<f64> {
    let (injection, _) = record.only()?;
    match clock {
        Clock::Iterations => injection.iteration,
        Clock::Seconds => injection.time.map(|time| time.as_secs_f64()),
    }
}

/// By the time of injection, as it was seen, in parts of the same length.
pub fn by_time(findings: &Findings) -> Vec<ByTime> {
    let clock = clock(findings);
    let moment = |record: &Record| moment(record, clock).filter(|at| at.is_finite());
    let all = single(findings).filter_map(moment);
    let bounds = all.fold(None, |bounds: Option<(f64, f64)>, at| {
        Some(bounds.map_or((at, at), |(low, high)| (low.min(at), high.max(at))))
    });
    let Some((low, high)) = bounds else { return Vec::new() };
    let (start, width) = parts(low, high, clock);
    let part = |record: &Record| Some(((moment(record)? - start) / width).floor() as i64);
    let groups = grouped(findings, single(findings), part).into_iter();
    let timed = groups.map(|(part, tally)| {
        let from = start + part as f64 * width;
        ByTime { from, to: from + width, tally }
    });
    timed.collect()
}

/// Where parts of what lies from `low` to `high` begin, and how long each is: 1, 2 or 5 of a power of ten of
/// seconds, or of iterations, which are counted from 1 on.
fn parts(low: f64, high: f64, clock: Clock) -> (f64, f64) {
    match clock {
        Clock::Iterations => {
            let width = round_up((high - low + 1.0) / MOST_PARTS).max(1.0);
            (1.0 + ((low - 1.0) / width).floor() * width, width)
        }
        Clock::Seconds => (0.0, round_up((high / MOST_PARTS).max(1e-9))),
    }
}

/// The next of 1, 2 and 5 of a power of ten.
fn round_up(least: f64) -> f64 {
    let scale = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * scale);
    steps.into_iter().find(|step| *step >= least).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{findings, injection, record, runs, written};
    use super::*;
    use Outcome as O;
    use std::time::Duration;

    #[test]
    fn the_bit_that_changed() {
        let bit = |before: &[u8], after: &[u8]| written(before, after).bit();
        assert_eq!(bit(&[0, 0, 0x10], &[0, 0, 0x90]), Some(23));
        assert_eq!(bit(&[1], &[0]), Some(0));
        assert_eq!((bit(&[0], &[3]), bit(&[5], &[5]), bit(&[1, 0], &[0, 1])), (None, None, None));
    }

    #[test]
    fn of_several_faults_none_is_told_apart() {
        let mut records = runs(Kind::Injected, &[O::Sdc, O::Masked]);
        records[0].injections.push(injection(true));
        let findings = findings("", records);
        let counted = |all: Vec<u64>| all;
        assert_eq!(counted(by_target(&findings).iter().map(|own| own.tally.trials).collect()), [1]);
        assert_eq!(counted(by_bit(&findings).iter().map(|own| own.tally.trials).collect()), [1]);
        assert_eq!(counted(by_time(&findings).iter().map(|own| own.tally.trials).collect()), [1]);
    }

    #[test]
    fn those_that_were_not_made_are_their_targets_but_no_bits() {
        let findings = findings("", runs(Kind::Injected, &[O::NotInjected, O::Crash]));
        let targets = by_target(&findings);
        let tally = &targets[0].tally;
        assert_eq!((tally.trials, tally.injected(), tally.failed.share), (2, 1, 1.0));
        assert_eq!(by_bit(&findings)[0].tally.trials, 1);
    }

    #[test]
    fn times_are_cut_into_parts_of_one_length() {
        let mut records = Vec::new();
        for iteration in 1..=45 {
            let mut own = record(iteration, Kind::Injected, O::Masked);
            own.injections[0].iteration = Some(iteration as f64);
            own.injections[0].time = Some(Duration::from_millis(10 * iteration));
            records.push(own);
        }
        let over = findings("[when]\nover = 'iterations'\n", records.clone());
        let parts = by_time(&over);
        // 45 of them, 5 in each.
        assert_eq!((clock(&over), parts.len()), (Clock::Iterations, 9));
        assert_eq!((parts[8].from, parts[8].to, parts[8].tally.trials), (41.0, 46.0, 5));
        // 0.45 s in at most 20 parts.
        let over = findings("", records);
        let parts = by_time(&over);
        assert_eq!((clock(&over), parts.len()), (Clock::Seconds, 10));
        assert!((parts[9].to - 0.5).abs() < 1e-9, "{}", parts[9].to);
    }

    #[test]
    fn counters_that_a_fault_has_hit() {
        let mut records = runs(Kind::Injected, &[O::Sdc; 3]);
        records[0].injections[0].iteration = Some(f64::MAX);
        records[1].injections[0].iteration = Some(f64::NAN);
        let parts = by_time(&findings("[when]\nover = 'iterations'\n", records));
        assert_eq!(parts.iter().map(|own| own.tally.trials).sum::<u64>(), 2);
    }

    #[test]
    fn of_a_census_nothing_is_uncertain() {
        let tables = "[when]\nover = 'iterations'\nto = 4\nphase = 0.5\n";
        let text = crate::campaign::samples::counting("").text;
        let text =
            text.replace("trials = 2", "trials = 'all'").replace("flip = 1", "flip-each = '0..7'");
        let plan = crate::campaign::Plan::parse(text + tables, "p.toml".as_ref()).unwrap();
        let records = runs(Kind::Injected, &[O::Sdc, O::Masked]);
        let findings = super::super::samples::of_plan(plan, records);
        let failed = by_bit(&findings)[0].tally.failed;
        assert_eq!((failed.low, failed.share, failed.high), (0.5, 0.5, 0.5));
    }
}
