//! Bars of the same height, in which the classes of trials are stacked by their shares.

use super::axis::Axis;
use super::frame::{self, Frame, Margins, Painted, Sheet, Side};
use super::ink::{self, Class, Counts, Ink};

/// Bars that are wider have their number of trials above.
const WIDE: i32 = 26;

/// Bars beside each other.
pub struct Bars {
    /// The trials of each.
    pub counts: Vec<Counts>,
    /// What is written below each.
    pub labels: Vec<String>,
    /// What the labels are of.
    pub name: String,
}

impl Bars {
    /// The trials of all bars.
    pub fn total(&self) -> Counts {
        ink::sum(&self.counts)
    }

    /// Draws them, below a legend and `above` pixels for something else.
    pub fn paint(&self, sheet: &Sheet, above: i32) -> Painted<Frame> {
        let legend = frame::classes(&self.total());
        frame::legend(sheet, &legend)?;
        let top = frame::legend_height(&legend) + above + 18;
        let margins = Margins { left: 60, right: margin(self.counts.len()), top, bottom: 48 };
        let x = Axis::parts(&self.name, &self.labels);
        let y = Axis::shares("share of trials, %", 1.0, 5);
        let frame = Frame::draw(sheet, margins, (&x, false), (&y, true))?;
        for (index, counts) in self.counts.iter().enumerate() {
            self.bar(sheet, &frame, index, counts)?;
        }
        Ok(frame)
    }

    fn bar(&self, sheet: &Sheet, frame: &Frame, index: usize, counts: &Counts) -> Painted {
        let (left, right) = edges(frame, index, self.counts.len());
        let all: u64 = counts.iter().sum();
        let mut below = 0;
        for (class, count) in Class::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0) {
            let y = |count: u64| frame.y(count as f64 / all as f64);
            let corners = [(left, y(below + count)), (right, y(below))];
            frame::fill(sheet, corners, Ink::Of(class))?;
            below += count;
        }
        if all > 0 && right - left >= WIDE {
            frame::outline(sheet, [(left, frame.top), (right, frame.bottom)], Ink::Muted)?;
        }
        if right - left < WIDE {
            return Ok(());
        }
        let above = ((left + right) / 2, frame.top - 9);
        frame::write(sheet, &all.to_string(), above, Side::Middle, Ink::Muted)
    }
}

/// The right margin that leaves each of so many bars the same whole number of pixels.
pub fn margin(bars: usize) -> i32 {
    let room = frame::WIDTH - 60 - 12;
    let bars = bars.max(1) as i32;
    12 + if bars > room { 0 } else { room % bars }
}

/// Where the bar `index` of so many begins and ends, with a gap between bars.
pub fn edges(frame: &Frame, index: usize, all: usize) -> (i32, i32) {
    let edge = |index: usize| frame.x(index as f64 / all.max(1) as f64);
    let (left, right) = (edge(index), edge(index + 1));
    let gap = if right - left > 40 {
        6
    } else if right - left > 5 {
        1
    } else {
        0
    };
    (left + gap, right)
}
