//! What a report says in sentences, wherever it is shown.

use super::Report;
use super::figure::{estimate, exact, line, percent, short};
use super::space::{Extrapolated, Space};
use super::statistics::none_of;

/// No more reasons than these are told.
const MOST_REASONS: usize = 5;

/// How far the campaign is.
pub fn done(report: &Report) -> String {
    let Report { trials, planned, golden, .. } = report;
    let null: u64 = report.null.values().map(|share| share.count).sum();
    format!("{trials} trials of {planned}, {golden} golden runs, {null} null trials")
}

/// What the numbers of the outcomes do not tell by themselves.
pub fn notes(report: &Report) -> Vec<String> {
    let what = "Failed are all but the masked and the detected. Shares are of the trials into which a fault went; that of not_injected is of all.";
    let all = [vec![what.to_owned()], bounds(report), not_injected(report), controls(report)];
    all.concat()
}

/// How far off the share of the failed may be.
fn bounds(report: &Report) -> Vec<String> {
    let (failed, injected) = (report.failed, report.injected());
    let mut notes = Vec::new();
    if failed.share.count == 0 && injected > 0 && !report.sampling.census {
        let below = percent(none_of(injected));
        notes.push(format!(
            "None of {injected} failed: the share is below {below} (95 %, one-sided)."
        ));
    }
    if injected < report.trials {
        let (none, all) = (percent(failed.if_none), percent(failed.if_all));
        notes.push(format!(
            "Failed of all trials: {none} if none of the not injected had, {all} if all had."
        ));
    }
    notes
}

/// Why no fault went into some.
fn not_injected(report: &Report) -> Vec<String> {
    let reason = |(why, count): (&String, &u64)| format!("Not injected, {count}: {}.", line(why));
    report.not_injected.iter().take(MOST_REASONS).map(reason).collect()
}

/// What else there is to say of runs.
fn controls(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.tolerated > 0 {
        notes.push(format!("Of the masked, {} differ and are tolerated.", report.tolerated));
    }
    let null = report.null.iter().map(|(name, share)| (*name, share.count));
    if let Some(null) = listed(null) {
        notes.push(format!("Null trials, into which no fault went: {null}."));
    }
    let fates = report.fates.iter().map(|(name, count)| (name.as_str(), *count));
    if let Some(fates) = listed(fates) {
        notes.push(format!("What had become of the faults at the end: {fates}."));
    }
    if report.failures > 0 {
        notes.push(format!("{} runs came to nothing and were made again.", report.failures));
    }
    notes
}

/// Those that there are any of; nothing where there are none.
fn listed<'n>(counts: impl Iterator<Item = (&'n str, u64)>) -> Option<String> {
    let seen = counts.filter(|(_, count)| *count > 0);
    let words: Vec<_> = seen.map(|(name, count)| format!("{} {count}", line(name))).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// How much the trials say.
pub fn sampling(report: &Report) -> String {
    let own = &report.sampling;
    if own.census {
        return "A census: these are all the faults that there are. Nothing is sampled, and no share is uncertain once all are finished.".to_owned();
    }
    let population = own.population.map(|all| format!("{} faults", exact(all)));
    let population = population.unwrap_or_else(|| "more faults than can be counted".to_owned());
    format!("Sampled from {population}. Margin reached: ±{}.", percent(own.margin))
}

/// The failures that the trials stand for.
pub fn extrapolated(report: &Report) -> String {
    match (&report.extrapolated, &report.not_extrapolated) {
        (Some(Extrapolated { space, failures }), _) => {
            let size: f64 = space.iter().map(Space::size).sum();
            let (size, failures) = (short(size), estimate(failures));
            format!(
                "Failures in all of the space: {failures} of {size} bit-seconds. Programs are compared by this number, never by shares."
            )
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or("nothing is known of it");
            format!("Failures in all of the space cannot be told: {}.", line(why))
        }
    }
}
