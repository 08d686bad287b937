//! A report on a terminal.

use super::Report;
use super::breakdown::{Clock, Tally};
use super::comparison::{Compared, Comparison, Pairs};
use super::figure::{exact, interval, percent, short};
use super::metric::Metric;
use super::sampling::Sampling;
use super::space::Extrapolated;
use super::statistics::{Estimate, Share, none_of};
use crate::campaign::outcome::Outcome;
use crate::campaign::plan::Figures;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use std::fmt::{self, Display, Formatter};

/// No more reasons than these are told.
const MOST_REASONS: usize = 5;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "! {warning}")?;
        }
        writeln!(f, "{}: {} trials of {}", self.plan, self.trials, self.planned)?;
        writeln!(f, "drawn from: {}\n", self.sampled_from)?;
        self.outcomes(f)?;
        self.controls(f)?;
        self.sampling.fmt(f)?;
        self.groups(f)?;
        self.metrics.iter().try_for_each(|(name, metric)| self::metric(f, name, metric))?;
        self.extrapolated(f)
    }
}

impl Report {
    fn outcomes(&self, f: &mut Formatter) -> fmt::Result {
        let share = |name: &str, own: &Share| {
            let Share { count, share, low, high } = *own;
            vec![name.to_owned(), count.to_string(), percent(share), interval(low, high)]
        };
        let all = Outcome::ALL
            .iter()
            .filter_map(|own| Some((own.name(), self.outcomes.get(own.name())?)));
        let mut rows: Vec<_> = all.map(|(name, own)| share(name, own)).collect();
        rows.push(share("failed", &self.failed.share));
        table(f, &["outcome", "trials", "share", "95 %"], &rows)?;
        writeln!(
            f,
            "Failed are all but the masked and the detected. Shares are of the injected, not_injected is of all."
        )?;
        let injected = self.trials - self.outcomes.get("not_injected").map_or(0, |own| own.count);
        if self.failed.share.count == 0 && injected > 0 && !self.sampling.census {
            writeln!(
                f,
                "None of {injected} failed: below {} (95 %, one-sided).",
                percent(none_of(injected))
            )?;
        }
        if injected < self.trials {
            let (none, all) = (percent(self.failed.if_none), percent(self.failed.if_all));
            writeln!(
                f,
                "Failed of all trials: {none} if none of the not injected had, {all} if all had."
            )?;
        }
        let reasons = self.not_injected.iter().take(MOST_REASONS);
        reasons
            .map(|(why, count)| writeln!(f, "Not injected, {count}: {why}"))
            .collect::<fmt::Result>()?;
        self.by_size.iter().try_for_each(|sizes| by_size(f, sizes))
    }

    /// What else there is to say of runs.
    fn controls(&self, f: &mut Formatter) -> fmt::Result {
        if self.tolerated > 0 {
            writeln!(f, "Of the masked, {} differ and are tolerated.", self.tolerated)?;
        }
        let list = |counts: &mut dyn Iterator<Item = (String, u64)>| {
            let all: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
            let words = all.iter().map(|(name, count)| format!("{name} {count}"));
            if all.is_empty() { "none".to_owned() } else { words.collect::<Vec<_>>().join(", ") }
        };
        let null = list(&mut self.null.iter().map(|(name, own)| ((*name).to_owned(), own.count)));
        writeln!(f, "Golden runs: {}. Null trials: {null}.", self.golden)?;
        if !self.fates.is_empty() {
            let fates = list(&mut self.fates.iter().map(|(name, count)| (name.clone(), *count)));
            writeln!(f, "Faults at the end: {fates}.")?;
        }
        if self.failures > 0 {
            writeln!(f, "{} runs came to nothing and were made again.", self.failures)?;
        }
        writeln!(f)
    }

    fn groups(&self, f: &mut Formatter) -> fmt::Result {
        let targets: Vec<_> =
            self.by_target.iter().map(|own| (own.target.clone(), &own.tally)).collect();
        let several = self.by_target.len() > 1;
        let bits = self.by_bit.iter().map(|own| {
            let bit = own.bit.to_string();
            (if several { format!("{} {bit}", own.target) } else { bit }, &own.tally)
        });
        let times = self.by_time.iter().map(|own| {
            let last = if self.clock == Clock::Iterations { own.to - 1.0 } else { own.to };
            let from = exact(own.from);
            (if last == own.from { from } else { format!("{from} to {}", short(last)) }, &own.tally)
        });
        let clock = match self.clock {
            Clock::Iterations => "iteration",
            Clock::Seconds => "second",
        };
        groups(f, "target", &targets)?;
        groups(f, "bit", &bits.collect::<Vec<_>>())?;
        groups(f, clock, &times.collect::<Vec<_>>())
    }

    fn extrapolated(&self, f: &mut Formatter) -> fmt::Result {
        match (&self.extrapolated, &self.not_extrapolated) {
            (Some(Extrapolated { space, failures }), _) => {
                let size: f64 = space.iter().map(super::space::Space::size).sum();
                let failures = estimate(failures);
                writeln!(
                    f,
                    "Failures in all of the space: {failures} of {} bit-seconds.",
                    short(size)
                )
            }
            (None, Some(why)) => writeln!(f, "Failures in all of the space cannot be told: {why}."),
            (None, None) => Ok(()),
        }
    }
}

fn by_size(
    f: &mut Formatter,
    sizes: &std::collections::BTreeMap<&'static str, Estimate>,
) -> fmt::Result {
    writeln!(
        f,
        "\nThese shares are of the plan's own mix of targets. If each is hit as often as it has bits:"
    )?;
    let row = |(name, own): (&&str, &Estimate)| {
        vec![(*name).to_owned(), percent(own.value), interval(own.low, own.high)]
    };
    table(f, &["outcome", "share", "95 %"], &sizes.iter().map(row).collect::<Vec<_>>())
}

impl Display for Sampling {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.census {
            return writeln!(f, "A census: these are all that there are, and no sample.\n");
        }
        let population = self.population.map_or("more than can be counted".to_owned(), exact);
        writeln!(f, "Sampled from {population}; margin reached: {}.", percent(self.margin))?;
        for needed in &self.needed {
            let (margin, trials) = (exact(100.0 * needed.margin), needed.trials);
            let more = match needed.more {
                0 => "reached".to_owned(),
                more => format!("{more} more"),
            };
            writeln!(f, "  for +-{margin} %: {trials} injected trials, {more}")?;
        }
        writeln!(f)
    }
}

/// What the trials of each group came to: outcomes that are in none have no column.
fn groups(f: &mut Formatter, what: &str, groups: &[(String, &Tally)]) -> fmt::Result {
    if groups.is_empty() {
        return Ok(());
    }
    let seen = |outcome: &Outcome| groups.iter().any(|(_, tally)| tally.count(*outcome) > 0);
    let outcomes: Vec<_> = Outcome::ALL.into_iter().filter(seen).collect();
    let row = |(name, tally): &(String, &Tally)| {
        let Share { share, low, high, .. } = tally.failed;
        let counts = outcomes.iter().map(|outcome| tally.count(*outcome).to_string());
        let ends = [percent(share), interval(low, high)];
        [name.clone(), tally.trials.to_string()].into_iter().chain(counts).chain(ends).collect()
    };
    let rows: Vec<Vec<_>> = groups.iter().map(row).collect();
    let names = outcomes.iter().map(|outcome| outcome.name());
    let header: Vec<_> =
        [what, "trials"].into_iter().chain(names).chain(["failed", "95 %"]).collect();
    table(f, &header, &rows)?;
    writeln!(f)
}

/// A metric, a column for each kind of runs, here and as others have published it.
fn metric(f: &mut Formatter, name: &str, metric: &Metric) -> fmt::Result {
    let own = [("golden", metric.golden), ("injected", metric.injected)];
    let own = own.map(|(kind, figures)| (kind.to_owned(), figures.map(Figures::from)));
    let published = metric.published.iter().flat_map(|own| {
        [("golden", own.golden), ("injected", own.injected)]
            .map(|(kind, figures)| (format!("{kind}: {}", own.source), figures))
    });
    let columns: Vec<_> =
        own.into_iter().chain(published).filter_map(|(name, own)| Some((name, own?))).collect();
    if columns.is_empty() {
        return writeln!(f, "{name}: no run has a number.\n");
    }
    let row = |(what, of): &(&str, fn(&Figures) -> Option<f64>)| {
        let cells = columns.iter().map(|(_, own)| of(own).map(exact).unwrap_or_default());
        [(*what).to_owned()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let header: Vec<_> =
        [name].into_iter().chain(columns.iter().map(|(name, _)| name.as_str())).collect();
    table(f, &header, &FIGURES.iter().map(row).collect::<Vec<_>>())?;
    if metric.not_finite > 0 {
        writeln!(f, "{} injected trials have no finite value.", metric.not_finite)?;
    }
    writeln!(f)
}

/// What is told of a metric, in the order of the paper's table.
pub const FIGURES: [(&str, fn(&Figures) -> Option<f64>); 8] = [
    ("runs", |own| own.runs.map(|runs| runs as f64)),
    ("minimum", |own| own.min),
    ("maximum", |own| own.max),
    ("mean", |own| own.mean),
    ("median", |own| own.median),
    ("mode", |own| own.mode),
    ("variance", |own| own.variance),
    ("standard deviation", |own| own.sd),
];

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.with_first.iter().try_for_each(|own| own.fmt(f))
    }
}

impl Display for Compared {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} beside {}:", self.store, self.first)?;
        match &self.more_failures {
            Some(more) => {
                let ratio =
                    self.ratio.map(|ratio| format!("{} times as many failures, ", short(ratio)));
                let ratio = ratio.unwrap_or_default();
                writeln!(f, "  {ratio}{} bit-seconds more", estimate(more))?;
            }
            None => writeln!(
                f,
                "  failures in all of the space cannot be told of both, and shares do not compare programs"
            )?,
        }
        match &self.pairs {
            Some(pairs) => pairs.fmt(f),
            None => writeln!(f, "  no pairs: they have not drawn the same"),
        }
    }
}

impl Display for Pairs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { pairs, both, only_first, only_other, neither, p } = self;
        writeln!(
            f,
            "  {pairs} pairs with the same fault: {both} failed in both, {only_first} only in the first, {only_other} only in the other, {neither} in neither; McNemar's p = {}",
            short(*p)
        )
    }
}

fn estimate(own: &Estimate) -> String {
    format!("{} [{}, {}]", short(own.value), short(own.low), short(own.high))
}

/// A table of which all columns but the first are numbers.
fn table(f: &mut Formatter, header: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    table.add_rows(rows);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let lines = table.lines();
    lines.into_iter().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
}
