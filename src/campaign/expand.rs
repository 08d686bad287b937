//! The trials of a plan, with all that is drawn for them: the same from the same plan, on every
//! machine.
//!
//! # Numbers
//!
//! Trials with faults are numbered from 1 on, null trials go on from there, and golden runs after
//! them: first those of shard 0, then those of shard 1, and so on. So no two trials have the same
//! number, whatever their kind and whichever shard makes them.
//!
//! # Draws
//!
//! A trial's seed is drawn from the plan's by its number, and all else from the trial's, by the number
//! of the injection. So none depends on which others there are, or on which are made before.
//!
//! In a census nothing is drawn but the null trials: the trials with faults go through all moments, at
//! each through all targets, and at each of these through all faults.

use super::plan::{Plan, Spread, When};
use crate::seed::{Drawing, Seed};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Far more than there are machines; all numbers of trials stay exact.
const MOST_SHARDS: u64 = 1_000_000;

/// A run of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number, in all of the campaign.
    pub number: u64,
    /// Its kind.
    pub kind: Kind,
    /// What the bits and places of its injections are drawn from; below 2^53.
    pub seed: u64,
    /// Its injections, in the order of their moments; none in a golden run.
    pub injections: Vec<Draw>,
}

/// What a trial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To see what the program does without faults.
    Golden,
    /// To see what injecting does apart from the fault: everything but the write.
    Null,
    /// To see what the fault does.
    Injected,
}

impl Kind {
    /// Its name in stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Golden => "golden",
            Self::Null => "null",
            Self::Injected => "injected",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Golden, Self::Null, Self::Injected].into_iter().find(|kind| kind.name() == name)
    }
}

/// What is drawn for an injection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draw {
    /// Its number in its trial, from 0 on: its bits and its place are drawn by that.
    pub number: u64,
    /// Which of the plan's targets.
    pub target: usize,
    /// Which of the plan's faults.
    pub fault: usize,
    /// Where in the range that the plan draws moments from, from 0 to below 1; 0 where it draws none.
    pub at: f64,
}

/// A part of a campaign, for one of several machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether the null trial, or the trial with faults, of this number is one of its own.
    pub fn takes(self, number: u64) -> bool {
        number % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `I/N`. Counted from 0 or from 1, for N/N is the same as 0/N.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let good = numbers.filter(|(i, n): &(u64, u64)| (1..=MOST_SHARDS).contains(n) && i <= n);
        let (index, count) = good.ok_or_else(|| format!("'{text}' is not I/N, such as 3/8"))?;
        Ok(Self { index: index % count, count })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// All trials of `shard`: golden runs of its own, then its part of the null trials and of those with
/// faults.
pub fn trials(plan: &Plan, shard: Shard) -> Vec<Trial> {
    let (null, golden) = (plan.trials + 1, plan.trials + plan.null + 1);
    let own = golden + shard.index * plan.golden;
    let kinds = [
        (Kind::Golden, own..own + plan.golden),
        (Kind::Null, null..golden),
        (Kind::Injected, 1..null),
    ];
    let all = kinds.into_iter().flat_map(|(kind, numbers)| numbers.map(move |own| (kind, own)));
    all.filter(|(kind, number)| *kind == Kind::Golden || shard.takes(*number))
        .map(|(kind, number)| Trial::draw(plan, kind, number))
        .collect()
}

impl Trial {
    fn draw(plan: &Plan, kind: Kind, number: u64) -> Self {
        let of_plan = Seed { seed: plan.seed, injection: number };
        let seed = of_plan.numbers(Drawing::Trial).next_u64() >> 11;
        let injections = match kind {
            Kind::Golden => Vec::new(),
            Kind::Injected if plan.census => vec![Draw::of_census(plan, number - 1)],
            Kind::Null if plan.census => vec![Draw::of_census(plan, seed % plan.trials)],
            _ => {
                let draw = |(number, at)| Draw { at, ..Draw::of(plan, seed, number) };
                (0..).zip(moments(plan, seed)).map(draw).collect()
            }
        };
        Self { number, kind, seed, injections }
    }
}

impl Draw {
    /// The injection of this `number` of the trial with this `seed`, at no moment that is drawn. Of
    /// [`When::Every`], the list has the first; the others are had from here.
    pub fn of(plan: &Plan, seed: u64, number: u64) -> Self {
        let mut numbers = Seed { seed, injection: number }.numbers(Drawing::Choice);
        let mut choose = |weights: &[f64]| chosen(weights, fraction(numbers.next_u64()));
        let target = choose(&plan.targets.iter().map(|target| target.weight).collect::<Vec<_>>());
        let fault = choose(&plan.faults.iter().map(|fault| fault.weight).collect::<Vec<_>>());
        Self { number, target, fault, at: 0.0 }
    }

    /// The one of a census that has `index` before it.
    fn of_census(plan: &Plan, index: u64) -> Self {
        let (faults, targets) = (plan.faults.len() as u64, plan.targets.len() as u64);
        let (fault, place) = (index % faults, index / faults);
        let moments = (plan.trials / (faults * targets)) as f64;
        // In the middle of its part, so that no rounding moves it to the next.
        let at = ((place / targets) as f64 + 0.5) / moments;
        Self { number: 0, target: (place % targets) as usize, fault: fault as usize, at }
    }
}

/// Where a trial's injections lie in the range, ascending.
fn moments(plan: &Plan, seed: u64) -> Vec<f64> {
    let all = 0..plan.injections;
    let draw = |injection| fraction(Seed { seed, injection }.numbers(Drawing::Moment).next_u64());
    match &plan.when {
        When::Drawn(_, Spread::Uniform) => {
            let mut drawn: Vec<_> = all.map(draw).collect();
            drawn.sort_unstable_by(f64::total_cmp);
            drawn
        }
        When::Drawn(_, Spread::Even) => {
            all.map(|part| in_part(draw(part), part, plan.injections)).collect()
        }
        When::Trigger(_) | When::Every(_) => vec![0.0; plan.injections as usize],
    }
}

/// `at` of the part `part` of `parts`; never the start of the next, whatever is rounded.
fn in_part(at: f64, part: u64, parts: u64) -> f64 {
    let start = |part: u64| part as f64 / parts as f64;
    ((part as f64 + at) / parts as f64).clamp(start(part), start(part + 1).next_down())
}

/// From 0 to below 1: as many bits as a float has.
fn fraction(number: u64) -> f64 {
    (number >> 11) as f64 / (1u64 << 53) as f64
}

/// Which of `weights` lies at `at`, from 0 to below 1, of all of them.
fn chosen(weights: &[f64], at: f64) -> usize {
    let mut left = at * weights.iter().sum::<f64>();
    let passed = weights.iter().take_while(|weight| {
        left -= **weight;
        left >= 0.0
    });
    // Rounding may pass all.
    passed.count().min(weights.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::plan::{LARGEST_SEED, Moment};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    const TAIL: &str = "[program]\ncommand = ['v']\ncounter = 'k'\n[[target]]\nat = 'a'\nweight = 3\n[[target]]\nat = 'b'\n[[fault]]\nflip = 1\n[[fault]]\nzero = true\n";

    fn plan(top: &str, tables: &str) -> Plan {
        Plan::parse(format!("{top}\n{TAIL}{tables}"), Path::new("p.toml")).unwrap()
    }

    fn some(seed: u64, trials: u64, null: u64, injections: u64, spread: &str) -> Plan {
        let top =
            format!("seed = {seed}\ntrials = {trials}\nnull = {null}\ninjections = {injections}");
        plan(&top, &format!("[when]\nspread = '{spread}'"))
    }

    fn shard(index: u64, count: u64) -> Shard {
        format!("{index}/{count}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn moments_ascend_in_their_range(
            (seed, injections) in (0..=LARGEST_SEED, 1u64..40),
            even: bool,
        ) {
            let plan = some(seed, 3, 2, injections, if even { "even" } else { "uniform" });
            let all = trials(&plan, Shard::WHOLE);
            prop_assert_eq!(&all, &trials(&plan, Shard::WHOLE));
            for trial in &all {
                let moments: Vec<_> = trial.injections.iter().map(|draw| draw.at).collect();
                let golden = trial.kind == Kind::Golden;
                prop_assert_eq!(moments.len() as u64, if golden { 0 } else { injections });
                prop_assert!(moments.is_sorted());
                prop_assert!(moments.iter().all(|at| (0.0..1.0).contains(at)));
                prop_assert!(trial.seed <= LARGEST_SEED);
                for draw in &trial.injections {
                    let bound = |part: u64| part as f64 / injections as f64;
                    let own = bound(draw.number)..bound(draw.number + 1);
                    prop_assert!(!even || own.contains(&draw.at), "{draw:?}");
                    prop_assert!(draw.target < 2 && draw.fault < 2);
                }
            }
        }

        #[test]
        fn shards_make_each_trial_once(trials_of in 1u64..40, null in 0u64..20, count in 1u64..9) {
            let plan = some(1, trials_of, null, 1, "uniform");
            let parts: Vec<_> =
                (1..=count).flat_map(|index| trials(&plan, shard(index, count))).collect();
            let numbers: BTreeSet<_> = parts.iter().map(|trial| trial.number).collect();
            prop_assert_eq!(numbers.len(), parts.len());
            let faulty = |all: Vec<Trial>| {
                let mut all: Vec<_> =
                    all.into_iter().filter(|trial| trial.kind != Kind::Golden).collect();
                all.sort_by_key(|trial| trial.number);
                all
            };
            prop_assert_eq!(parts.len() as u64, trials_of + null + count * plan.golden);
            prop_assert_eq!(faulty(parts), faulty(trials(&plan, Shard::WHOLE)));
        }

        #[test]
        fn rounding_never_leaves_a_part(part in 0u64..10_000, more in 1u64..10_000) {
            let parts = part + more;
            for at in [0.0, 1f64.next_down()] {
                let drawn = in_part(at, part, parts);
                prop_assert!(part as f64 / parts as f64 <= drawn);
                prop_assert!(drawn < (part + 1) as f64 / parts as f64);
            }
        }
    }

    #[test]
    fn weights_come_out() {
        let all = trials(&some(1, 4000, 0, 1, "uniform"), Shard::WHOLE);
        let draws: Vec<_> = all.iter().flat_map(|trial| &trial.injections).collect();
        let share = |of: fn(&Draw) -> bool| {
            draws.iter().filter(|draw| of(draw)).count() as f64 / draws.len() as f64
        };
        assert!((share(|draw| draw.target == 0) - 0.75).abs() < 0.03);
        assert!((share(|draw| draw.fault == 0) - 0.5).abs() < 0.03);
        assert!((share(|draw| draw.at < 0.5) - 0.5).abs() < 0.03);
        // They are drawn each by itself.
        assert!((share(|draw| draw.target == 0 && draw.fault == 0) - 0.375).abs() < 0.03);
    }

    #[test]
    fn what_is_chosen() {
        assert_eq!(chosen(&[1.0, 3.0], 0.2499), 0);
        assert_eq!(chosen(&[1.0, 3.0], 0.25), 1);
        assert_eq!(chosen(&[1.0, 3.0], 1f64.next_down()), 1);
        assert_eq!(chosen(&[0.1, 0.1, 0.1], 1.0), 2);
    }

    #[test]
    fn triggers_draw_no_moments() {
        let triggered = plan("trials = 1\ninjections = 3", "[when]\ntrigger = 'k == 4'");
        let every = plan("trials = 1", "[when]\nevery = '1s'");
        let last = |plan| trials(plan, Shard::WHOLE).pop().unwrap().injections;
        assert_eq!(last(&triggered).iter().map(|draw| draw.at).collect::<Vec<_>>(), [0.0; 3]);
        assert_eq!(last(&every).len(), 1);
    }

    #[test]
    fn a_census_has_all_there_is_once() {
        let when = "[when]\nover = 'iterations'\nfrom = 3\nto = 9\nphase = 0.5";
        let text = format!("trials = 'all'\nnull = 5\n{TAIL}{when}");
        let text = text.replace("weight = 3\n", "").replace("flip = 1", "flip-bits = 1");
        let plan = Plan::parse(text.clone(), Path::new("p.toml")).unwrap();
        assert_eq!((plan.trials, plan.census), (2 * 2 * 7, true));
        let all = trials(&plan, Shard::WHOLE);
        let When::Drawn(over, _) = plan.when else { panic!() };
        let moment = |at| over.moment(at, Duration::from_secs(9), (9, Duration::from_secs(1)));
        let drawn = |trial: &Trial| match trial.injections[..] {
            [Draw { number: 0, target, fault, at }] => match moment(at) {
                Moment::Iteration(number, part) => (number, target, fault, part.as_millis()),
                Moment::After(after) => panic!("{after:?}"),
            },
            ref others => panic!("{others:?}"),
        };
        let of = |kind| all.iter().filter(move |trial| trial.kind == kind).map(drawn);
        let injected: Vec<_> = of(Kind::Injected).collect();
        let each = (3..=9).flat_map(|own| {
            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(target, fault)| (own, target, fault, 500))
        });
        assert_eq!(injected, each.collect::<Vec<_>>());
        assert!(of(Kind::Null).all(|own| injected.contains(&own)));
        let at_once = text.replace(when, "[when]\ntrigger = 'k == 4'");
        let plan = Plan::parse(at_once, Path::new("p.toml")).unwrap();
        assert_eq!(plan.trials, 4);
    }

    #[test]
    fn more_trials_are_the_same_and_more() {
        let few = trials(&some(1, 5, 0, 2, "uniform"), Shard::WHOLE);
        let many = trials(&some(1, 9, 0, 2, "uniform"), Shard::WHOLE);
        assert_eq!(few[10..], many[10..15]);
    }

    #[test]
    fn numbers_and_draws_are_the_same_for_ever() {
        let all = trials(&some(1, 2, 1, 2, "uniform"), Shard::WHOLE);
        let kinds: Vec<_> = all.iter().map(|trial| (trial.kind, trial.number)).collect();
        assert_eq!((kinds[0], kinds[9]), ((Kind::Golden, 4), (Kind::Golden, 13)));
        assert_eq!(kinds[10..], [(Kind::Null, 3), (Kind::Injected, 1), (Kind::Injected, 2)]);
        let seeds: Vec<_> = all[10..].iter().map(|trial| trial.seed).collect();
        assert_eq!(seeds, [3798058481911540, 999997464630267, 5898118098323484]);
        let draw = |number, target, fault, at| Draw { number, target, fault, at };
        let drawn = [draw(0, 0, 1, 0.38647395397981177), draw(1, 0, 0, 0.7178352697276599)];
        assert_eq!(all[11].injections, drawn);
    }

    #[test]
    fn shards() {
        assert_eq!((shard(8, 8), shard(1, 1)), (shard(0, 8), Shard::WHOLE));
        assert_eq!(shard(3, 8).to_string(), "3/8");
        for bad in ["", "1", "1/0", "2/1", "-1/2", "1/1000001", "1/2/3"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
