//! What the tests of several files make up: findings of no real store.

use super::Findings;
use crate::campaign::outcome::Outcome;
use crate::campaign::samples::counting;
use crate::campaign::store::{Injection, Record, Written};
use crate::campaign::{Kind, Plan};
use crate::inject::Hex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Findings of a plan with `tables` behind the least, whose program counts its iterations.
pub fn findings(tables: &str, records: Vec<Record>) -> Findings {
    of_plan(counting(tables), records)
}

/// Findings of `plan`, of which all planned trials are those of `records`.
pub fn of_plan(plan: Plan, records: Vec<Record>) -> Findings {
    let planned = records.iter().filter(|record| record.kind == Kind::Injected).count() as u64;
    Findings {
        path: PathBuf::from("a.db"),
        plan,
        facts: BTreeMap::new(),
        records,
        planned,
        failures: 0,
        curves: BTreeMap::new(),
    }
}

/// Runs of these outcomes, each with one injection.
pub fn runs(kind: Kind, outcomes: &[Outcome]) -> Vec<Record> {
    let one = |(number, outcome): (u64, &Outcome)| record(number, kind, *outcome);
    (1..).zip(outcomes).map(one).collect()
}

/// A run that takes 10 ms and 4 iterations, with one injection into bit 1 of a byte of the first target, in its
/// iteration 3, unless it is a golden one or nothing went in.
pub fn record(number: u64, kind: Kind, outcome: Outcome) -> Record {
    let injection = injection(outcome != Outcome::NotInjected);
    let metrics = [("cpu_time", 0.005), ("iterations", 4.0)];
    Record {
        number,
        kind,
        outcome,
        why: if outcome == Outcome::NotInjected { "it was over" } else { "" }.to_owned(),
        tolerated: false,
        seed: number + 100,
        boot: Some(0),
        exit_status: Some(0),
        signal: None,
        time: Duration::from_millis(10),
        cpu_time: Duration::from_millis(5),
        host_cpu_time: Duration::from_millis(20),
        iteration_time: Some(Duration::from_millis(2)),
        host: "here".to_owned(),
        finished: "2026-11-29T00:00:00Z".to_owned(),
        injections: if kind == Kind::Golden { Vec::new() } else { vec![injection] },
        metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// An injection, made or not.
pub fn injection(made: bool) -> Injection {
    Injection {
        number: 0,
        target: 0,
        fault: 0,
        at: 0.25,
        written: made.then(|| written(&[0x10], &[0x12])),
        why: None,
        time: Some(Duration::from_millis(3)),
        cpu_time: None,
        iteration: Some(3.0),
        fate: made.then(|| "latent".to_owned()),
        fate_by: None,
    }
}

/// What was written over `before`.
pub fn written(before: &[u8], after: &[u8]) -> Written {
    Written {
        symbol: "x".to_owned(),
        offset: 0,
        gva: "0x401000".to_owned(),
        gpa: "0x1000".to_owned(),
        size: before.len() as u64,
        fault: "flip 1".to_owned(),
        before: Hex(before.to_vec()),
        after: Hex(after.to_vec()),
        overwritten: false,
        atomic: true,
        region: None,
        region_offset: None,
        sampled_from: None,
        time: "2026-11-29T00:00:00Z".to_owned(),
    }
}
