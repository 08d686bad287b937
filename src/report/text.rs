//! A report on a terminal.

use super::comparison::{Compared, Comparison, Pairs};
use super::figure::{estimate, short};
use super::tables::{self, Table};
use super::{Report, sentences};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as Grid};
use std::fmt::{self, Display, Formatter};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.warnings.iter().try_for_each(|warning| writeln!(f, "! {warning}"))?;
        writeln!(f, "{}: {}", self.plan, sentences::done(self))?;
        writeln!(f, "drawn from: {}\n", self.sampled_from)?;
        tables::outcomes(self).fmt(f)?;
        sentences::notes(self).iter().try_for_each(|note| writeln!(f, "{note}"))?;
        if let Some(sizes) = &self.by_size {
            titled(f, &tables::by_size(sizes))?;
        }
        writeln!(f, "\n{}", sentences::sampling(self))?;
        tables::needed(self).iter().try_for_each(|needed| needed.fmt(f))?;
        let groups = [tables::by_target(self), tables::by_bit(self), tables::by_time(self)];
        let metrics = self.metrics.iter().map(|(name, own)| tables::metric(name, own));
        groups.into_iter().chain(metrics).try_for_each(|table| titled(f, &table))?;
        writeln!(f, "\n{}", sentences::extrapolated(self))
    }
}

/// A table with its caption above, if there is something in it.
fn titled(f: &mut Formatter, table: &Table) -> fmt::Result {
    if table.rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{}", table.caption)?;
    table.fmt(f)
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut grid = Grid::new();
        grid.load_style(NOTHING).set_header(&self.header);
        grid.add_rows(&self.rows);
        let numbers = grid.column_iter_mut().skip(1);
        numbers.for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        grid.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

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
                writeln!(f, "  {}{} bit-seconds more", ratio.unwrap_or_default(), estimate(more))?;
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
