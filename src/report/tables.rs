//! The tables of a report, wherever it is shown.

use super::Report;
use super::breakdown::{Clock, Tally};
use super::comparison::{Compared, Comparison};
use super::figure::{estimate, exact, interval, line, percent, short};
use super::metric::Metric;
use super::statistics::{Estimate, Share};
use crate::campaign::outcome::Outcome;
use crate::campaign::plan::Figures;
use std::collections::BTreeMap;

/// A table, of which all columns but the first are numbers.
pub struct Table {
    /// What it is of.
    pub caption: String,
    /// The names of its columns.
    pub header: Vec<String>,
    /// Its cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(caption: &str, header: &[&str], rows: Vec<Vec<String>>) -> Self {
        let header = header.iter().map(|own| line(own)).collect();
        let rows = rows.iter().map(|row| row.iter().map(|cell| line(cell)).collect()).collect();
        Self { caption: line(caption), header, rows }
    }
}

/// Outcomes with their intervals; those that are failures together.
pub fn outcomes(report: &Report) -> Table {
    let row = |name: &str, own: &Share| {
        let Share { count, share, low, high } = *own;
        vec![name.to_owned(), count.to_string(), percent(share), interval(low, high)]
    };
    let all =
        Outcome::ALL.iter().filter_map(|own| Some((own.name(), report.outcomes.get(own.name())?)));
    let mut rows: Vec<_> = all.map(|(name, own)| row(name, own)).collect();
    rows.push(row("failed", &report.failed.share));
    let bounds = if report.sampling.census { "bounds, %" } else { "95 %" };
    Table::new("Outcomes", &["outcome", "trials", "share", bounds], rows)
}

/// Shares if each target is hit as often as it has bits.
pub fn by_size(sizes: &BTreeMap<&'static str, Estimate>) -> Table {
    let row = |(name, own): (&&str, &Estimate)| {
        vec![(*name).to_owned(), percent(own.value), interval(own.low, own.high)]
    };
    let caption =
        "If each target is hit as often as it has bits (those above are of the plan's own mix)";
    Table::new(caption, &["outcome", "share", "95 %"], sizes.iter().map(row).collect())
}

/// How many trials a margin takes; none of a census.
pub fn needed(report: &Report) -> Option<Table> {
    let row = |own: &crate::report::sampling::Needed| {
        let more = if own.more == 0 { "reached".to_owned() } else { own.more.to_string() };
        vec![format!("±{} %", exact(100.0 * own.margin)), own.trials.to_string(), more]
    };
    let rows: Vec<_> = report.sampling.needed.iter().map(row).collect();
    let header = ["margin", "injected trials", "still needed"];
    (!rows.is_empty())
        .then(|| Table::new("Trials for a margin, with 95 % confidence", &header, rows))
}

pub fn by_target(report: &Report) -> Table {
    let rows = report.by_target.iter().map(|own| (own.target.clone(), &own.tally));
    groups("By target", "target", &rows.collect::<Vec<_>>())
}

pub fn by_bit(report: &Report) -> Table {
    let several = report.by_target.len() > 1;
    let rows = report.by_bit.iter().map(|own| {
        let bit = own.bit.to_string();
        (if several { format!("{} {bit}", own.target) } else { bit }, &own.tally)
    });
    groups("By bit", "bit", &rows.collect::<Vec<_>>())
}

pub fn by_time(report: &Report) -> Table {
    let rows = report.by_time.iter().map(|own| {
        let last = if report.clock == Clock::Iterations { own.to - 1.0 } else { own.to };
        let from = exact(own.from);
        (if last <= own.from { from } else { format!("{from} to {}", short(last)) }, &own.tally)
    });
    let clock = match report.clock {
        Clock::Iterations => "iteration",
        Clock::Seconds => "second",
    };
    groups("By time of injection", clock, &rows.collect::<Vec<_>>())
}

/// What the trials of each group came to: outcomes that are in none have no column.
fn groups(caption: &str, what: &str, groups: &[(String, &Tally)]) -> Table {
    let seen = |outcome: &Outcome| groups.iter().any(|(_, tally)| tally.count(*outcome) > 0);
    let outcomes: Vec<_> = Outcome::ALL.into_iter().filter(seen).collect();
    let row = |(name, tally): &(String, &Tally)| {
        let Share { share, low, high, .. } = tally.failed;
        let counts = outcomes.iter().map(|outcome| tally.count(*outcome).to_string());
        let ends = [percent(share), interval(low, high)];
        [name.clone(), tally.trials.to_string()].into_iter().chain(counts).chain(ends).collect()
    };
    let names = outcomes.iter().map(|outcome| outcome.name());
    let header: Vec<_> =
        [what, "trials"].into_iter().chain(names).chain(["failed", "95 %"]).collect();
    Table::new(caption, &header, groups.iter().map(row).collect())
}

/// What a row of a metric's table is called, and has of each column's figures.
type Figure = (&'static str, fn(&Figures) -> Option<f64>);

/// What is told of a metric, in the order of the paper's table.
const FIGURES: [Figure; 8] = [
    ("runs", |own| own.runs.map(|runs| runs as f64)),
    ("minimum", |own| own.min),
    ("maximum", |own| own.max),
    ("mean", |own| own.mean),
    ("median", |own| own.median),
    ("mode", |own| own.mode),
    ("variance", |own| own.variance),
    ("standard deviation", |own| own.sd),
];

/// A metric, a column for each kind of runs, here and as others have published it.
pub fn metric(name: &str, metric: &Metric) -> Table {
    let own = [("golden", metric.golden), ("injected", metric.injected)];
    let own = own.map(|(kind, figures)| (kind.to_owned(), figures.map(Figures::from)));
    let published = metric.published.iter().flat_map(|own| {
        [("golden", own.golden), ("injected", own.injected)]
            .map(|(kind, figures)| (format!("{kind}, {}", own.source), figures))
    });
    let columns: Vec<_> =
        own.into_iter().chain(published).filter_map(|(name, own)| Some((name, own?))).collect();
    let row = |(what, of): &Figure| {
        let cells = columns.iter().map(|(_, own)| of(own).map(exact).unwrap_or_default());
        [(*what).to_owned()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let header: Vec<_> =
        [""].into_iter().chain(columns.iter().map(|(name, _)| name.as_str())).collect();
    let missing = match metric.not_finite {
        0 => String::new(),
        count => format!(" ({count} injected trials have no finite value)"),
    };
    let rows = if columns.is_empty() { Vec::new() } else { FIGURES.iter().map(row).collect() };
    Table::new(&format!("{name}{missing}"), &header, rows)
}

/// Each of the other stores beside the first.
pub fn comparison(comparison: &Comparison) -> Table {
    let header = [
        "store",
        "failures more, bit-seconds",
        "times as many",
        "pairs",
        "failed in both",
        "only in the first",
        "only in this",
        "in neither",
        "McNemar's p",
    ];
    let rows = comparison.with_first.iter().map(compared).collect();
    let first = comparison.with_first.first().map(|own| own.first.as_str()).unwrap_or_default();
    Table::new(&format!("Beside {first}"), &header, rows)
}

fn compared(own: &Compared) -> Vec<String> {
    let unknown = || "not to be told".to_owned();
    let more = own.more_failures.as_ref().map_or_else(unknown, estimate);
    let ratio = own.ratio.map_or_else(unknown, short);
    let pairs = match own.pairs {
        Some(pairs) => {
            let counts =
                [pairs.pairs, pairs.both, pairs.only_first, pairs.only_other, pairs.neither];
            counts.map(|count| count.to_string()).into_iter().chain([short(pairs.p)]).collect()
        }
        None => vec!["none: not the same draws".to_owned(); 1],
    };
    let missing = vec![String::new(); 6 - pairs.len()];
    [vec![own.store.clone(), more, ratio], pairs, missing].concat()
}
