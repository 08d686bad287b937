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
        let (runs, median, mode) = (sorted.len(), median(&sorted)?, mode(&sorted)?);
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

/// The middle one of what is in order, or the mean of the two in the middle.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(lower / 2.0 + upper / 2.0)
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

/// A number that is not known, and the interval that holds it 95 times of 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// The lower end of its interval.
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

    /// `count` of `all` that are looked at, where there are `left` more and no others: what is known of the
    /// share of all of them. Nothing is sampled, and without any left nothing is uncertain.
    pub fn of_all(count: u64, all: u64, left: u64) -> Self {
        let share = |count: u64, all: u64| if all == 0 { 0.0 } else { count as f64 / all as f64 };
        let (low, high) = (share(count, all + left), share(count + left, all + left));
        Self { count, share: share(count, all), low, high }
    }

    /// Half of its interval.
    pub fn margin(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

impl Estimate {
    /// The sum of shares of which each is of another part, and weighs so much: their intervals are put
    /// together as Zou and Donner do it (Statistics in Medicine 27, 2008), which is that of the share alone
    /// where there is one.
    pub fn sum(parts: &[(f64, Share)]) -> Self {
        let value: f64 = parts.iter().map(|(weight, share)| weight * share.share).sum();
        let spread = |end: fn(&Share) -> f64| {
            let squares =
                parts.iter().map(|(weight, share)| (weight * (end(share) - share.share)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let (low, high) = (spread(|share| share.low), spread(|share| share.high));
        Self { value, low: (value - low).max(0.0), high: value + high }
    }
}

/// How many faults must be drawn of `population`, or of more than can be counted, so that a share is known
/// to `margin` 95 times of 100, whatever it is (Leveugle et al., DATE 2009, with p = 0.5).
pub fn sample_size(population: Option<f64>, margin: f64) -> u64 {
    let unbounded = Z * Z * 0.25 / (margin * margin);
    let size = population.map_or(unbounded, |all| all / (1.0 + (all - 1.0) / unbounded));
    size.ceil() as u64
}

/// Below what a share is 95 times of 100 of which none of `all` was seen: of one side, unlike the interval.
pub fn none_of(all: u64) -> f64 {
    if all == 0 { 1.0 } else { 1.0 - 0.05_f64.powf(1.0 / all as f64) }
}

/// McNemar's test, exact: how likely it is that of pairs which differ so many or fewer are of the rarer kind,
/// if both kinds are as likely; `one` and `other` are how many there are of each.
pub fn mcnemar(one: u64, other: u64) -> f64 {
    let (fewer, all) = (one.min(other), one + other);
    // In logarithms, for the terms are far beyond what a float holds.
    let mut term = -(all as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for drawn in 1..=fewer {
        term += ((all - drawn + 1) as f64 / drawn as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
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

    #[test]
    fn sample_sizes() {
        // Leveugle et al., DATE 2009, and the formula worked out by hand for small populations.
        assert_eq!([0.05, 0.03, 0.01].map(|margin| sample_size(None, margin)), [385, 1068, 9604]);
        assert_eq!(sample_size(Some(1000.0), 0.05), 278);
        assert_eq!(sample_size(Some(3584.0), 0.01), 2611);
        assert_eq!(sample_size(Some(1.0), 0.05), 1);
        assert_eq!(sample_size(Some(1e18), 0.05), 385);
    }

    #[test]
    fn what_was_never_seen() {
        // 1 - 0.05^(1/30), and the rule of three.
        assert!(near(none_of(30), 0.0950));
        assert!((none_of(3000) - 3.0 / 3000.0).abs() < 3e-6);
        assert_eq!(none_of(0), 1.0);
    }

    #[test]
    fn pairs_that_differ() {
        // Binomial sums: 2 * (1 + 12 + 66) / 2^12, 2 / 2^6, and of 6 and 4 more than 1.
        assert!((mcnemar(2, 10) - 158.0 / 4096.0).abs() < 1e-12);
        assert!((mcnemar(6, 0) - 2.0 / 64.0).abs() < 1e-12);
        assert_eq!((mcnemar(5, 5), mcnemar(0, 0)), (1.0, 1.0));
        // Summed as whole numbers of any length.
        assert!((mcnemar(1900, 2100) - 0.001_649_266).abs() < 1e-9, "{}", mcnemar(1900, 2100));
    }

    #[test]
    fn a_sum_of_one_part_has_its_interval() {
        let share = Share::of(5, 10);
        let sum = Estimate::sum(&[(10.0, share)]);
        assert!(near(sum.value, 5.0) && near(sum.low, 2.3659) && near(sum.high, 7.6341), "{sum:?}");
        let nothing = Estimate::sum(&[(10.0, Share::of(0, 30))]);
        assert!(nothing.low == 0.0 && near(nothing.high, 1.1351), "{nothing:?}");
        // Two equal ones: the same share, and a width by the root of two smaller.
        let both = Estimate::sum(&[(0.5, share), (0.5, share)]);
        assert!(near(both.value, 0.5) && near(both.low, 0.5 - 0.263_41 / 2f64.sqrt()), "{both:?}");
    }

    #[test]
    fn all_that_there_are_are_no_sample() {
        let whole = Share::of_all(3, 12, 0);
        assert_eq!((whole.share, whole.low, whole.high), (0.25, 0.25, 0.25));
        let part = Share::of_all(3, 12, 12);
        assert_eq!((part.share, part.low, part.high), (0.25, 0.125, 0.625));
        assert_eq!(Share::of_all(0, 0, 0).share, 0.0);
    }
}
