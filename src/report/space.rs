//! The space that faults were drawn from, and how many of all of them would have failed.
//!
//! Two programs are not compared by shares: one that takes longer, or has more memory that it does not
//! use, has a lower share and no fewer failures. What is compared is F = w * failures / n, where n faults
//! were drawn, each as likely as the others, of the w that there are: one for each bit and each moment
//! (Schirmeier et al., DSN 2015).

use super::breakdown::{ByTarget, target_name};
use super::findings::Findings;
use super::statistics::Estimate;
use crate::campaign::plan::{Over, Spread, When};
use crate::campaign::store::Record;
use crate::fault::OneBit;
use serde::Serialize;
use std::collections::BTreeSet;

/// What the faults of one target were drawn from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Space {
    /// The target.
    pub target: String,
    /// How many bits it has; of a region, how many it had in RAM on average.
    pub bits: f64,
    /// How long a time moments were drawn from.
    pub seconds: f64,
}

/// How many failures there are in all of the space, in bits times seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extrapolated {
    /// The spaces of the targets.
    pub space: Vec<Space>,
    /// The failures.
    pub failures: Estimate,
}

impl Space {
    /// Its size, in bits times seconds.
    pub fn size(&self) -> f64 {
        self.bits * self.seconds
    }
}

/// The failures that the trials of the targets stand for, or why they stand for none.
pub fn extrapolated(findings: &Findings, targets: &[ByTarget]) -> Result<Extrapolated, String> {
    let seconds = seconds(findings)?;
    let space = (0..findings.plan.targets.len()).map(|index| {
        let target = target_name(findings, index);
        let bits = bits(findings, index).ok_or_else(|| format!("no fault went into {target}"))?;
        let alike = flips_each_alike(findings, bits);
        let why = "faults are not single bits, each as likely as the others";
        alike.then_some(Space { target, bits, seconds }).ok_or_else(|| why.to_owned())
    });
    let space = space.collect::<Result<Vec<_>, String>>()?;
    let part = |(space, own): (&Space, &ByTarget)| (space.size(), own.tally.failed);
    let parts: Vec<_> = space.iter().zip(targets).map(part).collect();
    Ok(Extrapolated { failures: Estimate::sum(&parts), space })
}

/// How long a time moments were drawn from, each as likely as the others.
fn seconds(findings: &Findings) -> Result<f64, String> {
    if findings.plan.injections != 1 {
        return Err("a trial has several faults".to_owned());
    }
    let time = || findings.golden_median(|run| Some(run.time.as_secs_f64()));
    let seconds = match findings.plan.when {
        When::Drawn(Over::Time { from, to }, Spread::Uniform | Spread::Even) => {
            time().map(|time| time * (to - from))
        }
        When::Drawn(Over::Iterations { from, to, .. }, _) => iterations(findings, from, to),
        _ => return Err("moments are not drawn from all of a time".to_owned()),
    };
    seconds.ok_or_else(|| "no golden run is finished".to_owned())
}

/// How long the iterations from `from` to `to` take in golden runs.
fn iterations(findings: &Findings, from: u64, to: Option<u64>) -> Option<f64> {
    let last = findings.golden_median(|run| run.metrics.get("iterations").copied())?;
    let each = findings.golden_median(|run| run.iteration_time.map(|time| time.as_secs_f64()));
    let time = findings.golden_median(|run| Some(run.time.as_secs_f64()))?;
    let count = to.map_or(last, |to| to as f64) - from as f64 + 1.0;
    Some(count.max(1.0) * each.unwrap_or(time / last.max(1.0)))
}

/// How many bits the target `index` has: of a region, those in RAM on average. None where no fault went in.
pub fn bits(findings: &Findings, index: usize) -> Option<f64> {
    let of_target = |record: &Record| {
        let (injection, written) = record.only()?;
        let bytes = written.sampled_from.unwrap_or(written.size);
        (injection.target == index).then_some((8 * bytes) as f64)
    };
    let all: Vec<_> = findings.injected().filter_map(of_target).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Whether each bit of a target that has so many `bits` is flipped as often as the others, and nothing
/// else is done.
fn flips_each_alike(findings: &Findings, bits: f64) -> bool {
    let each = findings.plan.faults.iter().map(|fault| fault.change.one_bit());
    let each = each.collect::<Option<Vec<_>>>().unwrap_or_default();
    let any = !each.is_empty() && each.iter().all(|bit| *bit == OneBit::Any);
    any || names_all(&each, bits)
}

/// Whether `each` is one bit after the other, once, of a value of so many.
fn names_all(each: &[OneBit], bits: f64) -> bool {
    let named = each.iter().filter_map(|bit| match bit {
        OneBit::This(bit) => Some(*bit),
        OneBit::Any => None,
    });
    let distinct: BTreeSet<_> = named.collect();
    distinct.len() == each.len() && each.len() as f64 == bits
}
