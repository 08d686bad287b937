//! The plan's first two metrics against each other: where the program tells one thing of its result and another
//! one is true, trials lie off the golden run's cross in one direction only.

use super::axis::Axis;
use super::frame::{self, Frame, Margins, Painted, Sheet, Side, Sign};
use super::ink::{Class, Counts, Ink};
use super::metrics::value;
use super::{Drawing, Plot, Texts, counted, in_words};
use crate::campaign::outcome::Outcome;
use crate::campaign::plan::{Metric, Tolerance};
use crate::campaign::store::Record;
use crate::report::Findings;
use crate::report::figure::short;
use std::collections::BTreeSet;

const HEIGHT: i32 = 470;
const RADIUS: i32 = 4;

/// None where the plan has no two metrics.
pub fn plot(findings: &Findings) -> Option<Plot> {
    let [x, y, ..] = &*findings.plan.metrics else { return None };
    let title = format!("{} against {}", y.name, x.name);
    Some(Plot::new("agreement", title, drawing(findings, x, y)))
}

/// The trials that have a place.
struct Points<'r> {
    x: Axis,
    y: Axis,
    /// The metric along each.
    of: (&'r Metric, &'r Metric),
    all: Vec<(f64, f64, Class)>,
    /// What the golden runs have in the middle.
    golden: (Option<f64>, Option<f64>),
    missing: u64,
    /// How many are at an edge, but further off.
    beyond: u64,
}

impl<'r> Points<'r> {
    fn of(findings: &Findings, x: &'r Metric, y: &'r Metric) -> Option<Self> {
        let golden = |name: &str| findings.golden_median(|record| value(record, name));
        let golden = (golden(&x.name), golden(&y.name));
        let both = |record: &Record| value(record, &x.name).zip(value(record, &y.name));
        let pairs: Vec<_> = findings
            .injected()
            .filter_map(|record| both(record).map(|(x, y)| (x, y, Class::of(record))))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let of_x = pairs.iter().map(|own| own.0).chain(golden.0);
        let of_y = pairs.iter().map(|own| own.1).chain(golden.1);
        let axis_x = Axis::of(&x.name, of_x, golden.0.into_iter(), 7)?;
        let axis_y = Axis::of(&y.name, of_y, golden.1.into_iter(), 7)?;
        let placed = |(x, y, class): &(f64, f64, Class)| {
            axis_x.nearest(*x).zip(axis_y.nearest(*y)).map(|(x, y)| (x, y, *class))
        };
        let all: Vec<_> = pairs.iter().filter_map(placed).collect();
        let off = |(x, y, _): &&(f64, f64, Class)| axis_x.is_beyond(*x) || axis_y.is_beyond(*y);
        let beyond = pairs.iter().filter(off).count() as u64;
        let missing = (findings.injected().count() - all.len()) as u64;
        let golden = (
            golden.0.and_then(|own| axis_x.place(own)),
            golden.1.and_then(|own| axis_y.place(own)),
        );
        (!all.is_empty()).then_some(Self {
            x: axis_x,
            y: axis_y,
            of: (x, y),
            all,
            golden,
            missing,
            beyond,
        })
    }
}

fn drawing(findings: &Findings, x: &Metric, y: &Metric) -> Result<Drawing, String> {
    let points = Points::of(findings, x, y).ok_or_else(|| {
        format!("no injected trial has a finite {} and a finite {}", x.name, y.name)
    })?;
    let mut counts = Counts::default();
    points.all.iter().for_each(|(_, _, class)| counts[*class as usize] += 1);
    let missing = match points.missing {
        0 => String::new(),
        count => format!(" {} without both have no place.", counted(count, "trial")),
    };
    let beyond = match points.beyond {
        0 => String::new(),
        count => format!(" {} at the edges lie far beyond.", counted(count, "trial")),
    };
    let texts = Texts {
        caption: format!(
            "Each point is an injected trial; the cross is the golden run.{}{beyond}{missing}",
            tolerated(findings, &points)
        ),
        description: format!(
            "{}, of which {}. {}",
            counted(points.all.len() as u64, "trial"),
            in_words(&counts),
            false_alike(findings, x, y)
        ),
    };
    Drawing::of(HEIGHT, texts, |sheet| paint(sheet, findings, &points, &counts))
}

/// Which values of the second metric the plan tolerates, and where that is drawn.
fn tolerated(findings: &Findings, points: &Points) -> String {
    let name = &points.of.1.name;
    match tolerance(findings, points.of.1) {
        None => String::new(),
        Some((low, high)) if low <= 0.0 && points.y.is_log() => {
            format!(
                " Below the dotted line, {}, {name} is within the plan's tolerance.",
                short(high)
            )
        }
        Some((low, high)) => {
            let (low, high) = (short(low), short(high));
            format!(
                " Between the dotted lines, {low} and {high}, {name} is within the plan's tolerance."
            )
        }
    }
}

/// In how many failures the first metric is no worse than in the golden run.
fn false_alike(findings: &Findings, x: &Metric, y: &Metric) -> String {
    let Some(golden) = findings.golden_median(|record| value(record, &x.name)) else {
        return String::new();
    };
    let ends = tolerance(findings, x)
        .unwrap_or((golden - 0.1 * golden.abs(), golden + 0.1 * golden.abs()));
    let alike = |record: &&Record| {
        record.outcome == Outcome::Sdc
            && value(record, &x.name).is_some_and(|own| ends.0 <= own && own <= ends.1)
    };
    let count = findings.injected().filter(alike).count() as u64;
    format!(
        "In {} {} is near the golden run's, {}, and the result is wrong; see {}",
        counted(count, "SDC"),
        x.name,
        short(golden),
        y.name
    )
}

/// What the plan tolerates of a metric.
fn tolerance(findings: &Findings, metric: &Metric) -> Option<(f64, f64)> {
    let golden = findings.golden_median(|record| value(record, &metric.name))?;
    let by = match metric.tolerance? {
        Tolerance::Relative(part) => part * golden.abs(),
        Tolerance::Absolute(by) => by,
    };
    Some((golden - by, golden + by))
}

fn paint(sheet: &Sheet, findings: &Findings, points: &Points, counts: &Counts) -> Painted {
    let mut signs = frame::classes(counts);
    signs.push((Sign::Line(Ink::Text, 1), "golden".to_owned()));
    frame::legend(sheet, &signs)?;
    let margins =
        Margins { left: 76, right: 20, top: frame::legend_height(&signs) + 14, bottom: 48 };
    let frame = Frame::draw(sheet, margins, (&points.x, true), (&points.y, true))?;
    let mut seen = BTreeSet::new();
    // The harmless ones first, so that no failure is covered; those at the same pixel once.
    let mut all = points.all.clone();
    all.sort_by_key(|(_, _, class)| std::cmp::Reverse(*class));
    for (x, y, class) in all {
        let (x, y) = frame.at(x, y);
        if seen.insert((x, y, class)) {
            mark(sheet, (x, y), class)?;
        }
    }
    bounds(sheet, findings, points, &frame)?;
    let middle = |part: Option<f64>| part.filter(|part| (0.0..=1.0).contains(part));
    if let Some(x) = middle(points.golden.0).map(|part| frame.x(part)) {
        frame::path(sheet, vec![(x, frame.top), (x, frame.bottom)], Ink::Text, 1, 0.7)?;
    }
    if let Some(y) = middle(points.golden.1).map(|part| frame.y(part)) {
        frame::path(sheet, vec![(frame.left, y), (frame.right, y)], Ink::Text, 1, 0.7)?;
    }
    Ok(())
}

fn mark(sheet: &Sheet, (x, y): (i32, i32), class: Class) -> Painted {
    use plotters::prelude::{Circle, Color};
    sheet.draw(&Circle::new((x, y), RADIUS, Ink::Of(class).color().mix(0.85).filled()))?;
    sheet.draw(&Circle::new((x, y), RADIUS, Ink::Muted.color().mix(0.6).stroke_width(1)))
}

/// Dotted lines where the tolerance of the second metric ends.
fn bounds(sheet: &Sheet, findings: &Findings, points: &Points, frame: &Frame) -> Painted {
    let Some((low, high)) = tolerance(findings, points.of.1) else { return Ok(()) };
    for end in [low, high] {
        let part = points.y.place(end).filter(|part| (0.0..=1.0).contains(part));
        let Some(y) = part.map(|part| frame.y(part)) else { continue };
        for x in (frame.left..frame.right - 2).step_by(6) {
            frame::path(sheet, vec![(x, y), (x + 2, y)], Ink::Text, 1, 0.9)?;
        }
        frame::write(sheet, "tolerance", (frame.right - 4, y - 8), Side::Left, Ink::Muted)?;
    }
    Ok(())
}
