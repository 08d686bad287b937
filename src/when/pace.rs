//! How long one who looks may rest: an iteration counter far from its goal need not be looked at
//! without pause, and on a machine of few cores the guest needs the one that looking takes.

use std::time::{Duration, Instant};

/// Shorter rests are none: to wake up takes longer.
const SHORTEST: Duration = Duration::from_micros(20);
/// Longer ones would miss what nobody could foresee.
const LONGEST: Duration = Duration::from_millis(10);
/// The same where the counter has not been seen to count yet.
const LONGEST_STILL: Duration = Duration::from_micros(200);
/// A rest is this part of the time that is left, or that the counter has stood still.
const PART: u32 = 4;
const PART_STILL: u32 = 16;
/// The same of a step, where the goal is overdue by [`LATE`] steps.
const PART_LATE: u32 = 16;
const LATE: u32 = 2;

/// The pace of one counter, as far as it was seen.
#[derive(Clone, Debug)]
pub struct Pace {
    value: i128,
    /// When it was first seen to be that.
    since: Instant,
    /// How long it takes to change by one.
    step: Option<Duration>,
}

impl Pace {
    /// That of a counter which is `value` now.
    pub fn new(value: i128, now: Instant) -> Self {
        Self { value, since: now, step: None }
    }

    /// Takes note of the counter's `value`, seen `now`.
    pub fn see(&mut self, value: i128, now: Instant) {
        let steps = u32::try_from(value.abs_diff(self.value)).unwrap_or(u32::MAX);
        if steps == 0 {
            return;
        }
        let step = (now - self.since) / steps;
        // Slower by and by, faster at once.
        self.step = Some(self.step.map_or(step, |before| step.min((before * 3 + step) / 4)));
        (self.value, self.since) = (value, now);
    }

    /// How long to rest `now`, where the counter has `steps` to go; nothing where it is to be looked
    /// at at once.
    pub fn rest(&self, steps: u64, now: Instant) -> Option<Duration> {
        let stood = now - self.since;
        let rest = match self.step {
            // Half a step earlier than expected: they are not all alike.
            Some(step) => {
                let steps = u32::try_from(steps).unwrap_or(u32::MAX);
                // Who counts may be waiting for the very core that looking takes.
                if stood > step.saturating_mul(steps.saturating_add(LATE)) {
                    return Some((step / PART_LATE).clamp(SHORTEST, LONGEST_STILL));
                }
                let left = step.saturating_mul(steps).saturating_sub(stood + step / 2);
                (left / PART).min(LONGEST)
            }
            None if steps > 1 => (stood / PART_STILL).min(LONGEST_STILL),
            None => Duration::ZERO,
        };
        (rest >= SHORTEST).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn rests_end_before_the_goal() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        assert_eq!(pace.rest(1, start + MS), None);
        assert_eq!(pace.rest(40, start + MS), Some(MS / 16));
        assert_eq!(pace.rest(40, start + 1000 * MS), Some(LONGEST_STILL));
        pace.see(1, start + MS);
        // 39 ms to go, less half a step: a quarter of that.
        assert_eq!(pace.rest(39, start + MS), Some(MS * 77 / 8));
        assert_eq!(pace.rest(1, start + MS), Some(MS / 8));
        assert_eq!(pace.rest(1, start + 2 * MS), None);
        assert_eq!(pace.rest(u64::MAX, start + MS), Some(LONGEST));
    }

    #[test]
    fn one_that_does_not_come_is_left_the_core() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        pace.see(1, start + MS);
        assert_eq!(pace.rest(1, start + 3 * MS), None);
        assert_eq!(pace.rest(1, start + 5 * MS), Some(MS / 16));
    }

    #[test]
    fn a_counter_that_speeds_up_is_believed_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        pace.see(1, start + 100 * MS);
        pace.see(2, start + 101 * MS);
        assert_eq!(pace.step, Some(MS));
        pace.see(3, start + 201 * MS);
        assert_eq!(pace.step, Some(MS * 103 / 4));
        pace.see(1, start + 203 * MS);
        assert_eq!(pace.step, Some(MS));
    }
}
