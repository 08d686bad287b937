//! What was seen in each iteration: of the golden run, and of trials.

use super::axis::{Axis, ends};
use super::frame::{self, Frame, Margins, Painted, Sheet, Sign};
use super::ink::{Class, Counts, Ink};
use super::{Drawing, Plot, Texts, in_words};
use crate::campaign::Kind;
use crate::campaign::store::Samples;
use crate::report::Findings;
use crate::report::statistics::median;
use std::collections::BTreeMap;

/// No more trials are drawn one by one.
const MOST: usize = 200;
/// No line has more points: of longer ones, some are left out.
const MOST_POINTS: usize = 400;
/// So many times as many iterations as the golden run has are drawn: a fault in the counter makes any number
/// of them.
const LONGEST: f64 = 3.0;
const HEIGHT: i32 = 430;

pub fn plots(findings: &Findings) -> Vec<Plot> {
    let plot = |(name, samples): (&String, &BTreeMap<u64, Samples>)| {
        let title = format!("{name} in each iteration");
        Plot::new(&format!("curve-{name}"), title, drawing(findings, name, samples))
    };
    findings.curves.iter().map(plot).collect()
}

/// A trial's.
struct Line<'r> {
    class: Class,
    samples: &'r Samples,
}

/// What is drawn.
struct Curves<'r> {
    x: Axis,
    y: Axis,
    golden: Samples,
    drawn: Vec<Line<'r>>,
    /// By iteration, of all trials: the lowest, the middle one and the highest; where not all are drawn.
    spread: Vec<(f64, [f64; 3])>,
    /// How many trials have a curve.
    all: usize,
}

impl<'r> Curves<'r> {
    fn of(findings: &'r Findings, name: &str, samples: &'r BTreeMap<u64, Samples>) -> Option<Self> {
        let lines = findings.injected().filter_map(|record| {
            let samples = samples.get(&record.number)?;
            Some(Line { class: Class::of(record), samples })
        });
        let lines: Vec<_> = lines.collect();
        let golden = of_golden(findings, samples);
        let (x, y) = axes(name, &golden, &lines)?;
        let all = lines.len();
        let spread = if all > MOST { spread(&lines) } else { Vec::new() };
        Some(Self { x, y, golden, drawn: first_of_each(lines), spread, all })
    }
}

/// The middle one of the golden runs, in each iteration.
fn of_golden(findings: &Findings, samples: &BTreeMap<u64, Samples>) -> Samples {
    let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    let runs = findings.of_kind(Kind::Golden).filter_map(|record| samples.get(&record.number));
    for (iteration, value) in runs.flatten() {
        values.entry(*iteration).or_default().extend(value.filter(|own| own.is_finite()));
    }
    let middle = |mut own: Vec<f64>| {
        own.sort_unstable_by(f64::total_cmp);
        median(&own)
    };
    values.into_iter().map(|(iteration, own)| (iteration, middle(own))).collect()
}

fn axes(name: &str, golden: &Samples, lines: &[Line]) -> Option<(Axis, Axis)> {
    let of_lines = lines.iter().flat_map(|line| line.samples);
    let iterations = |points: &Samples| points.iter().map(|(at, _)| *at as f64).collect::<Vec<_>>();
    let reference = if golden.is_empty() { None } else { ends(iterations(golden).into_iter()) };
    let seen = ends(of_lines.clone().map(|(at, _)| *at as f64).chain(iterations(golden)))?;
    let (first, last) = match reference {
        Some((low, high)) => (seen.0.max(low), seen.1.min(low + LONGEST * (high - low).max(1.0))),
        None => seen,
    };
    let values =
        of_lines.chain(golden).filter_map(|(_, value)| *value).filter(|own| own.is_finite());
    let of_golden = golden.iter().filter_map(|(_, value)| *value);
    Some((Axis::linear("iteration", first, last, 8), Axis::of(name, values, of_golden, 8)?))
}

/// The first trials of each class, as many of each as there is room for.
fn first_of_each(lines: Vec<Line>) -> Vec<Line> {
    let mut counts = Counts::default();
    lines.iter().for_each(|line| counts[line.class as usize] += 1);
    let mut room = Counts::default();
    for _ in 0..MOST.min(lines.len()) {
        let fewest = (0..counts.len())
            .filter(|class| room[*class] < counts[*class])
            .min_by_key(|class| room[*class]);
        fewest.into_iter().for_each(|class| room[class] += 1);
    }
    let mut taken = Counts::default();
    let mut drawn: Vec<_> = lines
        .into_iter()
        .filter(|line| {
            taken[line.class as usize] += 1;
            taken[line.class as usize] <= room[line.class as usize]
        })
        .collect();
    // The harmless ones are drawn first, below the others.
    drawn.sort_by_key(|line| std::cmp::Reverse(line.class));
    drawn
}

/// As long as at least half of the trials run: later, it would be of others in each iteration.
fn spread(lines: &[Line]) -> Vec<(f64, [f64; 3])> {
    let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (iteration, value) in lines.iter().flat_map(|line| line.samples) {
        values.entry(*iteration).or_default().extend(value.filter(|own| own.is_finite()));
    }
    values.retain(|_, own| 2 * own.len() >= lines.len());
    let three = |(iteration, mut own): (i64, Vec<f64>)| {
        own.sort_unstable_by(f64::total_cmp);
        let ends = own.first().zip(own.last()).zip(median(&own));
        ends.map(|((low, high), middle)| (iteration as f64, [*low, middle, *high]))
    };
    values.into_iter().filter_map(three).collect()
}

fn drawing(
    findings: &Findings,
    name: &str,
    samples: &BTreeMap<u64, Samples>,
) -> Result<Drawing, String> {
    let curves = Curves::of(findings, name, samples).ok_or("no run has a finite value of it")?;
    let mut counts = Counts::default();
    curves.drawn.iter().for_each(|line| counts[line.class as usize] += 1);
    let (drawn, all) = (curves.drawn.len(), curves.all);
    let some = if drawn < all {
        format!(
            "Of {all} trials the first of each outcome are drawn, {drawn} in all; dashed: the lowest, the median and the highest of all, as long as half of them run."
        )
    } else {
        format!("{drawn} trials.")
    };
    let texts = Texts {
        caption: format!(
            "The thick line is the golden run, thin ones are trials, coloured by outcome. {some} What is beyond the frame is drawn at its edge."
        ),
        description: format!("Drawn trials: {}. {}", in_words(&counts), told(&curves.golden)),
    };
    Drawing::of(HEIGHT, texts, |sheet| paint(sheet, &curves, &counts))
}

fn told(golden: &Samples) -> String {
    let known = golden.iter().filter_map(|(at, value)| value.map(|value| (at, value)));
    let ends = known.clone().next().zip(known.clone().next_back());
    let ends = ends.map(|((first, from), (last, to))| {
        let (from, to) = (crate::report::figure::short(from), crate::report::figure::short(to));
        format!("The golden run goes from {from} in iteration {first} to {to} in iteration {last}")
    });
    ends.unwrap_or_else(|| "No golden run was looked at".to_owned())
}

fn paint(sheet: &Sheet, curves: &Curves, counts: &Counts) -> Painted {
    let mut signs: Vec<_> = frame::classes(counts)
        .into_iter()
        .map(|(sign, name)| match sign {
            Sign::Field(ink) => (Sign::Line(ink, 3), name),
            line => (line, name),
        })
        .collect();
    signs.push((Sign::Line(Ink::Text, 3), "golden".to_owned()));
    frame::legend(sheet, &signs)?;
    let margins =
        Margins { left: 76, right: 20, top: frame::legend_height(&signs) + 14, bottom: 48 };
    let frame = Frame::draw(sheet, margins, (&curves.x, false), (&curves.y, true))?;
    for line in &curves.drawn {
        let points = line.samples.iter().map(|(at, value)| (*at as f64, *value));
        draw(sheet, (&frame, curves), points, (Ink::Of(line.class), 1, 0.75))?;
    }
    for (which, opacity) in [(0, 0.5), (1, 0.9), (2, 0.5)] {
        let points = curves.spread.iter().map(|(at, three)| (*at, Some(three[which])));
        dashed(sheet, (&frame, curves), points, opacity)?;
    }
    let golden = curves.golden.iter().map(|(at, value)| (*at as f64, *value));
    draw(sheet, (&frame, curves), golden, (Ink::Text, 3, 1.0))
}

/// The pixels of points one after the other, in pieces where some between have no place.
fn pieces(
    (frame, curves): (&Frame, &Curves),
    points: impl Iterator<Item = (f64, Option<f64>)>,
) -> Vec<Vec<(i32, i32)>> {
    let mut pieces = vec![Vec::new()];
    for (at, value) in points {
        let x = curves.x.place(at).filter(|part| (0.0..=1.0).contains(part));
        let place = x.zip(value.and_then(|value| curves.y.nearest(value)));
        match (place.map(|(x, y)| frame.at(x, y)), pieces.last_mut()) {
            (Some(pixel), Some(piece)) => piece.push(pixel),
            _ => pieces.push(Vec::new()),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces.iter_mut().for_each(thinned);
    pieces
}

/// Leaves out points that no eye could tell apart.
fn thinned(piece: &mut Vec<(i32, i32)>) {
    let step = piece.len().div_ceil(MOST_POINTS);
    let last = piece.len() - 1;
    let mut index = 0;
    piece.retain(|_| {
        index += 1;
        (index - 1) % step == 0 || index - 1 == last
    });
}

fn draw(
    sheet: &Sheet,
    of: (&Frame, &Curves),
    points: impl Iterator<Item = (f64, Option<f64>)>,
    (ink, width, opacity): (Ink, u32, f64),
) -> Painted {
    for piece in pieces(of, points) {
        match &*piece {
            // A point of its own is no line.
            [(x, y)] => frame::fill(sheet, [(x - 1, y - 1), (x + 1, y + 1)], ink)?,
            _ => frame::path(sheet, piece, ink, width, opacity)?,
        }
    }
    Ok(())
}

/// Every second part of a line.
fn dashed(
    sheet: &Sheet,
    of: (&Frame, &Curves),
    points: impl Iterator<Item = (f64, Option<f64>)>,
    opacity: f64,
) -> Painted {
    for piece in pieces(of, points) {
        for pair in piece.windows(2).step_by(2) {
            frame::path(sheet, pair.to_vec(), Ink::Text, 1, opacity)?;
        }
    }
    Ok(())
}
