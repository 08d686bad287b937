//! The options that say when to inject, how often, and what to do after.

use super::error::UsageError;
use super::number;
use crate::inject::Then;
use crate::when::{Condition, Event, Schedule};
use clap::Args;
use std::time::Duration;

/// When.
#[derive(Args)]
#[command(next_help_heading = "Moment")]
pub struct MomentArgs {
    /// Inject again and again, this far apart, until the victim ends
    #[arg(long, value_name = "TIME", value_parser = number::parse_interval)]
    every: Option<Duration>,
    /// Inject this many times; with a trigger, each time that it fires anew
    #[arg(long, value_name = "N", value_parser = number::parse_count)]
    count: Option<u64>,
    /// Inject no longer than this; with a trigger, wait no longer
    #[arg(long = "for", value_name = "TIME", value_parser = number::parse_duration)]
    limit: Option<Duration>,
    /// Begin this long from now: 250ms, 2s, 5m
    #[arg(long, value_name = "TIME", value_parser = number::parse_duration)]
    after: Option<Duration>,
    /// Inject at a moment drawn from this span, as in 0s..10s
    #[arg(long, value_name = "TIME..TIME", value_parser = number::parse_span, conflicts_with = "every")]
    at_random: Option<(Duration, Duration)>,
    /// Inject once this holds, as in 'niters == 40'; see 'vmfi help when'
    #[arg(long, value_name = "CONDITION", value_parser = Condition::parse, conflicts_with_all = ["every", "at_random"])]
    when: Option<Condition>,
    /// Inject once this target's value is another one
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["every", "at_random", "when"])]
    when_changes: Option<String>,
}

impl MomentArgs {
    /// When injections are due.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            after: self.after.unwrap_or_default(),
            every: self.every,
            count: self.count,
            limit: self.limit,
            at_random: self.at_random,
        }
    }

    /// What is to be waited for, if anything.
    pub fn event(&self) -> Option<Event> {
        let holds = self.when.clone().map(Event::Holds);
        holds.or_else(|| self.when_changes.clone().map(Event::Changes))
    }

    /// An error where a time limit has nothing to limit.
    pub fn check(&self) -> Result<(), UsageError> {
        let limited = self.several() || self.draws() || self.event().is_some();
        let what =
            "--for limits --every, --count, --at-random, --when and --when-changes: give one";
        let good = self.limit.is_none() || limited;
        good.then_some(()).ok_or_else(|| UsageError(what.to_owned()))
    }

    /// Whether the clock draws the moments.
    pub fn draws(&self) -> bool {
        self.at_random.is_some()
    }

    /// Whether there may be several injections.
    pub fn several(&self) -> bool {
        let endless = self.every.is_some() && self.count.is_none();
        endless || self.count.is_some_and(|count| count > 1)
    }

    /// Whether it is any more than once and at once.
    pub fn any(&self) -> bool {
        self.several() || self.after.is_some() || self.draws() || self.event().is_some()
    }
}

/// What is done after.
#[derive(Args)]
#[command(next_help_heading = "After the write")]
pub struct AfterArgs {
    /// Hold the value against the victim for this long: a stuck-at fault
    #[arg(long, value_name = "TIME", value_parser = number::parse_duration)]
    hold: Option<Duration>,
    /// With --hold: look this many times a second, not as often as can be
    #[arg(long, value_name = "N", value_parser = number::parse_rate, requires = "hold")]
    rate: Option<Duration>,
    /// Follow for this long what becomes of the value
    #[arg(long, value_name = "TIME", value_parser = number::parse_duration, conflicts_with = "hold")]
    watch: Option<Duration>,
}

impl AfterArgs {
    /// What that is.
    pub fn then(&self, dry_run: bool) -> Result<Then, UsageError> {
        let then = match (self.hold, self.watch) {
            (Some(limit), _) => Then::Hold { limit, interval: self.rate.unwrap_or_default() },
            (_, Some(limit)) => Then::Watch(limit),
            _ => return Ok(Then::Leave),
        };
        let what = "--dry-run writes nothing that --hold could hold or --watch could follow";
        (!dry_run).then_some(then).ok_or_else(|| UsageError(what.to_owned()))
    }
}
