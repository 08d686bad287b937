//! What reports are made of: all that a store has, read once.

use crate::campaign::outcome::Outcome;
use crate::campaign::store::{Facts, Record, Samples, Store, StoreError};
use crate::campaign::{Kind, Plan};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a store has.
pub struct Findings {
    /// Where the store is.
    pub path: PathBuf,
    /// The plan that it is of.
    pub plan: Plan,
    /// What ran it.
    pub facts: Facts,
    /// Every finished run, by number.
    pub records: Vec<Record>,
    /// How many trials with faults there are to be.
    pub planned: u64,
    /// How many runs came to nothing, and were made again.
    pub failures: u64,
    /// What was seen of each of the plan's curves, by its name and the run.
    pub curves: BTreeMap<String, BTreeMap<u64, Samples>>,
}

impl Findings {
    /// Those of `store`.
    pub fn of(store: &Store) -> Result<Self, StoreError> {
        let plan = store.plan()?;
        let samples = |name: &String| Ok((name.clone(), store.samples(name)?));
        let curves = plan.curves.iter().map(|curve| samples(&curve.name));
        Ok(Self {
            path: store.path().to_owned(),
            facts: store.facts()?,
            records: store.records()?,
            planned: store.planned()?,
            failures: store.failures()?,
            curves: curves.collect::<Result<_, StoreError>>()?,
            plan,
        })
    }

    /// Those of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Record> + Clone {
        self.records.iter().filter(move |record| record.kind == kind)
    }

    /// The trials into which a fault went.
    pub fn injected(&self) -> impl Iterator<Item = &Record> + Clone {
        self.of_kind(Kind::Injected).filter(|own| own.outcome != Outcome::NotInjected)
    }

    /// The middle one of what `of` says of the golden runs, as far as it says something.
    pub fn golden_median(&self, of: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
        let mut all: Vec<_> = self.of_kind(Kind::Golden).filter_map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        super::statistics::median(&all)
    }

    /// How many of the trials are still to be made.
    pub fn left(&self) -> u64 {
        self.planned.saturating_sub(self.of_kind(Kind::Injected).count() as u64)
    }
}
