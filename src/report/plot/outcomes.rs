//! What the trials came to: a bar for each outcome, with its 95 % interval.

use super::axis::Axis;
use super::frame::{self, Frame, LETTER, Margins, Painted, Sheet, Side};
use super::ink::{Class, Ink};
use super::{Drawing, Plot, Texts};
use crate::campaign::outcome::Outcome;
use crate::report::figure::{interval, percent};
use crate::report::statistics::Share;
use crate::report::{Findings, Report};

/// How high a bar is with what is round it.
const ROW: i32 = 30;
const MARGINS: Margins = Margins { left: 100, right: 190, top: 8, bottom: 48 };

pub fn plot(_: &Findings, report: &Report) -> Plot {
    let drawn = if report.trials == 0 {
        Err("no trial with a fault is finished".to_owned())
    } else {
        drawing(report)
    };
    Plot::new("outcomes", "What the trials came to", drawn)
}

fn drawing(report: &Report) -> Result<Drawing, String> {
    let bars = bars(report);
    let whiskers = match report.sampling.census {
        true => "Whiskers: what the share may still become; none where the census is complete.",
        false => "Whiskers: Wilson's 95 % intervals.",
    };
    let words = bars.iter().map(|(outcome, share)| format!("{}: {}", name(*outcome), told(share)));
    let texts = Texts {
        caption: format!(
            "Shares of the trials into which a fault went; not injected: of all. {whiskers}"
        ),
        description: words.collect::<Vec<_>>().join("; "),
    };
    let height = MARGINS.top + MARGINS.bottom + ROW * bars.len() as i32;
    Drawing::of(height, texts, |sheet| paint(sheet, report, &bars))
}

/// The most harmless first, as in all plots.
fn bars(report: &Report) -> Vec<(Outcome, Share)> {
    let mut bars: Vec<_> = Outcome::ALL
        .into_iter()
        .filter_map(|outcome| Some((outcome, *report.outcomes.get(outcome.name())?)))
        .collect();
    bars.sort_by_key(|(outcome, _)| std::cmp::Reverse(Class::from(*outcome)));
    // Into which nothing went is no outcome of a fault: it is the last.
    bars.rotate_left(1);
    bars
}

fn name(outcome: Outcome) -> &'static str {
    Class::from(outcome).name()
}

fn told(share: &Share) -> String {
    let (part, within) = (percent(share.share), interval(share.low, share.high));
    format!("{} ({part}, {within})", share.count)
}

fn paint(sheet: &Sheet, report: &Report, bars: &[(Outcome, Share)]) -> Painted {
    let highest = bars.iter().map(|(_, share)| share.high).fold(0.01, f64::max);
    let x = Axis::shares("share, %", (highest * 1.05).min(1.0), 6);
    let labels: Vec<_> = bars.iter().rev().map(|(outcome, _)| name(*outcome).to_owned()).collect();
    let frame = Frame::draw(sheet, MARGINS, (&x, true), (&Axis::parts("", &labels), false))?;
    for (index, (outcome, share)) in bars.iter().enumerate() {
        let y = frame.top + ROW * index as i32 + ROW / 2;
        let at = |part: f64| frame.x(x.nearest(part).unwrap_or(0.0));
        bar(sheet, (frame.left, at(share.share), y), *outcome, tolerated(report, *outcome, share))?;
        whisker(sheet, (at(share.low), at(share.high), y))?;
        let told = (frame.right + 10, y);
        frame::write(sheet, &self::told(share), told, Side::Right, Ink::Text)?;
    }
    Ok(())
}

/// Which part of its trials is tolerated.
fn tolerated(report: &Report, outcome: Outcome, share: &Share) -> f64 {
    let part = report.tolerated as f64 / share.count.max(1) as f64;
    if outcome == Outcome::Masked { part } else { 0.0 }
}

fn bar(
    sheet: &Sheet,
    (left, right, y): (i32, i32, i32),
    outcome: Outcome,
    tolerated: f64,
) -> Painted {
    let (top, bottom) = (y - LETTER * 3 / 4, y + LETTER * 3 / 4);
    let middle = left + (f64::from(right - left) * tolerated) as i32;
    frame::fill(sheet, [(left, top), (middle, bottom)], Ink::Of(Class::Tolerated))?;
    frame::fill(sheet, [(middle, top), (right, bottom)], Ink::Of(outcome.into()))?;
    if right > left {
        frame::outline(sheet, [(left, top), (right, bottom)], Ink::Muted)?;
    }
    Ok(())
}

fn whisker(sheet: &Sheet, (low, high, y): (i32, i32, i32)) -> Painted {
    if high <= low {
        return Ok(());
    }
    frame::path(sheet, vec![(low, y), (high, y)], Ink::Text, 2, 1.0)?;
    let end = |x: i32| frame::path(sheet, vec![(x, y - 5), (x, y + 5)], Ink::Text, 2, 1.0);
    end(low)?;
    end(high)
}
