//! `vmfi report DB`: what a campaign's store shows: outcomes with their 95 % intervals, and the metrics
//! of the runs without faults and with.

use super::output;
use crate::campaign::store::Store;
use crate::report::Report;
use clap::Args;
use std::path::PathBuf;

/// Tell what the trials of a campaign came to
#[derive(Args)]
pub struct ReportArgs {
    /// The store that 'vmfi campaign run' has made
    #[arg(value_name = "DB")]
    store: PathBuf,
}

pub fn run(args: &ReportArgs, json: bool) -> anyhow::Result<()> {
    print(&Store::read(&args.store)?, json)
}

/// Prints the report of `store`.
pub fn print(store: &Store, json: bool) -> anyhow::Result<()> {
    let report = Report::of(store)?;
    if json { output::json(&report) } else { output::text(&report.to_string()) }
}
