//! What was measured, without faults and with them, and what others have published of it.

use super::findings::Findings;
use super::statistics::Statistics;
use crate::campaign::Kind;
use crate::campaign::plan::{Figures, OWN_METRICS};
use crate::campaign::store::Record;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A metric of the runs without faults, and of those with.
#[derive(Clone, Debug, Serialize)]
pub struct Metric {
    /// Of the golden runs.
    pub golden: Option<Statistics>,
    /// Of the trials into which a fault went, as far as they have a finite value.
    pub injected: Option<Statistics>,
    /// How many of these have none.
    pub not_finite: u64,
    /// What others have published of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedFigures>,
}

/// What others have published of a metric.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedFigures {
    /// Where.
    pub source: String,
    /// Of runs without faults.
    pub golden: Option<Figures>,
    /// Of runs with faults.
    pub injected: Option<Figures>,
}

/// Every metric of the plan, and those that all runs have, by name.
pub fn metrics(findings: &Findings) -> BTreeMap<String, Metric> {
    let own = OWN_METRICS
        .into_iter()
        .filter(|name| findings.records.iter().any(|record| record.metrics.contains_key(*name)));
    let planned = findings.plan.metrics.iter().map(|metric| metric.name.as_str());
    // Those of which no run has a value are named too.
    let names: BTreeSet<&str> = own.chain(planned).collect();
    names.into_iter().map(|name| (name.to_owned(), metric(findings, name))).collect()
}

fn metric(findings: &Findings, name: &str) -> Metric {
    let golden = finite(findings.of_kind(Kind::Golden), name);
    let injected = finite(findings.injected(), name);
    let not_finite = (findings.injected().count() - injected.len()) as u64;
    let published = findings.plan.published.iter().filter(|own| own.metric == name);
    let published = published.map(|own| PublishedFigures {
        source: own.source.clone(),
        golden: own.golden,
        injected: own.injected,
    });
    Metric {
        golden: Statistics::of(&golden),
        injected: Statistics::of(&injected),
        not_finite,
        published: published.collect(),
    }
}

/// The values that a metric has in `records`, as far as they are finite.
pub fn finite<'r>(records: impl Iterator<Item = &'r Record>, name: &str) -> Vec<f64> {
    let values = records.filter_map(|record| record.metrics.get(name).copied());
    values.filter(|value| value.is_finite()).collect()
}

impl From<Statistics> for Figures {
    fn from(own: Statistics) -> Self {
        let Statistics { runs, min, max, mean, median, mode, variance, sd } = own;
        Self {
            runs: Some(runs as u64),
            min: Some(min),
            max: Some(max),
            mean: Some(mean),
            median: Some(median),
            mode: Some(mode),
            variance: Some(variance),
            sd: Some(sd),
        }
    }
}
