//! `vmfi report DB...`: what a campaign's store shows: outcomes with their 95 % intervals, by target, bit
//! and time; the metrics of the runs without faults and with; and of several stores, how they compare.
//! `--csv trials` and `--csv injections` print a row for each run, or for each injection, instead.

use super::error::UsageError;
use super::output;
use crate::campaign::store::{Store, StoreError};
use crate::report::rows::{self, Rows};
use crate::report::{Comparison, Findings, Report, page, plot};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Tell what the trials of a campaign came to, or of several beside each other
#[derive(Args)]
pub struct ReportArgs {
    /// The stores that 'vmfi campaign run' has made
    #[arg(value_name = "DB", required = true)]
    stores: Vec<PathBuf>,
    /// Print a row for each of these instead, as comma-separated values
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["html", "plots"])]
    csv: Option<Rows>,
    /// Write it to FILE, as one page with plots, for browsers
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the plots into FOLDER, each as an SVG file
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

/// What a store has, and what that shows.
type Shown = (Findings, Report);

pub fn run(args: &ReportArgs, json: bool) -> anyhow::Result<()> {
    // An option of every command is none that clap knows to be in the way of others.
    if json && (args.csv.is_some() || args.html.is_some() || args.plots.is_some()) {
        let what = "--json is a document of its own: leave out --csv, --html and --plots";
        return Err(UsageError(what.to_owned()).into());
    }
    let read = |path: &PathBuf| Ok(shown(&Store::read(path)?)?);
    let all = args.stores.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(rows) = args.csv {
        return print_rows(rows, &all);
    }
    match (&args.html, &args.plots) {
        (None, None) => print(&all, json),
        (html, plots) => {
            html.iter().try_for_each(|path| write_page(path, &all))?;
            plots.iter().try_for_each(|folder| write_plots(folder, &all))
        }
    }
}

fn print_rows(rows: Rows, all: &[Shown]) -> anyhow::Result<()> {
    let findings: Vec<_> = all.iter().map(|(findings, _)| findings).collect();
    output::text(&output::visible(&rows::table(rows, &findings)?))
}

fn write_page(path: &Path, all: &[Shown]) -> anyhow::Result<()> {
    write(path, &page::page(all)?)
}

/// Writes the plots of all stores into `folder`; of several, each name begins with the store's number.
fn write_plots(folder: &Path, all: &[Shown]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (index, (findings, report)) in all.iter().enumerate() {
        let store = if all.len() > 1 { format!("{}-", index + 1) } else { String::new() };
        for plot in plot::all(findings, report) {
            let path = folder.join(format!("{store}{}.svg", plot.name));
            match plot.drawn {
                Ok(drawing) => write(&path, &drawing.standalone(&plot.title))?,
                Err(why) => {
                    output::text(&output::visible(&format!("no {}: {why}\n", path.display())))?
                }
            }
        }
    }
    Ok(())
}

/// Writes a file, and says which.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    output::file(path, text)?;
    output::text(&output::visible(&format!("{}\n", path.display())))
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
