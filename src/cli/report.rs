//! `vmfi report DB...`: what a campaign's store shows: outcomes with their 95 % intervals, by target, bit
//! and time; the metrics of the runs without faults and with; and of several stores, how they compare.
//! `--csv trials` and `--csv injections` print a row for each run, or for each injection, instead.

use super::output;
use crate::campaign::store::{Store, StoreError};
use crate::report::rows::{self, Rows};
use crate::report::{Comparison, Findings, Report};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Tell what the trials of a campaign came to, or of several beside each other
#[derive(Args)]
pub struct ReportArgs {
    /// The stores that 'vmfi campaign run' has made
    #[arg(value_name = "DB", required = true)]
    stores: Vec<PathBuf>,
    /// Print a row for each of these instead, as comma-separated values
    #[arg(long, value_name = "ROWS", conflicts_with = "json")]
    csv: Option<Rows>,
}

/// What a store has, and what that shows.
type Shown = (Findings, Report);

pub fn run(args: &ReportArgs, json: bool) -> anyhow::Result<()> {
    let read = |path: &PathBuf| Ok(shown(&Store::read(path)?)?);
    let all = args.stores.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    match args.csv {
        Some(rows) => {
            let findings: Vec<_> = all.iter().map(|(findings, _)| findings).collect();
            output::text(&output::visible(&rows::table(rows, &findings)?))
        }
        None => print(&all, json),
    }
}

fn shown(store: &Store) -> Result<Shown, StoreError> {
    let findings = Findings::of(store)?;
    let report = Report::of(&findings);
    Ok((findings, report))
}

/// Prints the report of `store`.
pub fn of_store(store: &Store, json: bool) -> anyhow::Result<()> {
    print(&[shown(store)?], json)
}

fn print(all: &[Shown], json: bool) -> anyhow::Result<()> {
    let comparison = Comparison::of(all);
    let reports: Vec<_> = all.iter().map(|(_, report)| report).collect();
    match (&comparison, &*reports) {
        (None, [report]) if json => output::json(report),
        (comparison, reports) if json => {
            output::json(&json!({"reports": reports, "comparison": comparison}))
        }
        _ => {
            let mut text: Vec<_> = reports.iter().map(ToString::to_string).collect();
            text.extend(comparison.map(|own| own.to_string()));
            output::text(&output::visible(&text.join("\n")))
        }
    }
}
