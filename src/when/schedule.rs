//! Injections by the clock: when each is due.

use crate::seed::{Drawing, Seed};
use rand::RngExt;
use std::iter::successors;
use std::time::Duration;

/// The most moments that are drawn: they are sorted, so all must be held.
const MOST_DRAWN: u64 = 1_000_000;

/// When to inject. With nothing given: once, at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// It begins so long after the command.
    pub after: Duration,
    /// From one injection to the next; without a count there is no last one.
    pub every: Option<Duration>,
    /// How many injections: at once and back to back, unless something else is given.
    pub count: Option<u64>,
    /// None is due later than so long after it begins.
    pub limit: Option<Duration>,
    /// Each is due at a moment drawn from these two and what lies between, counted from when it
    /// begins, whatever `every` says.
    pub at_random: Option<(Duration, Duration)>,
}

/// A schedule that cannot be kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// All at the same moment, without an end.
    #[error("injections cannot follow each other every 0 s")]
    NoInterval,
    /// More than can be drawn.
    #[error("{0} moments are too many to draw at random: at most {MOST_DRAWN}")]
    TooMany(u64),
}

impl Schedule {
    /// When each injection is due, from the start of the command on, ascending. The same seed draws
    /// the same moments.
    pub fn moments(
        &self,
        seed: u64,
    ) -> Result<impl Iterator<Item = Duration> + use<>, ScheduleError> {
        let all: Box<dyn Iterator<Item = Duration>> = match self.at_random {
            Some(span) => Box::new(self.drawn(span, seed)?.into_iter()),
            None => Box::new(self.regular()?),
        };
        let last = self.limit.map_or(Duration::MAX, |limit| self.after.saturating_add(limit));
        Ok(all.take_while(move |moment| *moment <= last))
    }

    fn regular(&self) -> Result<impl Iterator<Item = Duration> + use<>, ScheduleError> {
        if self.every == Some(Duration::ZERO) {
            return Err(ScheduleError::NoInterval);
        }
        let count = self.count.unwrap_or(if self.every.is_some() { u64::MAX } else { 1 });
        let step = self.every.unwrap_or_default();
        let moments = successors(Some(self.after), move |last| last.checked_add(step));
        Ok(moments.take(usize::try_from(count).unwrap_or(usize::MAX)))
    }

    fn drawn(
        &self,
        (low, high): (Duration, Duration),
        seed: u64,
    ) -> Result<Vec<Duration>, ScheduleError> {
        let count = self.count.unwrap_or(1);
        if count > MOST_DRAWN {
            return Err(ScheduleError::TooMany(count));
        }
        let (low, high) = (nanoseconds(low), nanoseconds(high.max(low)));
        let draw = |injection| {
            let mut numbers = Seed { seed, injection }.numbers(Drawing::Moment);
            let moment = Duration::from_nanos(numbers.random_range(low..=high));
            self.after.saturating_add(moment)
        };
        let mut moments: Vec<_> = (0..count).map(draw).collect();
        moments.sort_unstable();
        Ok(moments)
    }
}

/// At most 584 years, which is as good as never.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(all: &[f64]) -> Vec<Duration> {
        all.iter().copied().map(Duration::from_secs_f64).collect()
    }

    fn first(schedule: Schedule) -> Vec<Duration> {
        schedule.moments(1).unwrap().take(5).collect()
    }

    fn after(time: f64) -> Schedule {
        Schedule { after: Duration::from_secs_f64(time), ..Schedule::default() }
    }

    #[test]
    fn at_intervals() {
        let every = Some(Duration::from_secs(1));
        let limit = Some(Duration::from_secs(2));
        assert_eq!(first(Schedule::default()), seconds(&[0.0]));
        assert_eq!(first(after(0.5)), seconds(&[0.5]));
        assert_eq!(first(Schedule { every, ..after(0.5) }), seconds(&[0.5, 1.5, 2.5, 3.5, 4.5]));
        assert_eq!(first(Schedule { every, count: Some(2), ..after(0.5) }), seconds(&[0.5, 1.5]));
        assert_eq!(first(Schedule { every, limit, ..after(0.5) }), seconds(&[0.5, 1.5, 2.5]));
        assert_eq!(first(Schedule { count: Some(3), ..after(0.5) }), seconds(&[0.5, 0.5, 0.5]));
        assert_eq!(first(Schedule { count: Some(0), ..after(0.5) }), []);
    }

    #[test]
    fn what_cannot_be_kept() {
        let error = |schedule: Schedule| schedule.moments(1).err();
        let every = Some(Duration::ZERO);
        assert_eq!(error(Schedule { every, ..after(0.0) }), Some(ScheduleError::NoInterval));
        let count = Some(MOST_DRAWN + 1);
        let at_random = Some((Duration::ZERO, Duration::MAX));
        let many = Schedule { at_random, count, ..after(0.0) };
        assert_eq!(error(many), Some(ScheduleError::TooMany(MOST_DRAWN + 1)));
        assert_eq!(error(Schedule { count, ..after(0.0) }), None);
    }

    #[test]
    fn no_time_is_too_long() {
        let longest = Some(Duration::MAX);
        let late = Schedule { after: Duration::MAX, every: longest, limit: longest, ..after(0.0) };
        assert_eq!(first(late), [Duration::MAX]);
        assert_eq!(first(Schedule { at_random: longest.zip(longest), ..late }), [Duration::MAX]);
    }

    #[test]
    fn a_seed_always_draws_the_same_moments() {
        let at_random = Some((Duration::ZERO, Duration::from_secs(10)));
        let drawn = first(Schedule { at_random, count: Some(4), ..after(0.0) });
        let drawn: Vec<_> = drawn.iter().map(Duration::as_nanos).collect();
        assert_eq!(drawn, [4532638425, 6255355605, 8763941225, 9676848991]);
        assert_eq!(first(Schedule { at_random, ..after(0.0) }), [Duration::from_nanos(8763941225)]);
    }

    fn time() -> impl Strategy<Value = Duration> {
        (0u64..5_000_000_000).prop_map(Duration::from_nanos)
    }

    proptest! {
        #[test]
        fn moments_ascend_within_their_bounds(
            (begin, low, length) in (time(), time(), time()),
            every in prop::option::of(time()),
            count in prop::option::of(0u64..50),
            limit in prop::option::of(time()),
            (at_random, seed) in (any::<bool>(), any::<u64>()),
        ) {
            let at_random = at_random.then_some((low, low + length));
            let schedule = Schedule { after: begin, every, count, limit, at_random };
            let Ok(moments) = schedule.moments(seed) else { return Ok(()) };
            let moments: Vec<_> = moments.take(100).collect();
            prop_assert!(moments.is_sorted());
            prop_assert!(moments.len() as u64 <= count.unwrap_or(100));
            prop_assert!(moments.iter().all(|moment| *moment >= begin));
            prop_assert!(limit.is_none_or(|limit| moments.iter().all(|own| *own <= begin + limit)));
            if let Some((low, high)) = at_random {
                let within = |own: &Duration| (begin + low..=begin + high).contains(own);
                prop_assert!(moments.iter().all(within));
            }
            let again: Vec<_> = schedule.moments(seed).unwrap().take(100).collect();
            prop_assert_eq!(moments, again);
        }
    }
}
