//! Every run as a row, for the script of the page to show and to search.

use crate::campaign::store::{Injection, Record};
use crate::report::Findings;
use crate::report::breakdown::{self, Clock, target_name};
use crate::report::figure::{exact, line, short};
use crate::report::value;
use crate::scalar::Scalar;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The columns before the metrics.
const COLUMNS: [&str; 9] =
    ["run", "kind", "outcome", "why", "target", "bit", "moment", "value", "fate"];
/// Of so many injections each is told; of more, how many there are.
const FEW: usize = 3;

/// The rows of a store, and what they can be chosen by.
pub struct Rows {
    /// The rows: JSON that can stand in a page.
    pub json: String,
    /// The kinds, outcomes, targets and bits that occur.
    pub choices: Vec<(&'static str, Vec<String>)>,
}

/// What the cells of a store's rows are made of.
struct Cells<'f> {
    findings: &'f Findings,
    clock: Clock,
    scalars: Vec<Option<Scalar>>,
    metrics: Vec<String>,
}

impl Rows {
    pub fn of(findings: &Findings) -> Self {
        let cells = Cells::of(findings);
        let rows: Vec<_> = findings.records.iter().map(|record| cells.row(record)).collect();
        let clock = match cells.clock {
            Clock::Iterations => "iteration",
            Clock::Seconds => "second",
        };
        let mut columns: Vec<_> = COLUMNS.map(str::to_owned).to_vec();
        columns[6] = clock.to_owned();
        columns.extend(cells.metrics.iter().map(|name| line(name)));
        let all = json!({"columns": columns, "rows": rows});
        Self { json: harmless(&all.to_string()), choices: cells.choices() }
    }
}

impl<'f> Cells<'f> {
    fn of(findings: &'f Findings) -> Self {
        let targets = 0..findings.plan.targets.len();
        let metrics = findings.records.iter().flat_map(|record| record.metrics.keys());
        let metrics: BTreeSet<_> = metrics.cloned().collect();
        Self {
            findings,
            clock: breakdown::clock(findings),
            scalars: targets.map(|index| value::scalar(findings, index)).collect(),
            metrics: metrics.into_iter().collect(),
        }
    }

    /// A cell for each column; targets and bits are lists, to be chosen by.
    fn row(&self, record: &Record) -> Value {
        let injections = &record.injections;
        let targets: BTreeSet<_> = injections.iter().map(|own| self.target(own)).collect();
        let bits: BTreeSet<_> = injections.iter().filter_map(bit).collect();
        let metrics = self.metrics.iter().map(|name| match record.metrics.get(name) {
            Some(value) => exact(*value).into(),
            None => Value::Null,
        });
        let head = [
            record.number.into(),
            record.kind.name().into(),
            record.outcome.name().into(),
            line(&why(record)).into(),
            targets.into_iter().collect(),
            bits.into_iter().map(|bit| bit.to_string()).collect(),
            self.told(record, |own| self.moment(own)).into(),
            self.told(record, |own| self.change(own)).into(),
            fates(record).into(),
        ];
        head.into_iter().chain(metrics).collect()
    }

    /// What `of` says of each injection, or of the first and the last.
    fn told(&self, record: &Record, of: impl Fn(&Injection) -> Option<String>) -> String {
        let all: Vec<_> = record.injections.iter().filter_map(of).map(|own| line(&own)).collect();
        match &*all {
            [first, .., last] if all.len() > FEW => format!("{first} … {last} ({})", all.len()),
            _ => all.join(", "),
        }
    }

    fn target(&self, own: &Injection) -> String {
        line(&target_name(self.findings, own.target))
    }

    fn moment(&self, own: &Injection) -> Option<String> {
        match self.clock {
            Clock::Iterations => own.iteration.map(exact),
            Clock::Seconds => own.time.map(|time| short(time.as_secs_f64())),
        }
    }

    fn change(&self, own: &Injection) -> Option<String> {
        let written = own.written.as_ref()?;
        let scalar = self.scalars.get(own.target).copied().flatten();
        let shown = |bytes| value::shown(bytes, scalar);
        Some(format!("{} → {}", shown(&written.before), shown(&written.after)))
    }

    /// What occurs, in the order in which it is offered.
    fn choices(&self) -> Vec<(&'static str, Vec<String>)> {
        let records = &self.findings.records;
        let names = |of: fn(&Record) -> &'static str| {
            let all: BTreeSet<_> = records.iter().map(of).collect();
            all.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let injections = || records.iter().flat_map(|record| &record.injections);
        let targets: BTreeSet<_> = injections().map(|own| self.target(own)).collect();
        let bits: BTreeSet<_> = injections().filter_map(bit).collect();
        vec![
            ("kind", names(|record| record.kind.name())),
            ("outcome", names(|record| record.outcome.name())),
            ("target", targets.into_iter().collect()),
            ("bit", bits.into_iter().map(|bit| bit.to_string()).collect()),
        ]
    }
}

fn bit(own: &Injection) -> Option<u64> {
    own.written.as_ref()?.bit()
}

/// Why the run came to its outcome; of one into which nothing went, why not.
fn why(record: &Record) -> String {
    let tolerated = if record.tolerated { "tolerated: " } else { "" };
    format!("{tolerated}{}", record.why)
}

/// What had become of its faults: of several, of how many.
fn fates(record: &Record) -> String {
    let fate = |own: &Injection| {
        let fate = own.fate.as_ref()?;
        Some(match own.fate_by.as_ref().filter(|_| record.injections.len() == 1) {
            Some(by) => format!("{fate} by {by}"),
            None => fate.clone(),
        })
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    record
        .injections
        .iter()
        .filter_map(fate)
        .for_each(|own| *counts.entry(line(&own)).or_default() += 1);
    let told = |(name, count): (&String, &u64)| match count {
        1 => name.clone(),
        count => format!("{name} {count}"),
    };
    counts.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// `json` without anything that a page could take for a tag: JSON has these letters in strings alone.
fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
