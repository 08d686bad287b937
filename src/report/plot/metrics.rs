//! How the values of each metric are distributed, with the golden one marked.

use super::axis::{Axis, ends};
use super::frame::{self, Frame, Margins, Painted, Sheet, Side, Sign};
use super::ink::{self, Class, Counts, Ink};
use super::{Drawing, Plot, Texts, counted, in_words};
use crate::campaign::Kind;
use crate::campaign::store::Record;
use crate::report::figure::short;
use crate::report::metric::{Metric, finite};
use crate::report::{Findings, Report};

const BINS: usize = 60;
const HEIGHT: i32 = 330;
/// How wide what is beside the axis is: trials without a place on it.
const BESIDE: i32 = 90;
/// A bar is at least so high, whatever it stands for.
const LEAST: i32 = 2;

pub fn plots(findings: &Findings, report: &Report) -> Vec<Plot> {
    let plot = |(name, metric): (&String, &Metric)| {
        let title = format!("Distribution of {name}");
        Plot::new(&format!("metric-{name}"), title, drawing(findings, name, metric))
    };
    report.metrics.iter().map(plot).collect()
}

/// The trials by their value.
struct Histogram {
    axis: Axis,
    bins: Vec<Counts>,
    /// Those without a place on the axis.
    beside: Counts,
    /// How many are in the outermost bins, but further off.
    beyond: u64,
    /// The golden runs' lowest and highest.
    golden: Option<(f64, f64)>,
}

impl Histogram {
    fn of(findings: &Findings, name: &str) -> Option<Self> {
        let golden = finite(findings.of_kind(Kind::Golden), name);
        let injected = finite(findings.injected(), name);
        if injected.is_empty() {
            return None;
        }
        let values = golden.iter().chain(&injected).copied();
        let axis = Axis::of(labelled(name), values, golden.iter().copied(), 7)?;
        let beyond = injected.iter().filter(|value| axis.is_beyond(**value)).count() as u64;
        let (mut bins, mut beside) = (vec![Counts::default(); BINS], Counts::default());
        for record in findings.injected() {
            let place = value(record, name).and_then(|value| axis.nearest(value));
            let bin = place.map(|part| ((part * BINS as f64) as usize).min(BINS - 1));
            let counts = bin.map_or(&mut beside, |bin| &mut bins[bin]);
            counts[Class::of(record) as usize] += 1;
        }
        Some(Self { axis, bins, beside, beyond, golden: ends(golden.into_iter()) })
    }

    fn total(&self) -> Counts {
        ink::sum(self.bins.iter().chain([&self.beside]))
    }

    fn highest(&self) -> u64 {
        let all = self.bins.iter().chain([&self.beside]);
        all.map(|counts| counts.iter().sum()).max().unwrap_or(0)
    }
}

fn drawing(findings: &Findings, name: &str, metric: &Metric) -> Result<Drawing, String> {
    let histogram = Histogram::of(findings, name).ok_or("no injected trial has a finite value")?;
    let golden = match (metric.golden, histogram.golden) {
        (Some(own), Some((low, high))) if low == high => {
            format!("The golden runs have {}. ", short(own.min))
        }
        (Some(own), _) => {
            format!("The golden runs lie from {} to {}. ", short(own.min), short(own.max))
        }
        (None, _) => "No golden run has a value. ".to_owned(),
    };
    let beside = match histogram.beside.iter().sum::<u64>() {
        0 => String::new(),
        count => format!(
            " Beside: {} without a finite value{}.",
            counted(count, "trial"),
            if histogram.axis.is_log() { ", or with one that has no logarithm" } else { "" }
        ),
    };
    let beyond = match histogram.beyond {
        0 => String::new(),
        count => {
            format!(" The outermost bars have {} that lie far beyond.", counted(count, "trial"))
        }
    };
    let texts = Texts {
        caption: format!(
            "{golden}Injected trials, coloured by outcome; a bar is at least {LEAST} pixels high.{beyond}{beside}"
        ),
        description: golden.clone() + &described(metric) + &in_words(&histogram.total()),
    };
    Drawing::of(HEIGHT, texts, |sheet| paint(sheet, &histogram))
}

/// A metric's name, with the unit of those that all runs have.
fn labelled(name: &str) -> &str {
    if name == "cpu_time" { "cpu_time, s" } else { name }
}

fn described(metric: &Metric) -> String {
    let Some(own) = metric.injected else { return String::new() };
    let all =
        [("minimum", own.min), ("median", own.median), ("mean", own.mean), ("maximum", own.max)];
    let words: Vec<_> =
        all.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
    format!("{} injected trials: {}. By outcome: ", own.runs, words.join(", "))
}

fn paint(sheet: &Sheet, histogram: &Histogram) -> Painted {
    let mut signs = frame::classes(&histogram.total());
    if histogram.golden.is_some() {
        signs.push((Sign::Line(Ink::Text, 2), "golden".to_owned()));
    }
    frame::legend(sheet, &signs)?;
    let top = frame::legend_height(&signs) + 14;
    let beside = histogram.beside.iter().any(|count| *count > 0);
    let margins =
        Margins { left: 60, right: 16 + if beside { BESIDE } else { 0 }, top, bottom: 48 };
    let y = Axis::between("trials", 0.0, histogram.highest() as f64 * 1.04, 5);
    let frame = Frame::draw(sheet, margins, (&histogram.axis, false), (&y, true))?;
    golden(sheet, &frame, histogram, true)?;
    for (index, counts) in histogram.bins.iter().enumerate() {
        let x = |index: usize| frame.x(index as f64 / BINS as f64);
        stack(sheet, (x(index), x(index + 1) - 1), &frame, &y, counts)?;
    }
    if beside {
        let (left, right) = (frame.right + 40, frame.right + 64);
        stack(sheet, (left, right), &frame, &y, &histogram.beside)?;
        let count: u64 = histogram.beside.iter().sum();
        let middle = (left + right) / 2;
        frame::path(
            sheet,
            vec![(left - 12, frame.bottom), (right + 12, frame.bottom)],
            Ink::Muted,
            1,
            1.0,
        )?;
        frame::write(sheet, "no number", (middle, frame.bottom + 14), Side::Middle, Ink::Muted)?;
        frame::write(
            sheet,
            &count.to_string(),
            (middle, frame.bottom + 30),
            Side::Middle,
            Ink::Muted,
        )?;
    }
    golden(sheet, &frame, histogram, false)
}

/// Marks where the golden runs lie: behind the bars the field between their ends, before them the ends.
fn golden(sheet: &Sheet, frame: &Frame, histogram: &Histogram, behind: bool) -> Painted {
    let Some((low, high)) = histogram.golden else { return Ok(()) };
    let x = |value: f64| histogram.axis.nearest(value).map(|part| frame.x(part));
    let Some((low, high)) = x(low).zip(x(high)) else { return Ok(()) };
    if behind && high > low + 2 {
        return frame::fill(sheet, [(low, frame.top), (high, frame.bottom)], Ink::Band);
    }
    if behind {
        return Ok(());
    }
    let line =
        |x: i32| frame::path(sheet, vec![(x, frame.top - 8), (x, frame.bottom)], Ink::Text, 2, 0.8);
    line(low)?;
    if high > low + 2 { line(high) } else { Ok(()) }
}

/// A bar in which the classes are stacked.
fn stack(
    sheet: &Sheet,
    (left, right): (i32, i32),
    frame: &Frame,
    y: &Axis,
    counts: &Counts,
) -> Painted {
    let mut bottom = frame.bottom;
    let mut below = 0;
    for (class, count) in Class::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0) {
        below += count;
        let top = y.place(below as f64).map_or(bottom, |part| frame.y(part)).min(bottom - LEAST);
        frame::fill(sheet, [(left, top), (right.max(left + 1), bottom)], Ink::Of(class))?;
        bottom = top;
    }
    if below > 0 && right - left > 3 {
        frame::outline(sheet, [(left, bottom), (right, frame.bottom)], Ink::Muted)?;
    }
    Ok(())
}

/// What of `record` is the metric `name`, if it is finite.
pub fn value(record: &Record, name: &str) -> Option<f64> {
    record.metrics.get(name).copied().filter(|value| value.is_finite())
}
