//! What the trials came to by the time of injection.

use super::axis::at_most;
use super::bars::Bars;
use super::ink::{Class, Counts};
use super::{Drawing, Plot, Texts, counted, in_words};
use crate::campaign::store::Record;
use crate::report::breakdown::{ByTime, Clock, moment};
use crate::report::figure::{exact, percent, short};
use crate::report::{Findings, Report};

const HEIGHT: i32 = 320;

pub fn plot(findings: &Findings, report: &Report) -> Plot {
    let drawn = if report.by_time.is_empty() {
        Err("no trial has a single injection of which the moment is known".to_owned())
    } else {
        drawing(findings, report)
    };
    Plot::new("moments", "Outcome by time of injection", drawn)
}

fn drawing(findings: &Findings, report: &Report) -> Result<Drawing, String> {
    let name = match report.clock {
        Clock::Iterations => "iteration of the injection",
        Clock::Seconds => "seconds from the start to the injection",
    };
    let parts = &report.by_time;
    let labels: Vec<_> = parts.iter().map(|part| label(part, report.clock)).collect();
    let bars = Bars {
        counts: parts.iter().map(|part| counts(findings, part, report.clock)).collect(),
        labels: at_most(labels.clone(), 16),
        name: name.to_owned(),
    };
    let words = parts.iter().zip(&labels).map(|(part, label)| {
        let failed = percent(part.tally.failed.share);
        format!("{label}: {failed} of {} failed", part.tally.injected())
    });
    let total = bars.total();
    let texts = Texts {
        caption: format!(
            "Failures stand at the bottom. Above each bar: its trials. {} with one injection.",
            counted(total.iter().sum(), "trial")
        ),
        description: format!(
            "Trials: {}. {}",
            in_words(&total),
            words.collect::<Vec<_>>().join("; ")
        ),
    };
    Drawing::of(HEIGHT, texts, |sheet| bars.paint(sheet, 0).map(|_| ()))
}

fn counts(findings: &Findings, part: &ByTime, clock: Clock) -> Counts {
    let within = |record: &&Record| {
        moment(record, clock).is_some_and(|at| (part.from..part.to).contains(&at))
    };
    Class::counts(findings.injected().filter(within))
}

fn label(part: &ByTime, clock: Clock) -> String {
    let last = part.to - 1.0;
    match clock {
        Clock::Iterations if last <= part.from => exact(part.from),
        Clock::Iterations => format!("{}–{}", exact(part.from), exact(last)),
        Clock::Seconds => short(part.from),
    }
}
