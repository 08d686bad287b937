//! Statistics: pure functions over numbers.

use serde::Serialize;

/// The quantile of the normal distribution for 95 %, of both sides.
const Z: f64 = 1.959_963_984_540_054;

/// What there is to say of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// How many there are.
    pub runs: usize,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The middle one, or the mean of both.
    pub median: f64,
    /// The most frequent one, the lowest of several.
    pub mode: f64,
    /// The sample variance (n - 1); 0 of a single one.
    pub variance: f64,
    /// Its root.
    pub sd: f64,
}

impl Statistics {
    /// Those of `values`; none where there are none, or one is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = sorted.first().zip(sorted.last())?;
        if sorted.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let (mean, variance) = moments(&sorted);
        let (runs, median, mode) = (sorted.len(), median(&sorted), mode(&sorted)?);
        Some(Self { runs, min, max, mean, median, mode, variance, sd: variance.sqrt() })
    }
}

/// Mean and sample variance, of which identical values have none at all: what is summed is how far
/// each is from the first, so that nothing is lost where all are near to each other.
fn moments(values: &[f64]) -> (f64, f64) {
    let (count, first) = (values.len() as f64, values.first().copied().unwrap_or(0.0));
    let shift = values.iter().map(|value| value - first).sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - first - shift).powi(2)).sum::<f64>();
    (first + shift, if values.len() < 2 { 0.0 } else { squares / (count - 1.0) })
}

fn median(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { at(half - 1) / 2.0 + at(half) / 2.0 }
}

fn mode(sorted: &[f64]) -> Option<f64> {
    let runs = sorted.chunk_by(|one, other| one == other);
    // Of several that are as frequent, `rev` leaves the first for the last to be taken.
    runs.rev().max_by_key(|run| run.len())?.first().copied()
}

/// A share, and the interval that holds the true one 95 times of 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// Of all.
    pub share: f64,
    /// The lower end of Wilson's interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Share {
    /// `count` of `all`; of none at all, anything may be.
    pub fn of(count: u64, all: u64) -> Self {
        if all == 0 {
            return Self { count, share: 0.0, low: 0.0, high: 1.0 };
        }
        let (n, p) = (all as f64, count as f64 / all as f64);
        let centre = p + Z * Z / (2.0 * n);
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // At the ends, rounding must not leave a hair between the interval and 0 or 1.
        let low = if count == 0 { 0.0 } else { (centre - spread) / scale };
        let high = if count == all { 1.0 } else { (centre + spread) / scale };
        Self { count, share: p, low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is the same, as far as tables of four digits go.
    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= 5e-5
    }

    #[test]
    fn wilson_intervals() {
        // Brown, Cai and DasGupta's and other published tables.
        let none = Share::of(0, 30);
        assert!(none.low == 0.0 && near(none.high, 0.1135), "{none:?}");
        let all = Share::of(30, 30);
        assert!(all.high == 1.0 && near(all.low, 0.8865), "{all:?}");
        let half = Share::of(5, 10);
        assert!(near(half.low, 0.2366) && near(half.high, 0.7634), "{half:?}");
        let nothing = Share::of(0, 0);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
    }

    #[test]
    fn the_papers_own_numbers() {
        // HPCCG, Table 1: 2, 10, 11 and 7 of these make its mean, median and mode.
        let counts = [(2, 8.97878e-8), (10, 8.97879e-8), (11, 8.9788e-8), (7, 8.97881e-8)];
        let values: Vec<_> =
            counts.iter().flat_map(|(count, value)| vec![*value; *count]).collect();
        let found = Statistics::of(&values).unwrap();
        assert!((found.mean - 8.978797666666667e-8).abs() < 1e-22, "{}", found.mean);
        assert_eq!((found.median, found.mode), (8.9788e-8, 8.9788e-8));
        // Their exact variance; the paper's one-pass formula had lost its last digits.
        assert!((found.variance - 8.05747e-27).abs() < 1e-32, "{}", found.variance);
    }

    #[test]
    fn identical_values_do_not_vary() {
        let same = Statistics::of(&[8.97885e-8; 30]).unwrap();
        assert_eq!((same.variance, same.sd, same.mean), (0.0, 0.0, 8.97885e-8));
        assert_eq!(Statistics::of(&[1.0]).unwrap().variance, 0.0);
        assert_eq!(Statistics::of(&[2.0, 1.0, 2.0, 1.0]).unwrap().mode, 1.0);
        assert_eq!(Statistics::of(&[1.0, 2.0, 4.0, 9.0]).unwrap().median, 3.0);
        assert_eq!((Statistics::of(&[]), Statistics::of(&[f64::NAN])), (None, None));
    }
}
