//! `vmfi report DB...`: what a campaign's store shows: outcomes with their 95 % intervals, by target, bit
//! and time; the metrics of the runs without faults and with; and of several stores, how they compare.

use super::output;
use crate::campaign::store::Store;
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
}

pub fn run(args: &ReportArgs, json: bool) -> anyhow::Result<()> {
    let read = |path: &PathBuf| Ok(shown(&Store::read(path)?)?);
    let all = args.stores.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    print(&all, json)
}

fn shown(store: &Store) -> Result<(Findings, Report), crate::campaign::store::StoreError> {
    let findings = Findings::of(store)?;
    let report = Report::of(&findings);
    Ok((findings, report))
}

/// Prints the report of `store`.
pub fn of_store(store: &Store, json: bool) -> anyhow::Result<()> {
    print(&[shown(store)?], json)
}

fn print(all: &[(Findings, Report)], json: bool) -> anyhow::Result<()> {
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
