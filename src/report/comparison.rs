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
