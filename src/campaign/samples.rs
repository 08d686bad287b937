//! What the tests of several files make up: plans, runs and stores of no real program.

use super::expand::{Draw, Kind, Trial};
use super::outcome::{Outcome, Verdict};
use super::plan::Plan;
use super::ran::{Ending, LastLook, Made, Overhead, Ran};
use super::store::{DIGEST, Facts, PLAN, PLAN_PATH, SHARD};
use crate::fault::Fault;
use crate::inject::{Hex, Receipt};
use crate::site;
use crate::victim::Output;
use std::path::Path;
use std::time::Duration;

const LEAST: &str =
    "trials = 2\nnull = 1\n[program]\ncommand = ['v']\n[[target]]\nat = 'x'\n[[fault]]\nflip = 1\n";

/// The least plan, with `tables` behind it.
pub fn plan(tables: &str) -> Plan {
    Plan::parse(format!("{LEAST}{tables}"), Path::new("p.toml")).unwrap()
}

/// The same, of a program that counts its iterations in `k`.
pub fn counting(tables: &str) -> Plan {
    let least = LEAST.replace("[program]\n", "[program]\ncounter = 'k'\n");
    Plan::parse(format!("{least}{tables}"), Path::new("p.toml")).unwrap()
}

/// What the part `shard` of the campaign of `plan` is.
pub fn facts(plan: &Plan, shard: &str) -> Facts {
    let digest = plan.digest();
    let all = [(PLAN, &*plan.text), (PLAN_PATH, "/p.toml"), (DIGEST, &digest), (SHARD, shard)];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A run of this outcome.
pub fn verdict(outcome: Outcome) -> Verdict {
    Verdict { outcome, why: String::new(), tolerated: false }
}

/// What a program has printed, all of which is known.
pub fn output(text: &str) -> Output {
    let hash = text.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(byte));
    Output { tail: text.into(), total: text.len() as u64, hash }
}

/// A run that ended well and printed `text`, into which one fault went.
pub fn ran(text: &str) -> Ran {
    Ran {
        ending: Ending::Exited(0),
        stdout: output(text),
        stderr: Output::default(),
        time: Duration::from_millis(10),
        cpu_time: Duration::from_millis(5),
        host_cpu_time: Duration::from_millis(20),
        iterations: None,
        iteration_time: None,
        points: Vec::new(),
        variables: Vec::new(),
        injections: vec![made(0)],
        overhead: Overhead::default(),
    }
}

/// The same, which ended in this way.
pub fn ended(text: &str, ending: Ending) -> Ran {
    Ran { ending, ..ran(text) }
}

/// An injection that went in.
pub fn made(number: u64) -> Made {
    Made {
        number,
        receipt: Some(receipt()),
        why: None,
        at: Some(Duration::from_millis(3)),
        cpu_time: None,
        iteration: Some(4.0),
        fate: Some(LastLook::Overwritten { by: Hex(vec![7]) }),
    }
}

/// One that did not.
pub fn missed(number: u64, why: &str) -> Made {
    Made { receipt: None, why: Some(why.to_owned()), fate: None, ..made(number) }
}

/// A trial with one injection.
pub fn trial(number: u64, kind: Kind) -> Trial {
    let draw = Draw { number: 0, target: 0, fault: 0, at: 0.25 };
    Trial { number, kind, seed: 5, injections: vec![draw] }
}

fn receipt() -> Receipt {
    Receipt {
        pid: 10,
        victim_pid: 11,
        comm: "v".to_owned(),
        symbol: "x".to_owned(),
        offset: 0,
        gva: 0x40_0000,
        gpa: 0x1000,
        size: 1,
        fault: "flip 1".to_owned(),
        before: Hex(vec![0]),
        after: Hex(vec![1]),
        read_back: Some(Hex(vec![1])),
        overwritten: false,
        atomic: true,
        seed: Some(5),
        injection: None,
        drawn: None,
        verdict: site::Verdict::Anonymous,
        effect_unproven: false,
        paused: false,
        trigger: None,
        fate: None,
        hold: None,
        change: Fault::set(vec![1]),
        time: String::new(),
        monotonic_ns: 0,
    }
}
