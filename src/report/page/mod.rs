//! A report as one page: it needs nothing else, neither another file nor the network.
//!
//! All text of a store is hostile: the template escapes what it writes, [`line`] shows what would be obeyed,
//! and rows are JSON in which no tag can begin.

mod rows;
mod tables;

use super::figure::{line, percent};
use super::plot::ink::{Ink, hex};
use super::plot::{self, Plot};
use super::space::{Extrapolated, Space};
use super::statistics::none_of;
use super::{Comparison, Findings, Report};
use crate::campaign::plan::LARGEST_SEED;
use crate::campaign::store::{MARK, PLAN};
use askama::Template;
use rows::Rows;
use tables::Table;

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
            done: done(report),
            sampled_from: line(&report.sampled_from),
            outcomes: tables::outcomes(report),
            notes: notes(report),
            by_size: report.by_size.as_ref().map(tables::by_size),
            sampling: sampling(report),
            needed: tables::needed(report),
            by_target: tables::by_target(report),
            by_bit: tables::by_bit(report),
            by_time: tables::by_time(report),
            metrics: report.metrics.iter().map(|(name, own)| tables::metric(name, own)).collect(),
            extrapolated: extrapolated(report),
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

fn done(report: &Report) -> String {
    let Report { trials, planned, golden, .. } = report;
    let null: u64 = report.null.values().map(|share| share.count).sum();
    format!("{trials} trials of {planned}, {golden} golden runs, {null} null trials")
}

/// What the numbers of the outcomes do not tell by themselves.
fn notes(report: &Report) -> Vec<String> {
    let count = |name: &str| report.outcomes.get(name).map_or(0, |own| own.count);
    let injected = report.trials - count("not_injected");
    let mut notes = vec![
        "Failed are all but the masked and the detected. Shares are of the trials into which a fault went; that of not_injected is of all.".to_owned(),
    ];
    if report.failed.share.count == 0 && injected > 0 && !report.sampling.census {
        let below = percent(none_of(injected));
        notes.push(format!(
            "None of {injected} failed: the share is below {below} (95 %, one-sided)."
        ));
    }
    if injected < report.trials {
        let (none, all) = (percent(report.failed.if_none), percent(report.failed.if_all));
        notes.push(format!(
            "Failed of all trials: {none} if none of the not injected had, {all} if all had."
        ));
    }
    notes.extend(
        report
            .not_injected
            .iter()
            .map(|(why, count)| format!("Not injected, {count}: {}", line(why))),
    );
    if report.tolerated > 0 {
        notes.push(format!("Of the masked, {} differ and are tolerated.", report.tolerated));
    }
    let list = |all: Vec<(String, u64)>| {
        let words: Vec<_> =
            all.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
        words.join(", ")
    };
    let null = report.null.iter().filter(|(_, share)| share.count > 0);
    let null: Vec<_> = null.map(|(name, share)| ((*name).to_owned(), share.count)).collect();
    if !null.is_empty() {
        notes.push(format!("Null trials, into which no fault went: {}.", list(null)));
    }
    let fates: Vec<_> = report.fates.iter().map(|(name, count)| (line(name), *count)).collect();
    if !fates.is_empty() {
        notes.push(format!("What had become of the faults at the end: {}.", list(fates)));
    }
    if report.failures > 0 {
        notes.push(format!("{} runs came to nothing and were made again.", report.failures));
    }
    notes
}

fn sampling(report: &Report) -> String {
    let own = &report.sampling;
    if own.census {
        return "A census: these are all the faults that there are. Nothing is sampled, and no share is uncertain once all are finished.".to_owned();
    }
    let population = own.population.map_or("more faults than can be counted".to_owned(), |all| {
        format!("{} faults", super::figure::exact(all))
    });
    format!("Sampled from {population}. Margin reached: ±{}.", percent(own.margin))
}

fn extrapolated(report: &Report) -> String {
    match (&report.extrapolated, &report.not_extrapolated) {
        (Some(Extrapolated { space, failures }), _) => {
            let size: f64 = space.iter().map(Space::size).sum();
            format!(
                "Of {} bit-seconds, {} stand for failures. Programs are compared by this number, never by shares.",
                super::figure::short(size),
                tables::estimate(failures)
            )
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or("nothing is known of it");
            format!("Failures in all of the space cannot be told: {}.", line(why))
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
