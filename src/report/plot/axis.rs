//! Where a value lies along a side of a plot, from 0 to 1, and which values are written there.

use crate::report::figure::{exact, line};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// From which ratio on of the highest value to the lowest their logarithms are drawn.
const DECADES: f64 = 100.0;
/// So many powers of ten beyond the golden runs are drawn.
const FAR: f64 = 12.0;

/// A side of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it is of.
    pub name: String,
    /// Where something is written, and what.
    pub ticks: Vec<(f64, String)>,
    scale: Scale,
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    /// The ends are powers of ten.
    Log,
}

impl Axis {
    /// One of `values`, as far as they are finite, with about so many ticks. Where they span decades it is of
    /// logarithms, and ends not many decades beyond what the `golden` runs have: all that is further off is
    /// as wrong, and would leave no room for what is near. None where there are no values.
    pub fn of(
        name: &str,
        values: impl Iterator<Item = f64> + Clone,
        golden: impl Iterator<Item = f64>,
        ticks: usize,
    ) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let positive = finite.clone().filter(|value| *value > 0.0);
        let most = 2 * positive.clone().count() >= finite.clone().count();
        let Some((low, high)) = ends(positive).filter(|(low, high)| most && high / low >= DECADES)
        else {
            return ends(finite).map(|(low, high)| Self::linear(name, low, high, ticks));
        };
        let (low, high) = (low.log10(), high.log10());
        let golden = golden.filter(|value| value.is_finite() && *value > 0.0).map(f64::log10);
        Some(match ends(golden) {
            Some((from, to)) => Self::log(name, low.max(from - FAR), high.min(to + FAR), ticks),
            None => Self::log(name, low, high, ticks),
        })
    }

    /// From `low` to `high`, and a little more to both sides.
    pub fn linear(name: &str, low: f64, high: f64, ticks: usize) -> Self {
        let spread = (high / 2.0 - low / 2.0) * 0.1;
        let spread = if spread > 0.0 { spread } else { (low.abs() * 0.05).max(f64::MIN_POSITIVE) };
        let spread = if high == 0.0 && low == 0.0 { 1.0 } else { spread };
        let ends = [low - spread, high + spread].map(|end| end.clamp(-f64::MAX, f64::MAX));
        Self::between(name, ends[0], ends[1], ticks)
    }

    /// From `low` to `high`, and no further.
    pub fn between(name: &str, low: f64, high: f64, ticks: usize) -> Self {
        let this =
            Self { name: name.to_owned(), ticks: Vec::new(), scale: Scale::Linear, low, high };
        Self { ticks: this.marked(linear_ticks(low, high, ticks)), ..this }
    }

    /// From one power of ten to another, and a little more to both sides.
    pub fn log(name: &str, low: f64, high: f64, ticks: usize) -> Self {
        let spread = ((high - low) * 0.04).max(0.1);
        let (low, high) = (low - spread, high + spread);
        let this = Self { name: name.to_owned(), ticks: Vec::new(), scale: Scale::Log, low, high };
        let step = ((high - low) / ticks as f64).ceil().max(1.0);
        let first = (low / step).ceil() as i64;
        let powers = (first..).map(|count| count as f64 * step).take_while(|power| *power <= high);
        let ticks = powers.map(|power| (this.part(power), format!("10{}", superscript(power))));
        let ticks = ticks.collect();
        Self { ticks, ..this }
    }

    /// Shares from none to `highest`, in percent.
    pub fn shares(name: &str, highest: f64, ticks: usize) -> Self {
        let percent = Self::between(name, 0.0, 100.0 * highest, ticks);
        Self { low: 0.0, high: highest, ..percent }
    }

    /// Named parts of the same size; nothing is written where a name is empty.
    pub fn parts(name: &str, labels: &[String]) -> Self {
        let count = labels.len().max(1) as f64;
        let middle = |index: usize| (index as f64 + 0.5) / count;
        let named = labels.iter().enumerate().filter(|(_, label)| !label.is_empty());
        let ticks = named.map(|(index, label)| (middle(index), label.clone())).collect();
        Self { name: name.to_owned(), ticks, scale: Scale::Linear, low: 0.0, high: 1.0 }
    }

    /// Whether it is of logarithms.
    pub fn is_log(&self) -> bool {
        self.scale == Scale::Log
    }

    /// Where `value` is, from 0 to 1 where it is between the ends; none where it has no place.
    pub fn place(&self, value: f64) -> Option<f64> {
        let own = match self.scale {
            Scale::Linear => value,
            Scale::Log if value > 0.0 => value.log10(),
            Scale::Log => return None,
        };
        own.is_finite().then(|| self.part(own))
    }

    /// Whether `value` has a place, and that is behind an end.
    pub fn is_beyond(&self, value: f64) -> bool {
        self.place(value).is_some_and(|part| !(0.0..=1.0).contains(&part))
    }

    /// Where `value` is, at the nearest end where it is beyond.
    pub fn nearest(&self, value: f64) -> Option<f64> {
        let value = if value == f64::INFINITY { f64::MAX } else { value };
        self.place(value).map(|part| part.clamp(0.0, 1.0))
    }

    /// In halves, for the distance of two floats may be beyond what a float holds.
    fn part(&self, own: f64) -> f64 {
        (own / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
    }

    fn marked(&self, ticks: Vec<(f64, String)>) -> Vec<(f64, String)> {
        ticks.into_iter().map(|(value, label)| (self.part(value), label)).collect()
    }
}

/// For plotters an axis goes from 0 to 1, so that it never has to reckon with values of a store.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, part: &f64, (from, to): (i32, i32)) -> i32 {
        from + (part * f64::from(to - from) + 1e-3).floor() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let within = self.ticks.iter().map(|(part, _)| *part);
        // Light lines between are drawn in a second turn.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        within.filter(|part| (0.0..=1.0).contains(part)).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..1.0
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, part: &f64) -> String {
        let own = self.ticks.iter().find(|(at, _)| at == part);
        own.map(|(_, label)| line(label)).unwrap_or_default()
    }
}

/// The lowest and the highest.
pub fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |ends, value| {
        Some(
            ends.map_or((value, value), |(low, high): (f64, f64)| {
                (low.min(value), high.max(value))
            }),
        )
    })
}

/// No more than so many of `labels`, as far from each other; the others are empty.
pub fn at_most(labels: Vec<String>, most: usize) -> Vec<String> {
    let step = labels.len().div_ceil(most).max(1);
    let own = |(index, label)| if index % step == 0 { label } else { String::new() };
    labels.into_iter().enumerate().map(own).collect()
}

/// About so many round values from `low` to `high`, as they are written.
fn linear_ticks(low: f64, high: f64, ticks: usize) -> Vec<(f64, String)> {
    let least = (high / 2.0 - low / 2.0) / ticks.max(1) as f64 * 2.0;
    let scale = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * scale);
    let Some(step) = steps.into_iter().find(|step| *step >= least * 0.999) else {
        return Vec::new();
    };
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    let all = (0..=2 * ticks).map(|index| first + index as f64).take_while(|own| *own <= last);
    let all = all.map(|own| own * step).map(|value| (value, rounded(value, step)));
    let mut all: Vec<_> = all.filter(|(value, _)| value.is_finite()).collect();
    all.dedup_by(|one, other| one.1 == other.1);
    all
}

/// `value` to the digits that multiples of `step` have.
fn rounded(value: f64, step: f64) -> String {
    if value.abs() < step / 2.0 {
        return "0".to_owned();
    }
    let digits = (value.abs().log10().floor() - step.log10().floor()).clamp(0.0, 16.0) as usize;
    exact(format!("{value:.digits$e}").parse().unwrap_or(value))
}

/// A whole number as an exponent.
fn superscript(number: f64) -> String {
    let letter = |letter: char| match letter.to_digit(10) {
        Some(digit) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
        None => '⁻',
    };
    format!("{number:.0}").chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Axis {
        Axis::of("x", values.iter().copied(), std::iter::empty(), 6).unwrap()
    }

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&of(&[0.0, 10.0])), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&of(&[8.97878e-8, 8.97881e-8])),
            ["8.97878e-08", "8.97879e-08", "8.9788e-08", "8.97881e-08"]
        );
        assert_eq!(labels(&of(&[1e-8, 1e4])), ["10⁻⁶", "10⁻³", "10⁰", "10³"]);
    }

    #[test]
    fn any_values_have_places() {
        let all: [&[f64]; 7] = [
            &[0.0],
            &[7.5; 4],
            &[-1.7e308, 1.7e308],
            &[1e-300, 1e300],
            &[-1e300, 1.0, 2.0],
            &[1.0, 1.0 + f64::EPSILON],
            &[5e-324, 0.0],
        ];
        for values in all {
            let axis = of(values);
            let places: Vec<_> = values.iter().filter_map(|own| axis.place(*own)).collect();
            assert!(places.iter().all(|part| (0.0..=1.0).contains(part)), "{values:?} {places:?}");
            assert!(axis.ticks.len() < 20, "{values:?}");
            assert!(axis.ticks.iter().all(|(part, _)| part.is_finite()), "{values:?}");
        }
        assert!(
            Axis::of("x", [f64::NAN, f64::INFINITY].into_iter(), std::iter::empty(), 5).is_none()
        );
    }

    #[test]
    fn what_a_logarithm_has_no_place_for() {
        let axis = of(&[1e-9, 1.0, 0.0]);
        assert!(axis.is_log() && axis.place(0.0).is_none() && axis.place(f64::NAN).is_none());
        assert_eq!((axis.nearest(1e300), axis.nearest(f64::INFINITY)), (Some(1.0), Some(1.0)));
    }
}
