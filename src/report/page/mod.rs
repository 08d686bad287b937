//! A report as one page: it needs nothing else, neither another file nor the network.
//!
//! All text of a store is hostile: the template escapes what it writes, [`line`] shows what would be obeyed,
//! and rows are JSON in which no tag can begin.

mod rows;

use super::figure::line;
use super::plot::ink::{Ink, hex};
use super::plot::{self, Plot};
use super::tables::{self, Table};
use super::{Comparison, Findings, Report, sentences};
use crate::campaign::plan::LARGEST_SEED;
use crate::campaign::store::{MARK, PLAN};
use askama::Template;
use rows::Rows;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    title: String,
    style: String,
    script: &'static str,
    comparison: Option<Table>,
    sections: Vec<Section>,
    version: &'static str,
}

/// What it has of a store.
struct Section {
    /// What the addresses of its parts begin with.
    id: String,
    /// The plan's name.
    plan: String,
    /// The store's file.
    path: String,
    warnings: Vec<String>,
    /// What was done, and what the faults were drawn from.
    done: String,
    sampled_from: String,
    outcomes: Table,
    /// Sentences on the outcomes.
    notes: Vec<String>,
    by_size: Option<Table>,
    sampling: String,
    needed: Option<Table>,
    by_target: Table,
    by_bit: Table,
    by_time: Table,
    metrics: Vec<Table>,
    extrapolated: String,
    facts: Table,
    plan_text: String,
    rows: Rows,
    /// The plots by the part that they belong to.
    outcome_plots: Vec<Figure>,
    bit_plots: Vec<Figure>,
    time_plots: Vec<Figure>,
    metric_plots: Vec<Figure>,
}

/// A plot in the page.
struct Figure {
    id: String,
    title: String,
    /// The SVG, which has escaped all texts itself, and the caption.
    drawn: Option<(String, String)>,
    /// Why there is none.
    missing: String,
}

/// The page of these stores.
pub fn page(all: &[(Findings, Report)]) -> Result<String, askama::Error> {
    let sections = all.iter().enumerate().map(|(index, (findings, report))| {
        Section::of(&format!("s{}", index + 1), findings, report)
    });
    let names: Vec<_> = all.iter().map(|(_, report)| line(&report.plan)).collect();
    let page = Page {
        title: names.join(", "),
        style: inks() + STYLE,
        script: SCRIPT,
        comparison: Comparison::of(all).as_ref().map(tables::comparison),
        sections: sections.collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    page.render()
}

/// The variables of the plots' colours: on paper, and in the dark.
fn inks() -> String {
    let of = |which: fn(&plot::ink::Colors) -> [u8; 3]| {
        let all = Ink::ALL.iter().map(|own| format!("--{}:{};", own.1, hex(which(own))));
        all.collect::<String>()
    };
    let (light, dark) = (of(|own| own.2), of(|own| own.3));
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}

impl Section {
    fn of(id: &str, findings: &Findings, report: &Report) -> Self {
        let mut plots = plot::all(findings, report);
        let mut of = |parts: &[&str]| {
            let own = |plot: &mut Plot| parts.iter().any(|part| plot.name.starts_with(part));
            plots.extract_if(.., own).map(|plot| Figure::of(id, &plot)).collect()
        };
        Self {
            id: id.to_owned(),
            plan: line(&report.plan),
            path: line(&findings.path.display().to_string()),
            warnings: report.warnings.iter().map(|own| line(own)).collect(),
            done: sentences::done(report),
            sampled_from: line(&report.sampled_from),
            outcomes: tables::outcomes(report),
            notes: sentences::notes(report),
            by_size: report.by_size.as_ref().map(tables::by_size),
            sampling: sentences::sampling(report),
            needed: tables::needed(report),
            by_target: tables::by_target(report),
            by_bit: tables::by_bit(report),
            by_time: tables::by_time(report),
            metrics: report.metrics.iter().map(|(name, own)| tables::metric(name, own)).collect(),
            extrapolated: sentences::extrapolated(report),
            facts: facts(findings),
            plan_text: findings.plan.text.lines().map(|own| line(own) + "\n").collect(),
            rows: Rows::of(findings),
            outcome_plots: of(&["outcomes"]),
            bit_plots: of(&["map", "bits"]),
            time_plots: of(&["moments", "curve"]),
            metric_plots: of(&["metric", "agreement"]),
        }
    }
}

impl Figure {
    fn of(section: &str, plot: &Plot) -> Self {
        let id = format!("{section}-{}", plot.name);
        let drawn = plot.drawn.as_ref();
        Self {
            title: plot.title.clone(),
            drawn: drawn.ok().map(|own| (own.inline(&id, &plot.title), own.caption.clone())),
            missing: drawn.err().map(|why| line(why)).unwrap_or_default(),
            id,
        }
    }
}

/// How it was run.
fn facts(findings: &Findings) -> Table {
    let seed = findings.plan.seed.min(LARGEST_SEED).to_string();
    let hidden = |name: &str| name == PLAN || name == MARK;
    let known = findings.facts.iter().filter(|(name, _)| !hidden(name));
    let known = known.map(|(name, value)| vec![name.replace('_', " "), value.clone()]);
    let seed = vec!["seed".to_owned(), seed];
    Table::new("How it was run", &["", ""], std::iter::once(seed).chain(known).collect())
}
