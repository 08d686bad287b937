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
        (injection.target == index).then_some(8.0 * bytes as f64)
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

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::samples::{findings, runs};
    use super::*;
    use crate::campaign::Kind;
    use crate::campaign::outcome::Outcome as O;
    use crate::campaign::store::Record;

    fn all(outcomes: &[O]) -> Vec<Record> {
        [runs(Kind::Golden, &[O::Masked; 3]), runs(Kind::Injected, outcomes)].concat()
    }

    fn of(tables: &str, records: Vec<Record>) -> Result<Extrapolated, String> {
        let report = Report::of(&findings(tables, records));
        report.extrapolated.ok_or_else(|| report.not_extrapolated.unwrap())
    }

    #[test]
    fn failures_are_those_of_all_bits_and_all_of_the_time() {
        let own = of("", all(&[O::Sdc, O::Masked, O::Detected, O::Crash])).unwrap();
        // 8 bits for 10 ms; half of the trials failed.
        assert!((own.space[0].size() - 0.08).abs() < 1e-12);
        assert!((own.failures.value - 0.04).abs() < 1e-12 && own.failures.low > 0.0);
        let half = of("[when]\nfrom = 0.5\n", all(&[O::Sdc])).unwrap();
        assert!((half.failures.value - 0.04).abs() < 1e-12);
        // Iterations 2 to 4, 2 ms each.
        let three = of("[when]\nover = 'iterations'\nfrom = 2\n", all(&[O::Sdc])).unwrap();
        assert!((three.failures.value - 8.0 * 0.006).abs() < 1e-12);
    }

    #[test]
    fn a_region_has_the_bits_that_it_had_in_ram() {
        let mut records = all(&[O::Sdc, O::Masked]);
        for (record, bytes) in records[3..].iter_mut().zip([1000, 3000]) {
            let written = record.injections[0].written.as_mut().unwrap();
            (written.region, written.sampled_from) = (Some("heap".to_owned()), Some(bytes));
        }
        assert_eq!(of("", records).unwrap().space[0].bits, 16000.0);
    }

    #[test]
    fn what_stands_for_no_failures_in_all() {
        let fails = |tables: &str, records, part: &str| {
            let why = of(tables, records).err().unwrap();
            assert!(why.contains(part), "{why}");
        };
        fails("", runs(Kind::Injected, &[O::Sdc]), "no golden run");
        fails("", all(&[O::NotInjected]), "no fault went into x");
        fails("[[fault]]\nzero = true\n", all(&[O::Sdc]), "not single bits");
        fails("[[fault]]\nflip-bits = '1'\n", all(&[O::Sdc]), "not single bits");
        fails("[when]\ntrigger = 'k == 2'\n", all(&[O::Sdc]), "not drawn from all of a time");
    }

    #[test]
    fn each_bit_once_is_all_of_them() {
        let bits = |all: &[u64]| all.iter().map(|bit| OneBit::This(*bit)).collect::<Vec<_>>();
        assert!(names_all(&bits(&[0, 1, 2, 3]), 4.0));
        assert!(!names_all(&bits(&[0, 1, 2]), 4.0));
        assert!(!names_all(&bits(&[0, 1, 2, 2]), 4.0));
        assert!(!names_all(&[OneBit::Any], 1.0));
    }
}
