//! What the trials came to by the one bit that they changed: for each target that has such trials.

use super::bars::{self, Bars};
use super::frame::{self, Frame, Painted, Sheet, Side};
use super::ink::{self, Class, Counts, Ink};
use super::{Drawing, MOST_TARGETS, Plot, Texts, in_words};
use crate::campaign::store::Record;
use crate::report::Findings;
use crate::report::breakdown::target_name;
use crate::report::value;
use crate::scalar::Scalar;
use std::collections::BTreeMap;

/// No more columns are drawn: of longer values, several bits share one.
const MOST_COLUMNS: u64 = 128;
const HEIGHT: i32 = 380;
/// How high the names of the parts of a number are.
pub const PARTS: i32 = 20;

/// The trials of a target that changed one bit.
pub struct Bits<'r> {
    /// Which of the plan's targets.
    pub target: usize,
    /// Its name.
    pub name: String,
    /// What it is taken for.
    pub scalar: Option<Scalar>,
    /// The trials, by the bit.
    pub trials: BTreeMap<u64, Vec<&'r Record>>,
    /// How many bits share a column.
    pub each: u64,
    /// How many columns there are.
    pub columns: usize,
}

/// Those of each target that has some, as far as these have plots.
pub fn all(findings: &Findings) -> Vec<Bits<'_>> {
    let targets = (0..findings.plan.targets.len()).filter_map(|target| Bits::of(findings, target));
    targets.take(MOST_TARGETS).collect()
}

pub fn plots(findings: &Findings) -> Vec<Plot> {
    let all = all(findings);
    if all.is_empty() {
        return vec![Plot::new("bits", "Outcome by bit", Err(NO_BITS.to_owned()))];
    }
    let plot = |own: &Bits| {
        let title = format!("Outcome by bit of {}", own.name);
        Plot::new(&format!("bits-{}", own.target), title, drawing(own))
    };
    all.iter().map(plot).collect()
}

/// Why there are none.
pub const NO_BITS: &str = "no trial has changed just one bit, by one injection";

impl<'r> Bits<'r> {
    fn of(findings: &'r Findings, target: usize) -> Option<Self> {
        let mut trials: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        let mut bits = 0;
        for record in findings.injected() {
            let Some((injection, written)) = record.only() else { continue };
            if let Some(bit) = written.bit().filter(|_| injection.target == target) {
                trials.entry(bit).or_default().push(record);
                bits = bits.max(written.size.saturating_mul(8)).max(bit + 1);
            }
        }
        let each = bits.div_ceil(MOST_COLUMNS).next_power_of_two();
        (!trials.is_empty()).then(|| Self {
            target,
            name: target_name(findings, target),
            scalar: value::scalar(findings, target),
            trials,
            each,
            columns: bits.div_ceil(each) as usize,
        })
    }

    /// The column of `bit`: the highest bit is on the left, as numbers are written.
    pub fn column(&self, bit: u64) -> usize {
        (self.columns - 1).saturating_sub((bit / self.each) as usize)
    }

    /// What is written below the columns: the highest bit, and every few their lowest.
    pub fn labels(&self) -> Vec<String> {
        let step = match self.columns {
            ..=16 => 1,
            17..=32 => 4,
            _ => 8,
        };
        let label = |column: u64| match column {
            last if last + 1 == self.columns as u64 => (last * self.each).to_string(),
            column if column % step == 0 => (column * self.each).to_string(),
            _ => String::new(),
        };
        (0..self.columns as u64).rev().map(label).collect()
    }

    /// What the columns are.
    pub fn axis(&self) -> String {
        match self.each {
            1 => format!("bit of {} (0 is the lowest)", self.name),
            each => format!("bit of {} (0 is the lowest), {each} bits a column", self.name),
        }
    }

    /// The parts of a floating-point number: name, highest bit, lowest bit.
    fn parts(&self) -> Vec<(&'static str, u64, u64)> {
        match self.scalar {
            Some(Scalar::Float(8)) => {
                vec![("sign", 63, 63), ("exponent", 62, 52), ("mantissa", 51, 0)]
            }
            Some(Scalar::Float(4)) => {
                vec![("sign", 31, 31), ("exponent", 30, 23), ("mantissa", 22, 0)]
            }
            _ => Vec::new(),
        }
    }

    /// How high the names of the parts are, if there are any.
    pub fn parts_height(&self) -> i32 {
        if self.parts().is_empty() { 0 } else { PARTS }
    }

    /// Names the parts of the number above `frame`, and draws lines between them.
    pub fn paint_parts(&self, sheet: &Sheet, frame: &Frame) -> Painted {
        for (name, high, low) in self.parts() {
            let (left, _) = bars::edges(frame, self.column(high), self.columns);
            let (_, right) = bars::edges(frame, self.column(low), self.columns);
            let y = frame.top - PARTS;
            let bracket = vec![(left, y + 4), (left, y), (right - 1, y), (right - 1, y + 4)];
            frame::path(sheet, bracket, Ink::Text, 1, 1.0)?;
            let (at, side) = match name {
                "sign" => (left, Side::Right),
                _ => ((left + right) / 2, Side::Middle),
            };
            frame::write(sheet, name, (at, y - 9), side, Ink::Text)?;
            if low > 0 {
                let bottom = frame.bottom;
                frame::path(sheet, vec![(right, y), (right, bottom)], Ink::Text, 1, 1.0)?;
            }
        }
        Ok(())
    }

    /// The trials of each column.
    fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.columns];
        for (bit, records) in &self.trials {
            let own = &mut counts[self.column(*bit)];
            *own = ink::sum([&*own, &Class::counts(records.iter().copied())]);
        }
        counts
    }

    /// That it is taken for a double, if nobody says so.
    pub fn guess(&self, findings: &Findings) -> &'static str {
        let said = findings.plan.targets.get(self.target).and_then(|target| target.scalar);
        match (said, self.scalar) {
            (None, Some(_)) => {
                " The target is taken for a double, for all values that were replaced are such numbers."
            }
            _ => "",
        }
    }
}

fn drawing(own: &Bits) -> Result<Drawing, String> {
    let bars = Bars { counts: own.counts(), labels: own.labels(), name: own.axis() };
    let sizes: Vec<u64> = own.trials.values().map(|records| records.len() as u64).collect();
    let (fewest, most) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
    let each = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    let texts = Texts {
        caption: format!(
            "Failures stand at the bottom. {} bits were hit, each by {each} trials; others have no bar.",
            own.trials.len()
        ),
        description: described(own),
    };
    Drawing::of(HEIGHT, texts, |sheet| {
        let parts = own.parts_height();
        let frame = bars.paint(sheet, parts)?;
        own.paint_parts(sheet, &frame)
    })
}

/// Neighbouring bits of which the same share failed are told as one.
fn described(own: &Bits) -> String {
    let failed = |records: &Vec<&Record>| {
        let failed = records.iter().filter(|record| record.outcome.is_failure()).count();
        (100.0 * failed as f64 / records.len() as f64).round() as u64
    };
    let shares: Vec<_> = own.trials.iter().map(|(bit, records)| (*bit, failed(records))).collect();
    let runs = shares.chunk_by(|one, other| one.1 == other.1 && one.0 + 1 == other.0);
    let words = runs.filter_map(|run| {
        let ((first, share), (last, _)) = run.first().zip(run.last())?;
        let bits =
            if first == last { format!("bit {first}") } else { format!("bits {first} to {last}") };
        Some(format!("{bits}: {share} % failed"))
    });
    let counts = own.counts();
    let total = Bars { counts, labels: Vec::new(), name: String::new() }.total();
    let words: Vec<_> = words.collect();
    format!("Trials: {}. {}", in_words(&total), words.join("; "))
}
