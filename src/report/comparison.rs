//! Several stores beside each other: by the failures that their trials stand for, never by shares alone;
//! and where they have drawn the same, trial by trial.

use super::Report;
use super::findings::Findings;
use super::statistics::{Estimate, mcnemar};
use crate::campaign::outcome::Outcome;
use crate::campaign::store::{Injection, Record};
use crate::campaign::{Kind, summary};
use serde::Serialize;
use std::collections::BTreeMap;

/// Stores beside each other: each of the others with the first.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// One for each of the others, in their order.
    pub with_first: Vec<Compared>,
}

/// A store beside the first.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Its file.
    pub store: String,
    /// The first's.
    pub first: String,
    /// How many failures more it stands for than the first, in bits times seconds; where both can be told.
    pub more_failures: Option<Estimate>,
    /// How many times as many.
    pub ratio: Option<f64>,
    /// Trial by trial, where both have drawn the same.
    pub pairs: Option<Pairs>,
}

/// Trials of two stores that had the same fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pairs {
    /// How many pairs into both of which it went.
    pub pairs: u64,
    /// How many failed in both,
    pub both: u64,
    /// only in the first,
    pub only_first: u64,
    /// only in the other,
    pub only_other: u64,
    /// in neither.
    pub neither: u64,
    /// McNemar's exact test: how likely it is that they differ so much, or more, by chance.
    pub p: f64,
}

impl Comparison {
    /// That of the stores that are behind the first of `all` with that; none where there is one only.
    pub fn of(all: &[(Findings, Report)]) -> Option<Self> {
        let (first, others) = all.split_first().filter(|(_, others)| !others.is_empty())?;
        Some(Self { with_first: others.iter().map(|other| Compared::of(first, other)).collect() })
    }
}

impl Compared {
    fn of(first: &(Findings, Report), other: &(Findings, Report)) -> Self {
        let both = first.1.extrapolated.as_ref().zip(other.1.extrapolated.as_ref());
        let failures = both.map(|(first, other)| (first.failures, other.failures));
        Self {
            store: other.0.path.display().to_string(),
            first: first.0.path.display().to_string(),
            more_failures: failures.map(|(first, other)| difference(first, other)),
            ratio: failures
                .filter(|(first, _)| first.value > 0.0)
                .map(|(first, other)| other.value / first.value),
            pairs: Pairs::of(&first.0, &other.0),
        }
    }
}

/// How far `other` is above `first`: intervals are put together as in [`Estimate::sum`].
fn difference(first: Estimate, other: Estimate) -> Estimate {
    let value = other.value - first.value;
    let spread = |up: f64, down: f64| up.hypot(down);
    let below = spread(other.value - other.low, first.high - first.value);
    let above = spread(other.high - other.value, first.value - first.low);
    Estimate { value, low: value - below, high: value + above }
}

impl Pairs {
    /// Those of two stores; none unless they have drawn the same.
    fn of(first: &Findings, other: &Findings) -> Option<Self> {
        let trials: BTreeMap<u64, &Record> =
            other.of_kind(Kind::Injected).map(|record| (record.number, record)).collect();
        let both = first
            .of_kind(Kind::Injected)
            .filter_map(|own| trials.get(&own.number).map(|other| (own, *other)));
        let both: Vec<_> = both.collect();
        let same =
            same_space(first, other) && both.iter().all(|(own, other)| same_draws(own, other));
        if both.is_empty() || !same {
            return None;
        }
        let went_in = |record: &Record| record.outcome != Outcome::NotInjected;
        let judged = both.iter().filter(|(own, other)| went_in(own) && went_in(other));
        let failed =
            judged.map(|(own, other)| (own.outcome.is_failure(), other.outcome.is_failure()));
        Some(Self::counted(&failed.collect::<Vec<_>>()))
    }

    fn counted(failed: &[(bool, bool)]) -> Self {
        let count = |wanted| failed.iter().filter(|own| **own == wanted).count() as u64;
        let (only_first, only_other) = (count((true, false)), count((false, true)));
        Self {
            pairs: failed.len() as u64,
            both: count((true, true)),
            only_first,
            only_other,
            neither: count((false, false)),
            p: mcnemar(only_first, only_other),
        }
    }
}

/// Whether the plans of both draw from the same.
fn same_space(first: &Findings, other: &Findings) -> bool {
    summary::sampled_from(&first.plan) == summary::sampled_from(&other.plan)
}

/// Whether the same was drawn for both.
fn same_draws(own: &Record, other: &Record) -> bool {
    let draws = |record: &Record| {
        let draw = |own: &Injection| (own.target, own.fault, own.at.to_bits());
        record.injections.iter().map(draw).collect::<Vec<_>>()
    };
    own.seed == other.seed && draws(own) == draws(other)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{findings, runs};
    use super::*;
    use Outcome as O;

    fn store(tables: &str, outcomes: &[Outcome]) -> (Findings, Report) {
        let golden = runs(Kind::Golden, &[O::Masked; 2]);
        let findings = findings(tables, [golden, runs(Kind::Injected, outcomes)].concat());
        let report = Report::of(&findings);
        (findings, report)
    }

    fn compared(first: (Findings, Report), other: (Findings, Report)) -> Compared {
        Comparison::of(&[first, other]).unwrap().with_first.remove(0)
    }

    #[test]
    fn pairs_are_of_trials_that_drew_the_same() {
        let first = [O::Sdc, O::Sdc, O::Crash, O::Masked, O::NotInjected];
        let other = [O::Detected, O::Masked, O::Crash, O::Masked, O::Sdc];
        let pairs = compared(store("", &first), store("", &other)).pairs.unwrap();
        // 2 of 2 that differ are of one kind: 2 * (1/2)^2.
        let expected =
            Pairs { pairs: 4, both: 1, only_first: 2, only_other: 0, neither: 1, p: 0.5 };
        assert_eq!(pairs, expected);
        let mut drawn = store("", &other);
        drawn.0.records[2].seed += 1;
        assert_eq!(compared(store("", &first), drawn).pairs, None);
        let elsewhere = store("[when]\nover = 'iterations'\n", &other);
        assert_eq!(compared(store("", &first), elsewhere).pairs, None);
    }

    #[test]
    fn failures_are_compared_and_not_shares() {
        let own = compared(store("", &[O::Sdc, O::Masked]), store("", &[O::Sdc; 2]));
        // 8 bits for 10 ms.
        let more = own.more_failures.unwrap();
        assert!((more.value - 0.04).abs() < 1e-12 && more.low < more.value, "{more:?}");
        assert_eq!(own.ratio, Some(2.0));
        assert!(own.to_string().contains("2 times as many failures"), "{own}");
        let none = compared(store("[[fault]]\nzero = true\n", &[O::Sdc]), store("", &[O::Sdc]));
        assert!(none.more_failures.is_none() && none.ratio.is_none());
        assert!(Comparison::of(&[store("", &[O::Sdc])]).is_none());
    }

    #[test]
    fn a_difference_of_the_same_holds_nothing() {
        let same = Estimate { value: 5.0, low: 2.0, high: 9.0 };
        assert_eq!(difference(same, same), Estimate { value: 0.0, low: -5.0, high: 5.0 });
    }
}
