//! Each trial that changed one bit, by that bit and the moment: of a census, all that there is.

use super::axis::{Axis, at_most, ends};
use super::bars;
use super::bits::{self, Bits, NO_BITS};
use super::frame::{self, Frame, Margins, Painted, Sheet, Sign};
use super::ink::{self, Class, Counts, Ink};
use super::{Drawing, Plot, Texts, counted, in_words};
use crate::campaign::store::Record;
use crate::report::Findings;
use crate::report::breakdown::{self, Clock};

/// No more rows are drawn: of more iterations, several share one.
const MOST_ROWS: f64 = 64.0;
/// How high all rows are at least.
const LEAST: i32 = 240;

pub fn plots(findings: &Findings) -> Vec<Plot> {
    let all = bits::all(findings);
    if all.is_empty() {
        return vec![Plot::new("map", "Each trial, by bit and moment", Err(NO_BITS.to_owned()))];
    }
    let plot = |own: &Bits| {
        let title = format!("Each trial on {}, by bit and moment", own.name);
        Plot::new(&format!("map-{}", own.target), title, drawing(findings, own))
    };
    all.iter().map(plot).collect()
}

/// The trials of a target in rows and columns.
struct Map<'r> {
    bits: &'r Bits<'r>,
    clock: Clock,
    /// Where the first row begins, in what the clock counts.
    first: f64,
    /// How long each is.
    each: f64,
    /// The trials, by row and column.
    cells: Vec<Vec<Counts>>,
}

impl<'r> Map<'r> {
    fn of(findings: &Findings, bits: &'r Bits) -> Option<Self> {
        let clock = breakdown::clock(findings);
        let moment = |record: &Record| breakdown::moment(record, clock).filter(|at| at.is_finite());
        let (low, high) = ends(bits.trials.values().flatten().filter_map(|own| moment(own)))?;
        let (first, each, rows) = rows(low, high, clock);
        let mut cells = vec![vec![Counts::default(); bits.columns]; rows];
        for (bit, records) in &bits.trials {
            for record in records {
                let Some(at) = moment(record) else { continue };
                let row = ((at - first) / each).floor() as usize;
                cells[row.min(rows - 1)][bits.column(*bit)][Class::of(record) as usize] += 1;
            }
        }
        Some(Self { bits, clock, first, each, cells })
    }

    fn total(&self) -> Counts {
        ink::sum(self.cells.iter().flatten())
    }

    /// What is written beside each row.
    fn labels(&self) -> Vec<String> {
        let begin = |row: usize| self.first + row as f64 * self.each;
        let label = |row| match self.clock {
            Clock::Iterations => crate::report::figure::exact(begin(row)),
            Clock::Seconds => crate::report::figure::short(begin(row)),
        };
        (0..self.cells.len()).map(label).collect()
    }

    fn axis(&self) -> String {
        match self.clock {
            Clock::Iterations if self.each > 1.0 => format!("iteration, {} a row", self.each),
            Clock::Iterations => "iteration of the injection".to_owned(),
            Clock::Seconds => "seconds from the start to the injection".to_owned(),
        }
    }

    fn row_height(&self) -> i32 {
        (LEAST / self.cells.len() as i32).clamp(9, 26)
    }
}

/// Where rows begin for what lies from `low` to `high`, how long each is, and how many there are.
fn rows(low: f64, high: f64, clock: Clock) -> (f64, f64, usize) {
    let (first, each) = match clock {
        Clock::Iterations => {
            (low.floor(), ((high.floor() - low.floor() + 1.0) / MOST_ROWS).ceil().max(1.0))
        }
        Clock::Seconds => (low, ((high - low) / (MOST_ROWS / 2.0)).max(1e-9)),
    };
    let rows = ((high - first) / each).floor() + 1.0;
    (first, each, rows.clamp(1.0, MOST_ROWS + 1.0) as usize)
}

fn drawing(findings: &Findings, bits: &Bits) -> Result<Drawing, String> {
    let map = Map::of(findings, bits).ok_or("the moments of the injections are not known")?;
    let total = map.total();
    let shown = counted(total.iter().sum(), "trial");
    let several = map.cells.iter().flatten().any(|counts| counts.iter().sum::<u64>() > 1);
    let cell = if several {
        "A cell has the trials of one bit at one moment, as stripes where they are several"
    } else {
        "Each cell is one trial"
    };
    let texts = Texts {
        caption: format!("{cell}, coloured by its outcome; {shown}.{}", bits.guess(findings)),
        description: described(&map),
    };
    let mut signs = frame::classes(&total);
    if map.cells.iter().flatten().any(|counts| counts.iter().all(|count| *count == 0)) {
        signs.push((Sign::Field(Ink::Band), "no trial".to_owned()));
    }
    let top = frame::legend_height(&signs) + bits.parts_height() + 18;
    let rows = map.cells.len() as i32 * map.row_height();
    Drawing::of(top + rows + 48, texts, |sheet| {
        frame::legend(sheet, &signs)?;
        paint(sheet, &map, top)
    })
}

fn described(map: &Map) -> String {
    let labels = map.labels();
    let rows = labels.first().zip(labels.last());
    let rows = rows.map(|(first, last)| format!("{first} to {last}")).unwrap_or_default();
    let (columns, total) = (map.bits.columns, in_words(&map.total()));
    format!(
        "A field of {columns} columns, the highest bit on the left, by {} rows, {} {rows} from the top. Trials: {total}",
        labels.len(),
        map.axis()
    )
}

fn paint(sheet: &Sheet, map: &Map, top: i32) -> Painted {
    let columns = map.bits.columns;
    let margins = Margins { left: 60, right: bars::margin(columns), top, bottom: 48 };
    let x = Axis::parts(&map.bits.axis(), &map.bits.labels());
    // The first moment is at the top, as in a log.
    let mut y = Axis::parts(&map.axis(), &at_most(map.labels(), 16));
    y.ticks.iter_mut().for_each(|(part, _)| *part = 1.0 - *part);
    let frame = Frame::draw(sheet, margins, (&x, false), (&y, false))?;
    frame::fill(sheet, [(frame.left, frame.top), (frame.right, frame.bottom)], Ink::Band)?;
    for (row, cells) in map.cells.iter().enumerate() {
        let (top, height) = (frame.top + row as i32 * map.row_height(), map.row_height());
        for (column, counts) in cells.iter().enumerate() {
            let edge = |index: usize| frame.x(index as f64 / columns as f64);
            let corners = [(edge(column), top), (edge(column + 1), top + height)];
            cell(sheet, corners, counts)?;
        }
    }
    frame::outline(sheet, [(frame.left, frame.top), (frame.right, frame.bottom)], Ink::Muted)?;
    map.bits.paint_parts(sheet, &frame)
}

/// A cell, with a stripe for each trial; thin lines of the ground are left between cells that are large enough.
fn cell(
    sheet: &Sheet,
    [(left, top), (right, bottom)]: [(i32, i32); 2],
    counts: &Counts,
) -> Painted {
    let all: u64 = counts.iter().sum();
    let gap = i32::from(right - left > 4);
    let width = f64::from(right - left - gap);
    let edge = |count: u64| left + (width * count as f64 / all as f64).round() as i32;
    let mut before = 0;
    for (class, count) in Class::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0) {
        let corners = [(edge(before), top), (edge(before + count), bottom - gap)];
        frame::fill(sheet, corners, Ink::Of(class))?;
        before += count;
    }
    Ok(())
}
