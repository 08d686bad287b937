//! How much the trials say: what they were drawn from, how near their shares are, and how many more trials
//! a nearer look takes.

use super::breakdown::Tally;
use super::findings::Findings;
use super::statistics::sample_size;
use crate::campaign::outcome::Outcome;
use crate::campaign::plan::{Over, When};
use crate::fault::OneBit;
use serde::Serialize;

/// The margins that are usual.
const MARGINS: [f64; 3] = [0.05, 0.03, 0.01];

/// How much the trials say.
#[derive(Clone, Debug, Serialize)]
pub struct Sampling {
    /// Whether they are all that there are, so that nothing is sampled.
    pub census: bool,
    /// How many faults they were drawn from, where these can be counted.
    pub population: Option<f64>,
    /// Half of the widest interval of an outcome's share.
    pub margin: f64,
    /// What it takes to know shares to a usual margin.
    pub needed: Vec<Needed>,
}

/// How many trials a margin takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Needed {
    /// The margin, as a fraction.
    pub margin: f64,
    /// How many injected trials, with 95 % confidence.
    pub trials: u64,
    /// How many of these are missing.
    pub more: u64,
}

/// What the trials say that `tally` is of.
pub fn sampling(findings: &Findings, tally: &Tally) -> Sampling {
    let census = findings.plan.census;
    let population = population(findings);
    let needed = |margin: f64| {
        let trials = sample_size(population, margin);
        Needed { margin, trials, more: trials.saturating_sub(tally.injected()) }
    };
    let judged = tally.outcomes.iter().filter(|(name, _)| **name != Outcome::NotInjected.name());
    Sampling {
        census,
        population,
        margin: judged.map(|(_, share)| share.margin()).fold(0.0, f64::max),
        needed: if census { Vec::new() } else { MARGINS.into_iter().map(needed).collect() },
    }
}

/// How many faults there are, where these are flipped bits at one moment of each iteration.
fn population(findings: &Findings) -> Option<f64> {
    let plan = &findings.plan;
    if plan.census {
        return Some(plan.trials as f64);
    }
    let When::Drawn(over @ Over::Iterations { .. }, _) = plan.when else { return None };
    let moments = over.moments().filter(|_| plan.injections == 1)? as f64;
    let faults = plan.faults.iter().map(|fault| fault.change.one_bit());
    let faults = faults.collect::<Option<Vec<_>>>()?;
    let places = (0..plan.targets.len()).map(|index| {
        let mut of_target = findings.injected().filter_map(|record| record.only());
        let (_, written) = of_target.find(|(injection, _)| injection.target == index)?;
        // Of a region, places come and go.
        let bits = written.region.is_none().then_some(8.0 * written.size as f64)?;
        let many = faults.iter().map(|bit| if *bit == OneBit::Any { bits } else { 1.0 });
        Some(many.sum::<f64>())
    });
    Some(moments * places.sum::<Option<f64>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{findings, runs};
    use super::*;
    use crate::campaign::Kind;
    use crate::campaign::outcome::Outcome as O;

    fn of(tables: &str) -> Sampling {
        let findings = findings(tables, runs(Kind::Injected, &[O::Masked; 400]));
        let tally = Tally::of(findings.of_kind(Kind::Injected), None);
        sampling(&findings, &tally)
    }

    #[test]
    fn what_is_still_needed() {
        let own = of("");
        assert_eq!(own.population, None);
        let needed: Vec<_> = own.needed.iter().map(|own| (own.trials, own.more)).collect();
        assert_eq!(needed, [(385, 0), (1068, 668), (9604, 9204)]);
        // Wilson's of 400 of 400, and of 0 of 400: [0, 0.951 %].
        assert!((own.margin - 0.009_513 / 2.0).abs() < 1e-5, "{}", own.margin);
    }

    #[test]
    fn of_fewer_than_can_be_counted_fewer_are_needed() {
        // 8 bits, once in each of 100 iterations.
        let own = of("[when]\nover = 'iterations'\nto = 100\nphase = 0.5\n");
        assert_eq!(own.population, Some(800.0));
        assert_eq!((own.needed[0].trials, own.needed[2].trials), (260, 739));
        assert_eq!(of("[when]\nover = 'iterations'\nto = 100\n").population, None);
    }
}
